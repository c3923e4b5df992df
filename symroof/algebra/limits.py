"""Limits of rational functions, and the least upper bound of an intensity."""

from __future__ import annotations

from typing import cast

from sympy import Expr, Integer, Limit, Poly, Symbol, factor, fraction, oo, together

from symroof.algebra.polynomial import polynomial, sign
from symroof.errors import InputError


def rational_limit(expression: Expr, n: Symbol) -> Expr:
    """The limit of a rational function as *n* grows.

    >>> from symroof.symbols import b, d
    >>> rational_limit((2 * b * d + b) / (d + 3), d)
    2*b
    """
    over, under = (Poly(part, n) for part in fraction(together(expression)))
    if over.degree() < under.degree():
        return Integer(0)
    if over.degree() > under.degree():
        return oo
    return over.LC() / under.LC()


def intensity_supremum(flops: Expr, traffic: Expr, x: Symbol) -> Expr:
    """The least upper bound of the intensity over all positive *x*, where the intensity is monotone in it.

    >>> from symroof.symbols import t, h, e, k, c
    >>> intensity_supremum(4 * h * e * t, (2 * h * e + 2 * t * k * e * c) / 8, t)
    16*h/(c*k)

    Raises
    ------
    InputError
        It is not clear from the signs of the terms that the intensity rises or falls.
    """
    intensity = cast(Expr, together(flops / traffic))
    over, under = fraction(intensity)
    slope = polynomial(over.diff(x) * under - over * under.diff(x), x)
    signs = {sign(coefficient) for coefficient in slope.coefficients if coefficient != 0}
    if signs <= {1}:
        return cast(Expr, factor(rational_limit(intensity, x)))
    if signs <= {-1}:
        return cast(Expr, factor(Limit(intensity, x, 0).doit()))
    raise InputError(f"the intensity {intensity} is not seen to be monotone in {x} for all positive letters")
