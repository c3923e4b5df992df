"""Zamba and Zamba2: state spaces, and in some layers before them one of a few blocks of attention and MLP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer
from symroof.architectures.families.family import DecoderFamily, LayerRule, only
from symroof.architectures.families.recipes import TIED, activation
from symroof.architectures.families.recurrent import MAMBA_IGNORED, Reading, scan_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.part import BlockBuilder, residual_stream
from symroof.architectures.parts.recurrent import Mamba, Mamba2
from symroof.architectures.parts.shared import SharedBlock
from symroof.conventions import Convention
from symroof.operators import Block, Parameter, Space, Storage, Tensor, axes_of
from symroof.operators.elementwise import add, elementwise
from symroof.operators.linear import embedding

SHARED = (
    "shared blocks: the layers that share weights read them once each, and each keeps keys and values of its own; in memory, and in each "
    "stage of a pipeline, are n_b blocks"
)
"""The convention on shared weights."""


@dataclass(frozen=True)
class Sharing(Architecture):
    """A decoder some layers of which see the token embedding again, through weights that they share."""

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        table = Tensor("embedding.weight", axes_of("v d"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        x, record = residual_stream(space), BlockBuilder()
        rows = record(embedding("embedding", table, x.axes))
        record(elementwise("embedding_copy", (rows,), x.axes, 0))
        seeing = (
            replace(layer, mixer=replace(layer.mixer, embedded=rows)) if isinstance(layer.mixer, SharedBlock) else layer
            for layer in self.layers
        )
        return record.block("embedding", x), *(self._layer(layer, x, options) for layer in seeing), self._head(table, x)

    def _layer(self, layer: Layer, x: Tensor, options: Options) -> Block:
        if not isinstance(layer.mixer, SharedBlock):
            return super()._layer(layer, x, options)
        record = BlockBuilder(f"{layer.kind}." if len(self.layers) > 1 else "")
        record(add("mixer_add", x, layer.mixer(record, x, x.space, options)))
        return record.layers(layer.kind, x)

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        shares = any(isinstance(layer.mixer, SharedBlock) for layer in self.layers)
        return (*super().conventions(options), *([Convention("shared-blocks", SHARED)] if shares else []))


WORDS = {"mamba": "mamba", "linear_attention": "mamba", "hybrid": "hybrid"}
LISTS = ("layers_block_type", "layer_types")
BY_DEFAULT = frozenset({6, 12, 18, 24, 30, 36, 42, 47, 51})
"""The hybrid layers, of 54, that an absent list means. Source: Transformers' Zamba2Config."""


def zamba2_layers(fields: Fields, count: int) -> list[str]:
    """What a list of words says, or one of hybrid layers, or the list of Zamba2-2.7B."""
    words, hybrids = fields.words(fields.named(*LISTS), WORDS, count), fields.indices("hybrid_layer_ids", count)
    if words is None and hybrids is None:
        if count != 54:
            raise fields.error(f"layers_block_type is missing; expected a word per layer, {' or '.join(WORDS)}")
        hybrids = BY_DEFAULT
    named = ["hybrid" if number in (hybrids or ()) else "mamba" for number in range(count)]
    if words and hybrids is not None and words != named:
        raise fields.error("layers_block_type and hybrid_layer_ids disagree, but they mean the same")
    return words or named


def zamba_layers(fields: Fields, count: int) -> list[str]:
    """What a list says, else the third layer and from there one in every period."""
    period, offset = fields.size("attn_layer_period", 6), fields.size("attn_layer_offset", 4, low=0)
    rest = ["hybrid" if number % period == offset else "mamba" for number in range(max(count - 3, 0))]
    return fields.words(fields.named(*LISTS), WORDS, count) or [*["mamba", "mamba", "hybrid"][:count], *rest]


def zamba2_mamba(fields: Fields, hidden: int) -> Reading:
    """Mamba-2, from Zamba2's fields under either name."""
    expand = fields.named("mamba_expand", "expansion_factor")
    inner, stated = fields.multiple(expand, 2, of=hidden), fields.size("mamba_headdim", None)
    heads = fields.size("n_mamba_heads", fields.divides(f"{expand} x hidden_size", inner, "mamba_headdim", stated) if stated else 8)
    width, groups = fields.divides(f"{expand} x hidden_size", inner, "n_mamba_heads", heads), fields.size("mamba_ngroups", 1)
    if stated not in (None, width):
        raise fields.error(f"mamba_headdim is {stated}; expected {width}, {expand} x hidden_size / n_mamba_heads")
    fields.divides("n_mamba_heads", heads, "mamba_ngroups", groups)
    bias, taps = fields.flag("add_bias_linear", False), fields.size(fields.named("mamba_d_conv", "conv_dimension"), 4)
    return Mamba2(bias, out_bias=bias), scan_sizes(heads, width, groups, fields.size(fields.named("mamba_d_state", "state_size"), 64), taps)


def zamba_mamba(fields: Fields, hidden: int) -> Reading:
    """Mamba in heads."""
    inner, heads = fields.multiple("mamba_expand", 2, of=hidden), fields.size("n_mamba_heads", 2)
    fields.divides("mamba_expand x hidden_size", inner, "n_mamba_heads", heads)
    automatic = -(-hidden // 16)
    sizes = {
        symbols.d_i: inner,
        symbols.h_s: heads,
        symbols.d_s: fields.size("mamba_d_state", 16),
        symbols.k_c: fields.size("mamba_d_conv", 4),
        symbols.r_t: automatic if fields.says("mamba_dt_rank", "auto") else fields.size("mamba_dt_rank", automatic),
    }
    return Mamba(fields.flag("mamba_proj_bias", False), fields.flag("mamba_conv_bias", True), in_heads=True), sizes


def _shared(fields: Fields, hidden: int, mamba: Reading, attention: Attention, *, bias: bool = False, adapters: bool = False) -> Reading:
    """A hybrid layer; `bias` and `adapters` are those of its MLP."""
    heads = fields.size("num_attention_heads")
    groups = fields.size("num_key_value_heads", heads, null=heads)
    fields.divides("num_attention_heads", heads, "num_key_value_heads", groups)
    width = fields.divides("2 x hidden_size", 2 * hidden, "num_attention_heads", heads)
    sizes = {symbols.h: heads, symbols.k: groups, symbols.e: width} | ({symbols.r: width} if attention.rotary else {})
    if attention.adapters and groups != heads:
        raise fields.error("num_key_value_heads is not num_attention_heads; keys and values with adapters have as many heads as queries")
    return SharedBlock(attention, mamba[0], activation("gelu")(fields), bias, adapters), sizes | mamba[1]


def zamba2_hybrid(fields: Fields, hidden: int) -> Reading:
    """One of ``num_mem_blocks`` blocks with adapters, before Mamba-2."""
    adapting = fields.flag(fields.named("use_shared_attention_adapter", "use_shared_attention_lora"), False)
    attention = Attention(rotary=fields.flag("use_mem_rope", False), adapters=adapting)
    part, sizes = _shared(
        fields, hidden, zamba2_mamba(fields, hidden), attention, bias=fields.flag("add_bias_linear", False), adapters=True
    )
    uses = zamba2_layers(fields, fields.layers("num_hidden_layers")).count("hybrid")
    sizes |= {symbols.f: fields.size(fields.named("intermediate_size", "ffn_hidden_size"), 4 * hidden)}
    sizes |= {symbols.r_a: fields.size(fields.named("adapter_rank", "lora_rank"), 128)}
    return part, sizes | {symbols.n_b: min(fields.size("num_mem_blocks", 1), uses)}


def zamba_hybrid(fields: Fields, hidden: int) -> Reading:
    """The same block in all hybrid layers, before Mamba."""
    for name, meant in (("attention_hidden_size", 2 * hidden), ("attention_head_dim", 2 * hidden // fields.size("num_attention_heads"))):
        fields.fixed(name, meant, "attention is as wide as its input, twice the hidden size")
    part, sizes = _shared(fields, hidden, zamba_mamba(fields, hidden), Attention(rotary=False))
    return part, sizes | {symbols.f: fields.size("intermediate_size", 14848), symbols.n_b: 1}


def shared_family(name: str, source: str, hybrid: Any, mamba: Any, layers: LayerRule, **more: Any) -> DecoderFamily:
    """A family of the two."""
    parts = {"hybrid": hybrid, "mamba": mamba}
    return DecoderFamily(name, source, parts, mixers=layers, mlps=only(""), made=Sharing, attributes={"tied": TIED}, **more)


IGNORED = (*MAMBA_IGNORED, "use_mamba_kernels", "num_logits_to_keep", "chunk_size", "attention_head_dim", "head_dim", "hidden_mamba_act")
ZAMBA = (
    shared_family(
        "zamba2",
        "Glorioso et al. (2024), Zamba2, arXiv:2411.15242; Transformers' Zamba2Config",
        zamba2_hybrid,
        zamba2_mamba,
        zamba2_layers,
        only_understood={
            "use_shared_block_lora": (True, "the MLP of a shared block has adapters"),
            "gated_linear_unit": (True, "the MLP is gated"),
            "sliding_window": (None, "attention is to all tokens"),
        },
        ignored=(
            *(*IGNORED, "use_conv_bias", "use_mem_eff_path", "kv_channels", "num_query_groups", "attention_hidden_size"),
            *("use_long_context", "ft_lora", "layers_block_type", "hybrid_layer_ids", "rope_theta"),
        ),
    ),
    shared_family(
        "zamba",
        "Glorioso et al. (2024), Zamba, arXiv:2405.16712; Transformers' ZambaConfig",
        zamba_hybrid,
        zamba_mamba,
        zamba_layers,
        ignored=(*IGNORED, "attention_hidden_size"),
    ),
)
