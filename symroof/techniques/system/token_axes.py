"""What techniques on batches, prompts and contexts share: which parts of a graph depend on the tokens, and how."""

from __future__ import annotations

from symroof.errors import InputError
from symroof.operators import Axes, Graph, Operator

EXACT = ": accounting {!r} has no queries and contexts of their own; expected 'exact'"
"""Why what follows the tokens is of one accounting alone."""


def paired(axes: Axes) -> bool:
    """Whether these axes hold a point for every query and every position of its context."""
    return "s" in axes and "t" in axes


def attends(operator: Operator) -> bool:
    """Whether the operator works on pairs of a query and a position of its context."""
    return any(paired(piece.axes) for piece in operator.work)


def refuse_windows(name: str, graph: Graph) -> None:
    """Raise an InputError for layers with a sliding window, of which each sequence, chunk or part would fill another share."""
    spaces = (part.space for block in graph.blocks for part in (*block.operators, *block.tensors()))
    if any("z" in space.sizes or space.band is not None for space in spaces):
        raise InputError(
            f"{name}: layers keep another number of tokens than they look at (a sliding window, which is not modelled here; or pages: "
            "put paged-cache behind)"
        )
