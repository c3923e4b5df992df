"""Kimi Delta Attention: the delta rule with a decay of its own for every channel of a key."""

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
from symroof.operators.state_space import causal_convolution, channel_delta_rule


@dataclass(frozen=True)
class KimiDelta(Recurrent):
    """Queries, keys and values behind a convolution, a decay per channel from a low-rank projection, a gated norm.

    Attributes
    ----------
    full_rank_gate : whether the gate of the output comes from one projection, not from two with the rank of a head's width.
    full_rank_decay : whether the decays do.

    Source: Kimi team (2025), Kimi Linear, arXiv:2510.26692; Transformers' KimiLinearDeltaAttention, BailingHybridDeltaAttention.
    """

    full_rank_gate: bool = False
    full_rank_decay: bool = False

    def axes(self) -> dict[str, Expr]:
        width = symbols.e_l
        sizes: dict[str, Expr] = {"h_l": symbols.h_l, "e_k": width, "e_l": width, "k_c": symbols.k_c, "r_f": width}
        return sizes | {"mixed": 3 * symbols.h_l * width}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        projected = record(linear("qkv_proj", "b s d, d mixed -> b s mixed", x))
        mixed = record(causal_convolution("conv", projected, "mixed", bias=False))
        if self.full_rank_decay:
            decay = record(linear("decay_proj", "b s d, d h_l e_k -> b s h_l e_k", x))
        else:
            rank = record(linear("decay_down_proj", "b s d, d r_f -> b s r_f", x))
            decay = record(linear("decay_up_proj", "b s r_f, r_f h_l e_k -> b s h_l e_k", rank))
        strength = record(linear("strength_proj", "b s d, d h_l -> b s h_l", x))
        out = record(channel_delta_rule("delta_rule", mixed, decay, strength))
        normed = record(norm("gate_norm", out, Norm.RMS, over=("e_l",)))
        if self.full_rank_gate:
            gate = record(linear("attn_gate_proj", "b s d, d h_l e_l -> b s h_l e_l", x))
        else:
            rank = record(linear("attn_gate_down_proj", "b s d, d r_f -> b s r_f", x))
            gate = record(linear("attn_gate_up_proj", "b s r_f, r_f h_l e_l -> b s h_l e_l", rank))
        gated = record(elementwise("gate", (normed, gate), normed.axes, ACTIVATION_FLOPS["sigmoid"] + 1, role=Role.GATE))
        return record(linear("kda_out_proj", "b s h_l e_l, h_l e_l d -> b s d", gated))
