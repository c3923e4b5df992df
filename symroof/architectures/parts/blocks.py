"""The indexer of block-sparse attention: what selects the blocks of keys that the queries of a group attend to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr

from symroof import symbols
from symroof.architectures.parts.indexer import INDEXER
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Access, Operator, Role, Space, Storage, Tensor, axes_of
from symroof.operators.attention import rotary
from symroof.operators.elementwise import Norm, elementwise, norm
from symroof.operators.linear import contraction, linear

SCORES = "b s h_i e_i, b t e_i -> b h_i s t"


@dataclass(frozen=True)
class BlockIndexer:
    """One light query per group of heads and token, one light key per token in a cache of its own, and a score of every pair.

    The best blocks of each query and group, by the best score in a block, hold ``k_i`` keys together; which those are is a few bytes
    per query, not counted.

    Source: Transformers' MiniMaxM3VLIndexer.
    """

    def axes(self) -> dict[str, Expr]:
        return {"h_i": symbols.h_i, "e_i": symbols.e_i}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space) -> None:
        """Record the operators; *space* is that of all keys."""

        def add(operator: Operator) -> Tensor:
            return record(replace(operator, answers_to=operator.answers_to | {INDEXER}))

        keys = Tensor("index_cache", axes_of("b t e_i"), Storage.KV_CACHE, space)
        table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
        q = add(linear("index_q_proj", "b s d, d h_i e_i -> b s h_i e_i", x))
        q = add(rotary("index_q_rotary", add(norm("index_q_norm", q, Norm.RMS, over=("e_i",))), table))
        k = add(linear("index_k_proj", "b s d, d e_i -> b s e_i", x))
        add(rotary("index_k_rotary", add(norm("index_k_norm", k, Norm.RMS, over=("e_i",))), table, into=keys))
        pairs = axes_of("b h_i s t")
        scores = Access(Tensor("index_scores", pairs, Storage.ACTIVATION, space))
        found = add(contraction("index_scores", SCORES, (Access(q), Access(keys, axes_of("b t e_i"))), scores, Role.INDEX))
        best = Tensor("block_scores", axes_of("b h_i s"), Storage.ACTIVATION, space)
        add(replace(elementwise("select_blocks", (found,), pairs, 1, best, role=Role.INDEX), name="select_blocks"))
