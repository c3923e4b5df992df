"""Promises: every limit is the last whole number that an analysis keeps, every time that of the analyses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sympy import Rational, floor

import symroof
from symroof.serving.requests.promises import Promises, promises


def asked(model: str = "llama-3-8b", device: str = "h100-sxm", **given: object) -> Promises:
    wanted = {"prompt": 2048, "output": 256, "ttft": "1 s", "tpot": "30 ms"} | given
    return promises(symroof.load_model(model), hardware=device, **wanted)  # type: ignore[arg-type]


def token_seconds(model: str, device: str, batch: int, context: int, read: Rational, steps: int) -> Rational:
    """A decode step by its analysis, and the prompts read meanwhile."""
    step = symroof.analyze(symroof.load_model(model).decode(batch=batch, seq_len=context), device).total.time_expr
    return step + batch * read / steps


@pytest.mark.parametrize(("model", "device", "tpot"), [("llama-3-8b", "h100-sxm", 30), ("mistral-7b-v0.1", "a100-sxm-80gb", 60)])
def test_the_batch_is_the_last_that_keeps_the_time_per_token(model: str, device: str, tpot: int) -> None:
    """Output 256, so the mean context S + n / 2 is whole."""
    found = asked(model, device, tpot=f"{tpot} ms")
    read = symroof.analyze(symroof.load_model(model).prefill(batch=1, seq_len=2048), device).total.time_expr
    assert found.ttft_expr == read
    limit, most = Rational(tpot, 1000), found.allowed_batch.most_exprs["tpot"]
    kept = [token_seconds(model, device, int(batch), 2176, read, 255) <= limit for batch in (most, most + 1)]
    assert kept == [True, False]
    assert (found.batch, found.kept, found.allowed_batch.binding) == (most, True, "tpot")
    assert found.tpot_expr == token_seconds(model, device, found.batch, 2176, read, 255)
    assert found.latency_expr == read + 255 * found.tpot_expr
    assert found.rates["replica"] == found.batch * found.rates["user"] == found.rates["device"]
    assert floor(found.batch_intervals[-1].high_expr) == most


def test_memory_binds_where_the_promise_is_loose() -> None:
    found = asked(tpot="300 ms")
    assert found.allowed_batch.binding == "memory"
    most = found.allowed_batch.most
    for batch, fits in ((most, True), (most + 1, False)):
        memory = symroof.load_model("llama-3-8b").decode(batch=batch, seq_len=2048 + 255).with_widths().graph
        kept = memory.weight_memory() + memory.kv_memory()
        states = symroof.load_model("llama-3-8b").prefill(batch=1, seq_len=2048).with_widths().graph.activation_memory()
        assert (kept + max(states, memory.activation_memory()) <= symroof.load_hardware("h100-sxm").usable.magnitude) == fits
    assert not asked(tpot="300 ms", batch=most + 1).kept
    assert asked(tpot="300 ms", batch=most).kept


def test_prompts_and_contexts_are_the_last_that_keep_the_promises() -> None:
    found = asked(batch=16)
    model, allowed = symroof.load_model("llama-3-8b"), found.allowed_prompt
    assert allowed.refused == {}
    longest = int(allowed.most_exprs["ttft"])
    reads = [symroof.analyze(model.prefill(batch=1, seq_len=n), "h100-sxm").total.time_expr <= 1 for n in (longest, longest + 1)]
    assert reads == [True, False]
    longest = int(allowed.most_exprs["tpot"])
    kept = [token_seconds("llama-3-8b", "h100-sxm", 16, n, found.ttft_expr, 255) <= Rational(30, 1000) for n in (longest, longest + 1)]
    assert kept == [True, False]
    longest = int(allowed.most_exprs["memory"])
    assert [symroof.analyze(model.decode(batch=16, seq_len=n), "h100-sxm").fits for n in (longest, longest + 1)] == [True, False]
    assert allowed.most == min(int(limit) for limit in allowed.most_exprs.values())


def test_the_chunk_is_the_last_that_a_step_takes_along() -> None:
    found = asked(batch=16, output=256)
    longest = int(found.allowed_chunk.most_exprs["tpot"])
    step = symroof.load_model("llama-3-8b").decode(batch=16, seq_len=2176)
    times = [symroof.analyze(step.apply(f"mixed-batch:chunk={n}"), "h100-sxm").total.time_expr for n in (longest, longest + 1)]
    assert times[0] <= Rational(30, 1000) < times[1]


def test_a_promise_that_cannot_be_met_says_what_misses_and_what_would_meet_it() -> None:
    found = asked(ttft="10 ms", tpot="3 ms", degrees=(1, 2, 4))
    assert [miss.promise for miss in found.misses] == ["ttft", "tpot"]
    late, slow = found.misses
    assert (late.resource, slow.resource) == ("compute", "memory")
    assert slow.factor_expr == slow.value_expr / Rational(3, 1000) > 1
    device = symroof.load_hardware("h100-sxm")
    faster = slow.meets_exprs["bandwidth"]
    figure = replace(device.bandwidth_figure, value=faster)
    better = asked(ttft="10 ms", tpot="3 ms", device=replace(device, name="faster", bandwidth_figure=figure))  # type: ignore[arg-type]
    assert [miss.promise for miss in better.misses] == ["ttft"]
    assert better.batch >= 1
    assert symroof.analyze(better.replica.decoding(1), better.replica.device).total.time_expr + slow.value_expr - (
        symroof.analyze(found.replica.decoding(1), device).total.time_expr
    ) == Rational(3, 1000), "the step takes what the prompts of before leave of the promise; they are read faster, too"
    text = str(found.report())
    assert "time per output token" in text
    assert "would meet it" in text
    assert [bool(at.misses) for at in found.degrees] == [True, True, True]
    assert found.degrees[2].tpot_expr < found.degrees[1].tpot_expr < found.degrees[0].tpot_expr == slow.value_expr


def test_memory_that_holds_nothing_says_how_much_would() -> None:
    found = asked("llama-3-70b", tpot=None, ttft=None, degrees=(4, 8))
    assert [miss.promise for miss in found.misses] == ["memory"]
    assert (found.batch, found.kept, found.allowed_batch.most) == (1, False, 0)
    assert "memory 14" in str(found.report())
    assert [at.batch > 0 for at in found.degrees] == [True, True]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"tpot": 0}, "tpot '0': expected a number above 0"),
        ({"ttft": "3 GB"}, "'3 GB' is not in second"),
        ({"output": 1}, "output 1: expected at least 2 tokens"),
        ({"batch": 0}, "batch"),
        ({"ceilings": "calibrated"}, "calibrated kernels have no closed form"),
        ({"seq_len": 4}, "seq_len of a request follows"),
    ],
)
def test_bad_input_is_quoted(given: dict, match: str) -> None:
    with pytest.raises(symroof.InputError, match=match):
        asked(**given)
