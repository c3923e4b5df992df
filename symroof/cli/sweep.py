"""`symroof sweep`: steps of models on devices over all values of some variables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from symroof.cli import completion
from symroof.cli.options import CALIBRATION, CEILINGS, CONVENTIONS, SIZE, WIDTHS, WITH, Variadic, calibrated_ceilings, with_options
from symroof.cli.output import OutputFile, deliver
from symroof.cli.values import Word, one_of, values_of

PHASES = ("prefill", "decode")
INPUTS = (
    click.option("--batch", type=SIZE, show_default="1", help="Sequences in the batch, where it is not swept over."),
    click.option("--seq-len", type=SIZE, help="Prompt length (prefill) or context length (decode), where it is not swept over."),
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
    "--over",
    multiple=True,
    type=completion.ASSIGNMENT,
    metavar="VARIABLE=VALUES ...",
    help="As batch=1:256, seq_len=512,2048, batch=1:1024*2.",
)
@click.option("--points", is_flag=True, help="The values are those of points, one after the other, not of a grid.")
@click.option("--phase", multiple=True, type=Word(PHASES), metavar="prefill|decode ...", show_default="decode", help="One or both.")
@click.option("--metric", cls=MetricOption, multiple=True, type=completion.METRIC, metavar="NAME ...")
@one_of("--per", ("total", "operator"), "The whole step, or every operator.")
@click.option("--minimize", type=completion.METRIC, metavar="METRIC", help="Only the point where it is least.")
@click.option("--maximize", type=completion.METRIC, metavar="METRIC", help="Only the point where it is largest.")
@click.option(
    "--pareto",
    nargs=2,
    type=completion.METRIC,
    metavar="METRIC METRIC",
    help="Only the points that none beats in one without losing in the other.",
)
@click.option("--where", default="", metavar="CONDITION", help="For these: as 'latency < 50 ms and memory <= 80 GB and batch >= 8'.")
@with_options(*INPUTS, *CONVENTIONS, WITH)
@with_options(CEILINGS, CALIBRATION)
@one_of("--engine", ("auto", "numpy", "numba"), "numba needs the extra `fast`.")
@click.option("--scheduler", metavar="WHERE", help="threads, processes, or the address of a Dask scheduler (tcp://...).")
@click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write .nc, .zarr, .parquet or .csv.")
@click.option("--resume", is_flag=True, help="Finish an interrupted sweep: compute only the chunks that are not whole.")
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
    output: Path | None,
    resume: bool,
    calibration: str | None,
    **options: Any,
) -> None:
    """Time, bound, throughput, memory and more of steps of MODEL... over all values of some variables."""
    reduced = [name for name, given in (("--minimize", minimize), ("--maximize", maximize), ("--pareto", pareto)) if given]
    _refuse(reduced, where, output, resume, options["per"])
    values = values_of(over)
    from symroof.techniques.registry import chain

    options["techniques"] = chain(options["techniques"])
    from symroof.present.points import points_table
    from symroof.present.report import TEXT, Report

    devices: Any = hardware or None
    if calibration is not None:
        if len(hardware) != 1:
            raise click.UsageError("--calibration: constants are of one device; give one --hardware")
        from symroof.hardware.loader import load_hardware

        options["ceilings"] = calibrated_ceilings(ctx, hardware, options["ceilings"])
        devices = load_hardware(hardware[0]).calibrated(calibration)
    common = {**options, "phase": phase or "decode", "metrics": metric or None, "progress": sys.stderr is not None and sys.stderr.isatty()}
    if not reduced:
        from symroof.sweeps.sweep import sweep as evaluate

        points = evaluate(model, devices, values, output=output, resume=resume, **common)
    else:
        from symroof.sweeps import reduce
        from symroof.sweeps.dataset import form_of, write_points

        if output is not None:
            form_of(output)
        if pareto:
            points = reduce.pareto(model, devices, values, pareto, where=where, **common)
        else:
            points = reduce.best(model, devices, values, minimize=minimize or "", maximize=maximize or "", where=where, **common)
        if output is not None:
            write_points(points, output)
    if output is None:
        deliver(Report((points_table(points),)), TEXT, None)


def _refuse(reduced: list[str], where: str, output: Path | None, resume: bool, per: str) -> None:
    if len(reduced) > 1:
        raise click.UsageError(f"{' and '.join(reduced)}: give one of them")
    if where and not reduced:
        raise click.UsageError("--where: a condition needs --minimize, --maximize or --pareto")
    if resume and reduced:
        raise click.UsageError(f"--resume: {reduced[0]} keeps nothing to resume; it is one pass")
    if resume and output is None:
        raise click.UsageError("--resume: name the output that was being written by -o")
    if reduced and per != "total":
        raise click.UsageError(f"--per operator: {reduced[0]} is over whole steps")
