"""Files: a user's read whole (found or not, short enough, text), and one's own written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from symroof.errors import InputError, SymroofError, quote

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


@contextlib.contextmanager
def reading(path: Path) -> Iterator[TextIO]:
    """A table of a user's, opened to be read line by line, however long.

    Raises
    ------
    InputError
        The file cannot be read, is none (a pipe, a device), or is not UTF-8 text.
    """
    origin = quote(str(path))
    try:
        if path.exists() and not path.is_file():  # a named pipe would be waited for, a device never ends
            raise InputError(f"{origin} cannot be read: it is not a regular file")
        with path.open(newline="", encoding="utf-8-sig") as stream:
            yield stream
    except (OSError, ValueError) as fault:
        if isinstance(fault, SymroofError):
            raise
        if isinstance(fault, UnicodeDecodeError):
            raise InputError(f"{origin} is not UTF-8 text (byte {fault.start})") from None
        raise InputError(f"{origin} cannot be read: {getattr(fault, 'strerror', None) or fault}") from None


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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside *path*; the file or folder written there takes its place once it is complete and on the disk.

    If anything is raised meanwhile, what was written is deleted and what was at *path* stays.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "answer.txt"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_text("42")
    ...     path.exists()
    False
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('42', 1)

    Errors
    ------
    OSError
        The place cannot be written, or is full.
    """
    target = path.resolve()
    temporary, previous = (target.with_name(f".{target.name[:100]}.{os.getpid()}.{ending}") for ending in ("partial", "previous"))
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o777)
        elif target.exists():  # a folder does not replace another in one step
            target.rename(previous)
        try:
            temporary.replace(target)
        except OSError:
            if previous.exists():
                previous.rename(target)
            raise
    finally:
        for leftover in (temporary, previous):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            with contextlib.suppress(OSError):
                leftover.unlink()


@contextlib.contextmanager
def writing(path: Path, what: str = "output") -> Iterator[Path]:
    """The same, with what goes wrong as one line; a device or a pipe, which cannot be replaced, is written as it is.

    Raises
    ------
    InputError
        The place cannot be written, or is full; what was there before is untouched.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            yield path
        else:
            with replacing(path) as temporary:
                yield temporary
    except (OSError, RuntimeError) as fault:  # RuntimeError: a loop of links, and how netCDF reports a full disk
        raise InputError(f"{what} {quote(str(path))} could not be written: {getattr(fault, 'strerror', None) or fault}") from None


def check_writable(path: Path, what: str = "file", *, replaces_folder: bool = False) -> None:
    """Raise before the work starts if an output cannot be written.

    Raises
    ------
    InputError
        The folder is missing or not writable, or the path is a folder itself.
    """
    shown, folder = f"output {quote(str(path))}", path.parent
    try:
        exists = path.exists()
    except OSError as fault:
        raise InputError(f"{shown}: {fault.strerror or fault}") from None
    if path.is_dir() and not replaces_folder:
        raise InputError(f"{shown} is a folder; name a {what}")
    if not folder.is_dir():
        raise InputError(f"{shown}: there is no folder {quote(str(folder))}")
    if not os.access(folder, os.W_OK) or (exists and not os.access(path, os.W_OK)):
        raise InputError(f"{shown}: no permission to write there")


def installation(extra: str) -> str:
    """How to install an extra: from the checkout that this is, else beside the installed package; no index need have it."""
    checkout = Path(__file__).parent.parent
    there = (checkout / "pyproject.toml").is_file()
    return f"pip install -e '{checkout}[{extra}]'" if there else f"pip install 'symroof[{extra}]'"
