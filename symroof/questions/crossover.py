"""Crossovers: where the bound of an operator changes in one variable, whether it does, and why.

An operator is memory-bound if ``F / P < B / BW``, that is if ``F BW - B P`` is negative. This slack
is a polynomial of low degree in any one symbol; its roots are the crossovers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sympy import Expr, Symbol, ceiling, floor, oo
from sympy.logic.boolalg import Boolean

from symroof import symbols
from symroof.algebra.lambert import LineAndWave, line_and_wave
from symroof.algebra.piecewise import COMPUTE, MEMORY, Piece, Piecewise, piecewise
from symroof.algebra.polynomial import Polynomial, polynomial
from symroof.algebra.signs import ALWAYS, CROSSES, DEPENDS, INTERVALS, Solution, solve_symbolic
from symroof.algebra.univariate import is_exponential, is_shares, limit
from symroof.answers import Answer, Answers, Intervals, intervals, view
from symroof.architectures.step import Step
from symroof.errors import EinsumError, InputError
from symroof.hardware.device import Device
from symroof.notation import Brief
from symroof.operators.facts import Resource
from symroof.roof.costs import lowest
from symroof.symbols import VOCABULARY, Variable, substitute
from symroof.units import BANDWIDTH, BYTE, FLOP, RATE, in_unit, number_of, unit_of


@dataclass(frozen=True)
class CrossoverBranch(Brief):
    """Another branch of the formulas, with other active arguments of their minima.

    Attributes
    ----------
    where : the condition of the branch.
    slack : the symbolic slack ``F BW - B P`` on it.
    """

    where: Boolean
    slack: Polynomial | LineAndWave

    @cached_property
    def solution(self) -> Solution:
        """The symbolic answer under the condition."""
        return solve_symbolic(self.slack)


@dataclass(frozen=True)
class Crossover(Answer):
    """The crossover of one operator (or group, or step) in one variable.

    Attributes
    ----------
    operator : the operator, group, or "total".
    over : the variable.
    flops_expr, traffic_expr, peak_expr, bandwidth_expr : symbolic, bare; `values` has the numbers.
    values : the values of the other symbols; empty for a symbolic answer.
    seconds : numeric seconds of work minus those of bytes, over the variable; None if symbols are left or blocks are counted.
    pieces : numeric intervals with one bound each, bare; of whole numbers if formulas count blocks, empty if symbols are left.
    resource_pieces : the intervals by binding resource, including "vector", "cache" and others that a device states.
    where : the condition of the symbolic answer if a symbol saturates over the variable (a sliding window's context, the
        experts touched): the branch that contains the numeric crossover, otherwise that of large values.
    others : the other branches, symbolic; the numbers cover all branches.
    step, device : what was asked about; None where only costs were given, or no device.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16)
    >>> answer = symroof.crossover(step, "up_proj", over="batch", hardware="a100-sxm-80gb")
    >>> print(answer.verdict, answer.value, answer.first_integer, answer.value.exact)
    crosses 161.3 162 858624000/5323703
    >>> print(answer.formula)
    P*d*f*w/(16*BW*d*f - P*a*d - P*a*f)
    >>> print(answer.condition)
    16*BW*d*f > P*a*d + P*a*f
    """

    operator: str
    over: Variable
    flops_expr: Expr
    traffic_expr: Expr
    peak_expr: Expr
    bandwidth_expr: Expr
    values: Mapping[Symbol, Expr]
    seconds: Piecewise | None = None
    pieces: tuple[Piece, ...] = ()
    statements: tuple[str, ...] = ()
    resource_pieces: tuple[Piece, ...] = ()
    where: Boolean | None = None
    others: tuple[CrossoverBranch, ...] = ()
    step: Step | None = field(default=None, repr=False, compare=False)
    device: Device | None = field(default=None, repr=False, compare=False)

    flops = in_unit(lambda answer: answer.flops_expr, FLOP, "FLOPs, as a Quantity.")
    traffic = in_unit(lambda answer: answer.traffic_expr, BYTE, "Memory traffic, as a Quantity in bytes.")
    peak = in_unit(lambda answer: answer.peak_expr, RATE, "Peak performance, as a Quantity in FLOP/second.")
    bandwidth = in_unit(lambda answer: answer.bandwidth_expr, BANDWIDTH, "Bandwidth, as a Quantity in byte/second.")
    value = in_unit(
        lambda answer: answer.value_expr, lambda answer: unit_of(answer.over), "The crossover, as a Quantity; None without one."
    )

    @cached_property
    def intervals(self) -> Intervals:
        """The intervals with one bound each."""
        return intervals(self.over, self.pieces)

    @cached_property
    def resources(self) -> Intervals:
        """The intervals by the resource that binds."""
        return intervals(self.over, self.resource_pieces)

    @cached_property
    def slack(self) -> Polynomial | LineAndWave:
        """The symbolic slack ``F BW - B P`` in lowest terms."""
        return slack_of(self.flops_expr * self.bandwidth_expr - self.traffic_expr * self.peak_expr, self.over.symbol)

    @cached_property
    def is_symbolic(self) -> bool:
        """Whether there is a symbolic answer; not if the variable occurs in several exponents, which only numbers decide.

        Raises
        ------
        InputError
            There is neither a symbolic nor a numeric answer.
        """
        try:
            return bool(solve_symbolic(self.slack))
        except InputError:
            if not self.pieces:
                raise
            return False

    @cached_property
    def solution(self) -> Solution:
        """The symbolic answer; without a formula if there is none."""
        return solve_symbolic(self.slack) if self.is_symbolic else Solution(self.verdict, below=self.below, above=self.above)

    @property
    def formula(self) -> Expr | None:
        """The symbolic crossover, if there can be one."""
        return self.solution.formula

    @property
    def condition(self) -> Boolean | None:
        """The condition under which the formula is a crossover; None if it always is, or if there is none."""
        return self.solution.condition

    @property
    def verdict(self) -> str:
        """One of "crosses", "always-memory", "always-compute" or "intervals": numeric if there are numbers, otherwise symbolic.

        With symbolic branches, "crosses" refers to the branch in `where`, and "always" requires that all branches agree;
        otherwise the verdict "depends" on the branch.
        """
        bounds = [piece.bound for piece in self.pieces]
        if not bounds:
            answers = {(one.verdict, one.condition) for one in (self.solution, *(other.solution for other in self.others))}
            return self.solution.verdict if len(answers) == 1 or self.solution.verdict == CROSSES else DEPENDS
        return ALWAYS[bounds[0]] if len(bounds) == 1 else CROSSES if len(bounds) == 2 else INTERVALS

    @property
    def below(self) -> str | None:
        """The bound below the crossover."""
        return self.pieces[0].bound if self.pieces else self.solution.below

    @property
    def above(self) -> str | None:
        """The bound above the crossover."""
        return self.pieces[-1].bound if self.pieces else self.solution.above

    def resource_of(self, bound: str | None) -> str:
        """What binds on a side, where it is one resource all along, such as the host link; otherwise *bound*, "memory" or "compute"."""
        names = {
            str(piece.label)
            for side in self.pieces
            for piece in self.resource_pieces
            if side.bound == bound and piece.low < side.high and side.low < piece.high
        }
        return names.pop() if len(names) == 1 else str(bound)

    @property
    def value_expr(self) -> Expr | None:
        """The crossover as an exact number, bare."""
        return self.pieces[0].high if self.verdict == CROSSES and self.pieces else None

    @property
    def first_integer(self) -> int | None:
        """The first whole number beyond the crossover, for integer variables."""
        edge = self.value_expr
        if edge is None or self.over.unit not in COUNTED:
            return None
        if self.seconds is None:  # intervals of whole numbers
            return int(edge) + 1
        first = int(ceiling(edge) if self.above == COMPUTE else floor(edge) + 1)
        return first if self.bound_at(first) == self.above else first + 1  # where the peak changes, the edge is the lower side's

    def resource_at(self, value: Any) -> str | None:
        """The resource that binds at a value of the variable, of equals the first that computes; None outside its range."""
        at = number_of(value, self.over)
        here = {str(piece.label) for piece in self.resource_pieces if at in piece}
        return next((str(resource) for resource in Resource if str(resource) in here), None)

    def reasoning(self) -> tuple[Any, ...]:
        """The derivation, step by step: lines with `words`, `plain` text and `latex`."""
        return view("reasoning")(self)

    def bound_at(self, value: Any) -> str | None:
        """The bound at a value of the variable, from the sign of the slack; None outside its range."""
        at = number_of(value, self.over)
        if self.seconds is None:
            return next((piece.bound for piece in self.pieces if at in piece), None)
        if not self.seconds.low <= at <= self.seconds.high:
            return None
        return MEMORY if self.seconds(at) < 0 else COMPUTE  # an edge where the peak changes is the lower side's

    @property
    def layer_sizes(self) -> tuple[str, ...]:
        """The names of the layer's sizes in the formula."""
        return tuple(map(str, self._sizes))

    @property
    def _sizes(self) -> list[Symbol]:
        return [] if self.formula is None else [symbol for symbol in LAYER_SIZES if symbol in self.formula.free_symbols]

    @property
    def large_layer(self) -> Expr | None:
        """The limit of the formula as the layer's sizes grow together; None without a formula or a limit."""
        formula, sizes = self.formula, self._sizes
        if formula is None or not sizes or (isinstance(self.slack, Polynomial) and not formula.is_rational_function(*sizes)):
            return None
        tends_to = self.tends_to(*sizes)
        return None if tends_to in (oo, 0) else tends_to

    def tends_to(self, *grown: Symbol) -> Expr | None:
        """The limit of the formula as these sizes grow together.

        For a linear layer whose hidden and intermediate sizes grow, ridge x weight bits / 16.
        """
        if self.formula is None:
            return None
        n = Symbol("n_", positive=True)
        wave = self.slack if isinstance(self.slack, LineAndWave) else None
        larger = {symbol: n * symbol for symbol in grown}
        parts = (limit(substitute(part, larger), n) for part in (wave.quotients if wave else [self.formula]))
        return wave.root_at(*parts) if wave else next(parts)


@dataclass(frozen=True)
class Crossovers(Answers[Crossover]):
    """The crossovers of a step's operators over one variable: an immutable sequence, also by the operator's name.

    >>> import symroof
    >>> on = symroof.load_model("llama-2-7b").decode(seq_len=2048).on("a100-sxm-80gb")
    >>> answers = on.crossovers("batch")
    >>> answers["up_proj"].first_integer, len(answers)
    (162, 20)
    """

    _NAME = "operator"
    _AMONG = "an operator of this step"
    _REFUSED = EinsumError


def slack_of(expression: Expr, x: Symbol) -> Polynomial | LineAndWave:
    """A symbolic slack: a polynomial, or over the tokens that choose experts, a line plus an exponential.

    Raises
    ------
    InputError
        The slack has neither form.
    """
    if is_shares(expression, x):
        raise InputError(f"tokens choose experts with a probability that depends on {x}: no formula over it; give numbers for all others")
    return line_and_wave(expression, x) if is_exponential(expression, x) else polynomial(expression, x)


LAYER_SIZES = (symbols.d, symbols.f, symbols.h, symbols.e, symbols.v, symbols.f_e)
COUNTED = ("dimensionless", "bit")
"""Units of integer variables."""


def crossover_of(
    operator: str, over: Symbol, costs: tuple[Expr, Expr, Expr, Expr], values: Mapping[Symbol, Expr] | None = None, low: Expr | None = None
) -> Crossover:
    """The crossover for any FLOPs, traffic, peak and bandwidth (for example a link's), given as *costs* in this order.

    >>> from sympy import Integer
    >>> from symroof.symbols import b, d, f, P, BW
    >>> answer = crossover_of("two chips", d, (b * d * f, 2 * b * f, P, BW), {P: Integer(197 * 10**12), BW: Integer(45 * 10**9)})
    >>> print(answer.value, answer.first_integer)
    8755.6 8756
    """
    flops, traffic, peak, bandwidth = costs
    variable = VOCABULARY[over]
    known = {symbol: value for symbol, value in (values or {}).items() if symbol != over}
    slack = substitute(flops * bandwidth - traffic * peak, known)
    if slack.free_symbols - {over}:
        lowest_terms = slack_of(slack, over)  # common symbols cancel
        slack = lowest_terms.as_expr() if lowest_terms.is_bound else None
    start = low if low is not None else lowest(variable)
    seconds = None if slack is None else piecewise(over, [(start, oo, slack, "")])
    pieces = seconds.signs().pieces if seconds else ()
    return Crossover(operator, variable, flops, traffic, peak, bandwidth, known, seconds, pieces)
