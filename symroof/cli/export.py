"""`symroof export`: the formulas of a step in other languages."""

from __future__ import annotations

from pathlib import Path

import click

from symroof.cli.options import GIVEN, Request, configured_model, step_options
from symroof.cli.output import OutputFile
from symroof.cli.values import Word, values_of
from symroof.errors import quote

LANGUAGES = ("js", "c", "python", "latex", "xlsx")


@click.command(short_help="The formulas of a step for other programs.")
@click.option("--to", type=Word(LANGUAGES), show_default="by the ending of FILE", help="The language.")
@click.option("-o", "--output", "path", type=OutputFile(), metavar="FILE", help="Write there instead of to the terminal.")
@click.option(
    "--free", multiple=True, metavar="VARIABLE=NUMBER", help="A technique's parameter as an input too, with its default: degree=4."
)
@step_options(sizes=GIVEN)
def export(request: Request, to: str | None, path: Path | None, free: tuple[str, ...]) -> int:
    """FLOPs, bytes and seconds of every operator of a step of MODEL as functions of its inputs and the device's rates.

    JavaScript, C and Python need nothing else; a spreadsheet has live cells (extra `export`); LaTeX is a document.
    """
    from symroof.deployment.exported import exported
    from symroof.present.export.write import export as written

    configured_model(request.model)
    assert request.device is not None
    defaults: dict[str, float] = {}
    for name, values in values_of(free, request.variable).items():
        if len(values) != 1:
            raise click.UsageError(f"--free {quote(name)}: expected one number, its default, such as degree=4")
        defaults[name] = values[0]
    found = exported(request.step(), request.device, free=defaults, ceilings=request.ceilings)
    text = written(found, to, path)
    if text is not None:
        click.echo(text, nl=False)
    return 0
