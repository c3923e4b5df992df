"""Decoders with experts whose layers with a window have heads of other numbers or widths, or other positions: Llama 4, MiMo, Step."""

from __future__ import annotations

from typing import Any

from sympy import Symbol

from symroof import symbols
from symroof.architectures.families.family import DecoderFamily
from symroof.architectures.families.layouts import LAYER_TYPES, MLP_TYPES, dense_first, listed
from symroof.architectures.families.recipes import (
    BIAS,
    WITH_BIAS,
    PartReader,
    attention,
    experts,
    flag,
    mlp,
    when,
    window_attention,
)
from symroof.architectures.families.sparse import MOE_WIDTH
from symroof.architectures.fields import Fields
from symroof.architectures.parts.part import Part
from symroof.operators.elementwise import Norm

Reading = tuple[Part, dict[Symbol, int]]

LLAMA4_TYPES = {"full_attention": "full", "chunked_attention": "sliding"}
SWITCHED = ("full", "sliding")
"""What a 0 or a 1 in a list of layers means."""


def llama4_layers(fields: Fields, count: int) -> list[str]:
    """Chunks in the layers with a rotary embedding, full attention in every fourth, which has none; or what the lists say."""
    every = fields.size("no_rope_layer_interval", 4)
    turning = fields.switches("no_rope_layers", count) or [(number + 1) % every != 0 for number in range(count)]
    chunks = fields.size("attention_chunk_size", 8192, null=None) is not None
    kinds = fields.words("layer_types", LLAMA4_TYPES, count) or ["sliding" if turns and chunks else "full" for turns in turning]
    names = {("full", True): "full", ("full", False): "nope", ("sliding", True): "sliding", ("sliding", False): "nope_sliding"}
    return [names[kind, turns] for kind, turns in zip(kinds, turning, strict=True)]


def llama4_mlps(fields: Fields, count: int) -> list[str]:
    """Experts in the layers that a list numbers, otherwise in every so many."""
    step, chosen = fields.size("interleave_moe_layer_step", 1), fields.indices("moe_layers", count)
    sparse = range(step - 1, count, step) if chosen is None else chosen
    return ["moe" if number in sparse else "dense" for number in range(count)]


def mimo_layers(fields: Fields, count: int) -> list[str]:
    """Full attention in the first and every sixth layer; or what a list of words or switches says."""
    pattern = fields.switches("hybrid_layer_pattern", count)
    words = fields.words("layer_types", LAYER_TYPES, count)
    switched = None if pattern is None else [SWITCHED[on] for on in pattern]
    if words and switched and words != switched:
        raise fields.error("layer_types and hybrid_layer_pattern disagree, but they mean the same")
    return words or switched or ["full" if number == 0 or (number + 1) % 6 == 0 else "sliding" for number in range(count)]


def mimo_mlps(fields: Fields, count: int) -> list[str]:
    """A dense first layer, or what a list of switches says."""
    pattern = None if fields.peek("moe_layer_freq") == 1 else fields.switches("moe_layer_freq", count)
    return ["dense"] + ["moe"] * (count - 1) if pattern is None else ["moe" if on else "dense" for on in pattern]


def mimo_width(fields: Fields, absent: int | None) -> int | None:
    """``sliding_window_size`` counts the tokens before the query's own, ``sliding_window`` its own too."""
    before = fields.size("sliding_window_size", None)
    stated = fields.size("sliding_window", absent, null=None)
    return stated if before is None else before + 1


def mimo_attention(flag_of_sinks: str, absent: bool) -> PartReader:
    """Attention with values narrower than keys, and sinks by a flag."""

    def read(fields: Fields, hidden: int) -> Reading:
        recipe = {"bias": BIAS, "sinks": flag(flag_of_sinks, absent), "wide_values": True}
        part, sizes = attention(kv_heads=4, head_dim=192, turned="0.334", kind="full_attention", **recipe)(fields, hidden)
        values = fields.size("v_head_dim", 128)
        if fields.size("swa_v_head_dim", values) != values:
            raise fields.error(f"swa_v_head_dim is {fields.peek('swa_v_head_dim')}; only v_head_dim, {values}, is understood")
        return part, sizes | {symbols.e_v: values}

    return read


def step_layers(fields: Fields, count: int) -> list[str]:
    """What the list says, which may hold the layers that predict further tokens too."""
    fields.size("sliding_window", None, null=None)
    return fields.words("layer_types", LAYER_TYPES, count, _predicting(fields)) or ["full"] * count


def step_mlps(fields: Fields, count: int) -> list[str]:
    """What the list says, or the layers that are numbered, or all but the first three."""
    numbered = fields.text("moe_layers_enum") if isinstance(fields.peek("moe_layers_enum"), str) else None
    if numbered is not None:
        parts = [part.strip() for part in numbered.split(",") if part.strip()]
        expected = f"numbers of layers from 0 to {count - 1}, with commas between"
        fields.require(all(part.isdecimal() and len(part) < 6 for part in parts), "moe_layers_enum", numbered, expected)
        sparse = {int(part) for part in parts}
        return ["moe" if number in sparse else "dense" for number in range(count)]
    return fields.words("mlp_layer_types", MLP_TYPES, count, _predicting(fields)) or list(dense_first(3)(fields, count))


def _predicting(fields: Fields) -> int:
    return fields.size(fields.named("num_nextn_predict_layers", "num_mtp_layers"), 0, low=0, high=100)


def _step_turned(fields: Fields, kind: str) -> int | None:
    """Rotated components of a kind of layer, where a share is listed per layer."""
    count, width = fields.layers("num_hidden_layers"), fields.size("head_dim", 128)
    listed_shares = fields.shares("partial_rotary_factors", count, _predicting(fields))
    kinds = step_layers(fields, count)
    return max(int(listed_shares[kinds.index(kind)] * width), 1) if listed_shares and kind in kinds else None


_step_full = attention(
    kv_heads=8,
    head_dim=128,
    kind="full_attention",
    kv_named=("num_attention_groups", "num_key_value_heads"),
    qk_norm=Norm.RMS,
    head_gated=True,
    **WITH_BIAS,
)


def step_attention(fields: Fields, hidden: int) -> Reading:
    """Gated by one number per head; the share of rotated components may be listed per layer."""
    part, sizes = _step_full(fields, hidden)
    turned = _step_turned(fields, "full")
    return part, sizes if turned is None else sizes | {symbols.r: turned}


def step_window_attention(fields: Fields, hidden: int) -> Reading:
    """The same with another number of query heads."""
    kinds = step_layers(fields, fields.layers("num_hidden_layers"))
    sliding = [number for number, kind in enumerate(kinds) if kind == "sliding"]
    stated = fields.overridden("per_layer_config", sliding, ("num_attention_heads", "num_key_value_heads", "head_dim"))
    other = fields.nested("attention_other_setting") if "attention_other_setting" in fields else None
    if other is not None:
        other.fixed("attention_type", "sliding_attention", "the heads of layers with a window")
    for source, names in ((other, ("num_attention_groups", "head_dim")), (stated, ("num_key_value_heads", "head_dim"))):
        if source is not None:
            for name, size in zip(names, (fields.size("num_attention_groups", 8), fields.size("head_dim", 128)), strict=True):
                source.fixed(name, size, "as in the other layers")

    def heads(fields: Fields, of_others: int) -> int:
        sources = [source for source in (stated, other) if source is not None]
        numbers = [source.size("num_attention_heads", of_others) for source in sources]
        return fields.size("num_sliding_attention_heads", numbers[0] if numbers else of_others)

    def same(fields: Fields, of_others: int) -> int:
        return of_others

    named = ("num_attention_heads", "num_attention_groups")
    part, sizes = window_attention(heads=heads, kv_heads=same, head_dim=same, named=named, read_as=_step_full)(fields, hidden)
    turned = _step_turned(fields, "sliding")
    return part, sizes if turned is None else sizes | {symbols.r_w: turned}


def _as_stated(name: str, times: int = 1) -> Any:
    return lambda fields, of_others: fields.size(name, times * of_others)


WINDOWS = (
    DecoderFamily(
        "llama4",
        "Meta (2025), ai.meta.com/blog/llama-4-multimodal-intelligence; Transformers' Llama4TextConfig",
        {
            "full": attention(kv_heads=8, head_dim=128, qk_norm=when("use_qk_norm", Norm.RMS, True), qk_weight=False, **WITH_BIAS),
            **dict.fromkeys(
                ("nope", "nope_sliding"),
                attention(kv_heads=8, head_dim=128, rotary=False, scaled=flag("attn_temperature_tuning", True), **WITH_BIAS),
            ),
            "dense": mlp(width="intermediate_size_mlp", absent=16384),
            "moe": experts(count=16, chosen=1, shared=lambda fields, width: width),
        },
        mixers=llama4_layers,
        mlps=llama4_mlps,
        window=8192,
        width=lambda fields, absent: fields.size("attention_chunk_size", absent, null=None),
        chunked=True,
        ignored=("floor_scale", "attn_scale", "for_llm_compressor", "intermediate_size_mlp"),
    ),
    DecoderFamily(
        "mimo_v2_flash",
        "Xiaomi LLM-Core (2025), MiMo-V2-Flash, arXiv:2601.02780; Transformers' MiMoV2FlashConfig",
        {
            "full": mimo_attention("add_full_attention_sink_bias", False),
            "sliding": window_attention(
                heads=_as_stated("swa_num_attention_heads"),
                kv_heads=_as_stated("swa_num_key_value_heads", 2),
                head_dim=_as_stated("swa_head_dim"),
                named=("swa_num_attention_heads", "swa_num_key_value_heads"),
                read_as=mimo_attention("add_swa_attention_sink_bias", True),
                turned="0.334",
            ),
            "dense": mlp(),
            "moe": experts(width=MOE_WIDTH, named="n_routed_experts", count=256, chosen=8),
        },
        mixers=mimo_layers,
        mlps=listed(mimo_mlps, "mlp_layer_types", MLP_TYPES),
        window=129,
        width=mimo_width,
        predicted=("sliding", "dense"),
        predicting=3,  # section 2.3 of the report: three of 0.33B parameters, with a window and a dense MLP
        only_understood={"n_shared_experts": (None, "no expert is shared")},
        ignored=("swa_rope_theta", "attention_value_scale", "attention_chunk_size", "moe_layer_freq", "hybrid_block_size"),
    ),
    DecoderFamily(
        "step3p5",
        "StepFun (2026), huggingface.co/stepfun-ai/Step-3.5-Flash; Transformers' Step3p7TextConfig",
        {
            "full": step_attention,
            "sliding": step_window_attention,
            "dense": mlp(),
            "moe": experts(
                width=MOE_WIDTH,
                named="n_routed_experts",
                count=288,
                chosen=8,
                shared=lambda fields, width: fields.size(fields.named("share_expert_dim", "share_expert_dims"), 1280),
            ),
        },
        mixers=step_layers,
        mlps=step_mlps,
        predicted=("sliding", "dense"),  # the entries of layer_types and moe_layers_enum behind the last layer, in Step 3.5
        only_understood={
            "use_head_wise_attn_gate": (True, "attention is gated by head"),
            "use_qk_norm": (True, "queries and keys are normed"),
            "use_moe": (True, "layers have experts"),
            "moe_every_n_layer": (1, "the list of layers says which have experts"),
            "att_impl_type": ("GQA", "grouped attention"),
            "use_rope_layers": ([], "all layers rotate"),
            "sink": (False, "no sinks"),
            "n_shared_experts": (1, "one expert is shared"),
            "mlp_bias": (False, "the MLP has no biases"),
        },
        ignored=(
            *("swiglu_limits", "swiglu_limits_shared", "query_pre_attn_scalar", "mtp_layer_types", "mtp_mlp_layer_types"),
            *("moe_router_scaling_factor", "use_moe_router_bias", "moe_router_activation", "norm_expert_weight", "need_fp32_gate"),
            *("yarn_only_types", "zero_centered", "max_pos_interp_ratio", "first_k_dense_replace"),
        ),
    ),
)
