"""Dimensions of traced tensors as products of axes, aligned from operator to operator.

A module knows sizes, not axes. Every dimension starts as one axis of its size; where an operator makes two dimensions run together
(a sum of two tensors, the inner dimension of a product), their axes become one, and where a view splits a dimension, so does its
axis: of a linear layer whose result is viewed as heads and components, the weight has axes of heads and components too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sympy import Expr, S, cancel, fraction


class Axis:
    """An axis of a traced step; once found to be another axis, or a product of several, it is resolved to them."""

    __slots__ = ("apart", "is_product_of", "size", "twin")

    def __init__(self, size: Expr) -> None:
        self.size = size
        self.is_product_of: tuple[Axis, ...] = ()
        self.apart: set[Axis] = set()
        self.twin: Axis | None = None


Dim = tuple[Axis, ...]
"""A dimension: the product of its axes; of size 1, no axis."""


def dim_of(size: Expr) -> Dim:
    """A dimension of a size, with an axis of its own."""
    return () if size == 1 else (Axis(size),)


def resolved(dim: Iterable[Axis]) -> Iterator[Axis]:
    """The axes of a dimension as known by now."""
    for axis in dim:
        if axis.is_product_of:
            yield from resolved(axis.is_product_of)
        else:
            yield axis


def size_of(dim: Iterable[Axis]) -> Expr:
    """The size of a dimension."""
    size: Expr = S.One
    for axis in dim:
        size *= axis.size
    return size


def keep_apart(dims: Sequence[Dim]) -> tuple[Dim, ...]:
    """The dimensions of one tensor, no axis of which occurs twice: the second time, another of the same size takes its place.

    >>> from sympy import Integer
    >>> (row,) = dim = dim_of(Integer(8))
    >>> (same,), (other,) = keep_apart([dim, dim])
    >>> same is row, other is row, other.size
    (True, False, 8)
    """
    taken: list[Axis] = []
    made: list[Dim] = []
    for dim in dims:
        own: list[Axis] = []
        for axis in resolved(dim):
            while axis in taken:
                axis.twin = axis.twin or Axis(axis.size)  # one twin, so that the contexts of all layers have one axis
                (axis,) = tuple(resolved((axis.twin,))) if not axis.twin.is_product_of else (Axis(axis.size),)  # noqa: PLW2901
            taken.append(axis)
            own.append(axis)
        made.append(tuple(own))
    for axis in taken:
        axis.apart |= {*taken} - {axis}
    return tuple(made)


def align(first: Iterable[Axis], second: Iterable[Axis]) -> None:
    """Make two dimensions of one size run over the same axes, as far as no tensor then had one of them twice.

    >>> from sympy import Integer
    >>> heads, pair = dim_of(Integer(8)), (*dim_of(Integer(2)), *dim_of(Integer(4)))
    >>> align(heads, pair)
    >>> [axis.size for axis in resolved(heads)] == [2, 4] and list(resolved(heads)) == list(resolved(pair))
    True
    """
    left, right = list(resolved(first)), list(resolved(second))
    while left and right:
        one, other = left[0], right[0]
        if one is other or one.size == other.size:
            if one is not other and other not in one.apart:
                _become(one, (other,))
            del left[0], right[0]
        elif (rest := _quotient(other.size, one.size)) is not None:
            right[:1] = _become(other, (Axis(one.size), Axis(rest)))
        elif (rest := _quotient(one.size, other.size)) is not None:
            left[:1] = _become(one, (Axis(other.size), Axis(rest)))
        else:
            return


def divided(dims: Sequence[Dim], sizes: Sequence[Expr]) -> tuple[Dim, ...]:
    """The axes of a tensor in order, as the dimensions of these sizes; new axes where the sizes do not divide those there are.

    >>> from sympy import Integer
    >>> first, second = divided([dim_of(Integer(6)), dim_of(Integer(4))], [Integer(2), Integer(12)])
    >>> [axis.size for axis in second]
    [3, 4]
    """
    left = [axis for dim in dims for axis in resolved(dim)]
    made: list[Dim] = []
    for size in sizes:
        own: list[Axis] = []
        rest = size
        while rest != 1 and left:
            axis = left[0]
            if (more := _quotient(rest, axis.size)) is not None:
                own.append(left.pop(0))
                rest = more
            elif (more := _quotient(axis.size, rest)) is not None:
                left[:1] = _become(axis, (Axis(rest), Axis(more)))
            else:
                break
        if rest != 1:
            return tuple(map(dim_of, sizes))
        made.append(tuple(own))
    return tuple(made)


def _quotient(size: Expr, by: Expr) -> Expr | None:
    """The quotient of two sizes where it is whole."""
    if by == 0:
        return None
    if size.is_Integer and by.is_Integer:
        return size / by if size % by == 0 else None
    ratio = cancel(size / by)
    return ratio if fraction(ratio)[1] == 1 else None


def _become(axis: Axis, parts: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The axis as another one, or as a product of new ones; what it was apart from, these are."""
    for other in axis.apart:
        other.apart.discard(axis)
        other.apart.update(parts)
    for part in parts:
        part.apart |= axis.apart
        if len(parts) > 1:
            part.apart |= {*parts} - {part}
    axis.is_product_of, axis.apart = parts, set()
    return parts
