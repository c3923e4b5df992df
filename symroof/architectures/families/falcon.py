"""Falcon: attention and MLP side by side; one KV head (7b), or a few with a norm for each half (40b, 180b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer
from symroof.architectures.families.phi import LAYER_NORM
from symroof.architectures.families.schema import positions
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import ACTIVATIONS


@dataclass(frozen=True)
class Falcon(Decoder):
    """Layer norms, rotary embedding or ALiBi, a plain MLP, as a rule no biases.

    Source: Almazrouei et al. (2023), arXiv:2311.16867; config fields as in Transformers' FalconConfig.
    """

    family = "falcon"
    ignored_fields = (*COMMON, "ff_factor", "apply_residual_connection_post_layernorm")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        name = fields.named("hidden_size", "n_embed")
        many = fields.named("num_attention_heads", "n_head")
        hidden, heads = fields.size(name), fields.size(many)
        head_dim = fields.divides(name, hidden, many, heads)
        new, parallel, bias = fields.flag("new_decoder_architecture", False), fields.flag("parallel_attn", True), fields.flag("bias", False)
        norms = fields.size("num_ln_in_parallel_attn", 2 if new else 1, high=2)
        if norms == 2 and parallel and not new:
            raise fields.error("num_ln_in_parallel_attn is 2; only 1 is understood without new_decoder_architecture")
        if new and not parallel:
            raise fields.error("parallel_attn is false; only true is understood with new_decoder_architecture")
        turned = not fields.flag("alibi", False)
        sizes = {
            symbols.d: hidden,
            symbols.f: fields.size("ffn_hidden_size", 4 * hidden),
            symbols.h: heads,
            symbols.k: cls._kv_heads(fields, heads, new),
            symbols.e: head_dim,
            symbols.v: fields.size("vocab_size"),
            symbols.L: fields.layers(fields.named("num_hidden_layers", "n_layer")),
        }
        mlp = Mlp(fields.choice("activation", ACTIVATIONS, "gelu"), gated=False, bias=bias)
        return cls(
            sizes | ({symbols.r: head_dim} if turned else {}),
            positions(fields),
            (Layer("layer", Attention(bias=bias, out_bias=bias, rotary=turned, biased=not turned), mlp),),
            LAYER_NORM,
            tied=fields.flag("tie_word_embeddings", True),
            parallel=parallel,
            shared_norm=norms == 1,
        )

    @staticmethod
    def _kv_heads(fields: Fields, heads: int, new: bool) -> int:
        single = fields.flag("multi_query", True)
        name = fields.named("num_kv_heads", "n_head_kv")
        stated = fields.size(name, heads)
        if new:
            fields.divides("num_attention_heads", heads, name, stated)
            return stated
        if not single and stated != heads:
            raise fields.error(f"{name} is {stated}; expected {heads}, as many as query heads, where multi_query is false")
        return 1 if single else heads
