"""What every part of a layer provides: its axes, and its operators from an input to an output."""

from __future__ import annotations

from typing import Protocol

from sympy import Expr

from symroof.architectures.architecture import BlockBuilder
from symroof.architectures.options import Options
from symroof.operators.tensor import Space, Tensor

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
"""Names that configs give to activation functions, and what they are called here."""


class Part(Protocol):
    """A part of a layer: ``part(record, x, space, options)`` records its operators and hands back their result."""

    def axes(self) -> dict[str, Expr]:
        """The sizes of the axes it uses beside tokens and hidden size."""
        ...

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        """Record the operators; *space* is the context that the layer looks at."""
        ...
