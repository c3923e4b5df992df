"""Attention of DeepSeek V4: a sliding window, and beside it entries that each compress several tokens; streams that layers mix."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.indexer import INDEXER
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Access, Kind, Operator, Parameter, Role, Space, Storage, Tensor, Work, axes_of
from symroof.operators.attention import as_one, positions, rotary, select_keys, softmax
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, add, elementwise, norm
from symroof.operators.linear import linear
from symroof.operators.query_blocks import cache_passes

POOLED_FLOPS = 8
"""Of a component of a token in a compressed entry: the bias of its place, a softmax (5), a product and a sum."""


@dataclass(frozen=True)
class CompressedAttention:
    """Keys that are also the values, one head of them for all queries: of the latest tokens, and of compressed ones further back.

    An entry compresses ``m_c`` tokens, with those of the entry before (two series of components), or ``m_h`` tokens on their own.
    Of the former an indexer selects ``k_i`` for each query, so that a query attends to the entries of ``t_j = min(t, k_i m_c)``
    tokens. A context of t tokens has ``t / m`` entries, on average over the contexts; tokens that wait to be compressed are not counted.

    Attributes
    ----------
    rate : the axis of entries per token, "per_c" or "per_h"; "" for a sliding window alone.
    selection : whether an indexer selects entries; None if queries attend to all.

    Source: DeepSeek-AI (2026), DeepSeek-V4-Flash on the hub; Transformers' DeepseekV4Attention.
    """

    rate: str = ""
    selection: bool | None = None

    def axes(self) -> dict[str, Expr]:
        named = {"k": symbols.g_o, "g": symbols.h / symbols.g_o}
        named |= {axis: getattr(symbols, axis) for axis in ("e", "r", "r_q", "r_o")}
        named |= {"per_c": 1 / symbols.m_c, "m_c": symbols.m_c, "both": 2 * symbols.e} if self.rate == "per_c" else {}
        named |= {"per_h": 1 / symbols.m_h, "m_h": symbols.m_h} if self.rate == "per_h" else {}
        return named | ({"h_i": symbols.h_i, "e_i": symbols.e_i, "both_i": 2 * symbols.e_i} if self.selection else {})

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
        source = record(linear("q_down_proj", "b s d, d r_q -> b s r_q", x))
        source = record(norm("q_down_norm", source, Norm.RMS, over=("r_q",)))
        q = record(linear("q_proj", "b s r_q, r_q k g e -> b s k g e", source))
        q = record(rotary("q_rotary", record(norm("q_norm", q, Norm.RMS, weight=False)), table))
        window = space.windowed(symbols.t_w)
        latest = Tensor("kv_cache", axes_of("b z e"), Storage.KV_CACHE, window)
        new = record(norm("kv_norm", record(linear("kv_proj", "b s d, d e -> b s e", x)), Norm.RMS, over=("e",)))
        record(rotary("kv_rotary", new, table, into=latest))
        context = self._attend(record, "window.", q, latest, "b t e", window, options, sinks=True)
        if self.rate:
            context = record(add("context_add", context, self._compressed(record, x, source, q, table, space, options)))
        context = record(rotary("context_rotary", context, table))
        low = record(linear("out_down_proj", "b s k g e, k g e r_o -> b s k r_o", context))
        return record(linear("out_proj", "b s k r_o, k r_o d -> b s d", low))

    def _compressed(
        self, record: BlockBuilder, x: Tensor, source: Tensor, q: Tensor, table: Tensor, space: Space, options: Options
    ) -> Tensor:
        """Attention to compressed entries, all of them or the selected ones."""
        rate, selected = self.rate, None
        attended = space.selected(symbols.t_j) if self.selection else space
        kept = f"b {'z' if self.selection else 't'} {rate} e"
        cache = Tensor("compressed_cache", axes_of(kept), Storage.KV_CACHE, attended)
        self._compress(record, "", x, "both" if rate == "per_c" else "e", "e", cache, table)
        if self.selection:
            selected = self._select(_Named(record), x, source, table, space, attended)
        rows = f"b s t {rate} e" if self.selection else f"b t {rate} e"
        return self._attend(record, "", q, cache, rows, attended, options, selected=selected)

    def _compress(self, record: BlockBuilder, name: str, x: Tensor, width: str, one: str, into: Tensor, table: Tensor) -> None:
        """Project, weigh the tokens of an entry against each other, norm, rotate."""
        tokens = "m" + self.rate[3:]
        kv = record(linear(f"{name}compress_kv_proj", f"b s d, d {width} -> b s {width}", x))
        gate = record(linear(f"{name}compress_gate_proj", f"b s d, d {width} -> b s {width}", x))
        places = Tensor(f"{name}compress_places", (tokens, width), Storage.WEIGHT, x.space, parameter=Parameter.TABLE)
        pooled = Tensor(f"{name}compress_pool", ("b", "s", self.rate, one), Storage.ACTIVATION, x.space)
        work = (Work(axes_of(f"b s {width}"), POOLED_FLOPS, exponentials=1),)
        reads = (Access(kv), Access(gate), Access(places))
        entry = record(Operator(pooled.name, Kind.ELEMENTWISE, x.space, work, reads, (Access(pooled),), role=Role.COMBINE))
        entry = record(norm(f"{name}compress_norm", entry, Norm.RMS, over=(one,)))
        record(rotary(f"{name}compress_rotary", entry, table, into=into))

    def _select(self, record: BlockBuilder, x: Tensor, source: Tensor, table: Tensor, space: Space, attended: Space) -> Tensor:
        """The indexer: light keys, one per entry, and the best entries of each query."""
        rate = self.rate
        keys = Tensor("index_cache", axes_of(f"b t {rate} e_i"), Storage.KV_CACHE, space)
        self._compress(record, "index_", x, "both_i", "e_i", keys, table)
        q = record(linear("index_q_proj", "b s r_q, r_q h_i e_i -> b s h_i e_i", source))
        q = record(rotary("index_q_rotary", q, table))
        weights = record(linear("index_weights_proj", "b s d, d h_i -> b s h_i", x))
        pairs = axes_of(f"b h_i s t {rate}")
        work = (Work((*pairs, "e_i"), 2, contraction=True), Work(pairs, 3))
        out = Tensor("index_scores", axes_of(f"b s t {rate}"), Storage.ACTIVATION, space)
        reads = (Access(q), Access(keys, axes_of(f"b t {rate} e_i")), Access(weights))
        scores = record(Operator(out.name, Kind.MATMUL, space, work, reads, (Access(out),), role=Role.INDEX))
        return record(select_keys(scores, attended))

    @staticmethod
    def _attend(
        record: BlockBuilder,
        name: str,
        q: Tensor,
        cache: Tensor,
        rows: str,
        space: Space,
        options: Options,
        *,
        sinks: bool = False,
        selected: Tensor | None = None,
    ) -> Tensor:
        """Scores, softmax and weighted sum over one kind of entries, which are keys and values at once."""
        read = Access(cache, axes_of(rows))
        pairs = axes_of("b k g s t") + tuple(axis for axis in read.touched if axis.startswith("per"))
        where = () if selected is None else (positions(selected),)
        scores = Access(Tensor("scores", pairs, Storage.ACTIVATION, space))
        work = (Work((*pairs, "e"), 2, contraction=True),)
        qk = Operator("qk_matmul", Kind.MATMUL, space, work, (Access(q), read, *where), (scores,), role=Role.SCORES)
        probabilities = softmax("softmax", qk.result, sinks=sinks)
        context = Access(Tensor("context", q.axes, Storage.ACTIVATION, space))
        both = (Access(probabilities.result), read, *where)
        steps = (qk, probabilities, Operator("sv_matmul", Kind.MATMUL, space, work, both, (context,), role=Role.WEIGHTED_SUM))
        if options.flash_attention:
            again = read if "s" in read.touched else replace(read, repeats=cache_passes(space))
            steps = (as_one(steps, (Access(q), again, *where)),)
        for operator in steps:
            q = record(operator.prefixed(name) if name else operator)
        return q


class _Named(BlockBuilder):
    """Records operators that the name of the indexer refers to."""

    def __init__(self, record: BlockBuilder) -> None:
        super().__init__()
        self._record = record

    def __call__(self, operator: Operator, *, own: bool = False) -> Tensor:
        return self._record(replace(operator, answers_to=operator.answers_to | {INDEXER}), own=own)


@dataclass(frozen=True)
class HyperConnection:
    """``n_h`` streams instead of one: each half of a layer reads a weighted sum of them, and adds its result to a mixture of them.

    The weights follow from the streams by a projection; those of the mixture are made doubly stochastic by Sinkhorn's iterations.

    Attributes
    ----------
    iterations : of Sinkhorn's normalization, of rows and columns.

    Source: Xie et al. (2026), manifold-constrained hyper-connections, arXiv:2512.24880; Transformers' DeepseekV4HyperConnection.
    """

    iterations: int

    def axes(self) -> dict[str, Expr]:
        streams = symbols.n_h
        return {"n": streams, "n_2": streams, "mixing": (2 + streams) * streams, "three": Integer(3), "one": Integer(1)}

    def collapse(self, record: BlockBuilder, name: str, streams: Tensor, *, mixing: bool = True) -> tuple[Tensor, Tensor]:
        """The input of a half, and the weights with which its result is added; at the end of the model there is no mixture."""
        width, scales = ("mixing", "three") if mixing else ("n_2", "one")
        normed = record(norm(f"{name}_stream_norm", streams, Norm.RMS, weight=False))
        raw = record(linear(f"{name}_stream_proj", f"b s n d, n d {width} -> b s {width}", normed, bias=True, role=Role.ROUTER))
        scale = Access(Tensor(f"{name}_stream_scale", (scales,), Storage.WEIGHT, streams.space, parameter=Parameter.NORM))
        weights = elementwise(f"{name}_stream_weights", (raw, scale), raw.axes, ACTIVATION_FLOPS["sigmoid"] + 2)
        if mixing:
            weights = replace(weights, work=(*weights.work, Work(axes_of("b s n n_2"), 4 * self.iterations - 1)))
        result = record(weights)
        read = Access(result, axes_of("b s n"))
        collapsed = elementwise(f"{name}_collapse", (streams, read), axes_of("b s d"), 0, role=Role.COMBINE)
        return record(replace(collapsed, work=(Work(axes_of("b s n d"), 2),))), result

    @staticmethod
    def expand(record: BlockBuilder, name: str, streams: Tensor, given: Tensor, weights: Tensor) -> Tensor:
        """The streams after a half: its result times a weight each, and a mixture of the streams before."""
        out = Tensor(f"{name}_expand", streams.axes, Storage.ACTIVATION, streams.space)
        work = (Work((*axes_of("b s n n_2"), "d"), 2, contraction=True), Work(streams.axes, 2))
        reads = (Access(streams), Access(given), Access(weights))
        return record(Operator(out.name, Kind.MATMUL, streams.space, work, reads, (Access(out),), role=Role.ADD))
