"""Values of a variable as typed: ``batch=1:256``, ``seq_len=512,2048``, ``batch=1:1024*2``, ``bandwidth=1TB/s:4TB/s:500GB/s``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import click

from symroof.errors import quote

_NUMBER = r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?"
_VALUE = re.compile(rf"\s*({_NUMBER})\s*([A-Za-zµ]{{1,12}}(?:/[A-Za-z]{{1,12}})?)?\s*")
MOST = 10**8
FORM = "expected VARIABLE=VALUES, such as batch=1:256, seq_len=512,2048 or batch=1:1024*2"


def values_of(texts: Sequence[str]) -> dict[str, Any]:
    """The variables and their values; a range has both its ends.

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
        name = name.strip()
        if not equals or not name or not typed.strip():
            raise click.UsageError(f"--over {quote(text)}: {FORM}")
        if name in found:
            raise click.UsageError(f"--over {quote(name)} is given twice; join the values with commas")
        pieces = [_piece(text, name, piece) for piece in typed.split(",")]
        found[name] = pieces[0] if len(pieces) == 1 else [value for piece in pieces for value in piece]
    return found


def _piece(text: str, name: str, piece: str) -> Any:
    ends, _, factor = piece.partition("*")
    numbers = [_number(text, name, one) for one in ends.split(":")]
    if len(numbers) == 1 and not factor:
        return [_plain(numbers[0])]
    if len(numbers) not in (2, 3) or (factor and len(numbers) == 3):
        forms = "start:stop, start:stop:step or start:stop*factor"
        raise click.UsageError(f"--over {quote(text)}: {quote(piece)} is not a range; write {forms}")
    start, stop = numbers[:2]
    if stop < start:
        raise click.UsageError(f"--over {quote(text)}: the range {quote(piece)} ends before it starts")
    if factor:
        return _geometric(text, piece, start, stop, _number(text, name, factor))
    step = numbers[2] if len(numbers) == 3 else Fraction(1)
    if step <= 0:
        raise click.UsageError(f"--over {quote(text)}: the step of {quote(piece)} must be above 0")
    count = (stop - start) // step + 1
    if count > MOST:
        raise click.UsageError(f"--over {quote(text)}: {quote(piece)} has {count} values; more than {MOST} are not swept over")
    if start.denominator == step.denominator == 1:
        return range(int(start), int(start) + int(step) * (int(count) - 1) + 1, int(step))
    return [_plain(start + place * step) for place in range(int(count))]


def _geometric(text: str, piece: str, start: Fraction, stop: Fraction, factor: Fraction) -> list[int | float]:
    if factor <= 1 or start <= 0:
        raise click.UsageError(f"--over {quote(text)}: {quote(piece)} needs a start above 0 and a factor above 1")
    found = []
    while start <= stop:
        found.append(_plain(start))
        start *= factor
        if len(found) > 10_000:
            raise click.UsageError(f"--over {quote(text)}: {quote(piece)} has more than 10000 values")
    return found


def _number(text: str, name: str, typed: str) -> Fraction:
    match = _VALUE.fullmatch(typed)
    if match is None:
        raise click.UsageError(f"--over {quote(text)}: {quote(typed)} is not a number; {FORM}")
    if match[2] is None:
        return Fraction(match[1])
    from symroof.symbols import lookup
    from symroof.units import figure, ureg

    exact = figure(typed, ureg.Unit(lookup(name).unit))
    return Fraction(int(exact.p), int(exact.q))


def _plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)
