"""The two ends of a language model: its embedding is `symroof.operators.linear`, its head is here."""

from __future__ import annotations

from symroof.architectures.architecture import BlockBuilder
from symroof.operators.facts import Role
from symroof.operators.linear import linear
from symroof.operators.tensor import Tensor


def lm_head(record: BlockBuilder, x: Tensor, *, tied_to: Tensor | None = None, bias: bool = False, features: str = "d") -> Tensor:
    """Logits of the last token of each sequence, or of all tokens: ``u`` rows."""
    spec = f"b u {features}, v {features} -> b u v"
    return record(linear("lm_head", spec, x, weight=tied_to, bias=bias, role=Role.HEAD))
