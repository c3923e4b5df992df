"""Operators of a block on another unit, where what they read lives, with the transfers in between."""

from __future__ import annotations

from dataclasses import replace

from sympy import Integer

from symroof.hardware.device import Device
from symroof.operators.facts import ATTENTION_ROLES, Kind, Role
from symroof.operators.graph import Block
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Axes, Level, Storage, Tensor


def on_unit(unit: Device, block: Block, *, attention: bool) -> Block:
    """The block with what reads the offloaded on the unit, and what crosses the link in between."""

    def there(operator: Operator) -> bool:
        if attention:
            return operator.unit is None and all(part.role in ATTENTION_ROLES for part in operator.members or (operator,))
        return any(one.tensor.level is Level.HOST and one.tensor.storage is Storage.WEIGHT for one in operator.reads)

    remote = {id(one) for one in block.operators if there(one)}
    homes = {access.tensor for one in block.operators if id(one) not in remote for access in one.reads}
    own = {access.tensor for one in block.operators if id(one) in remote for access in one.writes}
    copies: dict[tuple[Tensor, Axes], Tensor] = {}
    arrived: set[tuple[Tensor, Axes]] = set()
    made: list[Operator] = []

    def foreign(access: Access) -> bool:
        """Whether it is at the device, and no weight."""
        return access.tensor.storage is not Storage.WEIGHT and access.tensor.level is Level.MEMORY

    def copied(access: Access) -> Access:
        """The same at the host; of a cache only the rows that are touched."""
        if not foreign(access):
            return access
        tensor, cache = access.tensor, access.tensor.storage is Storage.KV_CACHE
        axes = (access.axes or tensor.axes) if cache else tensor.axes
        there = replace(tensor, level=Level.HOST, storage=Storage.ACTIVATION, axes=axes)
        return replace(access, tensor=copies.setdefault((tensor, axes), there), axes=() if cache else access.axes)

    for one in block.operators:
        if id(one) not in remote:
            made.append(one)
            gone = {access.tensor for access in one.writes}
            arrived = {known for known in arrived if known[0] not in gone}
            continue
        needed = {(access.tensor, copied(access).tensor.axes): access for access in one.reads if foreign(access)}
        sent = {key: access for key, access in needed.items() if key not in arrived and access.tensor not in own}
        made += [_transfer(one, "send", access, copied(access).tensor, len(sent) > 1) for access in sent.values()]
        arrived |= sent.keys()
        reads, writes = (tuple(map(copied, side)) for side in (one.reads, one.writes))
        made.append(replace(one, reads=reads, writes=writes, unit=unit, occupancy=Integer(1)))
        back = [access for access in one.writes if foreign(access) and access.tensor in homes]
        made += [_transfer(one, "receive", access, copied(access).tensor, len(back) > 1) for access in back]
    return replace(block, operators=tuple(made))


def _transfer(operator: Operator, way: str, access: Access, copy: Tensor, several: bool) -> Operator:
    """A tensor over the link, once; where several of an operator cross it, each transfer has the tensor's name."""
    here, there = Access(access.tensor, access.axes if access.tensor.storage is Storage.KV_CACHE else ()), Access(copy)
    name = f"{operator.name}.{way}" + (f".{access.tensor.name}" if several else "")
    reads, writes = ((here,), (there,)) if way == "send" else ((there,), (here,))
    return Operator(name, Kind.TRANSFER, access.tensor.space, (), reads, writes, role=Role.COMMUNICATION).made_from(operator)
