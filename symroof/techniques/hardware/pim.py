"""Processing in memory: units in the memory banks run some operators where their data is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Add, Integer, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import EinsumError, nearest, quote
from symroof.hardware.loader import load_hardware
from symroof.hardware.machine import Machine
from symroof.operators import CONTRACTIONS, Graph, Operator, Role, Storage
from symroof.techniques.system.token_axes import attends
from symroof.techniques.technique import Example, Given, Number, Technique, number, word

ATTENTION = "attention"


@dataclass(frozen=True)
class Pim(Technique):
    """Run chosen operators on units in memory with bandwidth BW_u, above the device's, and a low peak P_u.

    An operator of intensity I that is memory-bound on the device is faster on the units if ``I < P_u / BW`` and
    ``BW_u > BW``: by ``BW_u / BW`` up to the unit's ridge point ``P_u / BW_u``, by ``P_u / (I BW)`` beyond it. Moving
    operands to the units is not counted.

    Parameters
    ----------
    unit : a device, such as hbm-pim, aim, upmem.
    units : n_p, the number of units that share the operators' work; default 1.
    operators : their names joined by +; or "attention", its contractions.
    peak, bandwidth : P_u in FLOP/s and BW_u in byte/s of one unit, instead of the unit's stated figures.

    Raises
    ------
    InputError
        The unit is unknown or too small for the operators' weights and cache, or there is no such operator.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> symroof.analyze(step.apply(Pim(units=5)), "a100-sxm-80gb")["qk_matmul"].bound
    'compute'

    Source: the survey's section 6.2; Kwon et al. (2021), ISSCC, doi:10.1109/ISSCC42613.2021.9365862 (HBM-PIM).
    """

    name = "pim"
    summary = "processing in memory: some operators on units in the memory banks"
    survey = "6.2"
    source = "doi:10.1109/ISSCC42613.2021.9365862"
    example = Example(part="up_proj", settings={"units": 5, "operators": "up_proj"}, inputs={"seq_len": 1024})

    unit: str = word("hbm-pim", meaning="a device")
    units: Number = number(symbols.n_p, optional=True)
    operators: str = word(ATTENTION, meaning="operators joined by +, or attention")
    peak: Number = number(symbols.P_u, optional=True)
    bandwidth: Number = number(symbols.BW_u, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        load_hardware(self.unit)  # raises if unknown

    def check(self, step: Step) -> None:
        device, graph = load_hardware(self.unit), step.graph
        unit, moved = self._unit({}), self._moved(graph)
        for operator in moved:
            try:
                types = graph.data_types(operator)
            except EinsumError:  # a width is still a symbol
                continue
            unit.fastest(types, sparse=operator.sparse)
        own = {access.tensor for operator in moved for access in operator.reads}
        resident = {**graph.resident(Storage.WEIGHT), **graph.resident(Storage.KV_CACHE)}
        needed = Add(*(count * tensor.byte_count for tensor, count in resident.items() if tensor in own))
        units = Integer(1) if self.units is None else self.units
        if device.usable_figure is None or not (needed.is_number and units.is_number):
            return
        room = device.usable_figure.value
        if needed > units * room:
            raise self.refused(
                f"weights and cache of the operators take {needed} bytes, and {units} x {device.title} hold {units * room}; "
                f"expected units={ceiling(needed / room)} or more"
            )

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        moved, unit = self._moved(graph), self._unit(given)
        return graph.each(lambda operator, _: replace(operator, unit=unit, occupancy=Integer(1)) if operator in moved else operator)

    def _unit(self, given: Given) -> Machine:
        return load_hardware(self.unit).machine.scaled(given.get("units", Integer(1)), given.get("peak"), given.get("bandwidth"))

    def _moved(self, graph: Graph) -> tuple[Operator, ...]:
        """The operators to run on the units, including those that techniques derived from them."""
        if self.operators == ATTENTION:
            contractions = {operator for operator, _ in graph if operator.kind in CONTRACTIONS and attends(operator)}
            moved = tuple(operator for operator, _ in graph if operator in contractions or operator.role is Role.MERGE)
            if not moved:
                raise self.refused("this model has no attention; name the operators to move, as operators=up_proj")
            return moved
        for name in self.operators.split("+"):
            if not any(name in operator.answers_to for operator, _ in graph):
                raise self.refused(f"operators {quote(name)}: {nearest(name, [operator.name for operator, _ in graph])}")
        return tuple(operator for operator, _ in graph if operator.answers_to & {*self.operators.split("+")})

    def statements(self, given: Given) -> tuple[str, ...]:
        title, count = load_hardware(self.unit).title, given.get("units", 1)
        what = "attention's contractions" if self.operators == ATTENTION else self.operators
        return (
            f"pim: {what} on {count} x {title}; their traffic is internal to the units, moving operands there is not counted, and the "
            "device is idle meanwhile",
        )
