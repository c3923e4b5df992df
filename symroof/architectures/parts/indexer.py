"""The indexer of sparse attention: what selects the keys that the queries of a layer attend to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr

from symroof import symbols
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Operator, Space, Storage, Tensor, axes_of
from symroof.operators.attention import POSITION_BITS, index_scores, rotary, select_keys
from symroof.operators.elementwise import Norm, norm
from symroof.operators.linear import linear

INDEXER = "indexer"
"""The name that refers to all operators of an indexer."""


@dataclass(frozen=True)
class Indexer:
    """Light queries, one light key per token in a cache of its own, a score of every pair, and the best ``k_i`` keys of each query.

    Attributes
    ----------
    reused : whether the layer takes the selection of an earlier layer instead.

    Source: DeepSeek-AI (2025), arXiv:2512.02556; Transformers' DeepseekV32Indexer and, for reused selections, GlmMoeDsaAttention.
    """

    reused: bool = False

    def axes(self) -> dict[str, Expr]:
        return {} if self.reused else {"h_i": symbols.h_i, "e_i": symbols.e_i}

    def __call__(self, record: BlockBuilder, x: Tensor, queries: Tensor, space: Space, attended: Space) -> Tensor:
        """Record the operators and return the selected positions.

        Parameters
        ----------
        queries : the compressed queries, ``b s r_q``.
        space, attended : of all keys, and of those that are selected.
        """
        if self.reused:
            return Tensor("selected_keys", axes_of("b s t"), Storage.ACTIVATION, attended, POSITION_BITS)

        def add(operator: Operator) -> Tensor:
            return record(replace(operator, answers_to=operator.answers_to | {INDEXER}))

        keys = Tensor("index_cache", axes_of("b t e_i"), Storage.KV_CACHE, space)
        table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
        q = add(linear("index_q_proj", "b s r_q, r_q h_i e_i -> b s h_i e_i", queries))
        q = add(rotary("index_q_rotary", q, table))
        k = add(linear("index_k_proj", "b s d, d e_i -> b s e_i", x))
        k = add(norm("index_k_norm", k, Norm.LAYER, bias=True, over=("e_i",)))
        add(rotary("index_k_rotary", k, table, into=keys))
        weights = add(linear("index_weights_proj", "b s d, d h_i -> b s h_i", x))
        return add(select_keys(add(index_scores(q, keys, weights)), attended))
