"""Regions of a plane on which a label is constant, proved: the rectangle is divided until every sign that decides is constant.

A decision asks for the signs of expressions. Where a sign is not constant on a region, the region is divided: by vertical lines
where the curve's branches begin, end, turn or leave the region, and between them along the branches. In the end the regions
are laid out in columns: between two abscissae the borders are ordered (a cylindrical decomposition, Collins 1975).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from functools import cmp_to_key
from itertools import pairwise

from sympy import Expr

from symroof.algebra.plane.curves import Edge, Plane, Section, height, lifted, within
from symroof.algebra.reals import ascending, order
from symroof.errors import InputError
from symroof.notation import Brief

Decide = Callable[[Callable[[Expr], int]], Hashable]
"""From the function that answers for signs to a label."""
MOST = 20_000
"""The largest number of regions into which a plane is divided."""


@dataclass(frozen=True)
class Cell(Brief):
    """A region between two abscissae and two edges, open, with a point inside it.

    Attributes
    ----------
    left, right : its abscissae.
    below, above : its edges.
    sample : a point inside, exact.
    label : what is decided on it.
    """

    left: Expr
    right: Expr
    below: Edge
    above: Edge
    sample: tuple[Expr, Expr]
    label: Hashable = None
    signs: dict[Expr, int] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Column(Brief):
    """The cells between two abscissae, from the lowest up."""

    left: Expr
    right: Expr
    cells: tuple[Cell, ...]


class _CutError(Exception):
    """A sign that is not constant on a cell."""

    def __init__(self, parts: list[Cell]) -> None:
        self.parts = parts


def divided(plane: Plane, decide: Decide) -> Iterator[Cell]:
    """Cells that cover the rectangle, each with its label.

    >>> from sympy import Integer, oo
    >>> from sympy.abc import x, y
    >>> plane = Plane(x, y, Integer(1), Integer(9), Integer(1), oo)
    >>> for column in columns(divided(plane, lambda sign: "above" if sign(y - x) > 0 else "below")):
    ...     print(column.left, column.right, [cell.label for cell in column.cells])
    1 9 ['below', 'above']

    Raises
    ------
    InputError
        An expression has no curve, or there are more than `MOST` regions.
    """
    if order(plane.left, plane.right) >= 0 or order(plane.low, plane.high) >= 0:
        return
    waiting, count = [_cell(plane.left, plane.right, plane.low, plane.high)], 0
    while waiting:
        cell = waiting.pop()
        count += 1
        if count > MOST:
            raise InputError(f"more than {MOST} regions over {plane.x} and {plane.y}: ask over one variable, or of one operator")
        try:
            yield replace(cell, label=decide(lambda expression, cell=cell: _sign(plane, cell, expression)))
        except _CutError as cut:
            waiting += reversed(cut.parts)


def _cell(left: Expr, right: Expr, below: Edge, above: Edge, signs: dict[Expr, int] | None = None) -> Cell:
    at = within(left, right)
    return Cell(left, right, below, above, (at, within(height(below, at), height(above, at))), None, dict(signs or {}))


def _sign(plane: Plane, cell: Cell, expression: Expr) -> int:
    """The sign of an expression on a cell, or a cut."""
    total, factors = plane.factors(expression)
    for factor, power in factors:
        if factor not in cell.signs:
            parts = _split(plane, cell, factor)
            if parts is not None:
                raise _CutError(parts)
            cell.signs[factor] = plane.sign_at(factor, cell.sample)
        total *= cell.signs[factor] ** power
    return total


def _split(plane: Plane, cell: Cell, factor: Expr) -> list[Cell] | None:
    """The parts of a cell on which a factor has one sign each; None if that is so already."""
    if plane.y not in factor.free_symbols:
        cuts = _between(plane.zeros(factor), cell)
        return [_cell(*ends, cell.below, cell.above, cell.signs) for ends in pairwise((cell.left, *cuts, cell.right))] if cuts else None
    every = [*plane.turns(factor), *plane.meets(factor, cell.below), *plane.meets(factor, cell.above)]
    parts: list[tuple[Expr, Expr, list[Section]]] = []
    for left, right in pairwise((cell.left, *_between(ascending(every), cell), cell.right)):
        inner = _branches(plane, cell, factor, within(left, right))
        start = parts.pop()[0] if not inner and parts and not parts[-1][2] else left
        parts.append((start, right, inner))
    if not any(inner for *_, inner in parts):
        return None
    return [
        _cell(left, right, below, above, cell.signs)
        for left, right, inner in parts
        for below, above in pairwise((cell.below, *inner, cell.above))
    ]


def _between(abscissae: list[Expr], cell: Cell) -> list[Expr]:
    return [one for one in abscissae if order(cell.left, one) < 0 < order(cell.right, one)]


def _branches(plane: Plane, cell: Cell, factor: Expr, point: Expr) -> list[Section]:
    """The branches of a curve inside a cell at an abscissa."""
    low, high = height(cell.below, point), height(cell.above, point)
    roots = enumerate(lifted(factor, plane.x, plane.y, point))
    return [Section(factor, plane.x, plane.y, place) for place, root in roots if order(low, root) < 0 < order(high, root)]


def columns(cells: Iterator[Cell]) -> tuple[Column, ...]:
    """The cells in columns, cells of one label together where they meet."""
    every = [*cells]
    ends = ascending(end for cell in every for end in (cell.left, cell.right))
    made: list[Column] = []
    for left, right in pairwise(ends):
        at = within(left, right)
        here = [cell for cell in every if order(cell.left, left) <= 0 and order(cell.right, right) >= 0]
        if not here:
            continue
        lows = {id(cell): height(cell.below, at) for cell in here}
        here.sort(key=cmp_to_key(lambda one, other, lows=lows: order(lows[id(one)], lows[id(other)])))
        stack: list[Cell] = []
        for cell in here:
            if stack and stack[-1].label == cell.label:
                stack[-1] = replace(stack[-1], above=cell.above)
            else:
                stack.append(replace(cell, left=left, right=right, signs={}))
        made.append(Column(left, right, tuple(stack)))
    return tuple(_placed(column) for column in _joined(made))


def _joined(every: list[Column]) -> list[Column]:
    """Neighbouring columns together where labels and edges are the same."""
    joined: list[Column] = []
    for column in every:
        last = joined[-1] if joined else None
        if last is not None and last.right == column.left and _stack(last) == _stack(column):
            joined[-1] = Column(last.left, column.right, last.cells)
        else:
            joined.append(column)
    return joined


def _stack(column: Column) -> list[tuple[Edge, Edge, Hashable]]:
    return [(cell.below, cell.above, cell.label) for cell in column.cells]


def _placed(column: Column) -> Column:
    """The column with the ends and a sample of its own for every cell."""
    cells = (replace(_cell(column.left, column.right, cell.below, cell.above), label=cell.label, signs={}) for cell in column.cells)
    return Column(column.left, column.right, tuple(cells))
