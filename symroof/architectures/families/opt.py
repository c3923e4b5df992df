"""OPT: learned positions, LayerNorm, multi-head attention, ReLU MLP, biases throughout."""

from __future__ import annotations

from dataclasses import dataclass, field

from sympy import Expr

from symroof import symbols
from symroof.architectures.architecture import Architecture, BlockBuilder, attention_axes, residual_stream
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.ends import lm_head
from symroof.architectures.parts.part import ACTIVATIONS
from symroof.operators.block import Block
from symroof.operators.elementwise import activation, add
from symroof.operators.facts import Parameter
from symroof.operators.linear import embedding, linear
from symroof.operators.norm import Norm, norm
from symroof.operators.tensor import Space, Storage, Tensor, axes_of

OFFSET = 2
"""Rows in front of the position table that the padding index takes (Transformers' OPTLearnedPositionalEmbedding)."""


@dataclass(frozen=True)
class OPT(Architecture):
    """Norm before each half (after it in opt-350m, which also projects a narrower embedding).

    Source: Zhang et al. (2022), arXiv:2205.01068; config fields as in Transformers' OPTConfig.
    """

    tied: bool
    bias: bool
    norm_before: bool
    final_norm: bool
    norm_weights: bool
    projected: bool
    activation: str

    family: str = field(default="opt", kw_only=True)
    ignored_fields = (*COMMON, "activation_dropout", "layerdrop")

    @classmethod
    def read(cls, fields: Fields) -> OPT:
        fields.plain()
        hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
        positions = fields.size("max_position_embeddings", 2048)
        embedded = fields.size("word_embed_proj_dim", hidden)
        norm_before, no_final_norm = fields.flag("do_layer_norm_before", True), fields.flag("_remove_final_layer_norm", False)
        dimensions = {
            symbols.d: hidden,
            symbols.f: fields.size("ffn_dim"),
            symbols.h: heads,
            symbols.e: fields.divides("hidden_size", hidden, "num_attention_heads", heads),
            symbols.m: positions + OFFSET,
            symbols.v: fields.size("vocab_size"),
            symbols.L: fields.layers("num_hidden_layers"),
        }
        return cls(
            dimensions | ({symbols.d_t: embedded} if embedded != hidden else {}),
            positions,
            tied=fields.flag("tie_word_embeddings", True),
            bias=fields.flag("enable_bias", True),
            norm_before=norm_before,
            final_norm=norm_before and not no_final_norm,
            norm_weights=fields.flag("layer_norm_elementwise_affine", True),
            projected=embedded != hidden,
            activation=fields.choice("activation_function", ACTIVATIONS, "relu"),
        )

    def axes(self) -> dict[str, Expr]:
        embedded = symbols.d_t if self.projected else symbols.d
        return {"d": symbols.d, "f": symbols.f, "v": symbols.v, "m": symbols.m, "d_t": embedded, **attention_axes(grouped=False)}

    def _norm(self, name: str, x: Tensor):
        return norm(name, x, Norm.LAYER, weight=self.norm_weights, bias=self.norm_weights)

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        features = "d_t" if self.projected else "d"
        table = Tensor("embedding.weight", axes_of(f"v {features}"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        positions = Tensor("position_embedding.weight", axes_of("m d"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        x = residual_stream(space)

        entry = BlockBuilder()
        tokens = entry(embedding("embedding", table, axes_of(f"b s {features}")))
        if self.projected:
            tokens = entry(linear("project_in", "b s d_t, d_t d -> b s d", tokens))
        placed = entry(embedding("position_embedding", positions, axes_of("b s d")))
        entry(add("embedding_add", tokens, placed, into=x))

        layer = BlockBuilder()
        inside = layer(self._norm("attn_norm", x)) if self.norm_before else x
        attention = Attention(bias=self.bias, out_bias=self.bias, rotary=False, grouped=False)
        attended = attention(layer, inside, space, options)
        middle = layer(add("attn_add", x, attended))
        if not self.norm_before:
            middle = layer(self._norm("attn_norm", middle))
        inside = layer(self._norm("mlp_norm", middle)) if self.norm_before else middle
        up = layer(linear("up_proj", "b s d, d f -> b s f", inside, bias=self.bias))
        active = layer(activation("mlp_act", self.activation, up))
        down = layer(linear("down_proj", "b s f, f d -> b s d", active, bias=self.bias))
        total = layer(add("mlp_add", middle, down, into=x if self.norm_before else None))
        if not self.norm_before:
            layer(norm("mlp_norm", total, Norm.LAYER, weight=self.norm_weights, bias=self.norm_weights, into=x))

        head = BlockBuilder()
        final = head(self._norm("final_norm", x)) if self.final_norm else x
        if self.projected:
            final = head(linear("project_out", "b s d, d d_t -> b s d_t", final))
        lm_head(head, final, tied_to=table if self.tied else None, features=features)
        return entry.block("embedding"), layer.layers(), head.block("head")
