"""Decoders with recurrent mixers, with or without attention layers: Mamba, Jamba, Granite 4, Nemotron-H, Qwen3-Next."""

from __future__ import annotations

from typing import Any

from sympy import Symbol

from symroof import symbols
from symroof.architectures.families.dense import granite_multipliers
from symroof.architectures.families.family import DecoderFamily, LayerRule, at_most, only
from symroof.architectures.families.layouts import last_of_each, periodic, sparse_steps
from symroof.architectures.families.recipes import EXPERT_COUNTS, TIED, WITH_BIAS, PartReader, activation, attention, experts, flag, mlp
from symroof.architectures.families.sparse import MOE_WIDTH, QWEN_MOE
from symroof.architectures.fields import MOST_LAYERS, Fields
from symroof.architectures.parts import recurrent
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import Part
from symroof.operators.elementwise import Norm

Reading = tuple[Part, dict[Symbol, int]]

TIME_STEPS = tuple(f"time_step_{name}" for name in ("scale", "min", "max", "init_scheme", "floor", "limit"))
MAMBA_IGNORED = (
    *TIME_STEPS,
    *("rescale_prenorm_residual", "residual_in_fp32", "fused_add_norm", "rms_norm", "mixer_rms_eps", "use_mambapy"),
    *("use_associative_scan", "ssm_cfg", "d_model", "n_layer", "d_inner", "pad_vocab_size_multiple", "hidden_act", "dt_rank"),
)


def mamba(*, prefix: str = "", bias: str = "use_bias", inner_norms: bool | None = None) -> PartReader:
    """The selective scan, with sizes from Mamba's fields, or from Jamba's with a *prefix*."""
    names = ("mamba_expand", "mamba_d_state", "mamba_d_conv", "mamba_dt_rank", "mamba_conv_bias")
    expand, states, taps, rank, conv_bias = names if prefix else ("expand", "state_size", "conv_kernel", "time_step_rank", "use_conv_bias")

    def read(fields: Fields, hidden: int) -> Reading:
        inner, automatic = fields.multiple(expand, 2, of=hidden), -(-hidden // 16)
        sizes = {
            symbols.d_i: inner if prefix else fields.size("intermediate_size", inner),
            symbols.d_s: fields.size(states, 16),
            symbols.k_c: fields.size(taps, 4),
            symbols.r_t: automatic if fields.says(rank, "auto") else fields.size(rank, automatic),
        }
        return recurrent.Mamba(fields.flag(bias, False), fields.flag(conv_bias, True), inner_norms), sizes

    return read


def mamba2(fields: Fields, hidden: int) -> Reading:
    """Heads with one decay each, from the fields of Mamba2Config."""
    inner, heads = fields.multiple("expand", 2, of=hidden), fields.size("num_heads", 128)
    width, groups = fields.size("head_dim", 64), fields.size("n_groups", 8)
    if heads * width != inner:
        raise fields.error(f"num_heads {heads} x head_dim {width} is {heads * width}; expected expand x hidden_size, {inner}")
    fields.divides("num_heads", heads, "n_groups", groups)
    bias = fields.flag("use_bias", False)
    part = recurrent.Mamba2(bias, fields.flag("use_conv_bias", True), bias)
    return part, scan_sizes(heads, width, groups, fields.size("state_size", 128), fields.size("conv_kernel", 4))


def granite_mamba(fields: Fields, hidden: int) -> Reading:
    """The same from the fields of GraniteMoeHybridConfig; the heads divide the inner size."""
    inner, heads = fields.multiple("mamba_expand", 2, of=hidden), fields.size("mamba_n_heads", 128)
    width = fields.divides("mamba_expand x hidden_size", inner, "mamba_n_heads", heads)
    if not fields.says("mamba_d_head", "auto"):
        stated = fields.size("mamba_d_head", width)
        if stated != width:
            raise fields.error(f"mamba_d_head is {stated}; expected {width}, mamba_expand x hidden_size / mamba_n_heads")
    groups = fields.size("mamba_n_groups", 1)
    fields.divides("mamba_n_heads", heads, "mamba_n_groups", groups)
    bias = fields.flag("mamba_proj_bias", False)
    part = recurrent.Mamba2(bias, fields.flag("mamba_conv_bias", True), bias)
    return part, scan_sizes(heads, width, groups, fields.size("mamba_d_state", 256), fields.size("mamba_d_conv", 4))


def nemotron_mamba(fields: Fields, hidden: int) -> Reading:
    """The same from the fields of NemotronHConfig; the heads may have any total size."""
    heads, groups = fields.size("mamba_num_heads", 128), fields.size(fields.named("n_groups", "mamba_n_groups"), 8)
    fields.divides("mamba_num_heads", heads, "n_groups", groups)
    conv_bias = fields.flag(fields.named("use_conv_bias", "mamba_conv_bias"), True)
    taps = fields.size(fields.named("conv_kernel", "mamba_d_conv"), 4)
    sizes = scan_sizes(heads, fields.size("mamba_head_dim", 64), groups, fields.size("ssm_state_size", 128), taps)
    bias = fields.flag("use_bias", False)
    return recurrent.Mamba2(bias, conv_bias, bias), sizes


def scan_sizes(heads: int, width: int, groups: int, states: int, taps: int) -> dict[Symbol, int]:
    """The sizes of Mamba-2."""
    return {symbols.h_s: heads, symbols.e_s: width, symbols.g_s: groups, symbols.d_s: states, symbols.k_c: taps}


def gated_delta(fields: Fields, hidden: int) -> Reading:
    """The gated delta rule, from the fields of Qwen3NextConfig."""
    keys, values = fields.size("linear_num_key_heads", 16), fields.size("linear_num_value_heads", 32)
    fields.divides("linear_num_value_heads", values, "linear_num_key_heads", keys)
    return recurrent.GatedDelta(), {
        symbols.k_l: keys,
        symbols.h_l: values,
        symbols.e_k: fields.size("linear_key_head_dim", 128),
        symbols.e_l: fields.size("linear_value_head_dim", 128),
        symbols.k_c: fields.size("linear_conv_kernel_dim", 4),
    }


def jamba_mlps(fields: Fields, count: int) -> list[str]:
    """Experts in every other layer, unless there is only one expert."""
    listed = periodic("expert_layer", 2, 1, "moe", "dense")(fields, count)
    single = fields.size(fields.named("num_experts", *EXPERT_COUNTS), 16) == 1
    return ["dense"] * count if single else list(listed)


def granite_mixers(fields: Fields, count: int) -> list[str]:
    """The mixers of the list of layers, otherwise Mamba-2 in all."""
    words = {"mamba": "mamba", "attention": "full", "linear_attention": "mamba", "full_attention": "full"}
    return fields.words(fields.named("layer_types", "layers_block_type"), words, count) or ["mamba"] * count


def _granite_shared(fields: Fields, width: int) -> int:
    return fields.size("shared_intermediate_size", 1024)


def granite_mlp(fields: Fields, hidden: int) -> Reading:
    """A shared MLP with or without experts."""
    if fields.size("num_local_experts", 8, low=0):
        return experts(count=8, chosen=2, shared=_granite_shared)(fields, hidden)
    return Mlp(activation()(fields), width="f_s"), {symbols.f_s: _granite_shared(fields, hidden)}


LISTS = ("layers_block_type", "layer_types")
LETTERS = {"M": "mamba", "*": "full", "-": "mlp", "E": "moe"}
WORDS = {"mamba": "mamba", "linear_attention": "mamba", "attention": "full", "full_attention": "full", "mlp": "mlp", "moe": "moe"}


def nemotron_pattern(fields: Fields, count: int) -> list[str]:
    """One part per layer, by a list of words or a pattern of characters."""
    listed = fields.words(fields.named(*LISTS), WORDS, count)
    letters = fields.pattern("hybrid_override_pattern", LETTERS)
    if listed is None and letters is None:
        raise fields.error("hybrid_override_pattern is missing; expected a character per layer, M, *, - or E")
    if letters is not None and len(letters) != count:
        raise fields.error(f"hybrid_override_pattern has {len(letters)} characters; expected num_hidden_layers, {count}")
    if listed is not None and letters is not None and listed != letters:
        raise fields.error("layers_block_type and hybrid_override_pattern disagree, but they mean the same")
    return listed or letters or []


def _of_pattern(*names: str) -> LayerRule:
    return lambda fields, count: [name if name in names else "" for name in nemotron_pattern(fields, count)]


def _nemotron_shared(fields: Fields, width: int) -> int:
    return fields.size("moe_shared_expert_intermediate_size", 7688)


def nemotron_experts(fields: Fields, hidden: int) -> Reading:
    """Experts on whole tokens, or on compressed ones."""
    latent, biased = fields.size("moe_latent_size", None), flag("mlp_bias", False)
    shared = {"shared": _nemotron_shared, "shared_bias": biased}
    read = experts(width=MOE_WIDTH, count=8, chosen=2, latent=biased if latent else None, **shared, **RELU2)
    part, sizes = read(fields, hidden)
    return part, sizes | ({symbols.d_e: latent} if latent else {})


def nemotron_count(fields: Fields) -> int:
    """As many layers as the list of words or the pattern has; ``num_hidden_layers`` need not be there."""
    patterns = (fields.peek(name) for name in (*LISTS, "hybrid_override_pattern"))
    stated = next((len(given) for given in patterns if isinstance(given, list | str) and given), None)
    return fields.layers("num_hidden_layers") if stated is None or "num_hidden_layers" in fields else min(stated, MOST_LAYERS)


RELU2: dict[str, Any] = {"activation": activation("relu2", "mlp_hidden_act"), "gated": False}

ONLY_MAMBA: dict[str, Any] = {"mixers": only("mamba"), "mlps": only(""), "positions": at_most()}
MAMBA: dict[str, Any] = {**ONLY_MAMBA, "layers": ("num_hidden_layers", "n_layer"), "attributes": {"tied": TIED}}

RECURRENT = (
    DecoderFamily(
        "granitemoehybrid",
        "IBM (2025), Granite 4.0; Transformers' GraniteMoeHybridConfig",
        {
            "full": attention(
                rotary=lambda fields: fields.choice("position_embedding_type", {"rope": True, "nope": False, "none": False}, "none"),
                **WITH_BIAS,
            ),
            "mamba": granite_mamba,
            "mlp": granite_mlp,
        },
        mixers=granite_mixers,
        mlps=only("mlp"),
        attributes={"scaled": granite_multipliers},
        ignored=(
            *("attention_multiplier", "mamba_chunk_size", "normalization_function", "init_method", *TIME_STEPS),
            *("num_experts_per_tok", "intermediate_size"),  # read where there are experts
        ),
    ),
    DecoderFamily(
        "mamba", "Gu and Dao (2023), arXiv:2312.00752; Transformers' MambaConfig", {"mamba": mamba()}, **MAMBA, ignored=MAMBA_IGNORED
    ),
    DecoderFamily(
        "falcon_mamba",
        "Zuo et al. (2024), arXiv:2410.05355; Transformers' FalconMambaConfig",
        {"mamba": mamba(inner_norms=False)},
        **MAMBA,
        ignored=(*MAMBA_IGNORED, "use_falcon_mambapy"),
    ),
    DecoderFamily(
        "mamba2",
        "Dao and Gu (2024), arXiv:2405.21060; Transformers' Mamba2Config",
        {"mamba": mamba2},
        **ONLY_MAMBA,
        ignored=(
            *(*MAMBA_IGNORED, "chunk_size", "time_step_rank", "norm_before_gate", "use_mem_eff_path", "A_initializer_range"),
            "intermediate_size",
        ),
    ),
    DecoderFamily(
        "jamba",
        "Lieber et al. (2024), arXiv:2403.19887; Transformers' JambaConfig",
        {
            "full": attention(kv_heads=8, rotary=False),
            "mamba": mamba(prefix="mamba_", bias="mamba_proj_bias", inner_norms=True),
            "dense": mlp(),
            "moe": experts(count=16, chosen=2),
        },
        mixers=periodic("attn_layer", 8, 4, "full", "mamba"),
        mlps=jamba_mlps,
        only_understood={"sliding_window": (None, "the published models have no sliding window")},
        ignored=(*(*MAMBA_IGNORED, "use_mamba_kernels", "num_logits_to_keep", "calc_logits_for_entire_prompt", "mamba_inner_layernorms"),),
    ),
    DecoderFamily(
        "nemotron_h",
        "NVIDIA (2025), arXiv:2504.03624; Transformers' NemotronHConfig, which never ties the LM head",
        {
            "mamba": nemotron_mamba,
            "full": attention(kv_heads=8, head_dim=128, rotary=False),
            "mlp": mlp(absent=21504, bias=flag("mlp_bias", False), **RELU2),
            "moe": nemotron_experts,
        },
        mixers=_of_pattern("mamba", "full"),
        mlps=_of_pattern("mlp", "moe"),
        counted=nemotron_count,
        predicted=("full", "moe"),  # mtp_hybrid_override_pattern "*E" of Nemotron 3; vLLM, models/nemotron_h_mtp.py
        attributes={"tied": False},
        ignored=(
            *(*MAMBA_IGNORED, "chunk_size", "expand", "mamba_proj_bias", "attention_bias", "attention_head_dim", "mamba_ssm_cache_dtype"),
            *("use_mamba_kernels", "num_logits_to_keep", "tie_word_embeddings", "mamba_hidden_act", "mamba_dt_min", "mamba_dt_max"),
            *("mamba_dt_floor", "mamba_dt_init", "mamba_dt_limit", "mamba_num_groups", "sliding_window"),
            *("time_step_rank", "n_shared_experts", "num_nextn_predict_layers", "mtp_hybrid_override_pattern"),
            *("mtp_layers_block_type", "moe_shared_expert_overlap"),
            "moe_shared_expert_intermediate_size",
        ),
    ),
    DecoderFamily(
        "qwen3_next",
        "Qwen team (2025), Qwen3-Next; Yang, Kautz and Hatamizadeh (2024), arXiv:2412.06464; Transformers' Qwen3NextConfig",
        {
            "full": attention(kv_heads=2, head_dim=256, turned="0.25", qk_norm=Norm.RMS, gated=True, **WITH_BIAS),
            "linear": gated_delta,
            **QWEN_MOE,
        },
        mixers=last_of_each(4, "full_attention_interval", others="linear", words={"full_attention": "full", "linear_attention": "linear"}),
        mlps=sparse_steps,
        ignored=("use_sliding_window",),
        predicted=("full", "moe"),
        predicting=1,  # vLLM, models/qwen3_next_mtp.py
    ),
)
