"""Softmax over the context."""

from __future__ import annotations

from symroof.operators.operator import Kind, Operator, Work
from symroof.operators.tensor import Access, Storage, Tensor

FLOPS_PER_SCORE = 5
"""Maximum, subtraction, exponential, sum, division. LLM-Viewer counts the same five."""


def softmax(name: str, scores: Tensor) -> Operator:
    """Softmax of the scores: 5 FLOPs per score, one read and one write of each.

    Without a mask, as for `symroof.operators.attention.scores`.

    ========= =====================
    FLOPs     ``5 b h s t``
    traffic   ``2 b h s t a / 8``
    ========= =====================
    """
    out = Tensor(name, scores.axes, Storage.ACTIVATION, scores.space)
    return Operator(name, Kind.SOFTMAX, scores.space, (Work(scores.axes, FLOPS_PER_SCORE),), (Access(scores),), (Access(out),))
