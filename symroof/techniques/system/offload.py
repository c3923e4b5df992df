"""Weights or KV cache at the next memory level: over a link to the device, or computed on where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Expr

from symroof import symbols
from symroof.errors import InputError
from symroof.hardware.loader import load_hardware
from symroof.operators.facts import CONTRACTIONS, BlockRole, Parameter
from symroof.operators.graph import Graph
from symroof.operators.tensor import Access, Level, Storage, Tensor
from symroof.techniques.system.placement import on_unit
from symroof.techniques.technique import Example, Number, Technique, number, word

STORAGE = {"weights": Storage.WEIGHT, "kv": Storage.KV_CACHE}
GROWING = frozenset({"t", "z"})
"""Axes of a cache that grows with the context; the state of a recurrent layer stays in the device's memory."""

AXIS, REST = "offloaded", "kept"


@dataclass(frozen=True)
class Offload(Technique):
    """A share omega of the weights, or of the cache, lives at the host, and crosses the link of BW_h byte/s when it is read.

    The operator takes the longest of three times, ``F/P``, the bytes that stay over BW, and the offloaded over BW_h: its own
    transfer runs beside its work. Linear layers of large matrices, b tokens, w bits:

    ============================ =================================================
    hidden behind compute        ``b >= omega w P / (16 BW_h)``
    hidden behind memory         ``omega <= BW_h / (BW + BW_h)``, whatever the batch
    ============================ =================================================

    and where neither holds it is slower by up to ``omega BW / BW_h``. On the CPU (*compute* "cpu") the linear operators with
    offloaded weights, or attention, run from its memory under its roof, and their operands and results cross the link instead
    (``<operator>.send``, ``<operator>.receive``); against the link that pays up to about ``b = w P_cpu / (16 BW_h)``.

    Parameters
    ----------
    what : "weights", those of the layers' linear operators, or "kv".
    share : omega; 1 on the CPU.
    link : BW_h, byte/s one way; without it the device's own link to its host.
    compute, unit : "gpu"; or "cpu" and a device of the catalogue.

    Raises
    ------
    InputError
        There is nothing to offload, it is offloaded already, or a CPU is asked to compute without a name or with a part.

    >>> import symroof
    >>> from symroof.operators.tensor import Level
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(Offload())
    >>> print(step["up_proj"].traffic, "and", step["up_proj"].byte_count(level=Level.HOST))
    a*b*d/8 + a*b*f/8 + d*f*w*(1 - omega)/8 byte and d*f*omega*w/8

    Source: Sheng et al. (2023), FlexGen, arXiv:2303.06865; the survey, section 5.2 and Figure 18.
    """

    name = "offload"
    summary = "weights or KV cache at the host, over a link"
    survey = "5.2"
    source = "arXiv:2303.06865"
    example = Example(settings={"share": 1, "link": 896 * 10**8}, hardware="survey/nvidia_A6000")

    what: str = word("weights", ("weights", "kv"))
    share: Number = number(symbols.omega, zero=True)
    link: Number = number(symbols.BW_h, optional=True)
    compute: str = word("gpu", ("gpu", "cpu"))
    unit: str = word("", meaning="a device of the catalogue, where compute=cpu")

    def __post_init__(self) -> None:
        if self.compute == "cpu" and self.share is None:
            object.__setattr__(self, "share", 1)
        super().__post_init__()
        if (self.compute == "cpu") != bool(self.unit):
            hint = "unit belongs to compute=cpu" if self.unit else "compute=cpu needs unit=, as unit=survey/intel_13900k"
            raise InputError(f"{self.name}: {hint}")
        if self.compute == "cpu" and self.share != 1:
            raise InputError(f"{self.name}: share {self.share}: the CPU computes with all of it or none; expected 1, or compute=gpu")
        if self.unit:
            load_hardware(self.unit)

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        storage = STORAGE[self.what]
        chosen = {
            access.tensor: None
            for block in graph.blocks
            if block.role is BlockRole.LAYER
            for operator in block.operators
            if self.what == "kv" or operator.kind in CONTRACTIONS
            for access in operator.reads
            if access.tensor.storage is storage
            and (
                not GROWING.isdisjoint(access.tensor.axes)
                if self.what == "kv"
                else access.tensor.parameter in (Parameter.MATRIX, Parameter.ROUTER, Parameter.BIAS)
            )
        }
        if not chosen:
            raise InputError(
                f"{self.name}: this step has no {'KV cache that grows with the context' if self.what == 'kv' else 'linear layers'}"
            )
        if any(tensor.level is not Level.MEMORY for tensor in chosen):
            raise InputError(f"{self.name}: {self.what} are not in the device's memory any more")
        if given["share"] == 0:
            return graph
        parts = {tensor: _parts(tensor, given["share"], whole=self.share == 1) for tensor in chosen}

        def moved(accesses: tuple[Access, ...]) -> tuple[Access, ...]:
            found: list[Access] = []
            for access in accesses:
                for tensor in parts.get(access.tensor, (access.tensor,)):
                    further = tuple(axis for axis in tensor.axes if axis not in access.tensor.axes)
                    found.append(replace(access, tensor=tensor, axes=(*access.axes, *further) if access.axes else ()))
            return tuple(found)

        changed = graph.each(lambda operator, _: replace(operator, reads=moved(operator.reads), writes=moved(operator.writes)))
        if self.compute == "gpu":
            return changed
        unit = load_hardware(self.unit)
        return replace(changed, blocks=tuple(on_unit(unit, block, attention=self.what == "kv") for block in changed.blocks))

    def statements(self, given: Mapping[str, Expr]) -> tuple[str, ...]:
        kept = "; embedding, LM head and norms stay" if self.what == "weights" else ""
        where = "an operator's own transfer runs beside its work; staging in device memory is not counted"
        if self.compute == "cpu":
            where = f"{self.unit} computes with them; operands and results cross the link before and after, in turn"
        return (f"offload: a share {self.share} of the {self.what} at the host{kept}; {where}",)


def _parts(tensor: Tensor, share: Expr, *, whole: bool) -> tuple[Tensor, ...]:
    """What stays of a tensor, and what lives at the host: the same tensor twice, with an axis of each part's size."""
    if whole:
        return (replace(tensor, level=Level.HOST),)
    kept, gone = ({**tensor.space.sizes, axis: size} for axis, size in ((REST, 1 - share), (AXIS, share)))
    return (
        replace(tensor, axes=(*tensor.axes, REST), space=replace(tensor.space, sizes=kept)),
        replace(tensor, axes=(*tensor.axes, AXIS), space=replace(tensor.space, sizes=gone), level=Level.HOST),
    )
