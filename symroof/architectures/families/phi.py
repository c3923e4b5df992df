"""Phi (1, 1.5, 2) and Phi-3.5-MoE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer, Norms
from symroof.architectures.families.llama import silu_by_default
from symroof.architectures.families.schema import expert_sizes, heads_fill, positions, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.part import ACTIVATIONS
from symroof.operators.norm import Norm

LAYER_NORM = Norms(Norm.LAYER, bias=True)


@dataclass(frozen=True)
class Phi(Decoder):
    """Attention and a plain MLP side by side behind one norm, biases everywhere, the LM head included.

    Source: Li et al. (2023), arXiv:2309.05463; config fields as in Transformers' PhiConfig.
    """

    family = "phi"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        qk_norm = Norm.LAYER if fields.flag("qk_layernorm", False) else None
        sizes = transformer_sizes(fields, rotary="0.5")
        if qk_norm:
            heads_fill(fields, sizes)
        return cls(
            sizes | {symbols.f: fields.size("intermediate_size"), symbols.L: fields.layers("num_hidden_layers")},
            positions(fields),
            (
                Layer(
                    "layer",
                    Attention(bias=True, out_bias=True, qk_norm=qk_norm, qk_bias=True),
                    Mlp(fields.choice("hidden_act", ACTIVATIONS, "gelu_new"), gated=False, bias=True),
                ),
            ),
            LAYER_NORM,
            tied=fields.flag("tie_word_embeddings", False),
            head_bias=True,
            parallel=True,
            shared_norm=True,
        )


@dataclass(frozen=True)
class PhiMoe(Decoder):
    """Sixteen experts, two per token, behind layer norms with biases.

    Source: Abdin et al. (2024), arXiv:2404.14219; config fields as in Transformers' PhimoeConfig.
    """

    family = "phimoe"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", False)
        window = fields.size("sliding_window", None)
        sizes = transformer_sizes(fields, kv_heads=8) | expert_sizes(
            fields, width="intermediate_size", defaults={"experts": 16, "chosen": 2}
        )
        return cls(
            sizes | {symbols.L: fields.layers("num_hidden_layers")} | ({symbols.W: window} if window else {}),
            positions(fields),
            (Layer("layer", Attention(bias=bias, out_bias=bias), Experts(silu_by_default(fields)), window=window is not None),),
            LAYER_NORM,
            tied=fields.flag("tie_word_embeddings", False),
            head_bias=fields.flag("lm_head_bias", False),
        )
