"""What a technique makes of a graph, made once: questions about one step apply the same chains again and again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

from symroof.operators import Graph

KEPT = 16
"""Rewritten graphs that are kept for a graph."""

_MADE: WeakKeyDictionary[Graph, dict[Hashable, Graph]] = WeakKeyDictionary()


def once(graph: Graph, key: Hashable, make: Callable[[], Graph]) -> Graph:
    """The graph that follows from a graph and a key; the latest few are kept as long as the graph is in use."""
    made = _MADE.setdefault(graph, {})
    if key not in made:
        if len(made) >= KEPT:
            del made[next(iter(made))]
        made[key] = make()
    return made[key]
