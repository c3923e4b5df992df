"""Several operators taken as one: what they hand to one another leaves the traffic."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Expr

from symroof.errors import EinsumError, nearest, quote
from symroof.operators.graph import CONTRACTIONS, Graph
from symroof.operators.operator import Kind, Operator
from symroof.operators.tensor import Access


def fuse(graph: Graph, names: Sequence[str]) -> tuple[Operator, Expr]:
    """The named operators of one block as one operator, and how often it occurs.

    FLOPs are the sum. A tensor that one of them writes and only they read stays on chip; one that
    several read is read once.

    Raises
    ------
    EinsumError
        A name is unknown, or the operators are not of one block.

    >>> import symroof
    >>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).graph
    >>> group, count = fuse(graph, ["qk_matmul", "softmax", "sv_matmul"])
    >>> print(group.traffic)
    a*b*e*h/4 + b*c*e*k*t/4 byte
    """
    for block in graph.blocks:
        members = [operator for operator in block.operators if operator.name in names]
        if members:
            break
    else:
        known = [operator.name for operator, _ in graph]
        raise EinsumError(f"{quote(names[0])} is not an operator of this step: {nearest(names[0], known)}")
    missing = [name for name in names if name not in {operator.name for operator in members}]
    if missing:
        known = [operator.name for operator in block.operators]
        raise EinsumError(f"{quote(missing[0])} is not an operator beside {members[0].name}: {nearest(missing[0], known)}")
    if len(members) == 1:
        return members[0], block.count
    return _fused(graph, members), block.count


def _fused(graph: Graph, members: list[Operator]) -> Operator:
    written = {access.tensor for operator in members for access in operator.writes}
    inside = {id(operator) for operator in members}
    wanted = {access.tensor for operator, _ in graph if id(operator) not in inside for access in operator.reads}
    kept = {tensor for tensor in written if tensor.storage != "activation"}
    reads: list[Access] = []
    for operator in members:
        for access in operator.reads:
            if access.tensor not in written or access.tensor in kept:
                _read_once(reads, access)
    last = members[-1].result
    writes = [access for operator in members for access in operator.writes if access.tensor in wanted | kept | {last}]
    return Operator(
        "+".join(operator.name for operator in members),
        Kind.FUSED_ATTENTION if any(operator.kind in CONTRACTIONS for operator in members) else Kind.ELEMENTWISE,
        members[0].space,
        tuple(work for operator in members for work in operator.work),
        tuple(reads),
        tuple(writes),
    )


def _read_once(reads: list[Access], access: Access) -> None:
    """Add an access unless a read of the same tensor covers it; a wider one takes the place of a narrower."""
    axes = set(access.axes or access.tensor.axes)
    for place, other in enumerate(reads):
        if other.tensor is access.tensor:
            had = set(other.axes or other.tensor.axes)
            if axes <= had:
                return
            if had < axes:
                reads[place] = access
                return
    reads.append(access)
