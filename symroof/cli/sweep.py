"""`symroof sweep`: steps of models on devices over all values of some variables."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from symroof.cli import completion
from symroof.cli.options import (
    CALIBRATION,
    CEILINGS,
    CONVENTIONS,
    SIZE,
    WIDTHS,
    WITH,
    Variadic,
    calibrated_ceilings,
    model_named,
    variable_named,
    with_options,
)
from symroof.cli.output import SUFFIXES, Output, output_options
from symroof.cli.values import Word, one_of, values_of
from symroof.errors import InputError, quote
from symroof.present.report import TEXT

if TYPE_CHECKING:
    from symroof.present.points import Columns, Notes
    from symroof.sweeps.grid import Chunk, Sweep

STREAMED, MOST_ROWS = ("csv", "json"), 10_000
"""Formats that are written as points come, and the points that others take."""

LONG, ASKED = 10**8, 10**10
"""Points from which a sweep says how long it takes, and beyond which it asks before it starts."""

PHASES = ("prefill", "decode")
INPUTS = (
    click.option("--batch", type=SIZE, show_default="1", help="Sequences in the batch, if not swept over."),
    click.option("--seq-len", type=SIZE, help="Prompt length (prefill) or context length (decode), if not swept over."),
    *WIDTHS,
)


class MetricOption(click.Option):
    """An option whose help names the metrics there are, when it is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The names and the help."""
        from symroof.sweeps.metrics import METRICS

        self.help = f"Of {', '.join(METRICS)}."
        return super().get_help_record(ctx)


@click.command(cls=Variadic, short_help="Many steps at once, as a labelled file; the best, the Pareto front.")
@click.argument("model", nargs=-1, required=True, type=completion.MODEL)
@click.option("--hardware", multiple=True, type=completion.DEVICE, metavar="DEVICE ...", help="Names of `symroof devices` or TOML files.")
@click.option(
    "--over", multiple=True, type=completion.ASSIGNMENT, metavar="VARIABLE=VALUES ...", help="As batch=1:1024*2 seq_len=512,2048."
)
@click.option("--points", is_flag=True, help="The values are those of a list of points, not of a grid.")
@click.option("--phase", multiple=True, type=Word(PHASES), metavar="prefill|decode ...", show_default="decode", help="One or both.")
@click.option("--metric", cls=MetricOption, multiple=True, type=completion.METRIC, metavar="NAME ...")
@one_of("--per", ("total", "operator"), "The whole step, or every operator.")
@click.option("--minimize", type=completion.METRIC, metavar="METRIC", help="Only the point where it is least.")
@click.option("--maximize", type=completion.METRIC, metavar="METRIC", help="Only the point where it is largest.")
@click.option("--pareto", nargs=2, type=completion.METRIC, metavar="METRIC METRIC", help="Only the Pareto-optimal points of these two.")
@click.option("--where", default="", metavar="CONDITION", help="Only points with, or the best of those with, 'latency < 50 ms and fits'.")
@with_options(*INPUTS, *CONVENTIONS, WITH)
@with_options(CEILINGS, CALIBRATION)
@one_of("--engine", ("auto", "numpy", "numba"), "numba needs the extra `fast`.")
@one_of("--search", ("auto", "branch-and-bound", "enumerate"), "How the best is found; auto bounds where there are a million points.")
@click.option("--scheduler", metavar="WHERE", help="threads, processes, or the address of a Dask scheduler (tcp://...).")
@click.option("--resume", is_flag=True, help="Finish an interrupted sweep: compute only the chunks that are not whole.")
@click.option("--yes", is_flag=True, help="Start without confirmation, which more than 1e10 points need otherwise.")
@output_options("Write .nc, .zarr, .parquet or .csv, chunk by chunk; or .json, .md, .html, .tex, .txt.")
@click.pass_context
def sweep(
    ctx: click.Context,
    model: tuple[str, ...],
    hardware: tuple[str, ...],
    over: tuple[str, ...],
    phase: tuple[str, ...],
    metric: tuple[str, ...],
    minimize: str | None,
    maximize: str | None,
    pareto: tuple[str, str] | None,
    where: str,
    search: str,
    scheduler: str | None,
    output: Output,
    resume: bool,
    yes: bool,
    calibration: str | None,
    **options: Any,
) -> int | None:
    """Time, bound, throughput, memory and more of steps of MODEL... over all values of some variables.

    A table of the first points, or all of them as --format csv or json, which are written as they are computed.
    """
    reduced = [name for name, given in (("--minimize", minimize), ("--maximize", maximize), ("--pareto", pareto)) if given]
    reduced = reduced or ["--where"] * bool(where)
    stored = _stored(output)
    _refuse(reduced, output, resume, stored=stored, per=options["per"], search=search)
    values = values_of(over, lambda name: variable_named(name, options["techniques"]))
    from symroof.techniques.registry import chain

    options["techniques"] = chain(options["techniques"])
    devices: Any = hardware or None
    if calibration is not None:
        if len(hardware) != 1:
            raise click.UsageError("--calibration: constants are of one device; give one --hardware")
        from symroof.hardware.loader import load_hardware

        options["ceilings"] = calibrated_ceilings(ctx, hardware, options["ceilings"])
        devices = load_hardware(hardware[0]).calibrated(calibration)
    asked = (tuple(map(model_named, model)), devices, values)
    options["phase"] = phase or "decode"
    running = {"scheduler": scheduler, "progress": sys.stderr is not None and sys.stderr.isatty()}
    if not reduced:
        from symroof.sweeps.plan import Plan

        return _whole(Plan(*asked, **options).sweep(metric or None), output, metric, resume=resume, stored=stored, yes=yes, **running)
    from symroof.sweeps import reduce
    from symroof.sweeps.dataset import form_of, write_points

    if stored and output.path is not None:
        form_of(output.path)
    form = "" if stored else output.form
    options |= {
        "metrics": metric or None,
        "where": where,
        "search": search,
        "before": lambda planned, work: _announce(planned, scheduler, work, yes=yes),
        **running,
    }
    if pareto:
        points = reduce.pareto(*asked, pareto, **options)
    elif reduced == ["--where"]:
        points = reduce.feasible(*asked, **options)
    else:
        points = reduce.best(*asked, minimize=minimize or "", maximize=maximize or "", **options)
    if stored and output.path is not None:
        write_points(points, output.path)
        return None
    named = [name for name in (*metric, minimize, maximize, *(pareto or ())) if name]
    columns = {str(name): points[name].values for name in (*points.coords, *points.data_vars)}
    notes = {str(name): points[name].attrs for name in (*points.coords, *points.data_vars) if "units" in points[name].attrs}
    return _written([columns], [str(name) for name in points.data_vars], notes, points.attrs, points.sizes["point"], output, form, named)


def _whole(planned: Sweep, output: Output, asked: Sequence[str], *, resume: bool, stored: bool, yes: bool, **running: Any) -> int | None:
    """Every point: into a file chunk by chunk, or as text; of a table the first ones alone are computed."""
    from symroof.present.points import SHOWN, points_report
    from symroof.sweeps import stream
    from symroof.sweeps.dataset import columns_of, notes_of

    if stored and output.path is not None:
        from symroof.sweeps.store import write

        _announce(planned, running["scheduler"], yes=yes)
        write(planned, output.path, resume=resume, **running)
        return None
    form, rows, notes = output.form, planned.size * math.prod(planned.tail), notes_of(planned)
    if form == TEXT:
        first = points_report(stream.first(planned, SHOWN), planned.metrics, notes, planned.attributes, rows, asked)
        return output.deliver(first, form)
    if form not in STREAMED and rows > MOST_ROWS:
        raise click.UsageError(f"--format {form}: {rows} points are more than {MOST_ROWS} for a page; csv and json take any number")

    def written(chunk: Chunk) -> int:
        block = columns_of(planned, chunk, chunk.evaluate())
        return sum(map(len, _pieces([block], notes, planned.attributes, rows, form)))

    _announce(stream.in_blocks(planned), running["scheduler"], *([written] if form in STREAMED else ()), yes=yes)
    return _written(stream.blocks(planned, **running), planned.metrics, notes, planned.attributes, rows, output, form, asked)


def _pieces(blocks: Iterable[Columns], notes: Notes, attributes: Mapping[str, str], size: int, form: str) -> Iterable[str]:
    """Points as text, piece by piece."""
    from symroof.present.points import csv_pieces, json_pieces

    return csv_pieces(blocks, notes) if form == "csv" else json_pieces(blocks, notes, attributes, size)


def _written(blocks: Iterable[Columns], metrics: Sequence[str], notes: Notes, attributes: Mapping[str, str], size: int, *where: Any) -> int:
    """Points in a format: CSV and JSON as they come, others as a report; *where* are output, format, and the metrics asked for."""
    output, form, asked = where
    import numpy as np

    from symroof.present.points import SHOWN, points_report

    if form in STREAMED:
        output.stream(_pieces(blocks, notes, attributes, size, form))
        return 0
    every = [*blocks]
    columns = {name: np.concatenate([block[name] for block in every]) for name in every[0]}
    shown = {name: values[:SHOWN] for name, values in columns.items()} if form == TEXT else columns
    return output.deliver(points_report(shown, metrics, notes, attributes, size, asked), form)


def _announce(planned: Sweep, scheduler: str | None, *work: Callable[[Chunk], Any], yes: bool) -> None:
    """How many points, and about how long, before a long sweep starts; beyond `ASKED` points only if that is wanted.

    Raises
    ------
    click.UsageError
        There are so many, nobody is there to ask, and --yes is not given.
    """
    if planned.size < LONG:
        return
    from symroof.present.points import duration
    from symroof.sweeps.stream import seconds

    line = f"{planned.size:.3g} points, about {duration(seconds(planned, scheduler, *work))}"
    if planned.size <= ASKED or yes:
        click.echo(line, err=True)
        return
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()):
        raise click.UsageError(f"{line}: add --yes to start, or take fewer values")
    click.confirm(f"{line}; start?", err=True, abort=True)


def _stored(output: Output) -> bool:
    """Whether the file is one that sweeps are kept in chunk by chunk."""
    from symroof.sweeps.dataset import FORMS

    kept = output.path is not None and output.path.suffix.lower() in FORMS
    if kept and output.wanted not in (None, "csv"):
        assert output.path is not None
        raise click.UsageError(f"--format {output.wanted}: {output.path.name} is written as its ending says; leave one of the two out")
    if output.path is not None and not kept and output.wanted is None and output.path.suffix.lower() not in SUFFIXES:
        known = ", ".join([*FORMS, *(ending for ending in SUFFIXES if ending and ending not in FORMS)])
        raise InputError(f"output {quote(str(output.path))}: the ending {quote(output.path.suffix)} names no format; known: {known}")
    return kept


def _refuse(reduced: list[str], output: Output, resume: bool, *, stored: bool, per: str, search: str) -> None:
    if len(reduced) > 1:
        raise click.UsageError(f"{' and '.join(reduced)}: give one of them")
    if search != "auto" and reduced in ([], ["--where"]):
        raise click.UsageError(f"--search {search}: it is for --minimize, --maximize and --pareto")
    if resume and reduced:
        raise click.UsageError(f"--resume: {reduced[0]} keeps nothing to resume; it is one pass")
    if resume and output.path is None:
        raise click.UsageError("--resume: name the output that was being written by -o")
    if resume and not stored:
        raise click.UsageError("--resume: only files that are written chunk by chunk are taken up again, such as .zarr")
    if reduced and per != "total":
        raise click.UsageError(f"--per operator: {reduced[0]} is over whole steps")
