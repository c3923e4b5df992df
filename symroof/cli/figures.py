"""`symroof figures`: the survey's figures and tables, as published and as they should be."""

from __future__ import annotations

from pathlib import Path

import click

from symroof.cli.values import Word
from symroof.errors import InputError


@click.command(short_help="Redraw the survey's figures, with their data.")
@click.argument("name", nargs=-1)
@click.option("-o", "--output", "folder", default="figures", show_default=True, metavar="DIR", help="Folder to write to.")
@click.option("--format", "form", type=Word(("png", "pdf", "svg")), default="png", show_default=True)
@click.option(
    "--accounting", type=Word(("survey", "exact", "both")), default="both", show_default=True, help="As published, right, or both."
)
def figures(name: tuple[str, ...], folder: str, form: str, accounting: str) -> None:
    """Draw figures of arXiv 2402.16363 and of the techniques (all, or those named), their data as CSV, and a page that shows them."""
    if not folder:
        raise InputError("folder '': expected the name of a folder")
    from rich.console import Console
    from rich.progress import Progress

    from symroof.present.figure_index import ACCOUNTINGS, everything, load, save

    plates = [load(one) for one in dict.fromkeys(name or everything())]
    chosen = ACCOUNTINGS if accounting == "both" else (accounting,)
    total = 1 + sum(one in chosen for plate in plates for one in plate.accountings)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("drawing", total=total)
        for written in save(plates, Path(folder), form, chosen):
            progress.update(task, advance=1, description=written)
    click.echo(f"{total} files in {folder}: open {Path(folder) / 'index.html'}")
