"""Linear attention with a fixed decay per head (Lightning Attention), between norms, with a gate."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder
from symroof.architectures.parts.recurrent import Recurrent
from symroof.operators import Role, Space, Storage, Tensor, axes_of
from symroof.operators.attention import rotary
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, elementwise, norm
from symroof.operators.linear import linear
from symroof.operators.state_space import decayed_sum


@dataclass(frozen=True)
class Lightning(Recurrent):
    """Queries, keys and values, a norm and a rotary embedding of the first two, the recurrence, a norm, a gate.

    Attributes
    ----------
    bias, out_bias : whether the projection of queries, keys and values, and that of the output, have a bias.
    normed : whether queries and keys have a norm, per head.

    Source: inclusionAI (2025), arXiv:2510.19338; BailingMoeV2_5LinearAttention in github.com/inclusionAI/Ring-V2.5.
    """

    bias: bool = False
    out_bias: bool = False
    normed: bool = True

    def axes(self) -> dict[str, Expr]:
        return {"h_l": symbols.h_l, "e_k": symbols.e_l, "e_l": symbols.e_l, "r": symbols.r}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
        q, k = (self._turned(record, name, x, table) for name in ("q", "k"))
        values = record(linear("v_proj", "b s d, d h_l e_l -> b s h_l e_l", x, bias=self.bias))
        out = record(decayed_sum("decayed_sum", q, k, values))
        normed = record(norm("gate_norm", out, Norm.RMS, over=("h_l", "e_l")))
        gate = record(linear("attn_gate_proj", "b s d, d h_l e_l -> b s h_l e_l", x))
        gated = record(elementwise("gate", (normed, gate), normed.axes, ACTIVATION_FLOPS["sigmoid"] + 1, role=Role.GATE))
        return record(linear("out_proj", "b s h_l e_l, h_l e_l d -> b s d", gated, bias=self.out_bias))

    def _turned(self, record: BlockBuilder, name: str, x: Tensor, table: Tensor) -> Tensor:
        projected = record(linear(f"{name}_proj", "b s d, d h_l e_k -> b s h_l e_k", x, bias=self.bias))
        normed = record(norm(f"{name}_norm", projected, Norm.RMS, over=("e_k",))) if self.normed else projected
        return record(rotary(f"{name}_rotary", normed, table))
