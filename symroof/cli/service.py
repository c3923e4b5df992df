"""`symroof regimes, ablate`: what binds over one variable or two, and what each technique of a stack brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from symroof.cli import completion
from symroof.cli.options import Request, chains_option, step_options, variable_named, variable_option
from symroof.cli.output import OutputFile, reports
from symroof.cli.values import Exact
from symroof.errors import InputError, quote

if TYPE_CHECKING:
    from symroof.present.report import Report
    from symroof.serving.maps.regime_map import RegimeMap

PROMISE = Exact("a time above 0 such as 0.05, 50ms or 500us", "second")
ENDINGS = (".png", ".svg", ".pdf")


@click.command(short_help="What binds over one variable or two.")
@click.option(
    "--over",
    multiple=True,
    required=True,
    type=completion.VARIABLE_NAME,
    metavar="VARIABLE",
    help="Once: the time over it, piece by piece. Twice: a map, such as --over batch --over seq_len.",
)
@click.option("--operator", default="total", show_default=True, metavar="NAME", help="Whose bound the map shows; total for the whole step.")
@click.option("--tpot", type=PROMISE, metavar="TIME", help="Where this time per output token is met and the step fits (decode).")
@click.option("--ttft", type=PROMISE, metavar="TIME", help="Where this time to first token is met and the step fits (prefill).")
@click.option("--plot", type=OutputFile(), metavar="FILE", help="Draw the map there: .png, .svg or .pdf.")
@step_options(phase="decode")
@reports
def regimes(request: Request, over: tuple[str, ...], operator: str, tpot: object, ttft: object, plot: Path | None) -> Report:
    """What binds a step of MODEL over a variable, or over two with exact borders; or where a promise is met."""
    from symroof.questions.regimes import regimes as over_one
    from symroof.serving.maps.regime_map import regime_map

    if len(over) > 2:
        raise click.UsageError(f"--over {quote(over[2])}: a map has two variables; leave one out")
    names = [request.variable(name) for name in over]
    step, device = request.step_over(names, "--over"), request.device
    assert device is not None
    if len(names) == 1:
        if operator != "total" or tpot or ttft or plot:
            raise click.UsageError("--operator, --tpot, --ttft and --plot are for a map: give --over twice")
        return over_one(step, over=names[0], hardware=device, ceilings=request.ceilings).report()
    promises = {"tpot": _rational(tpot), "ttft": _rational(ttft)}
    found = regime_map(step, (names[0], names[1]), hardware=device, ceilings=request.ceilings, operator=operator, **promises)
    if plot is not None:
        _draw(found, plot)
    return found.report()


def _rational(given: Any) -> Any:
    """A number as typed, exact."""
    from sympy import Rational

    return None if given is None else Rational(given.numerator, given.denominator)


def _draw(found: RegimeMap, path: Path) -> None:
    """Write the picture of a map."""
    from symroof.files import check_writable, writing
    from symroof.present.serving.regime_map_plot import regime_map_figure

    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"plot {quote(str(path))}: expected a file that ends in {', '.join(ENDINGS)}")
    check_writable(path)
    figure = regime_map_figure(found)
    with writing(path) as place:
        figure.savefig(place, format=path.suffix[1:].lower(), dpi=150)


@click.command(short_help="What each technique of a stack brings.")
@chains_option('A member of the stack, in the order applied: quantize:weights=4, or several together, "quantize:weights=4 quantize:kv=8".')
@variable_option("--over", "over", "The variable over which times are compared.", default="batch", show_default=True)
@click.option("--at", "at", multiple=True, type=Exact("a number above 0"), metavar="NUMBER", help="Show the shares at this value of it.")
@click.option("--per-device", is_flag=True, help="Compare the time of all devices that share the step together.")
@step_options(phase="decode", techniques=False)
@reports
def ablate(request: Request, techniques: tuple[str, ...], over: str, at: tuple[Any, ...], per_device: bool) -> Report:
    """What each technique of a stack brings to a step of MODEL: alone, on top of all others, and as its Shapley share; and the pairs."""
    from symroof.present.serving.ablations import ablation_report
    from symroof.serving.stacks.ablation import ablate as of_stack

    over, device = variable_named(over, techniques), request.device
    assert device is not None
    step = request.step_over([over], "--over")
    found = of_stack(step, techniques, over, hardware=device, ceilings=request.ceilings, per_device=per_device)
    return ablation_report(found, tuple(filter(None, map(_rational, at))))
