"""Softmax over the context."""

from __future__ import annotations

from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Storage, Tensor

FLOPS_PER_SCORE = 5
"""Maximum, subtraction, exponential, sum, division. LLM-Viewer counts the same five."""


def softmax(name: str, scores: Tensor, *, sinks: bool = False, biased: bool = False, role: Role = Role.SOFTMAX) -> Operator:
    """Softmax of the scores: 5 FLOPs per score, one read and one write of each.

    Without a mask, as for `symroof.operators.attention.scores`.

    ========= =====================
    FLOPs     ``5 b h s t``
    traffic   ``2 b h s t a / 8``
    ========= =====================

    Parameters
    ----------
    sinks : one learned score per head takes part too, and is dropped afterwards.
    biased : a bias is added to each score first, 1 FLOP.
    role : of attention, or of what chooses experts.
    """
    space = scores.space
    out = Tensor(name, scores.axes, Storage.ACTIVATION, space)
    work = (Work(scores.axes, FLOPS_PER_SCORE + int(biased), exponentials=1),)
    if not sinks:
        return Operator(name, Kind.SOFTMAX, space, work, (Access(scores),), (Access(out),), role=role)
    rows = tuple(axis for axis in scores.axes if axis != "t")
    learned = Tensor("sinks", tuple(axis for axis in rows if axis not in "bs"), Storage.WEIGHT, space, parameter=Parameter.SINK)
    work = (*work, Work(rows, FLOPS_PER_SCORE, exponentials=1))
    return Operator(name, Kind.SOFTMAX, space, work, (Access(scores), Access(learned)), (Access(out),), role=role)
