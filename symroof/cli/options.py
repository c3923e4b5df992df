"""Options that several commands share, and the step they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from symroof.cli.values import Whole, Word, one_of
from symroof.conventions import BITS

if TYPE_CHECKING:
    from symroof.architectures.step import Step
    from symroof.hardware.device import Device

SIZE, WIDTH = Whole(), Whole(64)

PHASE = click.option("--phase", type=Word(("prefill", "decode")), required=True, help="Read a prompt, or generate one token per sequence.")
LATENT = "Latent attention: on the compressed vectors, or on keys and values expanded from them."
CONVENTIONS = (
    click.option("--flash-attention", is_flag=True, help="Attention as one operator whose scores stay on chip."),
    one_of("--accounting", ("exact", "llm-viewer", "survey"), "Right formulas; LLM-Viewer's; or those behind the survey."),
    click.option("--causal/--no-causal", default=True, show_default=True, help="Count only the pairs a causal mask leaves."),
    one_of("--mla", ("auto", "absorbed", "decompressed"), LATENT),
    one_of("--lm-head", ("last", "all"), "Tokens that get logits."),
    one_of("--experts", ("expected", "at-most"), "Experts of a layer that a step reads: the mean of independent choices, or the most."),
)
WIDTHS = (
    click.option("--weight-bits", type=WIDTH, show_default=f"that of quantization_config, else {BITS}", help="Bits per weight."),
    click.option("--activation-bits", type=WIDTH, show_default=str(BITS), help="Bits per activation."),
    click.option("--kv-bits", type=WIDTH, show_default=str(BITS), help="Bits per element of the KV cache."),
)
SIZES = (
    click.option("--batch", type=SIZE, help="Sequences in the batch; left out, it stays a symbol."),
    click.option("--seq-len", type=SIZE, help="Prompt length (prefill) or context length (decode); left out, it stays a symbol."),
)
BATCH = click.option("--batch", type=SIZE, default=1, show_default=True, help="Sequences in the batch.")
GIVEN_SIZES = (BATCH, click.option("--seq-len", type=SIZE, required=True, help="Prompt length (prefill) or context length (decode)."))
DEVICE = click.option("--hardware", required=True, metavar="DEVICE", help="A name of `symroof devices`, or the path of a TOML file.")
ANY_DEVICE = click.option(
    "--hardware", metavar="DEVICE", help="A name of `symroof devices` or a TOML file; left out, peak and bandwidth stay symbols."
)
SETS = "Matrix peak and memory bandwidth alone; all rates the device states; or what measured kernels reach of them."
CEILINGS = one_of("--ceilings", ("classic", "stated", "calibrated"), SETS, default="stated")
CALIBRATION = click.option(
    "--calibration",
    metavar="FILE",
    help="Constants that `symroof calibrate` wrote, in the place of the library's; --ceilings is calibrated then.",
)
WITH = click.option(
    "--with",
    "techniques",
    multiple=True,
    metavar="TECHNIQUE",
    help="As quantize:weights=4,group=128; applied in the order given; a parameter left out stays a symbol. See `symroof techniques`.",
)

Command = Callable[..., Any]


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def calibrated(ctx: click.Context, hardware: str | None, ceilings: str, calibration: str | None) -> tuple[Device | None, str]:
    """The device with constants from a file where one is given, and the ceiling set.

    Raises
    ------
    click.UsageError
        Constants are given for ceilings that are not calibrated, or without a device.
    """
    from symroof.hardware.loader import load_hardware

    device = None if hardware is None else load_hardware(hardware)
    if calibration is None:
        return device, ceilings
    if device is None:
        raise click.UsageError("--calibration: constants are of a device; give --hardware")
    if ctx.get_parameter_source("ceilings") is ParameterSource.COMMANDLINE and ceilings != "calibrated":
        raise click.UsageError(f"--calibration: constants say nothing under --ceilings {ceilings}; leave one of the two out")
    return device.calibrated(calibration), "calibrated"


def step_of(model: str, **options: Any) -> Step:
    """The step of a model that the options describe."""
    from symroof.architectures.model import load_model
    from symroof.architectures.options import Options

    techniques = options.pop("techniques", ())
    found = load_model(model)
    step = found.step(Options(**options).with_widths(found.weight_bits))
    if not techniques:
        return step
    from symroof.techniques.registry import chain

    return step.apply(*chain(techniques))


def variable_named(name: str, techniques: Iterable[str]) -> str:
    """The variable behind a technique's own name for its parameter: ``share`` of offload is ``offloaded_share``.

    >>> variable_named("length", ["speculative:acceptance=0.8,draft_cost=0.1"])
    'draft_length'
    >>> variable_named("batch", [])
    'batch'
    """
    from dataclasses import fields

    from symroof.symbols import VOCABULARY
    from symroof.techniques.registry import chain

    known = {key for variable in VOCABULARY.values() for key in (variable.name, str(variable.symbol))}
    if name in known:
        return name
    given = [(one, each) for one in chain(techniques) for each in fields(one) if each.name == name.replace("-", "_")]
    free = (VOCABULARY[each.metadata["symbol"]].name for one, each in given if getattr(one, each.name) in one.free)
    return next(free, name)


def step_over(ctx: click.Context, asked: Iterable[str], option: str, model: str, **options: Any) -> Step:
    """The step that the options describe, in which nothing that the answer ranges over has a number.

    Raises
    ------
    click.UsageError
        An option or a technique gives it one; the message says what to leave out.
    """
    for name in asked:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            given = f"--{name.replace('_', '-')} is given as a number, but {option} {name} asks over it"
            raise click.UsageError(f"{given}: leave one of the two out")
    from symroof.symbols import VOCABULARY

    step = step_of(model, **options)
    numbers = {symbol: number for symbol, number in step.symbolic.definitions.items() if number.is_number}
    by_name = {key: number for symbol, number in numbers.items() for key in (VOCABULARY[symbol].name, str(symbol))}
    for name in asked:
        if name in by_name:
            raise click.UsageError(f"{option} {name}: --with gives it the number {by_name[name]}; name it there without a value")
    return step


class Variadic(click.Command):
    """A command whose repeatable options also take several values in a row: ``--for-all batch seq_len``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option in front of every value that follows it."""
        repeatable = {name for param in self.params if isinstance(param, click.Option) and param.multiple for name in param.opts}
        spread: list[str] = []
        current, filled = "", False
        for argument in args:
            if argument in repeatable:
                current, filled = argument, False
                continue
            if argument.startswith("-"):
                current = ""
            elif current:
                spread.append(current)
                filled = True
            spread.append(argument)
        if current and not filled:
            raise click.UsageError(f"Option {current!r} requires an argument.")
        return super().parse_args(ctx, spread)
