"""`symroof calibrate, validate`: constants of kernels from measurements, and predictions checked against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from symroof.cli.output import Output, output_options, reports
from symroof.cli.values import exact
from symroof.errors import quote

if TYPE_CHECKING:
    from symroof.calibration.rows import Rows
    from symroof.present.report import Report

DATA = click.option(
    "--data", "files", multiple=True, required=True, metavar="FILE", help="A CSV file of measured kernels; several are taken together."
)
WHERE = click.option("--where", multiple=True, metavar="COLUMN=TEXT", help="Only rows with this text, such as framework=TRTLLM.")


def _pairs(texts: Sequence[str], name: str) -> dict[str, str]:
    """``("gpu=a100_sxm",)`` as texts by name."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise click.UsageError(f"{name} {quote(text)}: expected NAME=VALUE")
        found[key] = value
    return found


def _numbers(texts: Sequence[str], name: str) -> dict[str, float]:
    """The same with numbers, of seconds where a unit of time is given."""
    found = {}
    for key, text in _pairs(texts, name).items():
        number = exact(text, "second")
        if number is None:
            raise click.UsageError(f"{name} {quote(f'{key}={text}')}: expected a number, or a time such as 3us")
        found[key] = float(number)
    return found


def _rows(files: Sequence[str], device: str, where: Sequence[str]) -> list[Rows]:
    from symroof.calibration.rows import read_rows

    return [rows for path in files for rows in read_rows(path, device, _pairs(where, "--where"))]


@click.command(short_help="Fit constants of kernels to measured times.")
@DATA
@click.option("--device", required=True, metavar="DEVICE", help="A name of `symroof devices` or a TOML file: the device that was measured.")
@WHERE
@click.option("--hold", multiple=True, metavar="NAME=VALUE", help="A constant to fix, not to fit, such as exposed_exponentials=0.72.")
@click.option(
    "--floor",
    multiple=True,
    metavar="KERNEL:BITS=PERCENT",
    help="Difference between collections of such rows, such as gemm:16=5.4; stored with the constants.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the half of the rows to fit; the other is for validation.")
@click.option("--source", default="", metavar="TEXT", help="The source of the rows; stored with the constants.")
@output_options("Write the constants there, as TOML that --calibration reads.")
def calibrate(
    files: tuple[str, ...],
    device: str,
    where: tuple[str, ...],
    hold: tuple[str, ...],
    floor: tuple[str, ...],
    seed: int,
    source: str,
    output: Output,
) -> int:
    """Fit the forms of GEMM and attention to measured kernels: one half of the rows is fitted, the other gives the errors."""
    import datetime

    from symroof import __version__
    from symroof.calibration.fit import calibrate as fit_all
    from symroof.files import check_writable, writing
    from symroof.hardware.calibration import written
    from symroof.hardware.loader import load_hardware
    from symroof.present.measured.tables import calibration_report

    if output.path is not None:
        check_writable(output.path)
    measured = load_hardware(device)
    found = fit_all(
        _rows(files, measured.name, where),
        measured,
        seed=seed,
        held=_numbers(hold, "--hold"),
        floors=_numbers(floor, "--floor"),
        source=source,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    if output.path is not None:
        with writing(output.path) as path:
            path.write_text(written(found, f"symroof {__version__}"), encoding="utf-8")
    return replace(output, path=None).deliver(calibration_report(found))


@click.command(short_help="Compare predictions with measured times.")
@click.option("--data", "files", multiple=True, metavar="FILE", help="CSV files of measured kernels, or of published whole steps.")
@click.option(
    "--device",
    multiple=True,
    show_default="those with constants in the library",
    metavar="DEVICE",
    help="The devices whose kernels count: names of `symroof devices` or TOML files.",
)
@WHERE
@click.option("--calibration", metavar="FILE", help="Constants from `symroof calibrate` instead of the library's.")
@click.option("--unseen", type=int, metavar="SEED", help="Only the half of the kernels that a fit with this seed left out.")
@click.option("--figures", "folder", metavar="DIR", help="Draw predicted against measured, residuals, rooflines and errors there.")
@reports
def validate(
    files: tuple[str, ...], device: tuple[str, ...], where: tuple[str, ...], calibration: str | None, unseen: int | None, folder: str | None
) -> Report:
    """Errors of predicted times of kernels by regime, kernels beyond the bound, with the floor; and whole steps by class.

    Without data: the errors that the library's constants had on the rows that were not fitted.
    """
    from symroof.calibration.steps import is_steps, validate_steps
    from symroof.calibration.validate import validate as hold
    from symroof.hardware.calibration import load_calibration, with_constants
    from symroof.hardware.loader import load_hardware
    from symroof.present.measured.tables import stated_report, validation_report

    constants = load_calibration(calibration) if calibration else None
    devices = [load_hardware(name) for name in device or with_constants()]
    if not files:
        return stated_report([known for one in devices if (known := constants or one.calibration)])
    kernels: list[Any] = []
    of_kernels = [path for path in files if not is_steps(path)]
    for measured in devices if of_kernels else ():
        kernels += hold(_rows(of_kernels, measured.name, where), measured, constants, unseen)
    steps = [validate_steps(path) for path in files if path not in of_kernels]
    predicted_steps, left = ([one for part in parts for one in part] for parts in (zip(*steps, strict=True) if steps else ((), ())))
    if folder is not None:
        from symroof.present.measured.figures import save

        for path in save(kernels, predicted_steps, Path(folder)):
            click.echo(f"wrote {path}", err=True)
    return validation_report(kernels, predicted_steps, left)
