"""Option types, and values as typed: ``batch=1:256``, ``seq_len=512,2048``, ``batch=1:1024*2``, ``bandwidth=1TB/s:4TB/s:500GB/s``.

Messages quote the input and say what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import click

from symroof.errors import nearest, quote

LARGEST = 10**12


class Whole(click.ParamType):
    """A whole number from 1 up to a limit."""

    name = "integer"

    def __init__(self, high: int = LARGEST) -> None:
        self.high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or a usage error."""
        text = str(value)
        if re.fullmatch(r"[0-9]{1,13}", text, re.ASCII) and 1 <= int(text) <= self.high:
            return int(text)
        limit = "1e12" if self.high == LARGEST else self.high
        raise click.UsageError(f"{option(param)} {quote(text)}: expected a whole number from 1 to {limit}")


class Word(click.Choice[str]):
    """One of a few words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word, or a usage error that hints at the nearest."""
        if value in self.choices:
            return value
        raise click.UsageError(f"{option(param)} {quote(str(value))}: {nearest(str(value), self.choices)}")


def one_of(name: str, words: Sequence[str], help_: str, *, default: str = "") -> Any:
    """An option that takes one of a few words, the first where none is given, or that *default*."""
    return click.option(name, type=Word(words), default=default or words[0], show_default=True, help=help_)


def option(param: click.Parameter | None) -> str:
    """The option as the user types it."""
    return param.opts[-1] if param else "value"


class Exact(click.ParamType):
    """A positive decimal number, kept exact; in *unit*, where it may be typed with another one of that kind, and must be unless *bare*."""

    name = "number"

    def __init__(self, expected: str, unit: str = "", *, bare: bool = True) -> None:
        self.expected, self.unit, self.bare = expected, unit, bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a usage error."""
        number = exact(value, self.unit) if isinstance(value, str) else value
        if not number or (not self.bare and isinstance(value, str) and exact(value) is not None):
            raise click.UsageError(f"{option(param)} {quote(value)}: expected {self.expected}")
        return number


def exact(typed: str, unit: str = "") -> Fraction | None:
    """A number as it was typed, in *unit* if one of that kind stands behind it; None if it is none.

    >>> exact("2.5"), exact("20 ms", "second"), exact("1e3x")
    (Fraction(5, 2), Fraction(1, 50), None)
    """
    from symroof.units import figure, parsed, ureg

    number = parsed(typed)
    if number is None or (number[1] and not unit):
        return None
    return Fraction(str(figure(typed, ureg.Unit(unit)))) if number[1] else number[0]


def bounds_of(texts: Sequence[str]) -> dict[str, Any]:
    """``("batch=1", "seq_len=16")`` as exact numbers by name."""
    from sympy import Rational

    found: dict[str, Any] = {}
    for text in texts:
        name, _, typed = text.partition("=")
        number = exact(typed)
        if number is None:
            raise click.UsageError(f"--at-least {quote(text)}: expected a variable and a number such as batch=1")
        found[name] = Rational(number.numerator, number.denominator)
    return found


MOST = 10**8
FORM = "expected VARIABLE=VALUES, such as batch=1:256, seq_len=512,2048 or batch=1:1024*2"


def values_of(texts: Sequence[str], variable: Callable[[str], str] = str) -> dict[str, Any]:
    """The variables and their values; a range has both its ends. *variable* gives the variable of a name.

    Raises
    ------
    click.UsageError
        One is not of that form, or given twice.

    >>> values_of(["batch=1:4", "seq_len=512,2048", "kv_bits=4:16*2"])
    {'batch': range(1, 5), 'seq_len': [512, 2048], 'kv_bits': [4, 8, 16]}
    >>> values_of(["bandwidth=1TB/s,2.5TB/s"])
    {'bandwidth': [1000000000000, 2500000000000]}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, typed = text.partition("=")
        name = variable(name.strip())
        if not equals or not name or not typed.strip():
            raise click.UsageError(f"--over {quote(text)}: {FORM}")
        if name in found:
            raise click.UsageError(f"--over {quote(name)} is given twice; join the values with commas")
        try:
            pieces = [_piece(name, piece) for piece in typed.split(",")]
        except click.UsageError as error:
            raise click.UsageError(f"--over {quote(text)}: {error.message}") from None
        found[name] = pieces[0] if len(pieces) == 1 else [value for piece in pieces for value in piece]
    return found


def _piece(name: str, piece: str) -> Any:
    ends, _, factor = piece.partition("*")
    numbers = [_number(name, one) for one in ends.split(":")]
    if len(numbers) == 1 and not factor:
        return [_plain(numbers[0])]
    if len(numbers) not in (2, 3) or (factor and len(numbers) == 3):
        raise click.UsageError(f"{quote(piece)} is not a range; write start:stop, start:stop:step or start:stop*factor")
    start, stop = numbers[:2]
    if stop < start:
        raise click.UsageError(f"the range {quote(piece)} ends before it starts")
    if factor:
        return _geometric(piece, start, stop, _number(name, factor))
    step = numbers[2] if len(numbers) == 3 else Fraction(1)
    if step <= 0:
        raise click.UsageError(f"the step of {quote(piece)} must be above 0")
    count = (stop - start) // step + 1
    if count > MOST:
        raise click.UsageError(f"{quote(piece)} has {count} values; more than {MOST} are not swept over")
    if start.denominator == step.denominator == 1:
        return range(int(start), int(start) + int(step) * (int(count) - 1) + 1, int(step))
    return [_plain(start + place * step) for place in range(int(count))]


def _geometric(piece: str, start: Fraction, stop: Fraction, factor: Fraction) -> list[int | float]:
    if factor <= 1 or start <= 0:
        raise click.UsageError(f"{quote(piece)} needs a start above 0 and a factor above 1")
    found = []
    while start <= stop:
        found.append(_plain(start))
        start *= factor
        if len(found) > 10_000:
            raise click.UsageError(f"{quote(piece)} has more than 10000 values")
    return found


def _number(name: str, typed: str) -> Fraction:
    from symroof.symbols import lookup

    number = exact(typed, lookup(name).unit)
    if number is None:
        raise click.UsageError(f"{quote(typed)} is not a number; {FORM}")
    return number


def _plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)
