"""Llama: RMSNorm, rotary embedding, grouped-query attention, gated MLP."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from symroof import symbols
from symroof.architectures.architecture import Architecture, Recorder, attention_axes, residual_stream
from symroof.architectures.fields import COMMON, Fields
from symroof.architectures.options import Options
from symroof.architectures.parts import ACTIVATIONS, lm_head, self_attention
from symroof.operators.elementwise import activation, add
from symroof.operators.embedding import embedding
from symroof.operators.graph import Block
from symroof.operators.linear import linear
from symroof.operators.norm import Norm, norm
from symroof.operators.tensor import Space, Storage, Tensor, axes_of


@dataclass(frozen=True)
class Llama(Architecture):
    """``x + attention(norm(x))``, then ``x + down(act(gate(n)) * up(n))`` with ``n = norm(x)``.

    Source: Touvron et al. (2023), arXiv:2307.09288; config fields as in Transformers' LlamaConfig.
    """

    tied: bool
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    activation: str

    family = "llama"
    model_types = ("llama",)
    harmless = (
        *COMMON,
        *("pretraining_tp", "attention_dropout", "rms_norm_eps", "rope_theta", "rope_scaling"),
        *("rope_parameters",),
    )

    @classmethod
    def read(cls, fields: Fields) -> Llama:
        hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
        kv_heads = fields.size("num_key_value_heads", heads)
        fields.divides("num_attention_heads", heads, "num_key_value_heads", kv_heads)
        head_dim = fields.size("head_dim", None) or fields.divides("hidden_size", hidden, "num_attention_heads", heads)
        dimensions = {
            symbols.d: hidden,
            symbols.f: fields.size("intermediate_size"),
            symbols.h: heads,
            symbols.k: kv_heads,
            symbols.e: head_dim,
            symbols.r: head_dim,
            symbols.v: fields.size("vocab_size"),
            symbols.L: fields.size("num_hidden_layers"),
        }
        bias = fields.flag("attention_bias", False)
        return cls(
            dimensions,
            fields.size("max_position_embeddings", None),
            tied=fields.flag("tie_word_embeddings", False),
            qkv_bias=bias,
            out_bias=bias,
            mlp_bias=fields.flag("mlp_bias", False),
            activation=fields.choice("hidden_act", ACTIVATIONS, "silu"),
        )

    def axes(self) -> dict[str, Expr]:
        return {"d": symbols.d, "f": symbols.f, "v": symbols.v, "r": symbols.r, **attention_axes()}

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        table = Tensor("embedding.weight", axes_of("v d"), Storage.WEIGHT, space)
        x = residual_stream(space)

        entry = Recorder()
        entry(embedding("embedding", table, axes_of("b s d"), into=x))

        layer = Recorder()
        normed = layer(norm("attn_norm", x, Norm.RMS))
        attended = self_attention(layer, normed, fused=options.flash_attention, bias=self.qkv_bias, out_bias=self.out_bias, turned=True)
        middle = layer(add("attn_add", x, attended))
        normed = layer(norm("mlp_norm", middle, Norm.RMS))
        gate = layer(linear("gate_proj", "b s d, d f -> b s f", normed, bias=self.mlp_bias))
        up = layer(linear("up_proj", "b s d, d f -> b s f", normed, bias=self.mlp_bias))
        gated = layer(activation("mlp_act", self.activation, up, gate))
        down = layer(linear("down_proj", "b s f, f d -> b s d", gated, bias=self.mlp_bias))
        layer(add("mlp_add", middle, down, into=x))

        head = Recorder()
        final = head(norm("final_norm", x, Norm.RMS))
        lm_head(head, final, tied_to=table if self.tied else None)
        return entry.block("embedding"), layer.block("layer", symbols.L), head.block("head")
