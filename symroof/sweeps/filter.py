"""Conditions such as ``latency < 50 ms and memory <= 80 GB``: comparisons of names and numbers with units, joined by and, or, not.

A text is read word by word, and nothing of it is run: what it says becomes functions of arrays.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pint

from symroof.errors import InputError, nearest, quote
from symroof.units import ureg

_WORD = re.compile(
    r"\s*(?:(?P<number>[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?)|(?P<name>[A-Za-z_µ]\w{0,40}(?:/[A-Za-z]{1,12})?)"
    r"|(?P<sign><=|>=|==|!=|[<>=()]))"
)
_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "=": operator.eq, "!=": operator.ne}
_BOUNDS = {"memory": 0.0, "compute": 1.0}
_JOINS = {"or": np.logical_or, "and": np.logical_and}
"""What joins tests, the loosest first."""

DEEPEST = 50

Values = Mapping[str, Any]
Test = Callable[[Values], Any]


@dataclass(frozen=True)
class Condition:
    """A condition on points: the metrics and variables it mentions, and the test, a function from arrays by name to truth values."""

    names: frozenset[str]
    test: Test

    def __call__(self, values: Values) -> Any:
        """Whether it holds, at every point."""
        return self.test(values)


@dataclass(frozen=True)
class _Word:
    """A word with where it was typed; a number with its unit, a name with what it stands for."""

    kind: str
    text: str
    place: int
    name: str = ""
    unit: str = ""


def condition(text: str, units: Mapping[str, str], aliases: Mapping[str, str] | None = None) -> Condition:
    """The condition that a text states.

    Parameters
    ----------
    units : the names it may mention, with their units; "flag" for those that are true or false.
    aliases : other words for some of them.

    Raises
    ------
    InputError
        The text is not a condition; the message says where.

    >>> slow = condition("latency < 50 ms and not batch > 8", {"time": "s", "batch": "1"}, {"latency": "time"})
    >>> slow({"time": np.array([0.01, 0.06]), "batch": 4}).tolist()
    [True, False]
    >>> condition("time < 50 GB", {"time": "s"})
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: condition 'time < 50 GB': at character 8: 50 GB does not compare with time, which is in s
    """
    reader = _Reader(text, units, aliases or {})
    test = reader.joined()
    if reader.words[0].kind != "end":
        reader.unexpected()
    return Condition(frozenset(reader.names), test)


class _Reader:
    """Reads a condition from left to right; `words` are those that are left."""

    def __init__(self, text: str, units: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        self.text, self.units, self.aliases = text, units, aliases
        self.names: set[str] = set()
        self.words: list[_Word] = []
        place, end = 0, len(text.rstrip())
        while place < end:
            match = _WORD.match(text, place)
            if match is None or match.lastgroup is None:
                start = place + len(text[place:]) - len(text[place:].lstrip())
                self.fail(start, f"{quote(text[start])} is not understood; write like 'latency < 50 ms and batch >= 8'")
            self.words.append(_Word(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            place = match.end()
        self.words.append(_Word("end", "", end))

    def fail(self, place: int, why: str) -> NoReturn:
        raise InputError(f"condition {quote(self.text)}: at character {place + 1}: {why}")

    def unexpected(self) -> NoReturn:
        self.fail(self.words[0].place, f"{quote(self.words[0].text)} is not expected here; join comparisons by and, or")

    def takes(self, words: Sequence[str]) -> str:
        """The next word, if it is one of these."""
        return self.words.pop(0).text if self.words[0].text in words else ""

    def joined(self, depth: int = 0, joins: Sequence[str] = tuple(_JOINS)) -> Test:
        """Tests joined by the first of the words, each of tests joined by those after it."""
        if not joins:
            return self.single(depth)
        tests = [self.joined(depth, joins[1:])]
        while self.takes(joins[:1]):
            tests.append(self.joined(depth, joins[1:]))
        return lambda values: functools.reduce(_JOINS[joins[0]], [test(values) for test in tests])

    def single(self, depth: int) -> Test:
        """A comparison, a flag, or either behind not or in brackets."""
        place = self.words[0].place
        opening = self.takes(("not", "("))
        if not opening:
            return self.comparison()
        if depth == DEEPEST:
            self.fail(place, "nested too deeply")
        inner = self.single(depth + 1) if opening == "not" else self.joined(depth + 1)
        if opening == "(" and not self.takes((")",)):
            self.fail(self.words[0].place, "a ')' is missing") if self.words[0].kind == "end" else self.unexpected()
        return inner if opening == "(" else lambda values: np.logical_not(inner(values))

    def comparison(self) -> Test:
        sides, signs = [self.operand()], []
        while sign := self.takes(tuple(_SIGNS)):
            signs.append(_SIGNS[sign])
            sides.append(self.operand())
        flag = sides[0]
        if not signs and flag.unit != "flag":
            self.fail(flag.place, f"{quote(flag.text)} must be compared with something, by one of < <= > >= == !=")
        values_of = [self.value(side, sides) for side in sides]
        if not signs:
            return lambda values: np.asarray(values_of[0](values), dtype=bool)
        pairs = list(zip(signs, itertools.pairwise(values_of), strict=True))
        return lambda values: functools.reduce(np.logical_and, [sign(left(values), right(values)) for sign, (left, right) in pairs])

    def operand(self) -> _Word:
        """The next word, as a side of a comparison."""
        word = self.words.pop(0)
        if word.kind == "end":
            self.fail(word.place, "something is missing at the end")
        if word.kind == "sign" or word.text in (*_JOINS, "not"):
            self.fail(word.place, f"expected a name or a number, not {quote(word.text)}")
        if word.kind == "number":
            following = self.words[0]
            has_unit = following.kind == "name" and following.text not in (*_JOINS, "not", *self.units, *self.aliases)
            return _Word("number", word.text, word.place, unit=self.words.pop(0).text if has_unit else "")
        name = self.aliases.get(word.text, word.text)
        if name not in self.units and word.text not in _BOUNDS:
            self.fail(word.place, f"{quote(word.text)} is neither swept over nor a metric: {nearest(name, (*self.units, *self.aliases))}")
        return _Word("name", word.text, word.place, name if name in self.units else "", self.units.get(name, "bound"))

    def value(self, side: _Word, sides: Sequence[_Word]) -> Test:
        """A side of a comparison in base units."""
        named = next((other for other in sides if other.name), None)
        if named is None:
            self.fail(side.place, "a comparison needs a name, such as latency or batch")
        if side.name != "bound" and any(other.name == "bound" for other in sides):
            if side.text not in _BOUNDS:
                self.fail(side.place, "bound is memory or compute")
            return lambda values: _BOUNDS[side.text]
        if side.kind == "number":
            number = self.converted(side, named)
            return lambda values: number
        if side.name != "bound" and side.unit != named.unit:
            self.fail(side.place, f"{side.name or side.text}, in {side.unit}, does not compare with {named.name}, in {named.unit}")
        self.names.add(side.name)
        return lambda values: values[side.name]

    def converted(self, number: _Word, named: _Word) -> float:
        shown = f"{number.text} {number.unit}".rstrip()
        if named.unit == "flag":
            self.fail(number.place, f"{named.name} is true or false: write {named.name}, or not {named.name}")
        if not number.unit:
            if named.unit not in ("1", "bit"):
                self.fail(number.place, f"{shown} needs a unit: {named.name} is in {named.unit}")
            return float(number.text)
        try:
            given = ureg.Quantity(ureg.non_int_type(number.text), ureg.parse_units(number.unit))
            return float(given.to("dimensionless" if named.unit == "1" else named.unit).magnitude)
        except pint.UndefinedUnitError:
            self.fail(number.place, f"{number.unit!r} is not a unit known here")
        except pint.DimensionalityError:
            self.fail(number.place, f"{shown} does not compare with {named.name}, which is in {named.unit}")
