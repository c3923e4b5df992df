"""The sign of a polynomial whose coefficients are formulas: the crossover in letters, and when there is one."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, sqrt
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from symroof.analysis.intervals import COMPUTE, MEMORY
from symroof.analysis.polynomial import Polynomial, reduced, sign, split
from symroof.errors import InputError

CROSSES, ALWAYS_MEMORY, ALWAYS_COMPUTE, INTERVALS = "crosses", "always-memory", "always-compute", "intervals"
ALWAYS = {MEMORY: ALWAYS_MEMORY, COMPUTE: ALWAYS_COMPUTE}
OTHER = {MEMORY: COMPUTE, COMPUTE: MEMORY}


@dataclass(frozen=True)
class Solution:
    """What can be said of the sign of a slack in letters.

    Attributes
    ----------
    verdict : "crosses", "always-memory", "always-compute" or "intervals".
    formula : the crossover, or the upper of two; None where there is none.
    lower : the lower of two crossovers.
    below, above : the bound on either side of the formula.
    condition : when the verdict holds; None where it always does.
    otherwise : what holds where the condition fails; None where that needs more cases.
    """

    verdict: str
    formula: Expr | None = None
    lower: Expr | None = None
    below: str | None = None
    above: str | None = None
    condition: Boolean | None = None
    otherwise: str | None = None


def solve_letters(slack: Polynomial) -> Solution:
    """The crossover in letters, for all positive values of the others.

    >>> from symroof.symbols import b, d, P, BW
    >>> from symroof.analysis.polynomial import polynomial
    >>> answer = solve_letters(polynomial(2 * b * d * BW - (b * d / 8 + d) * P, b))
    >>> answer.formula, answer.condition, answer.otherwise
    (8*P/(16*BW - P), 16*BW > P, 'always-memory')

    Raises
    ------
    InputError
        The slack is of a degree with no closed form worth reading.
    """
    if slack.degree == 0:
        return _constant(slack.coefficients[0])
    if slack.degree == 1:
        return _line(*slack.coefficients)
    if slack.degree == 2:
        return _parabola(*slack.coefficients)
    raise InputError(f"the slack has degree {slack.degree} in {slack.x}: give numbers for the other letters")


def _constant(value: Expr) -> Solution:
    known = sign(value)
    if known is None:
        return Solution(ALWAYS_MEMORY, condition=less(value), otherwise=ALWAYS_COMPUTE)
    return Solution(ALWAYS_MEMORY if known < 0 else ALWAYS_COMPUTE)


def _line(constant: Expr, slope: Expr) -> Solution:
    start, rise = sign(constant), sign(slope)
    if start is not None and rise is not None and start * rise >= 0:
        return _constant(slope if start == 0 else constant)
    below = {None: None, -1: MEMORY, 1: COMPUTE, 0: None}[start] or {1: MEMORY, -1: COMPUTE, None: None}[rise]
    crossing = _quotient(constant, slope)
    if start is not None and rise is not None:
        return Solution(CROSSES, crossing, None, below, OTHER[below or MEMORY])
    if start is not None and start != 0:  # it crosses only if it rises towards zero
        condition = greater(slope) if start < 0 else less(slope)
        return Solution(CROSSES, crossing, None, below, OTHER[below or MEMORY], condition, ALWAYS_MEMORY if start < 0 else ALWAYS_COMPUTE)
    if rise is not None and rise != 0:  # it crosses only if it starts on the other side
        condition = less(constant) if rise > 0 else greater(constant)
        return Solution(CROSSES, crossing, None, below, OTHER[below or MEMORY], condition, ALWAYS_COMPUTE if rise > 0 else ALWAYS_MEMORY)
    return Solution(CROSSES, crossing, None, MEMORY, COMPUTE, greater(slope) & less(constant), None)


def _parabola(constant: Expr, linear: Expr, leading: Expr) -> Solution:
    discriminant = linear**2 - 4 * leading * constant
    root = sqrt(discriminant)
    upper, lower = (-linear + root) / (2 * leading), (-linear - root) / (2 * leading)
    start, bend = sign(constant), sign(leading)
    if start is not None and bend is not None and start * bend < 0:  # one change of sign, one positive root
        below = MEMORY if start < 0 else COMPUTE
        return Solution(CROSSES, upper if bend > 0 else lower, None, below, OTHER[below])
    signs = [sign(part) for part in (constant, linear, leading)]
    if None not in signs and len({one for one in signs if one != 0}) == 1:
        return _constant(leading)
    condition = linear**2 > 4 * leading * constant
    if start == -1:
        return Solution(INTERVALS, lower, upper, MEMORY, MEMORY, condition, ALWAYS_MEMORY)
    return Solution(INTERVALS, upper, lower, COMPUTE, COMPUTE, condition, None)


def _quotient(constant: Expr, slope: Expr) -> Expr:
    """-constant / slope with as few minus signs as there can be."""
    over, under = reduced(-constant, slope)
    turn = sign(under) == -1 or sign(over) == -1 or (sign(under) is None and sign(over) is None and under.could_extract_minus_sign())
    return (-over).expand() / (-under).expand() if turn else over / under


def greater(expression: Expr) -> Relational:
    """``expression > 0`` with positive terms on both sides."""
    positive, negative = split(*reduced(expression))
    return positive > negative


def less(expression: Expr) -> Relational:
    """``expression < 0`` with positive terms on both sides."""
    positive, negative = split(*reduced(expression))
    return positive < negative
