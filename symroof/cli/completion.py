"""Completion in shells: models, devices, variables, metrics, techniques and their parameters; `symroof completion` prints what sets it up.

What completes is looked up when a shell asks, so that no other command waits for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from symroof.cli.values import Word

VARIABLE = "_SYMROOF_COMPLETE"
"""The variable of the environment through which shells ask, as click names it."""


FOLLOWED = f"{__name__}.followed"
"""Where a command keeps the option whose further values the last words are: ``--hardware a100 h100``."""


def further(ctx: click.Context, incomplete: str) -> list[CompletionItem] | None:
    """The further values of that option; None where there is none."""
    option = ctx.meta.get(FOLLOWED)
    return option.shell_complete(ctx, incomplete) if option is not None and not incomplete.startswith("-") else None


class Known(click.ParamType):
    """Text of which the known values complete; it is checked where it is read.

    Parameters
    ----------
    name : what it is.
    values : the known ones.
    file : whether it may be the path of a file instead.
    """

    def __init__(self, name: str, values: Callable[[], Iterable[str]], *, file: bool = False) -> None:
        self.name, self.values, self.file = name, values, file

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The known values that begin so; files where none does."""
        if isinstance(param, click.Argument) and (more := further(ctx, incomplete)) is not None:
            return more
        found = [CompletionItem(value) for value in self.values() if value.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")] * self.file


class TechniqueText(click.ParamType):
    """A technique as typed, or a chain of them: names, their parameters, and the words that these may be."""

    name = "technique"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The techniques, parameters or words that the last word of the text may go on with."""
        before, space, last = incomplete.rpartition(" ")
        return [CompletionItem(f"{before}{space}{text}") for text in _technique_texts(last)]


def _technique_texts(typed: str) -> list[str]:
    """What a technique's text may go on with.

    >>> _technique_texts("quant"), _technique_texts("quantize:weights=4,gr"), _technique_texts("tensor-parallel:collective=t")
    (['quantize'], ['quantize:weights=4,group='], ['tensor-parallel:collective=tree'])
    """
    from dataclasses import fields

    from symroof.techniques.registry import names, technique_class

    name, colon, rest = typed.partition(":")
    if not colon or name not in names():
        return [known for known in names() if known.startswith(typed)]
    before, comma, last = rest.rpartition(",")
    key, equals, value = last.partition("=")
    parameters = {parameter.name: parameter.metadata for parameter in fields(technique_class(name))}
    start = f"{name}:{before}{comma}"
    if equals:
        return [f"{start}{key}={word}" for word in parameters.get(key, {}).get("choices", ()) if word.startswith(value)]
    given = {part.partition("=")[0] for part in before.split(",")}
    return [f"{start}{parameter}=" for parameter in parameters if parameter.startswith(key) and parameter not in given]


def _models() -> Iterable[str]:
    from symroof.architectures.config import catalogue

    return sorted(catalogue())


def _devices() -> Iterable[str]:
    from symroof.hardware.loader import catalogue

    return sorted(catalogue())


def _techniques() -> Iterable[str]:
    from symroof.techniques.registry import names

    return names()


def _variables() -> Iterable[str]:
    from symroof.symbols import VOCABULARY, option_name

    return dict.fromkeys(option_name(symbol) for symbol in VOCABULARY)


def _metrics() -> Iterable[str]:
    from symroof.sweeps.metrics import METRICS

    return METRICS


MODEL, DEVICE = Known("model", _models, file=True), Known("device", _devices, file=True)
TECHNIQUE, VARIABLE_NAME, METRIC = Known("technique", _techniques), Known("variable", _variables), Known("metric", _metrics)
ASSIGNMENT = Known("variable=values", lambda: (f"{name}=" for name in _variables()))


class Bash(BashComplete):
    """Bash, which takes ``:`` and ``=`` for the ends of words, and asks for what follows the last of them."""

    source_template = BashComplete.source_template.replace(
        "    return 0", "    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=] ]] && compopt -o nospace\n\n    return 0"
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one at the cursor, and that one, put together again."""
        words = split_arg_string(os.environ["COMP_WORDS"])[: int(os.environ["COMP_CWORD"]) + 1]
        whole: list[str] = [""]
        glued = True
        for word in words:
            breaks = re.fullmatch("[:=]+", word) is not None
            if glued or breaks:
                whole[-1] += word
            else:
                whole.append(word)
            glued = breaks
        if len(words) <= int(os.environ["COMP_CWORD"]):
            whole.append("")
        self._shown = max(whole[-1].rfind(end) for end in ":=") + 1
        return whole[1:-1], whole[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """The kind, and of the value what follows the last ``:`` or ``=`` that was typed."""
        return f"{item.type},{item.value[self._shown :]}"


class Zsh(ZshComplete):
    """zsh; a value goes on after ``=`` without a space."""

    source_template = ZshComplete.source_template.replace(
        "compadd -U -V unsorted -a completions", 'compadd -U -V unsorted -S "${${completions[1]:#*=}:+ }" -a completions'
    )


class Fish(FishComplete):
    """fish; values may have commas."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


SHELLS = {shell.name: shell for shell in (Bash, Zsh, Fish)}
for _shell in SHELLS.values():
    add_completion_class(_shell)


@click.command(short_help="The script that sets up completion in a shell.")
@click.argument("shell", type=Word(tuple(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what sets up completion in SHELL: bash, zsh or fish.

    \b
    symroof completion bash >> ~/.bashrc
    symroof completion zsh >> ~/.zshrc
    symroof completion fish > ~/.config/fish/completions/symroof.fish
    """  # noqa: D301 - click reads the backspace
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "symroof", VARIABLE).source())
