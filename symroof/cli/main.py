"""The command `symroof`: errors are one line on standard error, with exit status 2."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

import click

from symroof import __version__
from symroof.cli.calibration import calibrate, validate
from symroof.cli.completion import completion
from symroof.cli.export import export
from symroof.cli.listing import describe, devices, figures, models, symbols, techniques
from symroof.cli.load import load, promises
from symroof.cli.measure import measure
from symroof.cli.plan import plan
from symroof.cli.pools import cost, provision
from symroof.cli.questions import analyze, compare, crossover, generate, largest, prove, solve
from symroof.cli.service import ablate, regimes
from symroof.cli.sweep import sweep
from symroof.errors import SymroofError, nearest, quote


class Group(click.Group):
    """A group that names the nearest command when one is misspelt."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of that name, or an error that hints at the nearest."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {quote(args[0])}: {nearest(args[0], self.commands)}")
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            self._refuse_twice(command.make_context(name, [], parent=ctx, resilient_parsing=True), rest)
        return name, command, rest

    @staticmethod
    def _refuse_twice(ctx: click.Context, args: list[str]) -> None:
        """Raise a UsageError if an option that takes one value is there twice; other errors are the command's own."""
        try:
            order = ctx.command.make_parser(ctx).parse_args([*args])[2]
        except click.UsageError:
            return
        for param in order:
            if isinstance(param, click.Option) and not param.multiple and order.count(param) > 1:
                raise click.UsageError(f"{'/'.join((*param.opts[-1:], *param.secondary_opts))} is given twice; leave one of the two out")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="symroof")
def cli() -> None:
    """Roofline models of transformer inference in which every number has its formula.

    MODEL is a name in models/ (`symroof models`), a hub name, or the path of a config.json; or file.py:function, a torch module to trace.
    """


QUESTIONS = (analyze, crossover, prove, solve, largest, generate, plan, sweep, compare, regimes, ablate, load, promises, provision, cost)
AROUND = (export, calibrate, validate, measure, techniques, figures, describe, models, devices, symbols, completion)
for command in QUESTIONS + AROUND:
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0, or 2 with one line that says what was wrong."""
    gc.disable()  # a short-lived process: looking for cyclic garbage while sympy loads only costs time
    try:
        status = cli.main(arguments, prog_name="symroof", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        status = 2
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.exceptions.Abort:
        status = _fail("interrupted", 130)
    except click.MissingParameter as error:
        command = error.ctx.command_path if error.ctx else "symroof"
        status = _fail(f"{error.format_message().rstrip('.')}; `{command} --help` lists what is needed", 2)
    except click.NoSuchOption as error:
        known = error.ctx is not None and any("--seq-len" in param.opts for param in error.ctx.command.params)
        length = known and error.option_name in ("--context", "--context-len", "--context-length", "--ctx", "--prompt-len")
        hint = "the option is --seq-len, of the context in decode and of the prompt in prefill"
        status = _fail(f"No such option {quote(error.option_name)}: {hint}" if length else error.format_message(), 2)
    except click.ClickException as error:
        status = _fail(error.format_message(), 2)
    except SymroofError as error:
        status = _fail(str(error), 2)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _drop_output()
        status = 0
    except OSError as error:
        _drop_output()
        status = _fail(f"standard output could not be written: {error.strerror or error}", 2)
    sys.exit(status if isinstance(status, int) else 0)


def _drop_output() -> None:
    """Let what is still buffered go nowhere, so that the end of the process does not try again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    click.echo(f"symroof: {' '.join(message.split())}", err=True)
    return status
