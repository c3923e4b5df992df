"""xLSTM's matrix memory between its projections, with a norm per head and an output gate."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder
from symroof.architectures.parts.recurrent import Recurrent
from symroof.operators import Role, Space, Tensor
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, elementwise, norm
from symroof.operators.linear import linear
from symroof.operators.state_space import matrix_memory


@dataclass(frozen=True)
class MatrixMemory(Recurrent):
    """Queries, keys, values and two gates per head; the state of a head is a matrix, a vector and a number.

    Source: Beck et al. (2025), xLSTM 7B, arXiv:2503.13427; Transformers' xLSTMLayer.
    """

    def axes(self) -> dict[str, Expr]:
        memory = symbols.e_k * symbols.e_l + symbols.e_k + 1
        return {"h_l": symbols.h_l, "e_k": symbols.e_k, "e_l": symbols.e_l, "memory": memory}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        q, k = (record(linear(f"{name}_proj", "b s d, d h_l e_k -> b s h_l e_k", x)) for name in ("q", "k"))
        v, gate = (record(linear(f"{name}_proj", "b s d, d h_l e_l -> b s h_l e_l", x)) for name in ("v", "output_gate"))
        put, keep = (record(linear(f"{name}_gate_proj", "b s d, d h_l -> b s h_l", x, bias=True)) for name in ("input", "forget"))
        out = record(matrix_memory("matrix_memory", q, k, v, (put, keep)))
        normed = record(norm("gate_norm", out, Norm.LAYER, over=("h_l", "e_l")))
        gated = record(elementwise("gate", (normed, gate), normed.axes, ACTIVATION_FLOPS["sigmoid"] + 1, role=Role.GATE))
        return record(linear("out_proj", "b s h_l e_l, h_l e_l d -> b s d", gated))
