"""Layers left out: a fixed set of layers that no token runs through."""

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
    """Fewer layers of the same kind: their weights, cache and work go.

    ========= ==============================================================
    layers    ``L - n_x``, or ``lambda L``; of several kinds, the same share of each
    F, B      those of the layers by that share; embedding and LM head stay
    intensity of every operator as it was
    ========= ==============================================================

    It always pays; by less than ``1 / lambda``, as the ends of the model stay. What the model's answers lose is not counted.

    Parameters
    ----------
    depth : lambda, the share of the layers that is kept; a symbol where neither is given.
    layers : n_x, the number left out, in the place of the share.

    Errors: both are given; no layer is left; the share of this model's layers is no whole number.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(SkipLayers(layers=8)).symbolic.blocks[1].count)
    L - n_x

    Source: Fan et al. (2019), LayerDrop, arXiv:1909.11556.
    """

    name = "skip-layers"
    summary = "some layers are left out, for all tokens"
    survey = "4.1"
    source = "arXiv:1909.11556"
    requires = frozenset({Fact.WHOLE_STEP, Fact.OWN_STEP})
    example = Example(part="up_proj", over="batch", settings={"depth": Rational(3, 4)})

    depth: Number = number(symbols.lambda_x, optional=True)
    layers: Number = number(symbols.n_x, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth is not None and self.layers is not None:
            raise self.refused("give depth or layers, not both")
        if self.depth is None and self.layers is None:
            object.__setattr__(self, "depth", symbols.lambda_x)

    def check(self, step: Step) -> None:
        total = Add(*(block.resident for block in layers(step.graph)))
        if not total.is_number:
            return
        if self.layers is not None and self.layers.is_number and self.layers >= total:
            raise self.refused(f"layers {self.layers}: {step.model} has {total}, and one has to stay")
        if self.depth is not None and self.depth.is_number and not (left := self.depth * total).is_integer:
            near = max(1, round(left))
            raise self.refused(f"depth {self.depth} of {total} layers is {left} layers; {near}/{total} is {near}")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        if symbols.L_x in graph.definitions:
            raise self.refused("tokens leave these layers early already, by how many there are; leave layers out first")
        total = Add(*(block.resident for block in layers(graph)))
        share = given["depth"] if "depth" in given else 1 - given["layers"] / total

        def fewer(block: Block) -> Block:
            copies = None if block.copies is None else (block.copies * share).expand()
            return replace(block, count=(block.count * share).expand(), copies=copies)

        return each_layer(graph, fewer)

    def statements(self, given: Given) -> tuple[str, ...]:
        told = "lambda of the layers are kept" if "depth" in given else "n_x layers are left out, of every kind the same share"
        return (f"skip-layers: {told}, with their weights and cache; embedding and LM head stay",)
