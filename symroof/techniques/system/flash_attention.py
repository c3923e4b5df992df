"""FlashAttention for a step whose attention writes its scores to memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from sympy import Expr

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators import ATTENTION_STEPS, Block, Graph, Operator, Role
from symroof.operators.attention import as_flash_attention
from symroof.operators.fusion import fused, replace_group
from symroof.operators.query_blocks import ROWS, QueryBlocks, counts_passes, heads_per_key
from symroof.symbols import substitute
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word


@dataclass(frozen=True)
class FlashAttention(Technique):
    """Scores, softmax and weighted sum as one operator that keeps the scores on chip and streams K and V past blocks of Q.

    A block contains B_r query rows, one row per position and query head of a group of g. Blocks that run concurrently share
    reads from memory, so one pass over K and V serves ``R = n_c B_r / g`` query positions on n_c processors, and all
    positions if the keys and values of one KV head fit the last-level cache, ``2 t e c / 8 <= M_L``. The result equals
    that of the option ``flash_attention``. Without a mask, with ``n = ceil(s / R)`` passes:

    ========= ============================= ==========================================================
    .         after                         before, three operators
    ========= ============================= ==========================================================
    FLOPs     the same                      ``4 b h e s t + 5 b h s t``
    traffic   ``(2 b s h e a                ``(2 b s h e a + 2 b t k e c + 4 b h s t a) / 8``
              + 2 n b t k e c) / 8``
    cache     ``(b s h e a + 2 b k t e c    none is counted
              x ceil(g s / B_r)) / 8``
    on chip   ``(2 B_r e a                  no tile is counted
              + 2 B_c e c) / 8``
    ========= ============================= ==========================================================

    With ``reread=memory`` every block reads keys and values from memory itself, as on the machine of Dao's theorems: one
    processor, no cache. Then ``R = max(1, floor(B_r / g))``, and by default B_r is that of Algorithm 1,
    ``min(ceil(2 M / (a e)), e)``, which uses a quarter of the M bytes on chip. Since B_r is at most e, the order
    ``N^2 d^2 / M`` of the traffic holds up to ``M = 4 d^2`` elements; with the most *rows* that fit, it holds beyond, within
    a factor of two of `least_traffic`. Bytes fall at every length if ``2 a g R >= c e``, otherwise up to
    ``s = R c e / (c e - 2 a g R)`` (whole blocks, no mask).

    Parameters
    ----------
    rows : B_r, query rows of a block; default 128.
    keys : B_c, key rows of a tile. Memory traffic does not depend on it; on-chip memory does, which analysis on a device checks.
    reread : where a block reads keys and values that another block has read already: from the "cache", or from "memory".

    Raises
    ------
    InputError
        There is no unfused attention, or a block contains less than one position's query rows.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True, causal=False)
    >>> print(step.apply(FlashAttention())["fused_attention"].traffic)
    (a*b*e*h*s + b*c*e*k*s*ceiling(s/R))/4 byte

    Source: Dao et al. (2022), arXiv:2205.14135; the rescaling of partial sums is not counted. Lower bound: there,
    Proposition 3, and Saha and Ye (2024), arXiv:2402.07443.
    """

    name = "flash-attention"
    summary = "attention as one operator, scores on chip"
    survey = "5.1"
    source = "arXiv:2205.14135"
    exact = " supports accounting 'exact'; {!r} counts fused attention differently: use the option flash_attention"
    requires = frozenset({Fact.ONE_CONTEXT, Fact.WHOLE_PROMPT})
    example = Example(phase="prefill", part="attention", over="seq_len", inputs={"batch": 1})

    rows: Number = number(symbols.B_r, optional=True)
    keys: Number = number(symbols.B_c, optional=True)
    reread: str = word("cache", ("cache", "memory"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keys is not None and self.rows is None:
            raise self.refused("keys without rows: give both sides of a tile, as rows=128,keys=64")

    def check(self, step: Step) -> None:
        for _, members in attention_of(step.symbolic, self.name):
            group = substitute(heads_per_key(members[0]), step.values)
            if isinstance(self.rows, Expr) and self.rows.is_number and group.is_number and self.rows < group:
                raise self.refused(
                    f"rows {self.rows}: a position has {group} query rows, one per query head of a group; expected at least {group}"
                )

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        blocks: dict[Block, Block] = {}
        for block, members in attention_of(graph, self.name):
            whole = as_flash_attention(members, fused(graph, block, members))
            blocks[block] = replace_group(blocks.get(block, block), members, [whole])
            if counts_passes(whole):
                self.require(graph, Fact.ONE_LENGTH)
        shared = self.reread == "cache"
        query_blocks = QueryBlocks(given.get("rows", ROWS if shared else None), shared)
        return replace(graph, blocks=tuple(blocks.get(block, block) for block in graph.blocks), query_blocks=query_blocks)

    def statements(self, given: Given) -> tuple[str, ...]:
        rows = "Algorithm 1's rows, from the on-chip buffer" if self.rows is None else f"B_r = {self.rows} query rows"
        across = "" if self.keys is None else f" and B_c = {self.keys} keys"
        if self.reread == "memory":
            return (f"flash-attention: blocks of {rows}{across}; each reads its K and V from memory; rescaling is not counted",)
        rows = f"B_r = {ROWS if self.rows is None else self.rows} query rows"
        return (
            f"flash-attention: blocks of {rows}{across}; K and V are read from memory once if a head's fit the last-level cache, else "
            "once per set of concurrent blocks; each block reads them from the cache; rescaling is not counted",
        )


def attention_of(graph: Graph, name: str) -> list[tuple[Block, list[Operator]]]:
    """Every unfused attention, its block and its operators in order; an InputError if there are none."""
    found: list[tuple[Block, list[Operator]]] = []
    for block in graph.blocks:
        steps = [operator for operator in block.operators if operator.role in ATTENTION_STEPS]
        roles = [operator.role for operator in steps]  # scores may be a sum of two, as of a latent and a rotary key
        starts = [place for place, role in enumerate(roles) if role is Role.SCORES and Role.SCORES not in roles[max(place - 1, 0) : place]]
        for start, end in pairwise([*starts, len(steps)]):  # a block may have two, as to itself and to an encoder's output
            if {operator.role for operator in steps[start:end]} >= {Role.SCORES, Role.SOFTMAX, Role.WEIGHTED_SUM}:
                found.append((block, steps[start:end]))
    if not found:
        fused_already = any(operator.role is Role.ATTENTION or operator.is_group for operator, _ in graph)
        raise InputError(f"{name}: " + ("attention is one operator already" if fused_already else "this step has no attention"))
    return found


def least_traffic() -> Expr:
    """A lower bound on the bytes of keys and values that FlashAttention moves with tiles of at most M bytes, without a mask.

    A tile of ``R g`` rows of Q and of the output takes ``2 R g e a / 8`` bytes, so ``R < 4 M / (g e a)``; K and V are read
    ``s / R`` times. No tile reaches the bound.

    ========= ==================================================
    formula   ``b h s t e^2 a c / (16 M)``
    unit      byte
    ========= ==================================================

    >>> print(least_traffic())
    a*b*c*e**2*h*s*t/(16*M)

    Source: Dao et al. (2022), arXiv:2205.14135, Theorem 2 and Proposition 3: the order ``N^2 d^2 / M``.
    """
    b, h, s, t, e, a, c, M = (getattr(symbols, name) for name in ("b", "h", "s", "t", "e", "a", "c", "M"))
    return b * h * s * t * e**2 * a * c / (16 * M)
