"""`symroof crossover` and `symroof prove`: where the bound changes, and whether it ever does."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from symroof.cli.options import (
    CONVENTIONS,
    PHASE,
    SIZES,
    WIDTHS,
    WITH,
    Variadic,
    refuse_defined,
    refuse_given,
    step_of,
    variable_named,
    with_options,
)
from symroof.cli.output import OutputFile, as_json, as_text, check_writable, chosen_format, emit
from symroof.cli.values import Word, bounds_of

SHOWN, PROVED = ("table", "json", "latex", "markdown"), ("table", "json", "latex")
OPERATOR = "An operator; several joined by +, taken as fused; total; or weights-and-kv."
DEVICE = click.option(
    "--hardware", metavar="DEVICE", help="A name of `symroof devices` or a TOML file; left out, peak and bandwidth stay symbols."
)
OUTPUT = click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write there instead of to the terminal.")


@click.command(short_help="Where the bound changes, as a formula.")
@click.argument("model")
@with_options(PHASE)
@click.option("--operator", required=True, metavar="NAME", help=f"{OPERATOR} Or all, for each operator.")
@click.option(
    "--over", required=True, metavar="VARIABLE", help="batch, seq_len, weight_bits, hidden_size, group_size, peak, bandwidth, ..."
)
@with_options(DEVICE, *SIZES, *WIDTHS, *CONVENTIONS, WITH)
@click.option("--format", "wanted", type=Word(SHOWN), help="Default: by the ending of FILE, else table.")
@OUTPUT
@click.pass_context
def crossover(
    ctx: click.Context,
    model: str,
    operator: str,
    over: str,
    hardware: str | None,
    wanted: str | None,
    output: Path | None,
    **options: object,
) -> None:
    """Where the bound of an operator of MODEL changes in one VARIABLE, as a formula and on a device."""
    over = variable_named(over, cast(tuple[str, ...], options["techniques"]))
    refuse_given(ctx, [over], "--over")
    check_writable(output)
    from symroof.present.answers import crossover_record
    from symroof.present.conditions import crossover_parts
    from symroof.questions.crossovers import crossover as solve
    from symroof.questions.crossovers import crossovers

    step = step_of(model, **options)
    refuse_defined(step, [over], "--over")
    answers = (
        crossovers(step, over=over, hardware=hardware) if operator == "all" else (solve(step, operator, over=over, hardware=hardware),)
    )
    form = chosen_format(wanted, output, SHOWN)
    if form == "json":
        emit(as_json([crossover_record(answer) for answer in answers]), output)
    elif form == "latex":
        emit("\n\n".join(f"% {answer.operator}: {answer.sentence}\n{answer.latex()}" for answer in answers), output)
    elif form == "markdown":
        emit("\n\n".join(part if isinstance(part, str) else part.markdown() for part in crossover_parts(step, answers, hardware)), output)
    else:
        emit(as_text(crossover_parts(step, answers, hardware), output is not None), output)


@click.command(cls=Variadic, short_help="Prove or refute a bound for all values.")
@click.argument("claim", type=Word(("memory-bound", "compute-bound")), metavar="memory-bound|compute-bound")
@click.argument("model")
@with_options(PHASE)
@click.option("--operator", required=True, metavar="NAME", help=OPERATOR)
@click.option("--for-all", multiple=True, required=True, metavar="VARIABLE ...", help="The variables that range over all their values.")
@click.option("--at-least", multiple=True, metavar="VARIABLE=NUMBER ...", help="Where a variable starts; 1 where it counts, above 0 else.")
@with_options(DEVICE, *SIZES, *WIDTHS, *CONVENTIONS, WITH)
@click.option("--format", "wanted", type=Word(PROVED), help="Default: by the ending of FILE, else table.")
@OUTPUT
@click.pass_context
def prove(
    ctx: click.Context,
    claim: str,
    model: str,
    operator: str,
    for_all: tuple[str, ...],
    at_least: tuple[str, ...],
    hardware: str | None,
    wanted: str | None,
    output: Path | None,
    **options: object,
) -> None:
    """Prove or refute that an operator of MODEL has one bound for all values of some variables.

    Exit status: 0 proved, 1 refuted, 3 unknown, 2 bad input.
    """
    refuse_given(ctx, for_all, "--for-all")
    check_writable(output)
    from symroof.present.answers import certificate_record
    from symroof.present.conditions import certificate_lines
    from symroof.questions.proofs import prove as decide

    step = step_of(model, **options)
    refuse_defined(step, for_all, "--for-all")
    answer = decide(step, claim, operator, for_all=for_all, at_least=bounds_of(at_least), hardware=hardware)
    form = chosen_format(wanted, output, PROVED)
    if form == "json":
        emit(as_json(certificate_record(answer)), output)
    elif form == "latex":
        emit(answer.latex(), output)
    else:
        emit("\n".join(certificate_lines(answer)), output)
    ctx.exit({"proved": 0, "refuted": 1}.get(answer.verdict, 3))
