"""Unions over tokens: the expected share of experts, neurons or layers that at least one of several tokens touches.

A part that each token touches with probability p stays untouched by T tokens with probability ``(1 - p)^T``. As a formula
this is the function `Untouched`; as a number it is exact while short, otherwise rounded with a proved error.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

from sympy import Expr, Function, Rational, S, log
from sympy.printing.precedence import PRECEDENCE

from symroof.algebra.enclosure import power

EXACT = 4096
"""The largest number of bits of a power ``(1 - share)^tokens`` that is computed exactly."""
ROUNDED = 256
"""Binary digits of longer powers, which are rounded down by less than ``2^-ROUNDED``, below 1e-77."""


class Untouched(Function):
    """``(1 - share)^tokens``: the probability that none of the tokens touches a part that each touches with probability *share*.

    For numbers it is a rational: exact up to `EXACT` bits, otherwise rounded down by less than ``2^-ROUNDED``. Analyses, formulas
    and sweeps in fractions all use this function, so they agree to the last digit. A share of 1 or more leaves nothing untouched.

    >>> from sympy import Integer
    >>> from symroof.symbols import E, K, b
    >>> Untouched(K / E, b), Untouched(K / E, b).subs({K: 2, E: 8, b: 3})
    ((1 - K/E)**b, 27/64)
    >>> Untouched(Rational(1, 4), b).diff(b), Untouched(Rational(1, 32), Integer(10**12))
    (log(3/4)*(3/4)**b, 0)
    """

    precedence = PRECEDENCE["Pow"]
    is_real = True
    is_nonnegative = True
    _imp_ = staticmethod(lambda share, tokens: (1 - share) ** tokens)

    @classmethod
    def eval(cls, share: Any, tokens: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The number, if both arguments are numbers."""
        if share == 0 or tokens == 0:
            return S.One
        if share.is_number and share >= 1:
            return S.Zero
        if tokens == 1:
            return 1 - share
        if share.is_Rational and tokens.is_Rational:
            value = untouched(Fraction(share.p, share.q), Fraction(tokens.p, tokens.q))
            return Rational(value.numerator, value.denominator)
        return (1 - share) ** tokens if share.is_Float or tokens.is_Float else None

    @property
    def share(self) -> Expr:
        """The probability that a token touches the part."""
        return cast(Expr, self.args[0])

    @property
    def tokens(self) -> Expr:
        """The number of tokens."""
        return cast(Expr, self.args[1])

    @property
    def power(self) -> Expr:
        """The plain sympy power, as from `doit`."""
        return (1 - self.share) ** self.tokens

    def doit(self, **hints: Any) -> Expr:
        """The plain power."""
        return cast(Any, self.power).doit(**hints)

    def _eval_simplify(self, **_: Any) -> Expr:
        return self.power

    def fdiff(self, argindex: int = 1) -> Expr:
        """The derivative by the share or by the tokens."""
        return -self.tokens / (1 - self.share) * self if argindex == 1 else log(1 - self.share) * self

    def _eval_evalf(self, prec: int) -> Expr:
        return cast(Any, self.power)._eval_evalf(prec)

    def _sympystr(self, printer: Any) -> str:
        base, exponent = (printer.parenthesize(part, PRECEDENCE["Pow"]) for part in (1 - self.share, self.tokens))
        return f"{base}**{exponent}"

    def _latex(self, printer: Any, exp: str = "") -> str:
        body = rf"{printer.parenthesize(1 - self.share, PRECEDENCE['Pow'])}^{{{printer.doprint(self.tokens)}}}"
        return rf"\left({body}\right)^{{{exp}}}" if exp else body


def left_untouched(share: Expr, tokens: Expr) -> Expr:
    """`Untouched`, or its value for numbers."""
    return cast(Any, Untouched)(share, tokens)


def untouched(share: Fraction, tokens: Fraction) -> Fraction:
    """``(1 - share)^tokens`` for numbers, rounded like `Untouched`.

    >>> untouched(Fraction(1, 4), Fraction(3)), untouched(Fraction(1, 32), Fraction(10**4))
    (Fraction(27, 64), Fraction(0, 1))
    """
    base = max(1 - share, Fraction(0))
    if base in (0, 1) or not tokens:
        return base if tokens else Fraction(1)
    if tokens.denominator == 1 and _is_short(base.denominator, int(tokens)):
        return base ** int(tokens)
    low = power(base, tokens, ROUNDED + 64)
    shift = low.exponent + ROUNDED
    return Fraction(low.low << shift if shift >= 0 else low.low >> -shift, 1 << ROUNDED)


def enclosed(share: Expr, tokens: Expr) -> tuple[Expr, ...]:
    """``(1 - share)^tokens`` for numbers if exact, otherwise a lower and an upper bound.

    >>> from sympy import Integer
    >>> enclosed(Rational(1, 4), Integer(2)), enclosed(Rational(1, 4), Integer(10**9))[0]
    ((9/16,), 0)
    """
    value, base = left_untouched(share, tokens), 1 - share
    if base in (0, 1) or (tokens.is_Integer and _is_short(int(cast(Any, base).q), int(cast(Any, tokens)))):
        return (value,)
    return value, value + Rational(2, 2**ROUNDED)


def _is_short(denominator: int, tokens: int) -> bool:
    return tokens * (denominator - 1).bit_length() <= EXACT


def union(share: Expr, tokens: Expr) -> Expr:
    """The expected share that at least one token touches, if tokens choose independently: ``1 - (1 - share)^tokens``.

    >>> from symroof.symbols import b, delta
    >>> union(delta, b), union(delta, S.One), union(S.One, b)
    (1 - (1 - delta)**b, delta, 1)
    """
    return 1 - left_untouched(share, tokens)
