"""Llama, and the families that keep its block: Mistral, Phi-3, SmolLM3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer, Norms
from symroof.architectures.families.schema import LAYER_TYPES, positions, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import ACTIVATIONS
from symroof.operators.norm import Norm

RMS = Norms(Norm.RMS)


@dataclass(frozen=True)
class Llama(Decoder):
    """RMSNorm, rotary embedding, grouped-query attention, gated MLP.

    Source: Touvron et al. (2023), arXiv:2307.09288; config fields as in Transformers' LlamaConfig.
    """

    family = "llama"
    ignored_fields = (*COMMON, "is_llama_config")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", False)
        return cls(
            transformer_sizes(fields) | {symbols.f: fields.size("intermediate_size"), symbols.L: fields.layers("num_hidden_layers")},
            positions(fields),
            (Layer("layer", Attention(bias=bias, out_bias=bias), Mlp(silu_by_default(fields), bias=fields.flag("mlp_bias", False))),),
            RMS,
            tied=fields.flag("tie_word_embeddings", False),
        )


@dataclass(frozen=True)
class Mistral(Decoder):
    """Llama's block without biases, every layer with a sliding window where the config gives one.

    Source: Jiang et al. (2023), arXiv:2310.06825; config fields as in Transformers' MistralConfig.
    """

    family = "mistral"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**windowed(fields, kv_heads=8, window=4096))


@dataclass(frozen=True)
class Phi3(Decoder):
    """Llama's block; the published code fuses q, k, v and gate, up, which are counted apart here.

    Source: Abdin et al. (2024), arXiv:2404.14219; config fields as in Transformers' Phi3Config.
    """

    family = "phi3"
    ignored_fields = (*COMMON, "attention_bias")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        for name in ("mlp_bias", "lm_head_bias"):
            fields.fixed(name, False, "Transformers' class has no such bias")
        return cls(**windowed(fields))


def windowed(fields: Fields, *, kv_heads: int | None = None, window: int | None = None) -> dict[str, Any]:
    """Llama's block without biases, and with a sliding window in every layer or none.

    Parameters
    ----------
    kv_heads, window : what an absent ``num_key_value_heads`` and an absent ``sliding_window`` mean; null means none.
    """
    fields.plain()
    width = fields.size("sliding_window", window, null=None)
    sizes = transformer_sizes(fields, kv_heads=kv_heads) | {
        symbols.f: fields.size("intermediate_size"),
        symbols.L: fields.layers("num_hidden_layers"),
    }
    return {
        "dimensions": sizes | ({symbols.W: width} if width else {}),
        "max_positions": positions(fields),
        "layers": (Layer("layer", Attention(), Mlp(silu_by_default(fields)), window=width is not None),),
        "norms": RMS,
        "tied": fields.flag("tie_word_embeddings", False),
    }


@dataclass(frozen=True)
class SmolLM3(Decoder):
    """Llama's block; every fourth layer without rotary embedding.

    Source: config fields as in Transformers' SmolLM3Config.
    """

    family = "smollm3"
    ignored_fields = (*COMMON, "max_window_layers", "use_sliding_window")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        count, bias = fields.layers("num_hidden_layers"), fields.flag("attention_bias", False)
        period, window = fields.size("no_rope_layer_interval", 4), fields.size("sliding_window", None)
        turning = fields.switches("no_rope_layers", count) or [(number + 1) % period != 0 for number in range(count)]
        windowed = window is not None and fields.flag("use_sliding_window", False)
        kinds = fields.words("layer_types", LAYER_TYPES, count)
        kinds = kinds or ["sliding" if windowed and not turns else "full" for turns in turning]
        if "sliding" in kinds and window is None:
            raise fields.error("layer_types holds 'sliding_attention', but sliding_window is missing")
        plain, still = Attention(bias=bias, out_bias=bias), Attention(bias=bias, out_bias=bias, rotary=False)
        counts, layers = stack(
            [kind if turns or kind == "sliding" else "nope" for kind, turns in zip(kinds, turning, strict=True)],
            ["dense"] * count,
            {
                "full": plain,
                "nope": still,
                "sliding": still if windowed else plain,
                "dense": Mlp(silu_by_default(fields), bias=fields.flag("mlp_bias", False)),
            },
        )
        sizes = transformer_sizes(fields, kv_heads=4) | {symbols.f: fields.size("intermediate_size")}
        return cls(
            sizes | ({symbols.W: window} if window and "sliding" in kinds else {}) | dict(counts),
            positions(fields),
            layers,
            RMS,
            tied=fields.flag("tie_word_embeddings", True),
        )


def silu_by_default(fields: Fields) -> str:
    """The activation function; SiLU where the config does not say."""
    return fields.choice("hidden_act", ACTIVATIONS, "silu")
