"""A whole step over one variable: the exact partition of its range, and the time on each part of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from sympy import Add, Expr, Integer, S, Symbol

from symroof import symbols
from symroof.algebra.intervals import COMPUTE, Interval, Piece, partition
from symroof.algebra.limits import rational_limit
from symroof.algebra.polynomial import polynomial
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED, Machine
from symroof.operators.graph import Graph
from symroof.roof.binding_ceiling import Part
from symroof.roof.costs import (
    TOTAL,
    branches_of,
    costs,
    costs_of,
    counts_blocks,
    grouped_costs,
    known_values,
    needed,
    require,
    variable_of,
)
from symroof.roof.ledger import Cost, device_of, machine_of, overhead, roof_of
from symroof.roof.stretches import bound_operator, stretches
from symroof.symbols import Variable, substitute


@dataclass(frozen=True)
class Regime:
    """A stretch of the variable on which no operator changes its bound, and no window fills up or last expert is touched.

    Attributes
    ----------
    low, high : its ends; neighbours share them, and time agrees there.
    time : seconds of the whole step for every token it completes, a rational function of the variable.
    compute_bound : the operators that are compute-bound on it.
    """

    low: Expr
    high: Expr
    time: Expr
    compute_bound: frozenset[str]


@dataclass(frozen=True)
class Regimes:
    """The time of a step as a function of one variable, in closed form.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-13b").decode(
    ...     seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16, accounting="survey")
    >>> over_batch = symroof.regimes(step, over="batch", hardware="survey/nvidia_A6000")
    >>> [round(float(knee), 2) for knee in over_batch.knees], sorted(over_batch.regimes[1].compute_bound)
    ([201.7, 213.11, 218.85], ['lm_head'])
    """

    step: Step
    device: Device
    over: Variable
    regimes: tuple[Regime, ...]

    def at(self, value: int | Expr) -> Regime:
        """The regime a value lies in.

        Raises
        ------
        InputError
            The value is outside the range.
        """
        point = S(value) if isinstance(value, int) else value
        for regime in self.regimes:
            if regime.low <= point <= regime.high:
                return regime
        raise InputError(f"{self.over.name} {quote(value)} is outside {self.regimes[0].low} to {self.regimes[-1].high}")

    def time(self, value: int | Expr) -> Expr:
        """Seconds at a value, exactly."""
        return substitute(self.at(value).time, {self.over.symbol: S(value) if isinstance(value, int) else value})

    @property
    def knees(self) -> tuple[Expr, ...]:
        """Where one operator or more changes its bound, or stops growing, and with it the slope of time changes."""
        return tuple(regime.low for regime in self.regimes[1:])

    @cached_property
    def knee(self) -> Expr | None:
        """The knee: where the slope of time changes most; None where it never does."""
        x = self.over.symbol
        bends = {
            right.low: abs(substitute(right.time.diff(x) - left.time.diff(x), {x: right.low})) for left, right in pairwise(self.regimes)
        }
        return max(bends, key=lambda knee: bends[knee]) if bends else None

    @cached_property
    def asymptote(self) -> Expr:
        """What throughput tends to as the batch grows, in tokens (decode) or sequences (prefill) per second.

        Raises
        ------
        InputError
            The variable is not the batch.
        """
        if self.over.symbol != symbols.b:
            raise InputError(f"throughput has its asymptote over batch, not over {self.over.name}")
        return rational_limit(symbols.b / self.regimes[-1].time, symbols.b)

    def batch_reaching(self, share: Expr) -> Expr:
        """The smallest batch, a real number, whose throughput is that share of the asymptote, exactly.

        Raises
        ------
        InputError
            The share is not between 0 and 1, or no batch reaches it.
        """
        if not 0 < share < 1:
            raise InputError(f"share {quote(str(share))}: expected a number between 0 and 1")
        wanted = share * self.asymptote
        for regime in self.regimes:
            # batch >= wanted x time: a line in the batch, as time is one on a regime
            line = polynomial(symbols.b - wanted * regime.time, symbols.b)
            inside = partition([Piece(regime.low, regime.high, line)])
            reached = [interval.low for interval in inside if interval.bound == COMPUTE]
            if reached:
                return reached[0]
        raise InputError(f"no batch reaches {share} of the asymptote")


def regimes(step: Step, *, over: str, hardware: Device | str | Path, ceilings: str = STATED) -> Regimes:
    """The exact partition of a variable's range into regimes, with the step's time on each.

    >>> import symroof
    >>> step = symroof.load_model("opt-125m").decode(seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> print(regimes(step, over="batch", hardware="t4").regimes[0].time)
    50771*b/5000000000 + 241533/312500000

    Parameters
    ----------
    step : with every other input given as a number.
    over : the free variable.
    hardware : the device.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    InputError
        The variable is unknown or does not occur, another input is still a symbol, or blocks are counted.
    """
    variable, device = variable_of(step, over), device_of(hardware)
    if device is None:
        raise InputError("give a device: the time over one variable is told in numbers")
    cost = costs(step, TOTAL)
    if variable.symbol not in step.symbolic.free_symbols:  # a launch or the tokens of a step have letters that no cost has
        require(step, TOTAL, cost, variable, over)
    cost = grouped_costs(cost, variable.symbol)
    if counts_blocks(cost, variable.symbol, *branches_of(step, cost, [variable.symbol])[0].active):
        raise InputError(
            f"fused_attention counts blocks of R rows over {variable.name}: no partition in closed form; leave FlashAttention out"
        )
    return Regimes(step, device, variable, timeline(step, variable, device, ceilings=ceilings))


def timeline(step: Step, variable: Variable, device: Device, part: str = TOTAL, ceilings: str = STATED) -> tuple[Regime, ...]:
    """The time of a part of a step over a variable, whether it occurs in it or not.

    Raises
    ------
    InputError
        Another input is still a symbol, or a time is not a rational function of the variable.
    """
    machine = machine_of(step.symbolic, device, ceilings, [variable.symbol], step.options.accounting)
    if machine.calibration and machine.calibration.exponent is not None:
        raise InputError(f"the p-norm of a calibration has no pieces over {variable.name}; take ceilings stated or classic")
    cost = grouped_costs(costs_of(step, part, machine), variable.symbol)
    values = known_values(step, device, variable.symbol)
    if variable.symbol == symbols.g:
        values.pop(symbols.h, None)
    found: list[Regime] = []
    for stretch in stretches(step, machine, variable, values, cost):
        if open_letters := (stretch.low + stretch.high).free_symbols:
            raise InputError(f"{needed(open_letters)} to follow the time over {variable.name}")
        parts = [_part(stretch.graph, one, values, machine, variable.symbol) for one in stretch.cost]
        pieces = [(part, part.winners(stretch.low, stretch.high)) for part in parts]
        found += _overlaid(stretch.low, stretch.high, pieces)
    return tuple(_joined(found))


def _part(graph: Graph, one: Cost, values: dict[Symbol, Expr], machine: Machine, x: Symbol) -> Part:
    ceilings, tokens = graph.ceilings, substitute(graph.tokens, values)
    operator = bound_operator(graph, one.operator.name)
    numeric = replace(one.changed(lambda amount: substitute(amount, values)), operator=operator)
    seconds = numeric.seconds(machine, roof_of(graph, operator, machine)[1])
    times = {str(resource): taken / tokens for resource, taken in seconds.items()}
    if not ceilings.overlap:
        times = {"sum": Add(*times.values())}
    beside = substitute(one.count * overhead(one.operator, graph.ceilings, machine), values) / tokens
    return Part(one.operator.name, times, beside, x)


def _overlaid(low: Expr, high: Expr, pieces: list[tuple[Part, tuple[Interval, ...]]]) -> Iterator[Regime]:
    edges = {low, high} | {edge for _, intervals in pieces for interval in intervals for edge in (interval.low, interval.high)}
    ordered = sorted(edges)
    for left, right in pairwise(ordered):
        bounds = {part.name: _bound_on(intervals, left, right) for part, intervals in pieces}
        time = Add(*(part.times.get(bounds[part.name], Integer(0)) + part.beside for part, _ in pieces))
        yield Regime(left, right, time.expand(), frozenset(name for name, bound in bounds.items() if bound == COMPUTE))


def _bound_on(intervals: tuple[Interval, ...], left: Expr, right: Expr) -> str:
    return next(interval.bound for interval in intervals if interval.low <= left and right <= interval.high)


def _joined(found: list[Regime]) -> Iterator[Regime]:
    """Neighbours with one and the same time are one regime."""
    current = found[0]
    for regime in found[1:]:
        if regime.time == current.time:
            current = Regime(current.low, regime.high, current.time, current.compute_bound & regime.compute_bound)
        else:
            yield current
            current = regime
    yield current
