"""Roots of exponential sums in closed form: logarithms, and Lambert's W, ``W(z) e^W(z) = z``."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

from sympy import Dummy, Expr, Integer, LambertW, Poly, Pow, Rational, log, real_roots

from symroof.algebra.exponential import constant_expression
from symroof.algebra.isolation import Root
from symroof.algebra.radicals import primitive_root
from symroof.algebra.reals import exact

DIGITS = 40
"""Decimals in which a form is told from that of another root."""
LONGEST = 10**5
"""Bits of a power that is still written out."""


def closed_form(root: Root) -> Expr | None:
    """The root's closed form; None where there is none, or its numbers are too long to be read.

    With ``A x + a + c q^x`` it is ``-a / A - W(z) / ln q`` where ``z = (c ln q / A) q^(-a / A)``; the slack
    ``A T - C (1 - q^T)`` of expected experts has ``T = C / A - W((C ln q / A) q^(C / A)) / ln q``.

    >>> from sympy import oo
    >>> from sympy.abc import x
    >>> from symroof.algebra.exponents import exponential
    >>> root = exponential(x - 8 * (1 - Rational(3, 4) ** x), x).roots(Integer(1), oo)[0]
    >>> closed_form(root)
    -LambertW(6561*log(3/4)/8192)/log(3/4) + 8
    """
    function = root.function
    if all(len(term.coefficients) == 1 for term in function.terms):
        return _logarithm(root)
    if len(function.terms) != 2:
        return None
    fast = function.terms[1].key.base
    line, wave = sorted(function.terms, key=lambda term: len(term.coefficients), reverse=True)
    if fast == 1 or (len(line.coefficients), len(wave.coefficients)) != (2, 1):
        return None
    (a, A), (c,) = ([number * constant_expression(key, function.root) for number in coefficients] for key, coefficients in (line, wave))
    turn = 1 if line.key.base == 1 else -1  # (A x + a) q^x + c has the roots of A x + a + c q^-x
    base, steep = Pow(exact(fast), Rational(turn, function.root)), turn * log(exact(fast)) / function.root
    if abs(a / A) * max(fast.numerator.bit_length(), fast.denominator.bit_length()) > LONGEST:
        return None
    value = -(exact((root.low + root.high) / 2) + a / A) * steep  # W of the root: from -1 on on the main branch, else below
    branch = 0 if value.evalf(DIGITS) > -1 else -1
    return -a / A - cast(Expr, LambertW(c * steep / A * Pow(base, -a / A), branch)) / steep


def _logarithm(root: Root) -> Expr | None:
    """Of a polynomial in powers of one base the logarithm of the root it has as a polynomial."""
    function, y = root.function, Dummy("y", positive=True)
    primitive = [primitive_root(key.base) if key.base != 1 else (Fraction(1), 0) for key, _ in function.terms]
    if len({base for base, _ in primitive} - {Fraction(1)}) != 1 or any(key.shift != 1 or key.logs for key, _ in function.terms):
        return None
    total = sum((term.coefficients[0] * y**place for term, (_, place) in zip(function.terms, primitive, strict=True)), start=Integer(0))
    forms = (function.root * log(value) / log(exact(primitive[-1][0])) for value in cast(Any, real_roots(Poly(total, y))) if value > 0)
    return min(forms, key=lambda form: abs((form - root).evalf(DIGITS, maxn=DIGITS)))
