"""Symbolic signs: the crossover with the condition under which it exists, and the least upper bound of an intensity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sympy import Expr, Limit, Not, S, Symbol, cancel, factor, fraction, gcd, sqrt, together, true
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from symroof.algebra.lambert import LineAndWave
from symroof.algebra.piecewise import COMPUTE, MEMORY
from symroof.algebra.polynomial import Polynomial, polynomial, quotient, reduced, sign, split
from symroof.algebra.univariate import limit
from symroof.errors import InputError
from symroof.notation import Brief

CROSSES, ALWAYS_MEMORY, ALWAYS_COMPUTE, INTERVALS = "crosses", "always-memory", "always-compute", "intervals"
DEPENDS = "depends"
"""The verdict differs between the branches of a saturating symbol."""
ALWAYS = {MEMORY: ALWAYS_MEMORY, COMPUTE: ALWAYS_COMPUTE}


@dataclass(frozen=True)
class Case:
    """The verdict under one condition."""

    condition: Boolean
    verdict: str


@dataclass(frozen=True)
class Solution(Brief):
    """The sign of a symbolic slack.

    Attributes
    ----------
    verdict : "crosses", "always-memory", "always-compute" or "intervals".
    formula : the crossover, or the upper of two; None if there is none.
    lower : the lower of two crossovers.
    below, above : the bound on either side of the formula.
    condition : the condition of the verdict; None if it always holds.
    otherwise : the verdict if the condition fails; None if that needs the cases.
    cases : all possible cases if the signs of several terms are open; otherwise empty.
    shortened : a long formula with an abbreviation, its symbol, and its definition; None for short formulas.
    """

    verdict: str
    formula: Expr | None = None
    lower: Expr | None = None
    below: str | None = None
    above: str | None = None
    condition: Boolean | None = None
    otherwise: str | None = None
    cases: tuple[Case, ...] = ()
    shortened: tuple[Expr, Symbol, Expr] | None = None


def solve_symbolic(slack: Polynomial | LineAndWave) -> Solution:
    """The symbolic crossover, for all positive values of the other symbols.

    >>> from symroof.algebra.polynomial import polynomial
    >>> from symroof.symbols import b, d, P, BW
    >>> answer = solve_symbolic(polynomial(2 * b * d * BW - (b * d / 8 + d) * P, b))
    >>> answer.formula, answer.condition, answer.otherwise
    (8*P/(16*BW - P), 16*BW > P, 'always-memory')

    Raises
    ------
    InputError
        The degree of the slack is too high for a readable closed form.
    """
    if isinstance(slack, LineAndWave):
        return _line_and_wave(slack)
    common: Expr = S.One if slack.degree == 0 else cast(Expr, gcd(slack.coefficients))
    if sign(common) is None:  # one factor decides if the rest has a fixed sign
        rest = {sign(cast(Expr, cancel(coefficient / common))) for coefficient in slack.coefficients if coefficient != 0}
        if len(rest) == 1 and None not in rest:
            return _constant(common * rest.pop())
    if slack.degree == 0:
        return _constant(slack.coefficients[0])
    if slack.degree == 1:
        return _line(*slack.coefficients)
    if slack.degree == 2:
        return _parabola(*slack.coefficients)
    raise InputError(f"the slack has degree {slack.degree} in {slack.x}: give numbers for the other symbols")


def _constant(value: Expr) -> Solution:
    known = sign(value)
    if known is None:
        return Solution(ALWAYS_MEMORY, condition=less(value), otherwise=ALWAYS_COMPUTE)
    return Solution(ALWAYS_MEMORY if known < 0 else ALWAYS_COMPUTE)


def _side(known: int) -> str:
    return MEMORY if known < 0 else COMPUTE


def _line(constant: Expr, slope: Expr) -> Solution:
    start, rise = sign(constant), sign(slope)
    if start is not None and rise is not None and start * rise >= 0:
        return _constant(slope if start == 0 else constant)
    crossing = quotient(constant, slope)
    if start is not None and rise is not None:
        return Solution(CROSSES, crossing, None, _side(start), _side(rise))
    if start is not None and start != 0:  # it crosses only if it moves towards zero
        condition = greater(slope) if start < 0 else less(slope)
        return Solution(CROSSES, crossing, None, _side(start), _side(-start), condition, ALWAYS[_side(start)])
    if rise is not None and rise != 0:  # it crosses only if it starts on the other side
        condition = less(constant) if rise > 0 else greater(constant)
        return Solution(CROSSES, crossing, None, _side(-rise), _side(rise), condition, ALWAYS[_side(rise)])
    cases = (
        Case(greater(slope) & less(constant), "memory-bound below it, compute-bound above"),
        Case(less(slope) & greater(constant), "compute-bound below it, memory-bound above"),
        Case(greater(slope) & greater(constant), "always compute-bound"),
        Case(less(slope) & less(constant), "always memory-bound"),
    )
    return Solution(CROSSES, crossing, None, MEMORY, COMPUTE, greater(slope) & less(constant), None, cases)


def _parabola(constant: Expr, linear: Expr, leading: Expr) -> Solution:
    discriminant = linear**2 - 4 * leading * constant
    root = sqrt(discriminant)
    upper, lower = (-linear + root) / (2 * leading), (-linear - root) / (2 * leading)
    two_roots = linear**2 > 4 * leading * constant
    start, tilt, bend = sign(constant), sign(linear), sign(leading)
    if start is not None and bend is not None and start * bend < 0:  # one change of sign, one positive root
        return Solution(CROSSES, upper if bend > 0 else lower, None, _side(start), _side(bend))
    if start is not None and bend is not None and start * bend > 0:
        if tilt is not None and tilt * start >= 0:
            return _constant(leading)
        # both ends on one side: it dips to the other between two positive roots, if it has them
        first, second = (upper, lower) if bend < 0 else (lower, upper)
        turned = (greater(linear) if start < 0 else less(linear)) if tilt is None else true
        return Solution(INTERVALS, second, first, _side(start), _side(start), turned & two_roots, ALWAYS[_side(start)])
    cases = (
        Case(two_roots & greater(leading), "compute-bound outside the two roots, memory-bound between; only positive roots count"),
        Case(two_roots & less(leading), "memory-bound outside the two roots, compute-bound between; only positive roots count"),
        Case(Not(two_roots) & greater(leading), "always compute-bound"),
        Case(Not(two_roots) & less(leading), "always memory-bound"),
    )
    return Solution(INTERVALS, upper, lower, None, None, two_roots, None, cases)


def _line_and_wave(slack: LineAndWave) -> Solution:
    """The factor is positive (bytes that are not read), so the slack is convex and can only fall before it rises.

    A slack that starts negative crosses once if it rises eventually; one that starts at zero crosses if it falls first and
    rises eventually.
    """
    start, rise, sides = sign(slack.start), sign(slack.slope), (_side(-1), _side(1))
    if sign(slack.factor) != 1 or start in (1, None):
        raise InputError(f"the slack over {slack.x} starts positive or is concave: give numbers for the other symbols")
    if rise in (-1, 0):
        return _constant(S.NegativeOne)
    if start == -1:
        condition = None if rise == 1 else greater(slack.slope)
        otherwise = None if rise == 1 else ALWAYS_MEMORY
        return Solution(CROSSES, slack.root, None, *sides, condition, otherwise, shortened=slack.shortened)
    steepest = -slack.factor * slack.decay
    falls, rises = slack.slope < steepest, true if rise == 1 else greater(slack.slope)
    cases = [
        Case(cast(Boolean, rises & falls), "memory-bound below it, compute-bound above"),
        Case(cast(Boolean, slack.slope >= steepest), "always compute-bound"),
        *([] if rise == 1 else [Case(less(slack.slope), "always memory-bound")]),
    ]
    return Solution(CROSSES, slack.root, None, *sides, cases[0].condition, None, tuple(cases), slack.shortened)


def greater(expression: Expr) -> Relational:
    """``expression > 0`` with positive terms on both sides."""
    positive, negative = split(*reduced(expression))
    return positive > negative


def less(expression: Expr) -> Relational:
    """``expression < 0`` with positive terms on both sides."""
    positive, negative = split(*reduced(expression))
    return positive < negative


def intensity_supremum(flops: Expr, traffic: Expr, x: Symbol) -> Expr:
    """The least upper bound of the intensity over all positive *x*, if the intensity is monotone in *x*.

    >>> from symroof.symbols import t, h, e, k, c
    >>> intensity_supremum(4 * h * e * t, (2 * h * e + 2 * t * k * e * c) / 8, t)
    16*h/(c*k)

    Raises
    ------
    InputError
        The signs of the terms do not show whether the intensity rises or falls.
    """
    intensity = cast(Expr, together(flops / traffic))
    over, under = fraction(intensity)
    slope = polynomial(over.diff(x) * under - over * under.diff(x), x)
    signs = {sign(coefficient) for coefficient in slope.coefficients if coefficient != 0}
    if signs <= {1}:
        return cast(Expr, factor(limit(intensity, x)))
    if signs <= {-1}:
        return cast(Expr, factor(Limit(intensity, x, 0).doit()))
    raise InputError(f"the intensity {intensity} could not be shown to be monotone in {x} for all positive symbols")
