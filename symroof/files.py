"""Read a user's file: found or not, short enough, and text."""

from __future__ import annotations

from pathlib import Path

from symroof.errors import SymroofError, quote

MAX_BYTES = 4_000_000
"""Configs and device files are a few kilobytes."""


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a name that no folder can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_readable(path: Path) -> bool:
    """Whether there is something to read there; a name that no file can have is nothing."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def read_text(path: Path, what: str, error: type[SymroofError]) -> str:
    """The file's text.

    Raises
    ------
    SymroofError
        Of the given type: the file cannot be read, is none (a pipe, a device), is too large, or is not UTF-8 text.
    """
    origin = quote(str(path))
    try:
        if not path.is_file():  # a named pipe would be waited for, a device never ends
            raise error(f"{origin} is not a regular file")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as fault:
        raise error(f"{origin} cannot be read: {fault.strerror or fault}") from None
    if len(raw) > MAX_BYTES:
        raise error(f"{origin} is larger than {MAX_BYTES} bytes: not {what}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{origin} is not UTF-8 text (byte {fault.start})") from None
