"""LongCat-Flash: layers of two attentions and two dense MLPs, with experts on a shortcut across the second half."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer
from symroof.architectures.families.family import DecoderFamily
from symroof.architectures.families.recipes import activation, latent
from symroof.architectures.fields import MOST_LAYERS, Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.beside import DenseAndExperts
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.part import BlockBuilder, Part
from symroof.operators import Block, Tensor
from symroof.operators.elementwise import add


@dataclass(frozen=True, kw_only=True)
class Shortcut(Architecture):
    """A decoder whose layers run attention and a dense MLP twice; experts see what the first MLP sees, and are added at the end.

    Source: Meituan LongCat team (2025), arXiv:2509.01322, section 2.2; Transformers' LongcatFlashDecoderLayer.
    """

    def _layer(self, layer: Layer, x: Tensor, options: Options) -> Block:
        record, stream, shortcut = BlockBuilder(), x, None
        mixer, mlps = layer.mixer, layer.mlp
        assert mixer is not None
        assert isinstance(mlps, DenseAndExperts)
        for half in ("first.", "second."):
            inside = record.inside(half)
            given = mixer(inside, inside(self.norms("attn_norm", stream)), x.space, options)
            stream = inside(add("attn_add", stream, given))
            normed = inside(self.norms("mlp_norm", stream))
            if shortcut is None:
                shortcut = mlps.experts(record, normed, x.space, options)
            stream = inside(add("mlp_add", stream, mlps.dense(inside, normed, x.space, options)))
        assert shortcut is not None
        record(add("shortcut_add", stream, shortcut))
        return record.layers(layer.kind, x)


_latent = latent()


def longcat_attention(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
    """Latent attention, whose queries are always compressed."""
    fields.choice("attention_method", {"MLA": "", "mla": ""}, "MLA")
    fields.size("q_lora_rank", 1536)
    return _latent(fields, hidden)


def longcat_mlps(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
    """The two dense MLPs, which are equal, and experts of which some may have no weights."""
    of_experts, of_choices = fields.named("n_routed_experts", "num_local_experts"), fields.named("moe_topk", "num_experts_per_tok")
    count, zero, chosen = fields.size(of_experts, 512), fields.size("zero_expert_num", 256, low=0, null=0), fields.size(of_choices, 12)
    if chosen > count + zero:
        raise fields.error(f"{of_choices} is {chosen}; expected at most {of_experts} + zero_expert_num, {count + zero}")
    sizes = {symbols.E: count} | ({symbols.E_z: zero, symbols.K_z: chosen} if zero else {symbols.K: chosen})
    sizes |= {symbols.f_e: fields.size(fields.named("expert_ffn_hidden_size", "moe_intermediate_size"), 2048)}
    sizes |= {symbols.f: fields.size(fields.named("ffn_hidden_size", "intermediate_size"), 12288)}
    function = activation()(fields)
    experts = Experts(function, router_bias=fields.flag("router_bias", False), identity=zero > 0)
    return DenseAndExperts(Mlp(function), experts), sizes


def longcat_layers(fields: Fields) -> int:
    """The number of layers, of which each has two attentions, as ``num_hidden_layers`` counts them."""
    halves = fields.size("num_hidden_layers", None, high=2 * MOST_LAYERS)
    if halves is None:
        return fields.size("num_layers", high=MOST_LAYERS)
    return fields.size("num_layers", max(halves // 2, 1), high=MOST_LAYERS)


LONGCAT = (
    DecoderFamily(
        "longcat_flash",
        "Meituan LongCat team (2025), LongCat-Flash, arXiv:2509.01322; Transformers' LongcatFlashConfig",
        {"full": longcat_attention, "dense": longcat_mlps},
        counted=longcat_layers,
        made=Shortcut,
        only_understood={"zero_expert_type": ("identity", "experts without weights return their input")},
        ignored=("mla_scale_q_lora", "mla_scale_kv_lora", "head_dim", "qk_head_dim", "num_key_value_heads"),
    ),
)
