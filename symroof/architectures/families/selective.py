"""Decoders with sparse attention, whose queries attend to keys that an indexer selects: DeepSeek V3.2, GLM-5."""

from __future__ import annotations

from typing import Any

from sympy import Symbol

from symroof import symbols
from symroof.architectures.families.family import DecoderFamily, LayerRule
from symroof.architectures.families.layouts import dense_first, listed
from symroof.architectures.families.recipes import BIAS, PartReader, latent, latent_sizes, mlp
from symroof.architectures.families.sparse import DEEPSEEK, deepseek_experts
from symroof.architectures.fields import Fields
from symroof.architectures.parts.attention import LatentAttention
from symroof.architectures.parts.indexer import Indexer
from symroof.architectures.parts.part import Part

MLP_TYPES = {"dense": "dense", "sparse": "moe"}
INDEXED = {"indexed_attention": "sparse", "deepseek_sparse_attention": "sparse"}


def sparse_latent(heads: int, queries: int, *, reused: bool = False, nope: int = 128, values: int = 128) -> PartReader:
    """Latent attention to selected keys.

    Parameters
    ----------
    heads, queries, nope, values : absent heads of the indexer, rank of the queries, and components of keys and values.
    reused : whether the layer takes the selection of an earlier one.
    """

    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        rank = fields.size("q_lora_rank", queries)
        sizes = latent_sizes(fields, nope=nope, values=values) | {symbols.r_q: rank, symbols.k_i: fields.size("index_topk", 2048)}
        width, turned = fields.size("index_head_dim", 128), sizes[symbols.r]
        if width < turned:
            raise fields.error(f"index_head_dim is {width}; expected at least qk_rope_head_dim, {turned}")
        of_indexer = {symbols.h_i: fields.size("index_n_heads", heads), symbols.e_i: width}
        part = LatentAttention(compressed_queries=True, bias=BIAS(fields), selection=Indexer(reused))
        return part, sizes | ({} if reused else of_indexer)

    return read


def indexed_layers(reusing: LayerRule | None = None) -> LayerRule:
    """Sparse attention in every layer, some of which may take the selection of an earlier one."""

    def rule(fields: Fields, count: int) -> list[str]:
        plain = fields.words("layer_types", INDEXED, count) or ["sparse"] * count
        return list(reusing(fields, count)) if reusing else plain

    return rule


def shared_selections(fields: Fields, count: int) -> list[str]:
    """Layers with an indexer, and layers that take the selection of the last one with an indexer, as GLM-5's fields say it."""
    words, letters = {"full": "sparse", "shared": "reused"}, {"F": "sparse", "S": "reused"}
    pattern = None if isinstance(fields.peek("index_topk_pattern"), list) else fields.pattern("index_topk_pattern", letters)
    if pattern is not None and len(pattern) < count:
        raise fields.error(f"index_topk_pattern has {len(pattern)} characters; expected num_hidden_layers, {count}")
    period, first = fields.size("index_topk_freq", 1), fields.size("index_skip_topk_offset", 2, low=0)
    mixers = (
        fields.words("indexer_types", words, count)
        or (pattern[:count] if pattern else fields.words("index_topk_pattern", words, count))
        or ["reused" if max(number - first + 1, 0) % period else "sparse" for number in range(count)]
    )
    if mixers[0] == "reused":
        raise fields.error("the first layer takes the selection of an earlier one; expected one with an indexer")
    return mixers


GLM: dict[str, Any] = {"nope": 192, "values": 256}
LATENT: dict[str, Any] = {
    "only_understood": DEEPSEEK["only_understood"],
    "ignored": (*DEEPSEEK["ignored"], "first_k_dense_replace", "mlp_bias", "indexer_rope_interleave", "partial_rotary_factor"),
}

SELECTIVE = (
    DecoderFamily(
        "deepseek_v32",
        "DeepSeek-AI (2025), arXiv:2512.02556; Transformers' DeepseekV32Config",
        {"sparse": sparse_latent(64, 1536), "dense": mlp(), "moe": deepseek_experts(1, count=256, chosen=8)},
        mixers=indexed_layers(),
        mlps=listed(dense_first(3), "mlp_layer_types", MLP_TYPES),
        **LATENT,
    ),
    DecoderFamily(
        "glm_moe_dsa",
        "Z.ai (2026), GLM-5; Transformers' GlmMoeDsaConfig",
        {
            "sparse": sparse_latent(32, 2048, **GLM),
            "reused": sparse_latent(32, 2048, reused=True, **GLM),
            "dense": mlp(),
            "moe": deepseek_experts(1, count=256, chosen=8),
        },
        mixers=indexed_layers(shared_selections),
        mlps=listed(dense_first(3), "mlp_layer_types", MLP_TYPES),
        **LATENT,
    ),
    DecoderFamily(
        "glm4_moe_lite",
        "GLM team (2026), GLM-4.7-Flash; Transformers' Glm4MoeLiteConfig",
        {"full": latent(768, **GLM), "dense": mlp(), "moe": deepseek_experts(1, count=64, chosen=4)},
        mlps=listed(lambda fields, count: ["dense"] + ["moe"] * (count - 1), "mlp_layer_types", MLP_TYPES),
        **LATENT,
    ),
)
