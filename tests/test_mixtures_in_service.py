"""Mixtures of experts in service, against scans of single steps, simulated micro-batches and sums of bytes."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from sympy import Integer, Rational, ceiling, floor, oo

import symroof
from symroof import symbols
from symroof.errors import InputError
from symroof.operators.select import routed
from symroof.operators.tensor import Level
from tests.steps import A100, WIDTHS

DRAFT = symroof.technique("speculative:acceptance=0.8,length=4,draft_cost=0.02")


def gain(step: symroof.Step, batch: int) -> Fraction:
    """Speedup at one batch, from two analyses."""
    at = replace(step, values={**step.values, symbols.b: Integer(batch)})
    before, after = (symroof.analyze(one, A100).total.time_expr / one.graph.tokens for one in (at, at.apply(DRAFT)))
    return before / after


@pytest.mark.parametrize(
    ("name", "shown"), [("qwen2-57b-a14b", [1.41, 2.23, 2.99, 2.14, 1.12]), ("mixtral-8x7b-v0.1", [1.16, 2.81, 3.02, 2.64, 0.96])]
)
def test_the_peak_of_speculation_is_that_of_a_scan(name: str, shown: list[float]) -> None:
    step = symroof.load_model(name).decode(seq_len=512, **WIDTHS)
    peak = symroof.speculation_peak(step, DRAFT, A100)
    assert [round(float(gain(step, batch)), 2) for batch in (1, 8, 32, 128, 512)] == shown
    near = {batch: gain(step, batch) for batch in (1, 2, 3, 8, *range(peak.batch - 6, peak.batch + 7), 96, 256, 1024)}
    assert max(near, key=lambda batch: near[batch]) == peak.batch
    assert near[peak.batch] == peak.gain_expr
    for low, high in pairwise(sorted(near)):
        label = {piece.label for piece in peak.trends if low in piece and high in piece}
        if label:
            assert (near[high] > near[low]) == (label == {"rises"})
    assert peak.is_hump


def test_a_dense_model_has_no_hump_and_speculation_gains_most_at_batch_one() -> None:
    step = symroof.load_model("llama-3.1-8b").decode(seq_len=512, **WIDTHS)
    peak = symroof.speculation_peak(step, DRAFT, A100)
    assert (peak.batch, peak.trend, peak.is_hump) == (1, ("falls",), False)
    assert [gain(step, batch) for batch in (1, 4, 64, 512)] == sorted((gain(step, batch) for batch in (1, 4, 64, 512)), reverse=True)


def test_a_speedup_that_only_rises_tends_to_its_supremum() -> None:
    """A head with a small cache of its own, and no end of arithmetic."""
    step = symroof.load_model("llama-3.1-8b").decode(seq_len=32768, flash_attention=True, **WIDTHS)
    device = symroof.load_hardware(A100)
    endless = {kind: replace(peak, dense=replace(peak.dense, value=peak.dense.value * 10**6)) for kind, peak in device.peaks.items()}
    draft = symroof.technique("speculative:acceptance=0.8,length=2,draft=eagle")
    peak = symroof.speculation_peak(step, draft, replace(device, peaks=endless), ceilings="classic")
    assert (peak.batch, peak.place_expr, peak.trend, peak.is_hump) == (None, oo, ("rises",), False)
    assert peak.payoff.speedup_expr(10**6) < peak.gain_expr < Rational(1001, 1000) * peak.payoff.speedup_expr(10**6)


def test_a_dense_model_has_a_hump_too_where_its_cache_outweighs_the_draft_s() -> None:
    step = symroof.load_model("llama-3.1-8b").decode(seq_len=4096, flash_attention=True, **WIDTHS)
    peak = symroof.speculation_peak(step, symroof.technique("speculative:acceptance=0.8,length=4,draft=eagle"), A100)
    assert (peak.batch, peak.trend, peak.is_hump) == (32, ("rises", "falls"), True)


def test_the_sparse_speedup_exceeds_the_dense_one_between_its_edges() -> None:
    step = symroof.load_model("qwen3-30b-a3b").decode(seq_len=512, **WIDTHS)
    twin = symroof.active_twin(step)
    found = symroof.speculation_peak(step, DRAFT, A100, dense=twin).against_dense
    assert [piece.label for piece in found] == ["less than dense", "more than dense", "less than dense"]
    for piece in found[:2]:
        for batch, above in ((floor(piece.high_expr), "more" in piece.label), (ceiling(piece.high_expr), "more" not in piece.label)):
            assert (gain(step, int(batch)) > gain(twin, int(batch))) == above


@pytest.mark.parametrize(("name", "device"), [("mixtral-8x22b-v0.1", A100), ("qwen3-30b-a3b", "h100-sxm"), ("deepseek-v3", "h800-sxm")])
def test_experts_turn_compute_bound_at_the_batch(name: str, device: str) -> None:
    step = symroof.load_model(name).decode(batch=48, seq_len=512, **WIDTHS)
    found = symroof.expert_batch(step, device)
    experts = [operator.name for operator, _ in step.symbolic if any(routed(access) for access in operator.reads)]
    for batch, every in ((found.first_integer - 1, False), (found.first_integer, True)):
        analysis = symroof.analyze(symroof.load_model(name).decode(batch=batch, seq_len=512, **WIDTHS), device)
        assert all(analysis[one].bound == "compute" for one in experts) == every
    assert found.replicas == next(count for count in range(1, 10**6) if 48 * count >= found.value_expr)
    assert found.replicas_of(96) == -(-found.first_integer // 96) == -(-found.replicas // 2)
    sizes = {**step.values, symbols.P: found.crossover.values[symbols.P], symbols.BW: found.crossover.values[symbols.BW]}
    touched = found.formula.xreplace(sizes)
    below = (touched - found.value_expr).evalf(10, maxn=2000)
    assert 0 < below <= (touched * (1 - sizes[symbols.K] / sizes[symbols.E]) ** floor(found.value_expr)).evalf(10)
    ridge = sizes[symbols.P] / sizes[symbols.BW]
    assert float(found.error_expr) == pytest.approx(float(found.value_expr) / float(found.rule_expr) - 1, rel=1e-12)
    assert found.rule_expr == ridge * sizes[symbols.E] / sizes[symbols.K]
    part = ridge * (sizes[symbols.d] + sizes[symbols.f_e]) / (sizes[symbols.d] * sizes[symbols.f_e])
    assert found.error_formula.xreplace(sizes) == part / (1 - part)


def simulated(times: list[Fraction], count: int, rounds: int) -> Fraction:
    """Seconds of the last of so many rounds of micro-batches through stages that each work on one at a time, over the rounds."""
    free, ready, ends = [Fraction(0)] * len(times), [Fraction(0)] * count, []
    for _ in range(rounds):
        for batch in range(count):
            for stage, time in enumerate(times):
                free[stage] = ready[batch] = max(free[stage], ready[batch]) + time
        ends.append(max(ready))
    return (ends[-1] - ends[rounds // 2]) / (rounds - 1 - rounds // 2) / count


@pytest.mark.parametrize("batch", [64, 4096])
@pytest.mark.parametrize("name", ["deepseek-v3", "mixtral-8x22b-v0.1"])
def test_micro_batches_hide_the_links_as_simulated(name: str, batch: int) -> None:
    step = symroof.load_model(name).decode(batch=batch, seq_len=730, **WIDTHS).apply("expert-parallel:degree=8")
    found = symroof.ping_pong(step, A100)
    times = [Fraction(str(time)) for time in found.stages_exprs.values()]
    least = next(count for count in range(1, 20) if simulated(times, count, 40) == found.period_expr)
    assert least == found.micro_batches
    layers = next(count for operator, count in step.graph if any(routed(access) for access in operator.reads))
    inside = (point.time_expr for point, (_, count) in zip(symroof.analyze(step, A100), step.graph, strict=True) if count == layers)
    assert sum(times) == sum(Fraction(str(time)) for time in inside)


def test_random_stages_need_the_round_trip_over_the_longest() -> None:
    chance = random.Random(4)
    for _ in range(40):
        times = [Fraction(chance.randint(1, 30)) for _ in range(4)]
        wanted = -(-sum(times) // max(times))
        assert simulated(times, wanted, 60) == max(times)
        assert wanted == 1 or simulated(times, wanted - 1, 60) > max(times)


def test_the_same_devices_for_attention_and_experts_need_fewer() -> None:
    step = symroof.load_model("deepseek-v3").decode(batch=4096, seq_len=730).apply("expert-parallel:degree=8")
    apart, together = (symroof.ping_pong(step, "h800-sxm", apart=apart) for apart in (True, False))
    assert (apart.micro_batches, together.micro_batches) == (3, 2)
    assert together.period_expr == apart.stages_exprs["attention"] + apart.stages_exprs["experts"]


def test_the_exchange_is_the_bytes_of_the_collectives() -> None:
    step = symroof.load_model("deepseek-v3").decode(batch=2048, seq_len=4096, **WIDTHS).apply("expert-parallel:degree=32,link=50GB/s")
    bound = symroof.exchange_bound(step, "h800-sxm")
    sent = sum(count * operator.byte_count(level=Level.LINK) for operator, count in step.graph)
    assert bound.traffic_expr == sent
    analysis = symroof.analyze(step, "h800-sxm")
    assert bound.time_expr("50 GB/s") == sum(
        point.time_expr * count
        for point, (operator, count) in zip(analysis, step.graph, strict=True)
        if operator.byte_count(level=Level.LINK)
    )
    half = symroof.exchange_bound(step, dispatch_bits=8, combine_bits=16)
    assert half.traffic_expr == Rational(3, 4) * sent
    link, other = bound.regimes
    assert (link.label, link.high_expr, other.low_expr) == ("link", bound.balance_expr, bound.balance_expr)
    assert bound.time_expr(bound.balance_expr) == max(bound.other_exprs.values())
    memory = sum(count * operator.byte_count() for operator, count in step.graph) / symroof.load_hardware("h800-sxm").bandwidth_expr
    assert bound.other_exprs["memory"] == memory


def test_both_models_are_full_to_the_last_sequence() -> None:
    step = symroof.load_model("qwen3-235b-a22b").decode(seq_len=32768, **WIDTHS)
    found = symroof.sparse_against_dense(step, "h200-sxm", quality=4, devices=4)
    for one in (found.sparse, found.dense):
        most = replace(one.step, values={**one.step.values, symbols.b: Integer(one.batch + 1)})
        assert symroof.memory_of(one.step) <= found.capacity_expr < symroof.memory_of(most)
        assert one.rate_expr == 4 * one.batch / symroof.analyze(one.step, "h200-sxm").total.time_expr
    assert found.dense.step.graph.parameter_count() == 4 * found.share_expr * found.sparse.step.graph.parameter_count()
    idle = (1 - Rational(8, 128)) ** found.sparse.batch
    experts = 94 * 128 * 3 * 4096 * 1536 * 2
    assert found.idle_expr == idle * experts / found.sparse.weights_expr
    memory, weights = found.capacity_expr, found.sparse.weights_expr
    read = memory - found.idle_expr * weights
    assert (memory - found.threshold_expr * weights) * read == (memory - weights) * memory, "as fast with memory alone"


def test_the_threshold_decides_for_any_sizes() -> None:
    chance = random.Random(7)
    for _ in range(200):
        used, idle, room, cache = (Fraction(chance.randint(1, 50)) for _ in range(4))
        weights, capacity = used + idle, used + idle + room
        qs = Fraction(chance.randint(1, 99), 100)
        if qs * weights >= capacity:
            continue
        sparse = room / cache / (used + room)
        dense = (capacity - qs * weights) / cache / capacity
        share = idle / weights
        assert (dense > sparse) == (qs < (1 - share) / (1 - share * weights / capacity))


def test_a_model_that_does_not_fit_has_no_throughput() -> None:
    found = symroof.sparse_against_dense(symroof.load_model("deepseek-v3").decode(seq_len=131072), "h200-sxm", quality=5, devices=3)
    assert (found.sparse.batch, found.gain_expr, found.faster, found.dense.batch > 0) == (0, None, "dense", True)


def test_the_three_proofs_need_no_other_prover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symroof.proof.smt.find_spec", lambda name: None)
    proofs = symroof.prove_qs()
    assert [(proof.verdict, proof.by) for proof in proofs] == [("proved", "shift"), ("refuted", "substitution"), ("proved", "shift")]
    used, idle, room, near = (Fraction(int(proofs[1].counterexample[getattr(symbols, name)])) for name in ("W_u", "W_i", "M_f", "y_q"))
    qs, capacity = near / (1 + near), used + idle + room
    assert qs < 1
    assert (capacity - qs * (used + idle)) / capacity <= room / (used + room), "at the point the sparse model is as fast"


def test_layers_that_a_step_does_not_run_are_left_out() -> None:
    on = symroof.load_model("ernie-4.5-vl-28b-a3b-pt").decode(batch=256, seq_len=4096).on("h200-sxm")
    assert on.expert_batch().crossover.operator.startswith("moe.")
    spread = on.apply("expert-parallel:degree=8")
    stages = spread.ping_pong().stages_exprs
    exchanged = spread["moe.expert_gate_proj.all_to_all"].time_expr
    assert stages["dispatch"] == exchanged > 0


MIXTRAL = symroof.load_model("mixtral-8x7b-v0.1").decode(seq_len=512)
LLAMA = symroof.load_model("llama-2-7b").decode(seq_len=512)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: symroof.expert_batch(LLAMA), "llama-2-7b has no routed experts"),
        (lambda: symroof.expert_batch(symroof.load_model("mixtral-8x7b-v0.1").prefill()), "'prefill': the batch of experts"),
        (lambda: symroof.active_twin(LLAMA), "there is no dense model of its active size"),
        (lambda: symroof.active_twin(MIXTRAL, Rational(1, 20)), "size '1/20': what all tokens share takes more"),
        (lambda: symroof.active_twin(MIXTRAL, symbols.b), "size 'b': expected a number"),
        (lambda: symroof.active_twin(symroof.load_model("longcat-flash-chat").decode()), "tokens also choose experts without weights"),
        (lambda: symroof.ping_pong(MIXTRAL, A100), "apply the technique expert-parallel"),
        (lambda: symroof.exchange_bound(MIXTRAL), "apply the technique expert-parallel"),
        (lambda: symroof.sparse_against_dense(MIXTRAL, A100), "give quality"),
        (lambda: symroof.sparse_against_dense(MIXTRAL, A100, quality=2, devices=0), "devices '0': expected a whole number above 0"),
    ],
)
def test_bad_input_is_quoted(asked, said: str) -> None:
    with pytest.raises(InputError, match=said):
        asked()
