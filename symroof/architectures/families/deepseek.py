"""DeepSeek-V2, V3 and what follows them (R1, Kimi K2): multi-head latent attention, dense layers first, then many experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder
from symroof.architectures.families.glm import UNUSED, dense_first
from symroof.architectures.families.schema import transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.latent import LatentAttention

DEEPSEEK_COMMON = (*COMMON, *UNUSED, "num_nextn_predict_layers", "qk_head_dim", "head_dim", "num_key_value_heads")


@dataclass(frozen=True)
class DeepseekV2(Decoder):
    """Latent attention, with compressed queries but in the Lite model.

    Source: DeepSeek-AI (2024), arXiv:2405.04434; config fields as in Transformers' DeepseekV2Config.
    """

    family = "deepseek_v2"
    ignored_fields = DEEPSEEK_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        defaults = {"first": 0, "shared": 2, "experts": 64}
        return cls(**_latent(fields, defaults, mlp_bias=fields.flag("mlp_bias", False)))


@dataclass(frozen=True)
class DeepseekV3(Decoder):
    """256 experts of a layer, eight per token; layers that predict a second token are not part of a step.

    Source: DeepSeek-AI (2024), arXiv:2412.19437; config fields as in Transformers' DeepseekV3Config.
    """

    family = "deepseek_v3"
    ignored_fields = DEEPSEEK_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**_latent(fields, {"first": 3, "shared": 1, "experts": 256, "chosen": 8}))


def _latent(fields: Fields, defaults: dict[str, int], *, mlp_bias: bool = False) -> dict[str, Any]:
    fields.plain()
    fields.fixed("moe_layer_freq", 1, "every layer behind the dense ones has experts")
    queries = fields.size("q_lora_rank", 1536, null=None)
    sizes = {
        symbols.d: fields.size("hidden_size"),
        symbols.h: fields.size("num_attention_heads"),
        symbols.r_kv: fields.size("kv_lora_rank", 512),
        symbols.r: fields.size("qk_rope_head_dim", 64),
        symbols.e_n: fields.size("qk_nope_head_dim", 128),
        symbols.e_v: fields.size("v_head_dim", 128),
        symbols.v: fields.size("vocab_size"),
    } | ({symbols.r_q: queries} if queries else {})
    attention = LatentAttention(compressed_queries=queries is not None, bias=fields.flag("attention_bias", False))
    return dense_first(fields, sizes, attention, defaults=defaults, mlp_bias=mlp_bias)


@dataclass(frozen=True)
class Deepseek(Decoder):
    """DeepSeekMoE-16b: Llama's attention, dense layers first, then fine experts with shared ones.

    Source: Dai et al. (2024), arXiv:2401.06066; config fields as in deepseek-ai/deepseek-moe-16b-base on the hub.
    """

    family = "deepseek"
    ignored_fields = DEEPSEEK_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        fields.fixed("moe_layer_freq", 1, "every layer behind the dense ones has experts")
        bias = fields.flag("attention_bias", False)
        defaults = {"first": 0, "shared": 0}
        return cls(**dense_first(fields, transformer_sizes(fields), Attention(bias=bias, out_bias=bias), defaults=defaults))
