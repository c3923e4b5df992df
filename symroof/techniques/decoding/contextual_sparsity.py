"""Contextual sparsity: every token uses a few MLP neurons and a few heads, which differ from token to token."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Rational

from symroof import symbols
from symroof.algebra.unions import union
from symroof.architectures.step import Step
from symroof.operators import Access, Block, BlockRole, Graph, Operator, Space, Storage, Tensor
from symroof.operators.linear import linear
from symroof.techniques.decoding.expected_distinct import layers
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word

NEURONS, HEADS = frozenset("f"), frozenset("kg")
"""The axes that shrink: neurons of a dense MLP; KV heads with their query heads."""


@dataclass(frozen=True)
class ContextualSparsity(Technique):
    """A token uses a share delta of the neurons or heads; a step reads the weights that at least one token uses.

    ==================== =====================================================
    FLOPs of the MLP     ``delta F``
    weights read         a share ``1 - (1 - delta)^(b s)``
    activations between  a share ``delta``
    cache read           ``delta`` of the KV heads, as sequences do not share a cache
    ==================== =====================================================

    In the MLP the saving in bytes vanishes when the batch touches every neuron; in attention it does not. With a predictor
    of rank rho (``d x rho`` and ``rho x f``) a memory-bound MLP of n matrices is faster if ``n d f (1 - delta)^(b s)``
    exceeds ``rho (d + f)``, activations neglected. Valid for tokens that choose independently.

    Parameters
    ----------
    share : delta, above 0 and at most 1.
    where : "mlp", "heads", or "both". Heads are KV heads with their groups of query heads; keys and values of new tokens
        are computed for all heads, so the cache is complete.
    predictor : rho, the rank of each layer's predictors; without it prediction is free.

    Raises
    ------
    InputError
        There is no dense MLP, or only one KV head.

    >>> import symroof
    >>> step = symroof.load_model("opt-125m").decode(symbolic=True)
    >>> print(step.apply(ContextualSparsity())["up_proj"].flops)
    2*b*d*delta*f FLOP

    Source: Liu et al. (2023), Deja Vu, arXiv:2310.17157.
    """

    name = "contextual-sparsity"
    summary = "each token uses a share of the neurons or heads"
    survey = "4.1"
    source = "arXiv:2310.17157"
    requires = frozenset({Fact.WHOLE_STEP, Fact.WHOLE_BATCH, Fact.OWN_STEP})
    removes = frozenset({Fact.ALL_LAYERS, Fact.WHOLE_CACHE})
    example = Example(model="opt-6.7b", part="up_proj", over="batch", settings={"share": Rational(1, 10)})

    share: Number = number(symbols.delta)
    where: str = word("mlp", ("mlp", "heads", "both"))
    predictor: Number = number(symbols.rho, optional=True)

    @property
    def axes(self) -> tuple[frozenset[str], ...]:
        """The sets of axes that shrink."""
        return {"mlp": (NEURONS,), "heads": (HEADS,), "both": (NEURONS, HEADS)}[self.where]

    @property
    def removed(self) -> frozenset[Fact]:
        return self.removes - (frozenset() if HEADS in self.axes else {Fact.WHOLE_CACHE})

    def check(self, step: Step) -> None:
        heads = step.values.get(symbols.k)
        if HEADS in self.axes and heads == 1:
            raise self.refused(f"where={self.where}: {step.model} has one KV head, which every token needs; use where=mlp")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        changed = graph
        if HEADS in self.axes:
            self.require(graph, Fact.ONE_CONTEXT)
        for axes in self.axes:
            if not any(_chooses(operator, axes) for block in layers(graph) for operator in block.operators):
                what = "no dense MLP" if axes == NEURONS else "no attention over KV heads"
                raise self.refused(f"where={self.where}: this model has {what}")
            changed = self._without(changed, axes, given)
        return changed

    def _without(self, graph: Graph, axes: frozenset[str], given: Given) -> Graph:
        share = given["share"]
        shrinking = min(axes, key="fkg".index)

        def fewer(space: Space) -> Space:
            return space.resized({shrinking: share * space.sizes[shrinking]})

        def tensor_of(tensor: Tensor) -> Tensor:
            chosen = tensor.storage is Storage.ACTIVATION and axes <= set(tensor.axes)
            return replace(tensor, space=fewer(tensor.space)) if chosen else tensor

        def access_of(old: Access, new: Access, operator: Operator) -> Access:
            inside = any(axes <= set(work.axes) for work in operator.work)
            if old.tensor.storage is Storage.WEIGHT and inside and axes <= set(old.tensor.axes):
                return replace(new, repeats=new.repeats * union(share, graph.pass_tokens))
            if old.tensor.storage is Storage.KV_CACHE and inside and axes == HEADS:
                return replace(new, repeats=new.repeats * union(share, operator.space.sizes["s"]))
            return new

        predicted: set[Block] = set()

        def operator_of(old: Operator, new: Operator, block: Block) -> tuple[Operator, ...]:
            inside = any(axes <= set(work.axes) for work in old.work)
            thinned = replace(new, space=fewer(new.space)) if inside else new
            if "predictor" not in given or block in predicted or not _chooses(old, axes):
                return (thinned,)
            predicted.add(block)
            return (*_predictor(new, axes, given["predictor"]), thinned)

        return graph.map(tensor=tensor_of, access=access_of, operator=operator_of, blocks=lambda block: block.role is BlockRole.LAYER)

    def statements(self, given: Given) -> tuple[str, ...]:
        what = {"mlp": "neurons of the MLP", "heads": "KV heads with their query heads", "both": "neurons and KV heads"}[self.where]
        cost = "predictors of rank rho are counted" if "predictor" in given else "the predictor is not counted"
        whole = "" if self.where == "mlp" else "; keys and values of new tokens are computed for all heads"
        return (f"contextual-sparsity: each token uses a share delta of the {what}, independently of the others; {cost}{whole}",)


def _chooses(operator: Operator, axes: frozenset[str]) -> bool:
    """Whether the operator reads a weight with one of these axes."""
    return any(access.tensor.storage is Storage.WEIGHT and axes <= set(access.tensor.axes) for access in operator.reads)


def _predictor(operator: Operator, axes: frozenset[str], rank: Expr) -> tuple[Operator, Operator]:
    """The two low-rank factors that predict, from an operator's input, the neurons or heads it needs."""
    x = operator.reads[0].tensor
    name, out = ("mlp_predictor", "f") if axes == NEURONS else ("head_predictor", "k")
    sizes: dict[str, Expr] = {**operator.space.sizes, "rho": rank}
    space = replace(operator.space, sizes=sizes)
    given = Tensor(x.name, x.axes, x.storage, space, x.bits)
    first = linear(f"{name}.first", "b s d, d rho -> b s rho", given)
    second = linear(f"{name}.second", f"b s rho, rho {out} -> b s {out}", first.result)
    return replace(first, reads=(replace(first.reads[0], tensor=x), *first.reads[1:])), second
