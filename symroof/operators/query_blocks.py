"""How FlashAttention's blocks of queries share the reads of keys and values: from memory in passes, from the cache block by block.

Every block of B_r query rows streams the keys and values it sees. The blocks that run side by side, one on each of the n_c
processors, stream the same rows at about the same time, so one read from memory serves them all: a *pass*. Where the keys
and values of one KV head stay in the last-level cache, all blocks are one pass. So memory is crossed once, or
``ceil(g s / (n_c B_r))`` times; what each block reads for itself comes from the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sympy import Add, Expr, Integer, Le, Max, Min, Mul, Piecewise, ceiling, floor

from symroof import symbols
from symroof.operators.facts import Kind
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Level, Space, Storage
from symroof.symbolic import Symbolic
from symroof.symbols import M, R, a, substitute

ROWS = Integer(128)
"""Query rows of a block, B_r: the tile of FlashAttention-2 and 3 for head dimensions up to 128.

Sources: Dao (2023), arXiv:2307.08691, section 3.3; Shah et al. (2024), arXiv:2407.08608, section 4.1.
"""

PER_ROW = frozenset({"b", "s", "t", "z", "k", "g", "h"})
"""Axes that count rows of a tile, not the components of one."""


@dataclass(frozen=True)
class QueryBlocks(Symbolic):
    """The blocks of queries of a step's fused attention.

    Attributes
    ----------
    rows : B_r, query rows of a block, those of the heads that share keys counted each; None for those of Algorithm 1,
        ``min(ceil(2 M / (a e)), e)`` (Dao et al. 2022, arXiv:2205.14135), which follow from the on-chip memory M.
    shared : whether blocks side by side share their reads of memory; without it every block reads for itself, as on the
        machine of Dao's theorems, one processor with nothing between its on-chip memory and the main one.
    buffer, cache : bytes of the on-chip memory, and of the last-level cache.
    """

    rows: Expr | None = ROWS
    shared: bool = True
    buffer: Expr = M
    cache: Expr = symbols.M_L

    def rows_of(self, operator: Operator) -> Expr:
        """Query rows of a block of an operator."""
        if self.rows is not None:
            return self.rows
        components = components_of(operator)
        return Min(ceiling(2 * self.buffer / (a * components), evaluate=False), components, evaluate=False)

    def positions_of(self, operators: Sequence[Operator]) -> Expr:
        """Query positions that one pass of the keys and values over memory serves: the definition of R, by the first of these operators."""
        first = operators[0]
        group = heads_per_key(first)
        if not self.shared:
            return Max(1, floor(self.rows_of(first) / group, evaluate=False), evaluate=False)
        one_pass = {atom.args[0] * R for one in operators for atom in blocks_counted(one) if atom != _before_window(one)}
        every = one_pass.pop() if len(one_pass) == 1 else Max(*one_pass, evaluate=False)
        fits = Le(kv_bytes(first), self.cache)
        return Piecewise((every, fits), (symbols.n_c * self.rows_of(first) / group, True), evaluate=False)

    def cache_bytes(self, operator: Operator) -> Expr:
        """Bytes that an operator's blocks read from the last-level cache: of keys and values each block what it sees, all else once."""
        if not self.shared:
            return Integer(0)
        block = {R: self.rows_of(operator) / heads_per_key(operator)}
        return Add(*(substitute(one.byte_count, block) for one in _on_device(operator.reads)))


def blocks_counted(operator: Operator) -> set[Expr]:
    """The counts of passes in what an operator reads: ``ceil(s / R)``, or of a chunk's tokens."""
    return {atom for one in operator.reads for atom in one.repeats.atoms(ceiling) if atom.has(R)}


def _before_window(operator: Operator) -> Expr | None:
    """The count of passes that start within the first window: of fewer positions than there are queries."""
    band = operator.space.band
    return None if band is None else ceiling((band - 1) / R)


def counts_passes(operator: Operator) -> bool:
    """Whether it is fused attention whose queries pass by the context several at a time."""
    return operator.kind is Kind.FUSED_ATTENTION and bool(blocks_counted(operator))


def heads_per_key(operator: Operator) -> Expr:
    """Query rows that a position has for every row of keys: the heads of a group.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-70b").prefill(symbolic=True, flash_attention=True)
    >>> heads_per_key(step.symbolic["fused_attention"])
    h/k
    """
    of_queries, of_keys = ({axis for one in side for axis in one.touched} for side in (_queries(operator), keys_of(operator)))
    heads = (of_queries & PER_ROW) - of_keys - {"b", "s"}
    return Mul(*(operator.space.sizes[axis] for axis in sorted(heads)))


def components_of(operator: Operator) -> Expr:
    """Components of a row of queries, that are summed over for a score."""
    components = {axis for one in _queries(operator) for axis in one.touched} - PER_ROW
    return Add(*(operator.space.sizes[axis] for axis in sorted(components)))


def kv_bytes(operator: Operator) -> Expr:
    """Bytes of the keys and values of one sequence and KV head, ``2 t e c / 8`` where both have e components.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-70b").prefill(symbolic=True, flash_attention=True)
    >>> kv_bytes(step.symbolic["fused_attention"])
    c*e*s/4
    """
    return Add(*(row_bytes(one) * one.tensor.space.sizes["t"] for one in keys_of(operator)))


def row_bytes(access: Access) -> Expr:
    """Bytes of a row of one head: its components at their width."""
    sizes = access.tensor.space.sizes
    return Mul(*(sizes[axis] for axis in access.touched if axis not in PER_ROW)) * access.tensor.stored_bits / 8


def keys_of(operator: Operator) -> tuple[Access, ...]:
    """The accesses to keys and values."""
    read = (one for one in _on_device(operator.reads) if one.tensor.storage is not Storage.WEIGHT)
    return tuple(one for one in read if "t" in one.touched and "s" not in one.touched)


def _on_device(accesses: Sequence[Access]) -> list[Access]:
    """Without what only passes over a link: it is in memory before a block reads it."""
    return [one for one in accesses if one.tensor.level is not Level.LINK]


def _queries(operator: Operator) -> tuple[Access, ...]:
    return tuple(one for one in operator.reads if "s" in one.touched and "t" not in one.touched)


def tile_bytes(operator: Operator, rows: Expr, keys: Expr) -> Expr:
    """Bytes of the tiles of fused attention on chip: rows of queries and output, rows of keys and values; scores stay in registers.

    ``(2 B_r e a + 2 B_c e c) / 8``. Source: Dao (2023), FlashAttention-2, arXiv:2307.08691, section 3.1.
    """
    moved = (one for one in _on_device((*operator.reads, *operator.writes)) if one.tensor.storage is not Storage.WEIGHT)
    return Add(*((rows if "s" in one.touched else keys) * row_bytes(one) for one in moved))


def cache_passes(space: Space) -> Expr:
    """How often FlashAttention reads each row of K and V, on average over the rows; once in a decode step.

    >>> from symroof.symbols import s, t
    >>> cache_passes(Space({"s": Integer(1), "t": t}, causal=True))
    1
    >>> cache_passes(Space({"s": s, "t": s}))
    ceiling(s/R)
    """
    queries, context = space.sizes["s"], space.sizes["t"]
    if queries == 1 or space.one_block:
        return Integer(1)
    blocks = ceiling(queries / R)
    if not space.causal:
        return blocks
    rows = (context - queries) * blocks + R * blocks * (blocks - 1) / 2 + queries
    if space.band is not None:  # from the first block that starts beyond the window, leave out what lies before it
        skipped = ceiling((space.band - 1) / R)
        rows -= R * (blocks * (blocks - 1) - skipped * (skipped - 1)) / 2 - (blocks - skipped) * (space.band - 1)
    return rows / context


def with_blocks(operator: Operator, blocks: QueryBlocks) -> Operator:
    """The operator with what its blocks read from the cache, derived anew from its reads."""
    if not counts_passes(operator):
        return operator
    return replace(operator, cache_bytes=blocks.cache_bytes(operator))
