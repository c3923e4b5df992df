"""Option types whose messages quote the input and say what would be right."""

from __future__ import annotations

import re
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


def option(param: click.Parameter | None) -> str:
    """The option as the user types it."""
    return param.opts[-1] if param else "value"
