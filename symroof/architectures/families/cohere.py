"""Command-R: attention and MLP side by side behind one layer norm without bias; windows in the second generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer, Norms
from symroof.architectures.families.llama import silu_by_default
from symroof.architectures.families.schema import LAYER_TYPES, last_of_each, positions, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts.attention import PER_HEAD_AND_COMPONENT, Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.operators.norm import Norm

NO_BIAS = Norms(Norm.LAYER)
LOGITS_SCALED = frozenset({"logits"})
COHERE_COMMON = (*COMMON, "logit_scale")


@dataclass(frozen=True)
class Cohere(Decoder):
    """Gated MLP, tied embeddings, scaled logits; Command-R+ norms every query and key.

    Source: Cohere (2024), huggingface.co/CohereForAI/c4ai-command-r-v01; config fields as in Transformers' CohereConfig.
    """

    family = "cohere"
    ignored_fields = COHERE_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        bias = fields.flag("attention_bias", False)
        norm = Norm.LAYER if fields.flag("use_qk_norm", False) else None
        attention = Attention(bias=bias, out_bias=bias, qk_norm=norm, qk_weights=PER_HEAD_AND_COMPONENT)
        return cls(
            transformer_sizes(fields) | {symbols.f: fields.size("intermediate_size"), symbols.L: fields.layers("num_hidden_layers")},
            positions(fields),
            (Layer("layer", attention, Mlp(silu_by_default(fields))),),
            NO_BIAS,
            tied=fields.flag("tie_word_embeddings", True),
            parallel=True,
            shared_norm=True,
            scaled=LOGITS_SCALED,
        )


@dataclass(frozen=True)
class Cohere2(Decoder):
    """Three layers with a sliding window and rotary embedding, then one with neither.

    Source: Cohere (2024), huggingface.co/CohereForAI/c4ai-command-r7b-12-2024; config fields as in Transformers'
    Cohere2Config.
    """

    family = "cohere2"
    ignored_fields = (
        *COHERE_COMMON,
        "use_qk_norm",
        "order_of_interleaved_layers",
        "position_embedding_type",
        "use_embedding_sharing",
        "use_parallel_embedding",
    )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        count, bias = fields.layers("num_hidden_layers"), fields.flag("attention_bias", False)
        fields.fixed("use_gated_activation", True, "the MLP is gated")
        fields.fixed("use_parallel_block", True, "attention and MLP run side by side")
        period = fields.size(fields.named("sliding_window_pattern", "layer_switch"), 4)
        mixers = fields.words("layer_types", LAYER_TYPES, count) or last_of_each(count, period, "full", "sliding")
        parts = {
            "full": Attention(bias=bias, out_bias=bias, rotary=False),
            "sliding": Attention(bias=bias, out_bias=bias),
            "dense": Mlp(silu_by_default(fields)),
        }
        counts, layers = stack(mixers, ["dense"] * count, parts)
        return cls(
            transformer_sizes(fields)
            | {symbols.f: fields.size("intermediate_size"), symbols.W: fields.size("sliding_window", 4096)}
            | dict(counts),
            positions(fields),
            layers,
            NO_BIAS,
            tied=fields.flag("tie_word_embeddings", True),
            parallel=True,
            shared_norm=True,
            scaled=LOGITS_SCALED,
        )
