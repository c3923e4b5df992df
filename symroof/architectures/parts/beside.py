"""What some layers have beside attention and one MLP: experts next to a dense MLP, and an input of their own per token."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Access, Role, Space, Tensor, axes_of
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, add, elementwise, norm
from symroof.operators.linear import linear


@dataclass(frozen=True)
class DenseAndExperts:
    """A dense MLP and experts on the same residual stream, each between norms of its own; their sum.

    The router has a norm too, whose weights are its scales.

    Source: Transformers' Gemma4TextDecoderLayer.
    """

    dense: Mlp
    experts: Experts

    def axes(self) -> dict[str, Expr]:
        return self.dense.axes() | self.experts.axes()

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        dense = self.dense(record, record(norm("mlp_norm", x, Norm.RMS)), space, options)
        dense = record(norm("dense_post_norm", dense, Norm.RMS))
        routed = record(norm("router_norm", x, Norm.RMS))
        given = self.experts(record, record(norm("expert_norm", x, Norm.RMS)), space, options, routed=routed)
        return record(add("dense_add", dense, record(norm("expert_post_norm", given, Norm.RMS))))


@dataclass(frozen=True)
class PerLayerInput:
    """An input that every layer has of its own, from an embedding of its own, gated by the residual stream.

    Attributes
    ----------
    activation : of the gate.
    inputs : those of all layers, which the step's entry computes.

    Source: Transformers' Gemma4TextDecoderLayer.
    """

    activation: str
    inputs: Tensor | None = None

    def axes(self) -> dict[str, Expr]:
        return {"d_p": symbols.d_p, "v_l": symbols.v_l}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        assert self.inputs is not None
        gate = record(linear("per_layer_gate", "b s d, d d_p -> b s d_p", x))
        own = Access(self.inputs, axes_of("b s d_p"))
        flops, facts = ACTIVATION_FLOPS[self.activation] + 1, {"role": Role.ACTIVATION, "function": self.activation}
        gated = record(elementwise("per_layer_act", (gate, own), gate.axes, flops, **facts))
        return record(linear("per_layer_proj", "b s d_p, d_p d -> b s d", gated))
