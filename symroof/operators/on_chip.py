"""What a tiled matrix product reads from on-chip memory: derived from the operator as it is, whatever techniques made of it."""

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
"""Axes of a weight that count matrices: each token meets the matrices of its experts alone."""


def operands(operator: Operator) -> tuple[Access, tuple[Access, ...]] | None:
    """The activation and the weights of a product with a weight: they share the axes that are summed over.

    The weights are several where parts of one live in several places. None for any other operator.
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
    """The reads of both operands, tile by tile: every element of one once for every tile of the other.

    The product of ``R x K`` and ``K x N`` in square tiles of side B_t reads the first operand ``N / min(N, B_t)`` times and
    the second ``R / min(R, B_t)`` times, with R the rows of one pass; there is nothing where no tile is given.
    """
    found = operands(operator)
    if found is None or operator.tile is None:
        return ()
    x, weights = found
    return (_read(operator, x, weights[0]), *(_read(operator, weight, x) for weight in weights))


def _read(operator: Operator, operand: Access, other: Access) -> Access:
    """The reads of one operand: as often as the other has tiles, of each matrix where there are several (experts)."""
    axes, sizes, own = _multiplied(operator), operator.space.sizes, set(operand.touched)
    extent = Mul(*(sizes[axis] for axis in dict.fromkeys(other.touched) if axis in axes - own))
    extent /= Mul(*(sizes[axis] for axis in own & EXPERTS - axes))
    if operand.tensor.storage is Storage.WEIGHT:  # it is read anew in every pass, for the rows of that pass alone
        extent /= operator.passes
    tile = cast(Expr, operator.tile)
    tiles = extent / Min(extent, tile, evaluate=extent.is_number and tile.is_number)  # in letters, which is less is asked for nothing
    if (operand.level or operand.tensor.level) is Level.CHIP:  # it lives there, so that its first read is one of them
        tiles -= 1
    return replace(operand, repeats=operand.repeats * tiles, level=Level.CHIP)


def _multiplied(operator: Operator) -> set[str]:
    """The axes of the product; that of a share of the weights, which one operand alone has, is none."""
    axes = {axis for work in operator.work if work.contraction for axis in work.axes}
    sides = Counter(axis for access in (*operator.reads, operator.written) for axis in {*access.touched})
    return {axis for axis in axes if sides[axis] > 1}
