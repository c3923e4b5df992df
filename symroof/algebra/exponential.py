"""Sums of polynomials times exponentials, ``sum p_i(x) q_i^(k_i x + c_i)`` with rational numbers: sign and roots, proved.

Expected experts ``E (1 - (1 - K/E)^x)`` and unions of sparsity and exits have this form. The sign at a rational is determined by
enclosures that are narrowed until they exclude zero, and zero itself by algebra: positive radicals of rationals with irrational
ratios are linearly independent over the rationals (Besicovitch). Roots are those of the irreducible factors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, reduce
from math import gcd, inf, lcm, prod
from typing import Any, NamedTuple, cast

from sympy import Dummy, Expr, Integer, Poly, Rational, Symbol, factor_list, log, oo

from symroof.algebra.enclosure import ZERO, Enclosure, add, enclose, horner, logarithm, multiply, power, spanned
from symroof.algebra.isolation import Root, bound, isolated
from symroof.algebra.polynomial import Polynomial
from symroof.algebra.reals import ascending, exact, inside, primitive_root, rational_radical, sign_of, value_at
from symroof.algebra.univariate import Powers, signed_powers
from symroof.errors import InputError

NARROWEST = 2**16
"""Bits of an enclosure after which a sign is left undecided."""


class Key(NamedTuple):
    """The factor of a term other than its polynomial: ``(base^(scale x) shift)^(1 / root) prod(ln(q)^n)`` for the ``(q, n)`` of *logs*."""

    base: Fraction
    shift: Fraction = Fraction(1)
    logs: tuple[tuple[Fraction, int], ...] = ()


Grouped = dict[Key, Powers]
"""Polynomials by the other factor of their term."""


class Term(NamedTuple):
    """A polynomial's coefficients, lowest power first, and the other factor; scale and root are common to the sum."""

    key: Key
    coefficients: tuple[int, ...]


def constant_expression(key: Key, root: int) -> Expr:
    """The constant part of a key, ``shift^(1 / root) prod(ln(q)^n)``."""
    return cast(Expr, exact(key.shift) ** Rational(1, root) * prod(log(exact(base)) ** times for base, times in key.logs))


class Enclosed(ABC):
    """A function of one variable with enclosures of values and slopes, and an algebraic test for zeros at rationals."""

    x: Symbol
    least: Fraction | float = -inf
    """The low end of its domain."""

    is_zero = False

    @abstractmethod
    def over(self, low: Fraction, high: Fraction, bits: int) -> tuple[Enclosure, Enclosure]:
        """Enclosures of all values and of all slopes from *low* to *high*."""

    @abstractmethod
    def at(self, point: Fraction, bits: int) -> Enclosure:
        """An enclosure of the value at a rational; polynomials are exact, so that small terms decide where they vanish."""

    @abstractmethod
    def roots(self, low: Expr, high: Expr) -> list[Expr]:
        """Its distinct real roots from *low* to *high*, both included, in ascending order: rationals, radicals and `Root`.

        Raises
        ------
        InputError
            Two roots are too close to separate.
        """

    @abstractmethod
    def reach(self) -> Fraction:
        """A number beyond which there is no root."""

    @abstractmethod
    def last(self) -> int:
        """Its sign at all large values."""

    @abstractmethod
    def vanishes(self, point: Fraction) -> bool:
        """Whether algebra proves that it is zero at a rational."""

    def sign(self, point: Expr) -> int:
        """Its sign at a point, at oo that of all large values; exact at rationals and at roots of such sums."""
        if point == oo:
            return self.last()
        if point.is_Rational:
            return self.sign_at(Fraction(cast(Any, point).p, cast(Any, point).q))
        for bits in (64, 128, 256):
            low, high = _around(point, bits)
            if known := self.over(low, high, 2 * bits)[0].sign:
                return known
            if bits == 128 and point in self.roots(exact(low), exact(high)):
                return 0
        return 0

    def sign_at(self, point: Fraction) -> int:
        """Its sign at a rational, exactly.

        Raises
        ------
        InputError
            The sign is open after `NARROWEST` binary digits.
        """
        bits = 64
        while bits <= NARROWEST:
            known = self.at(point, bits).sign
            if known is not None:
                return known
            if bits == 64 and self.vanishes(point):
                return 0
            bits *= 2
        raise InputError(f"the sign at {self.x} = {point} is open after {NARROWEST} binary digits")


@dataclass(frozen=True)
class Exponential(Enclosed):
    """A sum of polynomials times exponentials, up to a positive factor; terms by descending base, the largest being 1.

    >>> from sympy.abc import x
    >>> from symroof.algebra.exponents import exponential
    >>> slack = exponential(x / 3 - 8 * (1 - Rational(3, 4) ** x), x)
    >>> slack.sign(Integer(24)), slack.sign(Integer(23)), slack.roots(Integer(0), oo)
    (1, -1, [0, 23.9757500233615])
    """

    x: Symbol
    root: int
    terms: tuple[Term, ...]
    scale: int = 1

    @property
    def rate(self) -> Fraction:
        """The growth of the exponents per unit of x."""
        return Fraction(self.scale, self.root)

    def last(self) -> int:
        """Its sign at all large values."""
        leading = [term for term in self.terms if term.key.base == 1]
        degree = max(len(coefficients) for _, coefficients in leading)
        parts = (numbers[-1] * constant_expression(key, self.root) for key, numbers in leading if len(numbers) == degree)
        return sign_of(cast(Expr, sum(parts, start=Integer(0))))

    def reach(self) -> Fraction:
        """A number beyond which there is no root; see `symroof.algebra.isolation.bound`."""
        return bound(self)

    def constant(self, key: Key, bits: int) -> Enclosure:
        """An enclosure of the constant factor of a term: ``shift^(1 / root) prod(ln(q)^n)``."""
        logs = (logarithm(base, bits) for base, times in key.logs for _ in range(times))
        return reduce(lambda product, factor: multiply(product, factor, bits), logs, power(key.shift, Fraction(1, self.root), bits))

    def over(self, low: Fraction, high: Fraction, bits: int) -> tuple[Enclosure, Enclosure]:
        """Enclosures of all values and of all slopes from *low* to *high*."""
        x, value, slope = enclose(low, high, bits), ZERO, ZERO
        for key, coefficients in self.terms:
            wave = spanned(power(key.base, high * self.rate, bits), power(key.base, low * self.rate, bits), bits)
            wave = multiply(wave, self.constant(key, bits), bits)
            rate = multiply(logarithm(key.base, bits), enclose(self.rate, self.rate, bits), bits)
            main = horner(coefficients, x, bits)
            steep = horner([place * number for place, number in enumerate(coefficients)][1:], x, bits)
            value = add(value, multiply(main, wave, bits), bits)
            slope = add(slope, multiply(add(steep, multiply(main, rate, bits), bits), wave, bits), bits)
        return value, slope

    def at(self, point: Fraction, bits: int) -> Enclosure:
        """An enclosure of the value at a rational."""
        value = ZERO
        for key, coefficients in self.terms:
            number = value_at(coefficients, point)
            if number:
                wave = multiply(power(key.base, point * self.rate, bits), self.constant(key, bits), bits)
                value = add(value, multiply(enclose(number, number, bits), wave, bits), bits)
        return value

    def vanishes(self, point: Fraction) -> bool:
        """Whether it is zero: terms whose radicals have rational ratios must cancel, separately for each class of radicals.

        Logarithms are taken as independent; if they were not, a sign would stay undecided but never be wrong.
        """
        groups: list[tuple[Key, list[Fraction]]] = []
        for key, coefficients in self.terms:
            number = value_at(coefficients, point)
            for other, numbers in groups if number else ():
                if (ratio := self._ratio(key, other, point)) is not None:
                    numbers.append(number * ratio)
                    break
            else:
                groups.append((key, [number]))
        return not any(sum(numbers) for _, numbers in groups)

    def _ratio(self, key: Key, other: Key, point: Fraction) -> Fraction | None:
        """The ratio of two terms' other factors, if it is rational."""
        if key.logs != other.logs:
            return None
        base, shift = key.base / other.base, key.shift / other.shift
        factors = {base: point.numerator * self.scale}
        factors[shift] = factors.get(shift, 0) + point.denominator
        return rational_radical(factors, self.root * point.denominator)

    def roots(self, low: Expr, high: Expr) -> list[Expr]:
        """Its distinct real roots from *low* to *high*, both included, in ascending order: rationals, radicals and `Root`."""
        every = (root for factor in self.factors for root in _roots_of(factor, low, high))
        return inside(ascending(every), low, high)

    @cached_property
    def factors(self) -> tuple[Signed, ...]:
        """The irreducible factors of the sum as a polynomial in x and one symbol per independent exponential and logarithm."""
        if any(key.shift != 1 for key, _ in self.terms):
            return (self,)
        waves = {key.base: primitive_root(key.base) for key, _ in self.terms if key.base != 1}
        bases = list(dict.fromkeys(base for base, _ in waves.values()))
        logs = list(dict.fromkeys(base for key, _ in self.terms for base, _ in key.logs))
        terms: dict[tuple[int, ...], int] = {}
        for key, coefficients in self.terms:
            wave = waves.get(key.base, (None, 0))
            exponents = [wave[1] if base == wave[0] else 0 for base in bases] + [dict(key.logs).get(base, 0) for base in logs]
            terms.update({(place, *exponents): number for place, number in enumerate(coefficients) if number})
        whole = Poly.from_dict(terms, self.x, *(Dummy("y") for _ in (*bases, *logs)))
        factors = _irreducible(whole)
        return (self,) if factors == [whole] else tuple(_assembled(factor, self, bases, logs) for factor in factors)


Signed = Polynomial | Enclosed
"""A function with the sign of an expression, which gives its `sign` at a point and its `roots` on a range."""


def _roots_of(factor: Signed, low: Expr, high: Expr) -> list[Expr]:
    """The roots of a factor, computed for the sign with a positive leading coefficient, so that equal roots are equal objects."""
    if not isinstance(factor, Exponential):
        return factor.roots(low, high)
    turn = 1 if factor.terms[0].coefficients[-1] > 0 else -1
    terms = tuple(Term(key, tuple(turn * number for number in numbers)) for key, numbers in factor.terms)
    return isolated(replace(factor, terms=terms), low, high)


def _irreducible(whole: Poly) -> list[Poly]:
    """The distinct factors; a polynomial linear in a symbol has only the common factors of its two coefficients."""
    for place, generator in enumerate(whole.gens[1:], 1):
        if whole.degree(cast(Any, generator)) == 1:
            parts = ({powers: number for powers, number in whole.terms() if powers[place] == degree} for degree in (0, 1))
            constant, slope = (Poly.from_dict(part, *whole.gens) for part in parts)
            common = constant.gcd(slope.quo(Poly(generator, *whole.gens)))
            return [whole] if common.is_ground else [*_irreducible(common), whole.quo(common)]
    factors = factor_list(whole)[1]
    return [whole] if len(factors) == 1 and factors[0][1] == 1 else [factor for factor, _ in factors]


def _assembled(factor: Poly, whole: Exponential, bases: Sequence[Fraction], logs: Sequence[Fraction]) -> Signed:
    """A factor as a sum of exponentials."""
    grouped: Grouped = {}
    for (place, *exponents), number in factor.terms():
        base = prod((part**exponent for part, exponent in zip(bases, exponents, strict=False)), start=Fraction(1))
        powers = tuple((part, times) for part, times in zip(logs, exponents[len(bases) :], strict=True) if times)
        grouped.setdefault(Key(base, logs=powers), {})[place] = Fraction(int(cast(Any, number).p), int(cast(Any, number).q))
    return normalized(grouped, whole.x, whole.root, whole.scale)


def normalized(grouped: Grouped, x: Symbol, root: int, scale: int = 1) -> Signed:
    """The sum divided by positive factors: its slowest exponential, powers of x, numbers; a polynomial if no exponential is left."""
    if not grouped:
        return Polynomial(x, (0,))
    largest = max(key.base for key in grouped)
    lowest = min(place for terms in grouped.values() for place in terms)
    scaled = {
        key._replace(base=key.base / largest): {place - lowest: number for place, number in terms.items()} for key, terms in grouped.items()
    }
    if len(scaled) == 1:  # the logarithms of numbers below 1 are negative
        ((key, terms),) = scaled.items()
        sign = (-1) ** sum(times for _, times in key.logs)
        return signed_powers({place: sign * number for place, number in terms.items()}, x)
    times = gcd(*(primitive_root(key.base)[1] for key in scaled if key.base != 1)) or 1
    scale *= times
    shared = gcd(root, scale, *(primitive_root(key.shift)[1] for key in scaled if key.shift != 1))
    root, scale = root // shared, scale // shared
    scaled = {Key(_radical(key.base, times), _radical(key.shift, shared), key.logs): terms for key, terms in scaled.items()}
    whole = lcm(*(number.denominator for terms in scaled.values() for number in terms.values()))
    common = gcd(*(int(number * whole) for terms in scaled.values() for number in terms.values()))
    factor = Fraction(whole, common)
    ordered = [
        Term(key, tuple(int(terms.get(place, 0) * factor) for place in range(max(terms) + 1)))
        for key, terms in sorted(scaled.items(), key=lambda item: item[0], reverse=True)
    ]
    return Exponential(x, root, tuple(ordered), scale)


def _radical(number: Fraction, degree: int) -> Fraction:
    """The root of this degree of a perfect power."""
    if degree == 1:
        return number
    base, exponent = primitive_root(number)
    return base ** (exponent // degree)


def _around(point: Expr, bits: int) -> tuple[Fraction, Fraction]:
    """Rationals below and above a number."""
    if isinstance(point, Root):
        return point.refined(bits)
    digits = bits // 3
    near, width = Fraction(str(point.evalf(digits + 5))), Fraction(1, 10**digits)
    return near - width * (abs(near) + 1), near + width * (abs(near) + 1)
