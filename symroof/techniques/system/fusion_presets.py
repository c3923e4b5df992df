"""What common inference engines fuse of a block, besides attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from symroof.operators.facts import Kind, Role
from symroof.operators.fusion import between
from symroof.operators.graph import Block
from symroof.operators.operator import Operator
from symroof.operators.tensor import Tensor


def groups(block: Block) -> list[list[Operator]]:
    """What engines fuse of a block, besides attention: groups of operators in the order they run."""
    made = {access.tensor: one for one in block.operators for access in one.writes}
    linked: list[set[int]] = []
    for pair in _pairs(block, made):
        joined = {id(one) for one in pair}
        for other in [other for other in linked if other & joined]:
            joined |= other
            linked.remove(other)
        linked.append(joined)
    found = [[one for one in block.operators if id(one) in group] for group in linked]
    return [group for group in found if between(block.operators, group) is None]


def _pairs(block: Block, made: Mapping[Tensor, Operator]) -> Iterator[tuple[Operator, Operator]]:
    """Two operators, one of which takes what the other gives, that belong in one kernel."""
    for one in block.operators:
        if one.is_group:
            continue
        for access in one.reads:
            maker = made.get(access.tensor)
            if maker is None or maker is one or block.operators.index(maker) > block.operators.index(one) or maker.is_group:
                continue
            plain, turned = {maker.kind, one.kind}, one.kind is Kind.ROTARY
            head_norm = one.kind is Kind.NORM and any(other.kind is Kind.ROTARY and _takes(other, one) for other in block.operators)
            residual = plain == {Kind.ELEMENTWISE, Kind.NORM} and Role.ADD in (one.role, maker.role)
            active = one.kind is Kind.ELEMENTWISE and maker.kind is Kind.MATMUL and one.role is Role.ACTIVATION
            if residual or active or (turned and maker.kind in (Kind.MATMUL, Kind.NORM)) or (head_norm and maker.kind is Kind.MATMUL):
                yield maker, one


def _takes(one: Operator, other: Operator) -> bool:
    return any(access.tensor is other.result for access in one.reads)
