"""Ragged batches: sequences of different lengths without padding to the longest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from sympy import Min, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Graph, Kind, Operator, Space
from symroof.operators.query_blocks import cache_passes
from symroof.techniques.system.token_axes import EXACT, attends, paired, refuse_windows
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number


@dataclass(frozen=True)
class RaggedBatch(Technique):
    """Padding left out: a step counted for the longest of its sequences, with the lengths they have.

    With mean length ``m = mu s`` and coefficient of variation c_v the mean of the squares is ``m^2 (1 + c_v^2)``. Attention
    in decode is linear in the context, so that its mean alone matters; in prefill the pairs are quadratic, so that
    spread costs.

    ==================== ============================ ==========================================
    per sequence         padded                       ragged
    ==================== ============================ ==========================================
    tokens, cache        ``s``                        ``m``
    pairs, decode        ``t``                        ``mu t``
    pairs, prefill       ``s (s + 1) / 2``            ``(m^2 (1 + c_v^2) + m) / 2``
    ==================== ============================ ==========================================

    Parameters
    ----------
    mean : mu, mean length over the longest.
    variation : c_v; of no effect in decode. At most ``sqrt((1 - mu) / mu)``: lengths are between 0 and the longest.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True)
    >>> print(step.apply(RaggedBatch())["qk_matmul"].flops)
    b*e*h*mu*s*(c_v**2*mu*s + mu*s + 1) flop

    Source: Yu et al. (2022), Orca, OSDI 22 (selective batching); Zhai et al. (2022), ByteTransformer, arXiv:2210.03052.
    """

    name = "ragged-batch"
    summary = "sequences of different lengths without padding to the longest"
    survey = "5.3"
    source = "arXiv:2210.03052"
    exact = EXACT
    removes = frozenset({Fact.ONE_LENGTH})
    example = Example(part="total", over="mean_share", settings={"variation": 1}, inputs={"batch": 16, "seq_len": 4096}, at=Fraction(1, 2))

    mean: Number = number(symbols.mu)
    variation: Number = number(symbols.c_v, zero=True)

    @property
    def removed(self) -> frozenset[Fact]:
        """Lengths that are all the mean's are one length."""
        return frozenset() if self.variation == 0 else self.removes

    def check(self, step: Step) -> None:
        mean, variation = self.mean, self.variation
        if mean.is_number and variation.is_number and mean * (1 + variation**2) > 1:
            raise self.refused(
                f"lengths of a mean of {mean} of the longest vary by at most sqrt((1 - mean) / mean) of their mean; "
                f"variation {variation} is above that"
            )

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        refuse_windows(self.name, graph)
        length, mean = symbols.t if graph.decode else symbols.s, given["mean"]
        if length not in graph.free_symbols and any(attends(operator) for operator, _ in graph):  # a state has no length
            raise self.refused("the context is no letter of this graph; expected t or s")
        shorter = graph.replaced({length: mean * length})
        spread = given["variation"] ** 2
        if graph.decode or spread == 0:  # a function of the length that is linear does not see how they vary
            return shorter
        self.require(graph, Fact.ONE_CONTEXT)

        def stretched(space: Space) -> Space:
            """With ``s (2 t' - s + 1) / 2``, or ``s t'``, the pairs of the mean of the squares."""
            more = space.sizes["s"] * spread
            return space.resized({"t": space.sizes["t"] + (more / 2 if space.causal else more)})

        def again(old: Access, new: Access, operator: Operator) -> Access:
            if operator.kind is not Kind.FUSED_ATTENTION or not attends(operator) or "t" not in old.touched or paired(old.touched):
                return new
            # reads of a row at the mean of the squares over those at the mean: 1/R of a row more for each, half under a mask;
            # where all queries are one pass, each row is read once whatever the lengths
            queries = operator.space.sizes["s"]
            more = queries * spread / symbols.R / (2 if operator.space.causal else 1) * Min(1, ceiling(queries / symbols.R) - 1)
            return replace(new, repeats=new.repeats * (1 + more / cache_passes(operator.space)))

        return shorter.map(
            tensor=lambda tensor: replace(tensor, space=stretched(tensor.space)) if paired(tensor.axes) else tensor,
            access=again,
            operator=lambda old, new, _: replace(new, space=stretched(new.space)) if attends(old) else new,
        )

    def statements(self, given: Given) -> tuple[str, ...]:
        return (
            "ragged-batch: s (t in decode) is the longest of the batch, of which the mean is the share mu; every sequence is computed, "
            "moved and kept at its own length",
            "ragged-batch: FlashAttention's passes are whole as far as lengths vary; one kernel takes all lengths without loss",
        )
