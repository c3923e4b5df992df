"""Rotary position embedding."""

from __future__ import annotations

from symroof.operators.facts import Kind, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Axes, Storage, Tensor

FLOPS_PER_COMPONENT = 3
"""x cos + rotated(x) sin: two products and a sum."""


def rotary(name: str, x: Tensor, table: Tensor, into: Tensor | None = None) -> Operator:
    """Turn the first ``r`` components of every head; the others pass through.

    For queries; the cosines and sines of every position are read once.

    ========= ============================
    FLOPs     ``3 b s h r``
    traffic   ``(2 b s h e + s r) a / 8``
    ========= ============================

    Parameters
    ----------
    table : cosines and sines, ``s r``.
    into : a KV cache, whose new rows are written; else a new activation.

    Source: Su et al. (2021), arXiv:2104.09864.
    """
    turned: Axes = (*(axis for axis in x.axes if axis != "e"), "r")
    out = into or Tensor(name, x.axes, Storage.ACTIVATION, x.space)
    work = (Work(turned, FLOPS_PER_COMPONENT),)
    return Operator(name, Kind.ROTARY, x.space, work, (Access(x), Access(table)), (Access(out, x.axes),), role=Role.ROTARY)
