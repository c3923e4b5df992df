"""Gemma 3n and 4: layers that share keys and values, inputs of each layer's own; residual streams, wider heads without a window."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer
from symroof.architectures.families.dense import GEMMA, HIDDEN_ACTIVATION, SANDWICH
from symroof.architectures.families.family import DecoderFamily, register_kinds
from symroof.architectures.families.layouts import LAYER_TYPES, by_period
from symroof.architectures.families.recipes import BIAS, TIED, WITH_BIAS, PartReader, attention, capped, experts, turned_components
from symroof.architectures.fields import Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.altup import ONE, STREAMS, AltUp, laurel, output_scale
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.beside import DenseAndExperts, PerLayerInput
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.part import BlockBuilder, Part
from symroof.operators import Access, Block, Role, Space, Storage, Tensor
from symroof.operators.elementwise import Norm, add, elementwise, norm
from symroof.operators.linear import embedding
from symroof.vocabulary import numbered

Reading = tuple[Part, dict[Symbol, int]]


def gemma4_types(fields: Fields, count: int) -> list[str]:
    """What ``layer_types`` lists, or full attention in every sixth layer; always in the last."""
    if "use_bidirectional_attention" in fields:
        fields.choice("use_bidirectional_attention", {"vision": "text looks back only"})
    listed = fields.words("layer_types", LAYER_TYPES, count) or by_period(count, 6, 5, "full", "sliding")
    return [*listed[:-1], "full"]


def sharing(fields: Fields, kinds: list[str], absent: int) -> list[str]:
    """The kinds of layers, where the last of them may take the keys and values of the last one before of the same kind."""
    shared = fields.size("num_kv_shared_layers", absent, low=0)
    own = kinds[: len(kinds) - shared] if shared < len(kinds) else []
    missing = set(kinds) - set(own)
    if missing:
        raise fields.error(f"num_kv_shared_layers is {shared}; no layer before those has keys and values for the {missing.pop()} ones")
    return own + [{"full": "shared", "sliding": "shared_sliding"}[kind] for kind in kinds[len(own) :]]


def gemma4_layers(fields: Fields, count: int) -> list[str]:
    """Windows in five layers of six, and shared keys and values in the last ones."""
    return sharing(fields, gemma4_types(fields, count), 0)


def gemma4_mlps(fields: Fields, count: int) -> list[str]:
    """Experts beside the dense MLP in all layers or none; a wider one where keys and values are shared, if the config says so."""
    wide, mixed = fields.flag("use_double_wide_mlp", False), fields.flag("enable_moe_block", False)
    shared = [kind.startswith("shared") for kind in gemma4_layers(fields, count)]
    if wide and mixed and any(shared):
        raise fields.error("use_double_wide_mlp is True; only False is understood where layers with experts share keys and values")
    return ["moe"] * count if mixed else ["wide" if wide and own_less else "dense" for own_less in shared]


def _full_sizes(fields: Fields) -> tuple[int, int]:
    """KV heads and head dimension of the layers without a window."""
    kinds = gemma4_types(fields, fields.layers("num_hidden_layers"))
    full = [number for number, kind in enumerate(kinds) if kind == "full"]
    stated = fields.overridden("per_layer_config", full, ("num_key_value_heads", "head_dim"))
    groups, width = fields.size("num_key_value_heads", 4), fields.size("head_dim", 256)
    if stated is not None:
        return stated.size("num_key_value_heads", groups), stated.size("head_dim", width)
    other = fields.size("num_global_key_value_heads", None)
    single = fields.flag("attention_k_eq_v", False)
    return (other or groups) if single else groups, fields.size("global_head_dim", 512)


def gemma4_attention(*, window: bool, shared: bool = False) -> PartReader:
    """Attention with norms on queries, keys and values; without a window, values may be the projected keys."""

    def read(fields: Fields, hidden: int) -> Reading:
        heads = fields.size("num_attention_heads")
        groups, width = (fields.size("num_key_value_heads", 4), fields.size("head_dim", 256)) if window else _full_sizes(fields)
        fields.divides("num_attention_heads", heads, "the KV heads of a layer", groups)
        single, bias = not window and fields.flag("attention_k_eq_v", False), BIAS(fields)
        part = Attention(bias=bias, out_bias=bias, qk_norm=Norm.RMS, v_norm=True, keys_as_values=single, own_sizes=window, shared=shared)
        kind, share = ("sliding_attention", "1") if window else ("full_attention", "0.25")
        turned = turned_components(fields, width, share, kind=kind)
        names = (symbols.h_w, symbols.k_w, symbols.e_w, symbols.r_w) if window else (symbols.h, symbols.k, symbols.e, symbols.r)
        return part, dict(zip(names, (heads, groups, width, turned), strict=True))

    return read


def gemma_mlp(size: Expr | None = None) -> PartReader:
    """A dense MLP, of another width than that of the config."""
    return lambda fields, hidden: (Mlp(HIDDEN_ACTIVATION(fields), size=size), {symbols.f: fields.size("intermediate_size")})


_routed = experts(width="moe_intermediate_size", named="num_experts", activation=HIDDEN_ACTIVATION, scaled=True)


def gemma4_experts(fields: Fields, hidden: int) -> Reading:
    """A dense MLP and experts beside it."""
    routed, sizes = _routed(fields, hidden)
    assert isinstance(routed, Experts)
    return DenseAndExperts(Mlp(HIDDEN_ACTIVATION(fields)), routed), sizes | {symbols.f: fields.size("intermediate_size")}


@dataclass(frozen=True, eq=False)
class WithOwnInputs(DecoderFamily):
    """Decoders whose layers have inputs of their own, unless ``hidden_size_per_layer_input`` is 0."""

    def read(self, fields: Fields) -> Architecture:
        read = super().read(fields)
        width, rows = fields.size("hidden_size_per_layer_input", 256, low=0), fields.size("vocab_size_per_layer_input", 262144)
        if not width:
            return read
        own = PerLayerInput(HIDDEN_ACTIVATION(fields))
        sizes = {**read.dimensions, symbols.d_p: width, symbols.v_l: rows}
        return replace(read, dimensions=sizes, layers=tuple(replace(layer, own_input=own) for layer in read.layers))


MOST_WIDTHS = 64
"""The most widths of MLPs that one model is read with; sliced models of the hub have a few."""


@dataclass(frozen=True, kw_only=True)
class AlternatingUpdates(Architecture):
    """A decoder with several residual streams, of which a layer computes one."""

    altup: AltUp

    def axes(self) -> dict[str, Expr]:
        return super().axes() | self.altup.axes()

    def stream(self, space: Space) -> Tensor:
        return Tensor("streams", STREAMS, Storage.ACTIVATION, space)

    def _entry(self, table: Tensor, x: Tensor) -> Block:
        record = BlockBuilder()
        rows = record(embedding("embedding", table, ONE))
        rows = record(elementwise("embedding_scale", (rows,), rows.axes, 1, role=Role.SCALE, linear_in=1))
        self.altup.spread(record, rows, x)
        self._own_inputs(record, rows)
        return record.block("embedding")

    def _layer(self, layer: Layer, x: Tensor, options: Options) -> Block:
        record = BlockBuilder(f"{layer.kind}." if len(self.layers) > 1 else "")
        context = self.within(x.space, options, layer) if layer.window else x.space
        (_, mixer), (_, mlp) = layer.halves
        predicted, shared = self.altup.predict(record, x)
        active = Access(predicted, ONE)
        inside = record(norm("attn_norm", active, Norm.RMS))
        beside = laurel(record, inside)
        given = record(self.norms("attn_post_norm", mixer(record, inside, context, options)))
        stream = record(elementwise("attn_add", (active, given), ONE, 1, role=Role.ADD, linear_in=2))
        stream = record(elementwise("attn_laurel_add", (stream, beside), ONE, 2, role=Role.ADD, linear_in=2))
        given = record(self.norms("mlp_post_norm", mlp(record, record(self.norms("mlp_norm", stream)), context, options)))
        corrected = self.altup.correct(record, predicted, record(add("mlp_add", stream, given)), shared)
        assert layer.own_input is not None
        own = layer.own_input(record, output_scale(record, corrected), context, options)
        own = record(self.norms("per_layer_post_norm", own))
        record(self.altup.added(corrected, own))
        return record.layers(layer.kind, x)

    def _head(self, table: Tensor, x: Tensor) -> Block:
        record = BlockBuilder()
        joined = self.altup.joined(record, x)
        head = super()._head(table, joined)
        return replace(head, operators=(*record.operators, *head.operators))


ELSEWHERE = "to keys and values of an earlier layer"
MIXERS = {
    "full": "full attention",
    "sliding": "a sliding window",
    "shared": f"full attention {ELSEWHERE}",
    "shared_sliding": f"a sliding window {ELSEWHERE}",
}


def gemma3n_mixers(fields: Fields, count: int) -> list[str]:
    """Windows in four layers of five, and the keys and values of earlier layers in the last ones."""
    return sharing(fields, fields.words("layer_types", LAYER_TYPES, count) or by_period(count, 5, 4, "full", "sliding"), 15)


def _sparse(fields: Fields, count: int) -> list[bool]:
    """Which layers keep only the largest activations: those with a share in the list, or the first ten of more than ten."""
    stated = fields.shares("activation_sparsity_pattern", count, zero=True)
    return [number < 10 < count for number in range(count)] if stated is None else [share > 0 for share in stated]


def _attention(*, shared: bool) -> PartReader:
    return attention(kv_heads=2, head_dim=256, qk_norm=Norm.RMS, v_norm=True, shared=shared, **WITH_BIAS)


@dataclass(frozen=True, eq=False)
class Gemma3nFamily(DecoderFamily):
    """Gemma 3n, whose MLPs may differ in width, and in whether their activations are sparse."""

    def read(self, fields: Fields) -> Architecture:
        count = fields.layers("num_hidden_layers")
        widths = fields.per_layer("intermediate_size", count)
        sizes = list(dict.fromkeys(widths))
        if len(sizes) > MOST_WIDTHS:
            raise fields.error(f"intermediate_size has {len(sizes)} different widths; at most {MOST_WIDTHS} are understood")
        parts, meanings, names = dict(self.parts), {**MIXERS}, list[str]()
        for width, sparse in zip(widths, _sparse(fields, count), strict=True):
            number = sizes.index(width) + 1
            numbering = (f"_{number}", f" of size number {number}") if number > 1 else ("", "")
            name, meaning = ("sparse", "an MLP with sparse activations") if sparse else ("dense", "a dense MLP")
            size = numbered(symbols.f, number)
            names.append(name + numbering[0])
            parts[names[-1]] = self._mlp(width, size, sparse=sparse, several=len(sizes) > 1)
            meanings[names[-1]] = meaning + numbering[1]
        mixers = self.mixers(fields, count)
        register_kinds(mixers, names, meanings)
        own = replace(self, parts=parts, mlps=lambda fields, count: names)
        read = super(Gemma3nFamily, own).read(fields)
        width, rows = fields.size("hidden_size_per_layer_input", 256), fields.size("vocab_size_per_layer_input", 262144)
        streams = {symbols.n_h: fields.size("altup_num_inputs", 4, low=2), symbols.r_l: fields.size("laurel_rank", 64)}
        sizes_of_all = {**read.dimensions, symbols.d_p: width, symbols.v_l: rows, **streams}
        layers = tuple(replace(layer, own_input=PerLayerInput(HIDDEN_ACTIVATION(fields))) for layer in read.layers)
        return replace(read, dimensions=sizes_of_all, layers=layers)

    @staticmethod
    def _mlp(width: int, size: Symbol, *, sparse: bool, several: bool) -> PartReader:
        return lambda fields, hidden: (Mlp(HIDDEN_ACTIVATION(fields), sparse=sparse, size=size if several else None), {size: width})


GEMMAS: tuple[DecoderFamily, ...] = (
    Gemma3nFamily(
        "gemma3n",
        "Gemma team (2025), huggingface.co/google/gemma-3n-E4B; Transformers' Gemma3nTextConfig",
        {name: _attention(shared=name.startswith("shared")) for name in MIXERS},
        mixers=gemma3n_mixers,
        window=512,
        norms=SANDWICH,
        made=AlternatingUpdates,
        attributes={
            "altup": AltUp(),
            "tied": TIED,
            "scaled": frozenset({"embedding"}),
            "final_softcap": capped("final_logit_softcapping", True),
        },
        only_understood={"altup_correct_scale": (True, "a learned number per component scales the corrected stream")},
        ignored=("altup_active_idx", "altup_coef_clip", "hidden_act", "query_pre_attn_scalar"),
    ),
    WithOwnInputs(
        "gemma4",
        "Gemma team (2026), huggingface.co/google/gemma-4-26B-A4B; Transformers' Gemma4TextConfig",
        {
            "full": gemma4_attention(window=False),
            "sliding": gemma4_attention(window=True),
            "shared": gemma4_attention(window=False, shared=True),
            "shared_sliding": gemma4_attention(window=True, shared=True),
            "dense": gemma_mlp(),
            "wide": gemma_mlp(2 * symbols.f),
            "moe": gemma4_experts,
        },
        mixers=gemma4_layers,
        mlps=gemma4_mlps,
        window=512,
        norms=SANDWICH,
        attributes={
            **GEMMA,
            "scaled": frozenset({"embedding", "layer"}),
            "final_softcap": capped("final_logit_softcapping", False),
        },
        ignored=("global_head_dim", "num_global_key_value_heads"),
    ),
)
