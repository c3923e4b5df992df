"""Structured pruning: whole MLP channels or whole heads are removed; the remaining matrices are dense."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sympy import Expr, floor

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Graph
from symroof.symbols import substitute
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word
from symroof.units import typed

AXES = {"mlp": ("f", "f_e", "f_s"), "heads": ("k", "h"), "both": ("f", "f_e", "f_s", "k", "h")}
"""The axes that shrink: intermediate sizes, and KV heads with their groups of query heads or the heads of latent attention."""

CALLED = {
    "f": "intermediate size {}",
    "f_e": "experts' intermediate size {}",
    "f_s": "shared experts' intermediate size {}",
    "k": "{} KV heads",
    "h": "{} heads",
}
"""The axes by name, for error messages."""


@dataclass(frozen=True)
class PruneChannels(Technique):
    """Keep a share chi of the channels: f becomes ``chi f``, or k and h become ``chi k`` and ``chi h``.

    A KV head is removed together with all query heads of its group, so the group size is unchanged; its cache is removed too.

    ========= ================================== ==========================================
    .         before                             after
    ========= ================================== ==========================================
    FLOPs     ``2 b s d f``                      ``2 b s d chi f``
    traffic   ``(d f w + b s (d + f) a) / 8``    ``(chi d f w + b s (d + chi f) a) / 8``
    ========= ================================== ==========================================

    FLOPs and bytes both fall for every ``chi < 1``, so the step is always faster, by at most 1 / chi. Intensity falls
    slightly, because the operator's other dimension is unchanged. Valid where ``chi f`` (or ``chi k``) is an integer.

    Parameters
    ----------
    share : chi, the share that is kept.
    of : "mlp", "heads" or "both"; for different shares, apply it twice.

    Raises
    ------
    InputError
        The share of an axis is not an integer, or the step has no such axis.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(PruneChannels())["up_proj"].flops)
    2*b*chi*d*f FLOP
    >>> symroof.load_model("llama-2-7b").decode().apply(PruneChannels(share=0.3))
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: prune-channels: a share 3/10 of the intermediate size 11008 is not a whole number: try 1651/5504

    Source: Ma et al. (2023), LLM-Pruner, arXiv:2305.11627.
    """

    name = "prune-channels"
    summary = "whole MLP channels or heads are removed"
    survey = "3.2"
    source = "arXiv:2305.11627"
    requires = frozenset({Fact.ALL_LAYERS})
    example = Example(settings={"share": Fraction(1, 2)})

    share: Number = number(symbols.chi)
    of: str = word("mlp", tuple(AXES))

    def check(self, step: Step) -> None:
        if step.options.accounting != "exact" and self.of != "mlp":
            raise self.refused(f"accounting {step.options.accounting!r} counts its own cache: prune of=mlp there, or use 'exact'")
        for axis, size in self._sizes(step.symbolic).items():
            bound = substitute(substitute(size, step.symbolic.definitions), step.values)
            kept = self.share * bound
            if kept.is_number and not kept.is_integer:
                fits = floor(kept) / bound
                hint = f"try {fits}" if fits > 0 else "nothing would be left"
                raise self.refused(f"a share {self.share} of the {CALLED[axis].format(bound)} is not a whole number: {hint}")

    def _sizes(self, graph: Graph) -> dict[str, Expr]:
        """The axes of this step that shrink, with their sizes."""
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
        what = {"mlp": "the MLP channels", "heads": "the heads", "both": "the MLP channels and the heads"}[self.of]
        also = "; a KV head is removed with its query heads and its cache" if self.of != "mlp" else ""
        return (f"prune-channels: a share {typed(self.share)} of {what} is kept{also}; accuracy is not modelled",)
