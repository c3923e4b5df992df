"""What a traced module consists of, without torch: its inputs and its operators, with sizes as formulas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sympy import Expr, Symbol

Shape = tuple[Expr, ...]


class Source(StrEnum):
    """What an input of the exported graph is."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    INPUT = "input"
    CACHE = "cache"


@dataclass(frozen=True)
class Value:
    """A tensor: its shape and its data type; the width is None for the module's own floating-point type."""

    shape: Shape
    floating: bool = True
    bits: int | None = None


@dataclass(frozen=True)
class Ref:
    """A tensor among the arguments of an operator: one of the results of a node."""

    node: str
    index: int = 0


@dataclass(frozen=True)
class Input:
    """A parameter, a buffer, or what the module is called with."""

    name: str
    source: Source
    value: Value


@dataclass(frozen=True)
class Node:
    """An ATen operator.

    Attributes
    ----------
    operator : its name without overload: "linear".
    args, keywords : its arguments; tensors are `Ref`.
    results : what it makes.
    shares : whether the results are views of an argument.
    pointwise : whether PyTorch says that it works element by element.
    module : the path of the module that runs it: "layers.0.mlp.up_proj".
    line : the line of Python that runs it.
    """

    name: str
    operator: str
    args: tuple[Any, ...]
    results: tuple[Value, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    shares: bool = False
    pointwise: bool = False
    module: str = ""
    line: str = ""

    @property
    def tensors(self) -> tuple[Ref, ...]:
        """The tensors among its arguments, lists included, in order."""
        return tuple(_refs((*self.args, *self.keywords.values())))


def _refs(arguments: Any) -> Iterator[Ref]:
    for argument in arguments:
        if isinstance(argument, Ref):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _refs(argument)


@dataclass(frozen=True)
class Exported:
    """An exported module: its inputs, its operators in execution order, and for which values of its symbols it is this.

    Attributes
    ----------
    ranges : the least and the largest value of each symbol that has bounds of its own; None where there is no largest.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    ranges: Mapping[Symbol, tuple[int, int | None]] = field(default_factory=dict)
