"""Qwen 2, 2.5 and 3, dense and as mixtures of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder
from symroof.architectures.families.llama import RMS, silu_by_default
from symroof.architectures.families.schema import LAYER_TYPES, expert_sizes, positions, sparse_layers, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.operators.norm import Norm

UNUSED = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "num_experts", "num_experts_per_tok")
"""Sizes that stand in the config even where no layer is dense, or none has experts."""


@dataclass(frozen=True)
class Qwen2(Decoder):
    """Llama's block with biases on q, k and v; the later layers may have a sliding window.

    Source: Yang et al. (2024), arXiv:2407.10671; config fields as in Transformers' Qwen2Config.
    """

    family = "qwen2"
    ignored_fields = (*COMMON, "attention_bias", "use_mrope")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        return cls(**_dense(fields, transformer_sizes(fields, kv_heads=32), Attention(bias=True)))


@dataclass(frozen=True)
class Qwen3(Decoder):
    """Llama's block with a norm on every query and key in the place of the biases.

    Source: Yang et al. (2025), arXiv:2505.09388; config fields as in Transformers' Qwen3Config.
    """

    family = "qwen3"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", False)
        sizes = transformer_sizes(fields, kv_heads=32, head_dim=128)
        return cls(**_dense(fields, sizes, Attention(bias=bias, out_bias=bias, qk_norm=Norm.RMS)))


@dataclass(frozen=True)
class Qwen2Moe(Decoder):
    """Qwen 2 with 60 experts and one that all tokens share, scaled by a gate of its own.

    Source: Qwen team (2024), qwenlm.github.io/blog/qwen-moe; config fields as in Transformers' Qwen2MoeConfig.
    """

    family = "qwen2_moe"
    ignored_fields = (*COMMON, *UNUSED)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        attention = Attention(bias=fields.flag("qkv_bias", True))
        first = fields.size("max_window_layers", 28, low=0)
        mixers = _windows(fields, lambda number: number % 2 == 0 and number < first)
        sizes = transformer_sizes(fields, kv_heads=16) | _window_size(fields, mixers)
        return cls(**sparse(fields, sizes, mixers, {"full": attention, "sliding": attention}, shared=True))


@dataclass(frozen=True)
class Qwen3Moe(Decoder):
    """Qwen 3 with 128 experts of a layer and none that all tokens share.

    Source: Yang et al. (2025), arXiv:2505.09388; config fields as in Transformers' Qwen3MoeConfig.
    """

    family = "qwen3_moe"
    ignored_fields = (*COMMON, *UNUSED, "max_window_layers", "qkv_bias", "use_qk_norm")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", False)
        attention = Attention(bias=bias, out_bias=bias, qk_norm=Norm.RMS)
        mixers = _windows(fields, lambda number: True)
        sizes = transformer_sizes(fields, kv_heads=4) | _window_size(fields, mixers)
        return cls(**sparse(fields, sizes, mixers, {"full": attention, "sliding": attention}, shared=False))


def _dense(fields: Fields, sizes: dict[Any, int], attention: Attention) -> dict[str, Any]:
    first = fields.size("max_window_layers", 28, low=0)
    mixers = _windows(fields, lambda number: number >= first)
    parts = {"full": attention, "sliding": attention, "dense": Mlp(silu_by_default(fields))}
    counts, layers = stack(mixers, ["dense"] * len(mixers), parts)
    return {
        "dimensions": sizes | _window_size(fields, mixers) | {symbols.f: fields.size("intermediate_size")} | dict(counts),
        "max_positions": positions(fields),
        "layers": layers,
        "norms": RMS,
        "tied": fields.flag("tie_word_embeddings", False),
    }


def _windows(fields: Fields, windowed: Callable[[int], bool]) -> list[str]:
    """Which layers have a window, if windows are used at all; `layer_types` has the last word."""
    count, used = fields.layers("num_hidden_layers"), fields.flag("use_sliding_window", False)
    given = fields.words("layer_types", LAYER_TYPES, count)
    if given and "sliding" in given and not used:
        raise fields.error("layer_types holds 'sliding_attention', but use_sliding_window is not true")
    return given or ["sliding" if used and windowed(number) else "full" for number in range(count)]


def _window_size(fields: Fields, mixers: Sequence[str]) -> dict[Any, int]:
    width = fields.size("sliding_window", 4096)
    return {symbols.W: width} if "sliding" in mixers else {}


def sparse(fields: Fields, sizes: dict[Any, int], mixers: Sequence[str], parts: dict[str, Any], *, shared: bool) -> dict[str, Any]:
    """A decoder whose layers are mixtures of experts, but for those the config makes dense.

    Parameters
    ----------
    shared : whether an expert that all tokens share stands beside the others.
    """
    activation = silu_by_default(fields)
    mlps = sparse_layers(fields, len(mixers))
    common = Mlp(activation, width="f_s", name="shared_") if shared else None
    if "moe" in mlps:
        sizes |= expert_sizes(fields, width="moe_intermediate_size", inline_definitions="num_experts")
        sizes |= {symbols.f_s: fields.size("shared_expert_intermediate_size")} if shared else {}
    if "dense" in mlps:
        sizes |= {symbols.f: fields.size("intermediate_size")}
    experts = Experts(activation, shared=common, shared_gate=shared)
    counts, layers = stack(mixers, mlps, parts | {"moe": experts, "dense": Mlp(activation)})
    return {
        "dimensions": sizes | dict(counts),
        "max_positions": positions(fields),
        "layers": layers,
        "norms": RMS,
        "tied": fields.flag("tie_word_embeddings", False),
    }
