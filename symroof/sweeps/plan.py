"""From what a user asks to a `Sweep`: everything is looked up, checked and compiled before any number is computed."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from sympy import Rational, Symbol

from symroof import __version__, symbols
from symroof.answers import view
from symroof.architectures.model import Model, load_model
from symroof.architectures.options import PHASES, WIDTHS, Options
from symroof.conventions import BITS
from symroof.errors import DeviceError, InputError, member, nearest, quote
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.hardware.machine import CALIBRATED, CEILINGS, CLASSIC, LATENCIES, ON_DEVICE, RATE_SYMBOLS, STATED, UNITS, Machine, in_symbols
from symroof.operators import Resource
from symroof.roof import costs
from symroof.roof.links import linked
from symroof.sweeps.compile import Program
from symroof.sweeps.engines import engine_for
from symroof.sweeps.formulas import StepFormulas
from symroof.sweeps.grid import Scenario, Sweep
from symroof.sweeps.inputs import Axis, axes, axis, symbol_of
from symroof.sweeps.metrics import CAPACITY, TOTAL, chosen
from symroof.techniques.registry import multiple_of, techniques_of, with_number
from symroof.techniques.technique import Technique

SIZES, RATES = ("batch", "seq_len"), ("peak", "bandwidth")
INPUTS = (*SIZES, *WIDTHS)
CONVENTIONS = tuple(option.name for option in fields(Options) if option.name not in ("phase", *INPUTS))
MOST_WIDTHS = 4096
UNLIMITED = 1e30
"""Bytes of a cache that everything fits: what a device that states none leaves for the least traffic there can be."""

MOST_CHECKED = 64
"""Values of a variable at which a chain of techniques is checked before a sweep; of more, evenly many."""

ANY = "any"

Programs = Callable[[StepFormulas, Sequence[str]], dict[str, Program]]


class Plan:
    """What a sweep ranges over and what stays fixed, checked, with the formulas of every step; `sweep` compiles those of some metrics.

    The parameters are those of `symroof.sweeps.sweep.sweep`.

    Raises
    ------
    SymroofError
        Some request makes no sense; one line says which.
    """

    def __init__(
        self,
        models: Any,
        hardware: Any,
        over: Mapping[Any, Any],
        *,
        phase: str | Sequence[str] = "decode",
        per: str = TOTAL,
        points: bool = False,
        engine: str = "auto",
        techniques: Sequence[str | Technique] = (),
        ceilings: str = STATED,
        **fixed: Any,
    ) -> None:
        member("per", per, (TOTAL, "operator"))
        if engine == "exact":
            raise InputError("engine 'exact': a sweep is in float64; `compiled(..., engine='exact')` checks single points")
        member("ceilings", ceilings, CEILINGS)
        self.phases = _several(phase, "phase", str, str)
        for name in self.phases:
            member("phase", name, PHASES)
        self.points, self.engine, self.techniques, self.each = points, engine, techniques_of(techniques), per != TOTAL
        self.axes = axes(over, points)
        self.names = tuple(axis.name for axis in self.axes)
        self.conventions = {name: value for name, value in fixed.items() if name in CONVENTIONS}
        self.fixed = dict(self._fixed(fixed))
        if "seq_len" not in (*self.names, *self.fixed):
            raise InputError("seq_len must be given, as a number or in over")
        self.models: tuple[Model, ...] = _several(models, "model", Model, load_model)
        self.devices: tuple[Device | None, ...] = (None,)
        if hardware is not None:
            self.devices = _several(hardware, "hardware", Device, load_hardware)
        self.overridden = tuple(name for name in RATES if name in (*self.names, *self.fixed))
        """Peak and bandwidth, if given instead of the device's."""
        if hardware is None and self.overridden != RATES:
            raise InputError("without hardware both peak and bandwidth must be given")
        exact = self.conventions.get("accounting", "exact") == "exact"
        self.ceilings = ceilings if exact else CLASSIC
        self.machines = [*map(self._machine, self.devices)]
        """The symbolic ceilings requested of each device; devices that state the same ones share a machine."""
        self.capacities = all(device is not None and device.usable_figure is not None for device in self.devices)
        """Whether every device states its memory capacity."""
        self.steps: dict[tuple[str, str, Machine], StepFormulas] = {}

    def _machine(self, device: Device | None) -> Machine:
        every = frozenset[Resource]() if self.ceilings == CLASSIC or device is None else ON_DEVICE
        machine = _in_symbols(frozenset(device.machine.rates) & every if device else every)
        if self.ceilings != CALIBRATED:
            return machine
        if device is None:
            raise InputError("ceilings 'calibrated': constants are of a device; give hardware")
        if swept := [name for name in WIDTHS if name in self.names]:
            raise InputError(f"ceilings 'calibrated': constants are of kernels at one width, {swept[0]} cannot be swept over")
        own = device.machine.with_ceilings(CALIBRATED)
        return replace(machine, calibration=own.calibration, processors=own.processors, clock=own.clock)

    def _fixed(self, given: Mapping[str, Any]) -> Iterator[tuple[str, Axis]]:
        """The inputs that stay, as axes of one value."""
        for name, value in given.items():
            if name not in (*INPUTS, *RATES, *CONVENTIONS):
                raise InputError(f"{quote(name)} is not an input of a step: {nearest(name, (*INPUTS, *RATES, *CONVENTIONS))}")
            if name in CONVENTIONS or value is None:
                continue
            if name in self.names:
                raise InputError(f"{name} is both fixed and swept over: leave one of the two out")
            known = axis(name, value)
            if len(known) > 1:
                raise InputError(f"{name} {quote(value)}: give several values in over")
            yield name, known

    def sweep(self, metrics: Sequence[str] | None, programs_of: Programs = StepFormulas.programs) -> Sweep:
        """The sweep that says these metrics, or the usual ones, by other programs if it is to be bounded.

        Raises
        ------
        SymroofError
            There is no such metric, or a device does not state what the formulas need.
        """
        for model, phase in itertools.product(self.models, self.phases):
            for machine in dict.fromkeys(self.machines):
                if (model.name, phase, machine) not in self.steps:
                    self.steps[model.name, phase, machine] = self._step(model, phase, machine)
            self._check_values(model, phase)
        metrics = self.metrics(metrics)
        programs = {key: programs_of(step, metrics) for key, step in self.steps.items()}
        operators = tuple(dict.fromkeys(name for known in programs.values() for name in known)) if self.each else None
        scenarios = tuple(
            self._scenario(self.steps[key], device, programs[key], metrics=metrics, operators=operators, model=model.name, phase=phase)
            for model, (device, machine), phase in itertools.product(
                self.models, zip(self.devices, self.machines, strict=True), self.phases
            )
            for key in [(model.name, phase, machine)]
        )
        texts, *others = (step.texts(metrics) for step in self.steps.values())
        formulas = {name: text for name, text in texts.items() if all(other.get(name) == text for other in others)}
        compiled = Sweep(self.axes, self.points, scenarios, metrics, "numpy", self._attributes(), formulas)
        engine = "numpy" if self.engine == "auto" and self.each else self.engine
        return replace(compiled, engine=engine_for(engine, compiled.size))

    def metrics(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The requested metrics, or the usual ones; throughput per device among them where steps are on several."""
        several = any(step.graph.devices != 1 for step in self.steps.values())
        return chosen(names, self.each, self.capacities, several)

    def _step(self, model: Model, phase: str, machine: Machine) -> StepFormulas:
        """The formulas with the fixed inputs in them; statements are those of the largest inputs."""
        named = {"batch": 1} | {axis.name: int(axis.values.max()) for axis in (*self.fixed.values(), *self.axes) if axis.name in INPUTS}
        options = Options(phase, **named, **self.conventions).with_widths(model.published)
        free = frozenset(symbol_of(name, phase) for name in {*self.names, *self.overridden})
        return StepFormulas(model, options, free, self.each, self.techniques, machine)

    def _check_values(self, model: Model, phase: str) -> None:
        """Raise where a technique does not fit one of the values: a rank above the matrix, a degree that does not divide."""
        if not self.techniques or not all(isinstance(technique, Technique) for technique in self.techniques):
            return
        inputs = {name: int(axis.values[0]) for name, axis in self.fixed.items() if name in SIZES}
        for variable in self.axes:
            symbol = symbol_of(variable.name, phase)
            parameter = any(symbol in technique.free for technique in self.techniques)
            if not parameter and variable.name not in SIZES:
                continue
            places = np.unique(np.linspace(0, len(variable) - 1, min(len(variable), MOST_CHECKED)).astype(int))
            for value in variable.values[places]:
                given = inputs if parameter else {**inputs, variable.name: int(value)}
                chained = with_number(self.techniques, symbol, Rational(str(value))) if parameter else self.techniques
                try:
                    model.step(Options(phase, **given, **self.conventions)).apply(*chained)
                except InputError as error:
                    many, name = multiple_of(self.techniques, symbol), variable.name
                    most = int(variable.values.max()) if many.is_Integer and int(value) % many else 0
                    right = f"; multiples of {many} do, as {name}={many}:{most}:{many}" if most >= many else ""
                    raise InputError(f"{name} {value:g}: {error}{right}") from None

    def _scenario(self, step: StepFormulas, device: Device | None, programs: Mapping[str, Program], *, phase: str, **said: Any) -> Scenario:
        letters = {axis.name: str(symbol_of(axis.name, phase)) for axis in self.axes}
        constants = {"b": 1.0} | {str(symbol_of(name, phase)): float(axis.values[0]) for name, axis in self.fixed.items()}
        used = {letter for known in programs.values() for letter in known.inputs}
        largest = {symbol_of(axis.name, phase): Rational(str(axis.values.max())) for axis in self.axes}
        machine = linked(step.graph, device.machine.with_ceilings(self.ceilings), largest=largest) if device else None
        constants |= {letter: _figure(device, machine, letter) for letter in sorted(used - {*constants, *letters.values(), *step.shares})}
        constants = {letter: value for letter, value in constants.items() if letter not in letters.values()}
        peaks = step.peaks(device, self._widths) if device and step.shares else {}
        widths = {str(symbol): values for symbol, values in self._widths.items()} if peaks else {}
        tables = {"letters": letters, "constants": constants, "widths": widths, "peaks": peaks}
        return Scenario(hardware=device.name if device else ANY, phase=phase, programs=programs, **tables, **said)

    @functools.cached_property
    def _widths(self) -> dict[Symbol, np.ndarray]:
        """The distinct values of the widths that are swept over."""
        named = {symbols.lookup(axis.name).symbol: axis.values for axis in self.axes}
        widths = {symbol: np.unique(values) for symbol, values in named.items() if symbol in costs.WIDTHS}
        if math.prod(map(len, widths.values())) > MOST_WIDTHS:
            combined = " x ".join(str(len(values)) for values in widths.values())
            raise InputError(f"{combined} combinations of widths are more than {MOST_WIDTHS}")
        return widths

    def _attributes(self) -> dict[str, str]:
        """What the numbers follow from: inputs, conventions, versions, and the source of every figure."""
        lines = {key: step.statements for key, step in self.steps.items()}
        common = [line for line in next(iter(lines.values())) if all(line in other for other in lines.values())]
        own = [f"{model}, {phase}: {line}" for (model, phase, _), several in lines.items() for line in several if line not in common]
        defaults = {"batch": "1", **dict.fromkeys(WIDTHS, f"as published, else {BITS}"), "activation_bits": str(BITS)}
        inputs = {name: value for name, value in defaults.items() if name not in self.names}
        inputs |= {name: f"{axis.values[0]:g}" for name, axis in self.fixed.items()}
        provenance = view("provenance")
        sources = [f"{device.name}: {line}" for device in self.devices if device for line in provenance(device, tuple(device.peaks))]
        if self.overridden:
            roof = "; one peak for all operators" if "peak" in self.overridden else ""
            common.append(f"{' and '.join(self.overridden)} as given, instead of the device's{roof}")
        return {
            "title": " + ".join(("roofline sweep", *(getattr(technique, "text", "a rewrite") for technique in self.techniques))),
            "conventions": "\n".join(dict.fromkeys([*common, *own])),
            "inputs": ", ".join(f"{name} = {value}" for name, value in inputs.items()),
            "sources": "\n".join(sources),
            "software": f"symroof {__version__}",
        }


_in_symbols = functools.cache(in_symbols)
"""A symbolic machine, one per set of resources."""


def _several(given: Any, what: str, kind: type, load: Any) -> tuple[Any, ...]:
    """One or several, loaded, none twice."""
    several = [given] if isinstance(given, kind | str | Path) else list(given)
    if not several:
        raise InputError(f"{what} []: name at least one")
    loaded = [entry if isinstance(entry, kind) else load(entry) for entry in several]
    names = [getattr(entry, "name", entry) for entry in loaded]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{what} {quote(name)} is given twice")
    return tuple(loaded)


def _figure(device: Device | None, machine: Machine | None, letter: str) -> float:
    """What a device states for a symbol: a rate, a latency, its memory, or what FlashAttention's blocks follow from.

    Those are buffer, cache and processors. A latency that nothing states is none.

    Raises
    ------
    DeviceError
        It does not state that.
    """
    resource = next((resource for resource, known in {**RATE_SYMBOLS, **UNITS}.items() if str(known) == letter), None)
    if machine is not None and resource is not None:
        return float(UNLIMITED if resource is Resource.PEER and resource not in machine.rates else machine.rate(resource))
    if (late := next((known for known in LATENCIES if str(known) == letter), None)) is not None:
        return float(machine.latencies.get(late, 0)) if machine else 0.0
    if device is not None and letter in (str(symbols.M_L), str(symbols.n_c)):
        shared = device.cache_capacity_expr is not None and device.processors is not None
        figures = {str(symbols.M_L): device.cache_capacity_expr, str(symbols.n_c): device.processors} if shared else {}
        return float(figures.get(letter, UNLIMITED))
    if device is not None and letter == str(symbols.M):
        if device.buffer_expr is None:
            raise DeviceError(f"device {quote(device.name)} states no on-chip buffer; FlashAttention's block rows follow from it")
        return float(device.buffer_expr)
    if device is not None and device.usable_figure is not None and letter == str(CAPACITY):
        return float(device.usable_figure.value)
    raise InputError(f"{symbols.lookup(letter).name} ({letter}) is still a symbol: give it a number, or sweep over it")
