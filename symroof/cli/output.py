"""Write results: to the terminal, or to a file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from symroof.cli.values import option
from symroof.errors import InputError, quote

FORMATS = ("table", "json", "csv", "latex", "markdown", "html")
SUFFIXES = {"": "table", ".txt": "table", ".json": "json", ".csv": "csv", ".tex": "latex", ".md": "markdown", ".html": "html"}
UNFOLDED = 2000
"""Width for files and pipes: nothing is wrapped there."""


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


def chosen_format(wanted: str | None, path: Path | None, known: Sequence[str] = FORMATS) -> str:
    """The format asked for, else the one the file's ending names; a table on the terminal.

    Raises
    ------
    InputError
        The ending names no format that the command writes.
    """
    if wanted or path is None:
        return wanted or "table"
    form = SUFFIXES.get(path.suffix.lower(), "")
    if form in known:
        return form
    if path.exists() and not path.is_file():
        return "table"
    endings = ", ".join(ending for ending, name in SUFFIXES.items() if name in known and ending)
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
    temporary = ""
    try:
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            path.write_text(text + "\n", encoding="utf-8")
            return
        target = path.resolve()
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, prefix=f".{target.name[:100]}.", delete=False) as stream:
            temporary = stream.name
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(_mode(target))
        Path(temporary).replace(target)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise InputError(f"output {quote(str(path))} could not be written: {getattr(error, 'strerror', None) or error}") from None


def _mode(target: Path) -> int:
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def as_json(record: Any) -> str:
    """A record as JSON, without NaN or infinities."""
    import json

    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)


def as_text(parts: Sequence[Any], to_file: bool) -> str:
    """Tables and lines as the terminal shows them; without colours where the output is not a terminal."""
    import io

    from rich.console import Console
    from rich.measure import Measurement

    terminal = sys.stdout is not None and sys.stdout.isatty() and not to_file
    console = Console(file=io.StringIO(), force_terminal=terminal, width=None if terminal else UNFOLDED, highlight=False, markup=False)
    if terminal:
        needed = (
            Measurement.get(console, console.options.update(width=UNFOLDED), part).minimum for part in parts if not isinstance(part, str)
        )
        console.width = max(Console().width, *needed)  # a terminal too narrow wraps lines; it never cuts a number
    for position, part in enumerate(parts):
        console.print(*([""] if position else []), part, sep="\n", soft_wrap=isinstance(part, str))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).rstrip()
