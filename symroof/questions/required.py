"""Inverse design: the value of a resource or an input at which a step reaches a target."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from sympy import Expr, Integer, Symbol, ceiling, floor, oo

from symroof import symbols
from symroof.algebra.piecewise import Piece, Piecewise
from symroof.algebra.polynomial import polynomial
from symroof.algebra.reals import order
from symroof.algebra.signs import solve_symbolic
from symroof.algebra.univariate import is_exponential
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError, SymroofError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.capacity import Room, memory_of, room_over, usable_capacity
from symroof.questions.regimes import Regimes, regimes
from symroof.roof.costs import needed
from symroof.symbols import Variable, option_name, substitute
from symroof.techniques.registry import rounded, whole_multiple, with_number
from symroof.units import BYTE, PER_SECOND, SECOND, TOKEN_RATE, Quantity, in_unit, number, quantity, unit_of

TRIED = 1024
"""The largest number of devices tried to find the fewest that the techniques support."""

RESOURCES = {symbols.BW: ("compute", "bandwidth", "raise the peak"), symbols.P: ("memory traffic", "peak", "raise the bandwidth")}
"""For each resource: the time that it does not affect, its name, and advice."""


class ImpossibleError(InputError):
    """No value of the variable reaches the target; the message says why.

    >>> raise ImpossibleError("impossible: compute alone takes 2 s")
    Traceback (most recent call last):
        ...
    symroof.questions.required.ImpossibleError: impossible: compute alone takes 2 s
    """


@dataclass(frozen=True)
class Requirement(Answer):
    """The required value of a variable, by time and by memory.

    Attributes
    ----------
    variable : the variable solved for.
    formula : the answer as a function of the target time T, in its regime; None if it is an end of the regime, or for a
        rate over the batch.
    value_expr : the exact number by time, bare: the least that suffices, or for an input the most that is allowed.
    relation : ">=" if more of the variable helps, "<=" if less does.
    time_expr : seconds of the step at the value, bare.
    integer : the value rounded to a whole number within the target; for devices, the fewest that suffice and that the techniques
        support; None for a real variable.
    step, device : what was asked about.
    least_expr : the least value that suffices, if too little of the variable is too slow as well, bare.
    fewest : whether the variable counts devices, of which the fewest are wanted.
    room : the limits set by memory; None if the device states no capacity, or the formulas count blocks.
    misfit : why a technique does not support the whole number; empty if it does.
    multiple : what a whole number must be a multiple of, because techniques split the variable evenly.
    times : seconds of the step over the variable.
    """

    variable: Variable
    formula: Expr | None
    value_expr: Expr
    relation: str
    time_expr: Expr
    integer: int | None
    step: Step = field(repr=False, compare=False)
    device: Device = field(repr=False, compare=False)
    least_expr: Expr | None = None
    fewest: bool = False
    room: Room | None = None
    misfit: str = ""
    multiple: int = 1
    times: Piecewise | None = field(default=None, repr=False)

    value = in_unit(lambda answer: answer.value_expr, lambda answer: unit_of(answer.variable), "What time asks for, as a Quantity.")
    time = in_unit(lambda answer: answer.time_expr, SECOND, "Time of the step at the value, as a Quantity in seconds.")
    least = in_unit(lambda answer: answer.least_expr, lambda answer: unit_of(answer.variable), "The least that suffices, or None.")
    by_time = in_unit(lambda answer: answer.by_time_expr, lambda answer: answer.limit_unit, "`by_time_expr`, as a Quantity or an int.")
    by_memory = in_unit(lambda answer: answer.by_memory_expr, lambda answer: answer.limit_unit, "`by_memory_expr`, the same.")
    allowed_time = in_unit(lambda answer: answer.allowed_time_expr, SECOND, "Time of the step at `allowed`, or None.")
    allowed = in_unit(lambda answer: answer.allowed_expr, lambda answer: answer.limit_unit, "`allowed_expr`, the same.")

    @property
    def limit_unit(self) -> Any:
        """The unit of the limits; None where they are whole numbers."""
        return None if self._counts else unit_of(self.variable)

    @property
    def by_time_expr(self) -> int | Expr:
        """The limit by target time: the most allowed, or the least that suffices; a whole number for integer variables."""
        if self.fewest and self.relation == "<=":
            return int(ceiling(self.least_expr if self.least_expr is not None else Integer(1)))
        return self._whole(self.value_expr)

    @property
    def by_memory_expr(self) -> int | Expr | None:
        """The limit by memory, rounded like `by_time`; 0 if nothing fits, None without a limit."""
        if self.room is None or (self.room.fits and self.memory_relation is None):
            return None
        limit = self.room.least_expr if self.memory_relation == ">=" else self.room.most_expr
        return 0 if not self.room.fits or limit is None else self._whole(limit, self.memory_relation)

    @property
    def memory_relation(self) -> str | None:
        """The side on which memory sets a limit; None without a limit."""
        if self.room is None:
            return None
        sides = {"<=": self.room.most_expr, ">=": self.room.least_expr}
        own = ">=" if self.fewest else self.relation
        return next((side for side in (own, *sides) if sides[side] is not None), None)

    @property
    def binding(self) -> str | None:
        """The stricter limit, "time" or "memory"; None if the capacity is unknown."""
        if self.room is None:
            return None
        limit = self.by_memory_expr
        if limit is None:
            return "time"
        tighter = limit > self.by_time_expr if self.memory_relation == ">=" else limit < self.by_time_expr
        return "memory" if tighter or not self.room.fits else "time"

    @property
    def allowed_expr(self) -> int | Expr | None:
        """The limit by time and memory together; None if no value satisfies both, or the capacity is unknown."""
        if self.room is None or not self.room.fits or self.misfit:
            return None
        chosen = self.by_memory_expr if self.binding == "memory" else self.by_time_expr
        if self.fewest and self.integer is not None:
            chosen = self.integer
        least, most = (self.least_expr, self.value_expr) if self.relation == "<=" else (self.value_expr, None)
        lows = [low for low in (least, self.room.least_expr) if low is not None]
        highs = [high for high in (most, self.room.most_expr) if high is not None]
        within = chosen and all(low <= chosen for low in lows) and all(chosen <= high for high in highs)
        return chosen if within else None

    @property
    def allowed_time_expr(self) -> Expr | None:
        """Seconds of the step at `allowed_expr`; None where there is none."""
        return None if self.allowed_expr is None or self.times is None else self.times(self.allowed_expr)

    @property
    def _counts(self) -> bool:
        return self.variable.domain == "integer" or self.variable.unit == "bit"

    def _whole(self, value: Expr, relation: str | None = None) -> int | Expr:
        if not self._counts:
            return value
        return rounded(value, relation or self.relation, self.multiple)


def required(
    step: Step,
    *,
    over: str | Symbol,
    hardware: Device | str | Path,
    target_time: Any = None,
    target_rate: Any = None,
    ceilings: str = STATED,
) -> Requirement:
    """The bandwidth, peak, batch, context or width at which the step takes the target time.

    Parameters
    ----------
    step : a step with numbers for all other inputs.
    over : the variable to solve for: "bandwidth", "peak", "batch", "seq_len", "weight_bits", ...
    hardware : the device, whose other figures are unchanged.
    target_time : the time allowed per generated token of a sequence: seconds, a Quantity, or text such as "5 ms".
    target_rate : alternatively, the generated tokens (decode) or sequences (prefill) per second to reach.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    ImpossibleError
        No value reaches the target; the message says why.
    InputError
        Not exactly one target is given, or it is not positive.

    >>> import symroof
    >>> from sympy import Rational
    >>> step = symroof.load_model("llama-2-7b").decode(
    ...     batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> answer = required(step, over="bandwidth", hardware="a100-sxm-80gb", target_time=Rational(5, 1000))
    >>> print(answer.relation, answer.value)
    >= 2.863 TB/s
    """
    if (target_time is None) == (target_rate is None):
        raise InputError("give one target: a time or a rate")
    whole = regimes(step, over=over, hardware=hardware, ceilings=ceilings)
    if target_rate is None:
        answer = _for_time(whole, number(target_time, SECOND, "target"))
    else:
        tokens = isinstance(target_rate, Quantity) and target_rate.check("[token]/[time]")
        answer = _for_rate(whole, number(target_rate, TOKEN_RATE if tokens else PER_SECOND, "target"))
    fewest = answer.variable.symbol in step.symbolic.devices.free_symbols
    return _fitted(whole, replace(answer, room=_room_of(whole), times=whole.times, fewest=fewest))


def _room_of(whole: Regimes) -> Room | None:
    """The limits set by memory; None if the device states no capacity, or the formulas count blocks."""
    try:
        return room_over(whole.step, whole.over, usable_capacity(whole.device, whole.step))
    except SymroofError:
        return None


def _fitted(whole: Regimes, answer: Requirement) -> Requirement:
    """The answer with a whole number that the techniques support, for devices the fewest within time and memory; or why there is none."""
    step, variable = whole.step, whole.over
    if answer.integer is None or step.unchanged is None:
        return answer
    if not answer.fewest:
        return replace(answer, misfit=refusal(step, variable, Integer(answer.integer)))
    room = answer.room
    low = max(answer.by_time_expr, ceiling(room.least_expr) if room is not None and room.least_expr is not None else 1)
    high = min(answer.value_expr if answer.relation == "<=" else whole.times.high, low + TRIED)
    several = range(int(low), int(floor(high)) + 1)
    taken = next((number for number in several if not refusal(step, variable, Integer(number))), None)
    if taken is None:
        first = int(answer.by_time_expr)
        return replace(answer, integer=first, misfit=refusal(step, variable, Integer(first)))
    return replace(answer, integer=taken)


def refusal(step: Step, variable: Variable, value: Expr) -> str:
    """Why the techniques of a step do not support a whole number; empty if they do."""
    unchanged = cast(Step, step.unchanged)
    name = option_name(variable.symbol)
    if hasattr(unchanged.options, name):
        options = replace(unchanged.options, **{name: int(value)})
        unchanged = replace(unchanged, options=options, values={**unchanged.values, variable.symbol: value})
    try:
        unchanged.apply(*with_number(step.symbolic.applied, variable.symbol, value))
    except InputError as error:
        return str(error)
    return ""


def _for_time(whole: Regimes, target: Expr) -> Requirement:
    """The answer from the last interval within the target: its end if it has one, otherwise its beginning."""
    times, within = whole.times, whole.times.within(target)
    if not within:
        raise ImpossibleError(_why(whole, target))
    last = within[-1]
    if last.high < times.high or (times.high.is_finite and last.low == times.low):
        return _answer(whole, last.pieces[-1], last.high, "<=", target, last.low if last.low > times.low else None)
    if last.low > times.low:
        return _answer(whole, last.pieces[0], last.low, ">=", target)
    name, end = option_name(times.x), times.pieces[-1]
    raise InputError(
        f"any {name} suffices: from {end.low} on the step takes {float(times(oo)):.6g} s, within the target of {float(target):.6g} s"
    )


def _answer(whole: Regimes, regime: Piece, value: Expr, relation: str, target: Expr, least: Expr | None = None) -> Requirement:
    x = whole.over.symbol
    formula = None
    if not is_exponential(regime.value, x):
        excess = polynomial(regime.value - symbols.T, x)
        formula = solve_symbolic(excess).formula if excess.degree in (1, 2) else None
    if formula is None or substitute(formula, {symbols.T: target}) != value:
        formula = None  # the answer is an end of the regime, where the peak changes or the range ends
    whole_number, multiple = None, whole_multiple(whole.step.symbolic.applied, x)
    if whole.over.domain == "integer" or whole.over.unit == "bit":
        whole_number = rounded(value, relation, multiple)
        low = least if least is not None or multiple == 1 else Integer(1)
        if relation == "<=" and low is not None and whole_number < low:
            what = "whole number" if multiple == 1 else f"multiple of {multiple}, as the techniques need,"
            raise ImpossibleError(
                f"impossible: no {what} lies from {float(low):.6g} to {float(value):.6g}, where the step is within the target"
            )
    time = substitute(regime.value, {x: value})
    side = order(time, target)
    assert side <= 0
    asked = {"step": whole.step, "device": whole.device, "multiple": multiple}
    return Requirement(whole.over, formula, value, relation, target if side == 0 else time, whole_number, least_expr=least, **asked)


def _why(whole: Regimes, target: Expr) -> str:
    x, wanted = whole.over.symbol, f"and the target is {float(target):.6g} s"
    if x in RESOURCES:
        what, name, advice = RESOURCES[x]
        return f"impossible: {what} alone takes {float(whole.times(oo)):.6g} s, {wanted}, at any {name}; {advice}"
    least, at = whole.times.minimum()
    name, low = option_name(x), whole.times.low
    if at == oo:
        where = f"even as {name} grows"
    elif at == low:
        where = f"even as {name} tends to 0" if low == 0 else f"at the least {name}, {low},"
    else:
        where = f"at the best {name}, {float(at):.6g},"
    return f"impossible: {where} the step takes {float(least):.6g} s, {wanted}"


def _for_rate(whole: Regimes, rate: Expr) -> Requirement:
    """The answer for a rate, batch / time: over the batch the least that reaches it, otherwise by the time it allows."""
    if whole.over.symbol != symbols.b:
        return _for_time(whole, whole.step.values[symbols.b] / rate)
    if rate >= whole.asymptote_expr:
        most = f"{float(whole.asymptote_expr):.6g} per second"
        raise ImpossibleError(f"impossible: throughput stays below {most} at any batch, less than the target {float(rate):.6g}")
    value, multiple = whole.batch_reaching_expr(rate / whole.asymptote_expr), whole_multiple(whole.step.symbolic.applied, symbols.b)
    asked = {"step": whole.step, "device": whole.device, "multiple": multiple}
    return Requirement(whole.over, None, value, ">=", whole.times(value), rounded(value, ">=", multiple), **asked)


def required_capacity(step: Step) -> Quantity:
    """Memory that the step needs, exact, as a Quantity in bytes.

    >>> import symroof
    >>> step = symroof.load_model("opt-125m").decode(batch=1, seq_len=1, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> print(required_capacity(step))
    250.6 MB
    """
    total = memory_of(step.with_widths()) / step.symbolic.room(Integer(1))
    if not total.is_number:
        raise InputError(f"{needed(total.free_symbols)} for the required capacity")
    return quantity(total, BYTE)
