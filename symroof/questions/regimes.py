"""Regimes: the exact partition of a variable's range by the bounds of all operators, and the step's time on each part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from operator import and_
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, S, Symbol, ceiling

from symroof import symbols
from symroof.algebra.envelope import envelope, total
from symroof.algebra.piecewise import Piece, Piecewise, piecewise
from symroof.algebra.univariate import limit
from symroof.answers import Answer, Interval, Intervals, intervals
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED, Machine
from symroof.operators.facts import Resource
from symroof.roof.costs import TOTAL, costs, costs_of, grouped_costs, known_values, needed, require, variable_of
from symroof.roof.intervals import CostInterval, branches_over, cost_intervals, numeric_operator, without_counts
from symroof.roof.ledger import Cost, machine_of, overhead, own, require_device, roof_of
from symroof.symbols import Variable, substitute
from symroof.units import COUNT, PER_SECOND, SECOND, TOKEN_RATE, in_unit, number, number_of, quantity, unit_of

WORK, LAUNCHES, TRANSFERS = "work", "launches", "transfers"


@dataclass(frozen=True)
class Regime(Interval):
    """An interval of the variable on which no operator changes its bound, no window becomes full and no last expert is touched.

    Neighbouring regimes share an end, and their times agree there.
    """

    time_expr: Expr = S.Zero

    time = in_unit(lambda regime: regime.time_expr, SECOND, "Time of the step per generated token, as a function of the variable.")

    @property
    def compute_bound(self) -> frozenset[str]:
        """The operators that are compute-bound in this regime."""
        return cast(frozenset[str], self.label)


def _regime(over: Variable, piece: Piece) -> Regime:
    return Regime(over, piece.low, piece.high, piece.label, piece.value)


@dataclass(frozen=True)
class Regimes(Answer):
    """The time of a step as a function of one variable, in closed form.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-13b").decode(
    ...     seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16, accounting="survey")
    >>> over_batch = symroof.regimes(step, over="batch", hardware="survey/nvidia_A6000")
    >>> [f"{knee:.2f}" for knee in over_batch.knees], sorted(over_batch.regimes[1].compute_bound)
    (['201.70', '213.11', '218.85'], ['lm_head'])
    """

    step: Step
    device: Device
    over: Variable
    times: Piecewise

    knees = in_unit(lambda answer: answer.knees_expr, lambda answer: unit_of(answer.over), "`knees_expr`, as Quantities.")
    knee = in_unit(lambda answer: answer.knee_expr, lambda answer: unit_of(answer.over), "`knee_expr`, as a Quantity, or None.")
    asymptote = in_unit(
        lambda answer: answer.asymptote_expr,
        lambda answer: TOKEN_RATE if answer.step.options.decode else PER_SECOND,
        "`asymptote_expr`, as a Quantity in token/second, or for prompts in 1/second.",
    )

    @cached_property
    def regimes(self) -> tuple[Regime, ...]:
        """The regimes in order."""
        return tuple(_regime(self.over, piece) for piece in self.times.pieces)

    def at(self, value: Any) -> Regime:
        """The regime that contains a value.

        Raises
        ------
        InputError
            The value is outside the range.
        """
        return _regime(self.over, self.times.at(self._inside(value)))

    def time(self, value: Any) -> Any:
        """Time at a value, a number, a Quantity or text with a unit, as a Quantity in seconds."""
        return quantity(self.time_expr(value), SECOND)

    def time_expr(self, value: Any) -> Expr:
        """Seconds at a value, exactly, bare."""
        return self.times(self._inside(value))

    def _inside(self, value: Any) -> Expr:
        number = number_of(value, self.over)
        if not self.times.low <= number <= self.times.high:
            raise InputError(f"{self.over.name} {quote(value)} is outside {self.times.low} to {self.times.high}")
        return number

    @property
    def knees_expr(self) -> tuple[Expr, ...]:
        """The values at which operators change their bound or stop growing, and the slope of the time changes, bare."""
        return self.times.edges

    @cached_property
    def knee_expr(self) -> Expr | None:
        """The knee, bare: where the slope of the time changes most; None if it never does."""
        x = self.over.symbol
        bends = {
            right.low: abs(substitute(right.value.diff(x) - left.value.diff(x), {x: right.low}))
            for left, right in pairwise(self.times.pieces)
        }
        return max(bends, key=lambda knee: bends[knee]) if bends else None

    @cached_property
    def asymptote_expr(self) -> Expr:
        """The limit of throughput as the batch grows, in tokens (decode) or sequences (prefill) per second, bare.

        Raises
        ------
        InputError
            The variable is not the batch.
        """
        if self.over.symbol != symbols.b:
            raise InputError(f"throughput has an asymptote over batch, not over {self.over.name}")
        return limit(symbols.b / self.times.pieces[-1].value, symbols.b)

    def batch_reaching(self, share: Any) -> Any:
        """`batch_reaching_expr`, as a Quantity without a unit."""
        return quantity(self.batch_reaching_expr(number(share, COUNT, "share")), COUNT)

    def batch_reaching_expr(self, share: Expr) -> Expr:
        """The smallest real batch whose throughput is this share of the asymptote, exact and bare.

        Raises
        ------
        InputError
            The share is not between 0 and 1, or no batch reaches it.
        """
        if not 0 < share < 1:
            raise InputError(f"share {quote(str(share))}: expected a number between 0 and 1")
        wanted = share * self.asymptote_expr
        behind = self.times.map(lambda time: symbols.b - wanted * time).signs(below="less", above="enough")
        reached = [piece.low for piece in behind.pieces if piece.label == "enough"]
        if not reached:
            raise InputError(f"no batch reaches {share} of the asymptote")
        return reached[0]


def regimes(step: Step, *, over: str | Symbol, hardware: Device | str | Path, ceilings: str = STATED) -> Regimes:
    """The exact partition of a variable's range into regimes, with the step's time on each.

    >>> import symroof
    >>> step = symroof.load_model("opt-125m").decode(seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> print(regimes(step, over="batch", hardware="t4").regimes[0].time)
    (50771*b + 3864528)/5000000000 s

    Parameters
    ----------
    step : a step with numbers for all other inputs.
    over : the variable.
    hardware : the device.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    InputError
        The variable is unknown or does not occur, another input is still a symbol, or blocks are counted.
    """
    variable, device = variable_of(step, over), require_device(hardware, "the time over a variable is numeric")
    cost = costs(step, TOTAL)
    if variable.symbol not in step.symbolic.free_symbols:  # launches and tokens have symbols that no cost has
        require(step, TOTAL, cost, variable, over)
    cost = grouped_costs(cost, variable.symbol)
    return Regimes(step, device, variable, timeline(step, variable, device, ceilings=ceilings))


def timeline(step: Step, variable: Variable, device: Device, part: str = TOTAL, ceilings: str = STATED) -> Piecewise:
    """The time of an operator or of the step over a variable, which need not occur in it; labelled by compute-bound operators.

    Raises
    ------
    InputError
        Another input is still a symbol, or a formula counts blocks of the variable.
    """
    machine = machine_of(step.symbolic, device, ceilings, [variable.symbol], step.options.accounting)
    if machine.calibration is not None:
        raise InputError(
            f"times of calibrated kernels have no closed form in pieces over {variable.name}: they are norms of ceilings and count work "
            "items; use ceilings stated or classic"
        )
    cost = grouped_costs(costs_of(step, part, machine), variable.symbol)
    values = known_values(step, device, variable.symbol)
    pieces: list[Piece] = []
    for interval in cost_intervals(step, machine, variable, values, cost, branches_over(step, cost, variable, values)):
        if open_letters := (interval.low + interval.high).free_symbols:
            raise InputError(f"{needed(open_letters)} to follow the time over {variable.name}")
        parts = [(one.operator.name, *_time(interval, one, values, machine, variable)) for one in interval.cost]
        named = [(name, time) for name, time, _ in parts]
        whole = total(named, Resource.COMPUTE) if parts else piecewise(variable.symbol, [(interval.low, interval.high, 0, frozenset())])
        transfers = Add(*(from_host for _, _, from_host in parts))
        pieces += _beside(whole, transfers).pieces if interval.graph.ceilings.fetches_ahead and transfers != 0 else whole.pieces
    return Piecewise(variable.symbol, tuple(pieces)).merged(value=True, combine=and_)


def _beside(work: Piecewise, transfers: Expr) -> Piecewise:
    """The longer of work and overlapped transfers; where transfers are longer, no operator is compute-bound."""
    pieces: list[Piece] = []
    for piece in work.pieces:
        longer = envelope(work.x, piece.low, piece.high, {piece.label: piece.value, TRANSFERS: transfers})
        pieces += [replace(part, label=frozenset()) if part.label == TRANSFERS else part for part in longer.pieces]
    return Piecewise(work.x, tuple(pieces))


def _time(interval: CostInterval, one: Cost, values: dict[Symbol, Expr], machine: Machine, variable: Variable) -> tuple[Piecewise, Expr]:
    """Seconds of an operator per generated token, labelled by the binding resource, and seconds of its transfers from and to the host."""
    graph, x = interval.graph, variable.symbol
    tokens = substitute(graph.tokens, values)
    bound = numeric_operator(graph, one.operator.name)
    numeric = replace(one.changed(lambda amount: substitute(amount, values)), operator=bound)
    seconds = numeric.seconds(machine, roof_of(graph, bound, machine)[1])
    entries = without_counts({resource: taken / tokens for resource, taken in seconds.items()}, x, interval.low, interval.high)
    from_host = entries.get(Resource.HOST, S.Zero)
    late = substitute(one.count * overhead(one.operator, graph.ceilings, machine), interval.active)
    beside = substitute(late, values) / tokens
    if left := {symbol for value in (*entries.values(), beside) for symbol in value.free_symbols} - {x}:
        raise InputError(f"{needed(left)} to follow the time over {variable.name}")
    if any(x in atom.free_symbols for taken in entries.values() for atom in taken.atoms(ceiling)):
        what = f"{one.operator.name} counts blocks of rows over {variable.name}"
        raise InputError(f"{what}: no partition in closed form; omit FlashAttention")
    work = own(one.operator, entries, graph.ceilings)
    time = envelope(x, interval.low, interval.high, work if graph.ceilings.overlap else {"sum": Add(*work.values())})
    return time if beside == 0 else time + beside, from_host


def work_exceeds(
    step: Step, *, over: str | Symbol, hardware: Device | str | Path, operator: str = TOTAL, ceilings: str = STATED
) -> Intervals:
    """The intervals of a variable on which work ("work") or launches ("launches") take longer, exact.

    Latencies of collectives count as launches. Points with equal times belong to neither side.

    Raises
    ------
    InputError
        The step has no launch overhead, or another input is a symbol.

    >>> import symroof
    >>> from symroof.techniques.registry import technique
    >>> step = symroof.load_model("opt-125m").decode(seq_len=128, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> found = work_exceeds(step.apply(technique("launch-overhead:launch=5us")), over="batch", hardware="a100-sxm-80gb")
    >>> [one.bound for one in found], round(float(found[0].high), 1)
    (['launches', 'work'], 257.0)
    """
    variable, device = variable_of(step, over), require_device(hardware, "work and launches are compared in numbers")
    cost = costs_of(step, operator)
    values = known_values(step, device, variable.symbol)
    tokens = substitute(step.symbolic.tokens, values)
    launches = substitute(Add(*(one.count * overhead(one.operator, step.symbolic.ceilings) for one in cost)), values) / tokens
    if launches == 0:
        raise InputError("no operator has a launch overhead; apply the technique launch-overhead, as launch-overhead:launch=5us")
    beyond = timeline(step, variable, device, operator, ceilings) - 2 * launches  # the time is work and launches
    return intervals(variable, beyond.signs(below=LAUNCHES, above=WORK, zero=LAUNCHES).pieces)
