"""DeepSeek V4: windows beside compressed entries, of which an indexer selects some, and several residual streams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from sympy import Expr, Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer
from symroof.architectures.families.family import DecoderFamily, only
from symroof.architectures.families.recipes import PartReader, experts, flag
from symroof.architectures.families.sparse import MOE_WIDTH
from symroof.architectures.fields import Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.compressed import CompressedAttention, HyperConnection
from symroof.architectures.parts.part import BlockBuilder, Part
from symroof.conventions import Convention
from symroof.errors import quote
from symroof.operators import Block, Parameter, Space, Storage, Tensor, axes_of
from symroof.operators.elementwise import elementwise
from symroof.operators.linear import embedding

TYPES = {"sliding_attention": "sliding", "compressed_sparse_attention": "compressed", "heavily_compressed_attention": "heavy"}
RATIOS = {0: "sliding", 4: "compressed", 128: "heavy"}
"""Of the field ``compress_ratios``, which a layer's kind follows from. Source: Transformers' DeepseekV4Config."""


@dataclass(frozen=True, kw_only=True)
class Streams(Architecture):
    """A decoder with several residual streams, which every half of a layer reads and mixes.

    Attributes
    ----------
    hyper : how the streams are joined.
    """

    hyper: HyperConnection

    def axes(self) -> dict[str, Expr]:
        return super().axes() | self.hyper.axes()

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        table = Tensor("embedding.weight", axes_of("v d"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        streams = Tensor("streams", axes_of("b s n d"), Storage.ACTIVATION, space)
        first, last = BlockBuilder(), BlockBuilder()
        rows = first(embedding("embedding", table, axes_of("b s d")))
        first(elementwise("streams", (rows,), streams.axes, 0))
        final, _ = self.hyper.collapse(last, "head", streams, mixing=False)
        head = self._head(table, final)
        layers = (self._joined(layer, streams, options) for layer in self.layers)
        return first.block("embedding", streams), *layers, replace(head, operators=(*last.operators, *head.operators))

    def _joined(self, layer: Layer, streams: Tensor, options: Options) -> Block:
        record = BlockBuilder(f"{layer.kind}." if len(self.layers) > 1 else "")
        stream = streams
        for name, part in layer.halves:
            collapsed, weights = self.hyper.collapse(record, name, stream)
            given = part(record, record(self.norms(f"{name}_norm", collapsed)), streams.space, options)
            stream = self.hyper.expand(record, name, stream, given, weights)
        return record.layers(layer.kind, streams)

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        entries = "a context of t tokens has t / m compressed entries; tokens that wait to be compressed are not counted"
        return (*super().conventions(options), Convention("compressed", f"compressed attention: {entries}"))


def rate(fields: Fields, kind: str, legacy: str, absent: int) -> int:
    """Tokens per compressed entry, from the object of rates or a field of its own."""
    stated = fields.nested("compress_rates").size(kind, absent) if "compress_rates" in fields else absent
    return fields.size(legacy, stated)


def compressed(kind: str) -> PartReader:
    """Attention of one kind of layers: "sliding", "compressed" or "heavy"."""

    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        heads, groups, width = fields.size("num_attention_heads"), fields.size("o_groups", 8), fields.size("head_dim", 512)
        fields.divides("num_attention_heads", heads, "o_groups", groups)
        share = fields.share("partial_rotary_factor", "1/8") if "partial_rotary_factor" in fields else Fraction(1, 8)
        sizes = {
            symbols.h: heads,
            symbols.e: width,
            symbols.g_o: groups,
            symbols.r: fields.size("qk_rope_head_dim", max(int(share * width), 1)),
            symbols.r_q: fields.size("q_lora_rank", 1024),
            symbols.r_o: fields.size("o_lora_rank", 1024),
            symbols.W: fields.size("sliding_window", 128),
            symbols.n_h: fields.size("hc_mult", 4),
        }
        if kind == "sliding":
            return CompressedAttention(), sizes
        if kind == "heavy":
            return CompressedAttention("per_h"), sizes | {
                symbols.m_h: rate(fields, next(k for k in TYPES if TYPES[k] == kind), "compress_rate_hca", 128)
            }
        chosen = {symbols.h_i: fields.size("index_n_heads", 64), symbols.e_i: fields.size("index_head_dim", 128)}
        chosen |= {symbols.k_i: fields.size("index_topk", 512)}
        chosen |= {symbols.m_c: rate(fields, next(k for k in TYPES if TYPES[k] == kind), "compress_rate_csa", 4)}
        return CompressedAttention("per_c", selection=True), sizes | chosen

    return read


def v4_mixers(fields: Fields, count: int) -> list[str]:
    """The kinds of layers that a list has, by words or by ratios of compression; else two heavy ones, then compressed and heavy in turn."""
    listed = fields.words("layer_types", TYPES, count)
    ratios: Any = fields.listed("compress_ratios")
    if ratios is not None and (len(ratios) < count or any(type(ratio) is not int or ratio not in RATIOS for ratio in ratios)):
        raise fields.error(
            f"compress_ratios is {quote(ratios)}; expected a list of {count} numbers or more, of {', '.join(map(str, RATIOS))}"
        )
    of_ratios = [RATIOS[ratio] for ratio in ratios[:count]] if ratios is not None else None
    if listed and of_ratios and listed != of_ratios:
        raise fields.error("layer_types and compress_ratios disagree, but they mean the same")
    absent = ["heavy"] * min(count, 2) + ["compressed" if number % 2 else "heavy" for number in range(max(count - 2, 0))]
    return listed or of_ratios or absent


STREAMS = (
    DecoderFamily(
        "deepseek_v4",
        "DeepSeek-AI (2026), huggingface.co/deepseek-ai/DeepSeek-V4-Flash; Transformers' DeepseekV4Config",
        {
            **{kind: compressed(kind) for kind in ("sliding", "compressed", "heavy")},
            "moe": experts(
                width=MOE_WIDTH,
                count=256,
                chosen=6,
                named="n_routed_experts",
                shared=lambda fields, width: width,
                shared_bias=flag("mlp_bias", False),
            ),
        },
        mixers=v4_mixers,
        mlps=only("moe"),
        window=128,
        made=Streams,
        attributes={"hyper": lambda fields: HyperConnection(fields.size("hc_sinkhorn_iters", 20))},
        only_understood={
            "n_shared_experts": (1, "one expert that all tokens share"),
            "num_key_value_heads": (1, "all queries share one head of keys, which are the values too"),
        },
        ignored=(
            *("attention_bias", "hc_eps", "compress_rope_theta", "swiglu_limit", "num_hash_layers", "mlp_layer_types", "qk_head_dim"),
            *("partial_rotary_factor", "compress_rate_csa", "compress_rate_hca", "compress_rates", "index_topk", "index_n_heads"),
            *("index_head_dim", "intermediate_size"),
        ),
    ),
)
