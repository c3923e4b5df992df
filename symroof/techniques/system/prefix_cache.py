"""Prefix caching: a prefix that all sequences share is computed and stored once."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import cast

from sympy import Basic, Expr, Min

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import CONTRACTIONS, Access, Block, Graph, Kind, Operator, Space, Storage, Structure, Tensor
from symroof.operators.query_blocks import cache_passes
from symroof.techniques.system.token_axes import EXACT, PAIR, attends, paired, refuse_other_windows
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word


@dataclass(frozen=True)
class PrefixCache(Technique):
    """A shared prefix of a share x_p of the context: stored once, skipped in prefill, and read once per batch or per sequence.

    If read once, attention consists of an operator over the prefix, ``<operator>.prefix``, with all queries of the batch
    against the same keys, and one over the rest, ``<operator>.suffix``. Both read the queries; the first writes its partial
    output, which the second reads. When memory-bound, reading the prefix once is faster for prefixes of more than
    ``3 b g / (2 (b - 1))`` tokens at equal widths. Rescaling of the partial outputs is not counted.

    In a layer with a sliding window of W tokens, ``min(q, W)`` of a sequence's own ``q = (1 - x_p) t`` tokens are in sight in decode, and
    ``max(0, min(t, W) - q)`` of the prefix; as many stay in the cache. The queries of a prompt see the last ``min(x_p s, W - 1)`` tokens
    of the prefix, each query one less than the one before it. Queries and partial outputs are counted whether any of it is in sight or not,
    and a pass of FlashAttention over it reads all that is.

    =================== =========================================================
    prefill, tokens     ``b (1 - x_p) s`` against a context of ``s``
    cache, stored       ``(b (1 - x_p) + x_p) t`` tokens
    cache, decode       as many rows read, or ``b t`` if read per sequence
    FLOPs, decode       unchanged
    =================== =========================================================

    Parameters
    ----------
    share : x_p, below 1.
    read : whether the prefix is read "once" per batch or for "each" sequence.

    Raises
    ------
    InputError
        The share leaves no token of a sequence's own, attention is sparse, or the model has no KV cache that grows with the context.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(PrefixCache())["qk_matmul.prefix"].traffic)
    (a*b*e*h + a*b*h*t*x_p + c*e*k*t*x_p)/8 byte

    Source: Juravsky et al. (2024), Hydragen, arXiv:2402.05099; stored once, read per sequence: Zheng et al. (2023),
    SGLang (RadixAttention), arXiv:2312.07104.
    """

    name = "prefix-cache"
    summary = "a prefix that sequences share is computed and stored once, and read once per batch"
    survey = "5.2"
    source = "arXiv:2402.05099"
    structure = frozenset({Structure.TOKENS})
    exact = EXACT
    requires = frozenset({Fact.WHOLE_PROMPT, Fact.WHOLE_BATCH, Fact.WHOLE_STEP, Fact.WHOLE_CACHE, Fact.NO_CHUNK, Fact.NO_PAGES})
    removes = frozenset({Fact.ONE_CONTEXT, Fact.OWN_CONTEXT})
    example = Example(part="total", over="batch", settings={"share": 0.75}, inputs={"seq_len": 4096})

    share: Number = number(symbols.x_p)
    read: str = word("once", ("once", "each"))

    def check(self, step: Step) -> None:
        length = step.values.get(symbols.t if step.options.decode else symbols.s)
        share = self.share
        if share == 1:
            raise self.refused("a share of 1 leaves no token of a sequence's own; expected less than 1")
        if length is not None and share.is_number and (1 - share) * length < 1:
            raise self.refused(
                f"a share of {share} of {length} tokens leaves no token of a sequence's own; expected at most {1 - 1 / length}"
            )

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        refuse_other_windows(self.name, graph)
        if any(operator.space.chunked for operator, _ in graph):
            raise self.refused("queries attend within chunks of the model's own, which is not supported")
        if not any(attends(operator) for operator, _ in graph):
            raise self.refused("this model has no attention, and keeps no KV cache that grows with the context")
        share, own, window = given["share"], 1 - given["share"], graph.definitions.get(symbols.t_w)
        if window is not None:  # what a window shows of the prefix is no linear function of the length
            self.require(graph, Fact.ONE_LENGTH)
        if not graph.decode:  # queries are the sequence's own tokens, keys are all tokens
            context = next(operator.space.sizes["t"] for operator, _ in graph if attends(operator))
            self.require(graph, Fact.ONE_LENGTH)
            whole = {} if window is None else {symbols.t_w: window}  # min(s, W) of all s tokens
            shorter = graph.replaced({symbols.s: own * symbols.s})
            graph = replace(shorter, definitions={**shorter.definitions, **whole})
            graph = graph.map(space=lambda space: _behind(space, context, share), access=_looked_at)
        of_window = () if window is None else window.args
        prefix = _Prefix(share, next((size for size in of_window if size != symbols.W), symbols.t))
        return graph.each(prefix.split if self.read == "once" else prefix.kept)

    def statements(self, given: Given) -> tuple[str, ...]:
        once = "once per batch, with its partial output through memory; rescaling is not counted"
        how = once if self.read == "once" else "for each sequence"
        return (f"prefix-cache: a share x_p of the context is common to the batch, cached already, stored once, and read {how}",)


def _behind(space: Space, context: Expr, share: Expr) -> Space:
    """The space of a sequence's own tokens behind a prefix: all of the context, or what a window shows to any of them."""
    return space.resized({"t": context if space.band is None else space.sizes["s"] + Min(share * context, symbols.W - 1)})


def _looked_at(old: Access, new: Access, operator: Operator) -> Access:
    """Fused attention of a prompt's own tokens, whose passes all read the whole prefix."""
    if operator.kind is not Kind.FUSED_ATTENTION or "t" not in old.touched:
        return new
    own = operator.space
    return replace(new, repeats=new.repeats * cache_passes(own.resized({"t": new.tensor.space.sizes["t"]})) / cache_passes(own))


class _Prefix:
    """Caches that store a prefix once, and attention over prefix and suffix."""

    def __init__(self, share: Expr, context: Basic) -> None:
        self.share, self.context = share, cast(Expr, context)
        self.whole, self.of_part = functools.cache(self._whole), functools.cache(self._of_part)

    def kept(self, operator: Operator, _: Block) -> Operator:
        """The operator over caches that store the prefix once; reads per sequence are unchanged."""
        reads, writes = (tuple(map(self._over_whole, side)) for side in (operator.reads, operator.writes))
        return replace(operator, reads=reads, writes=writes)

    def split(self, operator: Operator, block: Block) -> Operator | tuple[Operator, ...]:
        """Attention as an operator over the prefix, which all queries of the batch share, and one over the suffix."""
        if not attends(operator):
            return self.kept(operator, block)
        prefix, suffix = self._part(operator, "prefix"), self._part(operator, "suffix")
        if operator.kind not in CONTRACTIONS or paired(operator.result.axes):
            return prefix, suffix
        partial = replace(operator.result)
        prefix = replace(prefix, writes=tuple(replace(access, tensor=partial) for access in prefix.writes))
        return prefix, replace(suffix, reads=(*suffix.reads, Access(partial)))

    def _part(self, operator: Operator, part: str) -> Operator:
        space = self._space(operator.space, part)

        def moved(access: Access) -> Access:
            if paired(access.tensor.axes):
                return replace(access, tensor=self.of_part(access.tensor, part))
            if "t" not in access.touched:
                return access
            times, stacked = (
                self._rows(operator.space, part) / operator.space.sizes["t"],
                part == "prefix" and access.tensor.storage is Storage.KV_CACHE,
            )
            if stacked:
                times /= space.sizes["b"]
            if operator.kind is Kind.FUSED_ATTENTION:  # a pass over a prefix that is stored once serves the queries of all sequences
                several = stacked and space.sizes["s"] != 1
                blocks = space.resized({"s": space.sizes["b"] * space.sizes["s"]}) if several else space
                times *= cache_passes(blocks) / cache_passes(operator.space)
            return self._over_whole(replace(access, repeats=access.repeats * times))

        reads, writes = (tuple(map(moved, side)) for side in (operator.reads, operator.writes))
        return replace(operator, name=f"{operator.name}.{part}", space=space, reads=reads, writes=writes)

    def _own(self, space: Space) -> Expr:
        """The tokens that a sequence has behind the prefix."""
        if space.band is not None:
            return space.sizes["s"]
        context = space.sizes["t"]
        if "z" in space.sizes:  # a window in decode: all positions, and those that are being verified
            context = self.context + context - symbols.t_w
        return (1 - self.share) * context

    def _rows(self, space: Space, part: str) -> Expr:
        """The positions of the prefix, or behind it, that any query sees."""
        own, context = self._own(space), space.sizes["t"]
        if space.band is not None:
            return context - own if part == "prefix" else own
        if "z" in space.sizes:
            return context - Min(context, own) if part == "prefix" else Min(context, own)
        return self.share * context if part == "prefix" else own

    def _space(self, space: Space, part: str) -> Space:
        rows = self._rows(space, part)
        if space.band is None:  # every query sees all of the prefix
            return replace(space.resized({"t": rows}), causal=space.causal and part != "prefix")
        queries = space.sizes["s"]
        behind = replace(space.resized({"t": queries}), band=Min(queries, symbols.W))
        if part != "prefix":
            return behind
        keys = (space.points(PAIR) - behind.points(PAIR)) / queries  # on average: the later the query, the less it sees
        return replace(space.resized({"t": keys}), causal=False, band=None)

    def _of_part(self, tensor: Tensor, part: str) -> Tensor:
        return replace(tensor, space=self._space(tensor.space, part))

    def _whole(self, tensor: Tensor) -> tuple[Tensor, Expr]:
        """The cache of all sequences with the prefix once, and its size over that of separate caches."""
        sizes, stored = tensor.space.sizes, "z" if "z" in tensor.axes else "t"
        share = 1 - self.share + self.share / sizes["b"]
        if stored == "z":
            own = self._own(tensor.space)
            share = 1 / sizes["b"] + (1 - 1 / sizes["b"]) * Min(sizes["z"], own) / sizes["z"]
        return replace(tensor, space=tensor.space.resized({stored: sizes[stored] * share})), share

    def _over_whole(self, access: Access) -> Access:
        if access.tensor.storage is not Storage.KV_CACHE or {"t", "z"}.isdisjoint(access.tensor.axes):
            return access
        tensor, share = self.whole(access.tensor)
        moves = "t" in access.touched and "t" in access.tensor.axes
        return replace(access, tensor=tensor, repeats=access.repeats / share if moves else access.repeats)
