"""Write results: to the terminal, or to a file that appears whole or not at all."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from symroof.cli.values import Word, option
from symroof.errors import InputError, quote
from symroof.files import check_writable, writing
from symroof.present.report import FORMATS, TEXT, Layout, Report

SUFFIXES = {ending: name for name, form in FORMATS.items() for ending in form.endings}


FORMAT = click.option("--format", "wanted", type=Word(tuple(FORMATS)), help="Default: by the ending of FILE, otherwise table.")


class OutputFile(click.ParamType):
    """A file to write; - is standard output."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | None:
        """The path, or a usage error."""
        if isinstance(value, Path):
            return value
        if not value:
            raise click.UsageError(f"{option(param)} '': expected the name of a file, or - for standard output")
        return None if value == "-" else Path(value)


def chosen_format(wanted: str | None, path: Path | None) -> str:
    """The requested format, otherwise the one of the file's ending; a table on the terminal.

    Raises
    ------
    InputError
        The ending names no format that the command writes.
    """
    if wanted or path is None:
        return wanted or TEXT
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    if path.exists() and not path.is_file():
        return TEXT
    endings = ", ".join(ending for ending in SUFFIXES if ending)
    ending = f"the ending {quote(path.suffix)} names no format here"
    raise InputError(f"output {quote(str(path))}: {ending}; known: {endings}; or give --format")


FILE = ("-o", "--output")


def output_options(
    where: str = "Write there instead of to the terminal.", flags: tuple[str, ...] = FILE
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of output, the same for every command; the command is called with them as an `Output`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @FORMAT
        @click.option(*flags, "path", type=OutputFile(), metavar="FILE", help=where)
        @click.option("--wide", is_flag=True, help="Every column and every formula in full, however narrow the terminal.")
        @click.option("--conventions", is_flag=True, help="List the conventions that the numbers follow.")
        @click.option("--quiet", is_flag=True, help="Print neither conventions nor notes.")
        @functools.wraps(command)
        def answered(*arguments: Any, wanted: str | None, path: Path | None, **options: Any) -> Any:
            if options["conventions"] and options["quiet"]:
                raise click.UsageError("--conventions and --quiet: give one of them")
            shown = {name: options.pop(name) for name in ("wide", "conventions", "quiet")}
            return command(*arguments, output=Output(wanted, path, shown), **options)

        return answered

    return decorate


@dataclass(frozen=True)
class Output:
    """Where an answer goes, and how it looks there.

    Attributes
    ----------
    wanted : the requested format, if any.
    path : the file; None is standard output.
    shown : the requested layout.
    """

    wanted: str | None
    path: Path | None
    shown: Mapping[str, bool]

    @property
    def form(self) -> str:
        """The format; by the file's ending if none is requested."""
        return chosen_format(self.wanted, self.path)

    def deliver(self, report: Report, form: str | None = None) -> int:
        """Write a report; its exit status."""
        return deliver(report, form or self.form, self.path, **self.shown)

    def stream(self, pieces: Iterable[str]) -> None:
        """Write text as it is made; a file appears once it is whole."""
        if self.path is None:
            for piece in pieces:
                click.echo(piece, nl=False)
            return
        check_writable(self.path)
        with writing(self.path) as path, path.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(pieces)


def reports(command: Callable[..., Report], flags: tuple[str, ...] = FILE) -> Callable[..., int]:
    """The options of output; the report that the command returns is rendered and written."""

    @output_options(flags=flags)
    @functools.wraps(command)
    def answered(*arguments: Any, output: Output, **options: Any) -> int:
        if output.path is not None:
            check_writable(output.path)
        form = output.form
        return output.deliver(command(*arguments, **options), form)

    return answered


reports_with_tokens = functools.partial(reports, flags=FILE[:1])
"""The same for a command whose --output is a number of tokens."""


def layout(output: Path | None, **shown: bool) -> Layout:
    """As wide as the terminal, or as COLUMNS says; in pipes and files without COLUMNS no line is folded and no column left out."""
    terminal = output is None and sys.stdout is not None and sys.stdout.isatty()
    folded = output is None and (terminal or os.environ.get("COLUMNS", "").isdecimal())
    return Layout(max(shutil.get_terminal_size().columns, NARROWEST) if folded else None, colours=terminal, **shown)


NARROWEST = 40
"""Columns of the narrowest terminal that is laid out for."""


def deliver(report: Report, form: str, output: Path | None, **shown: bool) -> int:
    """Render a report and write it; its exit status."""
    text = report.render(form, layout(output, **shown))
    if output is None:
        click.echo(text)
    else:
        with writing(output) as path:
            path.write_text(text + "\n", encoding="utf-8")
    return report.status
