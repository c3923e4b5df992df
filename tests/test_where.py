"""Conditions against their meaning, reductions against brute force."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer

import symroof
from symroof.errors import InputError
from symroof.sweeps.filter import Condition
from symroof.sweeps.grid import Chunk
from symroof.sweeps.optimum import fused
from symroof.sweeps.optimum.front import front
from symroof.sweeps.reduce import best, feasible, pareto
from symroof.sweeps.sweep import sweep

UNITS = {
    "time": "s",
    "memory": "byte",
    "batch": "1",
    "weight_bits": "bit",
    "fits": "flag",
    "bound": "1",
    "throughput": "token/s",
    "bandwidth": "byte/second",
}
POINTS = {
    "time": np.array([0.01, 0.05, 0.06]),
    "memory": np.array([80e9, 81e9, 1.0]),
    "batch": np.array([1, 8, 9]),
    "weight_bits": np.array([4, 8, 16]),
    "fits": np.array([True, False, True]),
    "bound": np.array([0, 1, 1]),
    "throughput": np.array([10.0, 20.0, 30.0]),
    "bandwidth": np.array([1e12, 2e12, 3e12]),
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("latency < 50 ms", [1, 0, 0]),
        ("time <= 50ms", [1, 1, 0]),
        ("0.05 s <= time", [0, 1, 1]),
        ("10 ms < latency <= 0.05 s", [0, 1, 0]),
        ("memory <= 80 GB", [1, 0, 1]),
        ("memory <= 80 GiB", [1, 1, 1]),
        ("memory > 1 byte and batch >= 8", [0, 1, 0]),
        ("batch = 8 or batch == 9", [0, 1, 1]),
        ("batch != 8", [1, 0, 1]),
        ("not batch < 9 and fits", [0, 0, 1]),
        ("not (batch < 9 and fits)", [0, 1, 1]),
        ("batch < 2 or batch > 8 and not fits", [1, 0, 0]),
        ("(batch < 2 or batch > 8) and not fits", [0, 0, 0]),
        ("bound == memory", [1, 0, 0]),
        ("compute == bound", [0, 1, 1]),
        ("weight_bits <= 8", [1, 1, 0]),
        ("weight_bits <= 1 byte", [1, 1, 0]),
        ("throughput >= 20 token/s", [0, 1, 1]),
        ("bandwidth >= 2 TB/s", [0, 1, 1]),
        ("weight_bits < batch and 1e-3 s < time", [0, 0, 0]),
    ],
)
def test_conditions_mean_what_they_say(text: str, holds: list[int]) -> None:
    if text.startswith("weight_bits < batch"):
        with pytest.raises(symroof.SymroofError, match="does not compare"):
            Condition(text, UNITS, {"latency": "time"})
        return
    assert np.asarray(Condition(text, UNITS, {"latency": "time"})(POINTS)).astype(int).tolist() == holds


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("", 1, "something is missing at the end"),
        ("latency <", 10, "something is missing at the end"),
        ("latency < 50", 11, "50 needs a unit: time is in s"),
        ("latency < 50 GB", 11, "50 GB does not compare with time, which is in s"),
        ("latency < 50 mss", 11, "'mss' is not a unit known here"),
        ("latncy < 50 ms", 1, "did you mean latency"),
        ("batch >= 8 batch < 9", 12, "'batch' is not expected here"),
        ("batch", 1, "must be compared with something"),
        ("(batch > 1", 11, "a '\\)' is missing"),
        ("batch > 1)", 10, "is not expected here"),
        ("1 < 2", 1, "a comparison needs a name"),
        ("batch > 1 and", 14, "something is missing at the end"),
        ("and batch > 1", 1, "expected a name or a number, not 'and'"),
        ("bound == fast", 10, "is neither swept over nor a metric"),
        ("bound == 1", 10, "bound is memory or compute"),
        ("fits == 1", 9, "fits is true or false"),
        ("batch > -1", 9, "'-' is not understood"),
        ("__import__('os').system('true')", 12, "is not understood"),
        ("exit > 1", 1, "'exit' is neither swept over nor a metric"),
        ("batch; batch", 6, "';' is not understood"),
        ("batch ** 2 > 3", 7, "'\\*' is not understood"),
        ("(" * 60 + "batch > 1", 51, "nested too deeply"),
    ],
)
def test_errors_say_where(text: str, place: int, why: str) -> None:
    with pytest.raises(symroof.SymroofError, match=f"at character {place}: .*{why}") as error:
        Condition(text, UNITS, {"latency": "time"})
    assert "\n" not in str(error.value)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.text(max_size=40))
def test_no_text_does_more_than_fail(text: str) -> None:
    with contextlib.suppress(symroof.SymroofError):
        Condition(text, UNITS)


def brute_front(x: np.ndarray, y: np.ndarray) -> list[int]:
    def beats(i: int, j: int) -> bool:
        if x[i] == x[j] and y[i] == y[j]:
            return i < j
        return x[i] <= x[j] and y[i] <= y[j]

    return [j for j in range(len(x)) if not any(beats(i, j) for i in range(len(x)) if i != j)]


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=60))
def test_front_is_that_of_brute_force(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array([pair[place] for pair in pairs], dtype=float) for place in (0, 1))
    assert sorted(front([x, y]).tolist()) == brute_front(x, y)
    assert front([x]).tolist() == ([int(np.argmin(x))] if pairs else [])


def test_front_of_many_is_that_without_the_shortcut() -> None:
    rng = np.random.default_rng(5)
    for spread in (50, 10**6):
        x, y = (rng.integers(0, spread, 30_000).astype(float) for _ in range(2))
        order = np.lexsort((np.arange(x.size), y, x))
        kept, least = [], np.inf
        for place in order:
            if y[place] < least:
                kept.append(place)
                least = y[place]
        assert front([x, y]).tolist() == kept


OVER = {"batch": range(1, 30), "seq_len": [100, 2000, 30000], "weight_bits": [4, 8, 16]}
DEVICES = ["a100-sxm-80gb", "h100-sxm"]


def everything() -> list[dict[str, object]]:
    from symroof.sweeps.sweep import sweep

    found = sweep("llama-2-7b", DEVICES, OVER)
    return found.to_dataframe().reset_index().to_dict("records")


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [7, 1 << 20])
@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_reductions_are_those_of_brute_force(chunk: int, scheduler: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xarray")
    records = everything()
    monkeypatch.setattr("symroof.sweeps.grid.CHUNK", chunk)
    allowed = [one for one in records if one["time"] < 0.05 and one["memory"] <= 80e9 and one["batch"] >= 8]
    expected = max(allowed, key=lambda one: one["throughput"])
    where = "latency < 50 ms and memory <= 80 GB and batch >= 8"
    found = best("llama-2-7b", DEVICES, OVER, maximize="throughput", where=where, scheduler=scheduler)
    names = ("hardware", "batch", "seq_len", "weight_bits", "time", "throughput", "memory", "fits", "bound")
    assert {name: found[name].item() for name in names} == {name: expected[name] for name in names}
    least = min(records, key=lambda one: one["memory"])
    found = best("llama-2-7b", DEVICES, OVER, minimize="memory", scheduler=scheduler)
    assert {name: found[name].item() for name in names} == {name: least[name] for name in names}, "of equals the first"
    x, y = (np.array([sign * one[name] for one in allowed]) for name, sign in (("time", 1), ("throughput", -1)))
    line = sorted(brute_front(x, y), key=lambda place: x[place])
    found = pareto("llama-2-7b", DEVICES, OVER, where=where, scheduler=scheduler)
    assert found.time.values.tolist() == [allowed[place]["time"] for place in line]
    for name in names:
        assert found[name].values.tolist() == [allowed[place][name] for place in line]


@pytest.mark.slow
def test_reductions_over_points_phases_and_models() -> None:
    pytest.importorskip("xarray")
    points = {"batch": [1, 2, 3], "seq_len": [30, 20, 10]}
    found = best(["llama-2-7b", "opt-125m"], "l4", points, points=True, phase=["decode", "prefill"], minimize="time", where="batch > 1")
    assert (found.model.item(), found.phase.item(), found.seq_len.item()) == ("opt-125m", "decode", 20)
    listed = itertools.product(("llama-2-7b", "opt-125m"), ("decode", "prefill"), zip(*points.values(), strict=True))
    bits = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    times = []
    for model, phase, (batch, length) in listed:
        step = getattr(symroof.load_model(model), phase)(batch=batch, seq_len=length, **bits)
        times += [float(symroof.analyze(step, "l4").total.time_expr)] if batch > 1 else []
    assert found.time.item() == pytest.approx(min(times), rel=1e-12)


@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_the_feasible_points_are_those_of_the_whole_grid(scheduler: str | None) -> None:
    """In the order of the grid, with the values of the whole sweep, on every scheduler."""
    pytest.importorskip("xarray")
    where = "latency < 50 ms and memory <= 80 GB and batch >= 8"
    found = feasible("llama-2-7b", DEVICES, OVER, where, scheduler=scheduler)
    whole = sweep("llama-2-7b", DEVICES, OVER)
    kept = whole.time < 0.05
    kept = (kept & (whole.memory <= 80e9) & (whole.batch >= 8)).values
    assert 0 < kept.sum() < kept.size
    assert np.array_equal(found.time.values, whole.time.values[kept])
    assert np.array_equal(found.memory.values, whole.memory.values[kept])


def test_a_condition_without_an_objective_filters_the_command(run) -> None:
    pytest.importorskip("xarray")
    asked = ("sweep", "llama-2-7b", "--hardware", "l4", "--over", "batch=1:4", "--seq-len", "64", "--format", "csv")
    every, some = run(*asked).out.splitlines(), run(*asked, "--where", "batch > 2").out.splitlines()
    assert some == [every[0], *every[3:]]
    named = run(
        "sweep",
        "llama-2-7b",
        "--hardware",
        "l4",
        "--over",
        "weights=4,8",
        "--seq-len",
        "64",
        "--with",
        "quantize:weights",
        "--format",
        "csv",
    )
    assert (named.err, named.out.splitlines()[2].split(",")[3]) == ("", "8")


def test_more_points_than_memory_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xarray")
    monkeypatch.setattr("symroof.sweeps.reduce.MOST_POINTS", 3)
    with pytest.raises(InputError, match=r"more than 3e\+00 points satisfy 'batch > 0'"):
        feasible("llama-2-7b", "l4", {"batch": range(1, 9)}, "batch > 0", seq_len=64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of minimize and maximize"),
        ({"minimize": "time", "maximize": "time"}, "give one of"),
        ({"minimize": "tim"}, "did you mean time"),
        ({"minimize": "bound"}, "no least or largest value"),
        ({"minimize": "time", "where": "batch > 100"}, "none of 2 points satisfies 'batch > 100'"),
        ({"minimize": "time", "per": "operator"}, "over whole steps"),
    ],
)
def test_bad_reductions(options: dict[str, str], message: str) -> None:
    pytest.importorskip("xarray")
    with pytest.raises(symroof.SymroofError, match=message):
        best("llama-2-7b", "l4", {"batch": [1, 2]}, seq_len=5, **options)
    with pytest.raises(symroof.SymroofError, match="expected two metrics"):
        pareto("llama-2-7b", "l4", {"batch": [1, 2]}, ("time", "latency"), seq_len=5)


@pytest.mark.parametrize(
    ("model", "over", "asked"),
    [
        ("llama-2-7b", {"batch": [3, 1, 700], "seq_len": range(1, 3000)}, {"maximize": "throughput", "where": "latency < 50 ms and fits"}),
        ("gemma-2-9b", {"weight_bits": [16, 4], "batch": range(1, 1500)}, {"minimize": "token_energy", "where": "not fits or batch > 9"}),
        (
            "llama-2-7b",
            {"batch": range(1, 300), "seq_len": range(3000, 1, -50)},
            {"objectives": ("time", "cached_tokens"), "where": "fits"},
        ),
        ("llama-2-7b", {"batch": range(2000, 1, -1), "weight_bits": [8, 16, 4]}, {"minimize": "flops", "where": "batch > 1030"}),
        (
            "mixtral-8x7b-v0.1",
            {"seq_len": range(1, 9), "batch": range(1, 5003)},
            {"objectives": ("time", "throughput"), "where": "not fits and batch >= 7"},
        ),
        ("llama-2-7b", {"batch": range(1, 2050), "kv_bits": [8, 4]}, {"objectives": ("flops", "time")}),
    ],
)
def test_one_pass_of_machine_code_finds_what_arrays_find(model: str, over: dict[str, Any], asked: dict[str, Any]) -> None:
    pytest.importorskip("numba")
    fixed = {"techniques": ["energy:flop=1pJ,byte=30pJ,power=100W"], **({} if "seq_len" in over else {"seq_len": 900})}
    reduced = pareto if "objectives" in asked else best
    here, there = (reduced(model, "l4", over, engine=engine, **asked, **fixed) for engine in ("numba", "numpy"))
    assert here.equals(there)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1023, 1024])
def test_the_least_of_a_row_and_what_comes_before(count: int) -> None:
    rng = np.random.default_rng(count)
    row = np.concatenate([rng.integers(-9, 9, count) / 4, rng.uniform(-99, -98, 9)])
    for place in range(min(count, 9)):
        assert fused._least(np.roll(row[:count], place), count) == row[:count].min()
    assert fused._least(row, 0) == np.inf
    assert fused._least(np.full(9, np.inf), count % 10) == np.inf
    rising = np.sort(row)
    for value in (*row[:9], -100.0, 100.0):
        assert fused._before(rising, value) == max(np.searchsorted(rising, value, side="right") - 1, 0)


def test_one_pass_leaves_to_arrays_what_it_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resource that binds, and a memory that is the capacity to the last digit."""
    pytest.importorskip("numba")
    ran: list[object] = []
    evaluate = Chunk.evaluate
    monkeypatch.setattr(Chunk, "evaluate", lambda chunk: ran.append(chunk) or evaluate(chunk))
    over = {"batch": range(1, 9)}
    device = symroof.load_hardware("a100-sxm-80gb")
    needed = int(sweep("llama-2-7b", device, {"batch": [5]}, seq_len=512, metrics=["memory"]).memory.item())
    assert device.usable_figure is not None
    tight = replace(device, reported_figure=replace(device.usable_figure, value=Integer(needed)))
    ran.clear()
    for on, where, largest in ((device, "bound == memory", 8), (tight, "fits", 5)):
        assert best("llama-2-7b", on, over, maximize="cached_tokens", where=where, seq_len=512, engine="numba").batch.item() == largest
    assert len(ran) == 2


def test_a_result_that_no_float_holds_is_refused_in_one_pass() -> None:
    pytest.importorskip("numba")
    with pytest.raises(InputError, match="larger than a float64"):
        best("llama-2-7b", None, {"batch": [1, 2]}, minimize="time", seq_len=1e12, peak=1e-300, bandwidth=1e-300, engine="numba")
