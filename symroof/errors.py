"""One tree of errors: every message is one line that quotes the input and says what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

QUOTE_LIMIT = 60
CHARACTERS_PER_SLIP = 6
"""A name is a misspelling of another if they differ in one character, or in one of so many."""


class SymroofError(ValueError):
    """Base of every error a user can cause.

    >>> raise SymroofError("batch 0 is not a positive whole number")
    Traceback (most recent call last):
        ...
    symroof.errors.SymroofError: batch 0 is not a positive whole number
    """


class InputError(SymroofError):
    """A value the user gave is not one that makes sense.

    >>> raise InputError("seq_len '-3': expected a whole number from 1 to 1e12")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: seq_len '-3': expected a whole number from 1 to 1e12
    """


class ConfigError(SymroofError):
    """A model's config.json is missing, malformed or not understood.

    >>> raise ConfigError("config.json: hidden_size is missing")
    Traceback (most recent call last):
        ...
    symroof.errors.ConfigError: config.json: hidden_size is missing
    """


class DeviceError(SymroofError):
    """A device's file is missing, malformed, or lacks the figure that is needed.

    >>> raise DeviceError("l4: no FP64 peak is stated")
    Traceback (most recent call last):
        ...
    symroof.errors.DeviceError: l4: no FP64 peak is stated
    """


class EinsumError(SymroofError):
    """An operator's tensors do not agree with its einsum.

    >>> raise EinsumError("q_proj: 'b s d' is not how 'hidden' is laid out")
    Traceback (most recent call last):
        ...
    symroof.errors.EinsumError: q_proj: 'b s d' is not how 'hidden' is laid out
    """


def quote(value: object) -> str:
    """The input as it is shown in a message: printable, on one line, shortened in the middle.

    >>> quote("llama")
    "'llama'"
    >>> len(quote("x" * 10_000)) < 100
    True
    """
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python agrees to print
        text = f"<{type(value).__name__} too large to print>"
    if len(text) <= QUOTE_LIMIT:
        return text
    half = QUOTE_LIMIT // 2 - 2
    return f"{text[:half]}...{text[-half:]}"


def every_number(name: str) -> tuple[str, ...]:
    """The numbers in a name: two names of one generation agree in them.

    >>> every_number("qwen2_5_vl")
    ('2', '5')
    """
    return tuple(re.findall("[0-9]+", name))


def edits(text: str, other: str) -> int:
    """The fewest insertions, deletions, replacements and swaps of neighbours that turn one text into another.

    >>> edits("llamma", "llama"), edits("gemam", "gemma"), edits("nemotron-nas", "nemotron_h")
    (1, 1, 4)
    """
    rows = [list(range(len(other) + 1))]
    for place, character in enumerate(text, 1):
        row = [place]
        for column, wanted in enumerate(other, 1):
            fewest = min(rows[-1][column] + 1, row[-1] + 1, rows[-1][column - 1] + (character != wanted))
            if place > 1 and column > 1 and character == other[column - 2] and wanted == text[place - 2]:
                fewest = min(fewest, rows[-2][column - 2] + 1)
            row.append(fewest)
        rows.append(row)
    return rows[-1][-1]


def nearest(
    name: str,
    known: Iterable[str],
    limit: int = 3,
    shown: Sequence[str] | None = None,
    generation: Callable[[str], object] | None = None,
) -> str:
    """A hint that names the known names nearest to *name*, or else all of them, or those to be *shown*.

    With a *generation*, the names are of architectures, and only a misspelling of one of the same generation is corrected: ``qwen4``
    does not mean ``qwen3``, nor ``nemotron-nas`` ``nemotron_h``.

    >>> nearest("lama-2-7b", ["llama-2-7b", "opt-125m", "gpt-j-6b", "dit-s-2"])
    'did you mean llama-2-7b?'
    >>> nearest("zzz", ["prefill", "decode"])
    'known: prefill, decode'
    >>> nearest("qwen4", ["qwen2", "qwen3"], generation=every_number), nearest("nemotron-nas", ["nemotron_h"], generation=every_number)
    ('known: qwen2, qwen3', 'known: nemotron_h')
    """
    names = list(known)
    lowered = {candidate.lower(): candidate for candidate in reversed(names)}
    if generation is not None:
        lowered = {lower: candidate for lower, candidate in lowered.items() if generation(lower) == generation(name[:200].lower())}
    close = get_close_matches(name[:200].lower(), lowered, n=limit, cutoff=0.6)
    if generation is not None:
        close = [candidate for candidate in close if edits(name[:200].lower(), candidate) <= max(len(candidate) // CHARACTERS_PER_SLIP, 1)]
    if close:
        return f"did you mean {' or '.join(lowered[c] for c in close)}?"
    names = list(shown) if shown is not None else names
    if len(names) <= 12:
        return f"known: {', '.join(names)}"
    return f"known: {', '.join(names[:8])}, ... ({len(names)} in all)"


def member(what: str, value: object, known: Sequence[str]) -> None:
    """Raise unless a word is one of those known; the message hints at the nearest.

    >>> member("phase", "decod", ("prefill", "decode"))
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: phase 'decod': did you mean decode?

    Raises
    ------
    InputError
        It is none.
    """
    if value not in known:
        raise InputError(f"{what} {quote(value)}: {nearest(str(value), known)}")


class Checker:
    """Checks the fields of one file of a user's: a message names the file, the field, what it holds and what would be right.

    >>> Checker("'config.json'", ConfigError).require(False, "hidden_size", "many", "a whole number")
    Traceback (most recent call last):
        ...
    symroof.errors.ConfigError: 'config.json': hidden_size is 'many'; expected a whole number
    """

    def __init__(self, subject: str, kind: type[SymroofError]) -> None:
        self._subject = subject
        self._kind = kind

    def error(self, message: str) -> SymroofError:
        """The message with the file it is about in front."""
        return self._kind(f"{self._subject}: {message}")

    def require(self, holds: bool, name: str, value: object, expected: str) -> None:
        """Refuse a value for which something does not hold."""
        if not holds:
            raise self.error(f"{name} is {quote(value)}; expected {expected}")
