"""Mixtral, GPT-OSS and ERNIE 4.5: attention as in other families, and experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer
from symroof.architectures.families.llama import RMS, silu_by_default
from symroof.architectures.families.schema import LAYER_TYPES, by_period, expert_sizes, positions, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Experts, Mlp

UNUSED = ("moe_intermediate_size", "moe_num_experts", "num_experts", "moe_k", "num_experts_per_tok")
"""Sizes that stand in an ERNIE config even where no layer has experts."""


@dataclass(frozen=True)
class Mixtral(Decoder):
    """Mistral's block with eight experts, two per token.

    Source: Jiang et al. (2024), arXiv:2401.04088; config fields as in Transformers' MixtralConfig.
    """

    family = "mixtral"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        window = fields.size("sliding_window", None)
        sizes = transformer_sizes(fields, kv_heads=8) | expert_sizes(
            fields, width="intermediate_size", defaults={"experts": 8, "chosen": 2}
        )
        return cls(
            sizes | {symbols.L: fields.layers("num_hidden_layers")} | ({symbols.W: window} if window else {}),
            positions(fields),
            (Layer("layer", Attention(), Experts(silu_by_default(fields)), window=window is not None),),
            RMS,
            tied=fields.flag("tie_word_embeddings", False),
        )


@dataclass(frozen=True)
class GptOss(Decoder):
    """A window of 128 tokens in every other layer, a learned score per head in each softmax, biases on all, experts included.

    Source: OpenAI (2025), gpt-oss model card, arXiv:2508.10925; config fields as in Transformers' GptOssConfig.
    """

    family = "gpt_oss"
    ignored_fields = (*COMMON, "swiglu_alpha", "swiglu_limit", "initial_context_length")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        count, bias = fields.layers("num_hidden_layers"), fields.flag("attention_bias", True)
        mixers = fields.words("layer_types", LAYER_TYPES, count) or by_period(count, 2, 0, "sliding", "full")
        attention = Attention(bias=bias, out_bias=bias, sinks=True)
        experts = Experts(silu_by_default(fields), bias=True, router_bias=True)
        counts, layers = stack(mixers, ["moe"] * count, {"full": attention, "sliding": attention, "moe": experts})
        sizes = transformer_sizes(fields, kv_heads=8, head_dim=64)
        sizes |= expert_sizes(fields, width="intermediate_size", defaults={"experts": 128, "chosen": 4})
        return cls(
            sizes | {symbols.W: fields.size("sliding_window", 128)} | dict(counts),
            positions(fields),
            layers,
            RMS,
            tied=fields.flag("tie_word_embeddings", False),
        )


@dataclass(frozen=True)
class Ernie45Moe(Decoder):
    """Dense layers at the start, then experts with shared ones; the router keeps a bias per expert.

    Source: Baidu (2025), ERNIE 4.5 technical report; config fields as in Transformers' Ernie4_5_MoeConfig.
    """

    family = "ernie4_5_moe"
    ignored_fields = (*COMMON, "moe_capacity", "moe_norm_min", "moe_gate", "moe_use_aux_free", "num_nextn_predict_layers", *UNUSED)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        count, bias = fields.layers("num_hidden_layers"), fields.flag("use_bias", False)
        period, first = fields.size("moe_layer_interval", 1), fields.size("moe_layer_start_index", 1, low=0)
        last = fields.size("moe_layer_end_index", -1, low=-1)
        final = count - 1 if last == -1 else last
        mlps = ["moe" if (number + 1) % period == 0 and first <= number <= final else "dense" for number in range(count)]
        activation, common = silu_by_default(fields), fields.size("moe_num_shared_experts", 2, low=0)
        sizes = transformer_sizes(fields, kv_heads=4) | {symbols.f: fields.size("intermediate_size")}
        if "moe" in mlps:
            sizes |= expert_sizes(fields, width="moe_intermediate_size", defaults={"experts": 64, "chosen": 6})
            sizes |= {symbols.f_s: common * sizes[symbols.f_e]} if common else {}
        shared = Mlp(activation, bias=bias, width="f_s", name="shared_") if common else None
        parts = {
            "full": Attention(bias=bias, out_bias=bias),
            "dense": Mlp(activation, bias=bias),
            "moe": Experts(activation, correction=True, shared=shared),
        }
        counts, layers = stack(["full"] * count, mlps, parts)
        return cls(
            sizes | dict(counts),
            positions(fields),
            layers,
            RMS,
            tied=fields.flag("tie_word_embeddings", True),
            head_bias=bias,
        )
