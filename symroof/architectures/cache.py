"""What a model keeps for each sequence between steps: how it grows with the context, and what does not grow."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Integer

from symroof import symbols
from symroof.operators.graph import Graph
from symroof.symbols import substitute


@dataclass(frozen=True)
class Cache:
    """The KV cache and the recurrent states of one sequence, in bytes, from the graph of a decode step.

    >>> import symroof
    >>> mistral = symroof.load_model("mistral-7b-v0.1").cache
    >>> mistral.growth, mistral.beyond, mistral.state
    (8192*c, 0, 0)
    >>> symroof.load_model("mamba-130m").cache.state
    92160*c
    """

    graph: Graph
    generative: bool = True

    @property
    def bytes(self) -> Expr:
        """All of it, in c, t and t_w."""
        return substitute(self.graph.kv_memory(), {symbols.b: Integer(1)}) if self.generative else Integer(0)

    @property
    def growth(self) -> Expr:
        """Per token of context, while the context is within every window."""
        return substitute(self.bytes, {symbols.t_w: symbols.t}).diff(symbols.t)

    @property
    def beyond(self) -> Expr:
        """Per token of context, once it is longer than the window."""
        return self.bytes.diff(symbols.t)

    @property
    def state(self) -> Expr:
        """What does not grow: states of recurrent layers."""
        return substitute(self.bytes, {symbols.t_w: Integer(0), symbols.t: Integer(0)})

    @property
    def window(self) -> Expr:
        """The most the windowed layers keep."""
        return self.bytes.diff(symbols.t_w) * symbols.W
