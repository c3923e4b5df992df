"""Gemma 3n and Gemma 4: layers that share keys and values, inputs of each layer's own, wider heads in the layers without a window."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture
from symroof.architectures.families.dense import GEMMA, HIDDEN_ACTIVATION, SANDWICH
from symroof.architectures.families.family import DecoderFamily
from symroof.architectures.families.layouts import LAYER_TYPES, by_period
from symroof.architectures.families.recipes import BIAS, PartReader, capped, experts, turned_components
from symroof.architectures.fields import Fields
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.beside import DenseAndExperts, PerLayerInput
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.part import Part
from symroof.operators.elementwise import Norm

Reading = tuple[Part, dict[Symbol, int]]


def gemma4_types(fields: Fields, count: int) -> list[str]:
    """What ``layer_types`` lists, or full attention in every sixth layer; always in the last."""
    if "use_bidirectional_attention" in fields:
        fields.choice("use_bidirectional_attention", {"vision": "text looks back only"})
    listed = fields.words("layer_types", LAYER_TYPES, count) or by_period(count, 6, 5, "full", "sliding")
    return [*listed[:-1], "full"]


def sharing(fields: Fields, kinds: list[str], absent: int) -> list[str]:
    """The kinds of layers, where the last of them may take the keys and values of the last one before of the same kind."""
    shared = fields.size("num_kv_shared_layers", absent, low=0)
    own = kinds[: len(kinds) - shared] if shared < len(kinds) else []
    missing = set(kinds) - set(own)
    if missing:
        raise fields.error(f"num_kv_shared_layers is {shared}; no layer before those has keys and values for the {missing.pop()} ones")
    return own + [{"full": "shared", "sliding": "shared_sliding"}[kind] for kind in kinds[len(own) :]]


def gemma4_layers(fields: Fields, count: int) -> list[str]:
    """Windows in five layers of six, and shared keys and values in the last ones."""
    return sharing(fields, gemma4_types(fields, count), 0)


def gemma4_mlps(fields: Fields, count: int) -> list[str]:
    """Experts beside the dense MLP in all layers or none; a wider one where keys and values are shared, if the config says so."""
    wide, mixed = fields.flag("use_double_wide_mlp", False), fields.flag("enable_moe_block", False)
    shared = [kind.startswith("shared") for kind in gemma4_layers(fields, count)]
    if wide and mixed and any(shared):
        raise fields.error("use_double_wide_mlp is True; only False is understood where layers with experts share keys and values")
    return ["moe"] * count if mixed else ["wide" if wide and own_less else "dense" for own_less in shared]


def _full_sizes(fields: Fields) -> tuple[int, int]:
    """KV heads and head dimension of the layers without a window."""
    kinds = gemma4_types(fields, fields.layers("num_hidden_layers"))
    full = [number for number, kind in enumerate(kinds) if kind == "full"]
    stated = fields.overridden("per_layer_config", full, ("num_key_value_heads", "head_dim"))
    groups, width = fields.size("num_key_value_heads", 4), fields.size("head_dim", 256)
    if stated is not None:
        return stated.size("num_key_value_heads", groups), stated.size("head_dim", width)
    other = fields.size("num_global_key_value_heads", None)
    single = fields.flag("attention_k_eq_v", False)
    return (other or groups) if single else groups, fields.size("global_head_dim", 512)


def gemma4_attention(*, window: bool, shared: bool = False) -> PartReader:
    """Attention with norms on queries, keys and values; without a window, values may be the projected keys."""

    def read(fields: Fields, hidden: int) -> Reading:
        heads = fields.size("num_attention_heads")
        groups, width = (fields.size("num_key_value_heads", 4), fields.size("head_dim", 256)) if window else _full_sizes(fields)
        fields.divides("num_attention_heads", heads, "the KV heads of a layer", groups)
        single, bias = not window and fields.flag("attention_k_eq_v", False), BIAS(fields)
        part = Attention(bias=bias, out_bias=bias, qk_norm=Norm.RMS, v_norm=True, keys_as_values=single, own_sizes=window, shared=shared)
        kind, share = ("sliding_attention", "1") if window else ("full_attention", "0.25")
        turned = turned_components(fields, width, share, kind=kind)
        names = (symbols.h_w, symbols.k_w, symbols.e_w, symbols.r_w) if window else (symbols.h, symbols.k, symbols.e, symbols.r)
        return part, dict(zip(names, (heads, groups, width, turned), strict=True))

    return read


def gemma_mlp(size: Expr | None = None) -> PartReader:
    """A dense MLP, of another width than that of the config."""
    return lambda fields, hidden: (Mlp(HIDDEN_ACTIVATION(fields), size=size), {symbols.f: fields.size("intermediate_size")})


_routed = experts(width="moe_intermediate_size", named="num_experts", activation=HIDDEN_ACTIVATION, scaled=True)


def gemma4_experts(fields: Fields, hidden: int) -> Reading:
    """A dense MLP and experts beside it."""
    routed, sizes = _routed(fields, hidden)
    assert isinstance(routed, Experts)
    return DenseAndExperts(Mlp(HIDDEN_ACTIVATION(fields)), routed), sizes | {symbols.f: fields.size("intermediate_size")}


@dataclass(frozen=True, eq=False)
class WithOwnInputs(DecoderFamily):
    """Decoders whose layers have inputs of their own, unless ``hidden_size_per_layer_input`` is 0."""

    def read(self, fields: Fields) -> Architecture:
        read = super().read(fields)
        width, rows = fields.size("hidden_size_per_layer_input", 256, low=0), fields.size("vocab_size_per_layer_input", 262144)
        if not width:
            return read
        own = PerLayerInput(HIDDEN_ACTIVATION(fields))
        sizes = {**read.dimensions, symbols.d_p: width, symbols.v_l: rows}
        return replace(read, dimensions=sizes, layers=tuple(replace(layer, own_input=own) for layer in read.layers))


GEMMAS: tuple[DecoderFamily, ...] = (
    WithOwnInputs(
        "gemma4",
        "Gemma team (2026), huggingface.co/google/gemma-4-26B-A4B; Transformers' Gemma4TextConfig",
        {
            "full": gemma4_attention(window=False),
            "sliding": gemma4_attention(window=True),
            "shared": gemma4_attention(window=False, shared=True),
            "shared_sliding": gemma4_attention(window=True, shared=True),
            "dense": gemma_mlp(),
            "wide": gemma_mlp(2 * symbols.f),
            "moe": gemma4_experts,
        },
        mixers=gemma4_layers,
        mlps=gemma4_mlps,
        window=512,
        norms=SANDWICH,
        attributes={
            **GEMMA,
            "scaled": frozenset({"embedding", "layer"}),
            "final_softcap": capped("final_logit_softcapping", False),
        },
        ignored=("global_head_dim", "num_global_key_value_heads"),
    ),
)
