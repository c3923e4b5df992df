"""Granite: Llama's block with multipliers; with experts (GraniteMoe); with Mamba-2 layers (Granite 4, hybrid)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer
from symroof.architectures.families.llama import RMS, silu_by_default
from symroof.architectures.families.schema import expert_sizes, positions, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.recurrent import Mamba2

MULTIPLIERS = {"embedding_multiplier": "embedding", "residual_multiplier": "residual", "logits_scaling": "logits"}
UNUSED = (
    *("num_experts_per_tok", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("mamba_expand", "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv"),
)
"""Sizes that stand in a hybrid's config even where no layer is of the kind they belong to."""
GRANITE_COMMON = (*COMMON, "attention_multiplier")


def multipliers(fields: Fields) -> frozenset[str]:
    """Where a multiplier stands."""
    return frozenset(place for name, place in MULTIPLIERS.items() if fields.measured(name, absent=False))


@dataclass(frozen=True)
class Granite(Decoder):
    """Multipliers on the embedding, on what each half gives, and on the logits.

    Source: IBM (2024), Granite 3.0; config fields as in Transformers' GraniteConfig.
    """

    family = "granite"
    ignored_fields = GRANITE_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        mlp = Mlp(silu_by_default(fields), bias=fields.flag("mlp_bias", False))
        return cls(**_uniform(fields, {symbols.f: fields.size("intermediate_size")}, mlp))


@dataclass(frozen=True)
class GraniteMoe(Decoder):
    """Small experts in every layer.

    Source: IBM (2024), Granite 3.0; config fields as in Transformers' GraniteMoeConfig.
    """

    family = "granitemoe"
    ignored_fields = GRANITE_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        sizes = expert_sizes(fields, width="intermediate_size", defaults={"experts": 8, "chosen": 2})
        return cls(**_uniform(fields, sizes, Experts(silu_by_default(fields))))


def _uniform(fields: Fields, sizes: dict[Any, int], mlp: Any) -> dict[str, Any]:
    fields.plain()
    bias = fields.flag("attention_bias", False)
    return {
        "dimensions": transformer_sizes(fields) | sizes | {symbols.L: fields.layers("num_hidden_layers")},
        "max_positions": positions(fields),
        "layers": (Layer("layer", Attention(bias=bias, out_bias=bias), mlp),),
        "norms": RMS,
        "tied": fields.flag("tie_word_embeddings", False),
        "scaled": multipliers(fields),
    }


@dataclass(frozen=True)
class GraniteMoeHybrid(Decoder):
    """Mamba-2 layers with a few attention layers among them; a shared MLP in each, with or without experts.

    Source: IBM (2025), Granite 4.0; config fields as in Transformers' GraniteMoeHybridConfig.
    """

    family = "granitemoehybrid"
    ignored_fields = (*GRANITE_COMMON, "mamba_chunk_size", "normalization_function", "init_method", *UNUSED)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        count, bias = fields.layers("num_hidden_layers"), fields.flag("attention_bias", False)
        words = {"mamba": "mamba", "attention": "full", "linear_attention": "mamba", "full_attention": "full"}
        mixers = fields.words(fields.named("layer_types", "layers_block_type"), words, count) or ["mamba"] * count
        turned = fields.choice("position_embedding_type", {"rope": True, "nope": False, "none": False}, "none")
        experts = fields.size("num_local_experts", 8, low=0)
        shared = Mlp(silu_by_default(fields), width="f_s", name="shared_" if experts else "")
        sizes = transformer_sizes(fields) if "full" in mixers else _without_attention(fields)
        sizes |= {symbols.f_s: fields.size("shared_intermediate_size", 1024)}
        if experts:
            sizes |= expert_sizes(fields, width="intermediate_size", defaults={"experts": 8, "chosen": 2})
        if "mamba" in mixers:
            sizes |= _mamba_sizes(fields, sizes[symbols.d])
        parts = {
            "full": Attention(bias=bias, out_bias=bias, rotary=turned),
            "mamba": Mamba2(bias=fields.flag("mamba_proj_bias", False), conv_bias=fields.flag("mamba_conv_bias", True)),
            "mlp": Experts(silu_by_default(fields), shared=shared) if experts else shared,
        }
        counts, layers = stack(mixers, ["mlp"] * count, parts)
        return cls(
            sizes | dict(counts),
            positions(fields),
            layers,
            RMS,
            tied=fields.flag("tie_word_embeddings", False),
            scaled=multipliers(fields),
        )


def _without_attention(fields: Fields) -> dict[Any, int]:
    return {symbols.d: fields.size("hidden_size"), symbols.v: fields.size("vocab_size")}


def _mamba_sizes(fields: Fields, hidden: int) -> dict[Any, int]:
    inner, heads = fields.multiple("mamba_expand", 2, of=hidden), fields.size("mamba_n_heads", 128)
    width = fields.divides("mamba_expand x hidden_size", inner, "mamba_n_heads", heads)
    if not fields.says("mamba_d_head", "auto"):
        stated = fields.size("mamba_d_head", width)
        if stated != width:
            raise fields.error(f"mamba_d_head is {stated}; expected {width}, mamba_expand x hidden_size / mamba_n_heads")
    groups = fields.size("mamba_n_groups", 1)
    fields.divides("mamba_n_heads", heads, "mamba_n_groups", groups)
    return {
        symbols.h_s: heads,
        symbols.e_s: width,
        symbols.g_s: groups,
        symbols.d_s: fields.size("mamba_d_state", 256),
        symbols.k_c: fields.size("mamba_d_conv", 4),
    }
