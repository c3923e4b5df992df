"""Normalization over the last axis."""

from __future__ import annotations

from enum import StrEnum

from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Axes, Storage, Tensor


class Norm(StrEnum):
    """The two norms of the field."""

    RMS = "rms"
    LAYER = "layer"


FLOPS_PER_ELEMENT = {
    Norm.RMS: {"square": 1, "sum": 1, "scale": 1},
    Norm.LAYER: {"mean": 1, "subtract": 1, "square": 1, "sum": 1, "scale": 1},
}
"""What every element costs before weight and bias, one operation each; per-row scalars are not counted."""


def norm(
    name: str, x: Tensor | Access, norm: Norm, *, weight: bool = True, bias: bool = False, over: Axes = ("d",), into: Tensor | None = None
) -> Operator:
    """A norm: RMSNorm 4 FLOPs per element with its weight, LayerNorm 7 with weight and bias.

    For RMSNorm with its weight; LayerNorm costs two more per element, and a bias one more.

    ========= ===========================
    FLOPs     ``4 b s d``
    traffic   ``(2 b s d a + d w) / 8``
    ========= ===========================

    Parameters
    ----------
    x : the input, or a part of one.
    weight, bias : whether the norm has them, one of each per component.
    over : the axes of weight and bias: the hidden size, or the components of a head.
    into : where the result goes, when it is not a new activation.

    Sources: Zhang and Sennrich (2019), arXiv:1910.07467; Ba et al. (2016), arXiv:1607.06450.
    """
    read = x if isinstance(x, Access) else Access(x)
    rows, space = read.axes or read.tensor.axes, read.tensor.space
    learned = [part for part, present in (("weight", weight), ("bias", bias)) if present]
    parts = {"weight": Parameter.NORM, "bias": Parameter.BIAS}
    parameters = tuple(Access(Tensor(f"{name}.{part}", over, Storage.WEIGHT, space, parameter=parts[part])) for part in learned)
    per_element = sum(FLOPS_PER_ELEMENT[norm].values()) + len(learned)
    out = into or Tensor(name, rows, Storage.ACTIVATION, space)
    return Operator(name, Kind.NORM, space, (Work(rows, per_element),), (read, *parameters), (Access(out, rows),), role=Role.NORM)
