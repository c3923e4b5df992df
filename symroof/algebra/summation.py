"""Sums over whole numbers in closed form: polynomials (Faulhaber) and exponentials times polynomials (geometric series)."""

from __future__ import annotations

from math import comb
from typing import Any, cast

from sympy import Add, Expr, Integer, Mul, Poly, PolynomialError, Pow, Symbol, bernoulli, expand_mul

from symroof.errors import InputError

LONGEST = 10**6
"""Bits of a power that is still multiplied out."""


def sum_over(expression: Expr, x: Symbol, low: Expr, high: Expr) -> Expr:
    """The sum over the whole numbers from *low* to *high*, both included, which may be letters.

    ``sum p(x) r^x = r^(high + 1) Q(high + 1) - r^low Q(low)`` with the polynomial Q that solves ``r Q(x + 1) - Q(x) = p(x)``.

    Raises
    ------
    InputError
        It is not a sum of polynomials times exponentials.

    >>> from sympy.abc import n, x
    >>> sum_over(x**2, x, Integer(1), n).factor(), sum_over(2**x, x, Integer(0), Integer(9))
    (n*(n + 1)*(2*n + 1)/6, 1023)
    """
    terms = [
        _faulhaber(coefficients, low, high) if ratio == 1 else _geometric(coefficients, ratio, low, high)
        for ratio, coefficients in _by_ratio(expression, x).items()
    ]
    return cast(Expr, expand_mul(Add(*terms)))


def _by_ratio(expression: Expr, x: Symbol) -> dict[Expr, list[Expr]]:
    """The coefficients of the polynomials, lowest power first, that stand before powers ``r^x``, by r."""
    grouped: dict[Expr, list[Expr]] = {}
    for term in Add.make_args(expression.expand(power_exp=False, power_base=False)):
        ratio, factors = cast(Expr, Integer(1)), []
        for factor in Mul.make_args(term):
            if isinstance(factor, Pow) and x in factor.exp.free_symbols:
                slope = factor.exp.diff(x)
                if x in slope.free_symbols | factor.base.free_symbols:
                    raise InputError(f"{factor} is no exponential in {x}")
                ratio *= Pow(factor.base, slope)
                factors.append(Pow(factor.base, cast(Any, factor.exp).xreplace({x: Integer(0)})))
            else:
                factors.append(factor)
        grouped.setdefault(ratio, []).append(Mul(*factors))
    try:
        return {ratio: Poly(Add(*terms), x).all_coeffs()[::-1] for ratio, terms in grouped.items()}
    except PolynomialError:
        raise InputError(f"{expression} is no sum of polynomials times exponentials in {x}: no closed form of its sum") from None


def _faulhaber(coefficients: list[Expr], low: Expr, high: Expr) -> Expr:
    return Add(
        *(
            coefficient * (bernoulli(power, high + 1) - bernoulli(power, low)) / power
            for power, coefficient in enumerate(coefficients, 1)
            if coefficient != 0
        )
    ).expand()


def _geometric(coefficients: list[Expr], ratio: Expr, low: Expr, high: Expr) -> Expr:
    """From the highest power down: ``(r - 1) Q_i = p_i - r sum(Q_j binomial(j, i) for j > i)``."""
    solved: dict[int, Expr] = {}
    for power in reversed(range(len(coefficients))):
        higher = Add(*(solved[other] * comb(other, power) for other in solved))
        solved[power] = ((coefficients[power] - ratio * higher) / (ratio - 1)).expand()

    def at(point: Expr) -> Expr:
        return _power(ratio, point) * Add(*(number * point**power for power, number in solved.items()))

    return at(high + 1) - at(low)


def _power(ratio: Expr, exponent: Expr) -> Expr:
    """The power, multiplied out unless it is too long a number."""
    if exponent.is_Integer and ratio.is_Rational:
        number = cast(Any, ratio)
        bits = abs(int(cast(Any, exponent))) * max(number.p.bit_length(), number.q.bit_length())
        return Pow(ratio, exponent, evaluate=bits <= LONGEST)
    return Pow(ratio, exponent)
