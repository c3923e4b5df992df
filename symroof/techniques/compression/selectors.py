"""The linear operators of a graph, their matrices, and what a technique may do to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from sympy import Expr

from symroof.errors import InputError, nearest, quote
from symroof.operators.facts import CONTRACTIONS, MULTIPLIED, BlockRole, Kind, Parameter
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Axes, Space, Tensor
from symroof.symbols import substitute


def matrices(operator: Operator) -> tuple[Access, ...]:
    """The matrices that an operator, or a fused group of them, multiplies by; the weights of norms are none."""
    if operator.kind not in CONTRACTIONS:
        return ()
    return tuple(access for access in operator.reads if access.tensor.parameter in MULTIPLIED)


@dataclass(frozen=True)
class Matrix:
    """The weight of a linear operator as a matrix.

    Attributes
    ----------
    inner, outer : the axes that are summed over, and those of the result. The others are shared by both sides: heads
        that keep apart, experts.
    """

    operator: Operator
    weight: Access
    inner: Axes
    outer: Axes

    @property
    def shape(self) -> tuple[Expr, Expr]:
        """Rows and columns: inputs and outputs."""
        space = self.weight.tensor.space
        return space.points(self.inner), space.points(self.outer)


def matrix(operator: Operator) -> Matrix:
    """The matrix of a linear operator.

    >>> import symroof
    >>> matrix(symroof.load_model("llama-2-7b").decode(symbolic=True)["out_proj"]).shape
    (e*h, d)
    """
    weight = matrices(operator)[0]
    x = next(one for one in operator.reads if one is not weight)
    given, made = (set(one.axes or one.tensor.axes) for one in (x, operator.writes[0]))
    own = weight.tensor.axes
    inner = tuple(axis for axis in own if axis in given and axis not in made)
    outer = tuple(axis for axis in own if axis in made and axis not in given)
    return Matrix(operator, weight, inner, outer)


def linears(graph: Graph, named: str = "", *, groups: bool = False) -> dict[int, Operator]:
    """The linear operators of the layers but routers by id, or those of the names joined by + with what techniques made of them.

    A name without its kind of layer means the operator in every kind.

    Parameters
    ----------
    groups : whether matrices may be fused with other operators.

    Raises
    ------
    InputError
        A name is no linear operator here, its weight is the embedding table, or matrices are fused with other operators.
    """
    found = [operator for operator, _ in graph if matrices(operator)]
    if not groups and (group := next((one.name for one in found if one.is_group), None)):
        raise InputError(f"{group} is a group that was fused already: fuse after compressing its weights")
    if not groups and (halved := next((one.name for one in found if len({read.tensor for read in matrices(one)}) > 1), None)):
        raise InputError(f"the weight of {halved} is in two places already: offload a share of it after compressing it")
    if not named:
        blocks = (block for block in graph.blocks if block.role in (BlockRole.LAYER, BlockRole.DRAFT))
        every = (operator for block in blocks for operator in block.operators)
        return {id(operator): operator for operator in every if any(one.tensor.parameter is Parameter.MATRIX for one in matrices(operator))}
    looked_up = {access.tensor for operator, _ in graph if operator.kind is Kind.EMBEDDING for access in operator.reads}
    chosen: dict[int, Operator] = {}
    for name in named.split("+"):
        own = [operator for operator in found if any(name in part.answers_to for part in (operator, *operator.members))]
        if not own:
            raise InputError(f"{quote(name)} is no linear operator of this step: {nearest(name, [one.name for one in found])}")
        for one in own:
            if any(access.tensor in looked_up for access in matrices(one)):
                raise InputError(f"{one.name} shares its weight with the embedding, which looks up its rows: leave it out")
            chosen[id(one)] = one
    return chosen


def weights_of(operators: Iterable[Operator]) -> set[int]:
    """The ids of the tensors they multiply by."""
    return {id(access.tensor) for one in operators for access in matrices(one)}


def map_operators(graph: Graph, change: Callable[[Operator], Operator | tuple[Operator, ...]], chosen: Mapping[int, Operator]) -> Graph:
    """The graph with the chosen operators changed, the others as they are."""
    return graph.each(lambda operator, _: change(operator) if id(operator) in chosen else operator)


class Wider:
    """The spaces and tensors of a graph with one more axis; what was the same before is the same after."""

    def __init__(self, graph: Graph, name: str, size: Expr) -> None:
        taken = {axis for block in graph.blocks for tensor in block.tensors() for axis in tensor.space.sizes}
        self.axis = next(axis for number in range(len(taken) + 1) if (axis := f"{name}{number or ''}") not in taken)
        self.size = size
        self._spaces: dict[int, Space] = {}
        self._tensors: dict[tuple[int, str, Axes], Tensor] = {}

    def space(self, space: Space) -> Space:
        """The space with the axis."""
        if id(space) not in self._spaces:
            self._spaces[id(space)] = replace(space, sizes={**space.sizes, self.axis: self.size})
        return self._spaces[id(space)]

    def tensor(self, tensor: Tensor, name: str, axes: Axes, **changes: Expr) -> Tensor:
        """The tensor under a name, over axes that may have the new one."""
        key = (id(tensor), name, axes)
        if key not in self._tensors:
            self._tensors[key] = replace(tensor, name=name, axes=axes, space=self.space(tensor.space), **changes)
        return self._tensors[key]


def shapes(graph: Graph, values: Mapping, chosen: Mapping[int, Operator]) -> dict[str, tuple[Expr, Expr]]:
    """Inputs and outputs of the matrices of some operators, in numbers as far as there are; not of fused groups."""
    known = {**graph.definitions, **values}
    found = {one.name: matrix(one).shape for one in chosen.values() if not one.is_group}
    return {
        name: (substitute(substitute(rows, known), known), substitute(substitute(columns, known), known))
        for name, (rows, columns) in found.items()
    }
