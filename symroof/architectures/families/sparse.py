"""Decoders with experts in all or most of their layers: Mixtral, Qwen, DeepSeek, GPT-OSS, and others."""

from __future__ import annotations

from typing import Any

from symroof.architectures.families.dense import ALL_NORMED, granite_multipliers
from symroof.architectures.families.family import LAYER_NORM, DecoderFamily, only
from symroof.architectures.families.layouts import dense_first, last_of_each, sparse_steps, used_windows, windowed
from symroof.architectures.families.recipes import (
    BIAS,
    TIED,
    WITH_BIAS,
    PartReader,
    attention,
    biased,
    experts,
    flag,
    latent_attention,
    mlp,
    shared_experts,
    when,
)
from symroof.architectures.fields import Fields
from symroof.operators.elementwise import Norm

MOE_WIDTH = "moe_intermediate_size"
DEEPSEEK: dict[str, Any] = {
    "only_understood": {"moe_layer_freq": (1, "every layer behind the dense ones has experts")},
    "ignored": ("num_nextn_predict_layers", "qk_head_dim", "head_dim", "num_key_value_heads"),
}


def deepseek_experts(shared: int, **recipe: Any) -> PartReader:
    """Routed and shared experts from DeepSeek's fields; *shared* is the default number of shared experts."""
    return experts(width=MOE_WIDTH, named="n_routed_experts", shared=shared_experts("n_shared_experts", shared, null=0), **recipe)


def qwen_shared(fields: Fields, width: int) -> int:
    """The intermediate size of Qwen's shared expert, which has its own field."""
    return fields.size("shared_expert_intermediate_size")


def ernie_layers(fields: Fields, count: int) -> list[str]:
    """Experts at a regular interval of layers within a range."""
    period, first = fields.size("moe_layer_interval", 1), fields.size("moe_layer_start_index", 1, low=0)
    last = fields.size("moe_layer_end_index", -1, low=-1)
    final = count - 1 if last == -1 else last
    return ["moe" if (number + 1) % period == 0 and first <= number <= final else "dense" for number in range(count)]


QWEN_MOE = {"moe": experts(width=MOE_WIDTH, named="num_experts", shared=qwen_shared, shared_gate=True), "dense": mlp()}

SPARSE = (
    DecoderFamily(
        "mixtral",
        "Jiang et al. (2024), arXiv:2401.04088; Transformers' MixtralConfig",
        {"full": attention(kv_heads=8), "moe": experts(count=8, chosen=2)},
        mixers=windowed(),
        mlps=only("moe"),
    ),
    DecoderFamily(
        "phimoe",
        "Abdin et al. (2024), arXiv:2404.14219; Transformers' PhimoeConfig",
        {"full": attention(kv_heads=8, **WITH_BIAS), "moe": experts(count=16, chosen=2)},
        mixers=windowed(),
        mlps=only("moe"),
        norms=LAYER_NORM,
        attributes={"head_bias": flag("lm_head_bias", False)},
    ),
    DecoderFamily(
        "olmoe",
        "Muennighoff et al. (2024), arXiv:2409.02060; Transformers' OlmoeConfig",
        {"full": attention(filled=True, **ALL_NORMED), "moe": experts(count=64, chosen=8)},
        mlps=only("moe"),
        ignored=("clip_qkv",),
    ),
    DecoderFamily(
        "granitemoe",
        "IBM (2024), Granite 3.0; Transformers' GraniteMoeConfig",
        {"full": attention(**WITH_BIAS), "moe": experts(count=8, chosen=2)},
        mlps=only("moe"),
        attributes={"scaled": granite_multipliers},
        ignored=("attention_multiplier",),
    ),
    DecoderFamily(
        "gpt_oss",
        "OpenAI (2025), gpt-oss model card, arXiv:2508.10925; Transformers' GptOssConfig",
        {
            "full": attention(kv_heads=8, head_dim=64, sinks=True, **biased("attention_bias", True)),
            "moe": experts(count=128, chosen=4, bias=True, router_bias=True),
        },
        mixers=last_of_each(2),
        mlps=only("moe"),
        window=128,
        ignored=("swiglu_alpha", "swiglu_limit", "initial_context_length"),
    ),
    DecoderFamily(
        "ernie4_5_moe",
        "Baidu (2025), ERNIE 4.5 technical report; Transformers' Ernie4_5_MoeConfig",
        {
            "full": attention(kv_heads=4, **biased("use_bias", False)),
            "dense": mlp(bias=flag("use_bias", False)),
            "moe": experts(
                width=MOE_WIDTH,
                count=64,
                chosen=6,
                correction=True,
                shared=shared_experts("moe_num_shared_experts", 2),
                shared_bias=flag("use_bias", False),
            ),
        },
        mlps=ernie_layers,
        attributes={"tied": TIED, "head_bias": flag("use_bias", False)},
        ignored=(*("moe_capacity", "moe_norm_min", "moe_gate", "moe_use_aux_free", "num_nextn_predict_layers"),),
        predicted=("full", "dense"),  # vLLM, models/ernie_mtp.py
    ),
    DecoderFamily(
        "qwen2_moe",
        "Qwen team (2024), qwenlm.github.io/blog/qwen-moe; Transformers' Qwen2MoeConfig",
        {"full": attention(kv_heads=16, bias=flag("qkv_bias", True)), **QWEN_MOE},
        mixers=used_windows(lambda number, first: number % 2 == 0 and number < first),
        mlps=sparse_steps,
        window=4096,
    ),
    DecoderFamily(
        "qwen3_moe",
        "Yang et al. (2025), arXiv:2505.09388; Transformers' Qwen3MoeConfig",
        {
            "full": attention(kv_heads=4, qk_norm=Norm.RMS, **WITH_BIAS),
            "moe": experts(width=MOE_WIDTH, named="num_experts"),
            "dense": mlp(),
        },
        mixers=used_windows(lambda number, first: True, first=False),
        mlps=sparse_steps,
        window=4096,
        ignored=("max_window_layers", "qkv_bias", "use_qk_norm", "shared_expert_intermediate_size"),
    ),
    DecoderFamily(
        "glm4_moe",
        "GLM team (2025), GLM-4.5, arXiv:2508.06471; Transformers' Glm4MoeConfig",
        {
            "full": attention(kv_heads=8, turned="0.5", bias=BIAS, qk_norm=when("use_qk_norm", Norm.RMS)),
            "dense": mlp(),
            "moe": deepseek_experts(1, count=128, chosen=8),
        },
        mlps=dense_first(1),
        ignored=("num_nextn_predict_layers",),
    ),
    DecoderFamily(
        "deepseek",
        "Dai et al. (2024), arXiv:2401.06066; deepseek-ai/deepseek-moe-16b-base on the hub",
        {"full": attention(**WITH_BIAS), "dense": mlp(), "moe": deepseek_experts(0)},
        mlps=dense_first(0),
        **DEEPSEEK,
    ),
    DecoderFamily(
        "deepseek_v2",
        "DeepSeek-AI (2024), arXiv:2405.04434; Transformers' DeepseekV2Config",
        {
            "full": latent_attention,
            "dense": mlp(bias=flag("mlp_bias", False)),
            "moe": deepseek_experts(2, count=64, shared_bias=flag("mlp_bias", False)),
        },
        mlps=dense_first(0),
        **DEEPSEEK,
    ),
    DecoderFamily(
        "deepseek_v3",
        "DeepSeek-AI (2024), arXiv:2412.19437; Transformers' DeepseekV3Config; layers that predict a second token are no part of a step",
        {"full": latent_attention, "dense": mlp(), "moe": deepseek_experts(1, count=256, chosen=8)},
        mlps=dense_first(3),
        **DEEPSEEK,
    ),
)
