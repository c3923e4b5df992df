"""Layer skipping: a fixed set of layers that no token runs through."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Add, Rational

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Block, Graph
from symroof.techniques.decoding.expected_distinct import each_layer, layers
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number


@dataclass(frozen=True)
class SkipLayers(Technique):
    """Remove layers together with their weights, cache and work.

    ========= ==============================================================
    layers    ``L - n_x``, or ``lambda L``; the same share of every kind
    F, B      of the layers scale with this share; embedding and LM head are unchanged
    intensity of every operator is unchanged
    ========= ==============================================================

    The step is always faster, by less than ``1 / lambda`` because embedding and LM head remain. Accuracy is not modelled.

    Parameters
    ----------
    depth : lambda, the share of the layers that is kept; a symbol if neither parameter is given.
    layers : n_x, the number of layers to skip, instead of the share.

    Raises
    ------
    InputError
        Both are given, no layer is left, or the share of this model's layers is not an integer.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(SkipLayers(layers=8)).symbolic.blocks[1].count)
    L - n_x

    Source: Fan et al. (2019), LayerDrop, arXiv:1909.11556.
    """

    name = "skip-layers"
    summary = "some layers are skipped for all tokens"
    survey = "4.1"
    source = "arXiv:1909.11556"
    requires = frozenset({Fact.WHOLE_STEP, Fact.OWN_STEP})
    example = Example(part="up_proj", over="batch", settings={"depth": Rational(3, 4)})

    depth: Number = number(symbols.lambda_l, optional=True)
    layers: Number = number(symbols.n_x, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth is not None and self.layers is not None:
            raise self.refused("give depth or layers, not both")
        if self.depth is None and self.layers is None:
            object.__setattr__(self, "depth", symbols.lambda_l)

    def check(self, step: Step) -> None:
        total = Add(*(block.resident for block in layers(step.graph)))
        if not total.is_number:
            return
        if self.layers is not None and self.layers.is_number and self.layers >= total:
            raise self.refused(f"layers {self.layers}: {step.model} has {total} layers, and at least one must remain")
        if self.depth is not None and self.depth.is_number and not (left := self.depth * total).is_integer:
            near = max(1, round(left))
            raise self.refused(f"depth {self.depth} of {total} layers is {left} layers; {near}/{total} is {near}")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        if symbols.L_x in graph.definitions:
            raise self.refused("cannot follow early-exit, which depends on the number of layers; skip layers first")
        total = Add(*(block.resident for block in layers(graph)))
        share = given["depth"] if "depth" in given else 1 - given["layers"] / total

        def fewer(block: Block) -> Block:
            copies = None if block.copies is None else (block.copies * share).expand()
            return replace(block, count=(block.count * share).expand(), copies=copies)

        return each_layer(graph, fewer)

    def statements(self, given: Given) -> tuple[str, ...]:
        kept = "a share lambda of the layers is kept" if "depth" in given else "n_x layers are skipped, the same share of every kind"
        return (f"skip-layers: {kept}, with their weights and cache; embedding and LM head are unchanged",)
