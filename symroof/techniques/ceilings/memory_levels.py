"""Memory levels: the traffic of a tiled matrix product between on-chip memory and the arithmetic units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Expr, Min, Mul

from symroof import symbols
from symroof.errors import InputError
from symroof.operators.facts import Kind
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Axes, Level, Storage
from symroof.techniques.technique import Example, Fact, Number, Technique, number


@dataclass(frozen=True)
class MemoryLevels(Technique):
    """A third ceiling for every product with a weight: what it reads from on-chip memory, tile by tile.

    The product of ``R x K`` and ``K x N`` is computed in square tiles of side B_t; a matrix narrower than that is one
    tile wide. Every element of one operand is read once per tile of the other:

    ============== ============================================
    R x K          ``N / min(N, B_t)`` times each element
    K x N          ``R / min(R, B_t)`` times each element
    chip ceiling   bytes / BW_c
    no longer      from ``B_t = P (a + w) / (16 BW_c)`` on, where the tile fits the matrix
    binds
    ============== ============================================

    FLOPs, memory traffic and memory are as before. Attention's products are left out (FlashAttention has tiles of its
    own); tiles are taken to divide the matrix, and the result is written straight to memory. Apply it after the techniques
    that change weights: what it reads from on-chip memory is what it finds.

    Parameters
    ----------
    tile : B_t.
    bandwidth : BW_c, bandwidth of on-chip memory in byte/s, of the whole device; no device states it.

    >>> import symroof
    >>> from symroof.operators.tensor import Level
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(MemoryLevels())
    >>> print(step["up_proj"].byte_count(level=Level.CHIP))
    a*b*d*f/(8*Min(B_t, f)) + b*d*f*w/(8*Min(B_t, b))

    Source: Ilic, Pratas, Sousa (2014), doi:10.1109/L-CA.2013.6; Yang et al. (2020), arXiv:2009.02449 (hierarchical roofline).
    """

    name = "memory-levels"
    summary = "a ceiling of on-chip memory for tiled products"
    survey = "2.2"
    source = "arXiv:2009.02449"
    removes = frozenset({Fact.OPEN_OPERANDS})
    example = Example(phase="prefill", over="tile", settings={"bandwidth": 19_500_000_000_000})

    tile: Number = number(symbols.B_t)
    bandwidth: Number = number(symbols.BW_c)

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        if any(Level.CHIP in operator.levels for operator, _ in graph):
            raise InputError("memory-levels: its operators have on-chip traffic already; apply it once")
        changed = graph.each(lambda operator, _: _tiled(operator, given["tile"]))
        if all(old is new for (old, _), (new, _) in zip(graph, changed, strict=True)):
            raise InputError("memory-levels: no product with a weight is left in this step")
        if given["bandwidth"] == symbols.BW_c:
            return changed
        return replace(changed, definitions={**changed.definitions, symbols.BW_c: given["bandwidth"]})

    def statements(self, given: Mapping[str, Expr]) -> tuple[str, ...]:
        return (
            f"memory-levels: products with weights in square tiles of side {given['tile']}, read from on-chip memory at BW_c once per "
            "tile of the other operand; attention and all other operators have no on-chip ceiling",
        )


def _tiled(operator: Operator, tile: Expr) -> Operator:
    found = _operands(operator)
    if found is None:
        return operator
    extra = tuple(_on_chip(operator, one, other, tile) for one, other in (found, found[::-1]))
    return replace(operator, reads=(*operator.reads, *extra))


def _operands(operator: Operator) -> tuple[Access, Access] | None:
    """The operands of a product with a weight: those that share the axes that are summed over."""
    if operator.kind is not Kind.MATMUL:
        return None
    axes = {axis for work in operator.work if work.contraction for axis in work.axes}
    summed = axes - set(_axes(operator.writes[0]))
    both = [access for access in operator.reads if summed and summed <= set(_axes(access))]
    if len(both) != 2 or not any(access.tensor.storage is Storage.WEIGHT for access in both):
        return None
    return both[0], both[1]


def _axes(access: Access) -> Axes:
    return access.axes or access.tensor.axes


def _on_chip(operator: Operator, one: Access, other: Access, tile: Expr) -> Access:
    """The reads of one operand: as often as the other has tiles, of each matrix where there are several (experts)."""
    axes = {axis for work in operator.work if work.contraction for axis in work.axes}
    sizes = operator.space.sizes
    own, across = set(_axes(one)), dict.fromkeys(_axes(other))
    extent = Mul(*(sizes[axis] for axis in across if axis in axes and axis not in own))
    matrices = Mul(*(sizes[axis] for axis in own if axis not in axes))
    extent = extent / matrices
    return replace(one, repeats=one.repeats * extent / Min(extent, tile), level=Level.CHIP)
