"""Roots of exponential sums in closed form: logarithms, and Lambert's W, ``W(z) e^W(z) = z``."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

from sympy import Dummy, Expr, Integer, LambertW, Poly, Pow, Symbol, ceiling, log, real_roots

from symroof.algebra.exponential import Exponential, constant_expression
from symroof.algebra.isolation import Root
from symroof.algebra.polynomial import polynomial, quotient
from symroof.algebra.reals import exact, primitive_root
from symroof.algebra.unions import Untouched, left_untouched
from symroof.errors import InputError

DIGITS = 40
"""Decimals that separate a closed form from that of another root."""
LONGEST = 10**5
"""The largest number of bits of a power in a closed form."""


def closed_form(root: Root) -> Expr | None:
    """The root's closed form; None if there is none, or its numbers are too long to read.

    With ``A x + a + c q^x`` it is ``-a / A - W(z) / ln q`` where ``z = (c ln q / A) q^(-a / A)``; the slack
    ``A T - C (1 - q^T)`` of expected experts has ``T = C / A - W((C ln q / A) q^(C / A)) / ln q``.

    >>> from sympy import Rational, oo
    >>> from sympy.abc import x
    >>> from symroof.algebra.exponents import exponential
    >>> root = exponential(x - 8 * (1 - Rational(3, 4) ** x), x).roots(Integer(1), oo)[0]
    >>> closed_form(root)
    -LambertW(6561*log(3/4)/8192)/log(3/4) + 8
    """
    function = root.function
    if isinstance(function, Exponential) and all(len(term.coefficients) == 1 for term in function.terms):
        return _logarithm(root)
    parts = _line_and_wave(root)
    if parts is None:
        return None
    function, fast, turn, (a, A, c) = parts
    rate = turn * exact(function.rate)
    base, steep = Pow(exact(fast), rate), rate * log(exact(fast))
    if abs(a / A) * function.rate * max(fast.numerator.bit_length(), fast.denominator.bit_length()) > LONGEST:
        return None
    value = -(exact((root.low + root.high) / 2) + a / A) * steep  # W at the root: at least -1 on the main branch
    branch = 0 if value.evalf(DIGITS) > -1 else -1
    return -a / A - cast(Expr, LambertW(c * steep / A * Pow(base, -a / A), branch)) / steep


def _line_and_wave(root: Root) -> tuple[Exponential, Fraction, int, list[Expr]] | None:
    """The function, its base, 1 or -1, and a, A and c, if the root is a root of ``A x + a + c q^x`` or ``A x + a + c q^-x``."""
    function = root.function
    if not isinstance(function, Exponential) or len(function.terms) != 2:
        return None
    fast = function.terms[1].key.base
    line, wave = sorted(function.terms, key=lambda term: len(term.coefficients), reverse=True)
    if fast == 1 or (len(line.coefficients), len(wave.coefficients)) != (2, 1):
        return None
    numbers = [number * constant_expression(key, function.root) for key, coefficients in (line, wave) for number in coefficients]
    return function, fast, 1 if line.key.base == 1 else -1, numbers  # (A x + a) q^x + c has the roots of A x + a + c q^-x


def of_the_line(root: Root) -> tuple[Expr, int] | None:
    """For a root of ``A x + a + c q^x``: the root ``-a / A`` of the line, and a power of ten above its error, ``|c / A| q^x`` at that x.

    >>> from sympy import Rational, oo
    >>> from sympy.abc import x
    >>> from symroof.algebra.exponents import exponential
    >>> of_the_line(exponential(x - 80 * (1 - Rational(3, 4) ** x), x).roots(Integer(1), oo)[0])
    (80, -8)
    """
    parts = _line_and_wave(root)
    if parts is None or parts[2] < 0 or root.low <= 0:
        return None
    function, fast, _, (a, A, c) = parts
    size = log(abs(c / A)) + exact(root.low * function.rate) * log(exact(fast))
    return -a / A, int(ceiling(size / log(10)))


def _logarithm(root: Root) -> Expr | None:
    """For a polynomial in powers of one base: the logarithm of the polynomial's root."""
    function, y = cast(Exponential, root.function), Dummy("y", positive=True)
    primitive = [primitive_root(key.base) if key.base != 1 else (Fraction(1), 0) for key, _ in function.terms]
    if len({base for base, _ in primitive} - {Fraction(1)}) != 1 or any(key.shift != 1 or key.logs for key, _ in function.terms):
        return None
    total = sum((term.coefficients[0] * y**place for term, (_, place) in zip(function.terms, primitive, strict=True)), start=Integer(0))
    values = (value for value in cast(Any, real_roots(Poly(total, y))) if value > 0)
    forms = (log(value) / log(exact(primitive[-1][0])) / exact(function.rate) for value in values)
    return min(forms, key=lambda form: abs((form - root).evalf(DIGITS, maxn=DIGITS)))


@dataclass(frozen=True)
class LineAndWave:
    """``slope x + constant + factor (1 - share)^(rate x)``, symbolic: the slack of a layer with the expected number of experts.

    Its constant is ``-C`` with the bytes of all experts, and its factor C. If the slope is positive, the last root is
    ``T - W(z) / L`` with the root ``T = -constant / slope`` for reads of all experts, ``L = rate ln(1 - share)`` and
    ``z = factor L / slope (1 - share)^(rate T)``. The root x is below T by less than ``T (1 - share)^(rate x)``.

    >>> from symroof.algebra.unions import union
    >>> from symroof.symbols import b, d, E, K, P, BW
    >>> slack = line_and_wave(2 * K * b * d * BW - d * E * union(K / E, b) * P, b)
    >>> slack.slope, slack.constant, slack.factor, slack.start
    (2*BW*K, -E*P, E*P, 0)
    >>> slack.root
    -LambertW(E*P*log(1 - K/E)*(1 - K/E)**(E*P/(2*BW*K))/(2*BW*K))/log(1 - K/E) + E*P/(2*BW*K)
    """

    x: Symbol
    slope: Expr
    constant: Expr
    factor: Expr
    share: Expr
    rate: Expr

    @property
    def is_bound(self) -> bool:
        """Whether all symbols except x have numbers."""
        return all(part.is_number for part in (self.slope, self.constant, self.factor, self.share, self.rate))

    @property
    def start(self) -> Expr:
        """Its value at 0."""
        return (self.constant + self.factor).expand()

    @property
    def decay(self) -> Expr:
        """L, the slope of the exponential's logarithm over x; negative."""
        return self.rate * log(1 - self.share)

    @property
    def root(self) -> Expr:
        """The last root, on the main branch of W."""
        return self.root_at(*self.quotients)

    @property
    def quotients(self) -> tuple[Expr, Expr]:
        """The arguments of the root: minus the constant, and the factor, each over the slope."""
        return quotient(self.constant, self.slope), quotient(-self.factor, self.slope)

    @property
    def shortened(self) -> tuple[Expr, Symbol, Expr]:
        """The root with an abbreviation for the root with all experts read, its symbol, and its definition."""
        line, wave = self.quotients
        abbreviation = Symbol(f"{self.x}_E", positive=True)
        return self.root_at(abbreviation, abbreviation if wave == line else wave), abbreviation, line

    def root_at(self, line: Expr, wave: Expr) -> Expr:
        """The root for other quotients, such as their limits."""
        return line - LambertW(wave * self.decay * left_untouched(self.share, self.rate * line)) / self.decay

    def as_expr(self) -> Expr:
        """The slack as an expression."""
        return self.slope * self.x + self.constant + self.factor * left_untouched(self.share, self.rate * self.x)


def line_and_wave(expression: Expr, x: Symbol) -> LineAndWave:
    """A slack with the sign of an expression in which *x* is the number of tokens of one `Untouched`, for positive symbols.

    Raises
    ------
    InputError
        The expression has another form, and no symbolic closed form.
    """
    waves = sorted((atom for atom in expression.atoms(Untouched) if x in atom.free_symbols), key=str)
    powers = ", ".join(map(str, waves))
    refused = InputError(f"{x} is an exponent, in {powers}: no symbolic formula over it; give numbers for the other symbols")
    if len(waves) != 1 or x in waves[0].share.free_symbols or not waves[0].tokens.is_polynomial(x):
        raise refused
    wave, y = waves[0], Dummy("y", positive=True)
    rate, beyond = wave.tokens.diff(x), cast(Expr, wave.tokens.xreplace({x: Integer(0)}))
    line = polynomial(cast(Expr, expression.xreplace({wave: y})), x)
    if line.degree != 1 or rate.has(x) or line.coefficients[1].has(y):
        raise refused
    parts = Poly(line.coefficients[0], y)
    if parts.degree() != 1:
        raise refused
    factor, constant = (cast(Expr, part) for part in parts.all_coeffs())
    return LineAndWave(x, line.coefficients[1], constant, factor * left_untouched(wave.share, beyond), wave.share, rate)
