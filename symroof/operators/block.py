"""Blocks of a step: operators in the order they run, and how often they do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sympy import Expr, S

from symroof.operators.facts import BlockRole
from symroof.operators.operator import Operator
from symroof.operators.tensor import Tensor
from symroof.symbolic import Symbolic


@dataclass(frozen=True, eq=False)
class Block(Symbolic):
    """Operators in the order they run, and how often the model repeats them.

    Attributes
    ----------
    count : how often a step runs them.
    copies : how many of the block are in memory, where that is not how often it runs (a layer that a token leaves out).
    role : what it is in the step: layers, an end of the model, a draft model's.
    kind : the kind of layer it is of; layers that were set apart keep theirs.
    apart : whether it was set apart from the other layers of its kind.
    """

    name: str
    operators: tuple[Operator, ...]
    count: Expr = S.One
    copies: Expr | None = None
    role: BlockRole = BlockRole.END
    kind: str = ""
    apart: bool = False

    @property
    def resident(self) -> Expr:
        """Copies of its weights and its cache in memory."""
        return self.count if self.copies is None else self.copies

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor the block touches, each once."""
        touched = (access.tensor for operator in self.operators for access in (*operator.reads, *operator.writes))
        return iter(dict.fromkeys(touched))
