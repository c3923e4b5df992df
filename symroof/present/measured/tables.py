"""How calibrations and validations look: constants with their errors, errors by regime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sympy import Float

from symroof.calibration.validate import Validation
from symroof.hardware.calibration import CONSTANTS, Calibration, KernelConstants
from symroof.present.report import Report
from symroof.present.tabular import Column, Table


def widths_of(one: Any) -> str:
    """The widths a kernel reads, as 16 or 4/16."""
    return "/".join(map(str, sorted(one.widths))) or "any"


def calibration_report(calibration: Calibration) -> Report:
    """The constants of every kernel, and their errors on the rows that were not fitted."""
    constants = Table(
        f"constants of kernels on {calibration.device}",
        (Column("kernel"), Column("bits"), Column("constant"), Column("value", numeric=True, prefixed=False), Column("unit")),
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
    Column("rows", numeric=True, prefixed=False),
    *(
        Column(name, "%", title, numeric=True, prefixed=False)
        for name, title in (("mape", "MAPE"), ("median", ""), ("p90", ""), ("bias", ""))
    ),
)


def error_table(kernels: Sequence[KernelConstants]) -> Table:
    """The errors of kernels on the rows that were not fitted."""
    rows = tuple(
        (str(one.kernel), widths_of(one), one.name, regime, error.rows, *_figures(error), _floor(one.floor))
        for one in kernels
        for regime, error in one.error.items()
    )
    columns = (Column("kernel"), Column("bits"), Column("name"), *ERRORS, Column("floor", "%", numeric=True, prefixed=False))
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


def validation_report(found: Sequence[Validation]) -> Report:
    """Errors by regime of every kernel, rows beyond the bound, and the floor."""
    errors, bounds = [], []
    for one in found:
        named = (one.device.name, str(one.rows.kernel), widths_of(one.rows), one.rows.name)
        errors += [(*named, regime, error.rows, *_figures(error), _floor(one.floor)) for regime, error in one.errors.items()]
        bounds.append((*named, len(one.rows), f"{100 * one.reached:.0f}", int(one.beyond.sum()), one.beyond_resident))
    named_columns = (Column("device"), Column("kernel"), Column("bits"), Column("name"))
    counts = [Column(name, numeric=True, prefixed=False) for name in ("rows", "beyond the bound", "of them in cache")]
    reached = Column("reached", "%", "median bound / time", numeric=True, prefixed=False)
    tables = (
        Table("errors of calibrated times", (*named_columns, *ERRORS, Column("floor", "%", numeric=True, prefixed=False)), tuple(errors)),
        Table("rows against the bound", (*named_columns, counts[0], reached, *counts[1:]), tuple(bounds)),
    )
    return Report(tables, record=lambda: [validation_record(one) for one in found])


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
