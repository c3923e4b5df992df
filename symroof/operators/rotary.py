"""Rotary position embedding."""

from __future__ import annotations

from symroof.operators.operator import Kind, Operator, Work
from symroof.operators.tensor import Access, Axes, Storage, Tensor

FLOPS_PER_COMPONENT = 3
"""x cos + rotated(x) sin: two products and a sum."""


def rotary(name: str, x: Tensor, table: Tensor, into: Tensor | None = None) -> Operator:
    """Turn the first ``r`` components of every head; the others pass through.

    ========= ===========================================================
    FLOPs     3 per turned component
    traffic   x read and written once, a row of cos and sin per position
    ========= ===========================================================

    Parameters
    ----------
    table : cosines and sines, ``s r``.
    into : a KV cache, whose new rows are written; else a new activation.

    Source: Su et al. (2021), arXiv:2104.09864.
    """
    turned: Axes = tuple(axis for axis in x.axes if axis != "e") + ("r",)
    out = into or Tensor(name, x.axes, Storage.ACTIVATION, x.space)
    return Operator(
        name, Kind.ROTARY, x.space, (Work(turned, FLOPS_PER_COMPONENT),), (Access(x), Access(table)), (Access(out, x.axes),)
    )
