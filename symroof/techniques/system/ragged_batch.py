"""Ragged batches: sequences of different lengths without padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from sympy import Min, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Graph, Kind, Operator, Space, Structure
from symroof.operators.query_blocks import cache_passes
from symroof.techniques.system.token_axes import EXACT, attends, paired, refuse_windows
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number


@dataclass(frozen=True)
class RaggedBatch(Technique):
    """A batch without padding: a step given for its longest sequence, computed with actual lengths.

    With mean length ``m = mu s`` and coefficient of variation c_v, the mean square is ``m^2 (1 + c_v^2)``. Attention in
    decode is linear in the context, so only the mean matters; in prefill the query-key pairs are quadratic in the length,
    so variation costs.

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
    variation : c_v, without effect in decode; at most ``sqrt((1 - mu) / mu)``, because lengths are between 0 and the longest.

    Raises
    ------
    InputError
        The variation exceeds its bound, or layers have a sliding window.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True)
    >>> print(step.apply(RaggedBatch())["qk_matmul"].flops)
    b*e*h*mu*s*(c_v**2*mu*s + mu*s + 1) FLOP

    Source: Yu et al. (2022), Orca, OSDI 22 (selective batching); Zhai et al. (2022), ByteTransformer, arXiv:2210.03052.
    """

    name = "ragged-batch"
    summary = "sequences of different lengths without padding to the longest"
    survey = "5.3"
    source = "arXiv:2210.03052"
    structure = frozenset({Structure.TOKENS})
    exact = EXACT
    removes = frozenset({Fact.ONE_LENGTH})
    example = Example(part="total", over="mean_share", settings={"variation": 1}, inputs={"batch": 16, "seq_len": 4096}, at=Fraction(1, 2))

    mean: Number = number(symbols.mu)
    variation: Number = number(symbols.c_v, zero=True)

    @property
    def removed(self) -> frozenset[Fact]:
        """Lengths without variation all equal the mean."""
        return frozenset() if self.variation == 0 else self.removes

    def check(self, step: Step) -> None:
        mean, variation = self.mean, self.variation
        if mean.is_number and variation.is_number and mean * (1 + variation**2) > 1:
            raise self.refused(f"variation {variation}: with mean {mean} of the longest, expected at most sqrt((1 - mean) / mean)")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        refuse_windows(self.name, graph)
        length, mean = symbols.t if graph.decode else symbols.s, given["mean"]
        if length not in graph.free_symbols and any(attends(operator) for operator, _ in graph):  # a state has no length
            raise self.refused("the graph's context is not a symbol; expected t or s")
        shorter = graph.replaced({length: mean * length})
        spread = given["variation"] ** 2
        if graph.decode or spread == 0:  # the mean of a linear function of the length does not depend on the variation
            return shorter
        self.require(graph, Fact.ONE_CONTEXT)

        def stretched(space: Space) -> Space:
            """The space with t' such that ``s (2 t' - s + 1) / 2``, or ``s t'``, are the pairs of the mean square."""
            more = space.sizes["s"] * spread
            return space.resized({"t": space.sizes["t"] + (more / 2 if space.causal else more)})

        def again(old: Access, new: Access, operator: Operator) -> Access:
            if operator.kind is not Kind.FUSED_ATTENTION or not attends(operator) or "t" not in old.touched or paired(old.touched):
                return new
            # reads of a row at the mean square over those at the mean: 1/R more per row, half of it under a mask;
            # if one pass serves all queries, each row is read once at any length
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
            "ragged-batch: s (t in decode) is the longest sequence of the batch, and the mean is mu times that; every sequence is "
            "computed, moved and stored at its own length",
            "ragged-batch: FlashAttention's number of passes is not rounded up per length; one kernel processes all lengths without loss",
        )
