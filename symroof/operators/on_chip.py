"""On-chip reads of tiled matrix products, derived from the operators after all techniques."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from sympy import Expr, Min, Mul

from symroof.operators.facts import Kind
from symroof.operators.tensor import Access, Level, Storage

if TYPE_CHECKING:
    from symroof.operators.operator import Operator


EXPERTS = frozenset({"E", "X"})
"""Axes of a weight that count matrices: each token multiplies by the matrices of its own experts only."""


def operands(operator: Operator) -> tuple[Access, tuple[Access, ...]] | None:
    """The activation and the weights of a product with a weight, which share the axes summed over; None for other operators.

    There are several weights if parts of a weight are stored in different places.
    """
    if operator.kind is not Kind.MATMUL:
        return None
    summed = summed_axes(operator)
    sides = [access for access in operator.reads if summed and summed <= set(access.touched)]
    weights = tuple(access for access in sides if access.tensor.storage is Storage.WEIGHT)
    others = [access for access in sides if access.tensor.storage is not Storage.WEIGHT]
    return (others[0], weights) if weights and len(others) == 1 else None


def summed_axes(operator: Operator) -> set[str]:
    """The axes that a product sums over: its inner dimension."""
    return _multiplied(operator) - set(operator.written.touched)


def on_chip_reads(operator: Operator) -> tuple[Access, ...]:
    """The tiled reads of both operands: every element of one operand once per tile of the other.

    The product of ``R x K`` and ``K x N`` in square tiles of side B_t reads the first operand ``N / min(N, B_t)`` times and
    the second ``R / min(R, B_t)`` times, with R the rows of one pass; empty if no tile is given.
    """
    pair = operands(operator)
    if pair is None or operator.tile is None:
        return ()
    x, weights = pair
    return (_read(operator, x, weights[0]), *(_read(operator, weight, x) for weight in weights))


def _read(operator: Operator, operand: Access, other: Access) -> Access:
    """The reads of one operand: once per tile of the other, for each matrix if there are several (experts)."""
    axes, sizes, own = _multiplied(operator), operator.space.sizes, set(operand.touched)
    extent = Mul(*(sizes[axis] for axis in dict.fromkeys(other.touched) if axis in axes - own))
    extent /= Mul(*(sizes[axis] for axis in own & EXPERTS - axes))
    if operand.tensor.storage is Storage.WEIGHT:  # every pass reads it again, for the rows of that pass only
        extent /= operator.passes
    tile = cast(Expr, operator.tile)
    tiles = extent / Min(extent, tile, evaluate=extent.is_number and tile.is_number)  # symbols: no costly comparison
    if (operand.level or operand.tensor.level) is Level.CHIP:  # it is stored there, so the first read is one of these
        tiles -= 1
    return replace(operand, repeats=operand.repeats * tiles, level=Level.CHIP)


def _multiplied(operator: Operator) -> set[str]:
    """The axes of the product, without the axis of a weight's share, which only one operand has."""
    axes = {axis for work in operator.work if work.contraction for axis in work.axes}
    sides = Counter(axis for access in (*operator.reads, operator.written) for axis in {*access.touched})
    return {axis for axis in axes if sides[axis] > 1}
