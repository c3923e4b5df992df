"""From what a user asks to a `Request`: everything is looked up, checked and compiled before any number is computed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from sympy import Integer, Rational, Symbol

from symroof import __version__, symbols
from symroof.answers import view
from symroof.architectures.model import Model, load_model
from symroof.architectures.options import PHASES, Options
from symroof.errors import InputError, nearest, quote
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.roof.costs import WIDTHS
from symroof.sweeps.axes import Axis, axes, axis, symbol_of
from symroof.sweeps.engines import engine_for
from symroof.sweeps.formulas import StepFormulas, buffer_of, rate_constants, step_formulas
from symroof.sweeps.inputs import member
from symroof.sweeps.metrics import chosen, needed
from symroof.sweeps.request import Request
from symroof.sweeps.scenario import Cell
from symroof.techniques.registry import with_number
from symroof.techniques.technique import Technique

INPUTS = ("batch", "seq_len", "weight_bits", "activation_bits", "kv_bits", "peak", "bandwidth")
CONVENTIONS = tuple(field.name for field in fields(Options) if field.name not in ("phase", *INPUTS))
MOST_WIDTHS = 4096
ANY = "any"


@dataclass(frozen=True)
class Asked:
    """What a sweep ranges over and what stays fixed."""

    axes: tuple[Axis, ...]
    points: bool
    fixed: Mapping[str, Axis]
    conventions: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The swept variables."""
        return tuple(one.name for one in self.axes)

    def open_letters(self, phase: str) -> frozenset[Symbol]:
        """The symbols that vary, with peak and bandwidth where they are overridden."""
        return frozenset(symbol_of(name, phase) for name in (*self.names, *(name for name in ("peak", "bandwidth") if name in self.fixed)))


def request(
    models: Any,
    hardware: Any,
    over: Mapping[str, Any],
    *,
    phase: str | Sequence[str] = "decode",
    metrics: Sequence[str] | None = None,
    per: str = "total",
    points: bool = False,
    engine: str = "auto",
    techniques: Sequence[Technique] = (),
    **fixed: Any,
) -> Request:
    """Everything a sweep computes, checked; see `symroof.sweeps.sweep.sweep` for the parameters.

    Raises
    ------
    SymroofError
        Something asked for makes no sense; one line says what.
    """
    member("per", per, ("total", "operator"))
    if engine == "exact":
        raise InputError("engine 'exact': a sweep is in float64; `compiled(..., engine='exact')` checks single points")
    phases = _several(phase, "phase", str, str)
    for one in phases:
        member("phase", one, PHASES)
    asked = _asked(over, points, fixed)
    loaded = _several(models, "model", Model, load_model)
    devices = [None] if hardware is None else _several(hardware, "hardware", Device, load_hardware)
    if hardware is None and not {"peak", "bandwidth"} <= {*asked.names, *asked.fixed}:
        raise InputError("without hardware both peak and bandwidth must be given")
    capacities = all(device is not None and device.capacity_figure is not None for device in devices)
    wanted = chosen(metrics, per, capacities)
    cells: list[Cell] = []
    steps: list[StepFormulas] = []
    for model, device, one in itertools.product(loaded, devices, phases):
        step = next((known for cell, known in zip(cells, steps, strict=True) if (cell.model, cell.phase) == (model.name, one)), None)
        if step is None:
            step = _step(model, one, asked, needed(wanted), per == "operator", techniques)
            _check_values(model, one, asked, techniques)
        steps.append(step)
        cells.append(_cell(model, device, one, asked, step))
    operators = tuple(dict.fromkeys(part.part for cell in cells for part in cell.parts)) if per == "operator" else None
    names = [device.name if device else ANY for device in devices]
    built = Request(
        *(asked.axes, points, tuple(model.name for model in loaded), tuple(names), phases, tuple(cells), operators, wanted, "numpy"),
        attributes=_attributes(asked, cells, steps, devices, techniques),
    )
    if engine == "auto" and per == "operator":
        engine = "numpy"
    return replace(built, engine=engine_for(engine, built.size))


def _several(given: Any, what: str, kind: type, load: Any) -> tuple[Any, ...]:
    """One or several, loaded, none twice."""
    several = [given] if isinstance(given, kind | str | Path) else list(given)
    if not several:
        raise InputError(f"{what} []: name at least one")
    loaded = [one if isinstance(one, kind) else load(one) for one in several]
    names = [getattr(one, "name", one) for one in loaded]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{what} {quote(name)} is given twice")
    return tuple(loaded)


def _asked(over: Mapping[str, Any], points: bool, fixed: Mapping[str, Any]) -> Asked:
    found = axes(over, points)
    numbers, conventions = {}, {}
    for name, value in fixed.items():
        if name in CONVENTIONS:
            conventions[name] = value
        elif name not in INPUTS:
            raise InputError(f"{quote(name)} is not an input of a step: {nearest(name, (*INPUTS, *CONVENTIONS))}")
        elif value is not None:
            if name in {one.name for one in found}:
                raise InputError(f"{name} is both fixed and swept over: leave one of the two out")
            numbers[name] = axis(name, value)
            if len(numbers[name]) > 1:
                raise InputError(f"{name} {quote(value)}: several values belong into over")
    if "seq_len" not in numbers and "seq_len" not in {one.name for one in found}:
        raise InputError("seq_len must be given, as a number or in over")
    return Asked(found, points, numbers, conventions)


def _step(model: Model, phase: str, asked: Asked, wanted: tuple[str, ...], each: bool, techniques: Sequence[Technique]) -> StepFormulas:
    """The formulas with the fixed inputs in them; statements are those of the largest inputs."""
    inputs = {"batch": 1, "weight_bits": model.weight_bits, "activation_bits": 16, "kv_bits": 16}
    inputs |= {name: int(one.values[0]) for name, one in asked.fixed.items() if name not in ("peak", "bandwidth")}
    inputs |= {one.name: int(one.values.max()) for one in asked.axes if one.name in INPUTS[:5]}
    options = Options(phase, **inputs, **asked.conventions)
    return step_formulas(model, options, asked.open_letters(phase), wanted, each, techniques)


MOST_CHECKED = 64
"""Values of a variable at which a chain of techniques is checked before a sweep; of more, evenly many."""


def _check_values(model: Model, phase: str, asked: Asked, techniques: Sequence[Technique]) -> None:
    """Raise where a technique does not fit one of the values: a rank above the matrix, a degree that does not divide."""
    if not techniques or not all(isinstance(one, Technique) for one in techniques):
        return
    inputs = {name: int(one.values[0]) for name, one in asked.fixed.items() if name in INPUTS[:2]}
    for one in asked.axes:
        symbol = symbol_of(one.name, phase)
        own = any(symbol in technique.free for technique in techniques)
        if not own and one.name not in INPUTS[:2]:
            continue
        places = np.unique(np.linspace(0, len(one) - 1, min(len(one), MOST_CHECKED)).astype(int))
        for value in one.values[places]:
            given = inputs if own else {**inputs, one.name: int(value)}
            number = Rational(str(value)) if own else None
            chained = techniques if number is None else with_number(techniques, symbol, number)
            try:
                model.step(Options(phase, **given, **asked.conventions)).apply(*chained)
            except InputError as error:
                raise InputError(f"{one.name} {value:g}: {error}") from None


def _cell(model: Model, device: Device | None, phase: str, asked: Asked, step: StepFormulas) -> Cell:
    letters = {one.name: str(symbol_of(one.name, phase)) for one in asked.axes}
    constants = {str(symbol_of(name, phase)): float(one.values[0]) for name, one in asked.fixed.items()}
    constants.setdefault("b", 1.0)
    if device is not None:
        used = {letter for part in step.parts for letter in part.program.inputs} - letters.keys() - constants.keys()
        constants = {**rate_constants(device, used), **buffer_of(device, step), **constants}
    constants = {letter: value for letter, value in constants.items() if letter not in letters.values()}
    inputs = {letter for part in step.parts for letter in part.program.inputs}
    for letter in sorted(inputs - constants.keys() - set(letters.values()) - step.shares.keys()):
        raise InputError(f"{symbols.lookup(letter).name} ({letter}) is still a symbol: give it a number, or sweep over it")
    widths, peaks = _peaks(device, asked, step)
    capacity = float(device.capacity_figure.value) if device and device.capacity_figure else None
    return Cell(model.name, device.name if device else ANY, phase, step.parts, letters, constants, widths, peaks, capacity)


def _peaks(device: Device | None, asked: Asked, step: StepFormulas) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Which peak applies at every combination of the swept widths: a step function, looked up and never interpolated."""
    if device is None or not step.shares:
        return {}, {}
    swept = {symbol: np.unique(one.values) for one in asked.axes for symbol in WIDTHS if symbols.lookup(one.name).symbol == symbol}
    shape = tuple(len(values) for values in swept.values())
    if np.prod(shape) > MOST_WIDTHS:
        raise InputError(f"{' x '.join(map(str, shape))} combinations of widths are more than {MOST_WIDTHS}")
    tables = {letter: np.empty(shape) for letter in step.shares}
    for place in np.ndindex(shape):
        bits = {symbol: Integer(int(values[at])) for (symbol, values), at in zip(swept.items(), place, strict=True)}
        for letter, peak in step.peaks(device, bits).items():
            tables[letter][place] = peak
    return {str(symbol): values for symbol, values in swept.items()}, tables


def _attributes(
    asked: Asked, cells: Sequence[Cell], steps: Sequence[StepFormulas], devices: Sequence[Device | None], techniques: Sequence[Technique]
) -> dict[str, str]:
    """What the numbers follow from: inputs, conventions, versions, and the source of every figure."""
    lines = {(cell.model, cell.phase): step.statements for cell, step in zip(cells, steps, strict=True)}
    common = [line for line in next(iter(lines.values())) if all(line in other for other in lines.values())]
    own = [f"{model}, {phase}: {line}" for (model, phase), several in lines.items() for line in several if line not in common]
    defaults = {"batch": "1", "weight_bits": "as published, else 16", "activation_bits": "16", "kv_bits": "16"}
    inputs = {name: value for name, value in defaults.items() if name not in asked.names}
    inputs |= {name: f"{one.values[0]:g}" for name, one in asked.fixed.items()}
    sources = [f"{device.name}: {line}" for device in devices if device for line in view("provenance")(device, tuple(device.peaks))]
    overridden = [name for name in ("peak", "bandwidth") if name in (*asked.names, *asked.fixed)]
    if overridden:
        roof = "; one peak for all operators" if "peak" in overridden else ""
        common.append(f"{' and '.join(overridden)} as given, in the place of the device's{roof}")
    return {
        "title": " + ".join(("roofline sweep", *(getattr(one, "text", "a rewrite") for one in techniques))),
        "conventions": "\n".join([*common, *own]),
        "inputs": ", ".join(f"{name} = {value}" for name, value in inputs.items()),
        "sources": "\n".join(sources),
        "software": f"symroof {__version__}",
    }
