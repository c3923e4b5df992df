"""The picture of a regime map: log-log, every region in its colour with its name in it, borders with their formulas."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from math import hypot, log, log2
from textwrap import fill
from typing import TYPE_CHECKING, Any, cast

from sympy import Expr, Poly, Rational, oo

from symroof.algebra.plane.curves import Section
from symroof.algebra.plane.regions import Cell, Column
from symroof.errors import InputError
from symroof.present.roofline_plot import BINDS
from symroof.present.serving.regime_maps import names_of, title_of
from symroof.present.style import COLORS, HATCHES, WIDTH
from symroof.present.style import label as label_axes
from symroof.serving.maps.borders import Border
from symroof.serving.maps.regime_map import DOES_NOT_FIT, MET, RegimeMap
from symroof.symbols import substitute

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROMISED = {MET: (COLORS[2], ""), DOES_NOT_FIT: ("0.55", "xxx"), "violates tpot": (COLORS[1], "///"), "violates ttft": (COLORS[1], "///")}
GRID = 160
"""Points a side of the raster from which names find their places."""
FORMULAS = 9
"""The most borders whose formulas are written below the map; the longest."""
LEAST, APART, LONGEST = 0.02, 0.045, 70
"""The shortest border with a number, and how far numbers are apart, in parts of the axes; characters of the longest formula."""
NAME = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8}
NUMBER = {"boxstyle": "circle,pad=0.25", "fc": "white", "ec": "0.1", "lw": 0.8}


def regime_map_figure(found: RegimeMap, *, title: str | None = None) -> Figure:
    """The map on logarithmic axes: regions in colours and hatches that the colour-blind can distinguish, named where they are.

    Where a range has no end, the picture ends some doublings beyond the last corner of a border. Borders carry numbers; their
    formulas stand below.

    Raises
    ------
    InputError
        A range begins at 0 and nothing divides it: there is no logarithmic axis.

    >>> import symroof
    >>> figure = regime_map_figure(symroof.load_model("llama-3-8b").decode().on("h100-sxm").regime_map(ranges={"seq_len": (1, 8192)}))
    >>> figure.axes[0].get_xscale(), figure.axes[0].get_xlabel()
    ('log', 'batch')
    """
    spans = _spans(found)
    lines = sorted((one for one in found.borders if _extent(one, spans) > LEAST), key=lambda border: -_extent(border, spans))[:FORMULAS]
    lines.sort(key=lambda border: (not border.is_vertical, float(border.low_expr)))
    from matplotlib.figure import Figure

    below = 0.165 * len(lines) + 0.1
    figure = Figure(figsize=(WIDTH, 4.4 + below), layout="constrained")
    axes, words = figure.subplots(2, 1, height_ratios=(4.4, below)) if lines else (figure.add_subplot(), None)
    axes.set(xscale="log", yscale="log", xlim=spans[0], ylim=spans[1])
    axes.tick_params(labelsize=8)
    for column in found.columns:
        for cell in column.cells:
            _fill(axes, column, cell, spans)
    for border in found.borders:
        _draw(axes, border, spans)
    for x, y, label in _places(found, spans):
        axes.text(x, y, label, ha="center", va="center", fontsize=9, gid=f"name-{label}", zorder=6, bbox=NAME)
    numbers: list[tuple[float, float]] = []
    for place, border in enumerate(lines, 1):
        numbers.append(_free(_points(border, spans, 41), numbers, spans))
        axes.text(*numbers[-1], str(place), fontsize=7, ha="center", va="center", zorder=7, gid=f"number-{place}", bbox=NUMBER)
    x, y = names_of(found)
    units = ("" if each.unit == "dimensionless" else f" [{each.unit}]" for each in found.over)
    x_label, y_label = (f"{name}{unit}" for name, unit in zip((x, y), units, strict=True))
    label_axes(axes, x_label, y_label, fill(title or title_of(found), 80))
    if words is not None:
        words.set_axis_off()
        text = "\n".join(f"{place}   {_written(border)}" for place, border in enumerate(lines, 1))
        words.text(0, 1, text, fontsize=7.5, va="top", transform=words.transAxes, gid="formulas")
    return figure


Spans = tuple[tuple[float, float], tuple[float, float]]


def _spans(found: RegimeMap) -> Spans:
    """The ends of the axes."""
    ends = [float(end) for column in found.columns for end in (column.left, column.right) if end != oo and end > 0]
    x = _axis(found.range_exprs[0], ends)
    heights = [
        height
        for column in found.columns
        for cell in column.cells
        for edge in (cell.below, cell.above)
        for at in _grid(column, (x, x), 9)
        if 0 < (height := _height(edge, at)) < float("inf")
    ]
    return x, _axis(found.range_exprs[1], heights)


def _axis(span: tuple[Expr, Expr], points: list[float]) -> tuple[float, float]:
    low = float(span[0]) if span[0] > 0 else min(points, default=0) / 16
    if low <= 0:
        raise InputError("the range begins at 0, and there is no border: give ranges for a picture")
    high = float(span[1]) if span[1] != oo else max(max(points, default=low) * 4, low * 1024)
    return low, high if span[1] != oo else 2.0 ** round(log2(high))


def _grid(column: Column, spans: Spans, count: int) -> list[float]:
    """Abscissae within a column and the axes, evenly on a logarithmic scale."""
    low, high = max(float(column.left), spans[0][0]), min(float(column.right), spans[0][1])
    if low >= high:
        return []
    ends = {end * (1 - turn * (1 - low / high) / 2**step) for step in range(3, 24, 2) for end, turn in ((low, -1), (high, 1))}
    return sorted({low * (high / low) ** (step / (count - 1)) for step in range(count)} | {at for at in ends if low < at < high})


def _height(edge: Expr | Section, at: float) -> float:
    """An edge at an abscissa, in floats."""
    if not isinstance(edge, Section):
        return float(edge)
    if edge.formula is not None:
        value: Any = substitute(edge.formula, {edge.x: _short(at)}).evalf()
        return float(value) if value.is_real else float("nan")
    try:
        return float(edge.at(_short(at)))
    except InputError:
        return float("nan")


def _short(at: float) -> Any:
    return cast(Any, Rational(at)).limit_denominator(10**6)


def _look(label: str) -> tuple[str, str]:
    """Colour and hatch of a region."""
    if label in PROMISED:
        return PROMISED[label]
    return BINDS.get(label, ("0.45", ""))[0], HATCHES[[*BINDS].index(label) % len(HATCHES)] if label in BINDS else ""


def _fill(axes: Axes, column: Column, cell: Cell, spans: Spans) -> None:
    colour, hatch = _look(str(cell.label))
    xs = _grid(column, spans, 49)
    if not xs:
        return
    low, high = spans[1]
    below, above = ([min(max(_height(edge, at), low), high) if edge != oo else high for at in xs] for edge in (cell.below, cell.above))
    gid = f"region-{cell.label}"
    axes.fill_between(xs, below, above, facecolor=_paler(colour, 0.28), edgecolor=_paler(colour, 0.6), hatch=hatch, linewidth=0, gid=gid)


def _paler(colour: str, share: float) -> tuple[float, ...]:
    """A colour mixed with white: opaque, so that neighbouring cells leave no seam."""
    from matplotlib.colors import to_rgb

    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


def _points(border: Border, spans: Spans, count: int = 97) -> list[tuple[float, float]]:
    """Points of a border within the axes."""
    if border.is_vertical:
        x = float(border.edge_expr)  # pyright: ignore[reportArgumentType]
        low, high = max(float(border.low_expr), spans[1][0]), min(float(border.high_expr), spans[1][1])
        return [(x, low), (x, high)] if low < high and spans[0][0] < x < spans[0][1] else []
    xs = _grid(Column(border.low_expr, border.high_expr, ()), spans, count)
    points = ((at, _height(border.edge_expr, at)) for at in xs)
    return [point for point in points if spans[1][0] <= point[1] <= spans[1][1]]


def _draw(axes: Axes, border: Border, spans: Spans) -> None:
    points = _points(border, spans)
    if len(points) > 1:
        axes.plot(*zip(*points, strict=True), color="0.1", linewidth=1.3, zorder=4, gid="border")


def _extent(border: Border, spans: Spans) -> float:
    """The length of a border, in parts of the axes."""
    return sum(_apart(one, other, spans) for one, other in pairwise(_points(border, spans, 25)))


def _apart(one: tuple[float, float], other: tuple[float, float], spans: Spans) -> float:
    """The distance of two points, in parts of the axes."""
    return hypot(*(log(a / b) / log(high / low) for a, b, (low, high) in zip(one, other, spans, strict=True)))


def _free(points: list[tuple[float, float]], taken: list[tuple[float, float]], spans: Spans) -> tuple[float, float]:
    """The point of a border for its number: next to its middle, but not on another number."""
    if len(points) == 2:
        (x, low), (_, high) = points
        points = [(x, low * (high / low) ** (step / 40)) for step in range(41)]
    from_middle = sorted(points, key=lambda point: abs(points.index(point) - len(points) // 2))
    return next((point for point in from_middle if all(_apart(point, other, spans) > APART for other in taken)), from_middle[0])


def _written(border: Border) -> str:
    """A border in four digits, where it is one, and what changes there."""
    x, y = (str(each.symbol) for each in border.over)
    causes = ", ".join(border.causes[:4]) + (", ..." if len(border.causes) > 4 else "")
    if border.formula is None:
        return f"{border.equation_expr} = 0   ({causes})"
    value: Any = border.formula.expand() if border.formula.is_rational_function() else border.formula
    text = str(value.evalf(4)).replace("**", "^")
    if border.is_vertical:
        return f"{x} = {text}   ({causes})"
    ends = f"{float(border.low_expr):.4g} " + ("on" if border.high_expr == oo else f"to {float(border.high_expr):.4g}")
    text = text if len(text) <= LONGEST else f"a root of degree {Poly(border.equation_expr, border.over[1].symbol).degree()}, in the table"
    return f"{y} = {text}   for {x} from {ends}   ({causes})"


def _places(found: RegimeMap, spans: Spans) -> list[tuple[float, float, str]]:
    """For every connected region that is wide enough a point well inside it, with its label."""
    raster = _raster(found, spans)
    depth = _depths(raster)
    places: list[tuple[float, float, str]] = []
    seen = [[False] * GRID for _ in range(GRID)]
    for i in range(GRID):
        for j in range(GRID):
            if seen[i][j] or raster[i][j] is None:
                continue
            part, waiting = [], deque([(i, j)])
            seen[i][j] = True
            while waiting:
                one = waiting.popleft()
                part.append(one)
                for a, b in _next(one):
                    if not seen[a][b] and raster[a][b] == raster[i][j]:
                        seen[a][b] = True
                        waiting.append((a, b))
            inner = max(part, key=lambda one: depth[one[0]][one[1]])
            if depth[inner[0]][inner[1]] >= 4:
                x, y = (low * (high / low) ** ((at + 0.5) / GRID) for at, (low, high) in zip(inner, spans, strict=True))
                places.append((x, y, str(raster[i][j])))
    return places


def _next(one: tuple[int, int]) -> list[tuple[int, int]]:
    i, j = one
    return [(a, b) for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)) if 0 <= a < GRID and 0 <= b < GRID]


def _raster(found: RegimeMap, spans: Spans) -> list[list[object]]:
    """The labels on a grid, even on logarithmic scales."""
    raster: list[list[object]] = []
    (x_low, x_high), (low, high) = spans
    for i in range(GRID):
        x = x_low * (x_high / x_low) ** ((i + 0.5) / GRID)
        column = next((column for column in found.columns if float(column.left) <= x <= float(column.right)), None)
        row: list[object] = [None] * GRID
        if column is not None:
            tops = [(_height(cell.above, x), cell.label) for cell in column.cells]
            for j in range(GRID):
                y = low * (high / low) ** ((j + 0.5) / GRID)
                row[j] = next((label for top, label in tops if y <= top), None)
        raster.append(row)
    return raster


def _depths(raster: list[list[object]]) -> list[list[int]]:
    """Steps from every point of the grid to another label or the frame."""
    depth = [[-1] * GRID for _ in range(GRID)]
    waiting: deque[tuple[int, int]] = deque()
    for i in range(GRID):
        for j in range(GRID):
            near = _next((i, j))
            if len(near) < 4 or any(raster[a][b] != raster[i][j] for a, b in near):
                depth[i][j] = 0
                waiting.append((i, j))
    while waiting:
        i, j = waiting.popleft()
        for a, b in _next((i, j)):
            if depth[a][b] < 0:
                depth[a][b] = depth[i][j] + 1
                waiting.append((a, b))
    return depth
