"""Gemma 1, 2 and 3: wide heads, tied embeddings, a scaled embedding; norms on both ends and windows from 2 on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer, Norms
from symroof.architectures.families.schema import LAYER_TYPES, last_of_each, positions, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import ACTIVATIONS
from symroof.operators.norm import Norm

SANDWICH = Norms(Norm.RMS, after=True)
EMBEDDING_SCALED = frozenset({"embedding"})
GELU = "gelu_pytorch_tanh"


@dataclass(frozen=True)
class Gemma(Decoder):
    """Llama's block with heads of 256 components and a GELU gate.

    Source: Gemma team (2024), arXiv:2403.08295; config fields as in Transformers' GemmaConfig, which takes
    "gelu" for its tanh approximation.
    """

    family = "gemma"
    ignored_fields = (*COMMON, "hidden_activation")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", False)
        activation = fields.choice("hidden_act", ACTIVATIONS | {"gelu": "gelu_tanh"}, GELU)
        return cls(
            transformer_sizes(fields, kv_heads=16, head_dim=256)
            | {symbols.f: fields.size("intermediate_size"), symbols.L: fields.layers("num_hidden_layers")},
            positions(fields),
            (Layer("layer", Attention(bias=bias, out_bias=bias), Mlp(activation)),),
            Norms(Norm.RMS),
            tied=fields.flag("tie_word_embeddings", True),
            scaled=EMBEDDING_SCALED,
        )


@dataclass(frozen=True)
class Gemma2(Decoder):
    """A sliding window in every other layer, the first included; scores and logits are softly capped.

    Source: Gemma team (2024), arXiv:2408.00118; config fields as in Transformers' Gemma2Config.
    """

    family = "gemma2"
    ignored_fields = (*COMMON, "query_pre_attn_scalar", "hidden_act", "cache_implementation")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**_alternating(fields, period=2, norm=None, activation="hidden_activation", capped=True))


@dataclass(frozen=True)
class Gemma3(Decoder):
    """Five layers with a sliding window, then one without; a norm on every query and key.

    Source: Gemma team (2025), arXiv:2503.19786; config fields as in Transformers' Gemma3TextConfig.
    """

    family = "gemma3"
    ignored_fields = (*COMMON, "query_pre_attn_scalar", "hidden_act", "_sliding_window_pattern")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.fixed("use_bidirectional_attention", False, "a decoder looks back only")
        period = fields.size("sliding_window_pattern", 6)
        return cls(**_alternating(fields, period=period, norm=Norm.RMS, activation="hidden_activation", capped=False))


def _alternating(fields: Fields, *, period: int, norm: Norm | None, activation: str, capped: bool) -> dict[str, Any]:
    """Layers with a window, and the last of every *period* without; capped where absent softcaps mean the published ones."""
    fields.plain()
    count, bias = fields.layers("num_hidden_layers"), fields.flag("attention_bias", False)
    mixers = fields.words("layer_types", LAYER_TYPES, count) or last_of_each(count, period, "full", "sliding")
    attention = Attention(bias=bias, out_bias=bias, qk_norm=norm, softcap=fields.measured("attn_logit_softcapping", capped))
    mlp = Mlp(fields.choice(activation, ACTIVATIONS, GELU))
    counts, layers = stack(mixers, ["dense"] * count, {"full": attention, "sliding": attention, "dense": mlp})
    sizes = transformer_sizes(fields, kv_heads=4, head_dim=256) | {symbols.f: fields.size("intermediate_size")}
    return {
        "dimensions": sizes | {symbols.W: fields.size("sliding_window", 4096)} | dict(counts),
        "max_positions": positions(fields),
        "layers": layers,
        "norms": SANDWICH,
        "tied": fields.flag("tie_word_embeddings", True),
        "scaled": EMBEDDING_SCALED,
        "final_softcap": fields.measured("final_logit_softcapping", capped),
    }
