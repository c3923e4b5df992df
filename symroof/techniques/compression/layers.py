"""Some layers of a kind set apart from the others, so that they can differ."""

from __future__ import annotations

from dataclasses import replace

from sympy import Expr

from symroof.errors import InputError, nearest, quote
from symroof.operators.facts import BlockRole
from symroof.operators.graph import Block, Graph
from symroof.operators.tensor import Storage, Tensor

APART = ".kept"
"""What the names of the operators of layers that are kept end on."""


def kind_of(graph: Graph, kind: str) -> Block:
    """The block of layers of that name; without a name the only one that is repeated.

    Raises
    ------
    InputError
        There is no such block, or more than one.
    """
    repeated = {block.kind: block for block in graph.blocks if block.role is BlockRole.LAYER and not block.apart}
    if kind in repeated:
        return repeated[kind]
    if kind:
        raise InputError(f"{quote(kind)} is no kind of layer of this model: {nearest(kind, repeated)}")
    if len(repeated) != 1:
        raise InputError(f"this model has several kinds of layers: say which with kind=, {', '.join(repeated)}")
    return next(iter(repeated.values()))


def split_block(graph: Graph, kind: str, count: Expr) -> tuple[Graph, set[int]]:
    """The graph with so many layers of a kind in a block of their own, and the ids of the tensors that these alone have.

    Their operators are called ``<name>.kept``. What is not their own, as the residual stream and the table of the rotary
    embedding, stays shared.

    >>> import symroof
    >>> from symroof.symbols import n_k
    >>> graph, _ = split_block(symroof.load_model("opt-125m").decode(symbolic=True).symbolic, "", n_k)
    >>> [(block.name, block.count) for block in graph.blocks][1:3]
    [('layer.kept', n_k), ('layer', L - n_k)]
    """
    chosen = kind_of(graph, kind)
    if any(block.apart and block.kind == chosen.kind for block in graph.blocks):
        raise InputError(f"layers of {chosen.name} were kept apart already")
    if chosen.copies is not None:
        raise InputError(f"not every token runs through every {chosen.name}: keep layers apart before any are left out")
    shared = {tensor for block in graph.blocks if block is not chosen for tensor in block.tensors()}
    written = {access.tensor for operator in chosen.operators for access in operator.writes}
    shared |= {tensor for tensor in chosen.tensors() if tensor.storage is Storage.ACTIVATION and tensor not in written}
    own: dict[Tensor, Tensor] = {tensor: replace(tensor) for tensor in chosen.tensors() if tensor not in shared}
    moved = (operator.rebuild(lambda tensor: own.get(tensor, tensor), lambda space: space, {}) for operator in chosen.operators)
    operators = tuple(replace(operator, name=f"{operator.name}{APART}") for operator in moved)
    apart = replace(chosen, name=f"{chosen.name}{APART}", operators=operators, count=count, apart=True)
    blocks: list[Block] = []
    for block in graph.blocks:
        blocks += [apart, replace(block, count=block.count - count)] if block is chosen else [block]
    return replace(graph, blocks=tuple(blocks)), {id(tensor) for tensor in own.values()}
