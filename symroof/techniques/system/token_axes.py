"""Shared helpers of techniques on batches, prompts and contexts: which parts of a graph depend on the tokens."""

from __future__ import annotations

from symroof import symbols
from symroof.errors import InputError
from symroof.operators import Axes, Graph, Operator, Space

EXACT = ": accounting {!r} has no queries and contexts of their own; expected 'exact'"
"""Why techniques on tokens support only one accounting."""


PAIR = ("s", "t")
"""The axes of a query and a context position."""


def paired(axes: Axes) -> bool:
    """Whether these axes span pairs of a query and a context position."""
    return {*PAIR} <= {*axes}


def attends(operator: Operator) -> bool:
    """Whether the operator works on pairs of a query and a context position."""
    return any(paired(piece.axes) for piece in operator.work)


def refuse_selection(name: str, graph: Graph) -> None:
    """Raise an InputError where queries attend to other positions than those up to their own: selected ones, or an encoder's output."""
    if any(operator.space.chosen for operator, _ in graph):
        raise InputError(f"{name}: queries attend to keys that they select, or as an encoder does to all tokens, which is not supported")


def windowed(space: Space) -> bool:
    """Whether a sliding window limits what this space's queries attend to, or what its cache holds."""
    return "z" in space.sizes or space.band is not None


def refuse_other_windows(name: str, graph: Graph) -> None:
    """Raise an InputError where queries select keys, or layers store another number of tokens than the target's window."""
    refuse_selection(name, graph)
    stored = (tensor.space.sizes.get("z") for block in graph.blocks for tensor in block.tensors())
    if any(size is not None and symbols.t_w not in size.free_symbols for size in stored):
        raise InputError(f"{name}: layers store another number of tokens than the target's window: not supported")
