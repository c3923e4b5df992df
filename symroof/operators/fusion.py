"""Fusion: several operators as one, without traffic for the tensors between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from sympy import Add, Expr, S

from symroof.errors import EinsumError, nearest, quote
from symroof.operators.block import Block
from symroof.operators.facts import CONTRACTIONS, Kind
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Storage, Tensor


def fuse(graph: Graph, names: Sequence[str]) -> tuple[Operator, Expr]:
    """The named operators of one block as one operator, and how often it occurs.

    FLOPs add up. A tensor that only the group writes and reads stays on chip; a tensor that several of
    its operators read is read once.

    Raises
    ------
    EinsumError
        A name is unknown, or the operators are not in one block.

    >>> import symroof
    >>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).graph
    >>> group, count = fuse(graph, ["qk_matmul", "softmax", "sv_matmul"])
    >>> print(group.traffic)
    (a*b*e*h + b*c*e*k*t)/4 byte
    """
    group = "+".join(names)
    for operator, count in graph:
        if operator.name == group:  # fused in the graph already
            return operator, count
    block, members = group_of(graph, names)
    if len(members) == 1:
        return members[0], block.count
    return fused(graph, block, members), block.count


def group_of(graph: Graph, names: Sequence[str]) -> tuple[Block, list[Operator]]:
    """The block and the operators with these names, in execution order.

    Raises
    ------
    EinsumError
        A name is unknown, or the operators are not in one block.
    """
    first = next((operator for operator, _ in graph if operator.name in names), None) or graph[names[0]]
    block = next(block for block in graph.blocks if first in block.operators)
    members = [operator for operator in block.operators if operator.name in names]
    missing = [name for name in names if name not in {operator.name for operator in members}]
    if missing:
        known = [operator.name for operator in block.operators]
        raise EinsumError(f"{quote(missing[0])} is not an operator of the block of {members[0].name}: {nearest(missing[0], known)}")
    return block, members


def fused(graph: Graph, block: Block, members: Sequence[Operator]) -> Operator:
    """Several operators of a block, in execution order, as one operator.

    A value from outside the group, such as the residual stream of the previous layer, is read even if the group writes
    that tensor later, and written if the next repetition of the block reads it.
    """
    inside = {*members}
    wanted = {access.tensor for operator, _ in graph if operator not in inside for access in operator.reads}
    written: set[Tensor] = set()
    reads: list[Access] = []
    multiplies = any(operator.kind in CONTRACTIONS for operator in members)
    for operator in members:
        for access in operator.reads:
            if access.tensor not in written or access.tensor.storage is not Storage.ACTIVATION:
                _read_once(reads, replace(access, aside=True) if multiplies and operator.kind not in CONTRACTIONS else access)
        written |= {access.tensor for access in operator.writes}
    if block.count != 1:
        wanted |= {access.tensor for access in reads} & written
    wanted |= {tensor for tensor in written if tensor.storage is not Storage.ACTIVATION} | {members[-1].result}
    writes = {access.tensor: access for operator in members for access in operator.writes if access.tensor in wanted}
    joined = "+".join(operator.name for operator in members)
    sizes = {axis: size for operator in reversed(members) for axis, size in operator.space.sizes.items()}
    own = members[0].space
    return Operator(
        joined,
        _kind(members),
        own if sizes.keys() == own.sizes.keys() else replace(own, sizes=sizes),
        tuple(work for operator in members for work in operator.work),
        tuple(reads),
        tuple(writes.values()),
        sparse=any(operator.sparse for operator in members),
        unit=members[0].unit,
        latency=Add(*(operator.latency for operator in members)),
        occupancy=members[0].occupancy if len({operator.occupancy for operator in members}) == 1 else S.One,
        prefix=members[0].prefix,
        answers_to=frozenset({joined}).union(*(operator.answers_to for operator in members)),
        members=tuple(part for operator in members for part in operator.members or (operator,)),
    )


def _kind(members: Sequence[Operator]) -> Kind:
    kinds = {operator.kind for operator in members}
    if kinds & CONTRACTIONS:
        return Kind.FUSED_ATTENTION
    return kinds.pop() if len(kinds) == 1 else Kind.ELEMENTWISE


def disconnected(members: Sequence[Operator]) -> tuple[Operator, Operator] | None:
    """Two operators that no chain of shared tensors connects within the group; None if the group is connected."""
    touched = {member: {access.tensor for access in (*member.reads, *member.writes)} for member in members}
    reached = edge = {members[0]}
    while edge:
        shared = set[Tensor]().union(*(touched[member] for member in edge))
        edge = {member for member in members if member not in reached and touched[member] & shared}
        reached = reached | edge
    return next(((members[0], member) for member in members if member not in reached), None)


def depends(operators: Sequence[Operator]) -> dict[int, set[int]]:
    """For every position, the positions of earlier operators it depends on, because it reads or overwrites their tensors."""
    needed: dict[int, set[int]] = {place: set() for place in range(len(operators))}
    for early, late in combinations(range(len(operators)), 2):
        first, second = operators[early], operators[late]
        given, taken = ({access.tensor for access in first.writes}, {access.tensor for access in first.reads})
        wrote, read = ({access.tensor for access in second.writes}, {access.tensor for access in second.reads})
        if given & (read | wrote) or taken & wrote:
            needed[late] |= {early} | needed[early]
    return needed


def between(operators: Sequence[Operator], members: Sequence[Operator]) -> Operator | None:
    """An operator outside the group that must run between two of its members; None if the group can be fused."""
    inside = {place for place, operator in enumerate(operators) if operator in members}
    needs = depends(operators)
    for place, operator in enumerate(operators):
        if place not in inside and needs[place] & inside and any(place in needs[later] for later in inside):
            return operator
    return None


def replace_group(block: Block, members: Sequence[Operator], made: Sequence[Operator]) -> Block:
    """The block with *made* instead of the group, after all operators it depends on and before all that depend on it."""
    inside = {place for place, operator in enumerate(block.operators) if operator in members}
    needs = depends(block.operators)
    last = max(inside)
    rest = [place for place in range(len(block.operators)) if place not in inside]
    before = [place for place in rest if place < last and not needs[place] & inside]
    after = [place for place in rest if place not in before]
    ordered = (*(block.operators[place] for place in before), *made, *(block.operators[place] for place in after))
    return replace(block, operators=ordered)


def _read_once(reads: list[Access], access: Access) -> None:
    """Add an access unless a read of the same tensor covers it; a wider read replaces a narrower one."""
    axes = set(access.axes or access.tensor.axes)
    for place, other in enumerate(reads):
        if other.tensor is access.tensor:
            had = set(other.axes or other.tensor.axes)
            if axes <= had or had < axes:
                wider = other if axes <= had else access
                reads[place] = replace(wider, aside=other.aside and access.aside)
                return
    reads.append(access)
