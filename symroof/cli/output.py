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

from symroof.errors import InputError, quote

FORMATS = ("table", "json", "csv", "latex", "markdown", "html")
SUFFIXES = {".json": "json", ".csv": "csv", ".tex": "latex", ".md": "markdown", ".html": "html"}
PAGE_WIDTH = 160


def chosen_format(wanted: str | None, path: Path | None) -> str:
    """The format asked for, else the one the file's ending names, else a table."""
    return wanted or SUFFIXES.get(path.suffix.lower() if path else "", "table")


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
    if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
        path.write_text(text + "\n", encoding="utf-8")
        return
    target = path.resolve()
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, prefix=f".{target.name[:100]}.", delete=False) as stream:
            temporary = stream.name
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(_mode(target))
        Path(temporary).replace(target)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise InputError(f"output {quote(str(path))} could not be written: {error.strerror or error}") from None


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

    terminal = sys.stdout.isatty() and not to_file
    console = Console(file=io.StringIO(), force_terminal=terminal, width=None if terminal else PAGE_WIDTH, highlight=False, markup=False)
    if terminal:
        console.width = Console().width
    for position, part in enumerate(parts):
        console.print(*([""] if position else []), part, sep="\n")
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).rstrip()
