"""Full memory: the batch that fills it, the step that reads it, and what scales with what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sympy import Integer, Rational

import symroof
from symroof import symbols
from symroof.serving.requests.full_memory import full_memory

FUSED = {"flash_attention": True}


def full(model: str, device: str, context: int, bits: int = 16, **asked: object) -> symroof.AtFullMemory:
    widths = dict.fromkeys(("weight_bits", "activation_bits", "kv_bits"), bits)
    return full_memory(symroof.load_model(model).decode(seq_len=context, **FUSED, **widths), hardware=device, **asked)  # type: ignore[arg-type]


PLACES = [("llama-3-8b", "h100-sxm", 8192), ("mistral-7b-v0.1", "h100-sxm", 8192), ("mixtral-8x7b-v0.1", "h200-sxm", 4096)]


@pytest.mark.parametrize(("model", "device", "context"), [*PLACES, ("mamba-2.8b", "h100-sxm", 4096)])
def test_the_batch_fills_the_memory_and_the_parts_add_up(model: str, device: str, context: int) -> None:
    found = full(model, device, context)
    for batch, fits in ((int(found.batch_expr), True), (int(found.batch_expr) + 1, False)):
        step = symroof.load_model(model).decode(batch=batch, seq_len=context, **FUSED)
        assert symroof.analyze(step, device).fits == fits
    assert found.law_batch_expr > found.batch_expr
    assert sum(found.breaks_exprs.values()) == found.step_time_expr - found.period_expr
    assert found.breaks_exprs["unread"] < 0 < found.breaks_exprs["activations"]
    whole = replace(found.analysis.step, values={**found.analysis.step.values, symbols.b: Integer(int(found.batch_expr))})
    lower = symroof.analyze(whole, device).total.time_expr
    assert lower <= found.step_time_expr


@pytest.mark.parametrize(("model", "device", "context"), PLACES)
def test_a_step_of_attention_at_full_memory_takes_the_period_within_its_breaks(model: str, device: str, context: int) -> None:
    """Within 2 percent for these; a state-space model moves each state twice and computes on it, and misses the law by far."""
    found = full(model, device, context)
    assert abs(float(found.step_time_expr / found.period_expr) - 1) < 0.02
    states = full("mamba-2.8b", "h100-sxm", context)
    assert float(states.step_time_expr / states.period_expr) > 3
    assert states.breaks_exprs["activations"] > states.period_expr


def test_one_factor_on_weights_cache_and_memory_changes_neither_batch_nor_step() -> None:
    """The widths and the memory halved; the law exactly, the step up to activations, which are halved too here."""
    capacity = Integer(64 * 10**9)
    wide = full("llama-3-8b", "h100-sxm", 8192, 16, capacity=capacity)
    narrow = full("llama-3-8b", "h100-sxm", 8192, 8, capacity=capacity / 2)
    assert wide.law_batch_expr == narrow.law_batch_expr
    assert wide.batch_expr == narrow.batch_expr
    assert wide.period_expr == 2 * narrow.period_expr, "the same bandwidth reads half as much"
    kept = full_memory(
        symroof.load_model("llama-3-8b").decode(seq_len=8192, weight_bits=8, kv_bits=8, activation_bits=16, **FUSED),
        hardware="h100-sxm",
        capacity=capacity / 2,
    )
    assert kept.law_batch_expr == wide.law_batch_expr
    assert kept.batch_expr < wide.batch_expr, "activations that stay wide break it"
    assert float(1 - kept.batch_expr / wide.batch_expr) < 0.001


@pytest.mark.parametrize(("weights", "cache"), [(Rational(1, 2), 1), (1, Rational(1, 2)), (Rational(1, 4), Rational(1, 2))])
@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b-v0.1"])
def test_who_gains_is_the_ratio_of_the_batches(model: str, weights: Rational, cache: Rational) -> None:
    """The law's gain against the batches of steps with these widths."""

    def batch(w: Rational, c: Rational) -> symroof.AtFullMemory:
        step = symroof.load_model(model).decode(seq_len=4096, weight_bits=16 * w, kv_bits=16 * c, activation_bits=16, **FUSED)
        return full_memory(step, hardware="h200-sxm")

    before, after = batch(Integer(1), Integer(1)), batch(weights, cache)
    gain = before.gain_expr(weights=weights, cache=cache)
    assert gain == after.law_batch_expr / before.law_batch_expr
    assert float(after.batch_expr / before.batch_expr) == pytest.approx(float(gain), rel=2e-3)


def test_weights_gain_more_where_they_take_two_thirds_of_the_memory() -> None:
    for model, device, said in (
        ("llama-3-8b", "h100-sxm", "cache"),
        ("mixtral-8x7b-v0.1", "h200-sxm", "cache"),
        ("llama-2-7b", "l4", "cache"),
    ):
        assert full(model, device, 2048).gains_more == said
    wide = full("mixtral-8x7b-v0.1", "h200-sxm", 2048, capacity=100 * 10**9)
    assert (wide.gains_more, wide.weights_expr > wide.capacity_expr * Rational(2, 3)) == ("weights", True)
    border = wide.more_gain_expr
    for factor, more in ((border - Rational(1, 100), False), (border + Rational(1, 100), True)):
        assert (wide.gain_expr(weights=factor) > wide.gain_expr(cache=factor)) == more
    assert wide.gain_expr(weights=border) == wide.gain_expr(cache=border)


def test_formulas_are_the_numbers() -> None:
    found = full("llama-3-8b", "h100-sxm", 8192)
    values = {**found.analysis.values, symbols.M_d: found.capacity_expr, symbols.BW: found.bandwidth_expr}
    assert found.formulas["batch"].xreplace(values) == found.law_batch_expr
    assert found.formulas["period"].xreplace(values) == found.period_expr
    assert found.period_expr == symroof.load_hardware("h100-sxm").usable.magnitude / Rational(3350 * 10**9)


def test_what_cannot_be_filled_is_refused() -> None:
    model = symroof.load_model("llama-3-8b")
    with pytest.raises(symroof.InputError, match="seq_len must be given as a number"):
        full_memory(model.decode(), hardware="h100-sxm")
    with pytest.raises(symroof.InputError, match="asked of a decode step"):
        full_memory(model.prefill(seq_len=8), hardware="h100-sxm")
    with pytest.raises(symroof.InputError, match="does not fit the memory of NVIDIA L4"):
        full_memory(symroof.load_model("llama-3-70b").decode(seq_len=8), hardware="l4")
    with pytest.raises(symroof.InputError, match="weights '9': the weights alone would take"):
        full("llama-3-8b", "h100-sxm", 8192).gain_expr(weights=9)
