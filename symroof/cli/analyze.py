"""`symroof analyze`: the roofline table of one step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from symroof.cli.options import CONVENTIONS, PHASE, SIZE, WIDTHS, WITH, step_of, with_options
from symroof.cli.output import FORMATS, OutputFile, as_json, as_text, check_writable, chosen_format, emit
from symroof.cli.values import Word

if TYPE_CHECKING:
    from symroof.roof.analysis import Analysis


@click.command(short_help="The roofline table of one step.")
@click.argument("model")
@click.option("--hardware", required=True, metavar="DEVICE", help="A name of `symroof devices`, or the path of a TOML file.")
@with_options(
    PHASE,
    click.option("--batch", type=SIZE, default=1, show_default=True, help="Sequences in the batch."),
    click.option("--seq-len", type=SIZE, required=True, help="Prompt length (prefill) or context length (decode)."),
    *WIDTHS,
    *CONVENTIONS,
    WITH,
)
@click.option("--formulas", is_flag=True, help="Show the formulas, and what their letters mean.")
@click.option("--format", "wanted", type=Word(FORMATS), help="Default: by the ending of FILE, else table.")
@click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write there instead of to the terminal.")
def analyze(model: str, hardware: str, formulas: bool, wanted: str | None, output: Path | None, **options: object) -> None:
    """FLOPs, traffic, intensity, bound and time of every operator of one step of MODEL."""
    check_writable(output)
    from symroof.hardware.loader import load_hardware
    from symroof.roof.analysis import analyze as roofline

    analysis = roofline(step_of(model, **options), load_hardware(hardware))
    emit(_rendered(analysis, chosen_format(wanted, output), formulas, output is not None), output)


def _rendered(analysis: Analysis, form: str, formulas: bool, to_file: bool) -> str:
    if form == "json":
        from symroof.present.records import analysis_record

        return as_json(analysis_record(analysis))
    if form == "csv":
        from symroof.present.records import analysis_table

        return analysis_table(analysis, formulas=formulas)
    from symroof.present.step_views import formula_table, memory_table

    tables = [analysis.table(), *([formula_table(analysis)] if formulas else []), memory_table(analysis)]
    if analysis.graph.energy is not None:
        from symroof.roof.energy import energy_of

        tables.append(energy_of(analysis).table())
    if form == "table":
        return as_text(tables, to_file)
    if form == "html":
        from symroof.present.tabular import html_page

        return html_page(tables[0].title, tables)
    return "\n\n".join(getattr(table, form)() for table in tables)
