"""Mixers with a fixed-size state instead of a growing cache: Mamba, Mamba-2, the gated delta rule."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder, Part
from symroof.operators import Access, Operator, Role, Space, Tensor, axes_of
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, add, elementwise, norm
from symroof.operators.linear import linear
from symroof.operators.state_space import causal_convolution, delta_rule, head_scan, selective_scan

RECURRENCE = (
    "recurrent layers: FLOPs of the recurrence, token by token; the state is read and written once per step; a scan runs at the matrix "
    "peak, so its compute time is a lower bound"
)
"""The convention on recurrent layers."""


class Recurrent:
    """A mixer with a state per sequence that does not grow."""


@dataclass(frozen=True)
class Mamba(Recurrent):
    """Input and gate from one projection, a short convolution, the selective scan, output projection.

    Attributes
    ----------
    bias, conv_bias : whether the two outer projections, and the convolution, have a bias.
    inner_norms : norms over the time steps, B and C: None for none, otherwise whether they have weights.
    in_heads : whether the channels are in ``h_s`` heads, each with time steps, B and C of its own.

    Source: Gu and Dao (2023), arXiv:2312.00752; Transformers' MambaMixer, JambaMambaMixer, ZambaMambaMixer.
    """

    bias: bool = False
    conv_bias: bool = True
    inner_norms: bool | None = None
    in_heads: bool = False

    def axes(self) -> dict[str, Expr]:
        named = {axis: getattr(symbols, axis) for axis in ("d_i", "d_s", "k_c", "r_t")}
        named |= {"h_s": symbols.h_s, "e_s": symbols.d_i / symbols.h_s} if self.in_heads else {}
        return named | {"both": 2 * symbols.d_i, "selected": symbols.r_t + 2 * symbols.d_s}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        both = record(linear("in_proj", "b s d, d both -> b s both", x, bias=self.bias))
        mixed = record(causal_convolution("conv", both, "d_i", bias=self.conv_bias))
        gate = Access(both, axes_of("b s d_i"))
        if self.in_heads:
            selected = record(linear("head_x_proj", "b s h_s e_s, h_s e_s selected -> b s h_s selected", mixed))
            steps = record(linear("head_dt_proj", "b s h_s r_t, h_s r_t e_s -> b s h_s e_s", selected, bias=True))
            states = Access(selected, axes_of("b s h_s d_s"))
            scanned = record(selective_scan("selective_scan", mixed, steps, (states, states), gate))
            return record(linear("out_proj", "b s d_i, d_i d -> b s d", scanned, bias=self.bias))
        selected = record(linear("x_proj", "b s d_i, d_i selected -> b s selected", mixed))
        rank, states = Access(selected, axes_of("b s r_t")), Access(selected, axes_of("b s d_s"))
        given, both_normed = selected, (states, states)
        if self.inner_norms is not None:
            given = record(self._norm("dt_norm", rank))
            both_normed = (Access(record(self._norm("B_norm", states))), Access(record(self._norm("C_norm", states))))
        steps = record(linear("dt_proj", "b s r_t, r_t d_i -> b s d_i", given, bias=True))
        scanned = record(selective_scan("selective_scan", mixed, steps, both_normed, gate))
        return record(linear("out_proj", "b s d_i, d_i d -> b s d", scanned, bias=self.bias))

    def _norm(self, name: str, part: Access) -> Operator:
        return norm(name, part, Norm.RMS, weight=bool(self.inner_norms), over=part.axes[2:])


@dataclass(frozen=True)
class Mamba2(Recurrent):
    """The scan with one decay per head, and a gated norm before the output projection.

    Attributes
    ----------
    bias, out_bias, conv_bias : whether the input projection, the output projection and the convolution have a bias.
    normed : whether a norm follows the gate.

    Source: Dao and Gu (2024), arXiv:2405.21060; Transformers' Mamba2Mixer.
    """

    bias: bool = False
    conv_bias: bool = True
    out_bias: bool = False
    normed: bool = True

    def axes(self) -> dict[str, Expr]:
        named = {axis: getattr(symbols, axis) for axis in ("h_s", "e_s", "g_s", "d_s", "k_c")}
        inner, shared = symbols.h_s * symbols.e_s, 2 * symbols.g_s * symbols.d_s
        return named | {"d_i": inner, "mixed": inner + shared, "shared": shared, "all": 2 * inner + shared + symbols.h_s}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        projected = record(linear("in_proj", "b s d, d all -> b s all", x, bias=self.bias))
        mixed = record(causal_convolution("conv", projected, "mixed", bias=self.conv_bias))
        inner, shared = Access(mixed, axes_of("b s h_s e_s")), Access(mixed, axes_of("b s shared"))
        scanned = record(head_scan("head_scan", inner, shared, Access(projected, axes_of("b s h_s"))))
        gate = Access(projected, axes_of("b s h_s e_s"))
        gated = record(elementwise("gate", (scanned, gate), scanned.axes, ACTIVATION_FLOPS["silu"] + 1, role=Role.GATE))
        normed = record(norm("gate_norm", gated, Norm.RMS, over=("h_s", "e_s"))) if self.normed else gated
        return record(linear("out_proj", "b s h_s e_s, h_s e_s d -> b s d", normed, bias=self.out_bias))


@dataclass(frozen=True)
class ShortConvolution:
    """``out(C conv(B x))`` with B, C and x from one projection; what a sequence keeps is the taps of the convolution.

    Attributes
    ----------
    bias : whether the projections and the convolution have a bias.

    Source: Liquid AI (2025), LFM2, arXiv:2511.23404; Transformers' Lfm2ShortConv.
    """

    bias: bool = False

    def axes(self) -> dict[str, Expr]:
        return {"d_i": symbols.d_i, "k_c": symbols.k_c, "three": 3 * symbols.d_i}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        three = record(linear("in_proj", "b s d, d three -> b s three", x, bias=self.bias))
        part = Access(three, axes_of("b s d_i"))
        gated = record(elementwise("in_gate", (part, part), part.axes, 1, role=Role.GATE))
        mixed = record(causal_convolution("conv", gated, "d_i", bias=self.bias, activated=False))
        gated = record(elementwise("out_gate", (mixed, part), mixed.axes, 1, role=Role.GATE))
        return record(linear("out_proj", "b s d_i, d_i d -> b s d", gated, bias=self.bias))


@dataclass(frozen=True)
class SideBySide(Recurrent):
    """Two mixers of the same normed input, whose results are added; the operators of the second have its name as a prefix.

    Source: Zuo et al. (2025), Falcon-H1, arXiv:2507.22448; Transformers' FalconH1DecoderLayer.
    """

    first: Part
    second: Part
    name: str

    def axes(self) -> dict[str, Expr]:
        return self.first.axes() | self.second.axes()

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        both = self.first(record, x, space, options), self.second(record.inside(f"{self.name}."), x, space, options)
        return record(add("mixers_add", *both))


@dataclass(frozen=True)
class GatedDelta(Recurrent):
    """Queries, keys, values and a gate from one projection, a convolution, the gated delta rule, a gated norm.

    Source: Yang, Kautz and Hatamizadeh (2024), arXiv:2412.06464; Transformers' Qwen3NextGatedDeltaNet.
    """

    def axes(self) -> dict[str, Expr]:
        named = {axis: getattr(symbols, axis) for axis in ("k_l", "h_l", "e_k", "e_l", "k_c")}
        keys, values = 2 * symbols.k_l * symbols.e_k, symbols.h_l * symbols.e_l
        return named | {"mixed": keys + values, "all": keys + 2 * values, "gates": 2 * symbols.h_l}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        projected = record(linear("in_proj", "b s d, d all -> b s all", x))
        gates = record(linear("gates_proj", "b s d, d gates -> b s gates", x))
        mixed = record(causal_convolution("conv", projected, "mixed", bias=False))
        out = record(delta_rule("delta_rule", mixed, gates))
        normed = record(norm("gate_norm", out, Norm.RMS, over=("e_l",)))
        gate = Access(projected, axes_of("b s h_l e_l"))
        gated = record(elementwise("gate", (normed, gate), normed.axes, ACTIVATION_FLOPS["silu"] + 1, role=Role.GATE))
        return record(linear("out_proj", "b s h_l e_l, h_l e_l d -> b s d", gated))
