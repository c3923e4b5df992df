"""Softmax over the context."""

from __future__ import annotations

from symroof.operators.operator import Kind, Operator, Work
from symroof.operators.tensor import Access, Storage, Tensor

FLOPS_PER_SCORE = 5
"""Maximum, subtraction, exponential, sum, division. LLM-Viewer counts the same five."""


def softmax(name: str, scores: Tensor) -> Operator:
    """Softmax of the scores: 5 FLOPs per score, one read and one write of each.

    ========= =====================================
    FLOPs     ``5 b h x pairs``
    traffic   ``2 b h x pairs x a / 8``
    ========= =====================================

    Pairs are those of `symroof.operators.attention.scores`.
    """
    out = Tensor(name, scores.axes, Storage.ACTIVATION, scores.space)
    return Operator(name, Kind.SOFTMAX, scores.space, (Work(scores.axes, FLOPS_PER_SCORE),), (Access(scores),), (Access(out),))
