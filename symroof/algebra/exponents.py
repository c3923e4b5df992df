"""Expressions with the variable in an exponent, read as sums of polynomials times exponentials."""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple, cast

from sympy import Dummy, Expr, Integer, Poly, PolynomialError, Pow, Symbol, fraction, log, oo, together

from symroof.algebra.exponential import Grouped, Key, Signed, constant_expression, normalized
from symroof.algebra.radicals import bounded_power, primitive_root
from symroof.algebra.reals import exact, sign_of
from symroof.errors import InputError


def exponential(expression: Expr, x: Symbol) -> Signed:
    """What has the sign of an expression in which *x* stands in exponents, for all positive x.

    What stands under the line has one sign for all positive x.

    Raises
    ------
    InputError
        It is not a rational function of x and of ``q^(k x + c)`` with a positive rational q and rational k and c.
    """
    over, under = (_terms(part, x) for part in _fraction(expression, x))
    root, grouped = _grouped(over, under)
    decider = normalized(grouped[0], x, root)
    if len(grouped[1]) == 1 and next(iter(grouped[1])).base == 1:
        return decider
    if normalized(grouped[1], x, root).sign(Integer(1)) < 0:
        return normalized({key: {place: -number for place, number in terms.items()} for key, terms in grouped[0].items()}, x, root)
    return decider


def exponential_limit(expression: Expr, x: Symbol) -> Expr:
    """The limit of such an expression as *x* grows: that of the terms with the largest base.

    Raises
    ------
    InputError
        As for `exponential`.
    """
    over, under = (_terms(part, x) for part in _fraction(expression, x))
    root, grouped = _grouped(over, under)
    (first, above), (second, below) = (_leading(part, root) for part in grouped)
    if first < second or not grouped[0]:
        return Integer(0)
    (degree, lead), (other, divisor) = above, below
    if first > second or degree > other:
        return cast(Expr, oo * sign_of(lead) * sign_of(divisor))
    return lead / divisor if degree == other else Integer(0)


def _leading(grouped: Grouped, root: int) -> tuple[Fraction, tuple[int, Expr]]:
    """The largest base with the highest power that stands before it, and its coefficient."""
    base = max((key.base for key in grouped), default=Fraction(0))
    parts = {key: terms for key, terms in grouped.items() if key.base == base}
    degree = max((place for terms in parts.values() for place in terms), default=0)
    lead = (exact(terms.get(degree, Fraction(0))) * constant_expression(key, root) for key, terms in parts.items())
    return base, (degree, cast(Expr, sum(lead, start=Integer(0))))


class RawTerm(NamedTuple):
    """A number, a power of x, ``(k, c)`` for every q of ``q^(k x + c)``, and the powers of logarithms."""

    number: Fraction
    place: int
    lines: dict[Fraction, tuple[Fraction, Fraction]]
    logs: dict[Fraction, int]


Letters = dict[Any, Any]


def _fraction(expression: Expr, x: Symbol) -> tuple[tuple[Expr, Letters], tuple[Expr, Letters]]:
    """Numerator and denominator with a letter for every power that has *x* in its exponent, and for every logarithm."""
    atoms = [atom for atom in expression.atoms(Pow) if x in atom.exp.free_symbols] + [*expression.atoms(log)]
    letters = {atom: Dummy("y", positive=True) for atom in sorted(atoms, key=str)}
    over, under = fraction(together(cast(Expr, expression.xreplace(letters))))
    back = {letter: atom for atom, letter in letters.items()}
    return (over, back), (under, back)


def _terms(part: tuple[Expr, Letters], x: Symbol) -> list[RawTerm]:
    expression, letters = part
    read = [_read(atom, x) for atom in letters.values()]
    try:
        terms = Poly(expression, x, *letters).terms()
    except PolynomialError:
        raise InputError(f"{expression} is not a polynomial in {x} and its exponentials") from None
    raw: list[RawTerm] = []
    for (place, *exponents), number in terms:
        if not number.is_Rational:
            raise InputError(f"{number} is not a rational number")
        term = RawTerm(Fraction(number.p, number.q), place, {}, {})
        for times, (base, exponent, line) in zip(exponents, read, strict=True):
            if not times:
                continue
            if line is None:
                term.logs[base] = term.logs.get(base, 0) + times
                term = term._replace(number=term.number * exponent**times)
            else:
                slope, constant = term.lines.get(base, (0, 0))
                term.lines[base] = (slope + times * exponent * line[0], constant + times * exponent * line[1])
        raw.append(term)
    return [term for term in raw if term.number]


def _read(atom: Any, x: Symbol) -> tuple[Fraction, int, tuple[Fraction, Fraction] | None]:
    """A power's primitive base, the exponent that this has, and the line that x stands in; a logarithm's without a line."""
    if isinstance(atom, log):
        number = cast(Any, atom.args[0])
        if not number.is_Rational or number <= 0:
            raise InputError(f"{atom} is not the logarithm of a positive rational")
        return (*primitive_root(Fraction(number.p, number.q)), None)
    return (*primitive_root(_positive(atom, x)), _line(atom, x))


def _positive(atom: Any, x: Symbol) -> Fraction:
    if not atom.base.is_Rational or atom.base <= 0:
        raise InputError(f"{x} is an exponent, in {atom}, and its base is not a positive rational: no closed form over it")
    return Fraction(atom.base.p, atom.base.q)


def _line(atom: Any, x: Symbol) -> tuple[Fraction, Fraction]:
    exponent = Poly(atom.exp, x) if atom.exp.is_polynomial(x) else None
    if exponent is None or exponent.degree() != 1 or not all(number.is_Rational for number in exponent.all_coeffs()):
        raise InputError(f"{x} is an exponent, in {atom}, and not as a line with rational numbers: no closed form over it")
    slope, constant = exponent.all_coeffs()
    return Fraction(slope.p, slope.q), Fraction(constant.p, constant.q)


def _grouped(*parts: list[RawTerm]) -> tuple[int, list[Grouped]]:
    """The terms of every part by base and shift, all under one root."""
    lines = [pair for raw in parts for term in raw for pair in term.lines.values()]
    root = lcm(*(number.denominator for pair in lines for number in pair))
    grouped: list[Grouped] = []
    for raw in parts:
        by_base: Grouped = {}
        for term in raw:
            base, shift, factor = Fraction(1), Fraction(1), term.number
            for primitive, (slope, constant) in term.lines.items():
                whole = constant.numerator // constant.denominator
                base *= bounded_power(primitive, int(slope * root))
                shift *= bounded_power(primitive, int((constant - whole) * root))
                factor *= bounded_power(primitive, whole)
            key = Key(base, shift, tuple(sorted(term.logs.items())))
            terms = by_base.setdefault(key, {})
            terms[term.place] = terms.get(term.place, 0) + factor
        kept = ((key, {place: number for place, number in terms.items() if number}) for key, terms in by_base.items())
        grouped.append({key: terms for key, terms in kept if terms})
    return root, grouped
