"""Ling and Ring (Bailing): experts behind attention, linear attention with a fixed decay, or Kimi Delta Attention."""

from __future__ import annotations

from typing import Any

from sympy import Symbol

from symroof import symbols
from symroof.architectures.families.family import DecoderFamily, LayerRule, at_most
from symroof.architectures.families.layouts import MLP_TYPES, by_period, dense_first, listed
from symroof.architectures.families.recipes import PartReader, attention, experts, flag, latent, mlp, turned_components
from symroof.architectures.families.sparse import MOE_WIDTH
from symroof.architectures.fields import Fields
from symroof.architectures.parts.kimi import KimiDelta
from symroof.architectures.parts.lightning import Lightning
from symroof.architectures.parts.part import Part
from symroof.operators.elementwise import Norm

TYPES = {"full_attention": "full", "linear_attention": "linear"}


def bailing_attention(*, normed: bool, head_dim: int | None, either: bool = False) -> PartReader:
    """Grouped attention.

    Parameters
    ----------
    normed, head_dim : what an absent ``use_qk_norm``, and an absent ``head_dim``, mean.
    either : whether ``use_bias`` means the bias of queries, keys and values too.
    """

    def biased(fields: Fields) -> bool:
        return fields.flag("use_qkv_bias", False) or (either and fields.flag("use_bias", False))

    return attention(
        kv_heads=4,
        head_dim=head_dim,
        bias=biased,
        out_bias=flag("use_bias", False),
        qk_norm=lambda fields: Norm.RMS if fields.flag("use_qk_norm", normed) else None,
    )


def lightning(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
    """Linear attention with as many key heads as query heads."""
    heads = fields.size("num_attention_heads")
    width = fields.size("head_dim", 128)
    fields.divides("num_attention_heads x head_dim", heads * width, "group_norm_size", fields.size("group_norm_size", 4))
    flags = [fields.flag(*named) for named in (("use_qkv_bias", False), ("use_bias", False), ("use_qk_norm", True))]
    sizes = {symbols.h_l: heads, symbols.e_l: width, symbols.r: turned_components(fields, width, "1")}
    return Lightning(*flags), sizes


def full_in_groups(absent: int, *, rest: bool) -> LayerRule:
    """Full attention in the last layer of every group of ``layer_group_size``; *rest*: and in those behind the last whole group."""

    def rule(fields: Fields, count: int) -> list[str]:
        size = fields.size("layer_group_size", absent)
        kinds = by_period(count, size, size - 1, "full", "linear")
        whole = count // size * size
        return [*kinds[:whole], *(["full"] * (count - whole) if rest else kinds[whole:])]

    return rule


def hybrid_layers(fields: Fields, count: int) -> list[str]:
    """The layers of Ling 3.0; those of Ling 2.5, published under the same ``model_type``, have another linear attention."""
    if "BailingMoeV2_5ForCausalLM" in (fields.listed("architectures") or ()):
        raise fields.error("architectures names BailingMoeV2_5ForCausalLM (Ling 2.5); of model_type bailing_hybrid only Ling 3.0 is read")
    return list(listed(full_in_groups(6, rest=False), "layer_types", TYPES)(fields, count))


def _shared(fields: Fields, width: int) -> int:
    return fields.size(fields.named("num_shared_experts", "n_shared_experts"), 1, low=0, null=0) * width


def bailing_moe(count: int) -> PartReader:
    """Eight of, by default, *count* experts, and one that all tokens share."""
    return experts(width=MOE_WIDTH, named="num_experts", count=count, chosen=8, shared=_shared)


BAILING_IGNORED = (
    *("moe_shared_expert_intermediate_size", "score_function", "moe_router_enable_expert_bias", "router_dtype", "max_window_layers"),
    *(
        "norm_head",
        "norm_softmax",
        "output_dropout",
        "mtp_loss_scaling_factor",
        "use_rmsnorm",
        "linear_silu",
        "moe_router_topk_scaling_factor",
    ),
    *("rotary_dim", "group_norm_size", "multi_gate", "rotary_type", "rope_scaling", "moe_router_enable_shared_expert"),
)


def kda(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
    """Kimi Delta Attention with decays and gates of full rank."""
    fields.fixed("no_kda_lora", True, "decays and gates have full rank")
    width = fields.size("linear_head_dim", fields.size("head_dim", 128))
    heads = fields.size("linear_num_heads", fields.size("num_attention_heads"))
    taps = fields.size(fields.named("short_conv_kernel_size", "linear_conv_kernel_dim"), 4)
    return KimiDelta(full_rank_gate=True, full_rank_decay=True), {symbols.h_l: heads, symbols.e_l: width, symbols.k_c: taps}


MOE: dict[str, Any] = {"dense": mlp(), "moe": bailing_moe(256)}
BAILING = (
    DecoderFamily(
        "bailing_moe",
        "inclusionAI (2025), Ling, arXiv:2503.05139; github.com/inclusionAI/Ling, modeling_bailing_moe.py",
        {"full": bailing_attention(normed=False, head_dim=None, either=True), **MOE},
        mlps=dense_first(0),
        ignored=BAILING_IGNORED,
    ),
    DecoderFamily(
        "bailing_moe_v2",
        "inclusionAI (2025), Ling 2.0, arXiv:2510.22115; github.com/inclusionAI/Ling-V2, modeling_bailing_moe_v2.py",
        {"full": bailing_attention(normed=True, head_dim=128), **MOE},
        mlps=dense_first(1),
        ignored=BAILING_IGNORED,
    ),
    DecoderFamily(
        "bailing_moe_linear",
        "inclusionAI (2025), Ring-linear 2.0, arXiv:2510.19338; linear attention as in github.com/inclusionAI/Ring-V2.5",
        {"full": bailing_attention(normed=True, head_dim=128), "linear": lightning, **MOE},
        mixers=full_in_groups(5, rest=True),
        mlps=dense_first(1),
        ignored=BAILING_IGNORED,
    ),
    DecoderFamily(
        "bailing_hybrid",
        "inclusionAI (2026), Ling 3.0, huggingface.co/inclusionAI/Ling-3.0-Flash; Transformers' BailingHybridConfig",
        {"full": latent(None, {"head_gated": True}), "linear": kda, "dense": mlp(), "moe": bailing_moe(512)},
        mixers=hybrid_layers,
        mlps=listed(dense_first(2), "mlp_layer_types", MLP_TYPES),
        positions=at_most("max_position_embeddings", "model_max_length"),
        only_understood={"gated_attention_proj_granularity_type": ("head_wise", "one gate per head")},
        ignored=(
            *(*BAILING_IGNORED, "kda_safe_gate", "kda_lower_bound", "qk_head_dim", "head_dim", "num_key_value_heads", "num_expert_group"),
            *("moe_renormalize", "linear_num_heads", "linear_head_dim", "linear_conv_kernel_dim", "use_qk_norm", "partial_rotary_factor"),
            *("num_mtp_layers", "short_conv_kernel_size", "layer_group_size", "first_k_dense_replace"),
        ),
    ),
)
