"""The regime map: what binds a step over two variables, with exact borders; or where a promise is met and memory suffices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sympy import Expr, Rational, Symbol, oo

from symroof.algebra.plane.curves import Edge, ExponentError, Plane, height
from symroof.algebra.plane.regions import Cell, Column, columns, divided
from symroof.algebra.reals import order
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.roof.costs import TOTAL, costs_of, lowest, require, variable_of
from symroof.roof.ledger import require_device
from symroof.serving.maps.borders import Border, Over, beside, curves, verticals
from symroof.serving.maps.costs import Costs, Memory, Range, Sign, costs_over, memory
from symroof.symbols import option_name
from symroof.units import SECOND, in_unit, number, number_of, quantity, unit_of

MET, VIOLATES, DOES_NOT_FIT = "met", "violates", "does not fit"
RATES = "rates"


@dataclass(frozen=True)
class RegimeCell(Answer):
    """A region of the map between two values of the first variable and two borders over it, on which one label applies.

    Attributes
    ----------
    over : the two variables.
    label : what binds there, or "met", "violates tpot", "violates ttft", "does not fit".
    low_expr, high_expr : the ends in the first variable, bare.
    below_expr, above_expr : the borders in the second variable, bare: a number, or a branch of a curve (`Section`) with its `formula`.
    sample_exprs : a point inside, exact and bare; the label is that of the point, and proved for all others.
    """

    over: Over
    label: str
    low_expr: Expr
    high_expr: Expr
    below_expr: Edge
    above_expr: Edge
    sample_exprs: tuple[Expr, Expr]

    low = in_unit(lambda cell: cell.low_expr, lambda cell: unit_of(cell.over[0]), "Where it begins in the first variable, as a Quantity.")
    high = in_unit(lambda cell: cell.high_expr, lambda cell: unit_of(cell.over[0]), "Where it ends in the first variable, as a Quantity.")

    @property
    def sample(self) -> dict[str, Any]:
        """A point inside, by the names of the variables, as Quantities."""
        return {each.name: quantity(at, unit_of(each)) for each, at in zip(self.over, self.sample_exprs, strict=True)}


@dataclass(frozen=True)
class RegimeMap(Answer):
    """What binds over two variables, in cells with exact borders; or where a promise is met.

    Attributes
    ----------
    step, device : what was asked about.
    over : the two variables.
    operator : whose bound it is; "total" for that of the whole step.
    promise : the promised time, "tpot" or "ttft"; None where none is given.
    limit_expr : its seconds, bare.
    range_exprs : the ends of both variables, bare.
    columns : cells between two values of the first variable each, from the lowest up.

    >>> import symroof
    >>> step = symroof.load_model("llama-3-8b").decode()
    >>> found = regime_map(step, hardware="h100-sxm", operator="up_proj")
    >>> [(cell.label, cell.low_expr) for cell in found], found.borders[0].first_exprs
    ([('memory', 1), ('compute', 141840384/435733)], (326, 1))
    """

    step: Step
    device: Device
    over: Over
    operator: str
    promise: str | None
    limit_expr: Expr | None
    range_exprs: tuple[Range, Range]
    columns: tuple[Column, ...]
    _question: Question = field(repr=False, compare=False)

    limit = in_unit(lambda made: made.limit_expr, SECOND, "The promised time, as a Quantity in seconds, or None.")

    @property
    def ranges(self) -> dict[str, Any]:
        """The ends of both variables, by their names, as Quantities."""
        spans = zip(self.over, self.range_exprs, strict=True)
        return {each.name: tuple(quantity(end, unit_of(each)) for end in span) for each, span in spans}

    def __iter__(self) -> Iterator[RegimeCell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def cells(self) -> tuple[RegimeCell, ...]:
        """The cells, column by column."""
        return tuple(self._cell(cell) for column in self.columns for cell in column.cells)

    def _cell(self, cell: Cell) -> RegimeCell:
        return RegimeCell(self.over, cast(str, cell.label), cell.left, cell.right, cell.below, cell.above, cell.sample)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, each once, in the order in which cells have them."""
        return tuple(dict.fromkeys(cell.label for cell in self.cells))

    def label_at(self, first: Expr, second: Expr) -> str:
        """The label at a point, evaluated there exactly; on a border that of the first of equals, as in `symroof.analyze`."""
        return self._question.at((first, second))

    def at(self, first: Any, second: Any) -> RegimeCell:
        """The cell that contains a point; of several that meet there, one with the point's own label.

        Raises
        ------
        InputError
            The point is outside the ranges.
        """
        point = cast(tuple[Expr, Expr], tuple(number_of(value, each) for value, each in zip((first, second), self.over, strict=True)))
        for each, at, (low, high) in zip(self.over, point, self.range_exprs, strict=True):
            if order(at, low) < 0 or order(at, high) > 0:
                raise InputError(f"{each.name} {quote(str(at))} is outside {low} to {high}")
        label = self.label_at(*point)
        touching = [
            cell
            for column in self.columns
            if order(column.left, point[0]) <= 0 <= order(column.right, point[0])
            for cell in _near(column, point)
        ]
        return self._cell(next((cell for cell in touching if cell.label == label), touching[0]))

    @cached_property
    def borders(self) -> tuple[Border, ...]:
        """The borders between different labels: curves over the first variable, then values of it."""
        return (*curves(self), *verticals(self))

    def causes(self, equation: Expr) -> tuple[str, ...]:
        """What changes where a factor is zero; see `Border.causes`."""
        return self._question.causes_of(equation)

    def vertical(self, at: Expr) -> Expr:
        """The factor in the first variable alone that is zero at a value."""
        return self._question.vertical(at)


def _near(column: Column, point: tuple[Expr, Expr]) -> Iterator[Cell]:
    """The cells of a column that contain a point, or meet it where it is on a border."""
    at, slack = beside(column, point[0]), 1 if beside(column, point[0]) == point[0] else 1 + NEAR
    for cell in column.cells:
        if order(height(cell.below, at), point[1] * slack) <= 0 <= order(height(cell.above, at) * slack, point[1]):
            yield cell


NEAR = Rational(1, 2**40)
"""How near to a border, relative to the point, a point at the end of a column counts as on it."""


@dataclass(frozen=True)
class Question:
    """What is asked at every point: the costs over rectangles, and the promise and the memory that count.

    Attributes
    ----------
    rectangles : costs with the plane they are over.
    asked : the operator, or "total".
    """

    rectangles: tuple[tuple[Costs, Plane], ...]
    asked: str
    promise: tuple[str, Expr] | None
    memory: Memory | None
    found: dict[Expr, dict[str, None]] = field(default_factory=dict)

    def label(self, costs: Costs, sign: Sign) -> str:
        """The label, from the signs on a region or at a point."""
        if self.memory is not None and not self.memory.fits(sign):
            return DOES_NOT_FIT
        if self.promise is None:
            return costs.bound(sign, self.asked)
        name, limit = self.promise
        return f"{VIOLATES} {name}" if sign(costs.time(sign, name) - limit, name) > 0 else MET

    def columns(self) -> tuple[Column, ...]:
        """All cells in columns."""
        return columns(cell for costs, plane in self.rectangles for cell in self._divided(costs, plane))

    def _divided(self, costs: Costs, plane: Plane) -> Iterator[Cell]:
        def decide(sign: Any) -> str:
            def noted(expression: Expr, asked: str) -> int:
                for factor, _ in plane.factors(expression)[1]:
                    self.found.setdefault(factor, {})[asked] = None
                return sign(expression)

            return self.label(costs, noted)

        return divided(plane, decide)

    def at(self, point: tuple[Expr, Expr]) -> str:
        """The label at a point."""
        inside = (
            (costs, plane)
            for costs, plane in self.rectangles
            if all(order(low, at) <= 0 <= order(high, at) for at, (low, high) in zip(point, costs.ranges, strict=True))
        )
        costs, plane = next(inside)
        return self.label(costs, lambda expression, _: plane.sign_at(expression, point))

    def causes_of(self, equation: Expr) -> tuple[str, ...]:
        """What asked for the sign of a factor."""
        return tuple(self.found.get(equation, (RATES,)))

    def vertical(self, at: Expr) -> Expr:
        """The factor in the first variable that is zero at a value."""
        x, y = self.rectangles[0][1].x, self.rectangles[0][1].y
        lines = (factor for factor in self.found if y not in factor.free_symbols)
        return next((line for _, plane in self.rectangles for line in lines if at in plane.zeros(line)), x - at)


def regime_map(
    step: Step,
    over: tuple[str | Symbol, str | Symbol] = ("batch", "seq_len"),
    *,
    hardware: Device | str | Path,
    ceilings: str = STATED,
    operator: str = TOTAL,
    ranges: Mapping[str, tuple[Any, Any]] | None = None,
    tpot: Any = None,
    ttft: Any = None,
    memory_counts: bool | None = None,
) -> RegimeMap:
    """What binds a step, or an operator of it, over two variables; or where a promise is met, in regions with exact borders.

    A region is proved: every sign that decides its label is constant on it. The label is that of `symroof.analyze`: of the whole
    step the resource that most of the time goes to.

    Parameters
    ----------
    step : a step with numbers for all other inputs.
    over : two variables; an exponent, such as the batch that touches experts, can only be the first.
    ceilings : "stated" or "classic".
    operator : whose bound; "total" for the whole step.
    ranges : the ends of a variable, by its name; from the lowest value on without.
    tpot, ttft : a promised time per output token (decode) or to the first token (prefill), in seconds, as a Quantity or as "50 ms";
        the labels are then "met", "violates tpot" or "violates ttft", and "does not fit".
    memory_counts : whether what exceeds the device's memory is "does not fit"; by default with a promise, if a capacity is stated.

    Raises
    ------
    InputError
        A variable is unknown or does not occur, another input is a symbol, formulas count blocks, or the second variable is an
        exponent.

    >>> import symroof
    >>> step = symroof.load_model("llama-3-8b").decode()
    >>> served = symroof.regime_map(step, hardware="h100-sxm", tpot="20 ms")
    >>> served.at(32, 4096).label, served.at(512, 4096).label, served.labels
    ('met', 'does not fit', ('met', 'violates tpot', 'does not fit'))
    """
    device = require_device(hardware, "a map of what binds is numeric")
    if isinstance(over, str) or len(over) != 2:
        raise InputError(f"over {quote(str(over))}: expected two variables, such as batch and seq_len")
    variables = cast(Over, tuple(variable_of(step, name) for name in over))
    if variables[0] == variables[1]:
        raise InputError(f"over {quote(variables[0].name)} twice: expected two different variables")
    step = step.without(*(each.symbol for each in variables))
    cost = costs_of(step, operator)
    for each, name in zip(variables, over, strict=True):
        if each.symbol not in step.symbolic.free_symbols:
            require(step, operator, cost, each, name)
    promise = _promise(step, tpot=tpot, ttft=ttft)
    spans = _ranges(variables, ranges or {})
    counts = memory_counts if memory_counts is not None else promise is not None and device.usable_figure is not None
    room = memory(step, device, variables) if counts else None
    x, y = (each.symbol for each in variables)
    every = costs_over(step, variables, device, operator, ceilings, spans)
    rectangles = tuple((costs, Plane(x, y, *costs.ranges[0], *costs.ranges[1])) for costs in every)
    question = Question(rectangles, operator, promise, room)
    try:
        found = question.columns()
    except ExponentError as error:
        names = ", ".join(option_name(each.symbol) for each in variables)
        hint = "borders are exact over an exponent that is the first variable by itself; experts='at-most' has no exponent"
        raise InputError(f"over {names}: {error}; {hint}") from None
    if not found:
        raise InputError("nothing to map: the ranges are empty")
    return RegimeMap(step, device, variables, operator, *(promise or (None, None)), spans, found, question)


def _promise(step: Step, **given: Any) -> tuple[str, Expr] | None:
    """The promise, by its name, and its seconds."""
    made = {name: number(value, SECOND, name) for name, value in given.items() if value is not None}
    if not made:
        return None
    if len(made) > 1:
        raise InputError("tpot and ttft: give the one that is a promise about this step")
    fitting = "tpot" if step.options.decode else "ttft"
    if fitting not in made:
        raise InputError(f"{next(iter(made))} is no promise about a step of {step.options.phase}: give {fitting}")
    return fitting, made[fitting]


def _ranges(variables: Over, given: Mapping[str, tuple[Any, Any]]) -> tuple[Range, Range]:
    """The range of every variable."""
    names = {name: each for each in variables for name in (each.name, option_name(each.symbol), str(each.symbol))}
    if unknown := [name for name in given if name not in names]:
        raise InputError(f"ranges of {quote(unknown[0])}: the map is over {' and '.join(option_name(each.symbol) for each in variables)}")
    spans = {each: (lowest(each), cast(Expr, oo)) for each in variables}
    for name, (low, high) in given.items():
        each = names[name]
        ends = number_of(low, each), cast(Expr, oo) if high in (None, oo) else number_of(high, each)
        if order(ends[0], lowest(each)) < 0 or order(*ends) >= 0:
            raise InputError(f"ranges of {name}: {low} to {high}: expected two numbers from {lowest(each)} on, the lower one first")
        spans[each] = ends
    return spans[variables[0]], spans[variables[1]]
