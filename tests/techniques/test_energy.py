"""Energy of steps against the formulas of Choi, Bedard, Fowler and Vuduc (2013), doi:10.1109/IPDPS.2013.77."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy import Integer, Max, Min, Rational, simplify

import symroof
from symroof.errors import EinsumError, InputError
from symroof.operators.ceilings import Energy
from symroof.roof.energy import (
    arch_line,
    effective_balance,
    energy,
    energy_balance,
    greenup,
    most_work,
    power_line,
    race_to_halt,
)
from symroof.symbols import BW, P, eps_B, eps_F, pi_0
from symroof.techniques.registry import chain, technique
from symroof.units import ureg

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
TEXT = "energy:flop=1pJ,byte=30pJ,power=100W"
A100 = "a100-sxm-80gb"
MODELS = ("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-125m")
positive = st.fractions(Rational(1, 1000), 1000, max_denominator=1000).map(lambda one: Rational(one.numerator, one.denominator))


def paper_energy(intensity, model: Energy, peak, bandwidth):
    """``eps (1 + B(I) / I)`` joules per FLOP with ``B(I) = eta B_eps + (1 - eta) max(0, B_tau - I)``: their eqs. 5 to 7."""
    first = model.flop + model.constant / peak
    eta = model.flop / first
    balance = eta * energy_balance(model).exact + (1 - eta) * Max(0, peak / bandwidth - intensity)
    return first * (1 + balance / intensity)


@pytest.mark.slow
@given(positive, positive, positive, positive, positive, positive)
def test_the_arch_and_the_power_line_are_the_papers(i, flop, byte, constant, peak, bandwidth) -> None:
    model = Energy(flop, byte, constant)
    assert arch_line(i, peak, bandwidth, model).exact == 1 / paper_energy(i, model, peak, bandwidth)
    ridge = peak / bandwidth
    first = flop + constant / peak
    balance = paper_energy(i, model, peak, bandwidth) / first * i - i
    assert power_line(i, peak, bandwidth, model).exact == first * peak * (Min(i, ridge) / ridge + balance / Max(i, ridge))
    assert power_line(i, peak, bandwidth, model).exact <= power_line(ridge, peak, bandwidth, model).exact
    assert arch_line(i, peak, bandwidth, model).exact < 1 / first


@pytest.mark.slow
@given(positive, positive, st.one_of(st.just(Integer(0)), positive), positive, positive)
def test_at_the_effective_balance_a_flop_takes_twice_the_least(flop, byte, constant, peak, bandwidth) -> None:
    model = Energy(flop, byte, constant)
    balance = effective_balance(model, peak, bandwidth).exact
    assert arch_line(balance, peak, bandwidth, model).exact * 2 * (flop + constant / peak) == 1
    eta = flop / (flop + constant / peak)
    if eta * byte / flop >= peak / bandwidth:
        assert balance == eta * byte / flop
    assert race_to_halt(model, peak, bandwidth) == (balance <= peak / bandwidth)
    if race_to_halt(model, peak, bandwidth):  # at the ridge, where time is best, at least half of the best FLOP/J
        assert arch_line(peak / bandwidth, peak, bandwidth, model).exact * 2 * (flop + constant / peak) >= 1


@pytest.mark.slow
@given(positive, positive, positive, positive, positive)
def test_greenup_ends_where_the_extra_work_says(flop, byte, intensity, saved, more) -> None:
    """``W -> f W, Q -> Q / m`` is a greenup exactly for ``f < 1 + (m - 1) / m B_eps / I`` (their eq. 10, pi_0 = 0)."""
    model = Energy(flop, byte)
    before = model.joules(Integer(1), 1 / intensity, Integer(0))
    after = model.joules(more, 1 / (intensity * saved), Integer(0))
    assert (before > after) == (more < most_work(intensity, saved, model).exact)


@pytest.mark.slow
def test_formulas_stay_in_letters() -> None:
    model = Energy(eps_F, eps_B, pi_0)
    assert energy_balance(model).exact == eps_B / eps_F
    assert race_to_halt(model, P, BW) is None
    assert effective_balance(Energy(eps_F, eps_B), P, BW).exact == eps_B / eps_F
    step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(technique("energy"))
    up = energy(step)["up_proj"]
    assert simplify(up.joules_expr - (up.flop_count * eps_F + up.byte_count * eps_B + up.seconds_expr * pi_0)) == 0
    assert up.power.units == ureg.Unit("watt")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_energy_of_a_step_is_the_sum_of_its_operators(model: str, phase: str) -> None:
    plain = getattr(symroof.load_model(model), phase)(batch=4, seq_len=256, **WIDTHS)
    step = plain.apply(technique(TEXT))
    spent, ideal = energy(step, A100), symroof.analyze(plain, A100)
    assert spent.total.seconds_expr == ideal.total.time_expr
    pico = Rational(1, 10**12)
    wanted = ideal.total.flop_count * pico + ideal.total.byte_count() * 30 * pico + 100 * ideal.total.time_expr
    assert spent.total.joules_expr == sum(one.joules_expr for one in spent.operators) == wanted
    assert spent.total.joules.units == ureg.Unit("joule")
    for one, placed in zip(spent.operators, ideal, strict=True):
        if placed.data_type and placed.operator.flop_count != 0:
            line = arch_line(placed.intensity_expr, placed.peak_expr, placed.bandwidth_expr, spent.model).exact
            assert one.flop_count / one.joules_expr == line == one.efficiency.magnitude


def test_of_one_device_and_of_all_of_a_step_and_of_a_token() -> None:
    """n devices spend n times what one does; tokens are those of all sequences, several of each with speculation."""
    for texts, devices, tokens in (
        ("", 1, 16),
        ("tensor-parallel:degree=8", 8, 16),
        ("data-parallel:degree=4", 4, 16),
        ("tensor-parallel:degree=2 data-parallel:degree=4", 8, 16),
        ("speculative:acceptance=1,length=3,draft_cost=0", 1, 64),
        ("mixed-batch:chunk=128", 1, 16),
    ):
        step = symroof.load_model("llama-3-8b").decode(batch=16, seq_len=512, **WIDTHS).apply(*chain([texts, TEXT]))
        spent = energy(step, "h100-sxm")
        assert (spent.devices, spent.tokens) == (devices, tokens)
        joules = [one.joules_expr for one in (spent.total, spent.token, spent.system, spent.system_token)]
        assert joules == [joules[0], joules[0] / tokens, joules[0] * devices, joules[0] * devices / tokens]
        assert spent.system.power.magnitude == devices * spent.total.power.magnitude == spent.system_token.power.magnitude
        assert spent.system.efficiency == spent.token.efficiency == spent.total.efficiency
    prompt = energy(symroof.load_model("llama-3-8b").prefill(batch=4, seq_len=512, **WIDTHS).apply(technique(TEXT)), "h100-sxm")
    assert prompt.tokens == 4 * 512


def test_every_output_says_whose_energy_it_is(run) -> None:
    asked = ("analyze", "llama-3-8b", "--hardware", "h100-sxm", "--phase", "decode", "--batch", "8", "--seq-len", "2048", "--with", TEXT)
    parallel = (*asked[:-2], "--with", "tensor-parallel:degree=8,link=450GB/s", "--with", TEXT)
    for form in ("table", "markdown", "html", "latex"):
        out = run(*parallel, "--format", form).out
        for label in (
            "total of a step, one device",
            "total of a generated token, all 8 devices",
            "8 tokens are what all sequences generate",
        ):
            assert label in out, form
        assert "devices" not in run(*asked, "--format", form).out.partition("total of a step")[2]
    told = json.loads(run(*parallel, "--format", "json").out)["energy"]
    assert told["joules"]["total"] == told["per_step"]["device"]
    assert told["per_step"]["system"] == pytest.approx(1.20, abs=5e-3)
    assert told["per_step"]["device"] == pytest.approx(0.150, abs=5e-4)
    assert told["per_token"] == {side: pytest.approx(joules / 8) for side, joules in told["per_step"].items()}
    assert told["system_power"] == pytest.approx(8 * told["power"])
    assert (told["devices"], told["tokens"], told["units"]) == (8, 8, {"joules": "J", "power": "W"})


def test_waiting_for_the_host_takes_constant_power() -> None:
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=64, **WIDTHS)
    spent = energy(step.apply(*chain(["offload:share=1/2,link=25GB/s", TEXT])), A100)
    assert spent.total.seconds_expr == spent.analysis.total.time_expr
    moved = spent.total.flop_count + 30 * spent.total.byte_count
    assert spent.total.joules_expr == moved * Rational(1, 10**12) + 100 * spent.total.seconds_expr


def test_fewer_bits_are_a_greenup_and_constant_power_makes_a_speedup_one() -> None:
    plain = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024, **WIDTHS)
    fewer = plain.apply(technique("quantize:weights=4,group=128"))
    before, after = (energy(step.apply(technique(TEXT)), A100).total for step in (plain, fewer))
    assert greenup(before, after) > 2
    alone = "energy:flop=0.000001pJ,byte=0.000001pJ,power=100W"
    before, after = (energy(step.apply(technique(alone)), A100).total for step in (plain, fewer))
    assert abs(greenup(before, after) / (before.seconds_expr / after.seconds_expr) - 1) < Rational(1, 10**5)


def test_what_does_not_fit_is_refused() -> None:
    step = symroof.load_model("opt-125m").decode(batch=1, seq_len=64, **WIDTHS)
    with pytest.raises(InputError, match="no energy model"):
        energy(step, A100)
    with pytest.raises(InputError, match="apply it once"):
        step.apply(technique(TEXT), technique(TEXT))
    with pytest.raises(EinsumError, match="did you mean q_proj"):
        energy(step.apply(technique(TEXT)), A100)["q_prj"]
    for text in ("energy:flop=0", "energy:byte=0pJ", "energy:power=-1W", "energy:flop=1W", "energy:power=1pJ"):
        with pytest.raises(InputError):
            technique(text)


def test_the_table_has_every_operator_and_the_total() -> None:
    spent = energy(symroof.load_model("opt-125m").decode(batch=1, seq_len=64, **WIDTHS).apply(technique(TEXT)), A100)
    told = spent.table().markdown()
    assert all(f"| {one.name} " in told for one in (*spent.operators, spent.total))
