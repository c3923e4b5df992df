"""Decoders with one dense MLP in every layer, most of them gated: Llama and its descendants, Gemma, GLM, OLMo, Command-R, Phi."""

from __future__ import annotations

from typing import Any

from sympy import Symbol

from symroof import symbols
from symroof.architectures.architecture import Norms
from symroof.architectures.families.family import LAYER_NORM, DecoderFamily, at_most
from symroof.architectures.families.layouts import LAYER_TYPES, last_of_each, used_windows, windowed
from symroof.architectures.families.recipes import TIED, WITH_BIAS, activation, attention, capped, flag, mlp, plain_mlp, when
from symroof.architectures.fields import Fields
from symroof.architectures.parts.attention import PER_HEAD_AND_COMPONENT, Attention
from symroof.architectures.parts.part import ACTIVATIONS, Part
from symroof.operators.elementwise import Norm

SANDWICH = Norms(Norm.RMS, after=True)
BEHIND = Norms(Norm.RMS, before=False, after=True)
NO_BIAS = Norms(Norm.LAYER)
NO_PARAMETERS = Norms(Norm.LAYER, weight=False)

ALL_NORMED: dict[str, Any] = {**WITH_BIAS, "qk_norm": Norm.RMS, "qk_weights": PER_HEAD_AND_COMPONENT}
"""Attention of OLMo 2 and later: all queries, and all keys, of a token share a norm."""

HIDDEN_ACTIVATION = activation("gelu_pytorch_tanh", "hidden_activation")
SIDE_BY_SIDE = {"parallel": True, "shared_norm": True}
COHERE = {"tied": TIED, **SIDE_BY_SIDE, "scaled": frozenset({"logits"})}
GEMMA = {"tied": TIED, "scaled": frozenset({"embedding"})}
MULTIPLIERS = {"embedding_multiplier": "embedding", "residual_multiplier": "residual", "logits_scaling": "logits"}


def granite_multipliers(fields: Fields) -> frozenset[str]:
    """The positions of multipliers."""
    return frozenset(place for name, place in MULTIPLIERS.items() if fields.measured(name, absent=False))


def smollm_layers(fields: Fields, count: int) -> list[str]:
    """Layers without rotary embedding ("nope") at a regular interval; windows, if used, in the others."""
    period, window = fields.size("no_rope_layer_interval", 4), fields.size("sliding_window", None)
    turning = fields.switches("no_rope_layers", count) or [(number + 1) % period != 0 for number in range(count)]
    used = window is not None and fields.flag("use_sliding_window", False)
    kinds = fields.words("layer_types", LAYER_TYPES, count) or ["sliding" if used and not turns else "full" for turns in turning]
    return [kind if turns or kind == "sliding" else "nope" for kind, turns in zip(kinds, turning, strict=True)]


def _smollm_turned_in_windows(fields: Fields) -> bool:
    return fields.size("sliding_window", None) is None or not fields.flag("use_sliding_window", False)


def chatglm_attention(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
    """Attention with ChatGLM's fields for groups and head dimension; half of each head is rotated."""
    heads, head_dim = fields.size("num_attention_heads"), fields.size("kv_channels", 128)
    groups = fields.size("multi_query_group_num", 1) if fields.flag("multi_query_attention", False) else heads
    fields.divides("num_attention_heads", heads, "multi_query_group_num", groups)
    turned = fields.divides("kv_channels", head_dim, "the turned share", 2)
    bias = fields.flag("add_bias_linear", False)
    part = Attention(bias=bias or fields.flag("add_qkv_bias", False), out_bias=bias)
    return part, {symbols.h: heads, symbols.k: groups, symbols.e: head_dim, symbols.r: turned}


GATED_MLP = (
    DecoderFamily(
        "llama",
        "Touvron et al. (2023), arXiv:2307.09288; Transformers' LlamaConfig",
        {"full": attention(**WITH_BIAS), "dense": mlp(bias=flag("mlp_bias", False))},
        ignored=("is_llama_config",),
    ),
    DecoderFamily(
        "mistral",
        "Jiang et al. (2023), arXiv:2310.06825; Transformers' MistralConfig",
        {"full": attention(kv_heads=8), "dense": mlp()},
        mixers=windowed(4096),
        window=4096,
    ),
    DecoderFamily(
        "phi3",
        "Abdin et al. (2024), arXiv:2404.14219; Transformers' Phi3Config, whose fused q, k, v and gate, up are counted separately",
        {"full": attention(), "dense": mlp()},
        mixers=windowed(),
        only_understood=dict.fromkeys(("mlp_bias", "lm_head_bias"), (False, "Transformers' class has no such bias")),
        ignored=("attention_bias",),
    ),
    DecoderFamily(
        "smollm3",
        "Transformers' SmolLM3Config",
        {
            "full": attention(kv_heads=4, **WITH_BIAS),
            "nope": attention(kv_heads=4, rotary=False, **WITH_BIAS),
            "sliding": attention(kv_heads=4, rotary=_smollm_turned_in_windows, **WITH_BIAS),
            "dense": mlp(bias=flag("mlp_bias", False)),
        },
        mixers=smollm_layers,
        attributes={"tied": TIED},
        ignored=("max_window_layers", "use_sliding_window"),
    ),
    DecoderFamily(
        "qwen2",
        "Yang et al. (2024), arXiv:2407.10671; Transformers' Qwen2Config",
        {"full": attention(kv_heads=32, bias=True), "dense": mlp()},
        mixers=used_windows(lambda number, first: number >= first),
        window=4096,
        ignored=("attention_bias", "use_mrope"),
    ),
    DecoderFamily(
        "qwen3",
        "Yang et al. (2025), arXiv:2505.09388; Transformers' Qwen3Config",
        {"full": attention(kv_heads=32, head_dim=128, qk_norm=Norm.RMS, **WITH_BIAS), "dense": mlp()},
        mixers=used_windows(lambda number, first: number >= first),
        window=4096,
    ),
    DecoderFamily(
        "phi",
        "Li et al. (2023), arXiv:2309.05463; Transformers' PhiConfig",
        {
            "full": attention(
                turned="0.5",
                filled=flag("qk_layernorm", False),
                bias=True,
                out_bias=True,
                qk_norm=when("qk_layernorm", Norm.LAYER),
                qk_bias=True,
            ),
            "dense": plain_mlp(activation=activation("gelu_new")),
        },
        norms=LAYER_NORM,
        attributes={"head_bias": True, **SIDE_BY_SIDE},
    ),
    DecoderFamily(
        "gemma",
        'Gemma team (2024), arXiv:2403.08295; Transformers\' GemmaConfig, which takes "gelu" for its tanh approximation',
        {
            "full": attention(kv_heads=16, head_dim=256, **WITH_BIAS),
            "dense": mlp(activation=activation("gelu_pytorch_tanh", known=ACTIVATIONS | {"gelu": "gelu_tanh"})),
        },
        attributes=GEMMA,
        ignored=("hidden_activation",),
    ),
    DecoderFamily(
        "gemma2",
        "Gemma team (2024), arXiv:2408.00118; Transformers' Gemma2Config",
        {
            "full": attention(kv_heads=4, head_dim=256, softcap=capped("attn_logit_softcapping", True), **WITH_BIAS),
            "dense": mlp(activation=HIDDEN_ACTIVATION),
        },
        mixers=last_of_each(2),
        window=4096,
        norms=SANDWICH,
        attributes={**GEMMA, "final_softcap": capped("final_logit_softcapping", True)},
        ignored=("query_pre_attn_scalar", "hidden_act"),
    ),
    DecoderFamily(
        "gemma3",
        "Gemma team (2025), arXiv:2503.19786; Transformers' Gemma3TextConfig",
        {
            "full": attention(kv_heads=4, head_dim=256, qk_norm=Norm.RMS, softcap=capped("attn_logit_softcapping", False), **WITH_BIAS),
            "dense": mlp(activation=HIDDEN_ACTIVATION),
        },
        mixers=last_of_each(6, "sliding_window_pattern"),
        window=4096,
        norms=SANDWICH,
        attributes={**GEMMA, "final_softcap": capped("final_logit_softcapping", False)},
        only_understood={"use_bidirectional_attention": (False, "a decoder looks back only")},
        ignored=("query_pre_attn_scalar", "hidden_act"),
    ),
    DecoderFamily(
        "stablelm",
        "Bellagente et al. (2024), arXiv:2402.17834; Transformers' StableLmConfig",
        {
            "full": attention(
                kv_heads=32,
                turned="0.25",
                filled=True,
                bias=flag("use_qkv_bias", False),
                qk_norm=when("qk_layernorm", Norm.LAYER),
                qk_weights=PER_HEAD_AND_COMPONENT,
            ),
            "dense": mlp(),
        },
        norms=LAYER_NORM,
        attributes={"parallel": flag("use_parallel_residual", False), "shared_norm": True},
    ),
    DecoderFamily(
        "cohere",
        "Cohere (2024), huggingface.co/CohereForAI/c4ai-command-r-v01; Transformers' CohereConfig",
        {"full": attention(qk_norm=when("use_qk_norm", Norm.LAYER), qk_weights=PER_HEAD_AND_COMPONENT, **WITH_BIAS), "dense": mlp()},
        norms=NO_BIAS,
        attributes=COHERE,
        ignored=("logit_scale",),
    ),
    DecoderFamily(
        "cohere2",
        "Cohere (2024), huggingface.co/CohereForAI/c4ai-command-r7b-12-2024; Transformers' Cohere2Config",
        {"full": attention(rotary=False, **WITH_BIAS), "sliding": attention(**WITH_BIAS), "dense": mlp()},
        mixers=last_of_each(4, "sliding_window_pattern", "layer_switch"),
        window=4096,
        norms=NO_BIAS,
        attributes=COHERE,
        only_understood={
            "use_gated_activation": (True, "the MLP is gated"),
            "use_parallel_block": (True, "attention and MLP run side by side"),
        },
        ignored=(
            *("logit_scale", "use_qk_norm", "order_of_interleaved_layers", "position_embedding_type"),
            *("use_embedding_sharing", "use_parallel_embedding"),
        ),
    ),
    DecoderFamily(
        "olmo",
        "Groeneveld et al. (2024), arXiv:2402.00838; Transformers' OlmoConfig",
        {"full": attention(**WITH_BIAS), "dense": mlp()},
        norms=NO_PARAMETERS,
        ignored=("clip_qkv",),
    ),
    DecoderFamily(
        "olmo2",
        "OLMo team (2024), arXiv:2501.00656; Transformers' Olmo2Config",
        {"full": attention(**ALL_NORMED), "dense": mlp()},
        norms=BEHIND,
        ignored=("clip_qkv",),
    ),
    DecoderFamily(
        "olmo3",
        "Ai2 (2025), OLMo 3; Transformers' Olmo3Config",
        {"full": attention(**ALL_NORMED), "dense": mlp()},
        mixers=last_of_each(4),
        window=4096,
        norms=BEHIND,
        ignored=("clip_qkv",),
    ),
    DecoderFamily(
        "granite",
        "IBM (2024), Granite 3.0; Transformers' GraniteConfig",
        {"full": attention(**WITH_BIAS), "dense": mlp(bias=flag("mlp_bias", False))},
        attributes={"scaled": granite_multipliers},
        ignored=("attention_multiplier",),
    ),
    DecoderFamily(
        "chatglm",
        "THUDM/chatglm3-6b, modeling_chatglm.py and config.json on the hub; fused q, k, v and gate, up are counted separately",
        {"full": chatglm_attention, "dense": mlp(width="ffn_hidden_size", activation="silu", bias=flag("add_bias_linear", False))},
        layers=("num_layers",),
        vocabulary="padded_vocab_size",
        positions=at_most("seq_length"),
        only_understood={
            "rmsnorm": (True, "the published models use RMSNorm"),
            "post_layer_norm": (True, "a norm follows the last layer"),
            "apply_residual_connection_post_layernorm": (False, "the residual is taken before the norm"),
            "original_rope": (True, "half of each head is turned"),
            "pre_seq_len": (None, "no prefix encoder"),
        },
        ignored=(
            *("apply_query_key_layer_scaling", "attention_softmax_in_fp32", "fp32_residual_connection", "interleaved_qkv"),
            "vocab_size",
        ),
    ),
    DecoderFamily(
        "glm",
        "GLM team (2024), arXiv:2406.12793; Transformers' GlmConfig",
        {"full": attention(kv_heads=2, head_dim=128, turned="0.5", bias=flag("attention_bias", True)), "dense": mlp()},
    ),
    DecoderFamily(
        "glm4",
        "THUDM (2025), GLM-4-0414; Transformers' Glm4Config",
        {"full": attention(kv_heads=2, head_dim=128, turned="0.5", bias=flag("attention_bias", True)), "dense": mlp()},
        norms=SANDWICH,
    ),
)
