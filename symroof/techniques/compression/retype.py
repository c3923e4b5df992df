"""Tensors at fewer bits, and the operations that widen them again."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from sympy import Expr

from symroof.operators.graph import Block, Graph
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Storage, Tensor
from symroof.techniques.compression.selectors import matrices

DEQUANTIZATION = 2
"""Subtract the zero point, multiply by the scale."""


@dataclass(frozen=True)
class Width:
    """Bits of an element, and what is stored beside it."""

    bits: Expr
    beside: Expr


def narrow(graph: Graph, widths: Mapping[Storage, Width], weights: Set[int], spared: Set[int], *, counted: bool) -> Graph:
    """The graph with the tensors of each storage at other widths.

    Parameters
    ----------
    weights : ids of the weights that change; no other does.
    spared : ids of tensors that stay as they were.
    counted : whether dequantization is work: two operations per weight that is read.
    """
    made: dict[int, Tensor] = {}

    def tensor_of(tensor: Tensor) -> Tensor:
        width = widths.get(tensor.storage)
        if width is None or id(tensor) in spared or (tensor.storage is Storage.WEIGHT and id(tensor) not in weights):
            return tensor
        if id(tensor) not in made:
            made[id(tensor)] = replace(tensor, bits=width.bits, overhead=width.beside)
        return made[id(tensor)]

    def widened(operator: Operator, _: Block) -> Operator:
        own = [access for access in matrices(operator) if id(access.tensor) in narrowed]
        extra = tuple(Work(access.axes or access.tensor.axes, DEQUANTIZATION) for access in own)
        return replace(operator, work=(*operator.work, *extra))

    changed = graph.map(tensor=tensor_of)
    narrowed = {id(made[key]) for key in weights}
    return changed.each(widened) if counted else changed
