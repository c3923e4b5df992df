"""A function of one variable on labelled pieces, such as time over the batch, labelled by the binding resource.

A crossover is where the label changes, regimes are the pieces, a comparison is the sign of a difference, inverse design
the intervals within a target. Neighbouring pieces share an end. For integer x, pieces may be whole numbers with gaps.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any, cast

from sympy import Expr, Symbol, ceiling, floor, nan, oo

from symroof.algebra.reals import ascending, between, exact, order
from symroof.algebra.univariate import limit, signed
from symroof.errors import InputError, quote
from symroof.notation import Brief

MEMORY, COMPUTE = "memory", "compute"


@dataclass(frozen=True)
class Piece(Brief):
    """An interval of the variable, ends included, with the formula and the label that apply on it.

    The value is ``nan`` if pieces with different formulas were merged because their labels agree.
    """

    low: Expr
    high: Expr
    value: Expr
    label: Hashable

    def __contains__(self, point: object) -> bool:
        at = exact(point)
        return order(self.low, at) <= 0 <= order(self.high, at)

    @property
    def bound(self) -> Any:
        """The label, if it is the binding resource."""
        return self.label

    @property
    def is_point(self) -> bool:
        """Whether it is a single point."""
        return self.low == self.high


@dataclass(frozen=True)
class Piecewise(Brief):
    """A function of *x* on pieces in ascending order.

    >>> from sympy.abc import x
    >>> time = piecewise(x, [(1, 4, 8, "memory"), (4, oo, 2 * x, "compute")])
    >>> time(3), time.at(5).label, time.edges, time.minimum(), [part.high for part in time.within(10)]
    (8, 'compute', (4,), (8, 1), [5])
    """

    x: Symbol
    pieces: tuple[Piece, ...]

    @property
    def low(self) -> Expr:
        """The low end of the first piece."""
        return self.pieces[0].low

    @property
    def high(self) -> Expr:
        """The high end of the last piece."""
        return self.pieces[-1].high

    @property
    def labels(self) -> tuple[Hashable, ...]:
        """The label of every piece, in order."""
        return tuple(piece.label for piece in self.pieces)

    @property
    def edges(self) -> tuple[Expr, ...]:
        """The points at which pieces meet."""
        return tuple(piece.low for piece in self.pieces[1:])

    def at(self, point: object) -> Piece:
        """The piece that contains a point: the piece that is just this point if there is one, otherwise the first.

        Raises
        ------
        InputError
            The point is outside the range.
        """
        here = [piece for piece in self.pieces if point in piece]
        if not here:
            raise InputError(f"{self.x} {quote(point)} is outside {self.low} to {self.high}")
        return next((piece for piece in here if piece.is_point), here[0])

    def __call__(self, point: object) -> Expr:
        """The value at a point, exactly; at oo the limit.

        Raises
        ------
        InputError
            The point is outside the range, or pieces with different formulas were merged there.
        """
        return self._value(self.at(point), exact(point))

    def _value(self, piece: Piece, point: Expr) -> Expr:
        if piece.value is nan:
            raise InputError(f"{self.x} {quote(point)}: the pieces from {piece.low} to {piece.high} were merged by label and have no value")
        return limit(piece.value, self.x) if point == oo else cast(Expr, piece.value.xreplace({self.x: point}))

    def map(self, how: Callable[[Expr], Expr]) -> Piecewise:
        """The same pieces with *how* applied to every formula."""
        return Piecewise(self.x, tuple(replace(piece, value=how(piece.value)) for piece in self.pieces))

    def overlay(self, other: Piecewise, value: Callable[[Expr, Expr], Expr]) -> Piecewise:
        """Both functions on their common refinement, with formulas combined by *value*; the labels are those of this function.

        Raises
        ------
        InputError
            They are functions of different variables, or their ranges are disjoint.
        """
        if self.x != other.x:
            raise InputError(f"a function of {self.x} and one of {other.x} have no common range")
        pieces: list[Piece] = []
        mine, theirs, touching = 0, 0, False
        while mine < len(self.pieces) and theirs < len(other.pieces):
            left, right = self.pieces[mine], other.pieces[theirs]
            low = left.low if order(left.low, right.low) >= 0 else right.low
            ends = order(left.high, right.high)
            high = left.high if ends <= 0 else right.high
            width, point = order(low, high), left.is_point or right.is_point
            if width < 0 and touching and pieces[-1].high == low:
                pieces.pop()  # a single shared point belongs to the piece that continues from it
            if width < 0 or (width == 0 and (point or not pieces or order(pieces[-1].high, low) < 0)):
                pieces.append(Piece(low, high, value(left.value, right.value), left.label))
                touching = width == 0 and not point
            mine, theirs = mine + (ends <= 0), theirs + (ends >= 0)
        if not pieces:
            raise InputError(f"{self.x} from {self.low} to {self.high} and from {other.low} to {other.high} have no interval in common")
        return Piecewise(self.x, tuple(pieces))

    def __add__(self, constant: Expr) -> Piecewise:
        return self.map(lambda value: value + constant)

    def __sub__(self, other: object) -> Piecewise:
        if isinstance(other, Piecewise):
            return self.overlay(other, operator.sub)
        return self + -exact(other)

    def merged(self, *, value: bool = False, combine: Callable[[Any, Any], Hashable] | None = None) -> Piecewise:
        """The function with neighbouring pieces merged if they agree.

        Parameters
        ----------
        value : whether formulas must agree; otherwise merged pieces with different formulas have the value ``nan``.
        combine : makes the label of merged pieces; without it, labels must agree.
        """
        pieces: list[Piece] = []
        for piece in self.pieces:
            last = pieces[-1] if pieces else None
            if last is None or (combine is None and last.label != piece.label) or (value and last.value != piece.value):
                pieces.append(piece)
                continue
            joined = last.value if last.value == piece.value else cast(Expr, nan)
            pieces[-1] = Piece(last.low, piece.high, joined, combine(last.label, piece.label) if combine else last.label)
        return Piecewise(self.x, tuple(pieces))

    def signs(self, below: Hashable = MEMORY, above: Hashable = COMPUTE, zero: Hashable = None) -> Piecewise:
        """The intervals on which the value has one sign, labelled by the sign.

        Without *zero* a root counts as *above*: between two intervals below, it is a piece of its own, a point.
        *zero* labels intervals on which the value is zero throughout; isolated roots are then only edges.

        >>> from sympy.abc import x
        >>> touching = piecewise(x, [(1, 9, -((x - 3) ** 2), None)])
        >>> [(str(piece.low), str(piece.high), piece.label) for piece in touching.signs().pieces]
        [('1', '3', 'memory'), ('3', '3', 'compute'), ('3', '9', 'memory')]
        """
        pieces: list[Piece] = []

        def add(low: Expr, high: Expr, value: Expr, sign: int) -> None:
            label = below if sign < 0 else above if sign > 0 or zero is None else zero
            pieces.append(Piece(low, high, value, label))

        for piece in self.pieces:
            decider, value = signed(piece.value, self.x), piece.value
            if piece.is_point:
                add(piece.low, piece.high, value, decider.sign(piece.low))
                continue
            roots = decider.roots(piece.low, piece.high)
            if zero is None and not pieces and piece.low.is_positive and roots and roots[0] == piece.low:
                add(piece.low, piece.low, value, 0)
            inner = [root for root in roots if root not in (piece.low, piece.high)]
            for low, high in pairwise((piece.low, *inner, piece.high)):
                if zero is None and low in inner:
                    add(low, low, value, 0)
                add(low, high, value, decider.sign(between(low, high)))
            if zero is None and piece.high != oo and (decider.is_zero or (roots and roots[-1] == piece.high)):
                add(piece.high, piece.high, value, 0)  # a shared end belongs to the left piece
        return Piecewise(self.x, tuple(pieces)).merged()

    def compare(self, other: Piecewise, labels: tuple[Hashable, Hashable, Hashable] = ("pays", "loses", "the same")) -> Piecewise:
        """The common range labelled by whether the other function is less, greater or equal: the first, second and third label."""
        more, less, same = labels
        return self.overlay(other, operator.sub).signs(below=less, above=more, zero=same)

    def within(self, target: object) -> tuple[Piecewise, ...]:
        """The intervals on which the value is at most the target, single points included, in order.

        Each is this function restricted to the interval, so its first and last piece give the labels at its ends.

        >>> from sympy.abc import x
        >>> falling = piecewise(x, [(0, oo, 12 / x, "bytes")])
        >>> [(part.low, part.high) for part in falling.within(3)]
        [(4, oo)]
        """
        intervals: list[list[Piece]] = []
        for piece in self.pieces:
            room = Piecewise(self.x, (replace(piece, value=exact(target) - piece.value),))
            for fitting in room.signs(below=False, above=True).pieces:
                if fitting.label and intervals and intervals[-1][-1].high == fitting.low:
                    intervals[-1].append(replace(piece, low=fitting.low, high=fitting.high))
                elif fitting.label:
                    intervals.append([replace(piece, low=fitting.low, high=fitting.high)])
        return tuple(Piecewise(self.x, tuple(parts)).merged(value=True) for parts in intervals)

    def minimum(self, *, whole: bool = False) -> tuple[Expr, Expr]:
        """The minimum and the first point at which it is reached: an end of a piece, a zero of the slope, or the limit at oo.

        Parameters
        ----------
        whole : over the whole numbers.

        Raises
        ------
        InputError
            No value is finite.
        """
        candidates: list[tuple[Expr, Expr]] = []
        for piece in self.pieces:
            turns = signed(piece.value.diff(self.x), self.x).roots(piece.low, piece.high)
            points = ascending((piece.low, *turns, piece.high))
            if whole:
                near = [point if point == oo else side(point) for point in points for side in (floor, ceiling)]
                points = [point for point in ascending(near) if point in piece]
            candidates += [(self._value(piece, point), point) for point in points]
        finite = [candidate for candidate in candidates if candidate[0] is not nan and candidate[0].is_infinite is not True]
        if not finite:
            raise InputError(f"no value from {self.low} to {self.high} is finite")
        return reduce(lambda best, other: other if order(other[0], best[0]) < 0 else best, finite)

    def counts(self, low: object, high: object) -> Iterable[tuple[Piece, Expr, Expr]]:
        """Every piece that contains whole numbers from *low* to *high*, with the first and the last of them."""
        first, end = ceiling(exact(low)), floor(exact(high))
        for piece in self.pieces:
            begin = cast(Expr, max(first, ceiling(piece.low)))
            last = end if piece.high == oo else cast(Expr, min(end, floor(piece.high)))
            if begin <= last:
                yield piece, begin, last
                first = last + 1


def piecewise(x: Symbol, pieces: Sequence[tuple[object, object, object, Hashable]]) -> Piecewise:
    """A function from ``(low, high, value, label)``, one for every piece.

    >>> from sympy.abc import x
    >>> piecewise(x, [(1, 4, 8, "memory"), (4, oo, 2 * x, "compute")]).labels
    ('memory', 'compute')
    """
    return Piecewise(x, tuple(Piece(exact(low), exact(high), exact(value), label) for low, high, value, label in pieces))
