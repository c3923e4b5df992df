"""The layer blocks of a graph, for techniques in which tokens run some layers or parts of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from symroof.operators import Block, BlockRole, Graph


def each_layer(graph: Graph, change: Callable[[Block], Block]) -> Graph:
    """The graph with *change* applied to every layer block."""
    return replace(graph, blocks=tuple(change(block) if block.role is BlockRole.LAYER else block for block in graph.blocks))


def layers(graph: Graph) -> tuple[Block, ...]:
    """The layer blocks that the step runs, without those of a draft model."""
    return tuple(block for block in graph.blocks if block.role is BlockRole.LAYER and block.count != 0)
