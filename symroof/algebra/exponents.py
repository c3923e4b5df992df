"""Parsing of expressions with the variable in exponents into sums of polynomials times exponentials."""

from __future__ import annotations

from fractions import Fraction
from math import floor, gcd, lcm
from typing import Any, cast

from sympy import Dummy, Expr, Integer, Poly, PolynomialError, Pow, Symbol, fraction, log, oo, together

from symroof.algebra.exponential import Grouped, Key, Signed, constant_expression, normalized
from symroof.algebra.reals import bounded_power, exact, primitive_root, sign_of
from symroof.algebra.unions import Untouched
from symroof.errors import InputError

Wave = tuple[Fraction, Fraction] | tuple[Fraction, Fraction, Fraction]


def exponential(expression: Expr, x: Symbol) -> Signed:
    """A function with the sign, for all positive x, of an expression with *x* in exponents.

    The denominator must have one sign for all positive x.

    Raises
    ------
    InputError
        The expression is not a rational function of x and ``q^(k x + c)`` with positive rational q and rational k and c.
    """
    root, scale, (over, under) = _read(expression, x)
    turn = normalized(under, x, root, scale).sign(Integer(1))
    return normalized({key: {place: turn * number for place, number in terms.items()} for key, terms in over.items()}, x, root, scale)


def exponential_limit(expression: Expr, x: Symbol) -> Expr:
    """The limit of such an expression as *x* grows: that of the terms with the largest base.

    Raises
    ------
    InputError
        As for `exponential`.
    """
    root, _, (over, under) = _read(expression, x)
    (first, degree, lead), (second, other, divisor) = (_leading(part, root) for part in (over, under))
    if first < second or not over:
        return Integer(0)
    if first > second or degree > other:
        return cast(Expr, oo * sign_of(lead) * sign_of(divisor))
    return lead / divisor if degree == other else Integer(0)


def _leading(grouped: Grouped, root: int) -> tuple[Fraction, int, Expr]:
    """The largest base, the highest power multiplied by it, and its coefficient."""
    base = max((key.base for key in grouped), default=Fraction(0))
    parts = {key: terms for key, terms in grouped.items() if key.base == base}
    degree = max((place for terms in parts.values() for place in terms), default=0)
    lead = (exact(terms.get(degree, Fraction(0))) * constant_expression(key, root) for key, terms in parts.items())
    return base, degree, cast(Expr, sum(lead, start=Integer(0)))


def _read(expression: Expr, x: Symbol) -> tuple[int, int, tuple[Grouped, Grouped]]:
    """The common root of all bases, the common scale of all exponents, and numerator and denominator, parsed as polynomials in x
    and one symbol per power with *x* in its exponent and per logarithm.
    """
    atoms = [atom for atom in expression.atoms(Pow, Untouched) if x in atom.args[1].free_symbols] + [*expression.atoms(log)]
    unknowns: dict[Any, Symbol] = {atom: Dummy("y", positive=True) for atom in sorted(atoms, key=str)}
    over, under = fraction(together(cast(Expr, expression.xreplace(unknowns))))
    waves = {unknown: _wave(atom, x) for atom, unknown in unknowns.items()}
    root = lcm(*(number.denominator for wave in waves.values() for number in wave[1:]))
    scale = gcd(*(int(wave[1] * root) for wave in waves.values() if len(wave) == 3)) or 1
    return root, scale, (_grouped(over, x, waves, root, scale), _grouped(under, x, waves, root, scale))


def _wave(atom: Any, x: Symbol) -> Wave:
    """A power ``q^(k x + c)`` as ``(primitive root of q, k, c)``, a logarithm ``n ln q`` as ``(q, n)``."""
    plain: Any = atom.power if isinstance(atom, Untouched) else atom
    number, exponent = cast(Any, (atom.args[0], None) if isinstance(atom, log) else (plain.base, plain.exp))
    if not number.is_Rational or number <= 0:
        what = f"{x} is an exponent, in {atom}, and its base is not a positive rational: no closed form over it"
        raise InputError(f"{atom} is not the logarithm of a positive rational" if exponent is None else what)
    base, times = primitive_root(Fraction(number.p, number.q))
    if exponent is None:
        return base, Fraction(times)
    line = Poly(exponent, x) if exponent.is_polynomial(x) else None
    if line is None or line.degree() != 1 or not all(number.is_Rational for number in line.all_coeffs()):
        raise InputError(f"{x} is in the exponent of {atom}, which is not linear with rational coefficients: no closed form over it")
    slope, constant = (times * Fraction(part.p, part.q) for part in cast(Any, line.all_coeffs()))
    return base, slope, constant


def _grouped(part: Expr, x: Symbol, waves: dict[Symbol, Wave], root: int, scale: int) -> Grouped:
    """The terms of a polynomial in x and the symbols of exponentials, by the other factor of each term."""
    try:
        terms = Poly(part, x, *waves).terms()
    except PolynomialError:
        raise InputError(f"{part} is not a polynomial in {x} and its exponentials") from None
    grouped: Grouped = {}
    for (place, *exponents), number in terms:
        if not number.is_Rational:
            raise InputError(f"{number} is not a rational number")
        factor, lines, logs = Fraction(number.p, number.q), {}, {}
        for times, (base, *line) in zip(exponents, waves.values(), strict=True):
            if times and len(line) == 1:
                logs[base] = logs.get(base, 0) + times
                factor *= line[0] ** times
            elif times:
                lines[base] = [total + times * step for total, step in zip(lines.get(base, (0, 0)), line, strict=True)]
        base, shift = Fraction(1), Fraction(1)
        for primitive, (slope, constant) in lines.items():
            base *= bounded_power(primitive, int(slope * root) // scale)
            shift *= bounded_power(primitive, int(constant % 1 * root))
            factor *= bounded_power(primitive, floor(constant))
        powers = grouped.setdefault(Key(base, shift, tuple(sorted(logs.items()))), {})
        powers[place] = powers.get(place, 0) + factor
    nonzero = ((key, {place: number for place, number in powers.items() if number}) for key, powers in grouped.items())
    return {key: powers for key, powers in nonzero if powers}
