"""Maps over two variables: every label against the analysis at that point, borders against scans, and what is refused."""

from __future__ import annotations

import functools
import random
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sympy import Integer, Rational, oo, symbols
from sympy.core.expr import Expr

import symroof
from symroof.algebra.plane.curves import Plane, Section
from symroof.algebra.plane.regions import columns, divided
from symroof.algebra.reals import exact, order
from symroof.figures import regime_map_figure
from tests.steps import EVERYTHING, sampled

MAPS: dict[str, tuple[str, str, tuple[str, ...], str, dict[str, Any]]] = {
    "dense": ("llama-3-8b", "decode", (), "h100-sxm", {}),
    "dense, promise": ("llama-3-8b", "decode", (), "h100-sxm", {"tpot": "20 ms"}),
    "window": ("mistral-7b-v0.1", "decode", (), "a100-sxm-80gb", {"tpot": "50 ms"}),
    "alternating windows": ("gemma-2-9b", "decode", (), "a100-sxm-80gb", {}),
    "experts in expectation": ("mixtral-8x7b-v0.1", "decode", (), "a100-sxm-80gb", {}),
    "many experts, split": ("deepseek-v3", "decode", ("tensor-parallel:degree=8",), "h200-sxm", {}),
    "link and overhead": ("llama-3-70b", "decode", ("tensor-parallel:degree=8,latency=5us,link=450GB/s",), "h100-sxm", {}),
    "experts, windows, launches": ("gpt-oss-20b", "decode", ("launch-overhead:launch=5us",), "l4", {"tpot": "50 ms"}),
    "prompt": ("llama-2-7b", "prefill", (), "a100-sxm-80gb", {"ttft": "1 s"}),
    "prompt, window, fused": ("mistral-7b-v0.1", "prefill", ("flash-attention",), "h100-sxm", {}),
    "host": ("llama-2-7b", "decode", ("offload:share=1/2", "quantize:weights=4,group=128"), "a100-sxm-80gb", {}),
    "not fetched ahead": ("llama-2-7b", "decode", ("offload:share=1/8,overlap=operator",), "a100-sxm-80gb", {}),
    "drafting": ("llama-2-7b", "decode", ("speculative:length=4,acceptance=0.8,draft_cost=0.1",), "a100-sxm-80gb", {"tpot": "10 ms"}),
    "exponentials": ("qwen3-30b-a3b", "decode", (), "b200", {"tpot": "30 ms"}),
}
POINTS = 40 if EVERYTHING else 6
SOME = sampled(MAPS, 3)


@functools.cache
def asked(name: str) -> symroof.RegimeMap:
    model, phase, techniques, device, promise = MAPS[name]
    return getattr(symroof.load_model(model), phase)().apply(*techniques).on(device).regime_map(**promise)


def brute(name: str, batch: int, length: int) -> str:
    """The label by an analysis with these numbers."""
    model, phase, techniques, device, promise = MAPS[name]
    on = getattr(symroof.load_model(model), phase)(batch=batch, seq_len=length).apply(*techniques).on(device)
    if not promise:
        return str(on.total.bound)
    ((what, limit),) = promise.items()
    late = on.total.time_expr / on.analysis.graph.tokens > symroof.units.number(limit, symroof.units.SECOND, what)
    return "does not fit" if on.fits is False else f"violates {what}" if late else "met"


@pytest.mark.parametrize("name", SOME)
def test_every_point_has_the_label_of_its_analysis(name: str) -> None:
    found, draw = asked(name), random.Random(zlib.crc32(name.encode()))
    points: list[tuple[int, ...]] = [(int(2 ** draw.uniform(0, 13)), int(2 ** draw.uniform(0, 17))) for _ in range(POINTS)]
    points += [
        tuple(map(int, cell.sample_exprs))
        for cell in [*found][: 2 * POINTS : 2]
        if all(at.is_Integer and at < 10**6 for at in cell.sample_exprs)
    ]
    assert {point: found.at(*point).label for point in points} == {point: brute(name, *point) for point in points}
    for cell in found:
        assert found.label_at(*cell.sample_exprs) == cell.label


SCANNED = ["dense", "dense, promise", "window", "experts in expectation", "many experts, split", "prompt"]


@pytest.mark.parametrize("name", sampled(SCANNED, 2))
def test_the_first_whole_numbers_beyond_a_border_are_those_of_a_scan(name: str) -> None:
    tested = 0
    for border in asked(name).borders:
        assert border.first_exprs is not None
        x, y = map(int, border.first_exprs)
        before = [(x - 1, y)] if border.is_vertical else [(x, y - 1)]
        if min(*before[0], 10**7 - x, 10**7 - y) < 1 or not order(border.low_expr, Integer(y if border.is_vertical else x)) <= 0:
            continue
        assert (brute(name, *before[0]), brute(name, x, y)) == border.labels, border
        tested += 1
    assert tested > 0


def test_a_column_of_points_changes_its_label_where_the_border_is() -> None:
    found = asked("dense")
    border = next(border for border in found.borders if not border.is_vertical)
    scan = [brute("dense", 340, length) for length in range(170, 190)]
    first = next(place for place, label in enumerate(scan, 170) if label == "memory")
    assert {*scan[: first - 170]} == {"compute"}
    assert {*scan[first - 170 :]} == {"memory"}
    assert border.first_integer_at(340) == first
    assert border.at(340).magnitude == pytest.approx(float(border.formula.subs(border.over[0].symbol, 340)))


@pytest.mark.parametrize("name", SOME)
def test_cells_cover_the_plane_once(name: str) -> None:
    found = asked(name)
    assert [found.columns[0].left, found.columns[-1].right] == [1, oo]
    for left, right in pairwise(found.columns):
        assert left.right == right.left
    for column in found.columns:
        assert [column.cells[0].below, column.cells[-1].above] == [1, oo]
        for below, above in pairwise(column.cells):
            assert below.above == above.below
            assert below.label != above.label


OTHERS = {
    "bandwidth": ("llama-3-8b", {"seq_len": 4096}, ("batch", "bandwidth"), ()),
    "width": ("llama-3-8b", {"seq_len": 4096}, ("batch", "weight_bits"), ()),
    "two widths": ("llama-3-8b", {"seq_len": 4096, "batch": 200}, ("weight_bits", "kv_bits"), ()),
    "degree": ("llama-3-8b", {"seq_len": 4096}, ("batch", "degree"), ("tensor-parallel:latency=5us",)),
    "degree first": ("llama-3-8b", {"seq_len": 64}, ("degree", "batch"), ("tensor-parallel:latency=5us",)),
}
DRAWN = {"batch": (1, 2000), "bandwidth": (10**11, 2 * 10**13), "weight_bits": (1, 16), "kv_bits": (1, 16), "degree": (0, 3)}


@pytest.mark.parametrize("name", sampled(OTHERS, 2))
def test_any_two_variables(name: str) -> None:
    model, given, over, techniques = OTHERS[name]
    found = symroof.load_model(model).decode(**given).apply(*techniques).on("h100-sxm").regime_map(over)
    draw = random.Random(7)
    for _ in range(POINTS):
        point = {each: draw.randint(*DRAWN[each]) for each in over}
        if "degree" in point:
            point["degree"] = 2 ** point["degree"]
        inputs = {each: value for each, value in point.items() if each in ("batch", "weight_bits", "kv_bits")}
        device = symroof.load_hardware("h100-sxm")
        if "bandwidth" in point:
            figure = replace(device.bandwidth_figure, value=Integer(point["bandwidth"]))
            device = replace(device, bandwidth_figure=figure)
        chain = [f"{text},degree={point['degree']}" for text in techniques]
        step = symroof.load_model(model).decode(**given, **inputs).apply(*chain)
        assert found.at(*point.values()).label == step.on(device).total.bound, point


def test_an_operator_s_border_is_its_crossover() -> None:
    step = symroof.load_model("llama-3-8b").prefill()
    found = step.on("a100-sxm-80gb").regime_map(operator="up_proj")
    (border,) = (border for border in found.borders if not border.is_vertical)
    for batch in (1, 3, 8, 100):
        alone = symroof.crossover(
            symroof.load_model("llama-3-8b").prefill(batch=batch), "up_proj", over="seq_len", hardware="a100-sxm-80gb"
        )
        assert border.at_expr(Integer(batch)) == alone.value_expr
        assert border.first_integer_at(batch) == alone.first_integer
    assert border.crossover is not None
    assert border.crossover.formula == symroof.crossover(step, "up_proj", over="seq_len").formula
    assert border.crossover.condition is not None


def test_experts_make_a_border_at_the_root_of_an_exponential() -> None:
    found = asked("experts in expectation")
    border = next(border for border in found.borders if border.is_vertical)
    alone = symroof.crossover(
        symroof.load_model("mixtral-8x7b-v0.1").decode(seq_len=64), "expert_up_proj", over="batch", hardware="a100-sxm-80gb"
    )
    assert border.edge_expr == alone.value_expr
    assert not border.edge_expr.is_Rational


REFUSED = {
    "one variable": ({"over": ("batch",)}, "expected two variables"),
    "the same twice": ({"over": ("batch", "batch")}, "over 'batch' twice"),
    "unknown": ({"over": ("batch", "seqlength")}, "'seqlength' is not a symbol"),
    "absent": ({"over": ("batch", "degree")}, "'degree' .* does not occur"),
    "a symbol left": ({"over": ("batch", "bandwidth")}, "seq_len must be given as a number"),
    "operator": ({"operator": "up_prj"}, "'up_prj' is not an operator"),
    "other promise": ({"ttft": "1 s"}, "ttft is no promise about a step of decode: give tpot"),
    "two promises": ({"ttft": "1 s", "tpot": "1 s"}, "give the one"),
    "not a time": ({"tpot": "80 GB"}, "'80 GB' is not in second"),
    "range": ({"ranges": {"batch": (8, 2)}}, "ranges of batch: 8 to 2: expected two numbers from 1 on"),
    "range of another": ({"ranges": {"degree": (1, 2)}}, "ranges of 'degree': the map is over batch and seq_len"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_mapped_is_refused_in_one_line(name: str) -> None:
    given, match = REFUSED[name]
    with pytest.raises(symroof.SymroofError, match=match) as refused:
        symroof.load_model("llama-3-8b").decode().on("h100-sxm").regime_map(**given)
    assert "\n" not in str(refused.value)


def test_exponents_of_the_second_variable_are_refused_and_experts_at_most_are_not() -> None:
    mixtral = symroof.load_model("mixtral-8x7b-v0.1")
    for step, over in ((mixtral.decode(), ("seq_len", "batch")), (mixtral.prefill(), ("batch", "seq_len"))):
        with pytest.raises(symroof.InputError, match=r"is an exponent, in .*experts='at-most'"):
            step.on("h100-sxm").regime_map(over)
    found = mixtral.prefill(experts="at-most").on("h100-sxm").regime_map()
    for point in ((1, 1), (2, 3), (1, 300), (50, 400), (7, 90)):
        on = mixtral.prefill(experts="at-most", batch=point[0], seq_len=point[1]).on("h100-sxm")
        assert found.at(*point).label == on.total.bound
    with pytest.raises(symroof.InputError, match="kernels"):
        symroof.load_model("llama-3-8b").decode().on("h100-sxm", "calibrated").regime_map()
    with pytest.raises(symroof.InputError, match="batch '0' is outside 1 to oo"):
        found.at(0, 5)


def _polynomial(draw: random.Random, x: Expr, y: Expr) -> Expr:
    powers = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2)]
    return sum((draw.randint(-9, 9) * x**i * y**j for i, j in powers), start=Integer(0))


@pytest.mark.parametrize("seed", range(40 if EVERYTHING else 3))
def test_regions_of_random_curves(seed: int) -> None:
    """Signs by substitution at random points, and the same label throughout a cell."""
    draw, (x, y) = random.Random(seed), symbols("x y", positive=True)
    a, b = draw.randint(3, 7), draw.randint(3, 7)
    circle, hyperbola = (x - a) ** 2 + (y - b) ** 2 - draw.randint(1, 6), (x - a) * (y - b) - draw.randint(1, 3)
    curves = [_polynomial(draw, x, y), circle, hyperbola]
    plane = Plane(x, y, Integer(0), Integer(10), Integer(0), Integer(10))
    made = columns(divided(plane, lambda sign: tuple(sign(curve) for curve in curves)))
    for _ in range(30):
        at = Rational(draw.randint(1, 10089), 1009), Rational(draw.randint(1, 10089), 1009)  # on no end of a column
        values = [curve.subs({x: at[0], y: at[1]}) for curve in curves]
        signs = tuple(bool(value > 0) - bool(value < 0) for value in values)
        column = next(column for column in made if order(column.left, at[0]) < 0 < order(column.right, at[0]))
        heights = [edge.at(at[0]) if isinstance(edge, Section) else exact(edge) for edge in (cell.above for cell in column.cells)]
        cell = next(cell for cell, top in zip(column.cells, heights, strict=True) if order(at[1], top) < 0)
        assert cell.label == signs


def test_the_figure_shows_every_label_and_border(tmp_path: Path) -> None:
    found = symroof.load_model("llama-3-8b").decode().on("h100-sxm").regime_map(tpot="20 ms", ranges={"batch": (1, 8192)})
    figure = regime_map_figure(found)
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "log", "batch", "seq_len")
    assert {text.get_text() for text in axes.texts if str(text.get_gid()).startswith("name-")} == {*found.labels}
    assert axes.get_xlim() == (1, 8192)
    drawn = [line.get_xydata() for line in axes.lines if line.get_gid() == "border"]
    assert len(drawn) == len([border for border in found.borders if not border.is_vertical])
    for points in drawn:
        for x, y in points[1:-1:24]:
            sides = {found.at(Rational(x), Rational(y * side)).label for side in (0.999, 1.001)}
            assert len(sides) == 2, (x, y)
    figure.savefig(tmp_path / "map.png")


def test_the_command_prints_and_draws(run, tmp_path: Path) -> None:
    picture = tmp_path / "map.svg"
    asked_for = ("regimes", "llama-3-8b", "--over", "batch", "--over", "seq_len", "--hardware", "h100-sxm")
    printed = run(*asked_for, "--operator", "up_proj", "--plot", str(picture)).out
    assert "b = 141840384/435733" in printed
    assert picture.read_text().startswith("<?xml")
    assert "compute-bound" in run(*asked_for[:4], "--seq-len", "512", *asked_for[6:]).out
    for wrong, said in ((("--over", "degree"), "a map has two variables"), (("--plot", "map.gif"), "expected a file that ends in")):
        refused = run(*asked_for, *wrong)
        assert refused.status == 2
        assert said in refused.err


def test_a_device_without_a_stated_cache_has_a_map() -> None:
    techniques, point = ("flash-attention",), (3, 500)
    mistral = symroof.load_model("mistral-7b-v0.1")
    found = mistral.prefill().apply(*techniques).on("tpu-v4").regime_map()
    on = mistral.prefill(batch=point[0], seq_len=point[1]).apply(*techniques).on("tpu-v4")
    assert found.at(*point).label == on.total.bound
