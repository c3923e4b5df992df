"""`symroof models`, `symroof devices`, `symroof describe`: what there is, and what one model is."""

from __future__ import annotations

from pathlib import Path

import click

from symroof.cli.output import as_json, as_text, check_writable, chosen_format, emit
from symroof.cli.values import Whole, Word

form = click.option(
    "--format", "wanted", type=Word(("table", "json", "csv", "markdown")), help="Default: by the ending of FILE, else table."
)
destination = click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write there instead.")


@click.command()
@form
@destination
def models(wanted: str | None, output: Path | None) -> None:
    """List the models in models/: family, parameters, KV bytes per token."""
    check_writable(output)
    from symroof.present.catalogue import model_table

    _emit_table(model_table(), wanted, output)


@click.command()
@form
@destination
def devices(wanted: str | None, output: Path | None) -> None:
    """List the devices: dense peaks, memory, ridge point."""
    check_writable(output)
    from symroof.present.catalogue import device_table

    _emit_table(device_table(), wanted, output)


def _emit_table(table, wanted: str | None, output: Path | None) -> None:
    how = chosen_format(wanted, output)
    if how == "json":
        emit(as_json(table.records()), output)
    elif how == "table":
        emit(as_text([table], output is not None), output)
    else:
        emit(getattr(table, how)(), output)


@click.command()
@click.argument("model")
@click.option("--weight-bits", type=Whole(64), default=16, show_default=True, help="Bits per weight.")
@click.option("--kv-bits", type=Whole(64), default=16, show_default=True, help="Bits per element of the KV cache.")
@click.option("--format", "wanted", type=Word(("table", "json")), help="Default: by the ending of FILE, else table.")
@destination
def describe(model: str, weight_bits: int, kv_bits: int, wanted: str | None, output: Path | None) -> None:
    """Dimensions, parameters, weight and KV bytes of MODEL, and its block in LaTeX."""
    check_writable(output)
    from symroof.architectures.model import load_model
    from symroof.present.catalogue import model_pages
    from symroof.present.records import model_record

    record = model_record(load_model(model), weight_bits, kv_bits)
    if chosen_format(wanted, output) == "json":
        emit(as_json(record), output)
    else:
        emit(as_text(model_pages(load_model(model), record), output is not None), output)
