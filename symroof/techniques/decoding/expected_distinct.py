"""What several tokens touch together, when each of them touches a share by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sympy import Expr, fraction

from symroof.errors import InputError
from symroof.operators import Block, BlockRole, Graph

MOST_DIGITS = 1 << 17
"""Bits of an exact power beyond which it is refused: exact arithmetic on it would take minutes."""


def refuse_digits(name: str, share: Expr, tokens: Expr) -> None:
    """Raise where the exact power of a number has more digits than arithmetic on it can carry."""
    if share.is_number and tokens.is_number:
        bits = int(fraction(share)[1]).bit_length()
        if tokens * bits > MOST_DIGITS:
            raise InputError(
                f"{name}: (1 - {share})^{tokens} is exact to more than {MOST_DIGITS} bits; "
                f"ask for at most {MOST_DIGITS // bits} tokens: beyond, every part is touched for all that matters"
            )


def each_layer(graph: Graph, change: Callable[[Block], Block]) -> Graph:
    """The graph with every block of layers replaced by what *change* makes of it."""
    return replace(graph, blocks=tuple(change(block) if block.role is BlockRole.LAYER else block for block in graph.blocks))


def layers(graph: Graph) -> tuple[Block, ...]:
    """The blocks that are layers; a draft model's are none."""
    return tuple(block for block in graph.blocks if block.role is BlockRole.LAYER)
