"""The linear operators of a graph, their matrices, and an additional axis for techniques that shrink them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sympy import Expr

from symroof.errors import InputError, nearest, quote
from symroof.operators import CONTRACTIONS, Access, Axes, BlockRole, Graph, Kind, Operator, Parameter, Tensor
from symroof.operators.facts import MULTIPLIED
from symroof.operators.select import containing, in_blocks, reads, select, weight
from symroof.symbols import substitute

EVERY = "every matrix of layers, a draft's too, and of Medusa's residual blocks"
"""The default selection for compression: no embedding, LM head or router, and nothing at the ends of the model."""


def matrices(operator: Operator) -> tuple[Access, ...]:
    """The weight matrices that an operator, or a fused group, multiplies by; weights of norms do not count."""
    if operator.kind not in CONTRACTIONS:
        return ()
    return tuple(access for access in operator.reads if access.tensor.parameter in MULTIPLIED)


@dataclass(frozen=True)
class Matrix:
    """The weight of a linear operator as a matrix.

    Attributes
    ----------
    x, weight : the operator's input and its weight.
    inner, outer : the axes summed over, and those of the result. The remaining axes are batch axes of both: heads, experts.
    """

    x: Access
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
    x = next(access for access in operator.reads if access is not weight)
    given, made = set(x.touched), set(operator.written.touched)
    inner = tuple(axis for axis in weight.tensor.axes if axis in given - made)
    outer = tuple(axis for axis in weight.tensor.axes if axis in made - given)
    return Matrix(x, weight, inner, outer)


def linears(graph: Graph, named: str = "", *, groups: bool = False) -> tuple[Operator, ...]:
    """The linear operators of the layers except routers, or those matching names joined by +.

    A name without a kind of layer selects the operator in every kind. Medusa's residual blocks and the layers of a draft
    count as layers; LM heads, including theirs, do not.

    Parameters
    ----------
    groups : whether matrices may be fused with other operators.

    Raises
    ------
    InputError
        A name is not a linear operator here, its weight is the embedding table, or matrices are fused with other operators.
    """
    every = [operator for operator, _ in graph if matrices(operator)]
    if not groups and (group := next((operator.name for operator in every if operator.is_group), None)):
        raise InputError(f"{group} is already fused: fuse after compressing its weights")
    if not groups and (halved := next((operator.name for operator in every if len(weights_of([operator])) > 1), None)):
        raise InputError(f"the weight of {halved} is partly offloaded already: offload a share of it after compressing it")
    if not named:
        layers = ~in_blocks(BlockRole.END)
        return tuple(operator for operator in select(graph, layers & reads(weight(Parameter.MATRIX))) if matrices(operator))
    looked_up = {access.tensor for operator, _ in graph if operator.kind is Kind.EMBEDDING for access in operator.reads}
    chosen: dict[Operator, None] = {}
    for name in named.split("+"):
        own = [operator for operator in select(graph, containing(name)) if matrices(operator)]
        if not own:
            raise InputError(f"{quote(name)} is not a linear operator of this step: {nearest(name, [operator.name for operator in every])}")
        if tied := next((operator.name for operator in own if weights_of([operator]) & looked_up), None):
            raise InputError(f"{tied} shares its weight with the embedding, which looks up its rows: leave it out")
        chosen |= dict.fromkeys(own)
    return tuple(chosen)


def weights_of(operators: Iterable[Operator]) -> set[Tensor]:
    """The weight tensors that these operators multiply by."""
    return {access.tensor for operator in operators for access in matrices(operator)}


def shapes(graph: Graph, values: Mapping, chosen: Iterable[Operator]) -> dict[str, tuple[Expr, ...]]:
    """Inputs and outputs of the operators' matrices, numeric where values are known; fused groups are left out."""
    known = {**graph.definitions, **values}
    sizes = {operator.name: matrix(operator).shape for operator in chosen if not operator.is_group}
    return {name: tuple(substitute(substitute(side, known), known) for side in shape) for name, shape in sizes.items()}


class Wider:
    """The spaces and tensors of a graph with one more axis; tensors that were shared stay shared."""

    def __init__(self, graph: Graph, name: str, size: Expr) -> None:
        taken = {axis for block in graph.blocks for tensor in block.tensors() for axis in tensor.space.sizes}
        self.axis = next(axis for number in range(len(taken) + 1) if (axis := f"{name}{number or ''}") not in taken)
        self.space = functools.cache(lambda space: replace(space, sizes={**space.sizes, self.axis: size}))
        self.tensor = functools.cache(self._tensor)

    def _tensor(self, tensor: Tensor, name: str, axes: Axes, **changes: Expr) -> Tensor:
        """The tensor with a new name and new axes, which may include the added one."""
        return replace(tensor, name=name, axes=axes, space=self.space(tensor.space), **changes)
