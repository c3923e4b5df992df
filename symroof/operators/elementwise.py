"""Elementwise operators: sums, activation functions, gates."""

from __future__ import annotations

from symroof.errors import EinsumError, nearest, quote
from symroof.operators.facts import Kind, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Axes, Storage, Tensor

ACTIVATION_FLOPS = {
    "relu": 1,  # max(x, 0)
    "silu": 4,  # x / (1 + exp(-x)): negate, exp, add, divide
    "gelu": 5,  # x / 2 (1 + erf(x / sqrt 2)): scale, erf, add, multiply, halve
    "gelu_tanh": 9,  # x / 2 (1 + tanh(c (x + d x^3))): two for x^3, scale, add, scale, tanh, add, multiply, halve
    "quick_gelu": 5,  # x sigmoid(1.702 x): scale, negate, exp, add, divide
    "relu2": 2,  # max(x, 0) squared
    "sigmoid": 4,  # 1 / (1 + exp(-x)): negate, exp, add, divide
}
"""FLOPs per element of an activation function, an exponential, tanh or erf taken as one."""


def elementwise(
    name: str,
    operands: tuple[Tensor | Access, ...],
    axes: Axes,
    flops_per_element: int,
    into: Tensor | None = None,
    *,
    role: Role = Role.OTHER,
    linear_in: int = 0,
) -> Operator:
    """Any elementwise operator: each operand read once, the result written once.

    ========= ==================================================
    FLOPs     ``flops_per_element x elements of the result``
    traffic   sum of the operands' sizes and the result's
    ========= ==================================================

    Parameters
    ----------
    linear_in : how many of its first operands the result is a sum of, each times something that is not.
    """
    reads = tuple(operand if isinstance(operand, Access) else Access(operand) for operand in operands)
    space = reads[0].tensor.space
    out = into or Tensor(name, axes, Storage.ACTIVATION, space)
    return Operator(name, Kind.ELEMENTWISE, space, (Work(axes, flops_per_element),), reads, (Access(out),), role=role, linear_in=linear_in)


def add(name: str, x: Tensor | Access, y: Tensor | Access, into: Tensor | None = None) -> Operator:
    """``x + y``: 1 FLOP per element, two reads, one write.

    ========= ===================
    FLOPs     ``b s d``
    traffic   ``3 b s d a / 8``
    ========= ===================
    """
    axes = x.touched if isinstance(x, Access) else x.axes
    return elementwise(name, (x, y), axes, 1, into, role=Role.ADD, linear_in=2)


def activation(name: str, function: str, x: Tensor, gate: Tensor | None = None) -> Operator:
    """``act(x)``, or ``act(gate) * x`` of a gated MLP, at the size of its input.

    For SiLU (4 FLOPs) with a gate (1):

    ========= ===================
    FLOPs     ``5 b s f``
    traffic   ``3 b s f a / 8``
    ========= ===================

    Raises
    ------
    EinsumError
        The activation function is not known.

    >>> from symroof.operators.tensor import Space
    >>> from symroof.symbols import b
    >>> activation("act", "swoosh", Tensor("x", ("b",), Storage.ACTIVATION, Space({"b": b})))
    Traceback (most recent call last):
        ...
    symroof.errors.EinsumError: 'swoosh' is not a known activation function: known: relu, silu, gelu, gelu_tanh, quick_gelu, relu2, sigmoid
    """
    if function not in ACTIVATION_FLOPS:
        raise EinsumError(f"{quote(function)} is not a known activation function: {nearest(function, ACTIVATION_FLOPS)}")
    flops = ACTIVATION_FLOPS[function]
    operands = (x,) if gate is None else (gate, x)
    return elementwise(name, operands, x.axes, flops + len(operands) - 1, role=Role.ACTIVATION)
