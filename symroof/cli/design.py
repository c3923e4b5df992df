"""`symroof solve` and `symroof generate`: what a target needs, and what a whole answer costs."""

from __future__ import annotations

from pathlib import Path

import click

from symroof.cli.options import CONVENTIONS, PHASE, SIZE, SIZES, WIDTHS, refuse_given, step_of, with_options
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
@with_options(*SIZES, *WIDTHS, *CONVENTIONS)
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
    wanted: str | None,
    output: Path | None,
    **options: object,
) -> None:
    """What VARIABLE must be for a step of MODEL to reach a target; or the capacity the step needs."""
    refuse_given(ctx, [over], "--for")
    check_writable(output)
    from symroof.hardware.loader import load_hardware
    from symroof.present.conditions import design

    step = step_of(model, **options)
    record, lines = design(step, over, load_hardware(hardware), target_time, target_rate)
    emit(as_json(record) if chosen_format(wanted, output, FORMS) == "json" else "\n".join(lines), output)


@click.command(short_help="A prompt and the tokens after it, summed.")
@click.argument("model")
@click.option("--prompt", type=SIZE, required=True, help="Tokens of the prompt.")
@click.option("--tokens", type=SIZE, required=True, help="Tokens generated after it.")
@with_options(
    DEVICE, click.option("--batch", type=SIZE, default=1, show_default=True, help="Sequences in the batch."), *WIDTHS, *CONVENTIONS
)
@FORM
@OUTPUT
def generate(
    model: str, prompt: int, tokens: int, hardware: str, batch: int, wanted: str | None, output: Path | None, **options: object
) -> None:
    """Time and traffic of reading a prompt and generating tokens after it, summed in closed form."""
    check_writable(output)
    from symroof.analysis.generation import generation
    from symroof.architectures.model import load_model
    from symroof.hardware.loader import load_hardware
    from symroof.present.conditions import generation_parts
    from symroof.present.records import generation_record

    device, found_model = load_hardware(hardware), load_model(model)
    options["weight_bits"] = options["weight_bits"] or found_model.weight_bits
    found = generation(found_model, prompt=prompt, tokens=tokens, hardware=device, batch=batch, **options)
    if chosen_format(wanted, output, FORMS) == "json":
        emit(as_json(generation_record(found, found_model.name, device.name, batch)), output)
    else:
        emit(as_text(generation_parts(found, found_model.name, device), output is not None), output)
