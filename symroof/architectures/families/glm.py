"""GLM: ChatGLM3 and GLM-4 under their first names, GLM and GLM-4 as Transformers has them, GLM-4.5 with experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer, Norms
from symroof.architectures.families.llama import RMS, silu_by_default
from symroof.architectures.families.schema import expert_sizes, positions, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.operators.norm import Norm

UNUSED = ("intermediate_size", "moe_intermediate_size", "n_routed_experts", "num_experts_per_tok")
"""Sizes that stand in the config even where no layer is dense, or none has experts."""


@dataclass(frozen=True)
class ChatGLM(Decoder):
    """Llama's block with two KV groups, biases on q, k and v, and half of each head turned.

    The published code fuses q, k, v and gate, up into one matrix each; they are counted apart here,
    which moves the same weights and reads the input once for each.

    Source: THUDM/chatglm3-6b, modeling_chatglm.py and config.json on the hub.
    """

    family = "chatglm"
    ignored_fields = (
        *COMMON,
        *("apply_query_key_layer_scaling", "attention_softmax_in_fp32", "fp32_residual_connection", "interleaved_qkv", "vocab_size"),
    )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        heads, head_dim = fields.size("num_attention_heads"), fields.size("kv_channels", 128)
        groups = fields.size("multi_query_group_num", 1) if fields.flag("multi_query_attention", False) else heads
        fields.divides("num_attention_heads", heads, "multi_query_group_num", groups)
        fields.fixed("rmsnorm", True, "the published models use RMSNorm")
        fields.fixed("post_layer_norm", True, "a norm follows the last layer")
        fields.fixed("apply_residual_connection_post_layernorm", False, "the residual is taken before the norm")
        fields.fixed("original_rope", True, "half of each head is turned")
        fields.fixed("pre_seq_len", None, "no prefix encoder")
        bias = fields.flag("add_bias_linear", False)
        return cls(
            {
                symbols.d: fields.size("hidden_size"),
                symbols.f: fields.size("ffn_hidden_size"),
                symbols.h: heads,
                symbols.k: groups,
                symbols.e: head_dim,
                symbols.r: fields.divides("kv_channels", head_dim, "the turned share", 2),
                symbols.v: fields.size("padded_vocab_size"),
                symbols.L: fields.layers("num_layers"),
            },
            fields.size("seq_length", None),
            (Layer("layer", Attention(bias=bias or fields.flag("add_qkv_bias", False), out_bias=bias), Mlp("silu", bias=bias)),),
            RMS,
            tied=fields.flag("tie_word_embeddings", False),
        )


@dataclass(frozen=True)
class Glm(Decoder):
    """Biases on q, k and v; half of each head is turned.

    Source: GLM team (2024), arXiv:2406.12793; config fields as in Transformers' GlmConfig.
    """

    family = "glm"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**_dense(fields, RMS))


@dataclass(frozen=True)
class Glm4(Decoder):
    """GLM with a norm on what each half gives, too.

    Source: THUDM (2025), GLM-4-0414; config fields as in Transformers' Glm4Config.
    """

    family = "glm4"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**_dense(fields, Norms(Norm.RMS, after=True)))


def _dense(fields: Fields, norms: Norms) -> dict[str, Any]:
    fields.plain()
    sizes = transformer_sizes(fields, kv_heads=2, head_dim=128, rotary="0.5") | {
        symbols.f: fields.size("intermediate_size"),
        symbols.L: fields.layers("num_hidden_layers"),
    }
    return {
        "dimensions": sizes,
        "max_positions": positions(fields),
        "layers": (Layer("layer", Attention(bias=fields.flag("attention_bias", True)), Mlp(silu_by_default(fields))),),
        "norms": norms,
        "tied": fields.flag("tie_word_embeddings", False),
    }


@dataclass(frozen=True)
class Glm4Moe(Decoder):
    """Dense layers first, then many experts with a shared one.

    Source: GLM team (2025), GLM-4.5, arXiv:2508.06471; config fields as in Transformers' Glm4MoeConfig.
    """

    family = "glm4_moe"
    ignored_fields = (*COMMON, *UNUSED, "num_nextn_predict_layers")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        norm = Norm.RMS if fields.flag("use_qk_norm", False) else None
        attention = Attention(bias=fields.flag("attention_bias", False), qk_norm=norm)
        sizes = transformer_sizes(fields, kv_heads=8, rotary="0.5")
        return cls(**dense_first(fields, sizes, attention, defaults={"first": 1, "shared": 1, "experts": 128, "chosen": 8}))


def dense_first(fields: Fields, sizes: dict[Any, int], mixer: Any, *, defaults: dict[str, int], mlp_bias: bool = False) -> dict[str, Any]:
    """A decoder whose first layers have a dense MLP and the others routed and shared experts.

    Parameters
    ----------
    defaults : what absent fields mean: "first" (dense layers), "shared" (experts), "experts", "chosen".
    """
    count = fields.layers("num_hidden_layers")
    dense = min(fields.size("first_k_dense_replace", defaults["first"], low=0), count)
    common = fields.size("n_shared_experts", defaults["shared"], low=0, null=0)
    mlps = ["dense"] * dense + ["moe"] * (count - dense)
    activation = silu_by_default(fields)
    if dense:
        sizes |= {symbols.f: fields.size("intermediate_size")}
    if dense < count:
        known = {name: value for name, value in defaults.items() if name in ("experts", "chosen")}
        sizes |= expert_sizes(fields, width="moe_intermediate_size", defaults=known, inline_definitions="n_routed_experts")
        sizes |= {symbols.f_s: common * sizes[symbols.f_e]} if common else {}
    shared = Mlp(activation, bias=mlp_bias, width="f_s", name="shared_") if common else None
    parts = {"mixer": mixer, "dense": Mlp(activation, bias=mlp_bias), "moe": Experts(activation, shared=shared)}
    counts, layers = stack(["mixer"] * count, mlps, parts)
    return {
        "dimensions": sizes | dict(counts),
        "max_positions": positions(fields),
        "layers": layers,
        "norms": RMS,
        "tied": fields.flag("tie_word_embeddings", False),
    }
