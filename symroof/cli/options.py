"""The options that describe a step, as one decorator, and the step and device that they describe."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from symroof.cli import completion
from symroof.cli.values import Whole, Word, one_of
from symroof.conventions import BITS
from symroof.errors import InputError, quote

if TYPE_CHECKING:
    from symroof.architectures.model import Model
    from symroof.architectures.step import Step
    from symroof.hardware.device import Device

SIZE, WIDTH = Whole(), Whole(64)
PHASES = ("prefill", "decode")
PUBLISHED = f"as the config states, else {BITS}"
EVERY_TENSOR = "Bits of every weight, without scales: an ideal. For 4-bit checkpoints as they are, --with quantize:weights=4,group=128."
WIDTHS = (
    click.option("--weight-bits", type=WIDTH, show_default=PUBLISHED, help=EVERY_TENSOR),
    click.option("--activation-bits", type=WIDTH, show_default=str(BITS), help="Bits per activation."),
    click.option("--kv-bits", type=WIDTH, show_default=PUBLISHED, help="Bits per element of the KV cache."),
)
CONVENTIONS = (
    click.option("--flash-attention", is_flag=True, help="Attention as one operator whose scores stay on chip."),
    one_of("--accounting", ("exact", "llm-viewer", "survey"), "This library's formulas; LLM-Viewer's; or the survey's."),
    click.option("--causal/--no-causal", default=True, show_default=True, help="Count only the pairs a causal mask leaves."),
    one_of(
        "--mla",
        ("auto", "absorbed", "decompressed"),
        "Latent attention: on the compressed vectors, or on keys and values expanded from them.",
    ),
    one_of("--lm-head", ("last", "all"), "Tokens that get logits."),
    one_of("--experts", ("expected", "at-most"), "Experts of a layer that a step reads: the mean of independent choices, or the most."),
)
CEILINGS = one_of(
    "--ceilings",
    ("classic", "stated", "calibrated"),
    "Only matrix peak and memory bandwidth; all rates the device states; or the shares of them that measured kernels reach.",
    default="stated",
)
CALIBRATION = click.option("--calibration", metavar="FILE", help="Constants from `symroof calibrate`; implies --ceilings calibrated.")
WITH = click.option(
    "--with",
    "techniques",
    multiple=True,
    type=completion.TechniqueText(),
    metavar="TECHNIQUE",
    help="Such as quantize:weights=4,group=128; applied in the order given; a parameter left out stays a symbol. See `symroof techniques`.",
)
A_DEVICE = "A name of `symroof devices`, or the path of a TOML file"
OF_STEP = ("phase", "batch", "seq_len", "weight_bits", "activation_bits", "kv_bits")
OF_STEP += ("flash_attention", "accounting", "causal", "mla", "lm_head", "experts")
OF_REQUEST = ("model", "hardware", "ceilings", "calibration", "techniques")

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def with_options(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def variable_option(name: str, called: str, help_: str, **settings: Any) -> Decorator:
    """An option that names a variable, with the name it has in the command; *settings* as click's."""
    return click.option(name, called, type=completion.VARIABLE_NAME, metavar="VARIABLE", help=help_, **settings)


def chains_option(help_: str) -> Decorator:
    """An option that takes a technique, or several together, each time it is given."""
    taken: dict[str, Any] = {"type": completion.TechniqueText(), "metavar": "TECHNIQUES"}
    return click.option("--with", "techniques", multiple=True, required=True, help=help_, **taken)


OPEN, GIVEN, BATCH_ALONE = "open", "given", "batch"
"""Sizes that stay symbols where they are left out; sizes that have numbers; a batch with a number, and no length."""


def step_options(
    *,
    device: bool | None = True,
    sizes: str = OPEN,
    phase: str | None = "",
    ceilings: bool = True,
    calibration: bool = False,
    techniques: bool = True,
) -> Decorator:
    """The model and all options of a step; the command is called with a `Request` for them.

    Parameters
    ----------
    device : required (True), optional (False), or no option here (None).
    sizes : `OPEN`, `GIVEN` or `BATCH_ALONE`.
    phase : its default; empty where it is required, None where the command is of both.
    ceilings, calibration, techniques : whether there are such options.
    """
    left_out = "; left out, it stays a symbol" if sizes == OPEN else ""
    options = [click.argument("model", type=completion.MODEL)]
    if phase is not None:
        default: dict[str, Any] = {"default": phase, "show_default": True} if phase else {"required": True}
        options.append(click.option("--phase", type=Word(PHASES), help="Read a prompt, or generate one token per sequence.", **default))
    if device is not None:
        open_device = "" if device else "; left out, peak and bandwidth stay symbols"
        hardware = {"type": completion.DEVICE, "metavar": "DEVICE", "required": device}
        options.append(click.option("--hardware", help=f"{A_DEVICE}{open_device}.", **hardware))
    options += [CEILINGS] * ceilings + [CALIBRATION] * calibration
    batch: dict[str, Any] = {} if sizes == OPEN else {"default": 1, "show_default": True}
    options.append(click.option("--batch", type=SIZE, help=f"Sequences in the batch{left_out}.", **batch))
    if sizes != BATCH_ALONE:
        length = f"Prompt length (prefill) or context length (decode){left_out}."
        options.append(click.option("--seq-len", type=SIZE, required=sizes == GIVEN, help=length))
    options += [*WIDTHS, *CONVENTIONS, *[WITH] * techniques]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def called(*arguments: Any, **values: Any) -> Any:
            own = {name: values.pop(name) for name in OF_REQUEST if name in values and (techniques or name != "techniques")}
            described = {name: values.pop(name) for name in OF_STEP if name in values}
            return command(*arguments, request=Request(click.get_current_context(), described, **own), **values)

        return with_options(*options)(called)

    return decorate


@dataclass
class Request:
    """The step and the device that a command line describes.

    Attributes
    ----------
    ctx : of the command, which knows what was typed.
    options : of the step, as `symroof.architectures.options.Options` has them.
    ceilings : the ceiling set; "calibrated" where constants are given.
    """

    ctx: click.Context
    options: dict[str, Any]
    model: str
    hardware: str | None = None
    ceilings: str = "stated"
    calibration: str | None = None
    techniques: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.calibration is not None:
            self.ceilings = calibrated_ceilings(self.ctx, self.hardware, self.ceilings)

    @functools.cached_property
    def device(self) -> Device | None:
        """The device, with constants from a file where one is given."""
        from symroof.hardware.loader import load_hardware

        device = None if self.hardware is None else load_hardware(self.hardware)
        return device if device is None or self.calibration is None else device.calibrated(self.calibration)

    def variable(self, name: str) -> str:
        """The variable behind a name, be it a technique's own for its parameter."""
        return variable_named(name, self.techniques)

    def step(self, **changes: Any) -> Step:
        """The step, with these options instead of those typed."""
        from symroof.architectures.options import Options

        loaded = model_named(self.model)
        step = loaded.step(Options(**{**self.options, **changes}).with_widths(loaded.published))
        if not self.techniques:
            return step
        from symroof.techniques.registry import chain

        return step.apply(*chain(self.techniques))

    def step_over(self, asked: Iterable[str], option: str) -> Step:
        """The step in which nothing that the answer ranges over has a number.

        Raises
        ------
        click.UsageError
            An option or a technique gives it one; the message says what to leave out.
        """
        for name in asked:
            if self.ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                given = f"--{name.replace('_', '-')} is given as a number, but {option} {name} asks over it"
                raise click.UsageError(f"{given}: leave one of the two out")
        from symroof.symbols import VOCABULARY

        step = self.step()
        numbers = {symbol: number for symbol, number in step.symbolic.definitions.items() if symbol in VOCABULARY and number.is_number}
        by_name = {key: number for symbol, number in numbers.items() for key in (VOCABULARY[symbol].name, str(symbol))}
        for name in asked:
            if name in by_name:
                raise click.UsageError(f"{option} {name}: --with gives it the number {by_name[name]}; name it there without a value")
        return step


def model_named(name: str) -> Model:
    """The model of this name or config, or the module that ``file.py:function`` builds: the only form on which a file is run as code."""
    from symroof.architectures.model import load_model
    from symroof.tracing.program import is_program, load_module

    return load_module(name) if is_program(name) else load_model(name)


OF_MODULES = ("ablate", "analyze", "compare", "cost", "crossover", "generate", "largest", "prove", "regimes", "solve", "sweep")
"""Commands that take a module of torch."""


def configured_model(name: str) -> Model:
    """The model of this name or config, for a command that needs its dimensions: ``file.py:function`` is refused."""
    from symroof.tracing.program import is_program

    if is_program(name):
        raise InputError(f"model {quote(name)}: expected a name or a config.json; a module of torch is for {', '.join(OF_MODULES)}")
    return model_named(name)


def calibrated_ceilings(ctx: click.Context, hardware: object, ceilings: str) -> str:
    """The ceiling set where constants are given.

    Raises
    ------
    click.UsageError
        It is typed and another one, or there is no device.
    """
    if not hardware:
        raise click.UsageError("--calibration: constants are of a device; give --hardware")
    if ctx.get_parameter_source("ceilings") is ParameterSource.COMMANDLINE and ceilings != "calibrated":
        raise click.UsageError(f"--calibration: constants say nothing under --ceilings {ceilings}; leave one of the two out")
    return "calibrated"


def variable_named(name: str, techniques: Iterable[str]) -> str:
    """The variable behind a technique's own name for its parameter: ``share`` of offload is ``offloaded_share``.

    >>> variable_named("length", ["speculative:acceptance=0.8,draft_cost=0.1"])
    'draft_length'
    >>> variable_named("batch", [])
    'batch'
    """
    from symroof.errors import InputError
    from symroof.roof.costs import named_variable
    from symroof.techniques.registry import chain

    try:
        return named_variable(name, chain(techniques)).name
    except InputError:  # the question says so; it may know names that are no variables, such as capacity
        return name


class Variadic(click.Command):
    """A command whose repeatable options also take several values in a row: ``--for-all batch seq_len``."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What may follow: a further value of the last option, too."""
        further = completion.further(ctx, incomplete)
        return super().shell_complete(ctx, incomplete) if further is None else further

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
        if current and ctx.resilient_parsing:  # a shell asks what may follow
            ctx.meta[completion.FOLLOWED] = next(param for param in self.params if current in param.opts)
        elif current and not filled:
            raise click.UsageError(f"Option {current!r} requires an argument.")
        return super().parse_args(ctx, spread)
