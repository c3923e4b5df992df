"""Memory levels: the traffic of a tiled matrix product between on-chip memory and the arithmetic units."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symroof import symbols
from symroof.operators import Graph
from symroof.operators.on_chip import operands
from symroof.techniques.technique import Example, Given, Number, Technique, number


@dataclass(frozen=True)
class MemoryLevels(Technique):
    """A third ceiling for every product with a weight: its tiled reads from on-chip memory.

    The product of ``R x K`` and ``K x N`` is computed in square tiles of side B_t; a matrix narrower than that is one
    tile wide. Every element of one operand is read once per tile of the other:

    ============== ============================================
    R x K          ``N / min(N, B_t)`` reads per element
    K x N          ``R / min(R, B_t)`` reads per element
    chip ceiling   bytes / BW_c
    not binding    for ``B_t >= P (a + w) / (16 BW_c)``, if the tile fits the matrix
    ============== ============================================

    FLOPs, memory traffic and memory are unchanged. Attention (FlashAttention has its own tiles) and fused operators have
    no such ceiling. Valid for tiles that divide the matrix and results written straight to memory. The reads are counted
    on the final operators, so the order of techniques does not matter.

    Parameters
    ----------
    tile : B_t, side of a tile in elements.
    bandwidth : BW_c, bandwidth of the device's on-chip memory in byte/s; data sheets do not state it.

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
            raise self.refused("the operators have on-chip traffic already; apply it once")
        if not any(operands(operator) for operator, _ in graph):
            raise self.refused("no product with a weight is left in this step")
        return replace(graph, tile=given["tile"])

    def statements(self, given: Given) -> tuple[str, ...]:
        return (
            f"memory-levels: products with weights in square tiles of side {given['tile']}, read from on-chip memory at BW_c once per "
            "tile of the other operand; attention, fused groups and all other operators have no on-chip ceiling",
        )
