"""BLOOM: GPT-2's block with a bias by distance (ALiBi) in the place of learned positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer
from symroof.architectures.families.phi import LAYER_NORM
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp

MLP_RATIO = 4
"""Fixed in Transformers' BloomMLP."""


@dataclass(frozen=True)
class Bloom(Decoder):
    """A norm behind the embedding, biases everywhere, a bias by distance on every score.

    Source: BigScience (2022), arXiv:2211.05100; config fields as in Transformers' BloomConfig.
    """

    family = "bloom"
    ignored_fields = (
        *COMMON,
        "apply_residual_connection_post_layernorm",
        "attention_softmax_in_fp32",
        "n_inner",
        "unk_token",
        "skip_bias_add",
        "skip_bias_add_qkv",
    )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        name = fields.named("hidden_size", "n_embed")
        many = fields.named("n_head", "num_attention_heads")
        hidden, heads = fields.size(name), fields.size(many)
        sizes = {
            symbols.d: hidden,
            symbols.f: MLP_RATIO * hidden,
            symbols.h: heads,
            symbols.e: fields.divides(name, hidden, many, heads),
            symbols.v: fields.size("vocab_size"),
            symbols.L: fields.layers(fields.named("n_layer", "num_hidden_layers")),
        }
        attention = Attention(bias=True, out_bias=True, rotary=False, biased=True, grouped=False)
        return cls(
            sizes,
            None,
            (Layer("layer", attention, Mlp("gelu_tanh", gated=False, bias=True)),),
            LAYER_NORM,
            tied=fields.flag("tie_word_embeddings", True),
            embedding_norm=True,
        )
