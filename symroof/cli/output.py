"""Write results: to the terminal, or to a file that appears whole or not at all."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from symroof.cli.values import Word, option
from symroof.errors import InputError, quote
from symroof.files import replacing
from symroof.present.report import FORMATS, TEXT, Report

SUFFIXES = {ending: name for name, form in FORMATS.items() for ending in form.endings}


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
    """The format asked for, else the one the file's ending names; a table on the terminal.

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


def check_writable(path: Path | None) -> None:
    """Raise before the work starts if the file cannot be written.

    Raises
    ------
    InputError
        The folder is missing or not writable, or the path is a folder.
    """
    if path is None:
        return
    folder = path.parent
    try:
        path.exists()
    except OSError as error:
        raise InputError(f"output {quote(str(path))}: {error.strerror or error}") from None
    if path.is_dir():
        raise InputError(f"output {quote(str(path))} is a folder; name a file")
    if not folder.is_dir():
        raise InputError(f"output {quote(str(path))}: there is no folder {quote(str(folder))}")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"output {quote(str(path))}: no permission to write there")


def emit(text: str, path: Path | None) -> None:
    """Print the text, or put it into the file in one step.

    Raises
    ------
    InputError
        The file could not be written; what stood there before is untouched.
    """
    if path is None:
        click.echo(text)
        return
    try:
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            path.write_text(text + "\n", encoding="utf-8")
            return
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise InputError(f"output {quote(str(path))} could not be written: {getattr(error, 'strerror', None) or error}") from None


def reports(command: Callable[..., Report]) -> Callable[..., int]:
    """The options --format and -o; the report that the command returns is rendered and written."""

    @click.option("--format", "wanted", type=Word(tuple(FORMATS)), help="Default: by the ending of FILE, else table.")
    @click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write there instead of to the terminal.")
    @functools.wraps(command)
    def answered(*arguments: Any, wanted: str | None, output: Path | None, **options: Any) -> int:
        check_writable(output)
        form = chosen_format(wanted, output)
        report = command(*arguments, **options)
        emit(report.render(form, terminal=output is None and sys.stdout is not None and sys.stdout.isatty()), output)
        return report.status

    return answered
