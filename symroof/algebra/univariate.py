"""The exact sign of an expression in one variable, which decides between two formulas.

The sign of a rational function is that of its numerator, because the variable and the denominator are positive. If the
variable is an exponent, `symroof.algebra.exponential` applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import TYPE_CHECKING, Any, cast

from sympy import Add, Expr, Integer, Mul, Poly, PolynomialError, Pow, Symbol, bernoulli, fraction, oo, together

from symroof.algebra.polynomial import Polynomial, polynomial
from symroof.algebra.unions import Untouched
from symroof.errors import InputError

if TYPE_CHECKING:
    from symroof.algebra.exponential import Signed

Powers = dict[int, Fraction]
"""A sum of numbers times integer powers of the variable: ``{power: number}``."""


@lru_cache(maxsize=4096)
def powers(expression: Expr, x: Symbol) -> Powers | None:
    """The expression as a sum of numbers times powers of *x*; None for other forms. Cached: callers must not modify it.

    >>> from sympy.abc import x
    >>> powers(3 * x + 2 / x, x), powers(1 / (1 + x), x)
    ({-1: Fraction(2, 1), 1: Fraction(3, 1)}, None)
    """
    terms: Powers = {}
    for term in Add.make_args(expression):
        power, numerator, denominator = 0, 1, 1
        for factor in cast(Sequence[Any], Mul.make_args(term)):
            if factor.is_Rational:
                numerator, denominator = numerator * factor.p, denominator * factor.q
            elif factor == x:
                power += 1
            elif isinstance(factor, Pow) and factor.base == x and factor.exp.is_Integer:
                power += int(factor.exp)
            else:
                expanded = expression.expand()
                return None if expanded == expression else powers(expanded, x)
        terms[power] = terms.get(power, 0) + Fraction(numerator, denominator)
    return {power: number for power, number in terms.items() if number}


def signed_powers(terms: Powers, x: Symbol) -> Polynomial:
    """The sign of a sum of numbers times powers of a positive *x*, in lowest terms.

    >>> from sympy.abc import x
    >>> signed_powers({1: Fraction(3, 2), -1: Fraction(6)}, x).coefficients
    (4, 0, 1)
    """
    if not terms:
        return Polynomial(x, (0,))
    scale = lcm(*(number.denominator for number in terms.values()))
    whole = {power: number.numerator * (scale // number.denominator) for power, number in terms.items()}
    common = gcd(*whole.values())
    lowest, highest = min(whole), max(whole)
    return Polynomial(x, tuple(whole.get(power, 0) // common for power in range(lowest, highest + 1)))


@lru_cache(maxsize=4096)
def signed(expression: Expr, x: Symbol) -> Signed:
    """A function with the sign of *expression* for all positive *x*.

    Raises
    ------
    InputError
        Another symbol occurs, or it is neither a rational function of x nor a sum of exponentials.

    >>> from sympy.abc import x
    >>> decider = signed((x**2 - 2) / (x + 1), x)
    >>> decider.roots(Integer(0), oo), decider.sign(Integer(1))
    ([sqrt(2)], -1)
    """
    if others := expression.free_symbols - {x}:
        raise InputError(f"{', '.join(sorted(map(str, others)))} must be a number to follow the sign over {x}")
    terms = powers(expression, x)
    if terms is not None:
        return signed_powers(terms, x)
    if is_shares(expression, x):
        from symroof.algebra.shares import shares

        return shares(expression, x)
    if is_exponential(expression, x):
        from symroof.algebra.exponents import exponential

        return exponential(expression, x)
    coefficients = polynomial(expression, x).coefficients
    return Polynomial(x, tuple(int(cast(Any, number)) if number.is_Integer else number for number in coefficients))


def is_exponential(expression: Expr, x: Symbol) -> bool:
    """Whether *x* occurs in an exponent."""
    return any(x in power.args[1].free_symbols for power in expression.atoms(Pow, Untouched))


def is_shares(expression: Expr, x: Symbol) -> bool:
    """Whether *x* occurs in the share of an `Untouched`."""
    return any(x in atom.share.free_symbols for atom in expression.atoms(Untouched))


def limit(expression: Expr, x: Symbol) -> Expr:
    """The limit as *x* grows.

    >>> from sympy.abc import x
    >>> limit((2 * x + 1) / (x + 3), x), limit(1 - x**2, x), limit(8 - 1 / 2**x, x)
    (2, -oo, 8)
    """
    if x not in expression.free_symbols:
        return expression
    if is_shares(expression, x):
        from symroof.algebra.shares import shares_limit

        return shares_limit(expression, x)
    if is_exponential(expression, x):
        from symroof.algebra.exponents import exponential_limit

        return exponential_limit(expression, x)
    over, under = (Poly(part, x) for part in fraction(together(expression)))
    if over.degree() < under.degree():
        return Integer(0)
    ratio = cast(Expr, over.LC() / under.LC())
    return ratio if over.degree() == under.degree() else cast(Expr, oo * ratio)


def sum_over(expression: Expr, x: Symbol, low: Expr, high: Expr) -> Expr:
    """The sum of a polynomial over the integers from *low* to *high*, both included, which may be symbols (Faulhaber).

    ``sum x^k = (B_(k + 1)(high + 1) - B_(k + 1)(low)) / (k + 1)`` with Bernoulli's polynomials.

    Raises
    ------
    InputError
        The expression is not a polynomial.

    >>> from sympy import Integer
    >>> from sympy.abc import n, x
    >>> sum_over(x**2, x, Integer(1), n).factor()
    n*(n + 1)*(2*n + 1)/6
    """
    try:
        coefficients = Poly(expression, x).all_coeffs()[::-1]
    except PolynomialError:
        raise InputError(f"{expression} is not a polynomial in {x}: its sum has no closed form") from None
    terms = (number * (bernoulli(power, high + 1) - bernoulli(power, low)) / power for power, number in enumerate(coefficients, 1))
    return cast(Expr, Add(*terms).expand())
