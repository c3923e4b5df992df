"""`symroof techniques` and `symroof compare`: what can be done, and which of several ways is the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from symroof.cli.listing import emit_table
from symroof.cli.options import CONVENTIONS, PHASE, SIZE, WIDTHS, step_of, variable_named, with_options
from symroof.cli.output import OutputFile, as_json, as_text, check_writable, chosen_format, emit
from symroof.cli.values import Word

FORMS = ("table", "json", "markdown")
LISTED = ("table", "json", "csv", "markdown")
OUTPUT = click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write there instead of to the terminal.")


@click.command(short_help="List the techniques, or one with its conditions.")
@click.argument("technique", required=False)
@click.option(
    "--effects", is_flag=True, help="What every one does to FLOPs, bytes and roofs, and when it pays: derived, so it takes a while."
)
@click.option("--format", "wanted", type=Word(LISTED), help="Default: by the ending of FILE, else table.")
@OUTPUT
def techniques(technique: str | None, effects: bool, wanted: str | None, output: Path | None) -> None:
    """List the techniques; or say of one TECHNIQUE what it does, when it pays, and by how much at best."""
    check_writable(output)
    from symroof.present.techniques import effect_table, technique_pages, technique_table
    from symroof.techniques.registry import names, technique_class

    if technique is None:
        emit_table(effect_table(names()) if effects else technique_table(), wanted, output)
        return
    technique_class(technique)
    if chosen_format(wanted, output, LISTED) == "table":
        emit(as_text(technique_pages(technique), output is not None), output)
    else:
        emit_table(effect_table([technique]), wanted, output)


@click.command(short_help="Several ways to run a step, side by side.")
@click.argument("model")
@click.option("--hardware", required=True, metavar="DEVICE", help="A name of `symroof devices`, or the path of a TOML file.")
@click.option(
    "--with",
    "techniques",
    multiple=True,
    required=True,
    metavar="TECHNIQUES",
    help='A variant: as quantize:weights=4, or several in a row, "quantize:weights=4 flash-attention".',
)
@click.option("--over", default="batch", show_default=True, metavar="VARIABLE", help="Tell where each variant pays over this variable.")
@with_options(
    PHASE,
    click.option("--batch", type=SIZE, default=1, show_default=True, help="Sequences in the batch."),
    click.option("--seq-len", type=SIZE, required=True, help="Prompt length (prefill) or context length (decode)."),
    *WIDTHS,
    *CONVENTIONS,
)
@click.option("--format", "wanted", type=Word(FORMS), help="Default: by the ending of FILE, else table.")
@OUTPUT
def compare(
    model: str, hardware: str, techniques: tuple[str, ...], over: str, wanted: str | None, output: Path | None, **options: Any
) -> None:
    """A step of MODEL as it is, and after each of several chains of techniques: times, bytes, memory, crossovers."""
    check_writable(output)
    from symroof.hardware.loader import load_hardware
    from symroof.present.comparison import comparison_record, comparison_tables
    from symroof.questions.comparison import compare as side_by_side
    from symroof.symbols import lookup, option_name
    from symroof.techniques.registry import chain

    over = variable_named(over, techniques)
    name = option_name(lookup(over).symbol)
    step = step_of(model, **options)
    free = step_of(model, **{**options, name: None}) if name in options and not name.endswith("bits") else step
    variants = side_by_side(step, free, [chain([text]) for text in techniques], over=over, hardware=load_hardware(hardware))
    form = chosen_format(wanted, output, FORMS)
    if form == "json":
        emit(as_json(comparison_record(variants, name)), output)
        return
    tables = comparison_tables(variants, name)
    emit("\n\n".join(table.markdown() for table in tables) if form == "markdown" else as_text(tables, output is not None), output)
