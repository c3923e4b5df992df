"""Embedding look-ups: rows of a table, not the table."""

from __future__ import annotations

from symroof.operators.facts import Kind, Role
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Axes, Storage, Tensor


def embedding(name: str, table: Tensor, rows: Axes, into: Tensor | None = None) -> Operator:
    """Read one row of *table* per index and write it; the indices (a few bytes a token) are not counted.

    ========= =======================
    FLOPs     ``0``
    traffic   ``b s d (w + a) / 8``
    ========= =======================
    """
    out = into or Tensor(name, rows, Storage.ACTIVATION, table.space)
    return Operator(name, Kind.EMBEDDING, table.space, (), (Access(table, rows),), (Access(out),), role=Role.EMBEDDING)
