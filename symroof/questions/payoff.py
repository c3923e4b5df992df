"""Payoff: the intervals of a variable on which a step is faster after a technique than before, exact.

The comparison is by latency, the time per completed token of a sequence, ``time / tokens``, so that steps that complete
several tokens (speculative decoding) compare fairly. Steps on several devices can also be compared by device-seconds per
token, ``devices x time / tokens``, which at a given batch is lower exactly if throughput per device is higher.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, cast

from sympy import Add, Expr, Integer, Symbol, factor_terms

from symroof.algebra.envelope import counted as pointwise
from symroof.algebra.piecewise import Piece, Piecewise
from symroof.algebra.polynomial import polynomial
from symroof.algebra.reals import order
from symroof.answers import Answer, Intervals, intervals
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.regimes import timeline
from symroof.roof.costs import TOTAL, costs_of, in_full, variable_of
from symroof.roof.ledger import device_of
from symroof.symbols import Variable, substitute
from symroof.units import COUNT, in_unit, number_of, quantity, unit_of

PAYS, LOSES, SAME = "pays", "loses", "the same"
EACH = 64
"""The number of whole numbers that are all tried if no formula decides."""


@dataclass(frozen=True)
class Payoff(Answer):
    """Where a changed step takes less time per token than the unchanged one, over one variable.

    Attributes
    ----------
    sides : seconds saved per token, labelled "pays", "loses" or "the same".
    before, after : seconds per token, for `speedup`; device-seconds if compared per device.
    per_device : whether throughput per device is compared instead of latency.
    tried : the number of whole numbers tried one by one if no formula decides; nothing is known beyond the last.
    """

    over: Variable
    part: str
    sides: Piecewise
    before: Piecewise
    after: Piecewise
    tried: int = 0
    per_device: bool = False

    @classmethod
    def between(cls, over: Variable, part: str, before: Piecewise, after: Piecewise, *, tried: int = 0, per_device: bool = False) -> Self:
        """The payoff from seconds, or device-seconds, per token before and after."""
        return cls(over, part, before.compare(after, (PAYS, LOSES, SAME)), before, after, tried, per_device)

    def of_devices(self, before: Step, after: Step) -> Self:
        """The same by throughput per device: seconds times the devices that share a step, which may be the variable."""

        def device_seconds(times: Piecewise, step: Step) -> Piecewise:
            known = {**step.symbolic.definitions, **step.values}
            devices = substitute(step.symbolic.devices, {symbol: value for symbol, value in known.items() if symbol != self.over.symbol})
            return times.map(lambda value: devices * value)

        old, new = device_seconds(self.before, before), device_seconds(self.after, after)
        return self.between(self.over, self.part, old, new, tried=self.tried, per_device=True)

    def speedup(self, value: Any) -> Any:
        """`speedup_expr`, as a Quantity without a unit; the value a number, a Quantity or text with a unit."""
        return quantity(self.speedup_expr(number_of(value, self.over)), COUNT)

    def speedup_expr(self, value: int | Expr) -> Expr:
        """Time before over time after at a value, exact; per device, throughput after over throughput before.

        Raises
        ------
        InputError
            The value is outside the range.
        """
        return self.before(value) / self.after(value)

    edges = in_unit(lambda answer: answer.edges_expr, lambda answer: unit_of(answer.over), "Where the verdict changes, as Quantities.")

    @functools.cached_property
    def intervals(self) -> Intervals:
        """The intervals in order; points with equal times belong to neither side."""
        return intervals(self.over, self.pieces)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The same, with bare ends."""
        return self.sides.pieces

    @property
    def edges_expr(self) -> tuple[Expr, ...]:
        """The values at which the verdict changes, bare."""
        return self.sides.edges


def payoff(
    before: Step,
    after: Step,
    *,
    over: str | Symbol,
    hardware: Device | str | Path,
    operator: str = TOTAL,
    ceilings: str = STATED,
    per_device: bool = False,
) -> Payoff:
    """Where a step is faster after a technique than before, per completed token, or has more throughput per device.

    Parameters
    ----------
    before, after : the step and the same step after techniques, with numbers for all other inputs.
    over : any variable, including parameters of the technique.
    operator : "total", or one operator including those that the technique derived from it.
    ceilings : the ceiling set, as in `symroof.analyze`.
    per_device : compare tokens per second and device instead of time per token.

    Raises
    ------
    InputError
        The variable is unknown, another input is a symbol, or a formula counts blocks of it.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> found = symroof.payoff(step, step.apply(symroof.technique("quantize:weights=4,group=128")), over="batch", hardware="a100-sxm-80gb")
    >>> found.intervals[0].bound, found.speedup(1) > 2
    ('pays', True)
    >>> eight = step.apply(symroof.technique("tensor-parallel:degree=8"))
    >>> asked = {"over": "batch", "hardware": "a100-sxm-80gb"}
    >>> latency, throughput = (symroof.payoff(step, eight, **asked, per_device=each) for each in (False, True))
    >>> latency.sentence, throughput.sentence, latency.speedup(1) == 8 * throughput.speedup(1)
    ('faster at every batch', 'per device: slower at every batch', True)
    """
    variable, device = variable_of(before, over), device_of(hardware)
    if device is None:
        raise InputError("give a device: payoffs are numeric")
    old, new = (timeline(step, variable, device, operator, ceilings) for step in (before, after))
    found = Payoff.between(variable, operator, old, new)
    return found.of_devices(before, after) if per_device else found


def counted(
    before: Step,
    after: Step,
    *,
    over: str | Symbol,
    hardware: Device | str | Path,
    last: int,
    operator: str = TOTAL,
    ceilings: str = STATED,
    per_device: bool = False,
) -> Payoff:
    """The payoff over whole numbers from 1 to *last*, for formulas that count blocks.

    All numbers up to 64 are tried; beyond, numbers in steps of 9 %, with bisection between neighbours of different verdict.

    Raises
    ------
    InputError
        The variable is not an integer, or another input is a symbol.
    """
    variable, device = variable_of(before, over), device_of(hardware)
    if device is None or variable.domain != "integer":
        raise InputError(f"{quote(str(over))}: trying whole numbers needs a device, and an integer variable")
    old, new = (_at_each(_alone(step, operator), variable, device, operator, ceilings) for step in (before, after))
    numbers = _tried(last, lambda number: order(old(number)[0], new(number)[0]))
    times = (pointwise(variable.symbol, numbers, at) for at in (old, new))
    found = Payoff.between(variable, operator, *times, tried=len(numbers))
    return found.of_devices(before, after) if per_device else found


def _tried(last: int, sign: Callable[[int], int]) -> list[int]:
    """The numbers to try: all small ones, then geometric steps, then both sides of every change of sign."""
    numbers = [*range(1, min(last, EACH) + 1)]
    while numbers[-1] < last:
        numbers.append(min(last, numbers[-1] * 12 // 11))
    gaps = [(low, high) for low, high in pairwise(numbers) if high - low > 1]
    while gaps:
        low, high = gaps.pop()
        if high - low > 1 and sign(low) != sign(high):
            middle = (low + high) // 2
            numbers.append(middle)
            gaps += [(low, middle), (middle, high)]
    return sorted(numbers)


def _alone(step: Step, part: str) -> Step:
    """The step with only the operators of the part."""
    names = {one.operator.name for one in costs_of(step, part)}
    blocks = [replace(block, operators=tuple(one for one in block.operators if one.name in names)) for block in step.symbolic.blocks]
    return replace(step, symbolic=replace(step.symbolic, blocks=tuple(block for block in blocks if block.operators)))


def _at_each(step: Step, variable: Variable, device: Device, part: str, ceilings: str) -> Callable[[int], tuple[Expr, frozenset[str]]]:
    """A function for the time at a whole number and the compute-bound operators there."""

    @functools.cache
    def at(value: int) -> tuple[Expr, frozenset[str]]:
        number = Integer(value)
        bound = replace(step, symbolic=step.symbolic.bind({variable.symbol: number}), values={**step.values, variable.symbol: number})
        first = timeline(bound, variable, device, part, ceilings).pieces[0]
        return substitute(first.value, {variable.symbol: number}), cast(frozenset[str], first.label)

    return at


@dataclass(frozen=True)
class BreakEven(Answer):
    """The value of a variable at which two steps cost the same per completed token; None if it does not depend on it.

    Attributes
    ----------
    flops_expr : the value of equal FLOPs, which decides if both are compute-bound under the same peak, bare.
    traffic_expr : the value of equal memory traffic, which decides if both are memory-bound, bare.
    part : the operator, or "total".
    before, after : the steps.
    """

    over: Variable
    flops_expr: Expr | None
    traffic_expr: Expr | None
    part: str = field(repr=False)
    before: Step = field(repr=False, compare=False)
    after: Step = field(repr=False, compare=False)

    flops = in_unit(lambda answer: answer.flops_expr, lambda answer: unit_of(answer.over), "Where FLOPs are equal, as a Quantity, or None.")
    traffic = in_unit(lambda answer: answer.traffic_expr, lambda answer: unit_of(answer.over), "Where traffic is, as a Quantity, or None.")


def break_even(before: Step, after: Step, *, over: str | Symbol, operator: str = TOTAL) -> BreakEven:
    """The symbolic value at which *after* costs as much as *before*, such as the largest rank or density that helps.

    Parameters
    ----------
    before, after : a step before and after techniques, or after two different techniques.
    over : a variable.
    operator : "total", or one operator including those that techniques derived from it.

    Raises
    ------
    InputError
        The difference is of a higher degree in the variable.

    >>> import symroof
    >>> from symroof.techniques.registry import technique
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> found = break_even(step, step.apply(technique("low-rank")), over="rank", operator="up_proj")
    >>> print(found.flops, "and", found.traffic)
    d*f/(d + f) and d*f*w/(2*a*b + d*w + f*w)
    """
    variable = variable_of(before, over)
    flops: list[Expr] = []
    traffic: list[Expr] = []
    for step in (before, after):
        cost = costs_of(step, operator)
        for amounts, amount in ((flops, Add(*(one.flops for one in cost))), (traffic, Add(*(one.traffic for one in cost)))):
            amounts.append(in_full(amount, step.symbolic.definitions) / step.symbolic.tokens)
    equal = (_equal(flops[0], flops[1], variable), _equal(traffic[0], traffic[1], variable))
    return BreakEven(variable, *equal, operator, before, after)


def _equal(before: Expr, after: Expr, variable: Variable) -> Expr | None:
    gain = polynomial(after - before, variable.symbol) if before != after else None
    if gain is None or gain.degree < 1:
        return None
    if gain.degree > 1:
        raise InputError(f"{variable.name}: the difference has degree {gain.degree} in it, so there is no single break-even value")
    rest, slope = gain.coefficients
    return factor_terms(-rest / slope)
