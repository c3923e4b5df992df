"""The effect of a technique on FLOPs, bytes and ceilings, when it is faster and by how much at most, derived from its rewrite.

Everything follows from the symbolic costs of one operator, or of the step, before and after the technique. If both are
memory-bound, the technique is faster if it moves fewer bytes per completed token, by ``B / B'``; if both are compute-bound,
if it takes fewer operations, by ``(F / P) / (F' / P')``. In between, and with other ceilings, `symroof.questions.payoff`
gives the exact answer on a device.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from sympy import Expr, Integer, Piecewise, Rational, Symbol, ceiling, factor_terms, floor
from sympy.logic.boolalg import Boolean

from symroof import symbols
from symroof.algebra.piecewise import Piece
from symroof.algebra.polynomial import ratio
from symroof.algebra.univariate import signed
from symroof.architectures.model import load_model
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.loader import load_hardware
from symroof.operators import Level, Resource
from symroof.questions.capacity import memory_of
from symroof.questions.payoff import Payoff, counted, payoff
from symroof.questions.technique_gain import PartCost, positive
from symroof.roof.analysis import analyze
from symroof.roof.costs import branches_of, capacity_values, costs_of, on_branch, symbols_of, variable_of
from symroof.roof.ledger import Cost
from symroof.symbols import Values, lookup, option_name, substitute
from symroof.techniques.registry import chain, with_number
from symroof.techniques.technique import Example, Technique

SIZES = {"batch": 1, "seq_len": 2048}
FARTHEST = 128
"""The largest distance from the best whole number to one that fits."""

WHOLE = 256
"""The number of whole numbers tried if the formulas count blocks of the variable."""


@functools.cache
def effect_of(kind: type[Technique]) -> Effect:
    """The effect of a technique on its example, cached."""
    return Effect(kind)


@dataclass(frozen=True)
class Effect:
    """The effect of a technique on its example.

    Attributes
    ----------
    kind : the technique's class.
    """

    kind: type[Technique]

    @property
    def example(self) -> Example:
        """The technique's example."""
        return self.kind.example

    def technique(self, *, symbolic: bool) -> Technique:
        """The technique with the example's settings; symbolic with all their numbers as symbols."""
        settings: dict[str, Any] = dict(self.example.settings)
        if symbolic:
            known = {name: one.metadata.get("symbol") for name, one in self.kind.__dataclass_fields__.items()}
            settings = {name: known[name] if known[name] is not None else value for name, value in settings.items()}
        return self.kind(**settings)

    @functools.cache  # noqa: B019 - an effect lives as long as the process
    def step(self, *, over: bool) -> Step:
        """The example's numeric step; without a number for the variable if it is an input of the step."""
        inputs = {**SIZES, **self.example.inputs}
        if over:
            inputs.pop(self.example.over, None)
        model = load_model(self.example.model)
        return getattr(model, self.example.phase)(**inputs).with_widths().apply(*chain([self.example.before]))

    @functools.cache  # noqa: B019 - the same
    def pair(self, *, over: bool, symbolic: bool = False) -> tuple[Step, Step]:
        """The compared steps: the example's step or its baseline, and the step after the technique."""
        step = self.step(over=over)
        return step.apply(*chain([self.example.against])), step.apply(self.technique(symbolic=symbolic))

    @cached_property
    def sides(self) -> tuple[PartCost, PartCost]:
        """The symbolic costs before and after."""
        before, after = self.pair(over=True, symbolic=True)
        return PartCost(self._cost_of(before)[0], before.symbolic), PartCost(self._cost_of(after)[0], after.symbolic)

    @property
    def where(self) -> Boolean | None:
        """The condition of the symbolic costs: whether keys and values fit the cache, as in the example; None if always valid."""
        return self._cost_of(self.pair(over=True, symbolic=True)[1])[1]

    def _cost_of(self, step: Step) -> tuple[tuple[Cost, ...], Boolean | None]:
        """The symbolic costs, on the branch of the example for passes over keys and values."""
        cost = costs_of(step, self.example.part)
        positions = step.symbolic.definitions.get(symbols.R)
        if not isinstance(positions, Piecewise) or symbols.R not in symbols_of(cost):
            return cost, None
        here = (
            one
            for one in branches_of(step, cost, cast(set[Symbol], positions.free_symbols))
            if all(substitute(margin, self.numbers) >= 0 for margin in one.margins)
        )
        branch = next(here)
        return on_branch(cost, branch), branch.where

    @property
    def flop_factor(self) -> Expr:
        """FLOPs after over FLOPs before, symbolic."""
        return _ratio(*(side.over(Resource.COMPUTE) for side in self.sides))

    @property
    def byte_factor(self) -> Expr:
        """Bytes after over bytes before, symbolic."""
        return _ratio(*(side.over(Resource.MEMORY) for side in self.sides))

    @property
    def further(self) -> dict[Level, Expr]:
        """Bytes that cross other levels after the technique, symbolic."""
        moved = {level: self.sides[1].over(Resource(level)) for level in Level if level is not Level.MEMORY}
        return {level: factor_terms(value) for level, value in moved.items() if value != 0}

    @cached_property
    def memory_gain(self) -> Expr:
        """Bytes saved per token with factors on ceilings, symbolic; if positive, it is faster when both sides are memory-bound."""
        before, after = self.sides
        return before.seconds(Resource.MEMORY) - after.seconds(Resource.MEMORY)

    @cached_property
    def compute_gain(self) -> Expr:
        """FLOPs saved per token with factors on ceilings, symbolic."""
        before, after = self.sides
        return before.seconds(Resource.COMPUTE) - after.seconds(Resource.COMPUTE)

    @property
    def memory_bound(self) -> Boolean | bool | None:
        """The symbolic condition of fewer bytes per token; None if that is not a polynomial condition."""
        return positive(self.memory_gain)

    @property
    def compute_bound(self) -> Boolean | bool | None:
        """The symbolic condition of fewer operations per token; None if that is not a polynomial condition."""
        return positive(self.compute_gain)

    @cached_property
    def payoff(self) -> Payoff:
        """The payoff on the example's device, over its variable."""
        before, after = self.pair(over=True)
        asked: dict[str, Any] = {"over": self.example.over, "hardware": self.example.hardware, "operator": self.example.part}
        try:
            return payoff(before, after, **asked)
        except InputError:
            if lookup(self.example.over).domain != "integer":
                raise
            return counted(before, after, last=WHOLE, **asked)

    @cached_property
    def device_payoff(self) -> Payoff | None:
        """The payoff by throughput per device; None if both sides run on one device."""
        before, after = self.pair(over=True)
        return None if before.symbolic.devices == after.symbolic.devices == 1 else self.payoff.of_devices(before, after)

    @cached_property
    def best(self) -> tuple[Expr, Expr]:
        """The largest speedup over the range and its position: an end of an interval or a zero of the slope; a whole number for
        integer variables.
        """
        found, whole = self.payoff, self.payoff.over.domain == "integer"
        x = found.before.x
        slope = found.before.overlay(found.after, lambda before, after: before.diff(x) * after - before * after.diff(x))  # the ratio's sign
        points = {point for piece in slope.pieces for point in (piece.low, *_turns(piece, slope.x), piece.high) if point.is_finite}
        if whole:
            points = {near for point in points for near in (floor(point), ceiling(point))}
        inside = [point for point in points if point > 0 and slope.low <= point <= slope.high]
        if whole:
            inside = {near for point in inside for near in self._fitting(point, slope.low, slope.high)}
        return max(((found.speedup(point), point) for point in sorted(inside) or [Integer(1)]), key=lambda one: one[0])

    def _fitting(self, point: Expr, low: Expr, high: Expr) -> list[Expr]:
        """The nearest whole numbers on either side that the technique accepts."""
        found: list[Expr] = []
        for way in (-1, 1):
            near = (point + way * step for step in range(FARTHEST))
            found += next(([one] for one in near if low <= one <= high and self._fits(one)), [])
        return found

    @functools.cache  # noqa: B019 - an effect lives as long as the process
    def _fits(self, point: Expr) -> bool:
        symbol = lookup(self.example.over).symbol
        technique = with_number([self.technique(symbolic=False)], symbol, point)[0]
        step = self.step(over=False)
        try:
            technique.check(step if self.own else fixed(step, self.example.over, point))
        except InputError:
            return False
        return True

    @cached_property
    def memory_factor(self) -> Expr:
        """Bytes of weights, KV cache and activations after the technique over those before, numeric."""
        sizes = [substitute(memory_of(one), self.numbers) for one in self.pair(over=False)]
        return sizes[1] / sizes[0]

    @cached_property
    def roofs(self) -> tuple[str, str]:
        """The data types of the operators before and after, with the factor on the peak if it is not 1."""
        sides = []
        pair = self.pair(over=False)
        for one in pair if self.at is None else (fixed(one, self.example.over, self.at) for one in pair):
            names = {cost.operator.name for cost in costs_of(one, self.example.part) if cost.flops != 0}
            analysis = analyze(one, self.example.hardware)
            types = dict.fromkeys(
                f"{placed.data_type}{' sparse' if placed.operator.sparse else ''}"
                + (f" of {unit.title}" if (unit := placed.operator.unit) else "")
                for placed in analysis
                if placed.name in names
            )
            sides.append(", ".join(types))
        return sides[0], sides[1]

    @property
    def own(self) -> bool:
        """Whether the variable is a parameter of the technique, not an input of the step."""
        return lookup(self.example.over).symbol not in (symbols.b, symbols.s, symbols.t)

    @property
    def at(self) -> Expr | None:
        """The value of the technique's own variable for figures: the example's, otherwise that of the largest speedup."""
        if not self.own:
            return None
        return self.best[1] if self.example.at is None else Rational(cast(Any, self.example.at))

    @cached_property
    def numbers(self) -> Values:
        """The values of the symbols in the example, including its variable."""
        _, after = self.pair(over=False)
        known = {symbol: value for symbol, value in after.symbolic.definitions.items() if value.is_number} | dict(after.values)
        known |= dict(self.step(over=False).values)
        known |= capacity_values(after, load_hardware(self.example.hardware))
        known |= {symbol: value for symbol, value in after.symbolic.bind(known).definitions.items() if value.is_number}
        return known if self.at is None else {**known, lookup(self.example.over).symbol: self.at}

    @property
    def point(self) -> str:
        """The variable and the value at which numbers are evaluated."""
        symbol = variable_of(self.step(over=False), self.example.over).symbol
        value = self.numbers[symbol]
        return f"{option_name(symbol)} {value if value.is_integer else f'{float(value):.4g}'}"


def _turns(piece: Piece, x: Symbol) -> list[Expr]:
    """The zeros of a slope inside a piece."""
    return [] if piece.is_point else signed(piece.value, x).roots(piece.low, piece.high)


def fixed(step: Step, over: str, value: Expr) -> Step:
    """The step with a number for one of its variables."""
    return replace(step, values={**step.values, variable_of(step, over).symbol: value})


def _ratio(before: Expr, after: Expr) -> Expr:
    return ratio(after, before) if before != 0 else Integer(1)
