"""RWKV-4's two halves of a layer: a decayed average of all earlier tokens, and an MLP; both mix every token with the one before."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder
from symroof.architectures.parts.recurrent import Recurrent
from symroof.operators import Role, Space, Tensor, axes_of
from symroof.operators.elementwise import ACTIVATION_FLOPS, activation, elementwise
from symroof.operators.linear import linear
from symroof.operators.state_space import decayed_average, token_shift

GATE_FLOPS = ACTIVATION_FLOPS["sigmoid"] + 1


@dataclass(frozen=True)
class TimeMix(Recurrent):
    """Keys, values and a receptance from mixtures of two tokens, the decayed average, a gate, the output projection.

    Source: Peng et al. (2023), RWKV, arXiv:2305.13048, section 3.1; Transformers' RwkvSelfAttention.
    """

    def axes(self) -> dict[str, Expr]:
        return {"d_i": symbols.d_i, "three": Integer(3)}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        mixed = record(token_shift("time_mix", x, "three"))
        k, v, gate = (record(linear(f"{name}_proj", "b s d, d d_i -> b s d_i", mixed)) for name in ("key", "value", "receptance"))
        average = record(decayed_average("decayed_average", k, v))
        gated = record(elementwise("gate", (average, gate), v.axes, GATE_FLOPS, role=Role.GATE))
        return record(linear("out_proj", "b s d_i, d_i d -> b s d", gated))


@dataclass(frozen=True)
class ChannelMix(Recurrent):
    """An MLP with squared ReLU and a gate, each from a mixture of two tokens of its own.

    Source: Peng et al. (2023), RWKV, arXiv:2305.13048, section 3.1; Transformers' RwkvFeedForward.
    """

    def axes(self) -> dict[str, Expr]:
        return {"f": symbols.f, "two": Integer(2), "d_2": symbols.d}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        mixed = record(token_shift("channel_mix", x, "two"))
        active = record(activation("mlp_act", "relu2", record(linear("mlp_key_proj", "b s d, d f -> b s f", mixed))))
        down = record(linear("mlp_value_proj", "b s f, f d -> b s d", active))
        gate = record(linear("mlp_receptance_proj", "b s d, d d_2 -> b s d_2", mixed))
        return record(elementwise("mlp_gate", (down, gate), axes_of("b s d"), GATE_FLOPS, role=Role.GATE, linear_in=1))
