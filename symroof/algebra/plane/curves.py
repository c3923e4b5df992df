"""Curves ``F(x, y) = 0`` over two positive variables: irreducible factors, branches, and where branches meet, end or turn.

F is a polynomial in y whose coefficients are polynomials in x and in exponentials of x, such as the experts that a batch touches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, cast

from sympy import Dummy, Expr, Integer, Poly, Pow, Symbol, floor, oo, solve, sqrt

from symroof.algebra.polynomial import Polynomial, open_factors
from symroof.algebra.reals import ascending, between, order, sign_of
from symroof.algebra.unions import Untouched
from symroof.algebra.univariate import signed
from symroof.errors import InputError
from symroof.notation import Brief
from symroof.symbols import substitute


class ExponentError(InputError):
    """The ordinate occurs in an exponent, where curves have no closed form."""


def within(low: Expr, high: Expr) -> Expr:
    """A number strictly between two others: the first whole number if there is one.

    >>> from sympy import Rational
    >>> within(Integer(1), oo), within(Rational(1, 3), Rational(2, 3))
    (2, 1/2)
    """
    first = floor(low) + 1
    return first if order(first, high) < 0 else between(low, high)


@dataclass(frozen=True)
class Section(Brief):
    """A branch of a curve over an interval of x: the root of this place in y, counted from the lowest.

    >>> from sympy.abc import x, y
    >>> upper = Section(y**2 - x, x, y, 1)
    >>> upper.at(Integer(4)), upper.formula
    (2, sqrt(x))
    """

    curve: Expr
    x: Symbol
    y: Symbol
    place: int

    def at(self, point: Expr) -> Expr:
        """The ordinate at an abscissa, exact.

        Raises
        ------
        InputError
            The curve has no such branch there.
        """
        roots = lifted(self.curve, self.x, self.y, point)
        if self.place >= len(roots):
            raise InputError(f"the curve {self.curve} = 0 has no branch {self.place} at {self.x} = {point}")
        return roots[self.place]

    @cached_property
    def formula(self) -> Expr | None:
        """Y as a function of x; None where the curve has no formula of degree 1 or 2 in y."""
        degree = Poly(self.curve, self.y).degree()
        if degree == 1:
            return cast(Expr, solve(self.curve, self.y)[0])
        if degree > 2:
            return None
        a, b, c = Poly(self.curve, self.y).all_coeffs()
        branches = [cast(Expr, (-b + side * sqrt(b**2 - 4 * a * c)) / (2 * a)) for side in (-1, 1)]
        point = self._somewhere()
        if point is None:
            return branches[self.place]
        return min(branches, key=lambda branch: abs(float(substitute(branch, {self.x: point}) - self.at(point))))

    def _somewhere(self) -> Expr | None:
        """A whole number at which the branch has a value."""
        for power in range(40):
            if self.place < len(lifted(self.curve, self.x, self.y, Integer(2**power))):
                return Integer(2**power)
        return None


Edge = Expr | Section
"""What bounds a region from below or above: a number or a branch of a curve."""


def height(edge: Edge, point: Expr) -> Expr:
    """The ordinate of an edge at an abscissa."""
    return edge.at(point) if isinstance(edge, Section) else edge


@lru_cache(maxsize=65536)
def lifted(curve: Expr, x: Symbol, y: Symbol, point: Expr) -> list[Expr]:
    """The ordinates of a curve at an abscissa, in ascending order, of both signs."""
    coefficients = Poly(substitute(curve, {x: point}), y).all_coeffs()
    return Polynomial(y, tuple(reversed(coefficients))).roots()


class Plane:
    """A rectangle of the plane, and what is known of curves over it, each computed once.

    Parameters
    ----------
    left, right, low, high : the ends in x and in y; oo where there is none.
    """

    def __init__(self, x: Symbol, y: Symbol, left: Expr, right: Expr, low: Expr, high: Expr) -> None:
        self.x, self.y = x, y
        self.left, self.right, self.low, self.high = left, right, low, high
        self._waves: dict[Expr, Symbol] = {}
        self._factors: dict[Expr, tuple[int, tuple[tuple[Expr, int], ...]]] = {}
        self._abscissae: dict[tuple[Expr, ...], list[Expr]] = {}

    def factors(self, expression: Expr) -> tuple[int, tuple[tuple[Expr, int], ...]]:
        """The sign of all factors with a fixed sign, and the irreducible factors whose sign changes, with powers.

        Raises
        ------
        InputError
            The expression is not a rational function of y, or not one of x and its exponentials.
        """
        if expression not in self._factors:
            known, parts = open_factors(self._plain(expression), self.x)
            found: list[tuple[Expr, int]] = []
            for part, power in parts:
                turned = bool(Poly(part, *sorted(part.free_symbols, key=str)).LC() < 0)
                known *= (-1) ** (power * turned)
                found.append((self._restored((-part).expand() if turned else part), power))
            self._factors[expression] = known, tuple(found)
        return self._factors[expression]

    def _plain(self, expression: Expr) -> Expr:
        """The expression with symbols for its exponentials in x."""
        moving = {self.x, self.y}
        atoms = (atom for atom in expression.atoms(Pow, Untouched) if not (atom.is_Pow and cast(Any, atom).exp.is_number))
        for atom in sorted((atom for atom in atoms if atom.free_symbols & moving), key=lambda atom: -atom.count_ops()):
            if self.y in atom.free_symbols:
                raise ExponentError(f"{self.y} is an exponent, in {atom}")
            self._waves.setdefault(atom, Dummy("u", positive=True))
        return substitute(expression, cast(Any, self._waves)) if self._waves else expression

    def _restored(self, expression: Expr) -> Expr:
        return substitute(expression, {symbol: atom for atom, symbol in self._waves.items()}) if self._waves else expression

    def turns(self, curve: Expr) -> list[Expr]:
        """The abscissae at which branches of a curve meet each other or have a vertical asymptote."""
        key = (curve,)
        if key not in self._abscissae:
            whole = Poly(self._plain(curve), self.y)
            parts = [whole.LC()] if whole.degree() == 1 else [whole.LC(), whole.discriminant()]
            self._abscissae[key] = self._roots(parts)
        return self._abscissae[key]

    def meets(self, curve: Expr, edge: Edge) -> list[Expr]:
        """The abscissae at which a curve meets an edge, or another branch of the edge's curve."""
        other = edge.curve if isinstance(edge, Section) else self.y - edge
        if edge == oo or other == curve:
            return []
        key = (curve, other)
        if key not in self._abscissae:
            first, second = (Poly(self._plain(part), self.y) for part in (curve, other))
            self._abscissae[key] = self._roots([cast(Any, first.resultant(second)).as_expr()])
        return self._abscissae[key]

    def _roots(self, parts: Iterable[Expr]) -> list[Expr]:
        """The abscissae within the rectangle at which one of several expressions in x is zero."""
        factors = (factor for part in parts for factor, _ in self.factors(self._restored(Integer(1) * part))[1])
        return ascending(root for factor in factors for root in self.zeros(factor))

    def zeros(self, factor: Expr) -> list[Expr]:
        """The zeros of a factor in x alone."""
        return [root for root in signed(factor, self.x).roots(self.left, self.right) if root not in (self.left, self.right)]

    def sign_at(self, expression: Expr, point: tuple[Expr, Expr]) -> int:
        """The sign of an expression in the two variables at a point."""
        return sign_of(substitute(expression, {self.x: point[0], self.y: point[1]}))
