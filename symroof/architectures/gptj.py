"""GPT-J: one norm, attention and MLP side by side, partial rotary embedding."""

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
class GPTJ(Architecture):
    """``x + attention(n) + mlp(n)`` with ``n = norm(x)``.

    Source: Wang and Komatsuzaki (2021), GPT-J-6B; config fields as in Transformers' GPTJConfig.
    """

    tied: bool
    activation: str

    family = "gptj"
    model_types = ("gptj",)
    harmless = (
        *COMMON,
        *("attn_pdrop", "embd_pdrop", "resid_pdrop", "layer_norm_epsilon", "rotary"),
        *("scale_attn_weights", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
        *("summary_use_proj", "task_specific_params", "n_ctx"),
    )

    @classmethod
    def read(cls, fields: Fields) -> GPTJ:
        hidden, heads = fields.size("n_embd"), fields.size("n_head")
        head_dim = fields.divides("n_embd", hidden, "n_head", heads)
        turned = fields.size("rotary_dim", head_dim)
        if turned > head_dim:
            raise fields.error(f"rotary_dim {turned} is larger than the head dimension {head_dim}")
        dimensions = {
            symbols.d: hidden,
            symbols.f: fields.size("n_inner", 4 * hidden),
            symbols.h: heads,
            symbols.e: head_dim,
            symbols.r: turned,
            symbols.v: fields.size("vocab_size"),
            symbols.L: fields.size("n_layer"),
        }
        return cls(
            dimensions,
            fields.size("n_positions", None),
            tied=fields.flag("tie_word_embeddings", False),
            activation=fields.choice("activation_function", ACTIVATIONS, "gelu_new"),
        )

    def axes(self) -> dict[str, Expr]:
        return {"d": symbols.d, "f": symbols.f, "v": symbols.v, "r": symbols.r, **attention_axes(grouped=False)}

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        table = Tensor("embedding.weight", axes_of("v d"), Storage.WEIGHT, space)
        x = residual_stream(space)

        entry = Recorder()
        entry(embedding("embedding", table, axes_of("b s d"), into=x))

        layer = Recorder()
        normed = layer(norm("attn_norm", x, Norm.LAYER, bias=True))
        attended = self_attention(layer, normed, fused=options.flash_attention, turned=True)
        up = layer(linear("up_proj", "b s d, d f -> b s f", normed, bias=True))
        active = layer(activation("mlp_act", self.activation, up))
        down = layer(linear("down_proj", "b s f, f d -> b s d", active, bias=True))
        both = layer(add("attn_add", attended, down))
        layer(add("mlp_add", both, x, into=x))

        head = Recorder()
        final = head(norm("final_norm", x, Norm.LAYER, bias=True))
        lm_head(head, final, tied_to=table if self.tied else None, bias=True)
        return entry.block("embedding"), layer.block("layer", symbols.L), head.block("head")
