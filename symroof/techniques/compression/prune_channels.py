"""Structured pruning: whole channels of the MLPs, or whole heads, are left out; what remains is dense."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sympy import Expr, floor

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Graph
from symroof.symbols import substitute
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word

AXES = {"mlp": ("f", "f_e", "f_s"), "heads": ("k", "h"), "both": ("f", "f_e", "f_s", "k", "h")}
"""The axes that shrink: intermediate sizes; KV heads with their group of query heads, or the heads of latent attention."""

CALLED = {
    "f": "intermediate size {}",
    "f_e": "experts' intermediate size {}",
    "f_s": "shared experts' intermediate size {}",
    "k": "{} KV heads",
    "h": "{} heads",
}
"""What the axes of some size are called."""


@dataclass(frozen=True)
class PruneChannels(Technique):
    """A share chi of the channels is kept: f becomes ``chi f``, or k and h become ``chi k`` and ``chi h``.

    A KV head goes with all query heads of its group, so that the group size stays; its part of the cache goes too.

    ========= ================================== ==========================================
    .         before                             after
    ========= ================================== ==========================================
    FLOPs     ``2 b s d f``                      ``2 b s d chi f``
    traffic   ``(d f w + b s (d + f) a) / 8``    ``(chi d f w + b s (d + chi f) a) / 8``
    ========= ================================== ==========================================

    FLOPs and bytes both fall for every ``chi < 1``: it always pays, by at most 1 / chi, and intensity falls a little,
    as the operator's other side keeps its width.

    Parameters
    ----------
    share : chi, the share that is kept.
    of : "mlp", "heads" or "both"; for shares of their own, apply it twice.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(PruneChannels())["up_proj"].flops)
    2*b*chi*d*f flop
    >>> symroof.load_model("llama-2-7b").decode().apply(PruneChannels(share=0.3))
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: prune-channels: a share 3/10 of the intermediate size 11008 is no whole number: expected such as 1651/5504

    Source: Ma et al. (2023), LLM-Pruner, arXiv:2305.11627.
    """

    name = "prune-channels"
    summary = "whole MLP channels or heads are left out"
    survey = "3.2"
    source = "arXiv:2305.11627"
    requires = frozenset({Fact.ALL_LAYERS})
    example = Example(settings={"share": Fraction(1, 2)})

    share: Number = number(symbols.chi)
    of: str = word("mlp", tuple(AXES))

    def check(self, step: Step) -> None:
        if step.options.accounting != "exact" and self.of != "mlp":
            raise self.refused(f"accounting {step.options.accounting!r} has its own cache: prune of=mlp there, or use 'exact'")
        for axis, size in self._sizes(step.symbolic).items():
            bound = substitute(substitute(size, step.symbolic.definitions), step.values)
            kept = self.share * bound
            if kept.is_number and not kept.is_integer:
                fits = floor(kept) / bound
                hint = f"expected such as {fits}" if fits > 0 else "nothing would be left"
                raise self.refused(f"a share {self.share} of the {CALLED[axis].format(bound)} is no whole number: {hint}")

    def _sizes(self, graph: Graph) -> dict[str, Expr]:
        """The axes that shrink and that some tensor has, with their sizes."""
        tensors = [tensor for block in graph.blocks for tensor in block.tensors()]
        sizes = {axis: tensor.space.sizes[axis] for axis in AXES[self.of] for tensor in tensors if axis in tensor.axes}
        for part in AXES if self.of == "both" else (self.of,):
            if part != "both" and not sizes.keys() & set(AXES[part]):
                has = "no MLP" if part == "mlp" else "no attention heads"
                raise self.refused(f"of={self.of}: this step has {has}")
        return sizes

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        sizes = {axis: given["share"] * size for axis, size in self._sizes(graph).items()}
        return graph.map(space=lambda space: space.resized(sizes))

    def statements(self, given: Given) -> tuple[str, ...]:
        what = {"mlp": "the MLPs' channels", "heads": "the heads", "both": "the MLPs' channels and of the heads"}[self.of]
        also = "; a KV head goes with its query heads and its cache" if self.of != "mlp" else ""
        return (f"prune-channels: a share {self.share} of {what} is kept{also}; accuracy is not modelled",)
