"""Where partial sums come from when axes are cut over devices, how far they go, and where they have to be summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sympy import Expr

from symroof.operators.collective import all_reduce
from symroof.operators.facts import Kind
from symroof.operators.graph import Block, Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Storage
from symroof.techniques.system.parallelism import refused
from symroof.techniques.technique import Technique


def reduced(technique: Technique, graph: Graph, cut: Sequence[str], devices: Expr, latency: Expr, algorithm: str) -> Graph:
    """The graph with an all-reduce in front of every operator that needs the whole of a partial sum.

    Raises
    ------
    InputError
        An operator is fused across such a sum.
    """
    blocks: list[Block] = []
    for block in graph.blocks:
        outside = {id(one.tensor) for other in graph.blocks if other is not block for operator in other.operators for one in operator.reads}
        ends = _to_be_summed(block, [_sums(technique, operator, cut) for operator in block.operators], outside)
        made: list[Operator] = []
        for place, operator in enumerate(block.operators):
            if place not in ends:
                made.append(operator)
                continue
            into = operator.result
            part = replace(into, name=f"{into.name}.partial")
            written = replace(operator.writes[0], tensor=part)
            made.append(replace(operator, writes=(written, *operator.writes[1:])))
            summed = all_reduce(f"{operator.name}.all_reduce", written, into, devices, latency, algorithm)
            made.append(summed.made_from(operator))
        blocks.append(replace(block, operators=tuple(made)))
    return replace(graph, blocks=tuple(blocks))


def _sums(technique: Technique, operator: Operator, cut: Sequence[str]) -> bool:
    """Whether an operator sums over a cut axis: it is in a contraction and not in the result, or in the table of a look-up."""
    given = operator.result.axes
    axes = {axis for piece in operator.work if piece.contraction for axis in piece.axes}
    if operator.kind is Kind.EMBEDDING:
        axes = {axis for access in operator.reads for axis in access.tensor.axes}
    lost = {axis for axis in axes if axis in cut and axis not in given}
    if not lost or operator.kind in (Kind.SCAN, Kind.CONVOLUTION):
        return False
    if operator.is_group and (len(lost) > 1 or {*given} & {*cut} or not operator.work[-1].contraction):
        raise refused(technique, "give it before the fusion, which would go across an all-reduce:", operator.name)
    return True


def _to_be_summed(block: Block, sums: Sequence[bool], outside: set[int]) -> set[int]:
    """The places of the operators whose result is partial and needed whole, in the block or by what is read outside of it."""
    sources, users = _flow(block)
    whole: set[int] = set()
    while True:
        partial: set[int] = set()
        takes: dict[int, set[int | None]] = {}
        for place, operator in enumerate(block.operators):
            addends = {*sources[place][: operator.linear_in]}
            takes[place] = addends if addends and addends <= partial - whole else set()
            if sums[place] or takes[place]:
                partial.add(place)
        needed = {
            place
            for place in partial
            if not users[place] or id(block.operators[place].result) in outside or any(place not in takes[user] for user in users[place])
        }
        if needed <= whole:
            return whole & partial
        whole |= needed


def _flow(block: Block) -> tuple[list[list[int | None]], dict[int, list[int]]]:
    """Which operator of the block wrote each activation an operator reads, and which read what one wrote."""
    writer: dict[int, int] = {}
    sources: list[list[int | None]] = []
    users: dict[int, list[int]] = {place: [] for place in range(len(block.operators))}
    for place, operator in enumerate(block.operators):
        read = [writer.get(id(access.tensor)) for access in operator.reads if access.tensor.storage is Storage.ACTIVATION]
        sources.append(read)
        for source in read:
            if source is not None:
                users[source].append(place)
        for access in operator.writes:
            writer[id(access.tensor)] = place
    return sources, users
