"""Operators without a contraction, element by element or row by row: sums, activation functions, gates, norms."""

from __future__ import annotations

from enum import StrEnum

from symroof.errors import EinsumError, nearest, quote
from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Axes, Storage, Tensor

ACTIVATION_FLOPS = {
    "relu": 1,  # max(x, 0)
    "silu": 4,  # x / (1 + exp(-x)): negate, exp, add, divide
    "gelu": 5,  # x / 2 (1 + erf(x / sqrt 2)): scale, erf, add, multiply, halve
    "gelu_tanh": 9,  # x / 2 (1 + tanh(c (x + d x^3))): two for x^3, scale, add, scale, tanh, add, multiply, halve
    "quick_gelu": 5,  # x sigmoid(1.702 x): scale, negate, exp, add, divide
    "relu2": 2,  # max(x, 0) squared
    "xielu": 6,  # b x + a (exp(min(x, e)) - 1 - x): scale, minimum, exp - 1, subtract, multiply, add; the square for x > 0 takes less
    "situ": 8,  # b tanh(x / b) sigmoid(x): scale, tanh, scale, a sigmoid's four, multiply; unverified, from its name
    "sigmoid": 4,  # 1 / (1 + exp(-x)): negate, exp, add, divide
}
"""FLOPs per element of an activation function; an exponential, tanh or erf counts as one."""


def elementwise(
    name: str,
    operands: tuple[Tensor | Access, ...],
    axes: Axes,
    flops_per_element: int,
    into: Tensor | None = None,
    *,
    role: Role = Role.OTHER,
    function: str = "",
    linear_in: int = 0,
) -> Operator:
    """Any elementwise operator: each operand read once, the result written once.

    ========= ==================================================
    FLOPs     ``flops_per_element x elements of the result``
    traffic   sum of the operands' sizes and the result's
    ========= ==================================================

    Parameters
    ----------
    function : the function computed, if the role does not imply it.
    linear_in : the result is linear in this many of the first operands.
    """
    reads = tuple([operand if isinstance(operand, Access) else Access(operand) for operand in operands])
    space = reads[0].tensor.space
    out = into or Tensor(name, axes, Storage.ACTIVATION, space)
    facts = {"role": role, "function": function, "linear_in": linear_in}
    return Operator(name, Kind.ELEMENTWISE, space, (Work(axes, flops_per_element),), reads, (Access(out),), **facts)


def add(name: str, x: Tensor | Access, y: Tensor | Access, into: Tensor | None = None) -> Operator:
    """``x + y``: 1 FLOP per element, two reads, one write.

    ========= ===================
    FLOPs     ``b s d``
    traffic   ``3 b s d a / 8``
    ========= ===================
    """
    axes = x.touched if isinstance(x, Access) else x.axes
    return elementwise(name, (x, y), axes, 1, into, role=Role.ADD, linear_in=2)


def activation(name: str, function: str, x: Tensor, gate: Tensor | None = None, *, learned: Tensor | None = None) -> Operator:
    """``act(x)``, or ``act(gate) * x`` in a gated MLP.

    For SiLU (4 FLOPs) with a gate (1):

    ========= ===================
    FLOPs     ``5 b s f``
    traffic   ``3 b s f a / 8``
    ========= ===================

    *learned* are the numbers that a function such as xIELU learns, the same for all elements.

    Raises
    ------
    EinsumError
        The activation function is not known.

    >>> from symroof.operators.tensor import Space
    >>> from symroof.symbols import b
    >>> activation("act", "swoosh", Tensor("x", ("b",), Storage.ACTIVATION, Space({"b": b})))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    symroof.errors.EinsumError: 'swoosh' is not a known activation function: known: relu, silu, gelu, gelu_tanh, quick_gelu, ...
    """
    if function not in ACTIVATION_FLOPS:
        raise EinsumError(f"{quote(function)} is not a known activation function: {nearest(function, ACTIVATION_FLOPS)}")
    flops = ACTIVATION_FLOPS[function]
    operands = (x,) if gate is None else (gate, x)
    scalars = () if learned is None else (learned,)
    return elementwise(name, (*operands, *scalars), x.axes, flops + len(operands) - 1, role=Role.ACTIVATION, function=function)


class Norm(StrEnum):
    """LayerNorm and RMSNorm."""

    RMS = "rms"
    LAYER = "layer"


FLOPS_PER_ELEMENT = {
    Norm.RMS: {"square": 1, "sum": 1, "scale": 1},
    Norm.LAYER: {"mean": 1, "subtract": 1, "square": 1, "sum": 1, "scale": 1},
}
"""FLOPs per element before weight and bias, which add one each; per-row scalars are not counted."""


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
    x : the input, or part of a tensor.
    weight, bias : whether the norm has these parameters, one per component.
    over : the axes of weight and bias: the hidden size, or the components of a head.
    into : the tensor to write, if not a new activation.

    Sources: Zhang and Sennrich (2019), arXiv:1910.07467; Ba et al. (2016), arXiv:1607.06450.
    """
    read = x if isinstance(x, Access) else Access(x)
    rows, space = read.axes or read.tensor.axes, read.tensor.space
    learned = [part for part, present in (("weight", weight), ("bias", bias)) if present]
    parts = {"weight": Parameter.NORM, "bias": Parameter.BIAS}
    parameters = tuple(Access(Tensor(f"{name}.{part}", over, Storage.WEIGHT, space, parameter=parts[part])) for part in learned)
    per_element = sum(FLOPS_PER_ELEMENT[norm].values()) + len(learned)
    out = into or Tensor(name, rows, Storage.ACTIVATION, space)
    facts = {"role": Role.NORM, "function": str(norm)}
    return Operator(name, Kind.NORM, space, (Work(rows, per_element),), (read, *parameters), (Access(out, rows),), **facts)
