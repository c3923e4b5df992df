"""Where a technique pays: the stretches of a variable on which a step is faster after it than before, exactly.

What is compared is time per completed token, ``time / tokens``, so that a step that completes several tokens of a
sequence (speculative decoding) and one that completes one are held against each other fairly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from sympy import Expr, Integer, S

from symroof.algebra.intervals import Interval, between, roots
from symroof.algebra.polynomial import polynomial
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.regimes import Regime, timeline
from symroof.roof.costs import TOTAL, costs_of, lowest, variable_of
from symroof.roof.ledger import device_of
from symroof.symbols import Variable, substitute

PAYS, LOSES, SAME = "pays", "loses", "the same"


@dataclass(frozen=True)
class Payoff(Answer):
    """Where a changed step takes less time per token than the unchanged one, over one variable.

    Attributes
    ----------
    intervals : the stretches, in order; where both take equally long belongs to neither side.
    before, after : seconds per token on every stretch, for `speedup`.
    tried : whether whole numbers were gone through one by one; nothing is said beyond the last.
    """

    over: Variable
    part: str
    intervals: tuple[Interval, ...]
    before: tuple[Regime, ...]
    after: tuple[Regime, ...]
    tried: bool = False

    def speedup(self, value: int | Expr) -> Expr:
        """Time before over time after, at a value, exactly.

        Raises
        ------
        InputError
            The value is outside the range.
        """
        at = S(value) if isinstance(value, int) else value
        return _time(self.before, self.over, at) / _time(self.after, self.over, at)

    @property
    def edges(self) -> tuple[Expr, ...]:
        """Where paying begins or ends."""
        return tuple(one.low for one in self.intervals[1:])


def _time(regimes: Sequence[Regime], over: Variable, at: Expr) -> Expr:
    for regime in regimes:
        if regime.low <= at <= regime.high:
            return substitute(regime.time, {over.symbol: at})
    raise InputError(f"{over.name} {quote(at)} is outside {regimes[0].low} to {regimes[-1].high}")


def payoff(before: Step, after: Step, *, over: str, hardware: Device | str | Path, part: str = TOTAL, ceilings: str = STATED) -> Payoff:
    """Where the step is faster after a technique than before, per completed token.

    Parameters
    ----------
    before, after : the step and the same step after techniques, every other input a number in both.
    over : any variable, one of the technique's own included.
    part : the whole step, or one operator with what the technique made of it.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    InputError
        The variable is unknown, another input is a symbol, or the times are no rational functions of it.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> found = symroof.payoff(step, step.apply(symroof.technique("quantize:weights=4,group=128")), over="batch", hardware="a100-sxm-80gb")
    >>> found.intervals[0].bound, found.speedup(1) > 2
    ('pays', True)
    """
    variable, device = variable_of(before, over), device_of(hardware)
    if device is None:
        raise InputError("give a device: whether a technique pays is told in numbers")
    told = [timeline(step, variable, device, part, ceilings) for step in (before, after)]
    return Payoff(variable, part, _compared(variable, *told), told[0], told[1])


def _compared(variable: Variable, before: Sequence[Regime], after: Sequence[Regime]) -> tuple[Interval, ...]:
    low = max(before[0].low, after[0].low, lowest(variable))
    high = min(before[-1].high, after[-1].high)
    found: list[Interval] = []
    for old in before:
        for new in after:
            left, right = max(old.low, new.low, low), min(old.high, new.high, high)
            if left < right:
                found += _on(variable, old.time - new.time, left, right)
    return _joined(sorted(found, key=lambda one: one.low))


def _on(variable: Variable, gain: Expr, low: Expr, high: Expr) -> list[Interval]:
    sign = polynomial(gain, variable.symbol)
    edges = [low, *(root for root in roots(sign) if low < root < high), high]
    found = []
    for left, right in pairwise(edges):
        value = sign(between(left, right))
        found.append(Interval(left, right, SAME if value == 0 else PAYS if value > 0 else LOSES))
    return found


def _joined(found: Sequence[Interval]) -> tuple[Interval, ...]:
    joined: list[Interval] = []
    for one in found:
        if joined and joined[-1].bound == one.bound:
            joined[-1] = Interval(joined[-1].low, one.high, one.bound)
        else:
            joined.append(one)
    return tuple(joined)


def counted(
    before: Step, after: Step, *, over: str, hardware: Device | str | Path, last: int, part: str = TOTAL, ceilings: str = STATED
) -> Payoff:
    """The same over the whole numbers from 1 to *last*, one by one: for what is no rational function of the variable.

    Raises
    ------
    InputError
        The variable does not count, or another input is a symbol.
    """
    variable, device = variable_of(before, over), device_of(hardware)
    if device is None or variable.domain != "integer":
        raise InputError(f"{quote(over)}: whole numbers one by one need a device, and a variable that counts")
    values = [Integer(value) for value in range(1, last + 1)]
    alone = [_alone(step, part) for step in (before, after)]
    told = [tuple(_at(step, variable, device, value, part, ceilings) for value in values) for step in alone]
    signs = [old.time - new.time for old, new in zip(*told, strict=True)]
    single = [
        Interval(Integer(place), Integer(place), SAME if gain == 0 else PAYS if gain > 0 else LOSES) for place, gain in enumerate(signs, 1)
    ]
    return Payoff(variable, part, _joined(single), told[0], told[1], tried=True)


def _alone(step: Step, part: str) -> Step:
    """The step with no operators but those of the part."""
    names = {one.operator.name for one in costs_of(step, part)}
    blocks = [replace(block, operators=tuple(one for one in block.operators if one.name in names)) for block in step.symbolic.blocks]
    return replace(step, symbolic=replace(step.symbolic, blocks=tuple(block for block in blocks if block.operators)))


def _at(step: Step, variable: Variable, device: Device, value: Expr, part: str, ceilings: str) -> Regime:
    bound = replace(step, symbolic=step.symbolic.bind({variable.symbol: value}), values={**step.values, variable.symbol: value})
    first = timeline(bound, variable, device, part, ceilings)[0]
    return Regime(value, value, substitute(first.time, {variable.symbol: value}), first.compute_bound)
