"""`symroof models, devices, techniques, figures, describe`: what there is, and what one of them is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from symroof.cli import completion
from symroof.cli.options import WIDTHS, configured_model, with_options
from symroof.cli.output import reports
from symroof.cli.values import Word, one_of
from symroof.conventions import BITS
from symroof.errors import InputError

if TYPE_CHECKING:
    from symroof.present.report import Report


@click.command(short_help="List the models, or some of them.")
@click.argument("part", default="", type=completion.MODEL)
@reports
def models(part: str) -> Report:
    """List the models in models/ (those whose name or family contains PART): parameters, KV bytes per token, licence."""
    from symroof.present.catalogue import model_table
    from symroof.present.report import Report

    return Report((model_table(part),))


@click.command(short_help="List the devices, or one with its sources.")
@click.argument("device", required=False, type=completion.DEVICE)
@reports
def devices(device: str | None) -> Report:
    """List the devices (or those whose name contains DEVICE): dense peaks, memory, ridge; or every figure of one DEVICE with its source."""
    from symroof.present.catalogue import device_report

    return device_report(device)


@click.command(short_help="List the symbols of formulas, or some of them.")
@click.argument("part", default="")
@reports
def symbols(part: str) -> Report:
    """List the symbols of formulas (or PART: a letter, or what a name or meaning contains): name, meaning, unit, domain."""
    from symroof.present.catalogue import symbol_table
    from symroof.present.report import Report

    return Report((symbol_table(part),))


@click.command(short_help="List the techniques, or one with its conditions.")
@click.argument("technique", required=False, type=completion.TECHNIQUE)
@click.option("--effects", is_flag=True, help="What each does to FLOPs, bytes and roofs, and when it is faster; takes a while.")
@reports
def techniques(technique: str | None, effects: bool) -> Report:
    """List the techniques; or show what one TECHNIQUE does, when it is faster, and by how much at best."""
    from symroof.present.report import Report
    from symroof.present.techniques import effect_table, technique_report, technique_table
    from symroof.techniques.registry import names

    if technique is not None:
        return technique_report(technique)
    return Report((effect_table(names()) if effects else technique_table(),))


@click.command(short_help="Sizes, parameters and LaTeX of one model.")
@click.argument("model", type=completion.MODEL)
@with_options(WIDTHS[0], WIDTHS[2])
@reports
def describe(model: str, weight_bits: int | None, kv_bits: int | None) -> Report:
    """Dimensions, parameters, weight and KV bytes of MODEL, and its block in LaTeX."""
    from symroof.present.catalogue import model_report

    described = configured_model(model)
    return model_report(described, weight_bits, kv_bits or described.published.get("kv_bits", BITS))


@click.command(short_help="Redraw the survey's figures, with their data.")
@click.argument("name", nargs=-1)
@click.option("-o", "--output", "folder", default="figures", show_default=True, metavar="DIR", help="Folder to write to.")
@click.option("--format", "form", type=Word(("png", "pdf", "svg")), default="png", show_default=True)
@one_of("--accounting", ("survey", "exact", "both"), "As published, exact, or both.", default="both")
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
