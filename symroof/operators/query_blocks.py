"""How FlashAttention's blocks of queries share reads of keys and values: from memory in passes, from the cache block by block.

Every block of B_r query rows streams its keys and values. Concurrent blocks, one on each of the n_c processors, stream the
same rows at about the same time, so one read from memory serves all of them: a *pass*. If the keys and values of one KV
head fit the last-level cache, all blocks form one pass. So keys and values are read from memory once, or
``ceil(g s / (n_c B_r))`` times; the reads of individual blocks come from the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sympy import Add, Expr, Integer, Le, Max, Min, Mul, Piecewise, ceiling, floor

from symroof import symbols
from symroof.operators.facts import Kind
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Level, Space, Storage, within_band
from symroof.symbolic import Symbolic
from symroof.symbols import M, R, a, substitute

ROWS = Integer(128)
"""Query rows of a block, B_r: the tile of FlashAttention-2 and 3 for head dimensions up to 128.

Sources: Dao (2023), arXiv:2307.08691, section 3.3; Shah et al. (2024), arXiv:2407.08608, section 4.1.
"""

PER_ROW = frozenset({"b", "s", "t", "z", "k", "g", "h"})
"""Axes that count rows of a tile, as opposed to components of a row."""


@dataclass(frozen=True)
class QueryBlocks(Symbolic):
    """The blocks of queries of a step's fused attention.

    Attributes
    ----------
    rows : B_r, query rows of a block, one per position and query head of a group; None for those of Algorithm 1,
        ``min(ceil(2 M / (a e)), e)`` (Dao et al. 2022, arXiv:2205.14135), which depend on the on-chip memory M.
    shared : whether concurrent blocks share reads from memory; otherwise every block reads separately, as on the machine of
        Dao's theorems, one processor without a cache between on-chip and main memory.
    buffer, cache : bytes of the on-chip memory, and of the last-level cache.
    """

    rows: Expr | None = ROWS
    shared: bool = True
    buffer: Expr = M
    cache: Expr = symbols.M_L

    def rows_of(self, operator: Operator) -> Expr:
        """Query rows per block of an operator."""
        if self.rows is not None:
            return self.rows
        components = components_of(operator)
        return Min(ceiling(2 * self.buffer / (a * components), evaluate=False), components, evaluate=False)

    def positions_of(self, operators: Sequence[Operator]) -> Expr:
        """R, the query positions that one pass over keys and values serves, defined by the first of these operators."""
        first = operators[0]
        group = heads_per_key(first)
        if not self.shared:
            return Max(1, floor(self.rows_of(first) / group, evaluate=False), evaluate=False)
        one_pass = {atom.args[0] * R for operator in operators for atom in blocks_counted(operator) if atom != _before_window(operator)}
        every = one_pass.pop() if len(one_pass) == 1 else Max(*one_pass, evaluate=False)
        fits = Le(kv_bytes(first), self.cache)
        return Piecewise((every, fits), (symbols.n_c * self.rows_of(first) / group, True), evaluate=False)

    def cache_bytes(self, operator: Operator) -> Expr:
        """Bytes that an operator's blocks read from the last-level cache: keys and values once per block, all else once."""
        if not self.shared:
            return Integer(0)
        block = {R: self.rows_of(operator) / heads_per_key(operator)}
        return Add(*(substitute(access.byte_count, block) for access in _on_device(operator.reads)))


def blocks_counted(operator: Operator) -> set[Expr]:
    """The numbers of passes in an operator's reads: ``ceil(s / R)``, or that of a chunk's tokens."""
    return {atom for access in operator.reads for atom in access.repeats.atoms(ceiling) if atom.has(R)}


def _before_window(operator: Operator) -> Expr | None:
    """The number of passes that start within the first window, which has fewer positions than queries."""
    band, sizes = operator.space.band, operator.space.sizes
    return None if band is None else ceiling((within_band(band, sizes) - 1) / R)


def counts_passes(operator: Operator) -> bool:
    """Whether the operator is fused attention that processes several queries per pass over the context."""
    return operator.kind is Kind.FUSED_ATTENTION and bool(blocks_counted(operator))


def heads_per_key(operator: Operator) -> Expr:
    """Query rows per position and row of keys: the group size g.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-70b").prefill(symbolic=True, flash_attention=True)
    >>> heads_per_key(step.symbolic["fused_attention"])
    h/k
    """
    of_queries, of_keys = ({axis for access in side for axis in access.touched} for side in (_queries(operator), keys_of(operator)))
    heads = (of_queries & PER_ROW) - of_keys - {"b", "s"}
    return Mul(*(operator.space.sizes[axis] for axis in sorted(heads)))


def components_of(operator: Operator) -> Expr:
    """Components of a query row, which a score sums over."""
    components = {axis for access in _queries(operator) for axis in access.touched} - PER_ROW
    return Add(*(operator.space.sizes[axis] for axis in sorted(components)))


def kv_bytes(operator: Operator) -> Expr:
    """Bytes of the keys and values of one sequence and KV head, ``2 t e c / 8`` if both have e components.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-70b").prefill(symbolic=True, flash_attention=True)
    >>> kv_bytes(step.symbolic["fused_attention"])
    c*e*s/4
    """
    return Add(*(row_bytes(access) * access.tensor.space.sizes["t"] for access in keys_of(operator)))


def row_bytes(access: Access) -> Expr:
    """Bytes of one head's row: its components at their width."""
    sizes = access.tensor.space.sizes
    return Mul(*(sizes[axis] for axis in access.touched if axis not in PER_ROW)) * access.tensor.stored_bits / 8


def keys_of(operator: Operator) -> tuple[Access, ...]:
    """The accesses to keys and values."""
    read = (access for access in _on_device(operator.reads) if access.tensor.storage is not Storage.WEIGHT)
    return tuple(access for access in read if "t" in access.touched and "s" not in access.touched)


def _on_device(accesses: Sequence[Access]) -> list[Access]:
    """The accesses without transfers over a link, whose data is in memory before a block reads it."""
    return [access for access in accesses if access.tensor.level is not Level.LINK]


def _queries(operator: Operator) -> tuple[Access, ...]:
    return tuple(access for access in operator.reads if "s" in access.touched and "t" not in access.touched)


def tile_bytes(operator: Operator, rows: Expr, keys: Expr) -> Expr:
    """Bytes of fused attention's tiles on chip: rows of queries, output, keys and values; scores stay in registers.

    ``(2 B_r e a + 2 B_c e c) / 8``. Source: Dao (2023), FlashAttention-2, arXiv:2307.08691, section 3.1.
    """
    moved = (access for access in _on_device((*operator.reads, *operator.writes)) if access.tensor.storage is not Storage.WEIGHT)
    return Add(*((rows if "s" in access.touched else keys) * row_bytes(access) for access in moved))


def cache_passes(space: Space) -> Expr:
    """How often FlashAttention reads a row of K and V, averaged over the rows; once in a decode step.

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
    if not space.causal:  # a window on both sides is read again by the blocks beside it
        return blocks if space.band is None else 1 + 2 * (space.band - 1) * (blocks - 1) / context
    rows = (context - queries) * blocks + R * blocks * (blocks - 1) / 2 + queries
    if space.band is not None:  # blocks that start beyond the first window skip the rows before their own window
        within = within_band(space.band, space.sizes) - 1
        skipped = ceiling(within / R)
        rows -= R * (blocks * (blocks - 1) - skipped * (skipped - 1)) / 2 - (blocks - skipped) * within
    return rows / context


def with_blocks(operator: Operator, blocks: QueryBlocks) -> Operator:
    """The operator with the cache reads of its blocks, derived from its reads."""
    if not counts_passes(operator):
        return operator
    return replace(operator, cache_bytes=blocks.cache_bytes(operator))
