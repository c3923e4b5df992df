"""Shared helpers of techniques on batches, prompts and contexts: which parts of a graph depend on the tokens."""

from __future__ import annotations

from symroof.errors import InputError
from symroof.operators import Axes, Graph, Operator

EXACT = ": accounting {!r} has no queries and contexts of their own; expected 'exact'"
"""Why techniques on tokens support only one accounting."""


def paired(axes: Axes) -> bool:
    """Whether these axes span pairs of a query and a context position."""
    return "s" in axes and "t" in axes


def attends(operator: Operator) -> bool:
    """Whether the operator works on pairs of a query and a context position."""
    return any(paired(piece.axes) for piece in operator.work)


def refuse_selection(name: str, graph: Graph) -> None:
    """Raise an InputError where queries attend to other positions than those up to their own: selected ones, or an encoder's output."""
    if any(operator.space.chosen for operator, _ in graph):
        raise InputError(f"{name}: queries attend to keys that they select, or as an encoder does to all tokens, which is not supported")


def refuse_windows(name: str, graph: Graph) -> None:
    """Raise an InputError for layers with a sliding window, which sequences, chunks or parts would fill to different extents."""
    refuse_selection(name, graph)
    spaces = (part.space for block in graph.blocks for part in (*block.operators, *block.tensors()))
    if any("z" in space.sizes or space.band is not None for space in spaces):
        raise InputError(
            f"{name}: layers store a different number of tokens than they attend to: sliding windows are not supported; paged-cache must "
            "come after"
        )
