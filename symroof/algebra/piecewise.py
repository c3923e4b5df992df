"""A function of one variable given on pieces, each with a label: time over the batch, labelled by what binds.

Crossovers are where the label changes, regimes are the pieces, a comparison is the sign of a difference, inverse design
the stretches within a target. Neighbours share their ends. Where x counts, pieces may be whole numbers with gaps between.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any, cast

from sympy import Expr, Integer, Symbol, ceiling, floor, nan, oo

from symroof.algebra.roots import ascending, between, exact, order
from symroof.algebra.summation import sum_over
from symroof.algebra.univariate import limit, signed
from symroof.errors import InputError, quote

MEMORY, COMPUTE = "memory", "compute"
Combine = Callable[[Hashable, Hashable], Hashable]


def pair(left: Hashable, right: Hashable) -> Hashable:
    """The label where two functions are put together: theirs where they agree, else both.

    >>> pair("memory", "memory"), pair("memory", "compute")
    ('memory', ('memory', 'compute'))
    """
    return left if left == right else (left, right)


@dataclass(frozen=True)
class Piece:
    """A stretch of the variable, ends included, with the formula and the label that hold on it.

    The value is ``nan`` where pieces with several formulas were joined by their label alone.
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
        """The label, where that is what binds."""
        return self.label

    @property
    def is_point(self) -> bool:
        """Whether it is one point alone."""
        return self.low == self.high


@dataclass(frozen=True)
class Piecewise:
    """A function of *x* on pieces in ascending order.

    >>> from sympy.abc import x
    >>> time = Piecewise(x, (Piece(Integer(1), Integer(4), 8 + 0 * x, "memory"), Piece(Integer(4), oo, 2 * x, "compute")))
    >>> time(3), time.at(5).label, time.edges, time.minimum(), [part.high for part in time.within(10)]
    (8, 'compute', (4,), (8, 1), [5])
    """

    x: Symbol
    pieces: tuple[Piece, ...]

    @property
    def low(self) -> Expr:
        """Where the first piece begins."""
        return self.pieces[0].low

    @property
    def high(self) -> Expr:
        """Where the last piece ends."""
        return self.pieces[-1].high

    @property
    def labels(self) -> tuple[Hashable, ...]:
        """The label of every piece, in order."""
        return tuple(piece.label for piece in self.pieces)

    @property
    def edges(self) -> tuple[Expr, ...]:
        """Where a piece begins that is not the first."""
        return tuple(piece.low for piece in self.pieces[1:])

    def at(self, point: object, prefer: Hashable = None) -> Piece:
        """The piece a point lies in: a piece that is this point alone, else one with the preferred label, else the first.

        Raises
        ------
        InputError
            The point is outside the range.
        """
        here = [piece for piece in self.pieces if point in piece]
        if not here:
            raise InputError(f"{self.x} {quote(point)} is outside {self.low} to {self.high}")
        alone = [piece for piece in here if piece.is_point]
        preferred = [piece for piece in here if prefer is not None and piece.label == prefer]
        return (alone or preferred or here)[0]

    def __call__(self, point: object) -> Expr:
        """The value at a point, exactly; at oo the limit.

        Raises
        ------
        InputError
            The point is outside the range, or pieces with several formulas were joined there.
        """
        return self._value(self.at(point), exact(point))

    def _value(self, piece: Piece, point: Expr) -> Expr:
        if piece.value is nan:
            raise InputError(f"{self.x} {quote(point)}: the pieces from {piece.low} to {piece.high} were joined by their label alone")
        return limit(piece.value, self.x) if point == oo else cast(Expr, piece.value.xreplace({self.x: point}))

    def map(self, how: Callable[[Expr], Expr]) -> Piecewise:
        """The same pieces with *how* of every formula."""
        return Piecewise(self.x, tuple(replace(piece, value=how(piece.value)) for piece in self.pieces))

    def relabelled(self, how: Callable[[Hashable], Hashable]) -> Piecewise:
        """The same pieces with *how* of every label."""
        return Piecewise(self.x, tuple(replace(piece, label=how(piece.label)) for piece in self.pieces))

    def restricted(self, low: object, high: object) -> Piecewise:
        """What lies from *low* to *high*.

        Raises
        ------
        InputError
            Nothing does.
        """
        whole = Piecewise(self.x, (Piece(exact(low), exact(high), Integer(0), None),))
        return self.overlay(whole, lambda value, _: value, lambda label, _: label)

    def overlay(self, other: Piecewise, value: Callable[[Expr, Expr], Expr], label: Combine = pair) -> Piecewise:
        """Both functions on their common refinement, formulas and labels put together by the given functions.

        Raises
        ------
        InputError
            They are functions of different variables, or have no stretch in common.
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
                pieces.pop()  # what only touches is part of what goes on from there
            if width < 0 or (width == 0 and (point or not pieces or order(pieces[-1].high, low) < 0)):
                pieces.append(Piece(low, high, value(left.value, right.value), label(left.label, right.label)))
                touching = width == 0 and not point
            mine, theirs = mine + (ends <= 0), theirs + (ends >= 0)
        if not pieces:
            raise InputError(f"{self.x} from {self.low} to {self.high} and from {other.low} to {other.high} have no stretch in common")
        return Piecewise(self.x, tuple(pieces))

    def _combined(self, other: object, how: Callable[[Expr, Expr], Expr]) -> Piecewise:
        if isinstance(other, Piecewise):
            return self.overlay(other, how)
        constant = exact(other)
        return self.map(lambda value: how(value, constant))

    def __add__(self, other: object) -> Piecewise:
        return self._combined(other, operator.add)

    def __sub__(self, other: object) -> Piecewise:
        return self._combined(other, operator.sub)

    def __mul__(self, other: object) -> Piecewise:
        return self._combined(other, operator.mul)

    def __truediv__(self, other: object) -> Piecewise:
        return self._combined(other, operator.truediv)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: object) -> Piecewise:
        return self._combined(other, lambda value, constant: constant - value)

    def __rtruediv__(self, other: object) -> Piecewise:
        return self._combined(other, lambda value, constant: constant / value)

    def __neg__(self) -> Piecewise:
        return self.map(operator.neg)

    def merged(self, *, label: bool = True, value: bool = False, combine: Combine = pair) -> Piecewise:
        """Neighbours that agree are one piece.

        Parameters
        ----------
        label, value : what has to agree; a value that need not and does not becomes ``nan``.
        combine : the label of pieces that are one by their value alone.
        """
        pieces: list[Piece] = []
        for piece in self.pieces:
            last = pieces[-1] if pieces else None
            if last is None or (label and last.label != piece.label) or (value and last.value != piece.value):
                pieces.append(piece)
                continue
            joined = last.value if last.value == piece.value else cast(Expr, nan)
            pieces[-1] = Piece(last.low, piece.high, joined, last.label if label else combine(last.label, piece.label))
        return Piecewise(self.x, tuple(pieces))

    def roots(self, of: object = 0) -> tuple[Expr, ...]:
        """Where the value is that number, in ascending order; where it is so on a whole stretch, nothing of that stretch."""
        return tuple(
            ascending(root for piece in self.pieces for root in signed(piece.value - exact(of), self.x).roots(piece.low, piece.high))
        )

    def signs(self, below: Hashable = MEMORY, above: Hashable = COMPUTE, zero: Hashable = None) -> Piecewise:
        """The stretches on which the value has one sign, labelled by it.

        Without *zero* a root belongs to what is above: between two stretches below it is a piece of its own, a point.
        With *zero*, that is the label of stretches on which the value is zero throughout, and roots are edges alone.

        >>> from sympy.abc import x
        >>> touching = Piecewise(x, (Piece(Integer(1), Integer(9), -((x - 3) ** 2), None),))
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
                add(piece.high, piece.high, value, 0)  # an end two pieces share is the left one's
        return Piecewise(self.x, tuple(pieces)).merged()

    def compare(self, other: Piecewise, labels: tuple[Hashable, Hashable, Hashable] = ("pays", "loses", "the same")) -> Piecewise:
        """Where the other is less, more and the same, on the common range: the first, second and third label."""
        more, less, same = labels
        return self.overlay(other, operator.sub).signs(below=less, above=more, zero=same)

    def within(self, target: object) -> tuple[Piecewise, ...]:
        """The stretches on which the value is at most the target, touched points included, in order.

        A stretch is the part of this function on it, so that its first and last piece say what holds at its ends.

        >>> from sympy.abc import x
        >>> falling = Piecewise(x, (Piece(Integer(0), oo, 12 / x, "bytes"),))
        >>> [(part.low, part.high) for part in falling.within(3)]
        [(4, oo)]
        """
        stretches: list[list[Piece]] = []
        for piece in self.pieces:
            decider = signed(piece.value - exact(target), self.x)
            roots = decider.roots(piece.low, piece.high)
            edges = ascending((piece.low, *roots, piece.high))
            if piece.is_point:
                edges, roots = [], [piece.low] if decider.sign(piece.low) <= 0 else []
            fitting = [replace(piece, low=a, high=b) for a, b in pairwise(edges) if decider.sign(between(a, b)) <= 0]
            ends = {end for part in fitting for end in (part.low, part.high)}
            touched = [replace(piece, low=root, high=root) for root in roots if root not in ends]
            for part in sorted((*fitting, *touched), key=lambda part: edges.index(part.low) if edges else 0):
                if stretches and stretches[-1][-1].high == part.low:
                    stretches[-1].append(part)
                else:
                    stretches.append([part])
        return tuple(Piecewise(self.x, tuple(parts)).merged(value=True) for parts in stretches)

    def minimum(self, *, whole: bool = False) -> tuple[Expr, Expr]:
        """The least value and where it is first: at an end of a piece, where the slope is zero, or in the limit at oo.

        Parameters
        ----------
        whole : over the whole numbers.

        Raises
        ------
        InputError
            No value is finite.
        """
        return self._extreme(-1, whole)

    def maximum(self, *, whole: bool = False) -> tuple[Expr, Expr]:
        """The greatest value and where, as `minimum` has the least."""
        return self._extreme(1, whole)

    def _extreme(self, wanted: int, whole: bool) -> tuple[Expr, Expr]:
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
        return reduce(lambda best, other: other if order(other[0], best[0]) == wanted else best, finite)

    def sum_over(self, low: object, high: object) -> Expr:
        """The sum over the whole numbers from *low* to *high*, exactly; one on an edge counts to the earlier piece.

        Raises
        ------
        InputError
            The range is not covered, or a value is neither a polynomial nor a sum of exponentials.

        >>> from sympy.abc import x
        >>> Piecewise(x, (Piece(Integer(1), Integer(4), x, "a"), Piece(Integer(4), oo, 10 * x, "b"))).sum_over(1, 5)
        60
        """
        start, end = exact(low), exact(high)
        if order(start, self.low) < 0 or order(end, self.high) > 0:
            raise InputError(f"{self.x} from {quote(low)} to {quote(high)} is not inside {self.low} to {self.high}")
        return cast(Expr, sum((sum_over(piece.value, self.x, *ends) for piece, *ends in self.counts(start, end)), start=Integer(0)))

    def counts(self, low: object, high: object) -> Iterable[tuple[Piece, Expr, Expr]]:
        """Every piece with the first and the last whole number from *low* to *high* on it, where it has any."""
        first, end = ceiling(exact(low)), floor(exact(high))
        for piece in self.pieces:
            begin = cast(Expr, max(first, ceiling(piece.low)))
            last = end if piece.high == oo else cast(Expr, min(end, floor(piece.high)))
            if begin <= last:
                yield piece, begin, last
                first = last + 1
