"""Options that several commands share, and the step they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from symroof.cli.values import Whole, Word
from symroof.conventions import BITS

if TYPE_CHECKING:
    from symroof.architectures.step import Step

SIZE, WIDTH = Whole(), Whole(64)

PHASE = click.option("--phase", type=Word(("prefill", "decode")), required=True, help="Read a prompt, or generate one token per sequence.")
CONVENTIONS = (
    click.option("--flash-attention", is_flag=True, help="Attention as one operator whose scores stay on chip."),
    click.option(
        "--accounting",
        type=Word(("exact", "llm-viewer", "survey")),
        default="exact",
        show_default=True,
        help="Right formulas; LLM-Viewer's; or those behind the survey.",
    ),
    click.option("--causal/--no-causal", default=True, show_default=True, help="Count only the pairs a causal mask leaves."),
    click.option(
        "--mla",
        type=Word(("auto", "absorbed", "decompressed")),
        default="auto",
        show_default=True,
        help="Latent attention: on the compressed vectors, or on keys and values expanded from them.",
    ),
    click.option("--lm-head", type=Word(("last", "all")), default="last", show_default=True, help="Tokens that get logits."),
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
CEILINGS = click.option(
    "--ceilings",
    type=Word(("classic", "stated", "calibrated")),
    default="stated",
    show_default=True,
    help="Matrix peak and memory bandwidth alone; all rates the device states; or fitted shares of them.",
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
    for one in chain(techniques):
        for each in fields(one):
            if each.name == name.replace("-", "_") and getattr(one, each.name) in one.free:
                return VOCABULARY[each.metadata["symbol"]].name
    return name


def refuse_defined(step: Step, asked: Iterable[str], option: str) -> None:
    """Raise where a technique gives a number for what the answer ranges over.

    Raises
    ------
    click.UsageError
        The message says what to leave out.
    """
    from symroof.errors import InputError
    from symroof.symbols import lookup

    for name in asked:
        try:
            known = lookup(name)
        except InputError:
            continue  # said where the name is used
        if known.symbol in step.symbolic.definitions and step.symbolic.definitions[known.symbol].is_number:
            number = step.symbolic.definitions[known.symbol]
            raise click.UsageError(f"{option} {name}: --with gives it the number {number}; name it there without a value")


def refuse_given(ctx: click.Context, asked: Iterable[str], option: str) -> None:
    """Raise where an input is given as a number though it is what the answer ranges over.

    Raises
    ------
    click.UsageError
        The message names both options.
    """
    for name in asked:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is given as a number, but {option} {name} asks over it: leave one of the two out"
            )


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
