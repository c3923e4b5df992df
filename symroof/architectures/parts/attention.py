"""Self-attention: grouped query heads in the variants of published models, and multi-head latent attention."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.indexer import Indexer
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Axes, Role, Space, Storage, Tensor, axes_of
from symroof.operators.attention import CACHE, QUERY, attention, rotary
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, elementwise, norm
from symroof.operators.latent_attention import absorbed, decompressed
from symroof.operators.linear import linear

WINDOW_CACHE = axes_of("b z k e")

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
    grouped : False if the family has as many KV heads as query heads.
    cached : False stores keys and values of a prompt as activations (for models that generate nothing).
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
    softcap: bool = False
    sinks: bool = False
    biased: bool = False
    grouped: bool = True
    cached: bool = True

    def axes(self) -> dict[str, Expr]:
        heads: dict[str, Expr] = {"k": symbols.k, "g": symbols.h / symbols.k} if self.grouped else {"k": symbols.h, "g": Integer(1)}
        return heads | {"e": symbols.e} | ({"r": symbols.r} if self.rotary else {})

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        place = Storage.KV_CACHE if self.cached or options.decode else Storage.ACTIVATION
        cache = WINDOW_CACHE if "z" in space.sizes else CACHE
        keys, values = Tensor("k_cache", cache, place, space), Tensor("v_cache", cache, place, space)
        changed = self.rotary or self.qk_norm is not None
        q = record(linear("q_proj", "b s d, d k g e -> b s k g e", x, bias=self.bias))
        gate = record(linear("q_gate_proj", "b s d, d k g e -> b s k g e", x, bias=self.bias)) if self.gated else None
        new = record(linear("k_proj", "b s d, d k e -> b s k e", x, bias=self.bias and self.key_bias, into=None if changed else keys))
        record(linear("v_proj", "b s d, d k e -> b s k e", x, bias=self.bias, into=values))
        if self.qk_norm is not None:
            own = tuple(axis for axis in self.qk_weights if axis != "g")
            q = record(norm("q_norm", q, self.qk_norm, bias=self.qk_bias, over=self.qk_weights))
            into = None if self.rotary else keys
            new = record(norm("k_norm", new, self.qk_norm, bias=self.qk_bias, over=own, into=into))
        if self.rotary:
            table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
            q = record(rotary("q_rotary", q, table))
            record(rotary("k_rotary", new, table, into=keys))
        if self.scaled:
            q = record(elementwise("q_scale", (q,), q.axes, 1, role=Role.SCALE, linear_in=1))
        context = q
        kind = {"softcap": self.softcap, "sinks": self.sinks, "biased": self.biased}
        for operator in attention(q, keys, values, fused=options.flash_attention, **kind):
            context = record(operator)
        if gate is not None:
            context = record(elementwise("attn_gate", (context, gate), QUERY, ACTIVATION_FLOPS["sigmoid"] + 1, role=Role.GATE))
        return record(linear("out_proj", "b s k g e, k g e d -> b s d", context, bias=self.out_bias))


@dataclass(frozen=True)
class LatentAttention:
    """Low-rank queries and keys-values; the cache stores ``r_kv + r`` components per token.

    Attributes
    ----------
    compressed_queries : whether queries are low-rank too, of rank ``r_q``.
    bias : whether the two compressing projections and the output projection have a bias.
    selection : what selects the keys that queries attend to; None for all keys.

    Source: DeepSeek-AI (2024), arXiv:2405.04434; Transformers' DeepseekV3Attention.
    """

    compressed_queries: bool
    bias: bool = False
    selection: Indexer | None = None

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
        turned = record(rotary("q_rotary", turned, table))
        down = record(linear("kv_down_proj", "b s d, d r_kv -> b s r_kv", x, bias=self.bias))
        record(norm("kv_down_norm", down, Norm.RMS, over=("r_kv",), into=latent))
        single = record(linear("k_rotary_proj", "b s d, d r -> b s r", x, bias=self.bias))
        record(rotary("k_rotary", single, table, into=keys_rotary))
        selected = self.selection and self.selection(record, x, source, everywhere, space)
        attend = self._absorbed if self.absorbed(options) else self._decompressed
        context = attend(record, (q, turned), latent, keys_rotary, options, selected)
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
