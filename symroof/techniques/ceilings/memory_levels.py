"""Memory levels: the traffic of a tiled matrix product between on-chip memory and the arithmetic units."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symroof import symbols
from symroof.operators import Graph
from symroof.operators.on_chip import operands
from symroof.techniques.technique import Example, Given, Number, Technique, number


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
    own), and so is what is fused; tiles are taken to divide the matrix, and the result is written straight to memory. The reads follow
    from the operator as it is, so that techniques before and after it count alike.

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
    example = Example(phase="prefill", over="tile", settings={"bandwidth": 19_500_000_000_000})

    tile: Number = number(symbols.B_t)
    bandwidth: Number = number(symbols.BW_c)

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        if graph.tile is not None:
            raise self.refused("its operators have on-chip traffic already; apply it once")
        if not any(operands(operator) for operator, _ in graph):
            raise self.refused("no product with a weight is left in this step")
        return replace(graph, tile=given["tile"])

    def statements(self, given: Given) -> tuple[str, ...]:
        return (
            f"memory-levels: products with weights in square tiles of side {given['tile']}, read from on-chip memory at BW_c once per "
            "tile of the other operand; attention, what is fused and all other operators have no on-chip ceiling",
        )
