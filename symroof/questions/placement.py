"""The best split of a step between a device and an attached unit: every operator where it is faster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sympy import Add, Expr

from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED, Machine
from symroof.notation import Brief
from symroof.operators.facts import COMMUNICATION
from symroof.operators.graph import Graph
from symroof.roof.analysis import analyze
from symroof.roof.ledger import require_device, roof_of
from symroof.roof.roofline import RooflinePoint
from symroof.units import COUNT, SECOND, in_unit


@dataclass(frozen=True)
class Place(Brief):
    """An operator with its seconds on the device and on the unit, over all occurrences, bare; None if the unit cannot run it."""

    name: str
    on_device_expr: Expr
    on_unit_expr: Expr | None

    on_device = in_unit(lambda place: place.on_device_expr, SECOND, "Time on the device, as a Quantity in seconds.")
    on_unit = in_unit(lambda place: place.on_unit_expr, SECOND, "Time on the unit, as a Quantity in seconds, or None.")
    time = in_unit(lambda place: place.time_expr, SECOND, "Time where it is faster, as a Quantity in seconds.")

    @property
    def moves(self) -> bool:
        """Whether it is faster on the unit."""
        return self.on_unit_expr is not None and bool(self.on_unit_expr < self.on_device_expr)

    @property
    def time_expr(self) -> Expr:
        """Seconds on the faster of the two, bare."""
        return self.on_unit_expr if self.on_unit_expr is not None and self.moves else self.on_device_expr


@dataclass(frozen=True)
class Split(Brief):
    """A split of a step with every operator where it is faster.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> five = symroof.load_hardware("hbm-pim").machine.scaled(5)
    >>> split = best_split(step, "a100-sxm-80gb", five)
    >>> "qk_matmul" in split.operators, f"{split.speedup:.3g}"
    (True, '2.94')
    """

    places: tuple[Place, ...]

    time = in_unit(lambda split: split.time_expr, SECOND, "Time of the step, its operators one after the other, as a Quantity in seconds.")
    speedup = in_unit(lambda split: split.speedup_expr, COUNT, "The time on the device alone over that of the split, as a Quantity.")

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that run on the unit."""
        return tuple(place.name for place in self.places if place.moves)

    @property
    def time_expr(self) -> Expr:
        """Seconds of the step, with its operators in succession, bare."""
        return Add(*(place.time_expr for place in self.places))

    @property
    def speedup_expr(self) -> Expr:
        """The time on only the device over that of the split, bare."""
        return Add(*(place.on_device_expr for place in self.places)) / self.time_expr


def best_split(step: Step, hardware: Device | str | Path, unit: Machine | Device | str | Path, *, ceilings: str = STATED) -> Split:
    """The split with every operator where it is faster, which minimizes the step's time because operators run in succession.

    Moving operands is not counted, and the capacity of the unit is not checked.

    Raises
    ------
    InputError
        A number is missing.
    DeviceError
        The device cannot run an operator.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024)
    >>> "qk_matmul" in best_split(step, "a100-sxm-80gb", symroof.load_hardware("hbm-pim").machine.scaled(5)).operators
    True
    """
    analysis = analyze(step, require_device(hardware, "splits are numeric"), ceilings=ceilings)
    machine = unit if isinstance(unit, Machine) else require_device(unit, "a unit, by its name or as a device").machine
    return Split(tuple(_place(analysis.graph, placed, machine) for placed in analysis))


def _place(graph: Graph, placed: RooflinePoint, unit: Machine) -> Place:
    here = placed.count_expr * placed.time_expr
    if not here.is_number:
        raise InputError(f"best split: the time of {quote(placed.name)} depends on {', '.join(sorted(map(str, here.free_symbols)))}")
    if placed.operator.kind in COMMUNICATION:
        return Place(placed.name, here, None)
    moved = replace(placed.operator, unit=unit)
    try:
        there = replace(placed, operator=moved, peak_expr=roof_of(graph, moved, placed.machine)[1])
    except DeviceError:  # it has no data type as wide as the operands
        return Place(placed.name, here, None)
    return Place(placed.name, here, placed.count_expr * there.time_expr)
