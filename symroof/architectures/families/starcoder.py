"""StarCoder2 and StableLM: rotary embedding behind layer norms with biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer
from symroof.architectures.families.llama import silu_by_default
from symroof.architectures.families.phi import LAYER_NORM
from symroof.architectures.families.schema import heads_fill, positions, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import PER_HEAD_AND_COMPONENT, Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import ACTIVATIONS
from symroof.operators.norm import Norm


@dataclass(frozen=True)
class Starcoder2(Decoder):
    """Grouped queries, a plain MLP, biases everywhere, every layer with a sliding window where the config gives one.

    Source: Lozhkov et al. (2024), arXiv:2402.19173; config fields as in Transformers' Starcoder2Config.
    """

    family = "starcoder2"
    ignored_fields = (*COMMON, "mlp_type", "norm_type")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias, window = fields.flag("use_bias", True), fields.size("sliding_window", None)
        mlp = Mlp(fields.choice("hidden_act", ACTIVATIONS, "gelu_pytorch_tanh"), gated=False, bias=bias)
        sizes = transformer_sizes(fields, kv_heads=2) | {
            symbols.f: fields.size("intermediate_size"),
            symbols.L: fields.layers("num_hidden_layers"),
        }
        return cls(
            sizes | ({symbols.W: window} if window else {}),
            positions(fields),
            (Layer("layer", Attention(bias=bias, out_bias=bias), mlp, window=window is not None),),
            LAYER_NORM,
            tied=fields.flag("tie_word_embeddings", True),
        )


@dataclass(frozen=True)
class StableLm(Decoder):
    """A gated MLP without biases; a quarter of each head is turned.

    Source: Bellagente et al. (2024), arXiv:2402.17834; config fields as in Transformers' StableLmConfig.
    """

    family = "stablelm"
    ignored_fields = COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        parallel = fields.flag("use_parallel_residual", False)
        attention = Attention(
            bias=fields.flag("use_qkv_bias", False),
            qk_norm=Norm.LAYER if fields.flag("qk_layernorm", False) else None,
            qk_weights=PER_HEAD_AND_COMPONENT,
        )
        sizes = transformer_sizes(fields, kv_heads=32, rotary="0.25")
        heads_fill(fields, sizes)
        return cls(
            sizes | {symbols.f: fields.size("intermediate_size"), symbols.L: fields.layers("num_hidden_layers")},
            positions(fields),
            (Layer("layer", attention, Mlp(silu_by_default(fields))),),
            LAYER_NORM,
            tied=fields.flag("tie_word_embeddings", False),
            parallel=parallel,
            shared_norm=True,
        )
