"""`symroof models`, `symroof devices`, `symroof describe`: what there is, and what one model is."""

from __future__ import annotations

from pathlib import Path

import click

from symroof.cli.output import OutputFile, as_json, as_text, check_writable, chosen_format, emit
from symroof.cli.values import Whole, Word

LISTED, DESCRIBED = ("table", "json", "csv", "markdown"), ("table", "json")
form = click.option("--format", "wanted", type=Word(LISTED), help="Default: by the ending of FILE, else table.")
destination = click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write there instead.")


@click.command(short_help="List the models, or some of them.")
@click.argument("part", default="")
@form
@destination
def models(part: str, wanted: str | None, output: Path | None) -> None:
    """List the models in models/ (those whose name or family contains PART): parameters, KV bytes per token, licence."""
    check_writable(output)
    from symroof.present.catalogue import model_table

    emit_table(model_table(part), wanted, output)


@click.command(short_help="List the devices, or one with its sources.")
@click.argument("device", required=False)
@form
@destination
def devices(device: str | None, wanted: str | None, output: Path | None) -> None:
    """List the devices: dense peaks, memory, ridge point; or every figure of one DEVICE with its source."""
    check_writable(output)
    from symroof.present.catalogue import device_table, figure_table

    emit_table(device_table() if device is None else figure_table(device), wanted, output)


def emit_table(table, wanted: str | None, output: Path | None) -> None:
    """Print a table, or write it, in the form asked for."""
    how = chosen_format(wanted, output, LISTED)
    if how == "json":
        emit(as_json(table.records()), output)
    elif how == "table":
        emit(as_text([table], output is not None), output)
    else:
        emit(getattr(table, how)(), output)


@click.command(short_help="What one model is: sizes, parameters, LaTeX.")
@click.argument("model")
@click.option("--weight-bits", type=Whole(64), show_default="that of quantization_config, else 16", help="Bits per weight.")
@click.option("--kv-bits", type=Whole(64), default=16, show_default=True, help="Bits per element of the KV cache.")
@click.option("--format", "wanted", type=Word(DESCRIBED), help="Default: by the ending of FILE, else table.")
@destination
def describe(model: str, weight_bits: int | None, kv_bits: int, wanted: str | None, output: Path | None) -> None:
    """Dimensions, parameters, weight and KV bytes of MODEL, and its block in LaTeX."""
    check_writable(output)
    from symroof.architectures.model import load_model
    from symroof.present.catalogue import model_pages
    from symroof.present.records import model_record

    found, how = load_model(model), chosen_format(wanted, output, DESCRIBED)
    record = model_record(found, weight_bits or found.weight_bits, kv_bits)
    emit(as_json(record) if how == "json" else as_text(model_pages(found, record), output is not None), output)
