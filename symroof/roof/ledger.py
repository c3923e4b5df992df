"""The ledger of an operator on a machine: seconds per resource, how they combine, and which resource binds.

``seconds = demand / (share x rate)`` for every resource; ``time = overhead + max(seconds)``: the roofline. Without overlap
the time is their sum, for a calibrated kernel the form of its class (`symroof.roof.kernel_forms`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import cast

from sympy import Add, Expr, Max, S, Symbol

from symroof import symbols
from symroof.errors import DeviceError, EinsumError, InputError, member
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.hardware.machine import CALIBRATED, CEILINGS, CLASSIC, EVERY, RATE_SYMBOLS, STATED, SYMBOLIC, SYMBOLIC_CALIBRATED, Machine
from symroof.notation import Brief
from symroof.operators import IDEAL, Ceilings, Graph, Level, Operator, Resource
from symroof.operators.facts import COMMUNICATION
from symroof.roof.kernel_forms import constants_of, joined, latency, overhead_of, share
from symroof.roof.links import linked

OVERHEAD = "overhead"
WORK = (Resource.COMPUTE, Resource.VECTOR, Resource.EXPONENTIAL)
"""The resources that compute; the others move bytes."""

UNSTATED = (Resource.EXPONENTIAL, Resource.CACHE, Resource.PEER)
"""Resources that are ignored on a machine that does not state their rate."""

Amounts = Mapping[Resource, Expr]


def device_of(hardware: Device | str | Path | None) -> Device | None:
    """The device, loaded if given by name or path."""
    return hardware if isinstance(hardware, Device) or hardware is None else load_hardware(hardware)


def require_device(hardware: Device | str | Path | None, why: str) -> Device:
    """The device; without one, an InputError that says why it is needed."""
    device = device_of(hardware)
    if device is None:
        raise InputError(f"give a device: {why}")
    return device


def machine_of(
    graph: Graph, device: Device | None, ceilings: str = STATED, free: Iterable[Symbol] = (), accounting: str = "exact"
) -> Machine:
    """The machine for a symbolic graph: the device's rates, link rates given by techniques, and symbols if there is no device.

    Parameters
    ----------
    ceilings : the ceiling set; the accountings of other tools are always classic.
    free : rates that remain symbols because the question asks for them.

    Raises
    ------
    DeviceError
        The device states no rate for a level that the graph moves bytes over, or has no calibration.
    InputError
        There is no such ceiling set.

    >>> from symroof import load_model
    >>> graph = load_model("llama-2-7b").decode(symbolic=True).symbolic
    >>> machine_of(graph, load_hardware("a100-sxm-80gb")).rate(Resource.MEMORY)
    2039000000000
    """
    member("ceilings", ceilings, CEILINGS)
    if device is None:
        symbolic = SYMBOLIC_CALIBRATED if ceilings == CALIBRATED else SYMBOLIC
        return symbolic.bind({symbol: value for symbol, value in graph.definitions.items() if symbol in RATE_SYMBOLS.values()})
    machine = device.machine.with_ceilings(ceilings if accounting == "exact" else CLASSIC)
    defined = {symbol: graph.definitions[symbol] for symbol in RATE_SYMBOLS.values() if symbol in graph.definitions}
    left = [symbol for symbol in free if symbol in (symbols.P, *RATE_SYMBOLS.values()) and symbol not in defined]
    if defined or left:
        machine = machine.without_values(*defined, *left).bind({symbol: value for symbol, value in defined.items() if symbol not in free})
    for level in graph.levels:
        machine.rate(Resource(level))
    return linked(graph, machine, free)


@functools.lru_cache(maxsize=1024)
def runs_on(operator: Operator, machine: Machine) -> Machine:
    """The machine that runs an operator: its own unit with the links of the step's machine, or the step's machine."""
    return machine if operator.unit is None else machine.beside(cast(Machine, operator.unit))


def roof_of(graph: Graph, operator: Operator, machine: Machine, accounting: str = "exact") -> tuple[str, Expr]:
    """The data type that an operator of a numeric graph runs in, and its peak: the fastest type that is wide enough.

    Communication has no type; neither has a machine with a single peak.

    Raises
    ------
    DeviceError
        The machine has no such type.
    EinsumError
        A width is a symbol.
    """
    if operator.kind in COMMUNICATION:
        return "", SYMBOLIC.peaks[EVERY]
    if operator.unit is None and EVERY in machine.peaks:
        return "", machine.peaks[EVERY]
    try:
        return runs_on(operator, machine).fastest(graph.data_types(operator), sparse=operator.sparse)
    except EinsumError:
        if machine.name:
            raise
        return "", machine.peaks[EVERY]  # numeric units with a single peak have no type either
    except DeviceError as error:
        if accounting == "exact":
            raise
        raise DeviceError(f"{error}; accounting {accounting!r} asks for it, 'exact' takes the fastest type that is wide enough") from None


def charged(demands: Amounts, machine: Machine) -> dict[Resource, Expr]:
    """Demands on the resources that the machine states; without vector units the matrix units do their work.

    >>> from sympy import Integer
    >>> charged({Resource.COMPUTE: Integer(8), Resource.VECTOR: Integer(2), Resource.EXPONENTIAL: Integer(1)}, SYMBOLIC)
    {<Resource.COMPUTE: 'compute'>: 10}
    """
    amounts = {resource: amount for resource, amount in demands.items() if resource not in UNSTATED or resource in machine.rates}
    if Resource.VECTOR in amounts and Resource.VECTOR not in machine.rates:
        work = amounts.pop(Resource.VECTOR)
        amounts = {Resource.COMPUTE: amounts.pop(Resource.COMPUTE, S.Zero) + work, **amounts}
    return amounts


def reached(operator: Operator, resource: Resource, ceilings: Ceilings) -> Expr:
    """The share of a rate that an operator reaches; idle processors reduce memory bandwidth as much as the peak."""
    on_chip = resource in WORK or resource in (Resource.MEMORY, Resource.CACHE)
    if resource is Resource.PEER:
        resource = Resource.LINK
    factor = ceilings.compute if resource in WORK else ceilings.factor(Level(resource)) if resource in RATE_SYMBOLS else S.One
    return factor * operator.occupancy if on_chip else factor


def amounts_of(operator: Operator, machine: Machine, ceilings: Ceilings = IDEAL) -> dict[Resource, Expr]:
    """The demands of one occurrence, divided by the share of each rate that it reaches."""
    demands = charged(operator.demands, runs_on(operator, machine))
    if ceilings is IDEAL and operator.occupancy == 1:
        return demands
    return {resource: amount / reached(operator, resource, ceilings) for resource, amount in demands.items()}


def quotients(operator: Operator, amounts: Amounts, machine: Machine, peak: Expr) -> dict[Resource, Expr]:
    """Amounts over the rates that apply to an operator: *peak* for the matrix units, and the shares that a calibrated kernel reaches."""
    own = runs_on(operator, machine)
    constants = constants_of(operator, own)
    seconds: dict[Resource, Expr] = {}
    for resource, amount in amounts.items():
        rate = peak if resource is Resource.COMPUTE else own.rate(resource)
        seconds[resource] = amount / (rate if constants is None else share(constants, resource) * rate)
    return seconds


def seconds_of(operator: Operator, machine: Machine, peak: Expr, ceilings: Ceilings = IDEAL) -> dict[Resource, Expr]:
    """Seconds of one occurrence per resource; for a calibrated kernel including its latency.

    >>> import symroof
    >>> up = symroof.load_model("llama-2-7b").decode(symbolic=True)["up_proj"]
    >>> seconds_of(up, SYMBOLIC, SYMBOLIC.peaks[EVERY])[Resource.COMPUTE]
    2*b*d*f/P
    """
    seconds = quotients(operator, amounts_of(operator, machine, ceilings), machine, peak)
    constants = constants_of(operator, machine)
    waiting = S.Zero if constants is None else latency(operator, machine, constants)
    return seconds if waiting == 0 else {**seconds, Resource.LATENCY: waiting}


def overhead(operator: Operator, ceilings: Ceilings, machine: Machine = SYMBOLIC) -> Expr:
    """Overhead of one occurrence in seconds: its launch, the steps of a collective, the overhead of a calibrated kernel."""
    beside = ceilings.launch + operator.latency
    constants = constants_of(operator, machine)
    return beside if constants is None else beside + overhead_of(operator, machine, constants)


def time_of(operator: Operator, seconds: Amounts, ceilings: Ceilings = IDEAL, machine: Machine = SYMBOLIC) -> Expr:
    """Seconds of one occurrence from its seconds per resource: by the roofline, or by the form of the calibrated kernel that runs it.

    >>> import symroof
    >>> up = symroof.load_model("llama-2-7b").decode(symbolic=True)["up_proj"]
    >>> time_of(up, {Resource.COMPUTE: S(3), Resource.MEMORY: S(4)})
    4
    >>> time_of(up, {Resource.COMPUTE: S(3), Resource.MEMORY: S(4)}, machine=SYMBOLIC_CALIBRATED)
    t_0g + (3**p_g + 4**p_g)**(1/p_g)
    """
    beside, constants = overhead(operator, ceilings, machine), constants_of(operator, machine)
    if constants is None or not ceilings.overlap:
        return combined(seconds.values(), ceilings, beside)
    return beside + joined(operator, machine, constants, seconds)


def own(operator: Operator, seconds: Mapping[Resource, Expr], ceilings: Ceilings) -> dict[Resource, Expr]:
    """The seconds of an operator that overlap only with its own work: without prefetched transfers from the host.

    Transfers that are operators themselves are not prefetched.
    """
    waits = not ceilings.fetches_ahead or operator.kind in COMMUNICATION
    return {resource: taken for resource, taken in seconds.items() if waits or resource is not Resource.HOST}


def step_time(work: Expr, transfers: Expr, ceilings: Ceilings) -> Expr:
    """The time of a step from the total time of its operators and that of all transfers from and to the host.

    >>> from sympy import Integer
    >>> step_time(Integer(3), Integer(4), IDEAL), step_time(Integer(3), Integer(4), Ceilings(ahead=True))
    (3, 4)
    """
    if not ceilings.fetches_ahead or transfers == 0:
        return work
    return max(work, transfers) if work.is_Rational and transfers.is_Rational else Max(work, transfers, evaluate=False)


def combined(seconds: Iterable[Expr], ceilings: Ceilings = IDEAL, beside: Expr = S.Zero) -> Expr:
    """The time of an operator under a roofline: the overhead plus the largest of its seconds, or plus their sum.

    >>> from sympy import Integer
    >>> combined([Integer(3), Integer(4)]), combined([Integer(3), Integer(4)], Ceilings(overlap=False))
    (4, 7)
    """
    entries = [*seconds]
    if not entries or not ceilings.overlap:
        return beside + Add(*entries)
    numbers = all(map(attrgetter("is_Rational"), entries))
    return beside + (max(entries) if numbers else Max(*entries, evaluate=False))  # symbols: no costly comparison


def binding(seconds: Mapping[Resource, Expr], beside: Expr = S.Zero) -> str | None:
    """The resource with the most seconds, or the overhead; the first of equals; None if that depends on a symbol."""
    if len(seconds) == 1 and beside == 0:
        return str(next(iter(seconds)))
    if not all(map(attrgetter("is_number"), (*seconds.values(), beside))):
        return None
    if beside > max(seconds.values(), default=cast(Expr, S.Zero)):
        return OVERHEAD
    return str(max(seconds, key=seconds.__getitem__))


@dataclass(frozen=True)
class Cost(Brief):
    """The symbolic demands of an operator with all its occurrences, divided by the shares of the rates that it reaches.

    Attributes
    ----------
    operator : the operator, which decides the peak.
    amounts : FLOPs, bytes and so on by resource.
    count : the number of occurrences.
    """

    operator: Operator
    amounts: Amounts
    count: Expr = S.One

    @property
    def flops(self) -> Expr:
        """FLOPs, on matrix and vector units."""
        return Add(*[self.amounts[resource] for resource in WORK[:2] if resource in self.amounts])

    @property
    def traffic(self) -> Expr:
        """Bytes of memory traffic."""
        return self.amounts.get(Resource.MEMORY, S.Zero)

    @property
    def further(self) -> tuple[Level, ...]:
        """The levels other than memory over which it moves bytes."""
        return tuple(Level(resource) for resource in RATE_SYMBOLS if resource in self.amounts and resource is not Resource.MEMORY)

    def changed(self, how: Callable[[Expr], Expr]) -> Cost:
        """The same cost with *how* applied to its formulas."""
        return Cost(self.operator, {resource: how(amount) for resource, amount in self.amounts.items()}, how(self.count))

    def seconds(self, machine: Machine, peak: Expr) -> dict[Resource, Expr]:
        """Seconds per resource."""
        return quotients(self.operator, self.amounts, machine, peak)
