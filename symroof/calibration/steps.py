"""Published measurements of whole steps, compared with the bound and with the sum of calibrated kernels; nothing is fitted to a step.

A file has one published measurement per row: ``model, device, devices, precision, engine, phase, batch, prompt, context_or_output,
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
    devices : the number of devices that share the step; 1/2 for one die of two.
    bits : widths of weights, activations and cache.
    prompt, output : tokens; in decode, output tokens are generated after the prompt, and the mean context is in their middle.
    seconds : of a prefill, of a decode step, or of both, depending on the phase.
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
        """The context of a decode step in the middle of the generated tokens."""
        return self.prompt + max(1, self.output // 2)

    @property
    def sixteen(self) -> bool:
        """Whether all widths are 16 bits."""
        return self.bits == ("16", "16", "16")


@dataclass(frozen=True)
class StepValidation:
    """A published measurement with its bound and prediction.

    Attributes
    ----------
    bound : least seconds with ``fuse:preset=engine``, divided evenly between the devices.
    predicted : the sum of calibrated kernels, fused as in engines; None if the device, or a width, has no constants.
    missing : why there is no prediction.
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
    """Whether a file has measurements of whole steps, by its columns phase and engine."""
    try:
        with reading(Path(path)) as stream:
            return {"phase", "engine"} <= set(next(csv.reader(stream), []))
    except (InputError, csv.Error):
        return False  # the reader reports the error


def read_points(path: str | Path) -> tuple[Point, ...]:
    """The published measurements in a file; rows without batch or lengths are left out.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, or has an invalid value.
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
    """The step with the kernels of current engines: projections of one activation fused, a residual addition fused with the next
    norm, and the rotary embeddings of queries and keys fused.

    >>> import symroof
    >>> step = as_engines_fuse(symroof.load_model("llama-3-8b").decode(symbolic=True, flash_attention=True))
    >>> [operator.name for operator in step.symbolic.blocks[1].operators if operator.is_group]
    ['q_proj+k_proj+v_proj', 'q_rotary+k_rotary', 'attn_add+mlp_norm', 'gate_proj+up_proj']
    """
    names = ("+".join(operator.name for operator in group) for block in step.symbolic.blocks for group in _groups(list(block.operators)))
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
    """Compare the bound and the prediction of a step with its measurement.

    Raises
    ------
    SymroofError
        The model or the device is unknown, or the step is not supported.
    """
    device = load_hardware(point.device)
    fused = technique("fuse:preset=engine")  # element-wise operators through memory would be no bound for engines that fuse them
    bound = sum(count * _seconds(step.apply(fused), device, STATED) for step, count in _steps(point)) / point.devices
    validation = StepValidation(point, bound)
    if device.calibration is None:
        return replace(validation, missing="no kernels of the device were measured")
    if point.devices != 1:
        return replace(validation, missing="links between devices are not calibrated")
    own = replace(device, calibration=_split_everywhere(device.calibration))
    try:
        steps = [(as_engines_fuse(step), count) for step, count in _steps(point)]
        analyses = [(analyze(step, own, ceilings=CALIBRATED), count) for step, count in steps]
    except DeviceError as error:
        return replace(validation, missing=str(error))
    alone = {operator.name for analysis, _ in analyses for operator in analysis if operator.constants is None}
    if alone:
        return replace(validation, missing=f"not calibrated: {', '.join(sorted(alone))}")
    return replace(validation, predicted=sum(count * float(analysis.total.time_expr) for analysis, count in analyses))


def _split_everywhere(calibration: Calibration) -> Calibration:
    """The constants without effects of how the measured kernels were called: FlashAttention 2 did not split contexts of heads
    without a group, and copied queries of others.
    """
    return replace(calibration, kernels=tuple(replace(kernel, traits=kernel.traits - {Trait.GROUPED}) for kernel in calibration.kernels))


def _seconds(step: Step, device: object, ceilings: str) -> float:
    return float(analyze(step, device, ceilings=ceilings).total.time_expr)  # pyright: ignore[reportArgumentType]


def _steps(point: Point) -> Iterator[tuple[Step, int]]:
    """The steps of a measurement with their counts; prefill yields the first token."""
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
    """Measurements grouped by phase, device and widths.

    Attributes
    ----------
    reached : least over measured time of each.
    errors : errors of the calibrated times, if any.
    """

    phase: str
    device: str
    bits: str
    engines: tuple[str, ...]
    reached: np.ndarray = field(repr=False)
    errors: Errors | None


def classes(validations: list[StepValidation]) -> tuple[StepClass, ...]:
    """Measurements by phase, device and widths, in this order."""
    grouped: dict[tuple[str, str, str], list[StepValidation]] = {}
    for member in validations:
        several = f"{member.point.devices:g} x " if member.point.devices != 1 else ""
        width = "/".join(member.point.bits) if member.point.bits[0].isdigit() and float(member.point.bits[0]) > 5 else "<= 5 bit weights"
        grouped.setdefault((member.point.phase, several + member.point.device, width), []).append(member)
    made = []
    for (phase, device, bits), members in sorted(grouped.items(), key=lambda item: (PHASES.index(item[0][0]), item[0])):
        predicted = [member for member in members if member.predicted is not None]
        times = np.array([(member.predicted, member.point.seconds) for member in predicted])
        error = errors(times[:, 0], times[:, 1]) if predicted else None
        engines = tuple(sorted({member.point.engine for member in members}))
        made.append(StepClass(phase, device, bits, engines, np.array([member.reached for member in members]), error))
    return tuple(made)


def validate_steps(path: str | Path) -> tuple[list[StepValidation], list[tuple[Point, str]]]:
    """Every measurement of a file that is supported, and the others with the reason."""
    validated, left = [], []
    for point in read_points(path):
        try:
            validated.append(validate_step(point))
        except SymroofError as error:
            left.append((point, str(error)))
    return validated, left
