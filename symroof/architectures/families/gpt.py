"""GPT-2, GPT-BigCode (StarCoder), GPT-J and GPT-NeoX (Pythia)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer
from symroof.architectures.families.phi import LAYER_NORM
from symroof.architectures.families.schema import heads_fill, positions, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import ACTIVATIONS

GPT_COMMON = (*COMMON, "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn")


def gpt_sizes(fields: Fields) -> dict[Any, int]:
    """Sizes under the names of GPT-2's config, or under the common ones."""
    name = fields.named("n_embd", "hidden_size")
    many = fields.named("n_head", "num_attention_heads")
    hidden, heads = fields.size(name), fields.size(many)
    return {
        symbols.d: hidden,
        symbols.f: fields.size("n_inner", 4 * hidden),
        symbols.h: heads,
        symbols.e: fields.divides(name, hidden, many, heads),
        symbols.v: fields.size("vocab_size"),
        symbols.L: fields.layers(fields.named("n_layer", "num_hidden_layers")),
    }


@dataclass(frozen=True)
class GPT2(Decoder):
    """Learned positions, layer norms before each half, a plain MLP, biases everywhere.

    Source: Radford et al. (2019), "Language models are unsupervised multitask learners"; config fields as in
    Transformers' GPT2Config.
    """

    family = "gpt2"
    ignored_fields = GPT_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**_learned_positions(fields, gpt_sizes(fields), "gelu_new", grouped=False))


@dataclass(frozen=True)
class GPTBigCode(Decoder):
    """GPT-2 with one KV head for all query heads.

    Source: Li et al. (2023), StarCoder, arXiv:2305.06161; config fields as in Transformers' GPTBigCodeConfig.
    """

    family = "gpt_bigcode"
    ignored_fields = (
        *GPT_COMMON,
        *("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "inference_runner", "validate_runner_input"),
        *("pre_allocate_kv_cache", "max_sequence_length", "max_batch_size", "pad_key_length"),
    )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        sizes = gpt_sizes(fields)
        if not fields.flag("multi_query", True):
            return cls(**_learned_positions(fields, sizes, GELU_TANH, grouped=False))
        return cls(**_learned_positions(fields, sizes | {symbols.k: 1}, GELU_TANH, grouped=True))


GELU_TANH = "gelu_pytorch_tanh"


def _learned_positions(fields: Fields, sizes: dict[Any, int], activation: str, *, grouped: bool) -> dict[str, Any]:
    fields.plain()
    rows = fields.size(fields.named("n_positions", "max_position_embeddings"))
    mlp = Mlp(fields.choice("activation_function", ACTIVATIONS, activation), gated=False, bias=True)
    return {
        "dimensions": sizes | {symbols.m: rows},
        "max_positions": rows,
        "layers": (Layer("layer", Attention(bias=True, out_bias=True, rotary=False, grouped=grouped), mlp),),
        "norms": LAYER_NORM,
        "tied": fields.flag("tie_word_embeddings", True),
        "positions": True,
    }


@dataclass(frozen=True)
class GPTJ(Decoder):
    """``x + attention(n) + mlp(n)`` with ``n = norm(x)``; part of each head is turned.

    Source: Wang and Komatsuzaki (2021), GPT-J-6B; config fields as in Transformers' GPTJConfig.
    """

    family = "gptj"
    ignored_fields = (*GPT_COMMON, "rotary")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        sizes = gpt_sizes(fields)
        head_dim = sizes[symbols.e]
        turned = fields.size("rotary_dim", 64, null=head_dim)
        if turned > head_dim:
            raise fields.error(f"rotary_dim {turned} is larger than the head dimension {head_dim}")
        mlp = Mlp(fields.choice("activation_function", ACTIVATIONS, "gelu_new"), gated=False, bias=True)
        return cls(
            sizes | {symbols.r: turned},
            fields.size(fields.named("n_positions", "max_position_embeddings"), None),
            (Layer("layer", Attention(grouped=False), mlp),),
            LAYER_NORM,
            tied=fields.flag("tie_word_embeddings", False),
            head_bias=True,
            parallel=True,
            shared_norm=True,
        )


@dataclass(frozen=True)
class GPTNeoX(Decoder):
    """Attention and MLP side by side, each behind a norm of its own (or one after the other); a quarter of each head is turned.

    Source: Black et al. (2022), arXiv:2204.06745; Biderman et al. (2023), Pythia, arXiv:2304.01373; config fields
    as in Transformers' GPTNeoXConfig.
    """

    family = "gpt_neox"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", True)
        sizes = transformer_sizes(fields, rotary="0.25")
        heads_fill(fields, sizes)
        if sizes.pop(symbols.k) != sizes[symbols.h]:
            raise fields.error("num_key_value_heads is not num_attention_heads; this family has one KV head per query head")
        sizes |= {symbols.f: fields.size("intermediate_size"), symbols.L: fields.layers("num_hidden_layers")}
        mlp = Mlp(fields.choice("hidden_act", ACTIVATIONS, "gelu"), gated=False, bias=True)
        return cls(
            sizes,
            positions(fields),
            (Layer("layer", Attention(bias=bias, out_bias=bias, grouped=False), mlp),),
            LAYER_NORM,
            tied=fields.flag("tie_word_embeddings", False),
            parallel=fields.flag("use_parallel_residual", True),
        )
