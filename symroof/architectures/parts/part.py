"""The interface of a layer's parts: their axes, and their operators from an input to an output, collected in a block."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from sympy import Expr

from symroof import symbols
from symroof.architectures.options import Options
from symroof.operators import Access, Block, BlockRole, Operator, Space, Storage, Tensor, axes_of

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "relu": "relu",
    "relu2": "relu2",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
"""The names of activation functions by their names in configs."""


class BlockBuilder:
    """Collects the operators of a block in execution order; a call returns the operator's result.

    *prefix* is put before the operators' names if several kinds of layers have the same operators. While *copies* is set, weights are
    those of that many blocks which layers share, unless they are the layer's *own*.

    >>> from symroof.operators.elementwise import Norm, norm
    >>> space = Space({"b": symbols.b, "s": symbols.s, "d": symbols.d})
    >>> record = BlockBuilder()
    >>> record(norm("attn_norm", residual_stream(space), Norm.RMS)).name
    'attn_norm'
    >>> [operator.name for operator in record.operators]
    ['attn_norm']
    """

    def __init__(self, prefix: str = "") -> None:
        self.operators: list[Operator] = []
        self.prefix = prefix
        self.copies: Expr | None = None

    def __call__(self, operator: Operator, *, own: bool = False) -> Tensor:
        """Record the operator and return its result."""
        if self.copies is not None and not own:
            operator = replace(operator, reads=tuple(_shared(access, self.copies) for access in operator.reads))
        self.operators.append(operator.prefixed(self.prefix) if self.prefix else operator)
        return operator.result

    def inside(self, prefix: str) -> BlockBuilder:
        """A builder that records into the same block, with a prefix behind its own."""
        builder = BlockBuilder(self.prefix + prefix)
        builder.operators, builder.copies = self.operators, self.copies
        return builder

    def block(self, name: str, into: Tensor | None = None) -> Block:
        """The recorded operators as an end of the model; the last one writes to the existing tensor *into*."""
        if into is not None:
            last = self.operators.pop()
            self.operators.append(replace(last, writes=(replace(last.written, tensor=into),)))
        return Block(name, tuple(self.operators))

    def layers(self, kind: str = "layer", into: Tensor | None = None) -> Block:
        """The recorded operators as the layers of a kind."""
        return replace(self.block(kind, into), count=symbols.LAYERS[kind], role=BlockRole.LAYER, kind=kind)


def _shared(access: Access, copies: Expr) -> Access:
    """The access to a weight that is in memory *copies* times; others as they are."""
    return replace(access, tensor=replace(access.tensor, copies=copies)) if access.tensor.storage is Storage.WEIGHT else access


class Part(Protocol):
    """A part of a layer: ``part(record, x, space, options)`` records its operators and returns their result."""

    def axes(self) -> dict[str, Expr]:
        """The sizes of its axes other than tokens and hidden size."""
        ...

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        """Record the operators; *space* is the context of the layer."""
        ...


def residual_stream(space: Space) -> Tensor:
    """The residual stream, the activations that pass through all blocks."""
    return Tensor("hidden", axes_of("b s d"), Storage.ACTIVATION, space)
