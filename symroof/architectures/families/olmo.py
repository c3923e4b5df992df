"""OLMo: norms without parameters (1), behind each half with normed queries and keys (2, 3), mixture of experts (OLMoE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer, Norms
from symroof.architectures.families.llama import RMS, silu_by_default
from symroof.architectures.families.schema import LAYER_TYPES, expert_sizes, heads_fill, last_of_each, positions, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import PER_HEAD_AND_COMPONENT, Attention
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.operators.norm import Norm

OLMO_COMMON = (*COMMON, "clip_qkv")
BEHIND = Norms(Norm.RMS, before=False, after=True)


@dataclass(frozen=True)
class Olmo(Decoder):
    """Llama's block with layer norms that have neither weight nor bias.

    Source: Groeneveld et al. (2024), arXiv:2402.00838; config fields as in Transformers' OlmoConfig.
    """

    family = "olmo"
    ignored_fields = OLMO_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", False)
        return cls(
            transformer_sizes(fields) | {symbols.f: fields.size("intermediate_size"), symbols.L: fields.layers("num_hidden_layers")},
            positions(fields),
            (Layer("layer", Attention(bias=bias, out_bias=bias), Mlp(silu_by_default(fields))),),
            Norms(Norm.LAYER, weight=False),
            tied=fields.flag("tie_word_embeddings", False),
        )


@dataclass(frozen=True)
class Olmo2(Decoder):
    """A norm on what each half gives, and on all queries and all keys of a token together.

    Source: OLMo team (2024), arXiv:2501.00656; config fields as in Transformers' Olmo2Config.
    """

    family = "olmo2"
    ignored_fields = OLMO_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**_behind(fields, ["full"] * fields.layers("num_hidden_layers")))


@dataclass(frozen=True)
class Olmo3(Decoder):
    """OLMo 2 with a sliding window in three of four layers.

    Source: Ai2 (2025), OLMo 3; config fields as in Transformers' Olmo3Config.
    """

    family = "olmo3"
    ignored_fields = OLMO_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        count = fields.layers("num_hidden_layers")
        mixers = fields.words("layer_types", LAYER_TYPES, count) or last_of_each(count, 4, "full", "sliding")
        return cls(**_behind(fields, mixers, {symbols.W: fields.size("sliding_window", 4096)}))


def _behind(fields: Fields, mixers: list[str], more: dict[Any, int] | None = None) -> dict[str, Any]:
    fields.plain()
    bias = fields.flag("attention_bias", False)
    attention = Attention(bias=bias, out_bias=bias, qk_norm=Norm.RMS, qk_weights=PER_HEAD_AND_COMPONENT)
    parts = {"full": attention, "sliding": attention, "dense": Mlp(silu_by_default(fields))}
    counts, layers = stack(mixers, ["dense"] * len(mixers), parts)
    return {
        "dimensions": transformer_sizes(fields) | {symbols.f: fields.size("intermediate_size")} | (more or {}) | dict(counts),
        "max_positions": positions(fields),
        "layers": layers,
        "norms": BEHIND,
        "tied": fields.flag("tie_word_embeddings", False),
    }


@dataclass(frozen=True)
class Olmoe(Decoder):
    """64 small experts, eight per token; all queries and all keys of a token normed together.

    Source: Muennighoff et al. (2024), arXiv:2409.02060; config fields as in Transformers' OlmoeConfig.
    """

    family = "olmoe"
    ignored_fields = OLMO_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", False)
        attention = Attention(bias=bias, out_bias=bias, qk_norm=Norm.RMS, qk_weights=PER_HEAD_AND_COMPONENT)
        sizes = transformer_sizes(fields) | expert_sizes(fields, width="intermediate_size", defaults={"experts": 64, "chosen": 8})
        heads_fill(fields, sizes)
        return cls(
            sizes | {symbols.L: fields.layers("num_hidden_layers")},
            positions(fields),
            (Layer("layer", attention, Experts(silu_by_default(fields))),),
            RMS,
            tied=fields.flag("tie_word_embeddings", False),
        )
