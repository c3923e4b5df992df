"""Borders of a regime map: exact curves and vertical lines, with what changes there and the first whole numbers beyond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

from sympy import Expr, Integer, Rational, ceiling, oo

from symroof.algebra.piecewise import COMPUTE, MEMORY
from symroof.algebra.plane.curves import Edge, Section, height, within
from symroof.algebra.plane.regions import Column
from symroof.algebra.reals import order
from symroof.answers import Answer
from symroof.errors import InputError, SymroofError, quote
from symroof.questions.crossover import Crossover
from symroof.questions.crossovers import crossover
from symroof.symbols import Variable, substitute
from symroof.units import number_of, quantity, unit_of

Over = tuple[Variable, Variable]
NUDGE = Rational(1, 2**60)
"""How far inside a column, relative to its end, a border is followed where it may have no value at the end itself."""


@dataclass(frozen=True)
class Border(Answer):
    """A border between two labels: a branch of a curve over the first variable, or one value of it.

    Attributes
    ----------
    over : the two variables.
    labels : below and above; of a vertical border left and right.
    equation_expr : ``N(x, y)``, which is zero on the border, bare.
    low_expr, high_expr : the interval over which it is a border: of the first variable, of a vertical border of the second; bare.
    edge_expr : the branch, or the value of the variable that is constant on it, bare.
    causes : what changes there: operators, the whole ("total"), "tpot" or "ttft", "capacity"; "saturation" where a window fills;
        "rates" where a wider data type or another step of a collective begins.
    is_vertical : whether it is one value of the first variable.
    first_exprs : the first whole numbers beyond it, at the first whole number of the first variable; None if there are none.
    """

    over: Over
    labels: tuple[str, str]
    equation_expr: Expr
    low_expr: Expr
    high_expr: Expr
    edge_expr: Edge
    causes: tuple[str, ...]
    is_vertical: bool = False
    first_exprs: tuple[Expr, Expr] | None = None
    map: Any = field(default=None, repr=False, compare=False)

    @property
    def formula(self) -> Expr | None:
        """The second variable as a function of the first, or the constant one; None above degree 2."""
        return self.edge_expr.formula if isinstance(self.edge_expr, Section) else self.edge_expr

    def at(self, value: Any) -> Any:
        """The value of the second variable on the border, as a Quantity.

        Raises
        ------
        InputError
            It is a vertical border, or has no point there.
        """
        return quantity(self.at_expr(number_of(value, self.over[0])), unit_of(self.over[1]))

    def at_expr(self, value: Expr) -> Expr:
        """The same, bare."""
        name = self.over[0].name
        if self.is_vertical:
            raise InputError(f"this border is {name} {self.edge_expr}, whatever {self.over[1].name} is")
        if order(value, self.low_expr) < 0 or order(value, self.high_expr) > 0:
            raise InputError(f"{name} {quote(str(value))}: the border is from {self.low_expr} to {self.high_expr}")
        return height(self.edge_expr, value)

    def first_integer_at(self, value: Any) -> int:
        """The first whole number of the second variable that has the label above the border.

        Raises
        ------
        InputError
            As for `at`, or the second variable is no whole number.
        """
        at = number_of(value, self.over[0])
        if self.over[1].domain != "integer":
            raise InputError(f"{self.over[1].name} is not a whole number")
        first = ceiling(self.at_expr(at))
        return int(first if self.map.label_at(at, first) == self.labels[1] else first + 1)

    @cached_property
    def crossover(self) -> Crossover | None:
        """The crossover of the operator that changes there, the first of several, with its symbolic formula and condition; or None."""
        operators = {operator.name for operator, _ in self.map.step.symbolic}
        names = [name for name in self.causes if name in operators]
        if not names or {*self.labels} != {MEMORY, COMPUTE}:
            return None
        over = self.over[0 if self.is_vertical else 1].symbol
        try:
            return crossover(self.map.step.without(*(each.symbol for each in self.over)), names[0], over=over)
        except SymroofError:
            return None


def beside(column: Column, at: Expr) -> Expr:
    """A rational inside a column next to an abscissa of its closure, or the abscissa itself if it is inside."""
    if order(column.left, at) < 0 < order(column.right, at):
        return at
    step = NUDGE * max(abs(Rational(str(at.evalf(20)))), NUDGE)
    if order(at, column.left) <= 0:
        near = within(column.left, column.left + step) if not column.left.is_Rational else column.left + step
        return near if order(near, column.right) < 0 else within(column.left, column.right)
    near = within(column.right - step, column.right) if not column.right.is_Rational else column.right - step
    return near if order(column.left, near) < 0 else within(column.left, column.right)


def curves(found: Any) -> Iterator[Border]:
    """The borders between cells of one column, over neighbouring columns together."""
    last: dict[tuple[Any, ...], Border] = {}
    for column in found.columns:
        here: dict[tuple[Any, ...], Border] = {}
        for below, above in pairwise(column.cells):
            edge, labels = below.above, (below.label, above.label)
            equation = edge.curve if isinstance(edge, Section) else found.over[1].symbol - edge
            before = last.get((edge, labels))
            start = before.low_expr if before is not None and before.high_expr == column.left else column.left
            causes = found.causes(equation)
            here[edge, labels] = Border(found.over, cast(Any, labels), equation, start, column.right, edge, causes, map=found)
        yield from (
            _with_first(border) for key, border in last.items() if here.get(key, border).low_expr != border.low_expr or key not in here
        )
        last = here
    yield from map(_with_first, last.values())


def _with_first(border: Border) -> Border:
    """The border with the first whole numbers beyond it."""
    if any(each.domain != "integer" for each in border.over):
        return border
    start = ceiling(border.low_expr)
    for at in (start, start + 1):
        if order(at, border.high_expr) > 0:
            break
        try:
            return replace(border, first_exprs=(at, Integer(border.first_integer_at(at))))
        except InputError:  # the branch begins at the end of the column
            continue
    return border


def verticals(found: Any) -> Iterator[Border]:
    """The parts of the lines between columns across which the label changes."""
    for left, right in pairwise(found.columns):
        if left.right == right.left:
            yield from _vertical(found, left, right)


def _vertical(found: Any, left: Column, right: Column) -> Iterator[Border]:
    at = left.right
    places = beside(left, at), beside(right, at)
    heights = {id(cell): height(cell.above, place) for column, place in zip((left, right), places, strict=True) for cell in column.cells}
    mine, theirs = [*left.cells], [*right.cells]
    low = height(mine[0].below, places[0])
    exact = {heights[id(cell)]: _end(cell.above, at, heights[id(cell)]) for cell in (*mine, *theirs)} | {low: _end(mine[0].below, at, low)}
    parts: list[tuple[Expr, Expr, tuple[str, str]]] = []
    while mine and theirs:
        labels = cast(tuple[str, str], (mine[0].label, theirs[0].label))
        ends = heights[id(mine[0])], heights[id(theirs[0])]
        top = ends[0] if order(*ends) <= 0 else ends[1]
        if labels[0] != labels[1] and not _close(low, top):
            parts = [*parts[:-1], (parts[-1][0], top, labels)] if parts and parts[-1][1:] == (low, labels) else [*parts, (low, top, labels)]
        mine, theirs = mine[_close(ends[0], top) :], theirs[_close(ends[1], top) :]
        low = top
    for low, top, labels in parts:
        equation = found.vertical(at)
        border = Border(found.over, labels, equation, exact[low], exact[top], at, found.causes(equation), is_vertical=True, map=found)
        yield border if any(each.domain != "integer" for each in found.over) else replace(border, first_exprs=_right_of(border))


def _end(edge: Edge, at: Expr, near: Expr) -> Expr:
    """The height of an edge at an abscissa, exact where it has a formula; otherwise next to the abscissa."""
    if not isinstance(edge, Section) or edge.formula is None:
        return near
    value = substitute(edge.formula, {edge.x: at})
    return value if value.is_finite and _close(value, near) else near


def _close(first: Expr, second: Expr) -> bool:
    """Whether two heights, each next to an abscissa, are of one point above it."""
    if first == second:
        return True
    if oo in (first, second):
        return False
    one, other = (float(value) for value in (first, second))
    return abs(one - other) <= 1e-9 * max(abs(one), abs(other))


def _right_of(border: Border) -> tuple[Expr, Expr]:
    """The first whole point right of a vertical border."""
    first, bottom = ceiling(cast(Expr, border.edge_expr)), ceiling(border.low_expr)
    return (first if border.map.label_at(first, bottom) == border.labels[1] else first + 1), bottom
