"""`symroof analyze`: the roofline table of one step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from symroof.cli.output import FORMATS, as_json, as_text, check_writable, chosen_format, emit
from symroof.cli.values import Whole, Word

if TYPE_CHECKING:
    from symroof.analysis.analysis import Analysis

SIZE, WIDTH = Whole(), Whole(64)


@click.command()
@click.argument("model")
@click.option("--hardware", required=True, metavar="DEVICE", help="A name of `symroof devices`, or the path of a TOML file.")
@click.option("--phase", type=Word(("prefill", "decode")), required=True, help="Read a prompt, or generate one token per sequence.")
@click.option("--batch", type=SIZE, default=1, show_default=True, help="Sequences in the batch.")
@click.option("--seq-len", type=SIZE, required=True, help="Prompt length (prefill) or context length (decode).")
@click.option("--weight-bits", type=WIDTH, default=16, show_default=True, help="Bits per weight.")
@click.option("--activation-bits", type=WIDTH, default=16, show_default=True, help="Bits per activation.")
@click.option("--kv-bits", type=WIDTH, default=16, show_default=True, help="Bits per element of the KV cache.")
@click.option("--flash-attention", is_flag=True, help="Attention as one operator whose scores stay on chip.")
@click.option(
    "--accounting",
    type=Word(("exact", "llm-viewer", "survey")),
    default="exact",
    show_default=True,
    help="Right formulas; LLM-Viewer's; or those behind the survey.",
)
@click.option("--causal/--no-causal", default=True, show_default=True, help="Count only the pairs a causal mask leaves.")
@click.option("--lm-head", type=Word(("last", "all")), default="last", show_default=True, help="Tokens that get logits.")
@click.option("--formulas", is_flag=True, help="Show the formulas, and what their letters mean.")
@click.option("--format", "wanted", type=Word(FORMATS), help="Default: by the ending of FILE, else table.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write there instead of to the terminal.")
def analyze(model: str, hardware: str, formulas: bool, wanted: str | None, output: Path | None, **options: object) -> None:
    """FLOPs, traffic, intensity, bound and time of every operator of one step of MODEL."""
    check_writable(output)
    from symroof.analysis.analysis import analyze as roofline
    from symroof.architectures.model import load_model
    from symroof.architectures.options import Options
    from symroof.hardware.loader import load_hardware

    step = load_model(model).step(Options(**options))  # pyright: ignore[reportArgumentType]
    emit(_rendered(roofline(step, load_hardware(hardware)), chosen_format(wanted, output), formulas, output is not None), output)


def _rendered(analysis: Analysis, form: str, formulas: bool, to_file: bool) -> str:
    if form == "json":
        from symroof.present.records import analysis_record

        return as_json(analysis_record(analysis))
    if form == "csv":
        from symroof.present.records import context

        return analysis.table(formulas=formulas).csv(context(analysis))
    tables = [analysis.table(), *([analysis.formula_table()] if formulas else []), analysis.memory_table()]
    if form == "table":
        return as_text(tables, to_file)
    return "\n\n".join(getattr(table, form)() for table in tables)
