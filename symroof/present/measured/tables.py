"""How calibrations and validations look: constants with their errors, errors by regime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sympy import Float

from symroof.calibration.steps import Point, StepValidation, classes
from symroof.calibration.validate import Validation
from symroof.hardware.calibration import CONSTANTS, Calibration, KernelConstants
from symroof.present.report import Report
from symroof.present.tabular import Column, Table


def _plain(name: str, unit: str = "", title: str = "", rank: int = 0) -> Column:
    """A column of numbers without prefixes."""
    return Column(name, unit, title, numeric=True, prefixed=False, rank=rank)


def widths_of(one: Any) -> str:
    """The widths a kernel reads, as 16 or 4/16."""
    return "/".join(map(str, sorted(one.widths))) or "any"


def calibration_report(calibration: Calibration) -> Report:
    """The constants of every kernel, and their errors on the rows that were not fitted."""
    constants = Table(
        f"constants of kernels on {calibration.device}",
        (Column("kernel"), Column("bits"), Column("constant"), _plain("value"), Column("unit")),
        tuple(
            (str(one.kernel), widths_of(one), constant.name, _digits(one, constant), "us" if constant.is_time else "")
            for one in calibration.kernels
            for constant in CONSTANTS[one.kernel]
        ),
        tuple(f"{one.kernel}, {widths_of(one)} bits: {note}" for one in calibration.kernels for note in one.notes),
    )
    return Report((error_table(calibration.kernels), constants), record=lambda: calibration_record(calibration))


def _digits(one: KernelConstants, constant: Any) -> str:
    value = float(Float(one[constant.symbol]))
    return f"{value * 1e6:.4g}" if constant.is_time else f"{value:.4g}"


ERRORS = (
    Column("regime"),
    _plain("rows"),
    *(_plain(name, "%", title, rank) for name, title, rank in (("mape", "MAPE", 0), ("median", "", 2), ("p90", "", 3), ("bias", "", 4))),
)


def error_table(kernels: Sequence[KernelConstants]) -> Table:
    """The errors of kernels on the rows that were not fitted."""
    rows = tuple(
        (str(one.kernel), widths_of(one), one.name, regime, str(error.rows), *_figures(error), _floor(one.floor))
        for one in kernels
        for regime, error in one.error.items()
    )
    columns = (Column("kernel"), Column("bits"), Column("name"), *ERRORS, _plain("floor", "%", rank=1))
    return Table("errors on the rows that were not fitted", columns, rows)


def _figures(error: Any) -> tuple[str, ...]:
    return tuple(f"{getattr(error, name):.1f}" for name in ("mape", "median", "p90", "bias"))


def _floor(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def calibration_record(calibration: Calibration) -> dict[str, Any]:
    """The record of `symroof calibrate --format json`: seconds, shares, percent."""
    return {
        "device": calibration.device,
        "date": calibration.date,
        "kernels": [
            {
                **_named(one),
                "traits": sorted(one.traits),
                "rows": one.rows,
                "constants": {constant.name: float(Float(one[constant.symbol])) for constant in CONSTANTS[one.kernel]},
                "loop": one.loop,
                "errors": {regime: vars(error) for regime, error in one.error.items()},
                "floor": one.floor,
                "notes": list(one.notes),
            }
            for one in calibration.kernels
        ],
    }


def _named(one: Any) -> dict[str, Any]:
    return {"kernel": str(one.kernel), "widths": sorted(one.widths), "name": one.name}


def stated_report(calibrations: Sequence[Calibration]) -> Report:
    """What the constants of several devices say of their errors."""
    kernels = [one for calibration in calibrations for one in calibration.kernels]
    names = [calibration.device for calibration in calibrations for one in calibration.kernels for _ in one.error]
    table = error_table(kernels)
    rows = tuple((name, *row) for name, row in zip(names, table.rows, strict=True))
    return Report(
        (Table(table.title, (Column("device"), *table.columns), rows),), record=lambda: [calibration_record(one) for one in calibrations]
    )


def validation_report(found: Sequence[Validation], predicted_steps: list[StepValidation], left: Sequence[tuple[Point, str]]) -> Report:
    """Kernels: errors by regime, rows beyond the bound, the floor; whole steps: by class, and those that kernels predict."""
    notes = [f"left out: {point.model} on {point.device}: {why}" for point, why in left]
    kernels = (kernel_table(found), bound_table(found)) if found else ()
    steps = (class_table(predicted_steps, notes), step_error_table(predicted_steps)) if predicted_steps else ()
    return Report(
        (*kernels, *steps),
        record=lambda: {"kernels": [validation_record(one) for one in found], "steps": [step_record(one) for one in predicted_steps]},
    )


NAMED = (Column("device"), Column("kernel"), Column("bits"), Column("name"))


def _row(one: Validation) -> tuple[str, ...]:
    return (one.device.name, str(one.rows.kernel), widths_of(one.rows), one.rows.name)


def kernel_table(found: Sequence[Validation]) -> Table:
    """Errors of calibrated times by regime."""
    rows = tuple(
        (*_row(one), regime, str(error.rows), *_figures(error), _floor(one.floor)) for one in found for regime, error in one.errors.items()
    )
    columns = (*NAMED, *ERRORS, _plain("floor", "%", rank=1))
    return Table("errors of calibrated times", columns, rows)


def bound_table(found: Sequence[Validation]) -> Table:
    """How many rows are faster than the least time, and how near the others come to it."""
    counts = [_plain(name) for name in ("rows", "beyond the bound", "of them in cache")]
    reached = _plain("reached", "%", "median bound / time")
    rows = tuple((*_row(one), len(one.rows), f"{100 * one.reached:.0f}", int(one.beyond.sum()), one.beyond_resident) for one in found)
    return Table("rows against the bound", (*NAMED, counts[0], reached, *counts[1:]), rows)


def validation_record(one: Validation) -> dict[str, Any]:
    """The record of one kernel of `symroof validate --format json`."""
    return {
        "device": one.device.name,
        **_named(one.rows),
        "rows": len(one.rows),
        "errors": {regime: vars(error) for regime, error in one.errors.items()},
        "floor": one.floor,
        "reached": one.reached,
        "beyond_bound": int(one.beyond.sum()),
        "beyond_bound_in_cache": one.beyond_resident,
    }


def class_table(predicted_steps: list[StepValidation], notes: Sequence[str] = ()) -> Table:
    """Least over measured time, and the errors of calibrated times, by phase, device and widths."""
    columns = (
        *(Column(name) for name in ("phase", "device", "bits")),
        _plain("points"),
        *(_plain(name, title=f"{name} bound / time") for name in ("least", "median", "most")),
        *(_plain(name, "%", title) for name, title in (("mape", "MAPE"), ("bias", ""))),
        Column("engines"),
    )
    rows = tuple(
        (
            *(one.phase, one.device, one.bits, len(one.reached)),
            *(f"{float(end(one.reached)):.2f}" for end in (np.min, np.median, np.max)),
            *((f"{one.errors.mape:.1f}", f"{one.errors.bias:.1f}") if one.errors else (None, None)),
            ", ".join(one.engines),
        )
        for one in classes(predicted_steps)
    )
    return Table("published steps by class", columns, rows, tuple(notes))


def step_error_table(predicted_steps: Sequence[StepValidation]) -> Table:
    """Measured and calibrated time of every step whose kernels were all measured."""
    columns = (
        *(Column(name) for name in ("model", "device", "bits", "engine", "phase")),
        *(_plain(name) for name in ("batch", "prompt", "output")),
        *(Column(name, "s", numeric=True) for name in ("measured", "calibrated")),
        _plain("error", "%"),
    )
    known = [(one, one.predicted) for one in predicted_steps if one.predicted is not None]
    rows = tuple(
        (
            *(one.point.model, one.point.device, "/".join(one.point.bits), one.point.engine, one.point.phase),
            *(one.point.batch, one.point.prompt, one.point.output, one.point.seconds, predicted),
            f"{100 * (predicted / one.point.seconds - 1):+.1f}",
        )
        for one, predicted in known
    )
    return Table("steps whose kernels were all measured", columns, rows)


def step_record(one: StepValidation) -> dict[str, Any]:
    """The record of one published step: seconds."""
    return {
        **vars(one.point),
        "bits": list(one.point.bits),
        "bound": one.bound,
        "reached": one.reached,
        "calibrated": one.predicted,
        "missing": one.missing,
    }
