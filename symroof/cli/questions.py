"""`symroof analyze, crossover, prove, solve, largest, generate, compare`: the questions about steps of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from symroof.cli import completion
from symroof.cli.options import BATCH_ALONE, GIVEN, Request, Variadic, chains_option, model_named, step_options, variable_option
from symroof.cli.output import reports
from symroof.cli.values import Exact, Whole, Word, bounds_of

if TYPE_CHECKING:
    from symroof.present.report import Report

SIZE = Whole()
TIME, RATE = Exact("a time above 0 such as 0.02, 20ms or 500us", "second"), Exact("a number above 0")
MEMORY = Exact("an amount of memory with its unit, such as 48GB", "byte", bare=False)
OPERATOR = "An operator; several joined by +, taken as fused; total; or weights-and-kv."


@click.command(short_help="The roofline table of one step.")
@step_options(sizes=GIVEN, calibration=True)
@click.option("--formulas", is_flag=True, help="Show the formulas, and what their symbols mean.")
@reports
def analyze(request: Request, formulas: bool) -> Report:
    """FLOPs, traffic, intensity, bound and time of every operator of one step of MODEL."""
    from symroof.present.records import analysis_report
    from symroof.roof.analysis import analyze as roofline

    return analysis_report(roofline(request.step(), request.device, ceilings=request.ceilings), formulas=formulas)


@click.command(short_help="Where the bound changes, as a formula.")
@click.option("--operator", required=True, metavar="NAME", help=f"{OPERATOR} Or all, for each operator.")
@variable_option("--over", "over", "batch, seq_len, weight_bits, hidden_size, group_size, peak, bandwidth, ...", required=True)
@step_options(device=False, calibration=True)
@reports
def crossover(request: Request, operator: str, over: str) -> Report:
    """Where the bound of an operator of MODEL changes in one VARIABLE, as a formula and on a device."""
    from symroof.questions.crossover import Crossovers
    from symroof.questions.crossovers import crossover as solve_one
    from symroof.questions.crossovers import crossovers

    over = request.variable(over)
    step, device = request.step_over([over], "--over"), request.device
    if operator == "all":
        return crossovers(step, over=over, hardware=device, ceilings=request.ceilings).report()
    return Crossovers((solve_one(step, operator, over=over, hardware=device, ceilings=request.ceilings),)).report()


@click.command(cls=Variadic, short_help="Prove or refute a bound for all values.")
@click.argument("claim", type=Word(("memory-bound", "compute-bound")), metavar="memory-bound|compute-bound")
@click.option("--operator", required=True, metavar="NAME", help=OPERATOR)
@click.option(
    "--for-all",
    multiple=True,
    required=True,
    type=completion.VARIABLE_NAME,
    metavar="VARIABLE ...",
    help="The variables that range over all their values.",
)
@click.option(
    "--at-least",
    multiple=True,
    type=completion.ASSIGNMENT,
    metavar="VARIABLE=NUMBER ...",
    help="Lower limit of a variable; by default 1 for whole numbers, above 0 otherwise.",
)
@step_options(device=False)
@reports
def prove(request: Request, claim: str, operator: str, for_all: tuple[str, ...], at_least: tuple[str, ...]) -> Report:
    """Prove or refute that an operator of MODEL has one bound for all values of some variables.

    Exit status: 0 proved, 1 refuted, 3 unknown, 2 bad input.
    """
    from symroof.questions.proofs import prove as decide

    step, lows = request.step_over(for_all, "--for-all"), bounds_of(at_least)
    asked = {"for_all": for_all, "at_least": lows, "hardware": request.hardware, "ceilings": request.ceilings}
    return decide(step, claim, operator, **asked).report()


@click.command(short_help="What a resource must be to reach a target.")
@variable_option("--for", "over", "bandwidth, peak, batch, seq_len, weight_bits, ...; or capacity.", required=True)
@click.option("--target-time", type=TIME, metavar="TIME", help="Largest time per generated token or prefill step, such as 20ms or 0.02.")
@click.option("--target-rate", type=RATE, metavar="RATE", help="Or a rate: tokens (decode) or sequences (prefill) per second.")
@step_options()
@reports
def solve(request: Request, over: str, target_time: object, target_rate: object) -> Report:
    """What VARIABLE must be for a step of MODEL to reach a target, by time and by memory; or the capacity the step needs."""
    from symroof.present.answers import capacity_report
    from symroof.questions.required import required, required_capacity

    over, device = request.variable(over), request.device
    assert device is not None
    step = request.step_over([over], "--for")
    if over == "capacity":
        return capacity_report(step, required_capacity(step).exact, device)
    targets = {"target_time": target_time, "target_rate": target_rate}
    return required(step, over=over, hardware=device, ceilings=request.ceilings, **targets).report()


@click.command(short_help="The largest batch or context that fits.")
@variable_option("--for", "over", "batch, seq_len, weight_bits, ...", default="batch", show_default=True)
@click.option("--hardware", type=completion.DEVICE, metavar="DEVICE", help="A name of `symroof devices`, or the path of a TOML file.")
@click.option("--capacity", type=MEMORY, metavar="BYTES", help="Instead: memory, as 48GB.")
@step_options(device=None, phase="decode", ceilings=False)
@reports
def largest(request: Request, over: str, capacity: object) -> Report:
    """The largest batch, context or other input of a step of MODEL that fits the memory of a device, or of each of several."""
    if (request.hardware is None) == (capacity is None):
        raise click.UsageError("--hardware or --capacity: give one of them")
    from symroof.questions.capacity import largest as most

    over = request.variable(over)
    if over == "seq_len" and request.options["batch"] is None:
        request.options["batch"] = 1
    step = request.step_over([over], "--for")
    return most(step, over=over, hardware=request.device, capacity=capacity).report()


@click.command(short_help="Total time and traffic of prefill plus generation.")
@click.option("--prompt", type=SIZE, required=True, help="Tokens of the prompt.")
@click.option("--tokens", type=SIZE, required=True, help="Tokens generated; the prompt gives the first of them.")
@step_options(sizes=BATCH_ALONE, phase=None, calibration=True)
@reports
def generate(request: Request, prompt: int, tokens: int) -> Report:
    """Time and traffic of reading a prompt and generating tokens after it, summed in closed form; and whether they fit."""
    from symroof.questions.generation import generation

    assert request.device is not None
    asked = {"hardware": request.device, "techniques": request.techniques, "ceilings": request.ceilings, **request.options}
    return generation(model_named(request.model), prompt=prompt, tokens=tokens, **asked).report()


@click.command(short_help="Several ways to run a step, side by side.")
@chains_option('A variant: for example quantize:weights=4, or several in a row, "quantize:weights=4 flash-attention".')
@click.option(
    "--baseline",
    default="",
    type=completion.TechniqueText(),
    metavar="TECHNIQUES",
    help="The variant to compare with; left out, the step as it is.",
)
@variable_option("--over", "over", "The variable over which to find where each variant is faster.", default="batch", show_default=True)
@step_options(sizes=GIVEN, techniques=False)
@reports
def compare(request: Request, techniques: tuple[str, ...], baseline: str, over: str) -> Report:
    """A step of MODEL as it is, or after a baseline, and after each of several chains of techniques: times, memory, crossovers."""
    from symroof.cli.options import variable_named
    from symroof.questions.comparison import compare as side_by_side
    from symroof.symbols import lookup, option_name
    from symroof.techniques.registry import chain

    over = variable_named(over, (baseline, *techniques))
    name, step, device = option_name(lookup(over).symbol), request.step(), request.device
    assert device is not None
    free = request.step(**{name: None}) if name in request.options and not name.endswith("bits") else step
    base, *chains = [chain([text]) for text in (baseline, *techniques)]
    return side_by_side(step, free, chains, over=over, hardware=device, ceilings=request.ceilings, baseline=base).report()
