"""Prefix caching: a part of the context that all sequences share is computed and kept once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from sympy import Expr

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators.graph import Graph
from symroof.techniques.system.shared_prefix import SharedPrefix, looked_at
from symroof.techniques.system.token_axes import attends, refuse_windows, require_attention, require_phase
from symroof.techniques.technique import Example, Fact, Number, Technique, number, word


@dataclass(frozen=True)
class PrefixCache(Technique):
    """A prefix of x_p of the context in common: kept once, skipped in prefill, and read once per batch or per sequence.

    Read once, attention is an operator over the prefix, ``<operator>.prefix``, with all queries of the batch against the
    same keys, and one over what follows, ``<operator>.suffix``; both read the queries, and the first one's part of the
    output is written, and read by the second. So reading it once pays, where attention is memory-bound, beyond
    ``3 b g / (2 (b - 1))`` tokens of prefix at equal widths.

    =================== =========================================================
    prefill, tokens     ``b (1 - x_p) s`` against a context of ``s``
    cache, kept         ``(b (1 - x_p) + x_p) t`` tokens
    cache, decode       that many rows read, or ``b t`` (read per sequence)
    FLOPs, decode       as before
    =================== =========================================================

    Parameters
    ----------
    share : x_p.
    read : whether the prefix is read "once" per batch or for "each" sequence.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(PrefixCache())["qk_matmul.prefix"].traffic)
    a*b*e*h/8 + a*b*h*t*x_p/8 + c*e*k*t*x_p/8 byte

    Source: Juravsky et al. (2024), Hydragen, arXiv:2402.05099; kept once but read by each: Zheng et al. (2023),
    SGLang (RadixAttention), arXiv:2312.07104.
    """

    name = "prefix-cache"
    summary = "a prefix that sequences share is computed and kept once, and read once per batch"
    survey = "5.2"
    source = "arXiv:2402.05099"
    requires = frozenset({Fact.WHOLE_PROMPT, Fact.WHOLE_BATCH, Fact.WHOLE_STEP})
    removes = frozenset({Fact.ONE_CONTEXT})
    example = Example(part="total", over="batch", settings={"share": 0.75}, inputs={"seq_len": 4096})

    share: Number = number(symbols.x_p)
    read: str = word("once", ("once", "each"))

    def check(self, step: Step) -> None:
        require_phase(self.name, step, "prefill", "decode")
        length = step.values.get(symbols.t if step.options.decode else symbols.s)
        share = cast(Expr, self.share)
        if share == 1:
            raise InputError(f"{self.name}: a share of 1 leaves no token of a sequence's own; expected less")
        if length is not None and share.is_number and (1 - share) * length < 1:
            raise InputError(
                f"{self.name}: a share of {share} of {length} tokens leaves no token of a sequence's own; expected at most {1 - 1 / length}"
            )

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        refuse_windows(self.name, graph)
        require_attention(self.name, graph)
        own = 1 - given["share"]
        context = next(operator.space.sizes["t"] for operator, _ in graph if attends(operator))
        if symbols.s in context.free_symbols:  # prefill: its own tokens ask, all are looked at
            graph = graph.replaced({symbols.s: own * symbols.s}).map(space=lambda space: space.resized({"t": context})).each(looked_at)
        return graph.each(SharedPrefix(given["share"], self.read == "once").operator)

    def statements(self, given: Mapping[str, Expr]) -> tuple[str, ...]:
        once = "once per batch, its part of the output through memory; the rescaling of the two parts is not counted"
        how = once if self.read == "once" else "for each sequence"
        return (f"prefix-cache: x_p of the context is the same for the whole batch, is in the cache already, kept once, and read {how}",)
