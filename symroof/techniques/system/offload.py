"""Offloading: weights or KV cache in host memory, transferred over a link or used by the CPU there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Integer

from symroof import symbols
from symroof.hardware.loader import load_hardware
from symroof.hardware.machine import Machine
from symroof.operators.block import Block
from symroof.operators.facts import ATTENTION_ROLES, CONTRACTIONS, BlockRole, Kind, Parameter, Role
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Axes, Level, Storage, Tensor
from symroof.techniques.technique import Example, Given, Number, Technique, number, word
from symroof.units import typed

GROWING = frozenset({"t", "z"})
"""Axes of a cache that grows with the context; recurrent states stay in the device's memory."""

AXIS, REST = "offloaded", "kept"


@dataclass(frozen=True)
class Offload(Technique):
    """A share omega of the weights, or of the cache, is in host memory and crosses the link of BW_h byte/s at every read.

    By default transfers are prefetched: the next layer's during the work of the current layer, the first layer's during the
    end of the preceding step. A step takes the longer of all its work and all its transfers, ``max(sum_i max(F_i/P, B_i/BW),
    sum_i B_host,i / BW_h)``. With *overlap* "operator" each transfer overlaps only with its own operator, which takes the
    longest of ``F/P``, resident bytes over BW and offloaded bytes over BW_h; a single operator is modelled so either way.
    For linear layers of large matrices, b tokens, w bits:

    ============================ =================================================
    hidden behind compute        ``b >= omega w P / (16 BW_h)``
    hidden behind memory         ``omega <= BW_h / (BW + BW_h)``, at any batch
    ============================ =================================================

    If neither holds, the layer is slower by up to ``omega BW / BW_h``. On the CPU (*compute* "cpu") the linear operators with
    offloaded weights, or attention, run from host memory under the CPU's roof, and their operands and results cross the link
    instead (``<operator>.send``, ``<operator>.receive``); this is faster than the link up to about ``b = w P_cpu / (16 BW_h)``.
    Staging buffers in device memory are not counted.

    Parameters
    ----------
    what : "weights", those of the layers' linear operators, or "kv".
    share : omega; 1 on the CPU.
    link : BW_h, byte/s one way; default the device's stated link to its host.
    compute, unit : "gpu"; or "cpu" and a device of the catalogue.
    overlap : what transfers to the GPU overlap with: "layers", the work of the whole step; or "operator", only their operator.

    Raises
    ------
    InputError
        There is nothing to offload, it is offloaded already, compute=cpu has no unit or a share below 1, or an earlier offload
        overlaps differently.

    >>> import symroof
    >>> from symroof.operators.tensor import Level
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(Offload())
    >>> print(step["up_proj"].traffic, "and", step["up_proj"].byte_count(level=Level.HOST))
    (a*b*d + a*b*f + d*f*w*(1 - omega))/8 byte and d*f*omega*w/8

    Sources: Sheng et al. (2023), FlexGen, arXiv:2303.06865, Algorithm 1 (the next layer's weights, the stores and the
    loads of the cache, and this layer's computation, all side by side); the survey, section 5.2 and Figure 18.
    """

    name = "offload"
    summary = "weights or KV cache in host memory, over a link"
    survey = "5.2"
    source = "arXiv:2303.06865"
    example = Example(settings={"share": 1, "link": 896 * 10**8}, hardware="survey/nvidia_A6000")

    what: str = word("weights", ("weights", "kv"))
    share: Number = number(symbols.omega, zero=True)
    link: Number = number(symbols.BW_h, optional=True)
    compute: str = word("gpu", ("gpu", "cpu"))
    unit: str = word("", meaning="a device of the catalogue, where compute=cpu")
    overlap: str = word("layers", ("layers", "operator"))

    def __post_init__(self) -> None:
        if self.compute == "cpu" and self.share is None:
            object.__setattr__(self, "share", 1)
        super().__post_init__()
        if (self.compute == "cpu") != bool(self.unit):
            hint = "unit belongs to compute=cpu" if self.unit else "compute=cpu needs unit=, as unit=survey/intel_13900k"
            raise self.refused(hint)
        if self.compute == "cpu" and self.share != 1:
            raise self.refused(f"share {self.share}: the CPU computes with everything or nothing; expected 1, or compute=gpu")
        if self.compute == "cpu" and self.overlap != "layers":
            raise self.refused("overlap concerns transfers to the GPU; with compute=cpu operands cross the link in turn")
        if self.unit:
            load_hardware(self.unit)

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        layers = [block for block in graph.blocks if block.role is BlockRole.LAYER or block.resident == 0]  # a draft's cost is a share
        read = ((operator, access.tensor) for block in layers for operator in block.operators for access in operator.reads)
        chosen = dict.fromkeys(tensor for operator, tensor in read if self._offloaded(operator, tensor))
        if not chosen:
            raise self.refused(f"this step has no {'KV cache that grows with the context' if self.what == 'kv' else 'linear layers'}")
        if any(tensor.level is not Level.MEMORY for tensor in chosen):
            raise self.refused(f"{self.what} are offloaded already")
        if given["share"] == 0:
            return graph
        parts = {tensor: _parts(tensor, given["share"], whole=self.share == 1) for tensor in chosen}

        def moved(old: Access, _: Access, __: Operator) -> tuple[Access, ...]:
            """The same accesses on each part."""
            further = {tensor: tuple(axis for axis in tensor.axes if axis not in old.tensor.axes) for tensor in parts.get(old.tensor, ())}
            every = (replace(old, tensor=tensor, axes=(*old.axes, *axes) if old.axes else ()) for tensor, axes in further.items())
            return tuple(every) or (old,)

        changed = graph.map(access=moved)
        if self.compute == "gpu":
            offloads = (technique for technique in graph.applied if isinstance(technique, Offload) and technique.compute == "gpu")
            earlier = next((technique.overlap for technique in offloads), self.overlap)
            if earlier != self.overlap:
                raise self.refused(f"overlap={self.overlap}: an earlier offload has overlap={earlier}, and a step supports only one")
            return replace(changed, ceilings=replace(changed.ceilings, ahead=self.overlap == "layers"))
        unit = load_hardware(self.unit).machine
        return replace(changed, blocks=tuple(on_unit(unit, block, attention=self.what == "kv") for block in changed.blocks))

    def _offloaded(self, operator: Operator, tensor: Tensor) -> bool:
        if self.what == "kv":
            return tensor.storage is Storage.KV_CACHE and not GROWING.isdisjoint(tensor.axes)
        return operator.kind in CONTRACTIONS and tensor.parameter in (Parameter.MATRIX, Parameter.ROUTER, Parameter.BIAS)

    def statements(self, given: Given) -> tuple[str, ...]:
        kept = "; embedding, heads, norms and a draft model stay on the device" if self.what == "weights" else ""
        where = "each transfer overlaps with its own operator; staging in device memory is not counted"
        if self.overlap == "layers":
            where = "the next layer's transfer overlaps with this layer's work; the step takes the longer of all work and all transfers"
            where += "; staging in device memory is not counted"
        if self.compute == "cpu":
            where = f"{self.unit} computes with them; operands cross the link before and results after, without overlap"
        return (f"offload: a share {typed(self.share)} of the {self.what} in host memory{kept}; {where}",)


def _parts(tensor: Tensor, share: Expr, *, whole: bool) -> tuple[Tensor, ...]:
    """The resident and the offloaded part of a tensor: the same tensor twice, with an axis of each part's size."""
    if whole:
        return (replace(tensor, level=Level.HOST),)
    kept, gone = ({**tensor.space.sizes, axis: size} for axis, size in ((REST, 1 - share), (AXIS, share)))
    return (
        replace(tensor, axes=(*tensor.axes, REST), space=replace(tensor.space, sizes=kept)),
        replace(tensor, axes=(*tensor.axes, AXIS), space=replace(tensor.space, sizes=gone), level=Level.HOST),
    )


def on_unit(unit: Machine, block: Block, *, attention: bool) -> Block:
    """The block with the operators that read offloaded tensors on the unit, and the transfers of their operands and results."""

    def runs_there(operator: Operator) -> bool:
        if attention:
            return operator.unit is None and all(part.role in ATTENTION_ROLES for part in operator.members or (operator,))
        return any(access.tensor.level is Level.HOST and access.tensor.storage is Storage.WEIGHT for access in operator.reads)

    remote = {operator for operator in block.operators if runs_there(operator)}
    homes = {access.tensor for operator in block.operators if operator not in remote for access in operator.reads}
    own = {access.tensor for operator in block.operators if operator in remote for access in operator.writes}
    copies: dict[tuple[Tensor, Axes], Tensor] = {}
    arrived: set[tuple[Tensor, Axes]] = set()
    made: list[Operator] = []

    def foreign(access: Access) -> bool:
        """Whether the tensor is in device memory and no weight."""
        return access.tensor.storage is not Storage.WEIGHT and access.tensor.level is Level.MEMORY

    def copied(access: Access) -> Access:
        """The same access in host memory; for a cache only the rows that are touched."""
        if not foreign(access):
            return access
        tensor, cache = access.tensor, access.tensor.storage is Storage.KV_CACHE
        axes = (access.axes or tensor.axes) if cache else tensor.axes
        copy = replace(tensor, level=Level.HOST, storage=Storage.ACTIVATION, axes=axes)
        return replace(access, tensor=copies.setdefault((tensor, axes), copy), axes=() if cache else access.axes)

    for operator in block.operators:
        if operator not in remote:
            made.append(operator)
            gone = {access.tensor for access in operator.writes}
            arrived = {known for known in arrived if known[0] not in gone}
            continue
        needed = {(access.tensor, copied(access).tensor.axes): access for access in operator.reads if foreign(access)}
        sent = {key: access for key, access in needed.items() if key not in arrived and access.tensor not in own}
        made += [_transfer(operator, "send", access, copied(access).tensor, len(sent) > 1) for access in sent.values()]
        arrived |= sent.keys()
        reads, writes = (tuple(map(copied, side)) for side in (operator.reads, operator.writes))
        made.append(replace(operator, reads=reads, writes=writes, unit=unit, occupancy=Integer(1)))
        back = [access for access in operator.writes if foreign(access) and access.tensor in homes]
        made += [_transfer(operator, "receive", access, copied(access).tensor, len(back) > 1) for access in back]
    return replace(block, operators=tuple(made))


def _transfer(operator: Operator, way: str, access: Access, copy: Tensor, several: bool) -> Operator:
    """The transfer of a tensor over the link; if an operator has several, their names include the tensor's."""
    here, there = Access(access.tensor, access.axes if access.tensor.storage is Storage.KV_CACHE else ()), Access(copy)
    name = f"{operator.name}.{way}" + (f".{access.tensor.name}" if several else "")
    reads, writes = ((here,), (there,)) if way == "send" else ((there,), (here,))
    return Operator(name, Kind.TRANSFER, access.tensor.space, (), reads, writes, role=Role.COMMUNICATION, linear_in=1).made_from(operator)
