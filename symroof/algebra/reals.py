"""The order of exact real numbers: rationals, radicals, roots of polynomials and of sums of exponentials; rational radicals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cmp_to_key, lru_cache
from math import gcd, isinf, isnan
from typing import Any, cast

from sympy import ComplexRootOf, Expr, Integer, Rational, floor, integer_nthroot, minimal_polynomial, nan, oo, primerange
from sympy.core.evalf import PrecisionExhausted
from sympy.polys.polyerrors import NotAlgebraic

from symroof.errors import InputError, quote

NEAR = 17
"""Decimals of the first comparison."""
DIGITS = 300
"""Decimals to which two numbers must agree to be taken as equal if algebra cannot decide."""
LONGEST = 10**6
"""The largest number of bits of a power that is computed."""


def exact(value: object) -> Expr:
    """A number as an exact sympy number; floats by their decimal representation.

    Raises
    ------
    InputError
        The value is not a number.

    >>> exact(3), exact(Fraction(1, 3)), exact(0.1)
    (3, 1/3, 1/10)
    """
    if isinstance(value, Expr):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction) or (isinstance(value, float) and isnan(value)):
        raise InputError(f"{quote(value)}: expected a number")
    if isinstance(value, float):
        return (oo if value > 0 else -oo) if isinf(value) else Rational(repr(value))
    return Rational(value.numerator, value.denominator) if isinstance(value, Fraction) else Integer(int(value))


def sign_of(number: Expr) -> int:
    """The sign of a real number: -1, 0 or 1. The minimal polynomial decides whether an algebraic number is zero.

    A number that is not algebraic counts as zero if it vanishes to `DIGITS` decimals.

    >>> from sympy import sqrt
    >>> sign_of(sqrt(2) + sqrt(3) - sqrt(5 + 2 * sqrt(6))), sign_of(sqrt(2) - Rational(7, 5))
    (0, 1)
    """
    if number.is_Rational:
        numerator = cast(Any, number).p
        return (numerator > 0) - (numerator < 0)
    if number is nan:
        raise InputError("nan has no sign")
    if number.is_infinite:
        return 1 if number == oo else -1
    for digits in (60, DIGITS):
        try:
            value = number.evalf(2, maxn=digits, strict=True)
        except PrecisionExhausted:
            if digits == 60 and _is_zero(number):
                return 0
            continue
        return 1 if value > 0 else -1
    return 0


def _is_zero(number: Expr) -> bool:
    if number.expand() == 0:
        return True
    try:
        return cast(Any, minimal_polynomial(number, polys=True)).degree() == 1
    except (NotAlgebraic, NotImplementedError):
        return False


@lru_cache(maxsize=4096)
def _nearby(number: Expr) -> Fraction | None:
    """A rational that agrees with a number to `NEAR` decimals; None if sympy does not guarantee them."""
    if isinstance(number, ComplexRootOf) and number.is_real:
        near = cast(Any, number).eval_rational(n=NEAR)
        return Fraction(int(near.p), int(near.q))
    try:
        return Fraction(str(number.evalf(NEAR, strict=True)))
    except (PrecisionExhausted, ValueError):
        return None


def value_at(coefficients: Sequence[int], point: Fraction) -> Fraction:
    """A polynomial with whole coefficients, lowest power first, at a rational.

    >>> value_at([1, 0, 2], Fraction(1, 2))
    Fraction(3, 2)
    """
    value, scale = 0, 1
    for coefficient in reversed(coefficients):
        value = value * point.numerator + coefficient * scale
        scale *= point.denominator
    return Fraction(value, scale // point.denominator)


def order(left: Expr, right: Expr) -> int:
    """-1 if the first number is less, 0 if they are equal, 1 if it is greater.

    >>> from sympy import sqrt
    >>> order(sqrt(2), Rational(3, 2)), order(oo, Integer(3)), order((1 + sqrt(3)) ** 2, 4 + 2 * sqrt(3))
    (-1, 1, 0)
    """
    if left is right or left == right:
        return 0
    if left.is_Rational and right.is_Rational:
        a, b = cast(Any, left), cast(Any, right)
        difference = a.p * b.q - b.p * a.q
        return (difference > 0) - (difference < 0)
    if left.is_infinite or right.is_infinite:
        return sign_of(left) if left.is_infinite else -sign_of(right)
    near, other = _nearby(left), _nearby(right)
    if near is not None and other is not None and abs(near - other) * 10 ** (NEAR - 4) >= max(abs(near), abs(other)):
        return (near > other) - (near < other)  # they differ in their first decimals
    if left.is_NumberSymbol or right.is_NumberSymbol:  # roots of exponential sums define their own order
        less = left < right
        if less in (True, False):
            return -1 if less else 1
    return sign_of(left - right)


def ascending(numbers: Iterable[Expr]) -> list[Expr]:
    """The distinct numbers in ascending order.

    >>> ascending([Integer(2), Rational(3, 2), oo, Integer(1), Integer(2)])
    [1, 3/2, 2, oo]
    """
    distinct: list[Expr] = []
    for number in sorted(dict.fromkeys(numbers), key=cmp_to_key(order)):
        if not distinct or order(distinct[-1], number) != 0:
            distinct.append(number)
    return distinct


def inside(numbers: Iterable[Expr], low: Expr, high: Expr) -> list[Expr]:
    """The numbers from *low* to *high*, both included; a number equal to an end is replaced by the end.

    >>> from sympy import sqrt
    >>> inside([Integer(1), sqrt(2) + sqrt(3), Integer(4)], Integer(2), sqrt(5 + 2 * sqrt(6)))
    [sqrt(2*sqrt(6) + 5)]
    """
    chosen: list[Expr] = []
    for number in numbers:
        below, above = order(number, low), order(number, high)
        if below >= 0 >= above:
            chosen.append(low if below == 0 else high if above == 0 else number)
    return chosen


def between(low: Expr, high: Expr) -> Expr:
    """A rational strictly between two numbers.

    >>> between(Integer(1), Integer(2)), between(Rational(3, 2), oo)
    (3/2, 2)
    """
    if high == oo:
        return floor(low) + 1
    if low.is_Rational and high.is_Rational:
        return (low + high) / 2
    near, other = _nearby(low), _nearby(high)
    guess = exact((near + other) / 2) if near is not None and other is not None else low
    digits = NEAR
    while not order(low, guess) < 0 < order(high, guess):
        digits *= 2
        guess = Rational(str(((low + high) / 2).evalf(digits)))
    return guess


def bounded_power(base: Fraction, exponent: int) -> Fraction:
    """The power of a rational.

    Raises
    ------
    InputError
        The power has more than `LONGEST` bits.

    >>> bounded_power(Fraction(2, 3), -2)
    Fraction(9, 4)
    """
    if abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > LONGEST:
        raise InputError(f"{base} to the power of {exponent} has too many digits")
    return base**exponent


@lru_cache(maxsize=1024)
def primitive_root(number: Fraction) -> tuple[Fraction, int]:
    """``number = base^exponent`` with the greatest exponent and a base below 1.

    >>> primitive_root(Fraction(9, 4)), primitive_root(Fraction(3, 4))
    ((Fraction(2, 3), -2), (Fraction(3, 4), 1))
    """
    if number == 1:
        return number, 1
    base, exponent = (number, 1) if number < 1 else (1 / number, -1)
    for prime in primerange(base.denominator.bit_length() + 1):
        while True:
            over, under = (integer_nthroot(part, prime) for part in (base.numerator, base.denominator))
            if not (over[1] and under[1]):
                break
            base, exponent = Fraction(int(over[0]), int(under[0])), exponent * prime
    return base, exponent


def coprime_base(numbers: Iterable[int]) -> list[int]:
    """Pairwise coprime whole numbers, none of them a power, whose powers factor the given numbers.

    >>> sorted(coprime_base([12, 18, 25]))
    [2, 3, 5]
    """
    base: list[int] = []
    waiting = [number for number in numbers if number > 1]
    while waiting:
        number = waiting.pop()
        for place, other in enumerate(base):
            common = gcd(number, other)
            if common > 1:
                del base[place]
                waiting += [part for part in (number // common, other // common, common) if part > 1]
                break
        else:
            base.append(number)
    return [primitive_root(Fraction(1, number))[0].denominator for number in base]


def rational_radical(factors: dict[Fraction, int], degree: int) -> Fraction | None:
    """``prod(q^n)^(1 / degree)`` for positive rationals q and integers n if it is rational, which is when the exponents
    over a coprime base are multiples of the degree; otherwise None.

    Raises
    ------
    InputError
        The result has more than `LONGEST` bits.

    >>> rational_radical({Fraction(1, 2): 1, Fraction(9, 2): 1}, 2), rational_radical({Fraction(1, 4): 10**30 + 1}, 4)
    (Fraction(3, 2), None)
    """
    product = Fraction(1)
    for prime in coprime_base(part for number in factors for part in (number.numerator, number.denominator)):
        exponent = sum(times * _valuation(number, prime) for number, times in factors.items())
        if exponent % degree:
            return None
        product *= bounded_power(Fraction(prime), exponent // degree)
    return product


def _valuation(number: Fraction, prime: int) -> int:
    """The exponent of an element of the coprime base in a number."""
    count = 0
    for part, sign in ((number.numerator, 1), (number.denominator, -1)):
        rest = part
        while rest % prime == 0:
            rest, count = rest // prime, count + sign
    return count
