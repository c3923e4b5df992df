"""Blocks of a step: operators in execution order, repeated."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from sympy import Expr, S

from symroof.operators.facts import BlockRole
from symroof.operators.operator import Operator
from symroof.operators.tensor import Tensor
from symroof.symbolic import Symbolic


@dataclass(frozen=True, eq=False)
class Block(Symbolic):
    """Operators in execution order, and how often the model repeats them.

    Attributes
    ----------
    count : how often a step runs the block.
    copies : how many copies of the block are in memory, if not *count* (layers that a token skips).
    role : the block's role in the step: layers, an end of the model, or part of a draft model.
    kind : the kind of layer; a split block keeps it.
    split : whether the block was split off the other layers of its kind.
    """

    name: str
    operators: tuple[Operator, ...]
    count: Expr = S.One
    copies: Expr | None = None
    role: BlockRole = BlockRole.END
    kind: str = ""
    split: bool = False

    @functools.cached_property
    def resident(self) -> Expr:
        """The number of copies of its weights and cache in memory."""
        return self.count if self.copies is None else self.copies

    def copies_of(self, tensor: Tensor) -> Expr:
        """The number of copies of a tensor of the block in memory."""
        return self.resident if tensor.copies is None else tensor.copies

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that the block touches, once."""
        touched = [access.tensor for operator in self.operators for access in (*operator.reads, *operator.writes)]
        return iter(dict.fromkeys(touched))
