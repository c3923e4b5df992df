"""Where a polynomial with rational coefficients is negative and where it is not, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

from sympy import Expr, Poly, Rational, ceiling, floor, oo, real_roots, sqrt

from symroof.algebra.polynomial import Polynomial
from symroof.errors import InputError

MEMORY, COMPUTE = "memory", "compute"
HIGHEST = 15
"""Degree up to which roots are looked for."""


@dataclass(frozen=True)
class Interval:
    """A stretch of a variable with one bound.

    A boundary between two bounds belongs to the compute-bound side: there FLOPs and bytes take
    equally long.
    """

    low: Expr
    high: Expr
    bound: str

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, Expr | int)
        return bool(self.low <= value) and bool(value <= self.high)


@dataclass(frozen=True)
class Piece:
    """A polynomial and the stretch of the variable where it holds; the low end is part of it."""

    low: Expr
    high: Expr
    slack: Polynomial


def roots(slack: Polynomial) -> list[Expr]:
    """The distinct real roots in ascending order, exactly.

    Raises
    ------
    InputError
        The degree is higher than is looked for.

    >>> from sympy import Integer
    >>> from symroof.symbols import b
    >>> roots(Polynomial(b, (Integer(-6), Integer(1), Integer(1))))
    [-3, 2]
    """
    coefficients = slack.coefficients
    if slack.degree == 0:
        return []
    if slack.degree == 1:
        return [-coefficients[0] / coefficients[1]]
    if slack.degree == 2:
        c, b, a = coefficients
        discriminant = b**2 - 4 * a * c
        if discriminant < 0:
            return []
        width = sqrt(discriminant)
        pair = {(-b - width) / (2 * a), (-b + width) / (2 * a)}
        return sorted(pair)
    if slack.degree > HIGHEST:
        raise InputError(f"a polynomial of degree {slack.degree} in {slack.x} decides, more than {HIGHEST}: sweep over it instead")
    found: list[Expr] = cast(Any, real_roots(Poly(slack.as_expr(), slack.x)))
    return list(dict.fromkeys(found))


def _bound(value: Expr) -> str:
    return MEMORY if value < 0 else COMPUTE


def between(low: Expr, high: Expr) -> Expr:
    """A rational strictly between two numbers."""
    if high == oo:
        return floor(low) + 1
    middle = (low + high) / 2
    if middle.is_Rational:
        return middle
    digits = 20
    while True:
        guess = Rational(str(middle.evalf(digits)))
        if low < guess < high:
            return guess
        digits *= 2


def partition(pieces: Sequence[Piece]) -> tuple[Interval, ...]:
    """The stretches with one bound each, over pieces that follow one another.

    >>> from sympy import Integer
    >>> from symroof.symbols import b
    >>> line = Polynomial(b, (Integer(-7), Integer(2)))
    >>> partition([Piece(Integer(1), oo, line)])
    (Interval(low=1, high=7/2, bound='memory'), Interval(low=7/2, high=oo, bound='compute'))
    """
    found: list[Interval] = []
    if not pieces:
        return ()
    start = pieces[0]
    if start.low > 0 and start.slack(start.low) == 0:  # the range's own low end is a root
        found.append(Interval(start.low, start.low, COMPUTE))
    for piece in pieces:
        inner = [root for root in roots(piece.slack) if piece.low < root < piece.high]
        edges = [piece.low, *inner, piece.high]
        for low, high in pairwise(edges):
            if low in inner:  # at a root FLOPs and bytes take equally long
                found.append(Interval(low, low, COMPUTE))
            found.append(Interval(low, high, _bound(piece.slack(between(low, high)))))
        if piece.high != oo and piece.slack(piece.high) == 0:  # an end two pieces share is the left one's
            found.append(Interval(piece.high, piece.high, COMPUTE))
    return merged(found)


def merged(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    """Neighbours with one and the same bound are one stretch."""
    found: list[Interval] = []
    for interval in intervals:
        if found and found[-1].bound == interval.bound:
            found[-1] = Interval(found[-1].low, interval.high, interval.bound)
        else:
            found.append(interval)
    return tuple(found)


def first_integer(crossing: Expr, above: str) -> Expr:
    """The first whole number on the far side of a crossing.

    >>> from sympy import Integer
    >>> first_integer(Rational(7, 2), "compute"), first_integer(Integer(4), "compute"), first_integer(Integer(4), "memory")
    (4, 4, 5)
    """
    return ceiling(crossing) if above == COMPUTE else floor(crossing) + 1
