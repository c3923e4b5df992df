"""Chunked prefill: a prompt in chunks, each of which reads the weights and the preceding keys and values again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from sympy import Expr, Integer, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Block, Graph, Kind, Operator, Space, Storage, Structure, Tensor
from symroof.operators.query_blocks import cache_passes
from symroof.operators.tensor import within_band
from symroof.symbols import substitute
from symroof.techniques.system.token_axes import EXACT, attends, refuse_selection, windowed
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number

ROWS = ("s", "u", "s_c")


@dataclass(frozen=True)
class ChunkedPrefill(Technique):
    """A prompt of s tokens in ``n = s / s_k`` chunks: the same FLOPs, weights read n times, the preceding context once per chunk.

    ================= ====================================================================
    FLOPs             unchanged
    weights read      ``n`` times
    keys and values   ``s_k (1 + ... + n) = s (n + 1) / 2`` rows instead of ``s``
    activations       those of one chunk
    ================= ====================================================================

    In a layer with a sliding window of W tokens a chunk reads its own rows and the ``W - 1`` before it: ``m = ceil(min(s, W) / s_k)``
    chunks read ``s_k, 2 s_k, ..., m s_k`` rows, and the ``n - m`` others ``s_k + W - 1`` each.

    With FlashAttention, too, a chunk reads its preceding context once if a head's keys and values fit the last-level cache.
    Reads from that cache are unchanged if a chunk consists of whole blocks, and so is the traffic of blocks that reread
    memory (``flash-attention:reread=memory``). Exact for linear operators; a lower bound on the time of attention, whose
    chunks are taken together under one roof.

    Parameters
    ----------
    chunk : s_k in tokens, a divisor of the prompt length.

    Raises
    ------
    InputError
        The chunk does not divide the prompt, or attention is sparse, has no causal mask, or stays within chunks of the model's own.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True)
    >>> print(step.apply(ChunkedPrefill())["up_proj"].traffic)
    (a*b*d*s + a*b*f*s + d*f*s*w/s_k)/8 byte

    Source: Agrawal et al. (2023), SARATHI, arXiv:2308.16369, section 4 (chunked prefills and their overhead).
    """

    name = "chunked-prefill"
    summary = "a prompt in chunks, each of which reads the weights and the preceding keys and values again"
    survey = "5.3"
    source = "arXiv:2308.16369"
    structure = frozenset({Structure.TOKENS})
    phases = ("prefill",)
    exact = EXACT
    requires = frozenset({Fact.WHOLE_PROMPT, Fact.WHOLE_CACHE, Fact.ONE_LENGTH})
    removes = frozenset({Fact.ONE_CONTEXT, Fact.NO_CHUNK})
    divides = (symbols.s, "chunk")
    example = Example(phase="prefill", part="up_proj", over="chunk", inputs={"seq_len": 2048}, at=512)

    chunk: Number = number(symbols.s_k)

    def check(self, step: Step) -> None:
        chunk, graph = self.chunk, step.symbolic
        length = substitute(substitute(graph.blocks[0].operators[0].space.sizes["s"], graph.definitions), step.values)  # behind a prefix
        if not length.is_number or not chunk.is_number:
            return
        if chunk > length:
            raise self.refused(f"a chunk of {chunk} tokens is longer than the prompt of {length}")
        if length % chunk:
            raise self.refused(f"chunks of {chunk} tokens do not divide a prompt of {length}; expected a divisor")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        refuse_selection(self.name, graph)
        shared = any(Fact.OWN_CONTEXT in technique.removed for technique in graph.applied)  # a prefix that every token sees
        causal = all(operator.space.causal for operator, _ in graph)
        if not shared and not causal:
            raise self.refused("without a causal mask a chunk would have to attend to later chunks")
        if any(operator.space.chunked for operator, _ in graph):
            raise self.refused("queries attend within chunks of the model's own, which is not supported")
        if not causal and any(windowed(operator.space) for operator, _ in graph):
            raise self.refused("in a layer with a sliding window not every chunk sees the prefix; give prefix-cache read=each")
        chunk = given["chunk"]

        def of_chunk(tensor: Tensor) -> Tensor:
            """Activations of one chunk's rows; logits of the last token are unchanged."""
            if tensor.storage is not Storage.ACTIVATION or not {*ROWS} & {*tensor.axes}:
                return tensor
            sizes = {axis: chunk for axis in ROWS if tensor.space.sizes.get(axis) == tensor.space.sizes["s"]}
            return replace(tensor, space=tensor.space.resized(sizes))

        def of_all(old: Access, new: Access, operator: Operator) -> Access:
            """The accesses of all chunks together."""
            axes, count = old.touched, operator.space.sizes["s"] / chunk
            if {*ROWS} & {*axes}:
                times = old.tensor.space.points(axes) / new.tensor.space.points(axes)
            elif "t" in axes:
                stacked = old.tensor.storage is Storage.KV_CACHE
                times = _passes(operator.space, chunk, stacked) if operator.kind is Kind.FUSED_ATTENTION else _again(operator.space, chunk)
            else:
                last = any("u" in access.tensor.axes for access in operator.writes) and operator.space.sizes["u"] == 1
                times = Integer(1) if last else count
            return replace(new, repeats=new.repeats * times)

        def expanded(old: Operator, new: Operator, _: Block) -> Operator:
            """Keys that are expanded from the whole context are expanded again for every chunk."""
            if {*ROWS} & {*old.written.touched}:  # one chunk's rows at a time, with the weights read again
                new = replace(new, passes=new.passes * old.space.sizes["s"] / chunk)
            if attends(old) or not any("t" in piece.axes for piece in old.work):
                return new
            return replace(new, space=new.space.resized({"t": new.space.sizes["t"] * _again(old.space, chunk)}))

        queries = graph.blocks[0].operators[0].space.sizes["s"]
        cut = graph.map(tensor=of_chunk, access=of_all, operator=expanded)
        return cut.with_pass_tokens(graph.pass_tokens * chunk / queries)

    def statements(self, given: Given) -> tuple[str, ...]:
        return (
            "chunked-prefill: s / s_k chunks, each operator's chunks taken together under one roof: exact for linear operators, a lower "
            "bound on the time of attention",
            "chunked-prefill: logits only after the last chunk; a launch is counted once per operator, not per chunk",
        )


def _again(space: Space, chunk: Expr) -> Expr:
    """How often chunks read a row of the context, on average: every chunk reads a prefix, and the prompt's rows from their own chunk on.

    With a sliding window a chunk reads its own rows and the ``W - 1`` before it, or as many as there are.
    """
    queries, context = space.sizes["s"], space.sizes["t"]
    count = queries / chunk
    if not space.causal:
        return count
    growing = count if space.band is None else _growing(space, chunk)
    rows = growing * (context - queries) + chunk * growing * (growing + 1) / 2
    if space.band is not None:
        rows += (count - growing) * (chunk + space.band - 1)
    return rows / context


def _growing(space: Space, chunk: Expr) -> Expr:
    """The number of chunks whose first query sees its whole past; those behind them all read equally many rows."""
    return cast(Expr, ceiling(within_band(cast(Expr, space.band), space.sizes) / chunk))


def _passes(space: Space, chunk: Expr, stacked: bool) -> Expr:
    """Reads of a row by all chunks, over reads of the same prompt in one piece: by passes, each up to its own last row.

    Passes over a prefix that is stored once are shared by the queries of all sequences. With a sliding window, passes that start
    beyond the first window skip the rows before their own.
    """
    queries, context = space.sizes["s"], space.sizes["t"]
    count, sequences = queries / chunk, space.sizes["b"] if stacked else 1
    blocks = ceiling(sequences * chunk / symbols.R)
    if not space.causal:
        return count * blocks / ceiling(sequences * queries / symbols.R)
    blocks = ceiling(chunk / symbols.R)
    rows = symbols.R * blocks * (blocks - 1) / 2 + chunk
    total = count * (rows + blocks * (context - queries)) + blocks * chunk * count * (count - 1) / 2
    if space.band is not None:
        growing, within = _growing(space, chunk), within_band(space.band, space.sizes) - 1
        total -= (count - growing) * (blocks * (chunk * (count + growing - 1) / 2 - within) + symbols.R * blocks * (blocks - 1) / 2)
        within -= (growing - 1) * chunk  # of the one chunk in which passes begin to skip rows
        skipped = ceiling(within / symbols.R)
        total -= symbols.R * (blocks * (blocks - 1) - skipped * (skipped - 1)) / 2 - (blocks - skipped) * within
    return total / (context * cache_passes(space))
