"""Self-attention: grouped query heads in the variants of published models, and multi-head latent attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.blocks import BlockIndexer
from symroof.architectures.parts.indexer import Indexer
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Axes, Role, Space, Storage, Tensor, axes_of
from symroof.operators.attention import QUERY, attention, rotary
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, elementwise, norm
from symroof.operators.latent_attention import absorbed, decompressed
from symroof.operators.linear import linear

PER_COMPONENT, PER_HEAD_AND_COMPONENT = ("e",), ("k", "g", "e")
"""The weights of a norm over queries (of keys without g): shared by the heads, or one per head."""


@dataclass(frozen=True)
class Attention:
    """Projections, norms, rotary embedding, attention over the context, output projection.

    New keys and values are written to the cache, from which attention reads the whole context, new
    rows included. Projections that implementations fuse are counted separately.

    Attributes
    ----------
    bias, out_bias : whether the q, k, v projections, and the output projection, have a bias.
    key_bias : False if the k projection has none though the others do.
    rotary : whether queries and keys get a rotary embedding.
    qk_norm : the norm of queries and keys, if any, and `qk_weights` the axes of its weights.
    qk_bias : whether that norm has a bias.
    gated : whether a sigmoid gate, projected along with the queries, scales the output.
    scaled : whether queries are multiplied by a number that depends on their position.
    softcap, sinks, biased : as for `symroof.operators.attention.attention`.
    qk_weight : whether the norm of queries and keys has weights.
    v_norm : whether values get a norm, without weights; `keys_as_values` whether they are the projected keys.
    head_gated : whether a sigmoid gate per head, a projection of its own, scales the output.
    wide_values : whether a value has another number of components than a key, ``e_v``.
    own_sizes : whether a layer with a window has its own heads, and its own sizes of them.
    groups : the number of KV heads, where layers differ in it.
    selection : what selects the blocks of keys that queries attend to; None for all keys.
    adapters : whether queries, keys and values are sums of two projections, the second of low rank and the layer's own (LoRA).
    shared : whether keys and values are those of an earlier layer, *stored*; the layer has no projections for them.
    grouped : False if the family has as many KV heads as query heads.
    cached : False stores keys and values of a prompt as activations (for models that generate nothing).
    fed : the axis of its input, if that is not the hidden size.
    """

    bias: bool = False
    out_bias: bool = False
    key_bias: bool = True
    rotary: bool = True
    qk_norm: Norm | None = None
    qk_weights: Axes = PER_COMPONENT
    qk_bias: bool = False
    gated: bool = False
    scaled: bool = False
    qk_weight: bool = True
    v_norm: bool = False
    keys_as_values: bool = False
    head_gated: bool = False
    wide_values: bool = False
    own_sizes: bool = False
    groups: Expr | None = None
    selection: BlockIndexer | None = None
    adapters: bool = False
    shared: bool = False
    stored: tuple[Tensor, Tensor] | None = None
    softcap: bool = False
    sinks: bool = False
    biased: bool = False
    grouped: bool = True
    cached: bool = True
    fed: str = "d"

    def axes(self) -> dict[str, Expr]:
        if self.own_sizes:
            return {}
        if self.groups is not None:
            return {"e": symbols.e, "r": symbols.r}
        heads: dict[str, Expr] = {"k": symbols.k, "g": symbols.h / symbols.k} if self.grouped else {"k": symbols.h, "g": Integer(1)}
        turned = {"r": symbols.r} if self.rotary else {}
        turned |= {"r_a": symbols.r_a} if self.adapters else {}
        sizes = heads | {"e": symbols.e} | turned | ({"e_v": symbols.e_v} if self.wide_values else {})
        return sizes | (self.selection.axes() if self.selection else {})

    def _sized(self, space: Space) -> Space:
        """The space with the sizes of this layer's heads."""
        if self.groups is not None:
            return replace(space, sizes={**space.sizes, "k": self.groups, "g": symbols.h / self.groups})
        if not self.own_sizes:
            return space
        sizes = {"k": symbols.k_w, "g": symbols.h_w / symbols.k_w, "e": symbols.e_w, "r": symbols.r_w, "e_v": symbols.e_v}
        return replace(space, sizes={**space.sizes, **sizes})

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        sized, space = self._sized(x.space), self._sized(space)
        if self.selection is not None:
            self.selection(record, x, space)
            space = space.selected(symbols.t_i)
        keys, values = self._cache(space, options)
        q = record(linear("q_proj", f"b s {self.fed}, {self.fed} k g e -> b s k g e", x, bias=self.bias, space=sized))
        q = self._adapted(record, "q", x, q) if self.adapters else q
        gate = record(linear("q_gate_proj", "b s d, d k g e -> b s k g e", x, bias=self.bias, space=sized)) if self.gated else None
        new = self._projected(record, x, sized, keys, values) if self.stored is None else None
        if self.qk_norm is not None:
            learned: Any = {"weight": self.qk_weight, "bias": self.qk_bias}
            q = record(norm("q_norm", q, self.qk_norm, **learned, over=self.qk_weights))
            if new is not None:
                own = tuple(axis for axis in self.qk_weights if axis != "g")
                new = record(norm("k_norm", new, self.qk_norm, **learned, over=own, into=None if self.rotary else keys))
        if self.rotary:
            table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
            q = record(rotary("q_rotary", q, table))
            if new is not None:
                record(rotary("k_rotary", new, table, into=keys))
        if self.scaled:
            q = record(elementwise("q_scale", (q,), q.axes, 1, role=Role.SCALE, linear_in=1))
        context = q
        kind = {"softcap": self.softcap, "sinks": self.sinks, "biased": self.biased}
        for operator in attention(q, keys, values, fused=options.flash_attention, **kind):
            context = record(operator)
        if gate is not None:
            context = record(elementwise("attn_gate", (context, gate), QUERY, ACTIVATION_FLOPS["sigmoid"] + 1, role=Role.GATE))
        if self.head_gated:
            gate = record(linear("attn_gate_proj", "b s d, d k g -> b s k g", x, space=sized))
            context = record(elementwise("attn_gate", (context, gate), context.axes, ACTIVATION_FLOPS["sigmoid"] + 1, role=Role.GATE))
        width = self._width
        return record(linear("out_proj", f"b s k g {width}, k g {width} d -> b s d", context, bias=self.out_bias))

    @staticmethod
    def _adapted(record: BlockBuilder, name: str, x: Tensor, y: Tensor, into: Tensor | None = None) -> Tensor:
        """The projection *y* of *x* plus one of low rank."""
        rank = record(linear(f"{name}_adapter_down", "b s d, d r_a -> b s r_a", x), own=True)
        rows = " ".join(y.axes[2:])
        low = record(linear(f"{name}_adapter_up", f"b s r_a, r_a {rows} -> b s {rows}", rank), own=True)
        return record(elementwise(f"{name}_adapter_add", (y, low), y.axes, 1, into, role=Role.ADD, linear_in=2))

    @property
    def _width(self) -> str:
        """The axis of a value's components."""
        return "e_v" if self.wide_values else "e"

    def _cache(self, space: Space, options: Options) -> tuple[Tensor, Tensor]:
        """Keys and values of the context: new ones, or those of an earlier layer."""
        if self.stored is not None:
            return self.stored
        place = Storage.KV_CACHE if self.cached or options.decode else Storage.ACTIVATION
        axes = axes_of("b z k") if "z" in space.sizes else axes_of("b t k")
        return Tensor("k_cache", (*axes, "e"), place, space), Tensor("v_cache", (*axes, self._width), place, space)

    def _projected(self, record: BlockBuilder, x: Tensor, sized: Space, keys: Tensor, values: Tensor) -> Tensor:
        """The new keys as they are projected, and the new values written."""
        into, bias, d = None if self.rotary or self.qk_norm is not None else keys, self.bias and self.key_bias, self.fed
        new = record(linear("k_proj", f"b s {d}, {d} k e -> b s k e", x, bias=bias, into=None if self.adapters else into, space=sized))
        new = self._adapted(record, "k", x, new, into) if self.adapters else new
        width, value = self._width, new
        if not self.keys_as_values:
            into, spec = None if self.v_norm else values, f"b s {d}, {d} k {width} -> b s k {width}"
            value = record(linear("v_proj", spec, x, bias=self.bias, into=None if self.adapters else into, space=sized))
            value = self._adapted(record, "v", x, value, into) if self.adapters else value
        if self.v_norm:
            record(norm("v_norm", value, Norm.RMS, weight=False, over=(width,), into=values))
        return new


@dataclass(frozen=True)
class LatentAttention:
    """Low-rank queries and keys-values; the cache stores ``r_kv + r`` components per token.

    Attributes
    ----------
    compressed_queries : whether queries are low-rank too, of rank ``r_q``.
    bias : whether the two compressing projections and the output projection have a bias.
    selection : what selects the keys that queries attend to; None for all keys.
    rotary : whether the ``r`` shared components are rotated.
    gated : whether a sigmoid gate, a projection of the layer's input, scales the output; `head_gated` whether it is one per head.
    scaled : whether queries are multiplied by a number that depends on their position.

    Source: DeepSeek-AI (2024), arXiv:2405.04434; Transformers' DeepseekV3Attention.
    """

    compressed_queries: bool
    bias: bool = False
    selection: Indexer | None = None
    rotary: bool = True
    gated: bool = False
    scaled: bool = False
    head_gated: bool = False

    def axes(self) -> dict[str, Expr]:
        named: dict[str, Expr] = {axis: getattr(symbols, axis) for axis in ("h", "r_kv", "r", "e_n", "e_v")}
        named |= {"r_q": symbols.r_q} if self.compressed_queries else {}
        return named | (self.selection.axes() if self.selection else {})

    def absorbed(self, options: Options) -> bool:
        """Whether attention runs on the compressed vectors: with selected keys also in prefill, where no two queries share them."""
        return options.absorbed or (self.selection is not None and options.mla == "auto")

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        everywhere = space
        space, kept = (space.selected(symbols.t_i), "z") if self.selection else (space, "t")
        latent = Tensor("latent_cache", axes_of(f"b {kept} r_kv"), Storage.KV_CACHE, space)
        keys_rotary = Tensor("k_rotary_cache", axes_of(f"b {kept} r"), Storage.KV_CACHE, space)
        table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
        source, width = x, "d"
        if self.compressed_queries:
            source = record(linear("q_down_proj", "b s d, d r_q -> b s r_q", x, bias=self.bias))
            source, width = record(norm("q_down_norm", source, Norm.RMS, over=("r_q",))), "r_q"
        q = record(linear("q_proj", f"b s {width}, {width} h e_n -> b s h e_n", source))
        turned = record(linear("q_rotary_proj", f"b s {width}, {width} h r -> b s h r", source))
        if self.rotary:
            turned = record(rotary("q_rotary", turned, table))
        if self.scaled:
            q = record(elementwise("q_scale", (q,), q.axes, 1, role=Role.SCALE, linear_in=1))
            turned = record(elementwise("q_rotary_scale", (turned,), turned.axes, 1, role=Role.SCALE, linear_in=1))
        down = record(linear("kv_down_proj", "b s d, d r_kv -> b s r_kv", x, bias=self.bias))
        record(norm("kv_down_norm", down, Norm.RMS, over=("r_kv",), into=latent))
        into = None if self.rotary else keys_rotary
        single = record(linear("k_rotary_proj", "b s d, d r -> b s r", x, bias=self.bias, into=into))
        if self.rotary:
            record(rotary("k_rotary", single, table, into=keys_rotary))
        selected = self.selection and self.selection(record, x, source, everywhere, space)
        attend = self._absorbed if self.absorbed(options) else self._decompressed
        context = attend(record, (q, turned), latent, keys_rotary, options, selected)
        if self.gated or self.head_gated:
            each = "h" if self.head_gated else "h e_v"
            gate = record(linear("attn_gate_proj", f"b s d, d {each} -> b s {each}", x))
            context = record(elementwise("attn_gate", (context, gate), context.axes, ACTIVATION_FLOPS["sigmoid"] + 1, role=Role.GATE))
        return record(linear("out_proj", "b s h e_v, h e_v d -> b s d", context, bias=self.bias))

    @staticmethod
    def _absorbed(
        record: BlockBuilder,
        queries: tuple[Tensor, Tensor],
        latent: Tensor,
        keys_rotary: Tensor,
        options: Options,
        selected: Tensor | None,
    ) -> Tensor:
        q, turned = queries
        q = record(linear("k_up_proj", "b s h e_n, r_kv h e_n -> b s h r_kv", q))
        context = q
        for operator in absorbed(q, turned, latent, keys_rotary, fused=options.flash_attention, selected=selected):
            context = record(operator)
        return record(linear("v_up_proj", "b s h r_kv, r_kv h e_v -> b s h e_v", context))

    @staticmethod
    def _decompressed(
        record: BlockBuilder,
        queries: tuple[Tensor, Tensor],
        latent: Tensor,
        keys_rotary: Tensor,
        options: Options,
        selected: Tensor | None,
    ) -> Tensor:
        q, turned = queries
        rows = latent.axes[1]
        keys = record(linear("k_up_proj", f"b {rows} r_kv, r_kv h e_n -> b {rows} h e_n", latent))
        values = record(linear("v_up_proj", f"b {rows} r_kv, r_kv h e_v -> b {rows} h e_v", latent))
        context = q
        for operator in decompressed(q, turned, keys, keys_rotary, values, fused=options.flash_attention, selected=selected):
            context = record(operator)
        return context
