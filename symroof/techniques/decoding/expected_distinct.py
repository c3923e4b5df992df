"""Blocks that are layers, of which a token runs some or parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from symroof.operators import Block, BlockRole, Graph


def each_layer(graph: Graph, change: Callable[[Block], Block]) -> Graph:
    """The graph with every block of layers replaced by what *change* makes of it."""
    return replace(graph, blocks=tuple(change(block) if block.role is BlockRole.LAYER else block for block in graph.blocks))


def layers(graph: Graph) -> tuple[Block, ...]:
    """The blocks that are layers; a draft model's are none."""
    return tuple(block for block in graph.blocks if block.role is BlockRole.LAYER)
