"""Branch and bound against enumeration, and its certificates against planted errors."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from sympy import Max, Min, ceiling, floor

import symroof
from symroof.algebra.unions import Untouched
from symroof.errors import InputError
from symroof.sweeps.compile import program
from symroof.sweeps.engines import run_exact
from symroof.sweeps.optimum.intervals import Interval, UnprovableError, bounds, divided
from symroof.sweeps.optimum.space import largest
from symroof.symbols import BW, P, b, d, s
from tests.steps import sampled

GRID = {"batch": range(1, 513), "seq_len": range(1, 2049)}
MODELS = ("llama-2-7b", "mixtral-8x7b-v0.1", "gemma-2-9b", "deepseek-v3", "mamba-codestral-7b-v0.1", "gpt-oss-20b")
OBJECTIVES = (
    {"maximize": "throughput"},
    {"minimize": "time"},
    {"maximize": "cached_tokens"},
    {"maximize": "intensity"},
    {"pareto": ("time", "throughput")},
    {"pareto": ("memory", "intensity")},
)
CONDITIONS = (
    "latency < 50 ms and fits",
    "memory <= 60 GB and seq_len >= 700",
    "bound == memory and batch > 3 and not latency > 200 ms",
    "throughput >= 500 token/s or seq_len < 9",
    "",
)


def problem(seed: int) -> tuple[tuple[Any, Any, dict[str, Any]], dict[str, Any]]:
    """A model, devices, values in any order, an objective and a condition."""
    chosen = random.Random(seed)
    over: dict[str, Any] = {
        "batch": sorted(chosen.sample(range(1, 600), 40)),
        "seq_len": sorted(chosen.sample(range(1, 9000), 50), reverse=seed % 3 == 0),
        "weight_bits": chosen.sample([4, 8, 16], 2),
    }
    names = chosen.sample([*over], 3)
    hardware = chosen.sample(["h100-sxm", "a100-sxm-80gb", "mi300x", "l4"], chosen.choice([1, 1, 2]))
    asked = {**chosen.choice(OBJECTIVES), "where": chosen.choice(CONDITIONS), "phase": chosen.choice(["decode", "decode", "prefill"])}
    return (chosen.choice(MODELS), hardware, {name: over[name] for name in names}), asked


def points_of(found: Any) -> list[tuple[Any, ...]]:
    """The coordinates, point by point."""
    names = ("hardware", *(name for name in ("batch", "seq_len", "weight_bits") if name in found.coords))
    return list(zip(*(found[name].values.tolist() for name in names), strict=True))


@pytest.mark.parametrize("seed", sampled(range(24), 2))
def test_it_finds_what_enumeration_finds(seed: int) -> None:
    """In eight thousand points each; where floats made enumeration choose another of two equal points, the fractions decide."""
    (model, hardware, over), asked = problem(seed)
    reduced = symroof.pareto if "pareto" in asked else symroof.best
    named = {("objectives" if name == "pareto" else name): value for name, value in asked.items()}
    try:
        there = points_of(reduced(model, hardware, over, search="enumerate", **named))
    except InputError as none:
        with pytest.raises(InputError, match=re.escape(str(none))):
            symroof.optimum(model, hardware, over, **asked)
    else:
        found = symroof.optimum(model, hardware, over, **asked)
        assert found.certificate.check() == len(found.certificate)
        assert points_of(found.points) == there


def test_billions_of_points_take_dozens_of_boxes() -> None:
    over = {"batch": range(1, 65537), "seq_len": range(1, 131073)}
    where = "latency < 50 ms and fits"
    found = symroof.optimum("llama-3.1-8b", "h100-sxm", over, maximize="throughput", where=f"{where} and seq_len >= 2048")
    assert found.certificate.bounded < 1000
    assert found.certificate.check() < 200
    [point] = points_of(found.points)
    scanned = symroof.best(
        "llama-3.1-8b",
        "h100-sxm",
        {"batch": range(1, 1025), "seq_len": range(2048, 2058)},
        maximize="throughput",
        where="latency < 50 ms and fits",
    )
    assert points_of(scanned) == [point]
    assert "branch and bound" in symroof.best("llama-3.1-8b", "h100-sxm", over, minimize="time").attrs["search"]


def test_six_variables_and_a_quadrillion_points() -> None:
    over = {
        "batch": range(1, 65537),
        "seq_len": range(1, 131073),
        "weight_bits": [4, 8, 16],
        "kv_bits": [16, 8, 4],
        "bandwidth": [place * 1e11 for place in range(10, 60)],
        "intermediate_size": range(8192, 16384, 16),
    }
    where = "latency < 50 ms and fits"
    found = symroof.optimum("llama-3.1-8b", "h100-sxm", over, maximize="throughput", where=f"{where} and seq_len >= 1024")
    assert found.certificate.check() < 1000
    point = {name: found.points[name].item() for name in over}
    assert {name: value for name, value in point.items() if name != "batch"} == {
        "seq_len": 1024,
        "weight_bits": 4,
        "kv_bits": 4,
        "bandwidth": 5.9e12,
        "intermediate_size": 8192,
    }
    fixed = {name: [value] for name, value in point.items() if name != "batch"}
    near = {**fixed, "batch": range(1, 20000)}
    assert (
        symroof.best("llama-3.1-8b", "h100-sxm", near, maximize="throughput", where="latency < 50 ms and fits").batch.item()
        == point["batch"]
    )


def test_of_equal_points_the_first_in_the_grid_is_kept() -> None:
    """The memory of a model whose layers all keep a state does not depend on the context."""
    over = {"seq_len": [4096, 16, 512], "batch": [4, 2, 8]}
    for search in ("enumerate", "branch-and-bound"):
        found = symroof.best("mamba-codestral-7b-v0.1", "h100-sxm", over, minimize="memory", search=search)
        assert points_of(found) == [("h100-sxm", 2, 4096)]


def test_a_certificate_with_an_error_is_refused() -> None:
    found = symroof.optimum("llama-2-7b", "a100-sxm-80gb", GRID, maximize="throughput", where="latency < 50 ms and fits").certificate
    assert found.check() == len(found)
    place, low, high = found.boxes[0]
    with pytest.raises(ArithmeticError, match="do not cover"):
        replace(found, boxes=found.boxes[1:]).check()
    with pytest.raises(ArithmeticError, match="do not cover"):
        replace(found, boxes=(*found.boxes, found.boxes[0])).check()
    with pytest.raises(ArithmeticError, match="do not cover"):
        replace(found, boxes=((place, low, (high[0], high[1] - 1)), *found.boxes[1:])).check()
    [(_, point, _)] = found.best
    worse = (point[0] - 1, point[1])
    with pytest.raises(ArithmeticError, match="may hold a better point"):
        replace(found, best=((0, worse, worse),)).check()
    outside = (511, 2047)
    with pytest.raises(ArithmeticError, match="does not satisfy"):
        replace(found, best=((0, outside, outside),)).check()


def test_every_box_says_why_it_is_not_split() -> None:
    where = "latency < 50 ms and fits and not seq_len < 100"
    found = symroof.optimum("llama-2-7b", "a100-sxm-80gb", GRID, maximize="throughput", where=where)
    reasons = [reason for _, reason in found.certificate]
    assert {*reasons} == {"no point satisfies the condition", "no point is better", "the best"}
    inside = [box for box, reason in found.certificate if reason == "the best"]
    assert [(box["batch"], box["seq_len"]) for box in inside] == [((found.points.batch.item(),) * 2, (100, 100))]
    outside = next(box for box, reason in found.certificate if reason == "no point satisfies the condition")
    corner = {name: [outside[name][0]] for name in GRID}
    with pytest.raises(InputError, match="none of 1 points"):
        symroof.best("llama-2-7b", "a100-sxm-80gb", corner, maximize="throughput", where=where)


@pytest.mark.parametrize(
    "formula",
    [
        b * d / 8 + s,
        Max(b * s / P, (b + 4096) / BW),
        b * s / (b * 3 + s * s),
        ceiling(b / 16) * floor(s / 7 + 1),
        Min(b, 4096) * s - s / 3 + 5 * d,
        8 * (1 - Untouched(1 / (b + 1), s)),
        divided(b / Max(b * d / P, (b + d) / BW)),
        divided((b * s + Max(b, s)) / (b * s)),
    ],
    ids=str,
)
def test_bounds_hold_at_every_point_and_are_reached_where_a_formula_is_monotone(formula: Any) -> None:
    chosen = random.Random(str(formula))
    run = program([formula])
    for _ in range(12):
        ends = {letter: sorted(chosen.sample(range(1, 40), 2)) for letter in run.inputs}
        exact = bounds(run, {letter: Interval(*map(Fraction, pair)) for letter, pair in ends.items()}, exact=True)[0]
        floats = bounds(run, {letter: Interval(*map(np.longdouble, pair)) for letter, pair in ends.items()})[0]
        assert float(floats.low) == pytest.approx(float(exact.low), rel=1e-12, abs=1e-12)
        assert float(floats.high) == pytest.approx(float(exact.high), rel=1e-12, abs=1e-12)
        for point in itertools.product(*([low, chosen.randint(low, high), high] for low, high in ends.values())):
            [value] = run_exact(run, dict(zip(ends, point, strict=True)))
            assert exact.low <= value <= exact.high
    corners = [run_exact(run, dict(zip(run.inputs, point, strict=True)))[0] for point in itertools.product((2, 3), repeat=len(run.inputs))]
    exact = bounds(run, dict.fromkeys(run.inputs, Interval(Fraction(2), Fraction(3))), exact=True)[0]
    if formula.func != (b * s / (b * 3 + s * s)).func or not formula.has(b * 3 + s * s):
        assert (exact.low, exact.high) == (min(corners), max(corners)) or formula.has(-s / 3)


def test_a_divisor_that_may_be_zero_leaves_anything_open() -> None:
    run = program([b / (s - 3)])
    [found] = bounds(run, {"b": Interval(1.0, 2.0), "s": Interval(np.array([2.0, 4.0]), np.array([5.0, 5.0]))})
    assert (found.low.tolist(), found.high.tolist()) == ([-np.inf, 0.5], [np.inf, 2])


def test_a_power_of_what_may_be_negative_is_refused() -> None:
    with pytest.raises(UnprovableError, match="power of what may be negative"):
        bounds(program([(s - 3) ** b]), {"b": Interval(1.0, 2.0), "s": Interval(2.0, 5.0)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": "guess"}, "auto, branch-and-bound, enumerate"),
        ({"search": "branch-and-bound", "points": True}, "over a grid"),
        ({"where": "batch > 600", "search": "branch-and-bound"}, "none of 1048576 points satisfies 'batch > 600'"),
    ],
)
def test_bad_requests_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    over = {"batch": [1, 2], "seq_len": [3, 4]} if "points" in change else GRID
    with pytest.raises(InputError, match=message) as error:
        symroof.best("llama-2-7b", "l4", over, minimize="time", **change)
    assert "\n" not in str(error.value)


def test_one_objective_or_two() -> None:
    for asked in ({}, {"minimize": "time", "maximize": "throughput"}):
        with pytest.raises(InputError, match="give one of minimize, maximize and pareto"):
            symroof.optimum("llama-2-7b", "l4", GRID, **asked)
    with pytest.raises(InputError, match="expected two metrics"):
        symroof.optimum("llama-2-7b", "l4", GRID, pareto="time")


def test_where_two_resources_take_equally_long_memory_does_not_bind_over_a_box() -> None:
    """Nor at a point; over a range of widths the bound of the box says so too, in fractions."""
    over = {"batch": [53, 128, 327], "kv_bits": [4, 8], "seq_len": [3, 21, 40]}
    where = "bound == memory and batch > 3 and not latency > 200 ms"
    found = symroof.optimum("gpt-oss-20b", "h100-sxm", over, pareto=("time", "throughput"), where=where, phase="prefill")
    assert found.certificate.check() == len(found.certificate)
    seconds = (Interval(Fraction(1), Fraction(2)), Interval(Fraction(2), Fraction(2)), Interval(Fraction(1), Fraction(1)))
    assert (largest(seconds).low, largest(seconds).high) == (1, 1)
    level = [replace(one, error=1e-16) for one in seconds]
    assert (largest(level).low, largest(level).high) == (0, 1)
