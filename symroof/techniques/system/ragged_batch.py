"""Ragged batches: sequences of different lengths without padding."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from sympy import Add, Expr, Min, Rational, S, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import quote
from symroof.operators import Access, Graph, Kind, Operator, Space, Structure
from symroof.operators.query_blocks import cache_passes
from symroof.symbols import substitute
from symroof.techniques.system.token_axes import EXACT, PAIR, attends, paired, refuse_selection
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word
from symroof.units import parsed

WINDOWS = (symbols.t_w, symbols.t_d)
"""Contexts of layers with a sliding window, of the model and of a draft."""

MOST_LENGTHS = 100


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

    A sliding window of W tokens holds ``min(l, W)`` of a sequence of l tokens, and a prompt of l has ``W l - W (W - 1) / 2`` pairs beyond
    it: mean and variation do not determine their means, lengths do.

    Parameters
    ----------
    mean : mu, mean length over the longest.
    variation : c_v, without effect in decode; at most ``sqrt((1 - mu) / mu)``, because lengths are between 0 and the longest.
    lengths : the lengths instead of mean and variation, in tokens or as shares of the longest: ``4096+1024+2x512``; every figure is then
        the mean over them, a sequence's own passes of FlashAttention included.

    Raises
    ------
    InputError
        The variation exceeds its bound, layers have a sliding window and lengths are not given, the longest of the lengths is not that of
        the step, or attention is sparse.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True)
    >>> print(step.apply(RaggedBatch())["qk_matmul"].flops)
    b*e*h*mu*s*(c_v**2*mu*s + mu*s + 1) FLOP
    >>> print(symroof.load_model("mistral-7b-v0.1").decode(seq_len=8192).apply("ragged-batch:lengths=8192+2048").symbolic.definitions)
    {t_w: Min(W, t/4)/2 + Min(W, t)/2}

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

    mean: Number = number(symbols.mu, optional=True)
    variation: Number = number(symbols.c_v, zero=True, optional=True)
    lengths: str = word("", meaning="tokens of the sequences, or shares of the longest: 4096+1024+2x512")

    def __post_init__(self) -> None:
        if self.lengths and (self.mean is not None or self.variation is not None):
            raise self.refused("lengths have a mean and a variation of their own: give either")
        if not self.lengths:
            for name, symbol in (("mean", symbols.mu), ("variation", symbols.c_v)):
                object.__setattr__(self, name, symbol if getattr(self, name) is None else getattr(self, name))
        super().__post_init__()
        _ = self.shares

    @property
    def removed(self) -> frozenset[Fact]:
        """Lengths without variation all equal the mean."""
        return frozenset() if self.variation == 0 or len(self.shares) == 1 else self.removes

    @functools.cached_property
    def counted(self) -> Mapping[Fraction, Fraction]:
        """The lengths as they were given, and how many sequences have each."""
        counts: dict[Fraction, Fraction] = {}
        for text in self.lengths.split("+") if self.lengths else ():
            count, _, size = text.rpartition("x")
            times, length = parsed(count or "1"), parsed(size)
            if not times or not length or times[1] or length[1] or times[0] <= 0 or length[0] <= 0 or times[0].denominator != 1:
                raise self.refused(f"lengths {quote(self.lengths)}: {quote(text)} is no length; expected such as 4096+1024+2x512")
            counts[length[0]] = counts.get(length[0], Fraction(0)) + times[0]
        if len(counts) > MOST_LENGTHS:
            raise self.refused(f"{len(counts)} different lengths; expected at most {MOST_LENGTHS}")
        return counts

    @functools.cached_property
    def shares(self) -> Mapping[Expr, Expr]:
        """The lengths over the longest, with the share of the sequences that have each; empty without lengths."""
        every, longest = sum(self.counted.values()), max(self.counted, default=Fraction(1))
        return {Rational(length / longest): Rational(count / every) for length, count in self.counted.items()}

    def check(self, step: Step) -> None:
        mean, variation = self.mean, self.variation
        if self.lengths:
            length, longest = step.values.get(symbols.t if step.options.decode else symbols.s), max(self.counted)
            if length is not None and longest not in (1, length):
                raise self.refused(
                    f"the longest of the lengths is {longest}, and the step has {length} tokens: give it that many, or shares"
                )
        elif mean.is_number and variation.is_number and mean * (1 + variation**2) > 1:
            raise self.refused(f"variation {variation}: with mean {mean} of the longest, expected at most sqrt((1 - mean) / mean)")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        refuse_selection(self.name, graph)
        length = symbols.t if graph.decode else symbols.s
        if length not in graph.free_symbols and any(attends(operator) for operator, _ in graph):  # a state has no length
            raise self.refused("the graph's context is not a symbol; expected t or s")
        within = {symbol: meaning for symbol, meaning in graph.definitions.items() if symbol in WINDOWS}
        if within and not self.lengths and self.variation != 0:
            raise self.refused("a sliding window holds what each sequence fills of it: give lengths=4096+1024+2x512, or variation=0")
        if within and self.removed:
            self.require(graph, Fact.OWN_CONTEXT)
        mean = Add(*(share * part for share, part in self.shares.items())) if self.lengths else given["mean"]
        shorter = graph.replaced({length: mean * length})
        if self.variation == 0 or len(self.shares) == 1 or (graph.decode and not within):
            return shorter  # the mean of a linear function of the length does not depend on the variation

        def over_lengths(expression: Expr) -> Expr:
            """The mean over the given lengths of an expression of the shorter graph."""
            total = S.Zero
            for share, part in self.shares.items():
                windows = {symbol: substitute(meaning, {length: share * length}) for symbol, meaning in within.items()}
                total += part * substitute(expression, {length: share / mean * length, **windows})
            return total

        if self.lengths:
            shorter = replace(shorter, definitions={**shorter.definitions, **{symbol: over_lengths(symbol) for symbol in within}})
        if graph.decode:
            return shorter
        self.require(graph, Fact.ONE_CONTEXT)
        spread = S.Zero if self.lengths else given["variation"] ** 2

        def stretched(space: Space) -> Space:
            """The space with as many pairs as on average: ``s (2 t' - s + 1) / 2``, or ``s t'``, are those of the mean square."""
            if self.lengths:
                keys = over_lengths(space.points(PAIR)) / space.sizes["s"]
                return replace(space, sizes={**space.sizes, "t": keys}, causal=False, band=None, chunked=False)
            more = space.sizes["s"] * spread
            return space.resized({"t": space.sizes["t"] + (more / 2 if space.causal else more)})

        def again(old: Access, new: Access, operator: Operator) -> Access:
            if operator.kind is not Kind.FUSED_ATTENTION or not attends(operator) or "t" not in old.touched or paired(old.touched):
                return new
            passes = cache_passes(operator.space)
            if self.lengths:
                rows = passes * operator.space.sizes["t"]
                return replace(new, repeats=new.repeats * over_lengths(rows) / rows)
            # reads of a row at the mean square over those at the mean: 1/R more per row, half of it under a mask;
            # if one pass serves all queries, each row is read once at any length
            queries = operator.space.sizes["s"]
            more = queries * spread / symbols.R / (2 if operator.space.causal else 1) * Min(1, ceiling(queries / symbols.R) - 1)
            return replace(new, repeats=new.repeats * (1 + more / passes))

        return shorter.map(
            tensor=lambda tensor: replace(tensor, space=stretched(tensor.space)) if paired(tensor.axes) else tensor,
            access=again,
            operator=lambda old, new, _: replace(new, space=stretched(new.space)) if attends(old) else new,
        )

    def statements(self, given: Given) -> tuple[str, ...]:
        if self.lengths:
            lengths = "lengths are as given, relative to the longest, s (t in decode)"
            return (f"ragged-batch: {lengths}; every sequence is computed, moved and stored at its own length, without loss in one kernel",)
        return (
            "ragged-batch: s (t in decode) is the longest sequence of the batch, and the mean is mu times that; every sequence is "
            "computed, moved and stored at its own length",
            "ragged-batch: FlashAttention's number of passes is not rounded up per length; one kernel processes all lengths without loss",
        )
