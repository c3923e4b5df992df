"""`symroof solve` and `symroof generate`: what a target needs, and what a whole answer costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from symroof.cli.options import (
    CONVENTIONS,
    PHASE,
    SIZE,
    SIZES,
    WIDTHS,
    WITH,
    refuse_defined,
    refuse_given,
    step_of,
    variable_named,
    with_options,
)
from symroof.cli.output import OutputFile, as_json, as_text, check_writable, chosen_format, emit
from symroof.cli.values import Positive, Seconds, Word

DEVICE = click.option("--hardware", required=True, metavar="DEVICE", help="A name of `symroof devices`, or the path of a TOML file.")
FORMS = ("table", "json")
FORM = click.option("--format", "wanted", type=Word(FORMS), help="Default: by the ending of FILE, else table.")
OUTPUT = click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write there instead of to the terminal.")


@click.command(short_help="What a resource must be to reach a target.")
@click.argument("model")
@with_options(PHASE, DEVICE)
@click.option("--for", "over", required=True, metavar="VARIABLE", help="bandwidth, peak, batch, seq_len, weight_bits, ...; or capacity.")
@click.option("--target-time", type=Seconds(), metavar="TIME", help="Seconds a step may take, as 0.02, 20ms or 500us.")
@click.option("--target-rate", type=Positive(), metavar="RATE", help="Instead: tokens (decode) or sequences (prefill) per second.")
@with_options(*SIZES, *WIDTHS, *CONVENTIONS, WITH)
@FORM
@OUTPUT
@click.pass_context
def solve(
    ctx: click.Context,
    model: str,
    over: str,
    hardware: str,
    target_time: object,
    target_rate: object,
    techniques: tuple[str, ...],
    wanted: str | None,
    output: Path | None,
    **options: object,
) -> None:
    """What VARIABLE must be for a step of MODEL to reach a target; or the capacity the step needs."""
    over = variable_named(over, techniques)
    refuse_given(ctx, [over], "--for")
    check_writable(output)
    from symroof.hardware.loader import load_hardware
    from symroof.present.conditions import design

    step = step_of(model, techniques=techniques, **options)
    refuse_defined(step, [over], "--for")
    record, lines = design(step, over, load_hardware(hardware), target_time, target_rate)
    if techniques and (refused := misfit(model, over, record, techniques, options)):
        record["misfit"] = refused
        lines.insert(1, f"but that does not fit: {refused}")
    emit(as_json(record) if chosen_format(wanted, output, FORMS) == "json" else "\n".join(lines), output)


def misfit(model: str, over: str, record: dict[str, Any], techniques: tuple[str, ...], options: dict[str, Any]) -> str:
    """Why the answer does not fit the model, where a technique says so of that number; empty where it does."""
    from sympy import Integer, Rational

    from symroof.architectures.model import load_model
    from symroof.architectures.options import Options
    from symroof.errors import InputError
    from symroof.symbols import lookup, option_name
    from symroof.techniques.registry import chain, with_number

    if over == "capacity":
        return ""
    known = lookup(over)
    value = record["integer"] if record.get("integer") is not None else None
    if value is None or value < 1:
        return ""
    given, name = dict(options), option_name(known.symbol)
    if name in given:
        given[name] = int(value)
    found = load_model(model)
    if given.get("weight_bits", 0) is None:
        given["weight_bits"] = found.weight_bits
    chained = with_number(chain(techniques), known.symbol, Integer(value) if known.domain == "integer" else Rational(value))
    try:
        found.step(Options(**given)).apply(*chained)
    except InputError as error:
        return str(error)
    return ""


@click.command(short_help="A prompt and the tokens after it, summed.")
@click.argument("model")
@click.option("--prompt", type=SIZE, required=True, help="Tokens of the prompt.")
@click.option("--tokens", type=SIZE, required=True, help="Tokens generated after it.")
@with_options(
    DEVICE, click.option("--batch", type=SIZE, default=1, show_default=True, help="Sequences in the batch."), *WIDTHS, *CONVENTIONS, WITH
)
@FORM
@OUTPUT
def generate(
    model: str,
    prompt: int,
    tokens: int,
    hardware: str,
    batch: int,
    techniques: tuple[str, ...],
    wanted: str | None,
    output: Path | None,
    **options: object,
) -> None:
    """Time and traffic of reading a prompt and generating tokens after it, summed in closed form."""
    check_writable(output)
    from symroof.architectures.model import load_model
    from symroof.hardware.loader import load_hardware
    from symroof.present.answers import generation_record
    from symroof.present.conditions import generation_parts
    from symroof.questions.generation import generation
    from symroof.techniques.registry import chain

    device, found_model = load_hardware(hardware), load_model(model)
    options["weight_bits"] = options["weight_bits"] or found_model.weight_bits
    found = generation(found_model, prompt=prompt, tokens=tokens, hardware=device, techniques=chain(techniques), batch=batch, **options)
    if chosen_format(wanted, output, FORMS) == "json":
        emit(as_json(generation_record(found, found_model.name, device.name, batch)), output)
    else:
        emit(as_text(generation_parts(found, " + ".join((found_model.name, *techniques)), device), output is not None), output)
