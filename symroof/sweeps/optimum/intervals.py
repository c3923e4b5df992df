"""Bounds of formulas over boxes of points: the lines of a program, run on intervals instead of numbers.

The bounds are attained where each variable only raises or only lowers the formula, so formulas are brought into a form in which a quotient
such as time over tokens is divided inside its sums and maxima: there what cancels is gone. In fractions the bounds are proved; in
floats they are as good as rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import numpy as np
from sympy import Add, Expr, Max, Min, Mul, fraction

from symroof.errors import InputError
from symroof.sweeps.compile import Program
from symroof.sweeps.engines import function_of, power_of

Real = np.longdouble
"""The floats of bounds: 64 binary digits where the machine has them, so that few comparisons are left to fractions."""

ROUNDING = 512 * float(np.finfo(Real).eps)
"""Relative error of float bounds, above what a few hundred operations on positive numbers can lose: closer ones are decided exactly."""


def real(value: Fraction) -> Any:
    """A fraction as a float of bounds.

    >>> float(real(Fraction(1, 8)))
    0.125
    """
    return Real(value.numerator) / Real(value.denominator)


class UnprovableError(InputError):
    """The formula has no bounds this way: it takes a power of what may be negative."""


@dataclass(frozen=True)
class Truth:
    """Whether something holds at every point of a box, and whether it can hold at any."""

    always: Any
    possible: Any

    def __and__(self, other: Truth) -> Truth:
        """Both."""
        return Truth(self.always & other.always, self.possible & other.possible)

    def __or__(self, other: Truth) -> Truth:
        """At least one."""
        return Truth(self.always | other.always, self.possible | other.possible)

    def __invert__(self) -> Truth:
        """Not."""
        return Truth(np.logical_not(self.possible), np.logical_not(self.always))


@dataclass(frozen=True, eq=False)
class Interval:
    """What a value lies between over each of several boxes: arrays of floats, or two fractions.

    Attributes
    ----------
    error : the relative error of the ends; 0 for inputs and fractions.
    positive : known to have no negative number in it.

    >>> product = Interval(1.0, 2.0) * Interval(3.0, 5.0) / 2
    >>> (product.low, product.high), (product < 6).always, (product < 4).possible
    ((1.5, 5.0), True, True)
    """

    low: Any
    high: Any
    error: float = 0.0
    positive: bool = field(default=True, repr=False)

    __array_ufunc__ = None
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __add__(self, other: Any) -> Interval:
        """The sum."""
        other = interval(other)
        low, high = self.low + other.low, self.high + other.high
        return Interval(low, high, self.error, (self.positive and other.positive) or _all(low >= 0))

    __radd__ = __add__

    def __mul__(self, other: Any) -> Interval:
        """The product."""
        other = interval(other)
        if self.positive and other.positive:
            return Interval(self.low * other.low, self.high * other.high, self.error)
        return _hull([one * another for one in (self.low, self.high) for another in (other.low, other.high)], self.error)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Interval:
        """The quotient; where the divisor may be zero or negative, anything."""
        other = interval(other)
        if other.positive and _all(other.low > 0):
            if self.positive:
                return Interval(self.low / other.high, self.high / other.low, self.error)
            return _hull([one / another for one in (self.low, self.high) for another in (other.low, other.high)], self.error)
        if not isinstance(other.low, np.ndarray):
            return Interval(-math.inf, math.inf, self.error, positive=False)
        found = self / Interval(np.where(other.low > 0, other.low, 1), np.where(other.low > 0, other.high, 1), other.error)
        low, high = np.where(other.low > 0, found.low, -math.inf), np.where(other.low > 0, found.high, math.inf)
        return Interval(low, high, self.error, positive=False)

    def __rtruediv__(self, other: Any) -> Interval:
        """The quotient."""
        return interval(other) / self

    def _margin(self, other: Interval) -> Any:
        """What rounding may have done to a comparison."""
        error = self.error + other.error
        return error * (abs(self.high) + abs(other.high)) if error else 0

    def __lt__(self, other: Any) -> Truth:
        """Less."""
        other = interval(other)
        margin = self._margin(other)
        return Truth(self.high + margin < other.low, self.low - margin < other.high)

    def __le__(self, other: Any) -> Truth:
        """Less or equal."""
        other = interval(other)
        margin = self._margin(other)
        return Truth(self.high + margin <= other.low, self.low - margin <= other.high)

    def __gt__(self, other: Any) -> Truth:
        """Greater."""
        return interval(other) < self

    def __ge__(self, other: Any) -> Truth:
        """Greater or equal."""
        return interval(other) <= self

    def __eq__(self, other: Any) -> Any:
        """Equal."""
        return (self <= other) & (self >= other)

    def __ne__(self, other: Any) -> Any:
        """Different."""
        return ~(self == other)


def interval(value: Any) -> Interval:
    """A number as an interval."""
    return value if isinstance(value, Interval) else Interval(value, value, positive=value >= 0)


def _all(test: Any) -> bool:
    return bool(np.all(np.asarray(test)))


def _hull(ends: list[Any], error: float) -> Interval:
    low, high = functools.reduce(np.minimum, ends), functools.reduce(np.maximum, ends)
    return Interval(low, high, error, _all(low >= 0))


def _of_ends(call: Callable[..., Any]) -> Callable[..., Interval]:
    """A function that rises in each of its arguments."""

    def on_intervals(*values: Any) -> Interval:
        given = [interval(value) for value in values]
        low, high = call(*(one.low for one in given)), call(*(one.high for one in given))
        return Interval(low, high, positive=all(one.positive for one in given) or _all(low >= 0))

    return on_intervals


def _power(base: Any, exponent: Any) -> Interval:
    """Of a base that is not negative: the extremes are at ends, since it rises or falls in either for each value of the other."""
    base, exponent = interval(base), interval(exponent)
    if not _all(base.low >= 0):
        raise UnprovableError("the formula takes a power of what may be negative; its bounds are not proved")
    return _hull([power_of(one, another) for one in (base.low, base.high) for another in (exponent.low, exponent.high)], 0.0)


def _select(value: Any, limit: Any, within: Any, beyond: Any) -> Interval:
    """One of two, by a comparison; both where it is open."""
    test, within, beyond = interval(value) <= limit, interval(within), interval(beyond)
    both = (np.minimum(within.low, beyond.low), np.maximum(within.high, beyond.high))
    low, high = (
        np.where(test.always, ours, np.where(test.possible, either, theirs))[()]
        for ours, either, theirs in zip((within.low, within.high), both, (beyond.low, beyond.high), strict=True)
    )
    return Interval(low, high, positive=within.positive and beyond.positive)


ON_INTERVALS: dict[str, Any] = {
    "maximum": _of_ends(np.maximum),
    "minimum": _of_ends(np.minimum),
    "ceil": _of_ends(np.ceil),
    "floor": _of_ends(np.floor),
    "power": _power,
    "select": _select,
}


def bounds(program: Program, inputs: dict[str, Any], *, exact: bool = False) -> list[Interval]:
    """Its results over boxes: inputs are intervals or numbers.

    Raises
    ------
    UnprovableError
        It has no bounds this way.

    >>> from symroof.sweeps.compile import program
    >>> from symroof.symbols import b, s
    >>> found, = bounds(program([b / s]), {"b": Interval(1.0, 4.0), "s": Interval(2.0, 8.0)})
    >>> found.low, found.high
    (0.125, 2.0)
    """
    run = _on_intervals(program, exact)
    with np.errstate(all="ignore"):
        found = [interval(value) for value in run(*(inputs[letter] for letter in program.inputs))]
    return [Interval(one.low, one.high, 0.0 if exact else ROUNDING, one.positive) for one in found]


@functools.lru_cache(maxsize=512)
def _on_intervals(program: Program, exact: bool) -> Callable[..., tuple[Any, ...]]:
    return function_of(program, Fraction if exact else real, ON_INTERVALS)


def divided(expression: Expr) -> Expr:
    """An equal expression whose quotient is divided inside sums and maxima, or its inverse, where the divisor is one product.

    >>> from sympy import Max
    >>> from symroof.symbols import b, d, BW, P
    >>> divided(b / Max(b * d / P, (b + d) / BW))
    1/Max(d/P, 1/BW + d/(BW*b))
    """
    over, under = fraction(expression)
    if not _sums(under):
        return _inside(over, under)
    return 1 / _inside(under, over) if not _sums(over) else expression


def _sums(expression: Expr) -> bool:
    """Whether it has a sum or a maximum as a factor."""
    return any(isinstance(factor.as_base_exp()[0], Add | Max | Min) for factor in Mul.make_args(expression))


def _inside(expression: Expr, divisor: Expr) -> Expr:
    if isinstance(expression, Add | Max | Min):
        return cast(Expr, expression.func(*(_inside(cast(Expr, argument), divisor) for argument in expression.args)))
    sums = [factor for factor in Mul.make_args(expression) if isinstance(factor, Add | Max | Min)]
    if isinstance(expression, Mul) and sums:
        rest = cast(Expr, expression / sums[0])
        return _inside(cast(Expr, sums[0]), divisor / rest) if not _sums(rest) and rest.is_positive else cast(Expr, expression / divisor)
    return cast(Expr, expression / divisor)


def whole(value: Any) -> Any:
    """A number as an exact one: a fraction."""
    return Fraction(value.item() if isinstance(value, np.generic) else value)
