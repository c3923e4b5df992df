"""Interval arithmetic with integers: proved enclosures of real numbers between two dyadic rationals.

``(low, high, exponent)`` is the interval from ``low 2^exponent`` to ``high 2^exponent``; every operation rounds outwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple


class Enclosure(NamedTuple):
    """An interval that is proved to contain a real number.

    >>> low, high = power(Fraction(1, 2), Fraction(1, 2), 64).fractions
    >>> low**2 < Fraction(1, 2) < high**2
    True
    """

    low: int
    high: int
    exponent: int

    @property
    def sign(self) -> int | None:
        """-1, 0 or 1; None if the interval contains zero and other numbers."""
        if self.low > 0:
            return 1
        if self.high < 0:
            return -1
        return 0 if self.low == self.high else None

    @property
    def fractions(self) -> tuple[Fraction, Fraction]:
        """Both ends."""
        scale = Fraction(2) ** self.exponent
        return self.low * scale, self.high * scale


ZERO = Enclosure(0, 0, 0)


def rounded(low: int, high: int, exponent: int, bits: int) -> Enclosure:
    """The interval with ends rounded outwards to this many bits."""
    excess = max(low.bit_length(), high.bit_length()) - bits
    if excess <= 0:
        return Enclosure(low, high, exponent)
    return Enclosure(low >> excess, -(-high >> excess), exponent + excess)


def enclose(low: Fraction, high: Fraction, bits: int) -> Enclosure:
    """The interval between two rationals.

    >>> enclose(Fraction(1, 2), Fraction(3, 4), 8).fractions
    (Fraction(1, 2), Fraction(3, 4))
    """
    size = max((abs(end.numerator).bit_length() - end.denominator.bit_length() for end in (low, high) if end), default=0)
    shift = bits - size
    up, down = max(shift, 0), max(-shift, 0)
    return Enclosure((low.numerator << up) // (low.denominator << down), -((-high.numerator << up) // (high.denominator << down)), -shift)


def add(left: Enclosure, right: Enclosure, bits: int) -> Enclosure:
    """The sum."""
    if left.exponent < right.exponent:
        left, right = right, left
    if not (left.low or left.high):
        return right
    exponent = max(right.exponent, left.exponent - 2 * bits)
    up, down = left.exponent - exponent, exponent - right.exponent
    return rounded((left.low << up) + (right.low >> down), (left.high << up) - (-right.high >> down), exponent, bits)


def multiply(left: Enclosure, right: Enclosure, bits: int) -> Enclosure:
    """The product."""
    products = (left.low * right.low, left.low * right.high, left.high * right.low, left.high * right.high)
    return rounded(min(products), max(products), left.exponent + right.exponent, bits)


def horner(coefficients: Sequence[int], x: Enclosure, bits: int) -> Enclosure:
    """A polynomial, lowest power first, over an interval."""
    total = ZERO
    for coefficient in reversed(coefficients):
        total = add(multiply(total, x, bits), Enclosure(coefficient, coefficient, 0), bits)
    return total


@lru_cache(maxsize=1024)
def logarithm(number: Fraction, bits: int) -> Enclosure:
    """``ln number = k ln 2 + 2 artanh((m - 1) / (m + 1))`` for ``number = 2^k m`` with m near 1.

    >>> low, high = logarithm(Fraction(3, 4), 60).fractions
    >>> float(low), low < high < low + Fraction(1, 2**50)
    (-0.2876820724517809, True)
    """
    if number == 1:
        return ZERO
    twos = number.numerator.bit_length() - number.denominator.bit_length()
    mantissa = number / Fraction(2) ** twos
    if mantissa > Fraction(4, 3):
        twos, mantissa = twos + 1, mantissa / 2
    elif mantissa < Fraction(2, 3):
        twos, mantissa = twos - 1, mantissa * 2
    main = _artanh((mantissa - 1) / (mantissa + 1), bits)
    if twos:
        wide = bits + 4
        main = add(main, multiply(_artanh(Fraction(1, 3), wide), Enclosure(twos, twos, 0), wide), wide)
    return Enclosure(main.low, main.high, main.exponent + 1)


@lru_cache(maxsize=1024)
def _artanh(number: Fraction, bits: int) -> Enclosure:
    if not number:
        return ZERO
    width = bits + number.denominator.bit_length() - abs(number.numerator).bit_length() + 16
    low, high = _artanh_series(abs(number), width)
    return rounded(*((low, high) if number > 0 else (-high, -low)), -width, bits + 8)


def _artanh_series(number: Fraction, width: int) -> tuple[int, int]:
    """Bounds of ``sum z^(2 i + 1) / (2 i + 1)`` with *width* binary digits, for z from 0 to 1/3.

    A power is at most 2 units too small, so a term is too small by less than 3 units; the remainder is less than 4 units.
    """
    power = (number.numerator << width) // number.denominator
    square = (power * power) >> width
    total, place = 0, 0
    while power:
        total += power // (2 * place + 1)
        power = (power * square) >> width
        place += 1
    return total, total + 3 * place + 4


def exponential(value: Enclosure, bits: int) -> Enclosure:
    """``e^value = 2^k e^rest`` with ``rest = value - k ln 2``, by its series, rounded down at the low end and up at the high end."""
    return spanned(_exponential(value.low, value.exponent, bits), _exponential(value.high, value.exponent, bits), bits)


def spanned(left: Enclosure, right: Enclosure, bits: int) -> Enclosure:
    """The interval from the low end of *left* to the high end of *right*."""
    exponent = max(left.exponent, right.exponent) - 2 * bits
    low = _shifted(left.low, left.exponent - exponent)
    high = -_shifted(-right.high, right.exponent - exponent)
    return rounded(low, high, exponent, bits)


def _shifted(number: int, places: int) -> int:
    return number << places if places >= 0 else number >> -places


def _exponential(mantissa: int, exponent: int, bits: int) -> Enclosure:
    """``e^(mantissa 2^exponent)``."""
    if not mantissa:
        return Enclosure(1, 1, 0)
    size = max(mantissa.bit_length() + exponent, 0)
    wide = bits + size + 8
    two = logarithm(Fraction(2), wide)
    whole = _shifted(mantissa, exponent + wide) // _shifted(two.low, two.exponent + wide)
    rest = add(Enclosure(mantissa, mantissa, exponent), multiply(two, Enclosure(-whole, -whole, 0), wide), wide)
    if rest.low < 0:  # the quotient was rounded up
        whole, rest = whole - 1, add(rest, two, wide)
    width = bits + 8
    low = max(_shifted(rest.low, rest.exponent + width), 0)
    high = -_shifted(-rest.high, rest.exponent + width)
    return Enclosure(_series(low, width, upwards=False), _series(high, width, upwards=True), whole - width)


def _series(value: int, width: int, *, upwards: bool) -> int:
    """A lower or upper bound of ``e^v`` with *width* binary digits, for v from 0 to 2."""
    term, total, place = 1 << width, 1 << width, 0
    while term > 1:
        place += 1
        term = -(-term * value // (place << width)) if upwards else term * value // (place << width)
        total += term
    return total + (4 if upwards else 0)


@lru_cache(maxsize=16384)
def power(base: Fraction, exponent: Fraction, bits: int) -> Enclosure:
    """``base^exponent = e^(exponent ln base)`` for a positive base.

    >>> low, high = power(Fraction(1, 4), Fraction(3, 2), 40).fractions
    >>> low <= Fraction(1, 8) <= high
    True
    """
    if base == 1 or not exponent:
        return Enclosure(1, 1, 0)
    size = max(abs(exponent.numerator).bit_length() - exponent.denominator.bit_length(), 0)
    wide = bits + size + max(base.numerator.bit_length(), base.denominator.bit_length()).bit_length() + 8
    return exponential(multiply(logarithm(base, wide), enclose(exponent, exponent, wide), wide), bits)
