"""The slack ``F BW - B P`` as a polynomial: its sign is the bound, its roots are the crossovers.

All symbols are positive, so clearing denominators and dividing by a common monomial keep the sign.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd
from typing import Any, cast

from sympy import Add, Dummy, Expr, Integer, Max, Min, Mul, Poly, Pow, Symbol, ceiling, floor, fraction, oo, real_roots, sqrt, together

from symroof.algebra.reals import ascending, inside, sign_of, value_at
from symroof.errors import InputError
from symroof.symbols import substitute

OPAQUE = (ceiling, floor, Max, Min)
HIGHEST = 15
"""Degree up to which roots are looked for."""


@dataclass(frozen=True)
class Polynomial:
    """A polynomial in one symbol with the sign of some expression; coefficients from the lowest power up.

    >>> from symroof.symbols import b, d, P, BW
    >>> slack = polynomial(2 * b * d * BW - (b * d / 8 + d) * P, b)
    >>> slack.coefficients, slack.degree, slack.is_bound
    ((-8*P, 16*BW - P), 1, False)
    >>> curve = Polynomial(b, (-6, 1, 1))
    >>> curve.roots(), curve.roots(Integer(0), oo), curve.sign(Integer(1))
    ([-3, 2], [2], -1)
    """

    x: Symbol
    coefficients: tuple[Any, ...]

    @property
    def degree(self) -> int:
        """The highest power that occurs."""
        return len(self.coefficients) - 1

    @cached_property
    def is_bound(self) -> bool:
        """Whether every coefficient is a number."""
        return all((Integer(1) * coefficient).is_number for coefficient in self.coefficients)

    @property
    def is_zero(self) -> bool:
        """Whether it is zero everywhere."""
        return self.coefficients == (0,)

    def __call__(self, value: Expr | int) -> Expr:
        """The value at a point, exactly."""
        total: Expr = Integer(0)
        for coefficient in reversed(self.coefficients):
            total = total * value + coefficient
        return total

    def as_expr(self) -> Expr:
        """As an expression, from the highest power down."""
        return self(self.x)

    def sign(self, point: Expr) -> int:
        """Its sign at a point, at oo that of all large values; the coefficients are numbers."""
        if point == oo:
            return sign_of(Integer(1) * self.coefficients[-1])
        if point.is_Rational and all(isinstance(coefficient, int) for coefficient in self.coefficients):
            value = value_at(self.coefficients, Fraction(cast(Any, point).p, cast(Any, point).q))
            return (value > 0) - (value < 0)
        return sign_of(self(point))

    def roots(self, low: Expr = -oo, high: Expr = oo) -> list[Expr]:
        """Its distinct roots from *low* to *high*, both included, in ascending order; the coefficients are numbers.

        Raises
        ------
        InputError
            The degree is higher than is looked for.
        """
        return inside(self._roots, low, high)

    @cached_property
    def _roots(self) -> list[Expr]:
        c, b, a = (*(Integer(1) * number for number in self.coefficients), 0, 0)[:3]
        if self.degree < 2:
            return [] if b == 0 else [-c / b]
        if self.degree == 2:
            discriminant = b**2 - 4 * a * c
            return [] if discriminant < 0 else ascending((-b + side * sqrt(discriminant)) / (2 * a) for side in (-1, 1))
        if self.degree > HIGHEST:
            raise InputError(f"a polynomial of degree {self.degree} in {self.x} decides, more than {HIGHEST}: sweep over it instead")
        return list(dict.fromkeys(cast(Any, real_roots(Poly(self.coefficients[::-1], self.x)))))


def polynomial(expression: Expr, x: Symbol) -> Polynomial:
    """The polynomial in *x* that has the sign of *expression* for all positive symbols, in lowest terms.

    Raises
    ------
    InputError
        The expression is not a rational function of x (blocks are counted by a ceiling, say).
    """
    numerator, opaque = _without_opaque(expression, x)
    generators = [x, *sorted(numerator.free_symbols - {x}, key=str)]
    if not numerator.is_polynomial(*generators):
        _refuse_exponent(numerator, x)
        numerator = fraction(together(numerator))[0]
    if not numerator.is_polynomial(*generators):
        raise InputError(f"{numerator} is not a polynomial in {x}")
    whole = Poly(numerator, *generators).clear_denoms(convert=True)[1]
    if whole.is_zero:
        return Polynomial(x, (Integer(0),))
    _, whole = whole.terms_gcd()
    whole = whole.primitive()[1]
    parts: dict[int, dict[tuple[int, ...], Expr]] = {}
    for powers, number in whole.terms():
        parts.setdefault(powers[0], {})[powers[1:]] = number
    others = generators[1:]
    coefficients = tuple(substitute(_assembled(parts.get(power, {}), others), opaque) for power in range(max(parts) + 1))
    return Polynomial(x, coefficients)


def _refuse_exponent(expression: Expr, x: Symbol) -> None:
    powers = [power for power in expression.atoms(Pow) if x in power.exp.free_symbols]
    if powers:
        raise InputError(f"{x} is an exponent, in {min(powers, key=str)}: no closed form over it; go through its whole numbers")


def _assembled(terms: dict[tuple[int, ...], Expr], symbols: list[Symbol]) -> Expr:
    if not terms:
        return Integer(0)
    return Poly.from_dict(terms, *symbols).as_expr() if symbols else terms[()]


def _without_opaque(expression: Expr, x: Symbol) -> tuple[Expr, dict[Symbol, Expr]]:
    """Put a positive letter for every ceiling and the like that does not depend on x."""
    found = sorted(expression.atoms(*OPAQUE), key=lambda atom: -atom.count_ops())
    letters: dict[Any, Expr] = {}
    for atom in found:
        if x in atom.free_symbols:
            raise InputError(f"the formula counts blocks, {atom}: it is not a polynomial in {x}")
        letters[atom] = Dummy("n", positive=True)
    return substitute(expression, letters), {cast(Symbol, letter): atom for atom, letter in letters.items()}


def split(expression: Expr) -> tuple[Expr, Expr]:
    """The positive terms of a polynomial and, turned positive, the negative ones.

    >>> from symroof.symbols import b, d, P, BW
    >>> split(16 * BW * d - P * b)
    (16*BW*d, P*b)
    """
    terms: list[Expr] = [*Add.make_args(expression.expand())]
    positive = [term for term in terms if not term.could_extract_minus_sign() and term != 0]
    negative = [-term for term in terms if term.could_extract_minus_sign()]
    return _sum(positive), _sum(negative)


def _sum(terms: Iterable[Expr]) -> Expr:
    return sum(terms, start=Integer(0))


def sign(expression: Expr) -> int | None:
    """The sign for all positive symbols, where every term agrees; None where that cannot be said.

    >>> from symroof.symbols import b, d
    >>> sign(b + d), sign(-b * d), sign(b - d), sign(b - b)
    (1, -1, None, 0)
    """
    if expression.is_number:
        return int(bool(expression > 0)) - int(bool(expression < 0))
    positive, negative = split(expression)
    if positive != 0 and negative != 0:
        return None
    return int(positive != 0) - int(negative != 0)


def reduced(*expressions: Expr) -> tuple[Expr, ...]:
    """Polynomials divided by the monomial and the number they have in common, all of them positive.

    >>> from symroof.symbols import b, d, P, BW
    >>> reduced(4 * b * d * BW, 2 * b * P)
    (2*BW*d, P)
    """
    generators: list[Any] = sorted(set().union(*(expression.free_symbols for expression in expressions)), key=str)
    if not generators or not all(expression.is_polynomial(*generators) for expression in expressions):
        return expressions
    terms = [term for expression in expressions for term in Poly(expression, *generators).terms() if term[1] != 0]
    if not terms:
        return expressions
    least = [min(powers[place] for powers, _ in terms) for place in range(len(generators))]
    number = gcd(*(int(coefficient) for _, coefficient in terms)) if all(c.is_Integer for _, c in terms) else 1
    common = Mul(number, *(Pow(symbol, power) for symbol, power in zip(generators, least, strict=True)))
    return tuple((expression / common).expand() for expression in expressions)
