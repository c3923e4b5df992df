"""Mixers with a fixed-size state instead of a growing cache: Mamba, Mamba-2, the gated delta rule."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Access, Operator, Role, Space, Tensor, axes_of
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, elementwise, norm
from symroof.operators.linear import linear
from symroof.operators.state_space import causal_convolution, delta_rule, head_scan, selective_scan


@dataclass(frozen=True)
class Mamba:
    """Input and gate from one projection, a short convolution, the selective scan, output projection.

    Attributes
    ----------
    bias, conv_bias : whether the two outer projections, and the convolution, have a bias.
    inner_norms : norms over the time steps, B and C: None for none, otherwise whether they have weights.

    Source: Gu and Dao (2023), arXiv:2312.00752; Transformers' MambaMixer, JambaMambaMixer.
    """

    bias: bool = False
    conv_bias: bool = True
    inner_norms: bool | None = None

    def axes(self) -> dict[str, Expr]:
        named = {axis: getattr(symbols, axis) for axis in ("d_i", "d_s", "k_c", "r_t")}
        return named | {"both": 2 * symbols.d_i, "selected": symbols.r_t + 2 * symbols.d_s}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        both = record(linear("in_proj", "b s d, d both -> b s both", x, bias=self.bias))
        mixed = record(causal_convolution("conv", both, "d_i", bias=self.conv_bias))
        selected = record(linear("x_proj", "b s d_i, d_i selected -> b s selected", mixed))
        rank, states = Access(selected, axes_of("b s r_t")), Access(selected, axes_of("b s d_s"))
        given, both_normed = selected, (states, states)
        if self.inner_norms is not None:
            given = record(self._norm("dt_norm", rank))
            both_normed = (Access(record(self._norm("B_norm", states))), Access(record(self._norm("C_norm", states))))
        steps = record(linear("dt_proj", "b s r_t, r_t d_i -> b s d_i", given, bias=True))
        gate = Access(both, axes_of("b s d_i"))
        scanned = record(selective_scan("selective_scan", mixed, steps, both_normed, gate))
        return record(linear("out_proj", "b s d_i, d_i d -> b s d", scanned, bias=self.bias))

    def _norm(self, name: str, part: Access) -> Operator:
        return norm(name, part, Norm.RMS, weight=bool(self.inner_norms), over=part.axes[2:])


@dataclass(frozen=True)
class Mamba2:
    """The scan with one decay per head, and a gated norm before the output projection.

    Attributes
    ----------
    bias, conv_bias : as for `Mamba`.
    norm_weights : whether the gated norm is there.

    Source: Dao and Gu (2024), arXiv:2405.21060; Transformers' Mamba2Mixer.
    """

    bias: bool = False
    conv_bias: bool = True

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
        normed = record(norm("gate_norm", gated, Norm.RMS, over=("h_s", "e_s")))
        return record(linear("out_proj", "b s h_s e_s, h_s e_s d -> b s d", normed, bias=self.bias))


@dataclass(frozen=True)
class GatedDelta:
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
