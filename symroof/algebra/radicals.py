"""Powers and roots of rationals: when ``q^(n/d)`` is rational, without multiplying it out."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import gcd

from sympy import integer_nthroot, primerange

from symroof.errors import InputError

LONGEST = 10**6
"""Bits of a power that is still multiplied out."""


def bounded_power(base: Fraction, exponent: int) -> Fraction:
    """The power of a rational.

    Raises
    ------
    InputError
        It has more than `LONGEST` bits.

    >>> bounded_power(Fraction(2, 3), -2)
    Fraction(9, 4)
    """
    if abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > LONGEST:
        raise InputError(f"{base} to the power of {exponent} is too long a number")
    return base**exponent


@lru_cache(maxsize=1024)
def primitive_root(number: Fraction) -> tuple[Fraction, int]:
    """``number = base^exponent`` with the greatest exponent, of a base below 1.

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
    """Whole numbers without a common divisor, none of them a power, whose powers make up the given ones.

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
    """``prod(q^n)^(1 / degree)`` for positive rationals q and whole n, where it is rational: where the exponents of a
    coprime base are multiples of the degree.

    Raises
    ------
    InputError
        It has more than `LONGEST` bits.

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
    """How often a number that is all or nothing of every power of it divides."""
    count = 0
    for part, sign in ((number.numerator, 1), (number.denominator, -1)):
        rest = part
        while rest % prime == 0:
            rest, count = rest // prime, count + sign
    return count
