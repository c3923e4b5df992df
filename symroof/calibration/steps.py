"""Whole steps that others measured, held against the bound and against the sum of calibrated kernels; nothing is fitted to a step.

A file has one published measurement a row: ``model, device, devices, precision, engine, phase, batch, prompt, context_or_output,
metric, value, unit, source``, with the bits of weights, activations and cache as precision.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from sympy import Rational

from symroof.architectures.model import load_model
from symroof.architectures.options import Options
from symroof.architectures.step import Step
from symroof.calibration.fit import errors
from symroof.errors import DeviceError, InputError, SymroofError, quote
from symroof.files import reading
from symroof.hardware.calibration import Calibration, Errors, Trait
from symroof.hardware.loader import load_hardware
from symroof.hardware.machine import CALIBRATED, STATED
from symroof.operators import Kind, Operator, Role
from symroof.operators.tensor import Tensor
from symroof.roof.analysis import analyze
from symroof.roof.kernel_forms import Kernel, kernel_of
from symroof.techniques.registry import technique

COLUMNS = ("model", "device", "devices", "precision", "engine", "phase", "batch", "prompt", "context_or_output", "value", "unit", "source")
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
PHASES = ("prefill", "decode", "generate")


@dataclass(frozen=True)
class Point:
    """One published measurement.

    Attributes
    ----------
    devices : how many share the step; half of one is one die of two.
    bits : of weights, activations and cache.
    prompt, output : tokens; of decode those generated after it, so that the context is in the middle of them.
    seconds : of a prompt, of a step that gives every sequence a token, or of both, as the phase says.
    """

    model: str
    device: str
    devices: float
    bits: tuple[str, str, str]
    engine: str
    phase: str
    batch: int
    prompt: int
    output: int
    seconds: float
    source: str

    @property
    def context(self) -> int:
        """Tokens that a decode step looks at, in the middle of what is generated."""
        return self.prompt + max(1, self.output // 2)

    @property
    def sixteen(self) -> bool:
        """Whether all is at 16 bits."""
        return self.bits == ("16", "16", "16")


@dataclass(frozen=True)
class StepValidation:
    """A published measurement, and what was told of it.

    Attributes
    ----------
    bound : least seconds with everything fused that engines fuse (``fuse:preset=engine``), shared equally by the devices.
    predicted : the sum of calibrated kernels, as engines fuse them; None where the device, or the widths, have none.
    missing : why there is none.
    """

    point: Point
    bound: float
    predicted: float | None = None
    missing: str = ""

    @property
    def reached(self) -> float:
        """Least over measured time."""
        return self.bound / self.point.seconds


def is_steps(path: str | Path) -> bool:
    """Whether a file is of whole steps: it names their phase and engine."""
    try:
        with reading(Path(path)) as stream:
            return {"phase", "engine"} <= set(next(csv.reader(stream), []))
    except (InputError, csv.Error):
        return False  # who reads it says what is wrong


def read_points(path: str | Path) -> tuple[Point, ...]:
    """The published measurements in a file; rows without batch or lengths are left out.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, or has a value that makes no sense; one line says where.
    """
    origin = quote(str(path))
    try:
        with reading(Path(path)) as stream:
            table = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise InputError(f"{origin}: no column {', '.join(missing)}; a file of whole steps has {', '.join(COLUMNS)}")
            return tuple(point for line, row in enumerate(table, 2) if (point := _point(f"{origin} line {line}", row)) is not None)
    except csv.Error as fault:
        raise InputError(f"{origin} is not CSV: {fault}") from None


def _point(where: str, row: dict[str, str]) -> Point | None:
    if not all(row[name] for name in ("batch", "prompt", "context_or_output")):
        return None
    try:
        devices, value = float(row["devices"]), float(row["value"])
        batch, prompt, output = (int(row[name]) for name in ("batch", "prompt", "context_or_output"))
    except (TypeError, ValueError):
        raise InputError(f"{where}: devices, batch, prompt, context_or_output and value are numbers") from None
    bits = tuple(row["precision"].split("/"))
    if row["phase"] not in PHASES or len(bits) != 3 or not (value > 0 and devices > 0 and batch > 0 and prompt >= 0 and output >= 0):
        raise InputError(f"{where}: expected a phase of {', '.join(PHASES)}, a precision such as 16/16/16, and numbers above 0")
    rate = {"prefill": batch * prompt, "decode": batch, "generate": batch * output}[row["phase"]]
    unit = row["unit"]
    if unit not in SECONDS and unit != "token/s":
        raise InputError(f"{where}: unit {quote(unit)}: expected token/s, s, ms or us")
    seconds = rate / value if unit == "token/s" else value * SECONDS[unit]
    weights, activations, cache = bits
    named = {name: row[name] for name in ("model", "device", "engine", "phase", "source")}
    sizes = {"devices": devices, "batch": batch, "prompt": prompt, "output": output}
    return Point(**named, **sizes, bits=(weights, activations, cache), seconds=seconds)  # pyright: ignore[reportArgumentType]


def as_engines_fuse(step: Step) -> Step:
    """The step with the kernels of today's engines: projections of one activation as one product, a residual addition with the
    norm behind it, the rotary embeddings of queries and keys together.

    >>> import symroof
    >>> step = as_engines_fuse(symroof.load_model("llama-3-8b").decode(symbolic=True, flash_attention=True))
    >>> [operator.name for operator in step.symbolic.blocks[1].operators if operator.is_group]
    ['q_proj+k_proj+v_proj', 'q_rotary+k_rotary', 'attn_add+mlp_norm', 'gate_proj+up_proj']
    """
    names = ("+".join(one.name for one in group) for block in step.symbolic.blocks for group in _groups(list(block.operators)))
    return step.apply(*(technique(f"fuse:operators={name}") for name in names))


def _groups(operators: list[Operator]) -> Iterator[list[Operator]]:
    """Runs of neighbours that engines launch as one kernel."""
    place = 0
    while place < len(operators):
        group = [operators[place]]
        while place + len(group) < len(operators) and _joins(group, operators[place + len(group)]):
            group.append(operators[place + len(group)])
        if len(group) > 1:
            yield group
        place += len(group)


def _joins(group: list[Operator], other: Operator) -> bool:
    first = group[0]
    if first.kind is Kind.ROTARY and other.kind is Kind.ROTARY:
        return True
    if first.role is Role.ADD and other.kind is Kind.NORM:
        return len(group) == 1 and first.result in {access.tensor for access in other.reads}
    products = first.role is Role.PROJECTION and other.role is Role.PROJECTION
    return products and kernel_of(first) is kernel_of(other) is Kernel.GEMM and _input(first) is _input(other)


def _input(operator: Operator) -> Tensor:
    return operator.reads[0].tensor


def validate_step(point: Point) -> StepValidation:
    """Hold what is told of a step against its measurement.

    Raises
    ------
    SymroofError
        The model or the device is not known, or the step cannot be told.
    """
    device = load_hardware(point.device)
    fused = technique("fuse:preset=engine")  # element-wise operators through memory would be no bound for engines that fuse them
    bound = sum(count * _seconds(step.apply(fused), device, STATED) for step, count in _steps(point)) / point.devices
    found = StepValidation(point, bound)
    if device.calibration is None:
        return replace(found, missing="no kernels of the device were measured")
    if point.devices != 1:
        return replace(found, missing="links between devices are not calibrated")
    own = replace(device, calibration=_split_everywhere(device.calibration))
    try:
        steps = [(as_engines_fuse(step), count) for step, count in _steps(point)]
        analyses = [(analyze(step, own, ceilings=CALIBRATED), count) for step, count in steps]
    except DeviceError as error:
        return replace(found, missing=str(error))
    alone = {one.name for analysis, _ in analyses for one in analysis if one.constants is None}
    if alone:
        return replace(found, missing=f"not calibrated: {', '.join(sorted(alone))}")
    return replace(found, predicted=sum(count * float(analysis.total.time_expr) for analysis, count in analyses))


def _split_everywhere(calibration: Calibration) -> Calibration:
    """The constants without what is peculiar to how the measured kernels were called: FlashAttention 2 that splits no context of
    heads without a group, and copies queries of others.
    """
    return replace(calibration, kernels=tuple(replace(one, traits=one.traits - {Trait.GROUPED}) for one in calibration.kernels))


def _seconds(step: Step, device: object, ceilings: str) -> float:
    return float(analyze(step, device, ceilings=ceilings).total.time_expr)  # pyright: ignore[reportArgumentType]


def _steps(point: Point) -> Iterator[tuple[Step, int]]:
    """The steps of a measurement, and how often each occurs; a prompt gives the first token."""
    model = load_model(point.model)
    weights, activations, cache = point.bits
    whole = weights.isdigit()
    common = Options("decode", point.batch, None, int(weights) if whole else 16, int(activations), int(cache), flash_attention=True)
    changes = () if whole else (technique(f"quantize:weights={Rational(weights)}"),)
    both = point.phase == "generate"
    if both or point.phase == "prefill":
        yield model.step(replace(common, phase="prefill", seq_len=point.prompt)).apply(*changes), 1
    if both or point.phase == "decode":
        yield model.step(replace(common, seq_len=point.context)).apply(*changes), point.output - 1 if both else 1


@dataclass(frozen=True)
class StepClass:
    """Measurements of one kind, together.

    Attributes
    ----------
    reached : least over measured time of each.
    errors : of the calibrated times, where there are some.
    """

    phase: str
    device: str
    bits: str
    engines: tuple[str, ...]
    reached: np.ndarray = field(repr=False)
    errors: Errors | None


def classes(found: list[StepValidation]) -> tuple[StepClass, ...]:
    """Measurements by phase, device and widths, in this order."""
    grouped: dict[tuple[str, str, str], list[StepValidation]] = {}
    for one in found:
        several = f"{one.point.devices:g} x " if one.point.devices != 1 else ""
        width = "/".join(one.point.bits) if one.point.bits[0].isdigit() and float(one.point.bits[0]) > 5 else "<= 5 bit weights"
        grouped.setdefault((one.point.phase, several + one.point.device, width), []).append(one)
    made = []
    for (phase, device, bits), members in sorted(grouped.items(), key=lambda item: (PHASES.index(item[0][0]), item[0])):
        told = [one for one in members if one.predicted is not None]
        error = errors(np.array([one.predicted for one in told]), np.array([one.point.seconds for one in told])) if told else None
        engines = tuple(sorted({one.point.engine for one in members}))
        made.append(StepClass(phase, device, bits, engines, np.array([one.reached for one in members]), error))
    return tuple(made)


def validate_steps(path: str | Path) -> tuple[list[StepValidation], list[tuple[Point, str]]]:
    """Every measurement of a file that can be told of, and the others with the reason."""
    told, left = [], []
    for point in read_points(path):
        try:
            told.append(validate_step(point))
        except SymroofError as error:
            left.append((point, str(error)))
    return told, left
