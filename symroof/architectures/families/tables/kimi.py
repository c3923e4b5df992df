"""Kimi Linear and Kimi K3: Kimi Delta Attention in three layers of four, latent attention without a rotary embedding in the fourth."""

from __future__ import annotations

from dataclasses import replace

from sympy import Symbol

from symroof import symbols
from symroof.architectures.families.family import DecoderFamily, at_most
from symroof.architectures.families.layouts import MLP_TYPES, dense_first, listed
from symroof.architectures.families.recipes import activation, experts, flag, latent, mlp
from symroof.architectures.families.sparse import MOE_WIDTH
from symroof.architectures.fields import Fields
from symroof.architectures.parts.kimi import KimiDelta
from symroof.architectures.parts.mlp import Experts
from symroof.architectures.parts.part import ACTIVATIONS, Part

TYPES = {"full_attention": "full", "linear_attention": "linear"}


def _linear(fields: Fields) -> Fields | None:
    """The object with the sizes of linear attention, where the config has it."""
    return fields.nested("linear_attn_config") if "linear_attn_config" in fields else None


def kimi_layers(fields: Fields, count: int) -> list[str]:
    """What ``layer_types`` lists, or two lists of layers counted from 1, or latent attention in the fifth, ninth, ... layer."""
    inner, words = _linear(fields), fields.words("layer_types", TYPES, count)
    numbered = [inner.indices(name, count + 1) for name in ("full_attn_layers", "kda_layers")] if inner else [None, None]
    full, linear = numbered
    if words or full is None or linear is None:
        return words or ["full" if number and number % 4 == 0 else "linear" for number in range(count)]
    if full & linear or full | linear != set(range(1, count + 1)):
        raise fields.error(f"linear_attn_config.full_attn_layers and kda_layers; expected each layer from 1 to {count} in one of them")
    return ["full" if number in full else "linear" for number in range(1, count + 1)]


def kimi_delta(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
    """Heads of linear attention, in an object of their own or in fields as Transformers saves them."""
    inner = _linear(fields)
    heads, width = fields.size("linear_num_heads", 32), fields.size("linear_head_dim", 128)
    taps = fields.size("linear_conv_kernel_dim", 4)
    if inner is not None:
        heads, width = inner.size("num_heads", heads), inner.size("head_dim", width)
        taps = inner.size("short_conv_kernel_size", taps)
    part = KimiDelta(inner is not None and inner.flag("use_full_rank_gate", False))
    return part, {symbols.h_l: heads, symbols.e_l: width, symbols.k_c: taps}


SITU = activation(known=ACTIVATIONS | {"situ": "situ"})

_experts = experts(
    width=MOE_WIDTH,
    named="num_experts",
    count=256,
    chosen=8,
    activation=SITU,
    shared=lambda fields, width: fields.size(fields.named("num_shared_experts", "n_shared_experts"), 1, low=0) * width,
)


def kimi_experts(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
    """Experts on whole tokens, or on compressed ones of ``routed_expert_hidden_size`` components."""
    part, sizes = _experts(fields, hidden)
    width, normed = fields.size("routed_expert_hidden_size", None), fields.flag("latent_moe_use_norm", False)
    if width is None:
        return part, sizes
    assert isinstance(part, Experts)
    return replace(part, latent=False, latent_norm=normed), sizes | {symbols.d_e: width}


KIMI = (
    DecoderFamily(
        "kimi_linear",
        "Kimi team (2025), arXiv:2510.26692; Transformers' KimiLinearConfig, which never ties the LM head",
        {
            "full": latent(None, {"rotary": False, "gated": flag("mla_use_output_gate", False)}),
            "linear": kimi_delta,
            "dense": mlp(activation=SITU),
            "moe": kimi_experts,
        },
        mixers=kimi_layers,
        mlps=listed(dense_first(1), "mlp_layer_types", MLP_TYPES),
        positions=at_most("model_max_length", "max_position_embeddings"),
        attributes={"tied": False, "depth_attention": lambda fields: fields.size("attn_res_block_size", None) is not None},
        only_understood={
            "moe_layer_freq": (1, "every layer behind the dense ones has experts"),
            "mla_use_nope": (True, "latent attention has no rotary embedding"),
        },
        ignored=(
            *("num_expert_group", "moe_renormalize", "moe_router_activation_func", "use_grouped_topk", "head_dim", "num_key_value_heads"),
            *("activation_situ_beta", "activation_situ_linear_beta", "qk_head_dim", "first_k_dense_replace", "tie_word_embeddings"),
            "gate_lower_bound",
        ),
    ),
)
