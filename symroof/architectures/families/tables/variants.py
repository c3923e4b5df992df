"""Decoders with a dense MLP whose block is Llama's or Qwen's, changed in a place or two."""

from __future__ import annotations

from typing import Any

from sympy import Symbol

from symroof.architectures.families.dense import BEHIND, NO_BIAS
from symroof.architectures.families.family import DecoderFamily, at_most
from symroof.architectures.families.gpt import gpt_attention
from symroof.architectures.families.layouts import LAYER_TYPES, listed, local_and_global, used_windows, windowed
from symroof.architectures.families.recipes import TIED, WITH_BIAS, activation, attention, biased, flag, mlp, plain_mlp
from symroof.architectures.fields import Fields
from symroof.architectures.parts.part import ACTIVATIONS, Part
from symroof.operators.elementwise import Norm

HUNYUAN_IGNORED = (
    *(
        "add_classification_head",
        "class_num",
        "eod_token_id",
        "im_end_id",
        "im_newline_id",
        "im_start_id",
        "image_token_id",
        "mask_init_id",
    ),
    *("norm_type", "org_vocab_size", "pad_id", "pool_type", "text_end_id", "text_start_id", "use_rotary_pos_emb", "sep_token_id"),
    *("attention_head_dim", "cla_share_factor", "dense_list", "routed_scaling_factor"),
)
HUNYUAN_ONLY: dict[str, tuple[Any, str]] = {
    "use_qk_norm": (True, "queries and keys are normed"),
    "use_cla": (False, "every layer has keys and values of its own"),
    "mlp_bias": (False, "the MLP has no biases"),
}


def without_window(fields: Fields) -> bool:
    """Whether no layer has a window, as a null ``sliding_window`` says; then all have a rotary embedding."""
    return fields.size("sliding_window", 4096, null=None) is None


def scaled_by_position(fields: Fields) -> bool:
    """Whether the rotary parameters scale the queries of far positions; absent ones do."""
    return fields.nested("rope_parameters").peek("llama_4_scaling_beta") not in (None, 0) if "rope_parameters" in fields else True


def _either(*names: str, absent: bool) -> Any:
    return lambda fields: fields.flag(fields.named(*names), absent)


INSIDE_ATTENTION = ("alibi_bias_max", "attn_impl", "clip_qkv", "is_encoder_decoder", "softmax_scale")


def mpt_attention(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
    """Attention with a distance bias, one KV head per query head; what is in ``attn_config`` must not say otherwise."""
    if "attn_config" in fields:
        inner = fields.nested("attn_config")
        inner.fixed("attn_type", "multihead_attention", "one KV head per query head")
        inner.fixed("alibi", True, "positions enter as a distance bias")
        for name in ("qk_ln", "prefix_lm", "attn_uses_sequence_id"):
            inner.fixed(name, False, "plain causal attention")
    names: dict[str, Any] = {"hidden_size": ("d_model", "hidden_size"), "heads": ("n_heads", "num_attention_heads")}
    return gpt_attention(**names, bias=False, out_bias=False, biased=True)(fields, hidden)


VARIANTS = (
    DecoderFamily(
        "qwen2_5_vl",
        "Qwen team (2025), arXiv:2502.13923; Transformers' Qwen2_5_VLTextConfig, and Qwen2VLTextConfig before it",
        {"full": attention(kv_heads=8, filled=True, bias=True), "dense": mlp()},
        mixers=used_windows(lambda number, first: number >= first, absent=80),
        window=4096,
    ),
    DecoderFamily(
        "qwen3_vl",
        "Qwen team (2025), arXiv:2511.21631; Transformers' Qwen3VLTextConfig; features of images are added to the first layers' outputs",
        {"full": attention(kv_heads=32, head_dim=128, qk_norm=Norm.RMS, **WITH_BIAS), "dense": mlp()},
    ),
    DecoderFamily(
        "ministral",
        "Mistral AI (2024), huggingface.co/mistralai/Ministral-8B-Instruct-2410; Transformers' MinistralConfig",
        {"full": attention(kv_heads=8), "dense": mlp()},
        mixers=listed(windowed(4096), "layer_types", LAYER_TYPES),
        window=4096,
    ),
    DecoderFamily(
        "ministral3",
        "Mistral AI (2025), Ministral 3 and Devstral 2; Transformers' Ministral3Config",
        {"full": attention(kv_heads=8, head_dim=128, scaled=scaled_by_position), "dense": mlp()},
        mixers=windowed(),
    ),
    DecoderFamily(
        "exaone",
        "LG AI Research (2024), EXAONE 3.5, arXiv:2412.04862; Transformers' ExaoneConfig",
        {
            "full": attention(kv_heads=8, **WITH_BIAS),
            "dense": mlp(
                activation=lambda fields: fields.choice(fields.named("activation_function", "hidden_act"), ACTIVATIONS, "silu"),
                bias=flag("mlp_bias", False),
            ),
        },
        layers=("num_layers", "num_hidden_layers"),
        ignored=("embed_dropout",),
    ),
    DecoderFamily(
        "exaone4",
        "LG AI Research (2025), EXAONE 4.0, arXiv:2507.11407; Transformers' Exaone4Config; beside windows, global layers do not rotate",
        {
            "full": attention(kv_heads=32, rotary=without_window, qk_norm=Norm.RMS),
            "sliding": attention(kv_heads=32, qk_norm=Norm.RMS),
            "dense": mlp(),
        },
        mixers=local_and_global(4096),
        window=4096,
        norms=BEHIND,
        ignored=("mtp_loss_scaling_factor", "mtp_share_layers"),
    ),
    DecoderFamily(
        "hunyuan_v1_dense",
        "Tencent (2025), Hunyuan 0.5B to 7B; Transformers' HunYuanDenseV1Config",
        {"full": attention(qk_norm=Norm.RMS, **WITH_BIAS), "dense": mlp()},
        only_understood=HUNYUAN_ONLY,
        ignored=HUNYUAN_IGNORED,
    ),
    DecoderFamily(
        "ernie4_5",
        "Baidu (2025), ERNIE 4.5 technical report; Transformers' Ernie4_5Config",
        {"full": attention(kv_heads=2, head_dim=128, **biased("use_bias", False)), "dense": mlp(bias=flag("use_bias", False))},
        attributes={"tied": TIED},
    ),
    DecoderFamily(
        "seed_oss",
        "ByteDance Seed (2025), huggingface.co/ByteDance-Seed/Seed-OSS-36B-Instruct; Transformers' SeedOssConfig",
        {
            "full": attention(kv_heads=8, head_dim=128, bias=flag("attention_bias", True), out_bias=flag("attention_out_bias", False)),
            "dense": mlp(bias=flag("mlp_bias", False)),
        },
    ),
    DecoderFamily(
        "apertus",
        "Swiss AI Initiative (2025), arXiv:2509.14233; Transformers' ApertusConfig; xIELU has two learned numbers per layer",
        {
            "full": attention(qk_norm=Norm.RMS, **WITH_BIAS),
            "dense": plain_mlp(bias=False, activation=activation("xielu", known=ACTIVATIONS | {"xielu": "xielu"})),
        },
        only_understood={
            "qk_norm": (True, "queries and keys are normed"),
            "post_norm": (False, "norms stand before the halves of a layer"),
            "mlp_bias": (False, "the MLP has no biases"),
        },
    ),
    DecoderFamily(
        "internlm3",
        "Shanghai AI Laboratory (2025), huggingface.co/internlm/internlm3-8b-instruct; Transformers' InternLM3Config",
        {
            "full": attention(
                kv_heads=2,
                head_dim=128,
                bias=_either("qkv_bias", "attention_bias", absent=False),
                out_bias=_either("bias", "mlp_bias", absent=False),
            ),
            "dense": mlp(bias=_either("bias", "mlp_bias", absent=False)),
        },
    ),
    DecoderFamily(
        "internlm2",
        "Shanghai AI Laboratory (2024), arXiv:2403.17297; internlm/internlm2-7b on the hub, whose fused q, k, v are counted separately",
        {"full": attention(**biased("bias", True)), "dense": mlp()},
        ignored=("attn_implementation",),
    ),
    DecoderFamily(
        "internlm",
        "Shanghai AI Laboratory (2023), internlm/internlm-7b on the hub",
        {"full": attention(**biased("bias", True)), "dense": mlp()},
        ignored=("rotary",),
    ),
    DecoderFamily(
        "baichuan",
        "Baichuan (2023), arXiv:2309.10305; baichuan-inc/Baichuan2-7B-Base on the hub; without a longest position it has ALiBi",
        {
            "full": attention(
                rotary=lambda fields: "max_position_embeddings" in fields, biased=lambda fields: "max_position_embeddings" not in fields
            ),
            "dense": mlp(),
        },
        ignored=("z_loss_weight",),
    ),
    DecoderFamily(
        "mpt",
        "MosaicML (2023), MPT-7B; Transformers' MptConfig, whose MptMLP fixes the 4",
        {
            "full": mpt_attention,
            "dense": plain_mlp(width="", times=4, bias=False, activation="gelu"),
        },
        hidden=("d_model", "hidden_size"),
        layers=("n_layers", "num_hidden_layers"),
        positions=at_most("max_seq_len"),
        norms=NO_BIAS,
        attributes={"tied": TIED},
        only_understood={
            "no_bias": (True, "linear layers and norms have no biases"),
            "expansion_ratio": (4, "the MLP is four times as wide as the hidden size"),
            "logit_scale": (None, "logits are not scaled"),
        },
        ignored=(
            "embedding_fraction",
            "init_device",
            "norm_type",
            "verbose",
            "init_config",
            "emb_pdrop",
            "learned_pos_emb",
            *INSIDE_ATTENTION,
        ),
    ),
)
