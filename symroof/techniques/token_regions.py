"""Norms and adds between the operators of tensor parallelism on a device's own tokens: Megatron's sequence parallelism."""

from __future__ import annotations

from dataclasses import replace

from symroof.errors import InputError, quote
from symroof.operators import Access, Block, Graph, Kind, Operator, Role, Space, Storage, Tensor
from symroof.operators.collective import Group, all_gather

ROWWISE = frozenset({Role.NORM, Role.ADD, Role.SCALE})


def split_tokens(graph: Graph, scattered: frozenset[Tensor], group: Group) -> Graph:
    """The graph in which every device has ``1 / n`` of the rows of *scattered* sums, and of what norms and adds make of them.

    Whatever else reads them gets all rows by an all-gather, one per tensor and block.

    Raises
    ------
    InputError
        Another operator makes a tensor that the norms and adds make too.
    """
    rows, local = _local(graph, scattered)
    times = {access.tensor: access.repeats for operator, _ in graph for access in operator.writes}

    def own(space: Space) -> Space:
        return space.resized({"b": space.sizes["b"] / group.devices})

    def gathered(block: Block) -> Block:
        made: list[Operator] = []
        whole: dict[tuple[Tensor, tuple[str, ...]], Tensor] = {}
        for operator in block.operators:
            if operator in local or (operator.result in scattered and operator.kind is Kind.COLLECTIVE):
                made.append(operator)
                continue
            reads = []
            for access in operator.reads:
                tensor, last = access.tensor, "u" in access.touched and "u" not in access.tensor.axes
                if tensor not in rows:
                    reads.append(access)
                    continue
                axes = access.touched if last else tensor.axes  # the last token of a prompt, or all
                if (tensor, axes) not in whole:
                    whole[tensor, axes] = replace(tensor, name=f"{tensor.name}.all_gather", axes=axes)
                    name = next((maker.name for maker in made if maker.result is tensor), operator.prefix + tensor.name)
                    moved = Access(tensor, repeats=access.repeats if last else times[tensor])
                    made.append(all_gather(f"{name}.all_gather", moved, whole[tensor, axes], group))
                reads.append(replace(access, tensor=whole[tensor, axes]))
            made.append(replace(operator, reads=tuple(reads)))
        return replace(block, operators=tuple(made))

    complete = replace(graph, blocks=tuple(map(gathered, graph.blocks)))
    return complete.map(
        tensor=lambda tensor: replace(tensor, space=own(tensor.space)) if tensor in rows else tensor,
        operator=lambda old, new, _: replace(new, space=own(new.space)) if old in local else new,
    )


def _local(graph: Graph, scattered: frozenset[Tensor]) -> tuple[frozenset[Tensor], frozenset[Operator]]:
    """The tensors of which a device has its rows, and the operators that work on these rows alone."""
    rows, local = set(scattered), set[Operator]()
    partial = {access.tensor for operator, _ in graph if operator.result in scattered for access in operator.reads}
    for operator in reversed([operator for operator, _ in graph]):  # a scale or a sum of partial sums is one too
        if operator.role in ROWWISE and operator.result in partial:
            partial |= {access.tensor for access in operator.reads}
    looked_up = [operator for operator, _ in graph if operator.kind is Kind.EMBEDDING and operator.result not in partial]
    rowwise = [operator for operator, _ in graph if all(map(_rowwise, operator.members or (operator,)))]
    local |= {*looked_up}
    rows |= {operator.result for operator in looked_up}
    while found := [operator for operator in rowwise if operator not in local and _reads_only(operator, rows)]:
        local |= {*found}
        rows |= {access.tensor for operator in found for access in operator.writes}
    for operator, _ in graph:
        if operator.result in rows - scattered and operator not in local and operator.kind is not Kind.COLLECTIVE:
            raise InputError(f"sequence_parallel: {quote(operator.name)} makes rows for all devices that norms and adds make too")
    return frozenset(rows), frozenset(local)


def _rowwise(operator: Operator) -> bool:
    return operator.role in ROWWISE and operator.kind in (Kind.NORM, Kind.ELEMENTWISE)


def _reads_only(operator: Operator, rows: set[Tensor]) -> bool:
    given = [access.tensor for access in operator.reads if access.tensor.storage is Storage.ACTIVATION and "b" in access.tensor.axes]
    return bool(given) and {*given} <= rows and all(tensor.axes == operator.result.axes for tensor in given)
