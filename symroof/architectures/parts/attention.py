"""Self-attention of grouped query heads, in all the variants that published models have."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators.attention import CACHE, QUERY, attention, rotary
from symroof.operators.elementwise import ACTIVATION_FLOPS, elementwise
from symroof.operators.facts import Role
from symroof.operators.linear import linear
from symroof.operators.norm import Norm, norm
from symroof.operators.tensor import Axes, Space, Storage, Tensor, axes_of

WINDOW_CACHE = axes_of("b z k e")

PER_COMPONENT, PER_HEAD_AND_COMPONENT = ("e",), ("k", "g", "e")
"""The weights of a norm over queries (of keys without g): shared by the heads, or one per head."""


@dataclass(frozen=True)
class Attention:
    """Projections, norms, rotary embedding, attention over the context, output projection.

    The new keys and values are written to the cache, where attention reads the whole context, the
    new rows included. Projections that an implementation fuses are counted apart.

    Attributes
    ----------
    bias, out_bias : whether the q, k, v projections, and the output projection, have one.
    rotary : whether queries and keys get a rotary embedding.
    qk_norm : the norm of queries and keys, if there is one, and `qk_weights` the axes of its weights.
    qk_bias : whether that norm has a bias.
    gated : whether a sigmoid gate, projected beside the queries, scales the output.
    softcap, sinks, biased : as for `symroof.operators.attention.attention`.
    grouped : False where the family has as many KV heads as query heads.
    cached : False keeps keys and values of a prompt as activations (nothing is generated from them).
    """

    bias: bool = False
    out_bias: bool = False
    rotary: bool = True
    qk_norm: Norm | None = None
    qk_weights: Axes = PER_COMPONENT
    qk_bias: bool = False
    gated: bool = False
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
        new = record(linear("k_proj", "b s d, d k e -> b s k e", x, bias=self.bias, into=None if changed else keys))
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
        context = q
        kind = {"softcap": self.softcap, "sinks": self.sinks, "biased": self.biased}
        for operator in attention(q, keys, values, fused=options.flash_attention, **kind):
            context = record(operator)
        if gate is not None:
            context = record(elementwise("attn_gate", (context, gate), QUERY, ACTIVATION_FLOPS["sigmoid"] + 1, role=Role.GATE))
        return record(linear("out_proj", "b s k g e, k g e d -> b s d", context, bias=self.out_bias))
