"""The slack ``F BW - B P`` as a polynomial: its sign is the bound, its roots are the crossovers.

All symbols are positive, so clearing denominators and dividing by a common monomial keep the sign.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, lcm, prod
from typing import Any, cast

from sympy import QQ, ZZ, Add, Dummy, Expr, Function, Integer, Max, Min, Mul, Poly, Pow, Symbol, ceiling, floor, oo, real_roots, sqrt
from sympy.polys.rings import ring

from symroof.algebra.reals import ascending, inside, sign_of
from symroof.errors import InputError
from symroof.symbols import substitute

OPAQUE = (ceiling, floor, Max, Min)
HIGHEST = 15
"""The highest degree for which roots are computed."""


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
        """The highest power."""
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
        """The polynomial as an expression, highest power first."""
        return self(self.x)

    def sign(self, point: Expr) -> int:
        """Its sign at a point, at oo that of all large values; the coefficients are numbers."""
        if point == oo:
            return sign_of(Integer(1) * self.coefficients[-1])
        return sign_of(self(point))

    def roots(self, low: Expr = -oo, high: Expr = oo) -> list[Expr]:
        """Its distinct roots from *low* to *high*, both included, in ascending order; the coefficients are numbers.

        Raises
        ------
        InputError
            The degree exceeds `HIGHEST`.
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
        The expression is not a rational function of x, for example because it counts blocks with a ceiling.
    """
    terms, generators, opaque = _numerator(expression, x)
    whole = Poly.from_dict(terms, *generators)
    coefficients = (whole.eject(*generators[1:]) if generators[1:] else whole).all_coeffs()
    return Polynomial(x, tuple(substitute(coefficient, opaque) for coefficient in reversed(coefficients)))


def open_factors(expression: Expr, x: Symbol) -> tuple[int, tuple[tuple[Expr, int], ...]]:
    """The sign of all factors of `polynomial` with a fixed sign, and the factors whose sign depends on the symbols, with powers.

    Raises
    ------
    InputError
        As for `polynomial`.

    >>> from symroof.symbols import b, d, n_p
    >>> open_factors((b + d) * (1 - n_p) ** 2 / d, b), open_factors(b - b, b), open_factors(b * n_p - d * n_p, b)
    ((1, ((n_p - 1, 2),)), (0, ()), (1, ((b - d, 1),)))
    """
    terms, generators, opaque = _numerator(expression, x)
    if not terms:
        return 0, ()
    space = ring(generators, ZZ)[0]
    known, left = 1, list[tuple[Expr, int]]()
    for factor, power in _factors(space.from_dict(terms)):
        signs = {number > 0 for number in factor.values()}
        if len(signs) == 1:
            known *= 1 if True in signs else (-1) ** power
        else:
            left.append((substitute(factor.as_expr(), opaque), power))
    return known, tuple(left)


def ratio(over: Expr, under: Expr) -> Expr:
    """``over / under`` in lowest terms, with common symbols factored out of sums.

    Terms that are not rational functions of the symbols, such as powers with symbolic exponents, count as symbols.

    >>> from symroof.symbols import a, b, d, w
    >>> ratio((a * b * d + a * b) / w, a * b * d - a * b * w * d)
    (-d - 1)/(d*w*(w - 1))
    """
    parts = cast(set[Any], over.atoms(Symbol, Pow, Function) | under.atoms(Symbol, Pow, Function))
    generators = sorted((part for part in parts if not (part.is_Pow and part.exp.is_Integer)), key=str)
    (first, below_first), (second, below_second) = (_quotient(side, generators) for side in (over, under))
    numerator, denominator = _product(below_second - below_first, first).cancel(_product(below_first - below_second, second))
    return _content_factored(numerator) / _content_factored(denominator)


def _content_factored(element: Any) -> Expr:
    """A polynomial as the product of its content, the symbols common to all terms, and the rest."""
    number, rest = element.primitive()
    common = rest.ring.from_dict({tuple(map(min, zip(*rest, strict=True))): rest.ring.domain.one}) if rest else rest.ring.one
    return (number * common).as_expr() * rest.quo(common).as_expr()


def _factors(whole: Any) -> list[tuple[Any, int]]:
    """Factors of a polynomial without common symbols; one linear in a symbol has only the common factors of its two coefficients."""
    parts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
    for place, degree in enumerate(whole.degrees()):
        if degree == 1:
            with_it = {(*powers[:place], 0, *powers[place + 1 :]): number for powers, number in whole.items() if powers[place]}
            parts.append((with_it, {powers: number for powers, number in whole.items() if not powers[place]}))
    if not parts:
        number, factors = whole.factor_list()
        return [(whole.ring.ground_new(number), 1), *factors]
    first, second = map(whole.ring.from_dict, min(parts, key=lambda sides: min(map(len, sides))))
    common = first.gcd(second)
    return [(whole, 1)] if common == 1 else [(whole.quo(common), 1), *_factors(common)]


def _numerator(expression: Expr, x: Symbol) -> tuple[dict[tuple[int, ...], int], list[Expr], dict[Symbol, Expr]]:
    """The terms of the polynomial, its generators with *x* first, and the symbols that replace opaque expressions."""
    expression, opaque = _without_opaque(expression, x)
    variables = [x, *sorted(expression.free_symbols - {x}, key=str)]
    irrational = sorted((part for part in expression.atoms(Pow, Function) if part.is_number), key=str)
    terms = _lowest(_quotient(expression, [*variables, *irrational])[0], len(variables))
    return terms, [*variables, *irrational], opaque


def _quotient(expression: Expr, generators: Sequence[Expr]) -> tuple[Any, Counter[Any]]:
    """The expression as a polynomial of a ring over a product of powers: ``{base: power}``.

    A base is a denominator of the expression, and positive. Their common multiple takes each base to its highest power
    and does not search for common divisors, which would not preserve the sign.
    """
    space, *elements = ring(generators, QQ)
    known = dict(zip(generators, elements, strict=True))

    def of(part: Any) -> tuple[Any, Counter[Any]]:
        if part in known:
            return known[part], Counter()
        if part.is_Rational:
            return space.ground_new(QQ(part.p, part.q)), Counter()
        if part.is_Mul:
            sides = [of(factor) for factor in part.args]
            return prod((over for over, _ in sides), start=space.one), sum((under for _, under in sides), start=Counter())
        if part.is_Add:
            sides = [of(term) for term in part.args]
            common = functools.reduce(operator.or_, (under for _, under in sides))
            terms = (_product(common - under, over) for over, under in sides)
            return sum(terms, start=space.zero), common
        if part.is_Pow and part.exp.is_Integer:
            power, (over, under) = int(part.exp), of(part.base)
            if power > 0:
                return over**power, Counter({base: n * power for base, n in under.items()})
            number, over = over.primitive()
            return _product(under, space.one) ** -power * number**power, Counter({over: -power})
        if powers := [power for power in expression.atoms(Pow) if generators[0] in power.exp.free_symbols]:
            what = f"{generators[0]} is an exponent, in {min(powers, key=str)}"
            raise InputError(f"{what}: no symbolic formula over it; give numbers for the other symbols")
        raise InputError(f"{expression} is not a polynomial in {generators[0]}")

    return of(expression)


def _product(bases: Counter[Any], start: Any) -> Any:
    return prod((base**power for base, power in bases.items()), start=start)


def _lowest(element: Any, positive: int) -> dict[tuple[int, ...], int]:
    """The terms of a polynomial with integer coefficients, divided by their common symbols and positive content.

    The first *positive* generators are symbols; the others are irrational numbers, which may be negative.
    """
    if not element:
        return {}
    lowest = [min(powers) if place < positive else 0 for place, powers in enumerate(zip(*element, strict=True))]
    scale = lcm(*(int(number.denominator) for number in element.values()))
    whole = {powers: int(number * scale) for powers, number in element.items()}
    common = gcd(*whole.values())
    return {tuple(map(operator.sub, powers, lowest)): number // common for powers, number in whole.items()}


def _without_opaque(expression: Expr, x: Symbol) -> tuple[Expr, dict[Symbol, Expr]]:
    """Replace every ceiling and other opaque term that does not depend on x by a positive symbol."""
    opaque = sorted(expression.atoms(*OPAQUE), key=lambda atom: -atom.count_ops())
    unknowns: dict[Any, Expr] = {}
    for atom in opaque:
        if x in atom.free_symbols:
            raise InputError(f"the formula counts blocks, {atom}: it is not a polynomial in {x}")
        unknowns[atom] = Dummy("n", positive=True)
    return substitute(expression, unknowns), {cast(Symbol, unknown): atom for atom, unknown in unknowns.items()}


def split(expression: Expr) -> tuple[Expr, Expr]:
    """The positive terms of a polynomial, and the negated negative terms.

    >>> from symroof.symbols import b, d, P, BW
    >>> split(16 * BW * d - P * b)
    (16*BW*d, P*b)
    """
    terms: list[Expr] = [*Add.make_args(expression.expand())]
    positive = [term for term in terms if not term.could_extract_minus_sign()]
    return Add(*positive), Add(*(-term for term in terms if term.could_extract_minus_sign()))


def sign(expression: Expr) -> int | None:
    """The sign for all positive symbols if all terms have the same sign; otherwise None.

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
    """Polynomials divided by their common monomial and content, for positive symbols.

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


def quotient(constant: Expr, slope: Expr) -> Expr:
    """``-constant / slope`` with as few minus signs as possible.

    >>> from symroof.symbols import b, d, P, BW
    >>> quotient(-b * P, 16 * BW * d - P * d)
    P*b/(16*BW*d - P*d)
    """
    over, under = reduced(-constant, slope)
    turn = sign(under) == -1 or sign(over) == -1 or (sign(under) is None and sign(over) is None and under.could_extract_minus_sign())
    return (-over).expand() / (-under).expand() if turn else over / under
