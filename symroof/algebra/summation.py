"""Sums of polynomials over whole numbers in closed form (Faulhaber)."""

from __future__ import annotations

from typing import cast

from sympy import Add, Expr, Poly, PolynomialError, Symbol, bernoulli

from symroof.errors import InputError


def sum_over(expression: Expr, x: Symbol, low: Expr, high: Expr) -> Expr:
    """The sum over the whole numbers from *low* to *high*, both included, which may be letters.

    ``sum x^k = (B_(k + 1)(high + 1) - B_(k + 1)(low)) / (k + 1)`` with Bernoulli's polynomials.

    Raises
    ------
    InputError
        It is not a polynomial.

    >>> from sympy import Integer
    >>> from sympy.abc import n, x
    >>> sum_over(x**2, x, Integer(1), n).factor()
    n*(n + 1)*(2*n + 1)/6
    """
    try:
        coefficients = Poly(expression, x).all_coeffs()[::-1]
    except PolynomialError:
        raise InputError(f"{expression} is no polynomial in {x}: no closed form of its sum") from None
    terms = (number * (bernoulli(power, high + 1) - bernoulli(power, low)) / power for power, number in enumerate(coefficients, 1))
    return cast(Expr, Add(*terms).expand())
