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


_DECIMAL = r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?"
_SECONDS = {"": 0, "s": 0, "ms": 3, "us": 6, "µs": 6, "ns": 9}


class Positive(click.ParamType):
    """A positive decimal number, kept exact."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a usage error."""
        from sympy import Rational

        if not isinstance(value, str):
            return value
        if re.fullmatch(_DECIMAL, value, re.ASCII) and Rational(value) > 0:
            return Rational(value)
        raise click.UsageError(f"{option(param)} {quote(value)}: expected a number above 0")


class Seconds(click.ParamType):
    """A positive time: a number of seconds, or one with s, ms, us or ns."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The seconds, or a usage error."""
        from sympy import Rational

        if not isinstance(value, str):
            return value
        match = re.fullmatch(rf"({_DECIMAL})\s*(s|ms|us|µs|ns)?", value)
        if match and Rational(match[1]) > 0:
            return Rational(match[1]) / 10 ** _SECONDS[match[2] or ""]
        raise click.UsageError(f"{option(param)} {quote(value)}: expected a time above 0 such as 0.02, 20ms or 500us")


def bounds_of(texts: tuple[str, ...]) -> dict[str, Any]:
    """``("batch=1", "seq_len=16")`` as exact numbers by name."""
    from sympy import Rational

    found: dict[str, Any] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not re.fullmatch(_DECIMAL, number, re.ASCII):
            raise click.UsageError(f"--at-least {quote(text)}: expected a variable and a number such as batch=1")
        found[name] = Rational(number)
    return found
