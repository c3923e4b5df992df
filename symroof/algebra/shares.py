"""Sums of polynomials times powers ``(1 - share)^T`` with variable shares: ``k/x`` over experts, ``x/e`` over experts per token.

Signs and roots are proved by enclosures, like those of exponential sums; at infinity by the expansion in ``1/x``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import comb, gcd, lcm, prod
from operator import mul, sub
from typing import Any, cast

from sympy import Dummy, Expr, Integer, Poly, PolynomialError, Symbol, fraction, oo, together

from symroof.algebra.enclosure import ZERO, Enclosure, add, enclose, horner, multiply, power, spanned
from symroof.algebra.exponential import Enclosed
from symroof.algebra.isolation import isolated
from symroof.algebra.polynomial import Polynomial
from symroof.algebra.reals import ascending, exact, inside, value_at
from symroof.algebra.unions import Untouched, untouched
from symroof.errors import InputError

Times = tuple[int, ...]
"""The exponents of all shares."""
Terms = tuple[tuple[Times, tuple[int, ...]], ...]
"""The coefficients of the polynomial of each tuple of exponents, lowest power first."""


@dataclass(frozen=True)
class Shares(Enclosed):
    """``sum p(x) prod (1 - share)^n`` up to a positive factor, for shares of at most 1; ``share = part / x`` or ``part x``.

    >>> from sympy.abc import x
    >>> slack = shares(100 - x * (1 - Untouched(2 / x, Integer(64))), x)  # how many experts until 64 tokens touch 100 of them
    >>> slack.sign(Integer(100)), slack.roots(Integer(2), oo), slack.sign(oo)
    (1, [244.896886911531], -1)
    """

    x: Symbol
    parts: tuple[Fraction, ...]
    below: bool
    terms: Terms

    def __post_init__(self) -> None:
        object.__setattr__(self, "least", max(self.parts) if self.below else Fraction(0))

    def shares(self, point: Fraction) -> list[Fraction]:
        """The shares at a point, at most 1."""
        return [min(part / point if self.below else part * point, Fraction(1)) for part in self.parts]

    def vanishes(self, point: Fraction) -> bool:
        """Whether algebra proves that it is zero at a rational."""
        shares = self.shares(point)
        left = ((numbers, [untouched(share, Fraction(n)) for share, n in zip(shares, times, strict=True)]) for times, numbers in self.terms)
        return sum((value_at(numbers, point) * prod(powers) for numbers, powers in left), start=Fraction(0)) == 0

    def over(self, low: Fraction, high: Fraction, bits: int) -> tuple[Enclosure, Enclosure]:
        """Enclosures of all values and of all slopes from *low* to *high*."""
        x, value, slope = enclose(low, high, bits), ZERO, ZERO
        bases = [sorted((1 - left, 1 - right)) for left, right in zip(self.shares(low), self.shares(high), strict=True)]
        rates = [sorted(part / end**2 if self.below else -part for end in (low, high)) for part in self.parts]
        for times, numbers in self.terms:
            main = horner(numbers, x, bits)
            steep = horner([place * number for place, number in enumerate(numbers)][1:], x, bits)
            wave = _spread(bases, times, bits)
            value = add(value, multiply(main, wave, bits), bits)
            slope = add(slope, multiply(steep, wave, bits), bits)
            for place, n in enumerate(times):
                if n:
                    falling = multiply(multiply(main, Enclosure(n, n, 0), bits), enclose(rates[place][0], rates[place][1], bits), bits)
                    fewer = (*times[:place], n - 1, *times[place + 1 :])
                    slope = add(slope, multiply(falling, _spread(bases, fewer, bits), bits), bits)
        return value, slope

    def at(self, point: Fraction, bits: int) -> Enclosure:
        """An enclosure of the value at a rational."""
        value, bases = ZERO, [[1 - share] * 2 for share in self.shares(point)]
        for times, numbers in self.terms:
            number = value_at(numbers, point)
            if number:
                value = add(value, multiply(enclose(number, number, bits), _spread(bases, times, bits), bits), bits)
        return value

    def roots(self, low: Expr, high: Expr) -> list[Expr]:
        """Its distinct real roots from *low* to *high*, both included, in ascending order."""
        turn = 1 if self.terms[0][1][-1] > 0 else -1  # a function and its negative have the same roots
        own = replace(self, terms=tuple((times, tuple(turn * number for number in numbers)) for times, numbers in self.terms))
        return inside(ascending(isolated(own, low, high)), low, high)

    def last(self) -> int:
        """Its sign at all large values."""
        return self._leading[1]

    def reach(self) -> Fraction:
        """A number beyond which there is no root.

        In ``v = 1/x`` the function has the same form, and one sign close to 0.

        Raises
        ------
        InputError
            The order to which it vanishes at infinity is too high to decide.
        """
        if not self.below:
            return 1 / max(self.parts)
        degree, (order, _) = self._degree, self._leading
        turned = tuple((times, tuple(reversed((*numbers, *[0] * (degree + 1 - len(numbers)))))) for times, numbers in self.terms)
        mirrored, far = Shares(self.x, self.parts, False, turned), max(2 * max(self.parts), Fraction(1))
        if order > 1:
            raise InputError(f"the behaviour of the formula in {self.x} at infinity is undecided")
        while not mirrored.over(Fraction(0), 1 / far, 64)[order].sign:
            far *= 2
        return far

    @property
    def _degree(self) -> int:
        return max(len(numbers) for _, numbers in self.terms) - 1

    @property
    def growth(self) -> tuple[int, Fraction]:
        """The power of x with which it grows at infinity, and the coefficient."""
        order, _ = self._leading
        return self._degree - order, self._expansion(order)

    @cached_property
    def _leading(self) -> tuple[int, int]:
        """The order, below the highest power, of the first nonzero term of the expansion in 1/x, and its sign."""
        if not self.below:
            raise InputError(f"{self.x} ends at {1 / max(self.parts)}, where a share of it is 1")
        for order in range(self._degree + max(sum(times) for times, _ in self.terms) + 1):
            if lead := self._expansion(order):
                return order, 1 if lead > 0 else -1
        raise InputError(f"the formula in {self.x} vanishes")

    def _expansion(self, order: int) -> Fraction:
        """The coefficient of ``x^(degree - order)`` in the expansion in 1/x."""
        total = Fraction(0)
        for times, numbers in self.terms:
            powers = [Fraction(1)]  # of 1/x, in the product of the powers of all bases
            for part, n in zip(self.parts, times, strict=True):
                binomials = [comb(n, step) * (-part) ** step for step in range(order + 1)]
                powers = [sum(map(mul, powers[: step + 1], reversed(binomials[: step + 1]))) for step in range(order + 1)] if n else powers
                powers += [Fraction(0)] * (order + 1 - len(powers))
            steps = ((order - self._degree + place, number) for place, number in enumerate(numbers))
            total += sum((number * powers[step] for step, number in steps if step >= 0), start=Fraction(0))
        return total


def _spread(bases: Sequence[Sequence[Fraction]], times: Times, bits: int) -> Enclosure:
    """An enclosure of a product of powers whose bases lie in intervals, with low ends that may be 0."""
    product = Enclosure(1, 1, 0)
    for (least, most), n in zip(bases, times, strict=True):
        if n:
            low, high = (power(base, Fraction(n), bits) if base else ZERO for base in (least, most))
            product = multiply(product, spanned(low, high, bits), bits)
    return product


def shares(expression: Expr, x: Symbol) -> Shares | Polynomial:
    """A function with the sign of an expression in which *x* changes shares of one kind, for shares of at most 1.

    Raises
    ------
    InputError
        The expression has another form.
    """
    parts, below, over, _ = _read(expression, x)
    return _normalized(over, x, parts, below)


def shares_limit(expression: Expr, x: Symbol) -> Expr:
    """The limit as *x* grows."""
    parts, below, over, under = _read(expression, x)
    (degree, lead), (other, divisor) = (_growth(_normalized(terms, x, parts, below, scaled=False)) for terms in (over, under))
    if degree != other:
        return Integer(0) if degree < other else oo * (1 if lead * divisor > 0 else -1)
    return exact(lead / divisor)


def _growth(function: Shares | Polynomial) -> tuple[int, Fraction]:
    if isinstance(function, Shares):
        return function.growth
    number = cast(Any, Integer(1) * function.coefficients[-1])
    return function.degree, Fraction(int(number.p), int(number.q))


Grouped = dict[Times, dict[int, Fraction]]
"""Polynomials, as ``{power: number}``, by the exponents of the other factor."""


def _read(expression: Expr, x: Symbol) -> tuple[tuple[Fraction, ...], bool, Grouped, Grouped]:
    """The parts of the shares, whether x divides them, numerator and denominator; the denominator is made positive."""
    atoms = sorted(expression.atoms(Untouched), key=str)
    refused = InputError(f"{x} is in {', '.join(map(str, atoms))}: no closed form over it; sweep over it instead")
    unknowns = {atom: Dummy("y", positive=True) for atom in atoms}
    moving = list(dict.fromkeys(atom.share for atom in atoms))
    below = cast(Any, moving[0] * x).is_Rational
    sizes = [cast(Any, share * x if below else share / x) for share in moving]
    fitting = all(size.is_Rational for size in sizes) and all(atom.tokens.is_Integer for atom in atoms)
    if not fitting or expression.free_symbols != {x}:
        raise refused
    over, under = fraction(together(cast(Expr, expression.xreplace(cast(Any, unknowns)))))
    powers = [(moving.index(atom.share), int(cast(Any, atom.tokens))) for atom in unknowns]
    try:
        grouped = [_grouped(Poly(side, x, *unknowns.values()), powers, len(moving)) for side in (over, under)]
    except PolynomialError:
        raise refused from None
    parts = tuple(Fraction(int(size.p), int(size.q)) for size in sizes)
    within = 2 * max(parts) if below else 1 / (2 * max(parts))
    sign = _normalized(grouped[1], x, parts, below)
    turn = sign.sign_at(within) if isinstance(sign, Shares) else sign.sign(exact(within))
    over, under = ({times: {place: turn * n for place, n in terms.items()} for times, terms in side.items()} for side in grouped)
    return parts, below, over, under


def _grouped(side: Poly, powers: Sequence[tuple[int, int]], shares: int) -> Grouped:
    """The terms of a polynomial in x and the symbols of powers, by the exponents of the shares."""
    grouped: Grouped = {}
    for (place, *exponents), number in side.terms():
        if not number.is_Rational:
            raise PolynomialError(str(number))
        times = [0] * shares
        for exponent, (share, n) in zip(exponents, powers, strict=True):
            times[share] += exponent * n
        terms = grouped.setdefault(tuple(times), {})
        terms[place] = terms.get(place, Fraction(0)) + Fraction(int(cast(Any, number).p), int(cast(Any, number).q))
    nonzero = ((times, {place: number for place, number in terms.items() if number}) for times, terms in grouped.items())
    return {times: terms for times, terms in nonzero if terms}


def _normalized(grouped: Grouped, x: Symbol, parts: tuple[Fraction, ...], below: bool, *, scaled: bool = True) -> Shares | Polynomial:
    """The sum divided by positive factors: powers of x and numbers; a polynomial if no power of a share is left."""
    if not grouped:
        return Polynomial(x, (0,))
    fewest = [min(times) for times in zip(*grouped, strict=True)]
    lowest = min(place for terms in grouped.values() for place in terms) if scaled else 0
    every = [number for terms in grouped.values() for number in terms.values()]
    scale = Fraction(lcm(*(number.denominator for number in every)))
    scale = scale / gcd(*(int(number * scale) for number in every)) if scaled else Fraction(1)
    terms = tuple(
        (tuple(map(sub, times, fewest)), tuple(scale * numbers.get(place, 0) for place in range(lowest, max(numbers) + 1)))
        for times, numbers in sorted(grouped.items())
    )
    if len(terms) == 1 and not any(terms[0][0]):
        return Polynomial(x, tuple(exact(number) for number in terms[0][1]))
    return Shares(x, parts, below, cast(Terms, tuple((times, tuple(map(_whole, numbers))) for times, numbers in terms)))


def _whole(number: Fraction) -> Any:
    return int(number) if number.denominator == 1 else number
