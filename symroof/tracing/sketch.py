"""Operators over axes without names yet: the tensors in memory, what is seen of them, and what an operator reads, writes and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.tensor import Storage
from symroof.tracing.dimensions import Axis, Dim, align, dim_of, resolved, size_of
from symroof.tracing.exported import Node, Value


@dataclass(eq=False)
class Memory:
    """A tensor in memory."""

    name: str
    dims: tuple[Dim, ...]
    storage: Storage = Storage.ACTIVATION
    bits: int | None = None
    parameter: Parameter | None = None


@dataclass(eq=False)
class View:
    """How a value is seen: its dimensions, and the axes along which an element of memory is repeated."""

    memory: Memory
    dims: tuple[Dim, ...]
    floating: bool = True
    repeated: Dim = ()

    @property
    def touched(self) -> Dim:
        """The axes of what a reader of the whole view reads from memory."""
        repeated = {*resolved(self.repeated)}
        return tuple(axis for dim in self.dims for axis in resolved(dim) if axis not in repeated)


@dataclass(eq=False)
class Touch:
    """A tensor that an operator reads or writes, over these axes; fused attention reads rows of keys once per pass."""

    memory: Memory
    axes: Dim
    passes: bool = False


@dataclass(eq=False)
class Count:
    """FLOPs per point of the space of these axes."""

    axes: Dim
    flops: int
    contraction: bool = False
    exponentials: int = 0


@dataclass(eq=False)
class Sketch:
    """An operator before its axes have names."""

    node: Node
    kind: Kind
    work: list[Count]
    reads: list[Touch]
    writes: list[Touch]
    role: Role = Role.OTHER
    function: str = ""
    linear_in: int = 0
    causal: bool = False


def like(value: Value, views: Sequence[View]) -> tuple[Dim, ...]:
    """Dimensions of a shape: of those views, counted from the last, that have the size there; else new ones."""
    made: list[Dim] = []
    for place, size in enumerate(reversed(value.shape)):
        candidates = (view.dims[-1 - place] for view in views if place < len(view.dims))
        made.append(next((dim for dim in candidates if size != 1 and size_of(resolved(dim)) == size), dim_of(size)))
    return tuple(reversed(made))


def broadcast(value: Value, views: Sequence[View]) -> tuple[Dim, ...]:
    """The dimensions of a result element by element; those of the operands become its own."""
    dims = like(value, views)
    for view in views:
        for dim, own in zip(reversed(dims), reversed(view.dims), strict=False):
            if own and dim:
                align(dim, own)
    return dims


def aligned(view: View, dims: Sequence[Dim]) -> Dim:
    """The axes that an operator over these dimensions touches of a view: its own, under the operator's names where they run alike."""
    repeated = {*resolved(view.repeated)}
    touched: list[Axis] = []
    for own, dim in zip(reversed(view.dims), reversed(dims), strict=False):
        mine, names = list(resolved(own)), list(resolved(dim))
        same = [axis.size for axis in mine] == [axis.size for axis in names]
        touched[:0] = [name for axis, name in zip(mine, names if same else mine, strict=True) if axis not in repeated]
    return tuple(touched)


def used_as(parameter: Parameter, *views: View) -> None:
    """Note what weights among these are to the operators that read them, unless another operator did."""
    for view in views:
        if view.memory.storage is Storage.WEIGHT:
            view.memory.parameter = view.memory.parameter or parameter
