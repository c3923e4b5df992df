"""Qwen3-Next: three layers of the gated delta rule, then one of full attention, all with many experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from symroof import symbols
from symroof.architectures.decoder import Decoder
from symroof.architectures.families.qwen import UNUSED, sparse
from symroof.architectures.families.schema import last_of_each, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.recurrent import GatedDelta
from symroof.operators.norm import Norm


@dataclass(frozen=True)
class Qwen3Next(Decoder):
    """Gated attention every fourth layer, linear attention in the others.

    Source: Qwen team (2025), Qwen3-Next; Yang, Kautz and Hatamizadeh (2024), arXiv:2412.06464; config fields
    as in Transformers' Qwen3NextConfig.
    """

    family = "qwen3_next"
    ignored_fields = (*COMMON, *UNUSED, "use_sliding_window")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        count, bias = fields.layers("num_hidden_layers"), fields.flag("attention_bias", False)
        interval = fields.size("full_attention_interval", 4)
        words = {"full_attention": "full", "linear_attention": "linear"}
        mixers = fields.words("layer_types", words, count) or last_of_each(count, interval, "full", "linear")
        keys, values = fields.size("linear_num_key_heads", 16), fields.size("linear_num_value_heads", 32)
        fields.divides("linear_num_value_heads", values, "linear_num_key_heads", keys)
        sizes = transformer_sizes(fields, kv_heads=2, head_dim=256, rotary="0.25") | {
            symbols.k_l: keys,
            symbols.h_l: values,
            symbols.e_k: fields.size("linear_key_head_dim", 128),
            symbols.e_l: fields.size("linear_value_head_dim", 128),
            symbols.k_c: fields.size("linear_conv_kernel_dim", 4),
        }
        attention = Attention(bias=bias, out_bias=bias, qk_norm=Norm.RMS, gated=True)
        return cls(**sparse(fields, sizes, mixers, {"full": attention, "linear": GatedDelta()}, shared=True))
