"""Zamba's hybrid layers: a block of attention and MLP whose weights several layers share, before a state-space mixer."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.part import BlockBuilder, Part
from symroof.architectures.parts.recurrent import Recurrent
from symroof.operators import Role, Space, Storage, Tensor
from symroof.operators.elementwise import Norm, activation, add, elementwise, norm
from symroof.operators.linear import linear


@dataclass(frozen=True)
class SharedBlock(Recurrent):
    """Attention over the input beside the token embedding, an MLP on its result, a projection; their sum with the input is mixed.

    The weights of attention and MLP are those of ``n_b`` blocks that the layers take in turn; the projection, the adapters of rank
    ``r_a`` and the state-space mixer are the layer's own. Every layer reads its block's weights, and keeps keys and values of its own.

    Attributes
    ----------
    attention, mixer : of an input twice as wide as the hidden size, and the state-space mixer.
    activation, bias : of the gated MLP.
    adapters : whether the MLP's first projections have adapters.
    embedded : the token embedding, which the step's entry reads.

    Source: Glorioso et al. (2024), Zamba, arXiv:2405.16712, and Zamba2, arXiv:2411.15242; Transformers' Zamba2HybridLayer.
    """

    attention: Attention
    mixer: Part
    activation: str
    bias: bool = False
    adapters: bool = False
    embedded: Tensor | None = None

    def axes(self) -> dict[str, Expr]:
        sizes = self.attention.axes() | self.mixer.axes() | {"f": symbols.f, "d_2": symbols.d}
        return sizes | ({"r_a": symbols.r_a} if self.adapters else {})

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        assert self.embedded is not None
        shared = record.inside("shared.")
        shared.copies = symbols.n_b
        pair = Tensor("concat", x.axes, Storage.ACTIVATION, x.space.resized({"d": 2 * symbols.d}))
        shared(elementwise("concat", (x, self.embedded), x.axes, 0, pair))
        context = self.attention(shared, shared(norm("attn_norm", pair, Norm.RMS)), space, options)
        given = self._mlp(shared, shared(norm("mlp_norm", context, Norm.RMS)))
        joined = record(add("shared_add", x, record(linear("shared_proj", "b s d, d d_2 -> b s d_2", given))))
        return self.mixer(record, record(norm("mixer_norm", joined, Norm.RMS)), space, options)

    def _mlp(self, record: BlockBuilder, x: Tensor) -> Tensor:
        gate, up = (record(linear(f"{name}_proj", "b s d, d f -> b s f", x, bias=self.bias)) for name in ("gate", "up"))
        if self.adapters:
            rank = record(linear("mlp_adapter_down", "b s d, d r_a -> b s r_a", x), own=True)
            gate, up = (self._adapted(record, name, y, rank) for name, y in (("gate", gate), ("up", up)))
        active = record(activation("mlp_act", self.activation, up, gate))
        return record(linear("down_proj", "b s f, f d -> b s d", active, bias=self.bias))

    @staticmethod
    def _adapted(record: BlockBuilder, name: str, y: Tensor, rank: Tensor) -> Tensor:
        low = record(linear(f"{name}_adapter_up", "b s r_a, r_a f -> b s f", rank), own=True)
        return record(elementwise(f"{name}_adapter_add", (y, low), y.axes, 1, role=Role.ADD, linear_in=2))
