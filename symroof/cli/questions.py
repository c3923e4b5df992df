"""`symroof analyze, crossover, prove, solve, generate, compare`: the questions about steps of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from symroof.cli.options import (
    ANY_DEVICE,
    BATCH,
    CALIBRATION,
    CEILINGS,
    CONVENTIONS,
    DEVICE,
    GIVEN_SIZES,
    PHASE,
    SIZE,
    SIZES,
    WIDTHS,
    WITH,
    Variadic,
    calibrated,
    step_of,
    step_over,
    variable_named,
    with_options,
)
from symroof.cli.output import reports
from symroof.cli.values import Exact, Word, bounds_of

if TYPE_CHECKING:
    from symroof.present.report import Report

TIME, RATE = Exact("a time above 0 such as 0.02, 20ms or 500us", "second"), Exact("a number above 0")
OPERATOR = "An operator; several joined by +, taken as fused; total; or weights-and-kv."


@click.command(short_help="The roofline table of one step.")
@click.argument("model")
@with_options(DEVICE, CEILINGS, CALIBRATION, PHASE, *GIVEN_SIZES, *WIDTHS, *CONVENTIONS, WITH)
@click.option("--formulas", is_flag=True, help="Show the formulas, and what their symbols mean.")
@reports
@click.pass_context
def analyze(
    ctx: click.Context, model: str, hardware: str, ceilings: str, calibration: str | None, formulas: bool, **options: Any
) -> Report:
    """FLOPs, traffic, intensity, bound and time of every operator of one step of MODEL."""
    from symroof.present.records import analysis_report
    from symroof.roof.analysis import analyze as roofline

    device, ceilings = calibrated(ctx, hardware, ceilings, calibration)
    return analysis_report(roofline(step_of(model, **options), device, ceilings=ceilings), formulas=formulas)


@click.command(short_help="Where the bound changes, as a formula.")
@click.argument("model")
@with_options(PHASE)
@click.option("--operator", required=True, metavar="NAME", help=f"{OPERATOR} Or all, for each operator.")
@click.option(
    "--over", required=True, metavar="VARIABLE", help="batch, seq_len, weight_bits, hidden_size, group_size, peak, bandwidth, ..."
)
@with_options(ANY_DEVICE, CEILINGS, CALIBRATION, *SIZES, *WIDTHS, *CONVENTIONS, WITH)
@reports
@click.pass_context
def crossover(
    ctx: click.Context,
    model: str,
    operator: str,
    over: str,
    hardware: str | None,
    ceilings: str,
    calibration: str | None,
    **options: Any,
) -> Report:
    """Where the bound of an operator of MODEL changes in one VARIABLE, as a formula and on a device."""
    over = variable_named(over, cast(tuple[str, ...], options["techniques"]))
    from symroof.present.answers import crossover_report
    from symroof.questions.crossovers import crossover as solve_one
    from symroof.questions.crossovers import crossovers

    step = step_over(ctx, [over], "--over", model, **options)
    device, ceilings = calibrated(ctx, hardware, ceilings, calibration)
    if operator == "all":
        answers = crossovers(step, over=over, hardware=device, ceilings=ceilings)
    else:
        answers = (solve_one(step, operator, over=over, hardware=device, ceilings=ceilings),)
    return crossover_report(step, answers, hardware)


@click.command(cls=Variadic, short_help="Prove or refute a bound for all values.")
@click.argument("claim", type=Word(("memory-bound", "compute-bound")), metavar="memory-bound|compute-bound")
@click.argument("model")
@with_options(PHASE)
@click.option("--operator", required=True, metavar="NAME", help=OPERATOR)
@click.option("--for-all", multiple=True, required=True, metavar="VARIABLE ...", help="The variables that range over all their values.")
@click.option(
    "--at-least",
    multiple=True,
    metavar="VARIABLE=NUMBER ...",
    help="Lower limit of a variable; by default 1 for whole numbers, above 0 otherwise.",
)
@with_options(ANY_DEVICE, CEILINGS, *SIZES, *WIDTHS, *CONVENTIONS, WITH)
@reports
@click.pass_context
def prove(
    ctx: click.Context,
    claim: str,
    model: str,
    operator: str,
    for_all: tuple[str, ...],
    at_least: tuple[str, ...],
    hardware: str | None,
    ceilings: str,
    **options: Any,
) -> Report:
    """Prove or refute that an operator of MODEL has one bound for all values of some variables.

    Exit status: 0 proved, 1 refuted, 3 unknown, 2 bad input.
    """
    from symroof.present.answers import certificate_report
    from symroof.questions.proofs import prove as decide

    step, lows = step_over(ctx, for_all, "--for-all", model, **options), bounds_of(at_least)
    return certificate_report(decide(step, claim, operator, for_all=for_all, at_least=lows, hardware=hardware, ceilings=ceilings))


@click.command(short_help="What a resource must be to reach a target.")
@click.argument("model")
@with_options(PHASE, DEVICE, CEILINGS)
@click.option("--for", "over", required=True, metavar="VARIABLE", help="bandwidth, peak, batch, seq_len, weight_bits, ...; or capacity.")
@click.option("--target-time", type=TIME, metavar="TIME", help="Time a generated token, or a prefill step, may take, as 20ms or 0.02.")
@click.option("--target-rate", type=RATE, metavar="RATE", help="Instead: tokens (decode) or sequences (prefill) per second.")
@with_options(*SIZES, *WIDTHS, *CONVENTIONS, WITH)
@reports
@click.pass_context
def solve(
    ctx: click.Context,
    model: str,
    over: str,
    hardware: str,
    ceilings: str,
    target_time: object,
    target_rate: object,
    techniques: tuple[str, ...],
    **options: Any,
) -> Report:
    """What VARIABLE must be for a step of MODEL to reach a target; or the capacity the step needs."""
    over = variable_named(over, techniques)
    from symroof.hardware.loader import load_hardware
    from symroof.present.answers import capacity_report, requirement_report
    from symroof.questions.required import required, required_capacity

    step, device = step_over(ctx, [over], "--for", model, techniques=techniques, **options), load_hardware(hardware)
    if over == "capacity":
        return capacity_report(step, required_capacity(step), device)
    answer = required(step, over=over, hardware=device, target_time=target_time, target_rate=target_rate, ceilings=ceilings)
    return requirement_report(step, answer, device)


@click.command(short_help="The largest batch or context that fits.")
@click.argument("model")
@click.option("--for", "over", default="batch", show_default=True, metavar="VARIABLE", help="batch, seq_len, weight_bits, ...")
@click.option("--phase", type=Word(("prefill", "decode")), default="decode", show_default=True, help="Activations differ.")
@click.option("--hardware", metavar="DEVICE", help="A name of `symroof devices`, or the path of a TOML file.")
@click.option("--capacity", type=Exact("an amount of memory such as 48GB", "byte"), metavar="BYTES", help="Instead: memory, as 48GB.")
@with_options(*SIZES, *WIDTHS, *CONVENTIONS, WITH)
@reports
@click.pass_context
def largest(
    ctx: click.Context, model: str, over: str, hardware: str | None, capacity: object, techniques: tuple[str, ...], **options: Any
) -> Report:
    """The largest batch, context or other input of a step of MODEL that fits the memory of a device, or of each of several."""
    over = variable_named(over, techniques)
    if (hardware is None) == (capacity is None):
        raise click.UsageError("--hardware or --capacity: give one of them")
    if over == "seq_len" and options["batch"] is None:
        options["batch"] = 1
    from symroof.present.answers import largest_report
    from symroof.questions.capacity import largest as most

    step = step_over(ctx, [over], "--for", model, techniques=techniques, **options)
    return largest_report(step, most(step, over=over, hardware=hardware, capacity=capacity), hardware)


@click.command(short_help="Total time and traffic of prefill plus generation.")
@click.argument("model")
@click.option("--prompt", type=SIZE, required=True, help="Tokens of the prompt.")
@click.option("--tokens", type=SIZE, required=True, help="Tokens generated; the prompt gives the first of them.")
@with_options(DEVICE, CEILINGS, CALIBRATION, BATCH, *WIDTHS, *CONVENTIONS, WITH)
@reports
@click.pass_context
def generate(
    ctx: click.Context,
    model: str,
    prompt: int,
    tokens: int,
    hardware: str,
    ceilings: str,
    calibration: str | None,
    batch: int,
    techniques: tuple[str, ...],
    **options: Any,
) -> Report:
    """Time and traffic of reading a prompt and generating tokens after it, summed in closed form."""
    from symroof.architectures.model import load_model
    from symroof.present.answers import generation_report
    from symroof.questions.generation import generation
    from symroof.techniques.registry import chain

    device, ceilings = calibrated(ctx, hardware, ceilings, calibration)
    assert device is not None
    base, used = load_model(model), chain(techniques)
    answer = generation(base, prompt=prompt, tokens=tokens, hardware=device, techniques=used, ceilings=ceilings, batch=batch, **options)
    return generation_report(answer, base.name, techniques, device, batch)


@click.command(short_help="Several ways to run a step, side by side.")
@click.argument("model")
@with_options(DEVICE, CEILINGS)
@click.option(
    "--with",
    "techniques",
    multiple=True,
    required=True,
    metavar="TECHNIQUES",
    help='A variant: as quantize:weights=4, or several in a row, "quantize:weights=4 flash-attention".',
)
@click.option("--over", default="batch", show_default=True, metavar="VARIABLE", help="Say where each variant is faster over this variable.")
@with_options(PHASE, *GIVEN_SIZES, *WIDTHS, *CONVENTIONS)
@reports
def compare(model: str, hardware: str, ceilings: str, techniques: tuple[str, ...], over: str, **options: Any) -> Report:
    """A step of MODEL as it is, and after each of several chains of techniques: times, bytes, memory, crossovers."""
    from symroof.hardware.loader import load_hardware
    from symroof.present.comparison import comparison_report
    from symroof.questions.comparison import compare as side_by_side
    from symroof.symbols import lookup, option_name
    from symroof.techniques.registry import chain

    over = variable_named(over, techniques)
    name = option_name(lookup(over).symbol)
    step = step_of(model, **options)
    free = step_of(model, **{**options, name: None}) if name in options and not name.endswith("bits") else step
    chains = [chain([text]) for text in techniques]
    variants = side_by_side(step, free, chains, over=over, hardware=load_hardware(hardware), ceilings=ceilings)
    return comparison_report(variants, name)
