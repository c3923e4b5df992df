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
from types import MappingProxyType
from typing import Any, NoReturn, cast

import numpy as np
import pint

from symroof.errors import InputError, nearest, quote
from symroof.units import ureg

_WORD = re.compile(
    r"(?P<number>[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?)|(?P<name>[A-Za-z_µ]\w{0,40}(?:/[A-Za-z]{1,12})?)"
    r"|(?P<sign><=|>=|==|!=|[<>=()])|(?P<unknown>\S)"
)
_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "=": operator.eq, "!=": operator.ne}
_BOUNDS = {"memory": 0.0, "compute": 1.0}
_JOINS = {"or": operator.or_, "and": operator.and_}
"""What joins tests, the loosest first."""

DEEPEST = 50


def _negated(value: Any) -> Any:
    """Not: of truth values, or of what a whole box can say of itself."""
    return np.logical_not(value) if isinstance(value, bool | np.bool_ | np.ndarray) else ~value


Values = Mapping[str, Any]
Test = Callable[[Values], Any]


@dataclass(frozen=True)
class _Word:
    """A word with where it was typed; a number with its unit, a name with its meaning."""

    kind: str
    text: str
    place: int
    name: str = ""
    unit: str = ""


class Condition:
    """The condition that a text states: called with arrays by name, whether it holds at every point.

    Parameters
    ----------
    units : the names it may mention, with their units; "flag" for those that are true or false.
    aliases : other words for some of them.

    Attributes
    ----------
    names : the metrics and variables it mentions.

    Raises
    ------
    InputError
        The text is not a condition; the message says where.

    >>> slow = Condition("latency < 50 ms and not batch > 8", {"time": "s", "batch": "1"}, {"latency": "time"})
    >>> slow({"time": np.array([0.01, 0.06]), "batch": 4}).tolist()
    [True, False]
    >>> Condition("time < 50 GB", {"time": "s"})
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: condition 'time < 50 GB': at character 8: 50 GB does not compare with time, which is in s
    """

    def __init__(self, text: str, units: Mapping[str, str], aliases: Mapping[str, str] = MappingProxyType({})) -> None:
        self.text, self.units, self.aliases = text, units, aliases
        self.names: set[str] = set()
        self._words: list[_Word] = []
        for match in _WORD.finditer(text):
            kind = cast(str, match.lastgroup)
            word = _Word(kind, match[kind], match.start(kind))
            if kind == "unknown":
                self._fail(word.place, f"{quote(word.text)} is not understood; write like 'latency < 50 ms and batch >= 8'")
            self._words.append(word)
        self._words.append(_Word("end", "", len(text.rstrip())))
        self._test = self._joined()
        if self._words[0].kind != "end":
            self._unexpected()

    def __call__(self, values: Values) -> Any:
        """Whether it holds, at every point."""
        return self._test(values)

    def _fail(self, place: int, why: str) -> NoReturn:
        raise InputError(f"condition {quote(self.text)}: at character {place + 1}: {why}")

    def _unexpected(self) -> NoReturn:
        self._fail(self._words[0].place, f"{quote(self._words[0].text)} is not expected here; join comparisons by and, or")

    def _takes(self, words: Sequence[str]) -> str:
        """The next word, if it is one of these."""
        return self._words.pop(0).text if self._words[0].text in words else ""

    def _joined(self, depth: int = 0, joins: Sequence[str] = tuple(_JOINS)) -> Test:
        """Tests joined by the first of the words, each of tests joined by those after it."""
        if not joins:
            return self._single(depth)
        tests = [self._joined(depth, joins[1:])]
        while self._takes(joins[:1]):
            tests.append(self._joined(depth, joins[1:]))
        return lambda values: functools.reduce(_JOINS[joins[0]], [test(values) for test in tests])

    def _single(self, depth: int) -> Test:
        """A comparison, a flag, or either behind not or in brackets."""
        place = self._words[0].place
        opening = self._takes(("not", "("))
        if not opening:
            return self._comparison()
        if depth == DEEPEST:
            self._fail(place, "nested too deeply")
        inner = self._single(depth + 1) if opening == "not" else self._joined(depth + 1)
        if opening == "(" and not self._takes((")",)):
            self._fail(self._words[0].place, "a ')' is missing") if self._words[0].kind == "end" else self._unexpected()
        return inner if opening == "(" else lambda values: _negated(inner(values))

    def _comparison(self) -> Test:
        sides, signs = [self._operand()], []
        while sign := self._takes(tuple(_SIGNS)):
            signs.append(_SIGNS[sign])
            sides.append(self._operand())
        flag = sides[0]
        if not signs and flag.unit != "flag":
            self._fail(flag.place, f"{quote(flag.text)} must be compared with something, by one of < <= > >= == !=")
        values_of = [self._value(side, sides) for side in sides]
        if not signs:
            return values_of[0]
        pairs = list(zip(signs, itertools.pairwise(values_of), strict=True))
        return lambda values: functools.reduce(operator.and_, [sign(left(values), right(values)) for sign, (left, right) in pairs])

    def _operand(self) -> _Word:
        """The next word, as a side of a comparison."""
        word = self._words.pop(0)
        if word.kind == "end":
            self._fail(word.place, "something is missing at the end")
        if word.kind == "sign" or word.text in (*_JOINS, "not"):
            self._fail(word.place, f"expected a name or a number, not {quote(word.text)}")
        if word.kind == "number":
            following = self._words[0]
            has_unit = following.kind == "name" and following.text not in (*_JOINS, "not", *self.units, *self.aliases)
            return _Word("number", word.text, word.place, unit=self._words.pop(0).text if has_unit else "")
        name = self.aliases.get(word.text, word.text)
        if name not in self.units and word.text not in _BOUNDS:
            self._fail(word.place, f"{quote(word.text)} is neither swept over nor a metric: {nearest(name, (*self.units, *self.aliases))}")
        return _Word("name", word.text, word.place, name if name in self.units else "", self.units.get(name, "bound"))

    def _value(self, side: _Word, sides: Sequence[_Word]) -> Test:
        """A side of a comparison in base units."""
        named = next((other for other in sides if other.name), None)
        if named is None:
            self._fail(side.place, "a comparison needs a name, such as latency or batch")
        if side.name != "bound" and any(other.name == "bound" for other in sides):
            if side.text not in _BOUNDS:
                self._fail(side.place, "bound is memory or compute")
            return lambda values: _BOUNDS[side.text]
        if side.kind == "number":
            number = self._converted(side, named)
            return lambda values: number
        if side.name != "bound" and side.unit != named.unit:
            self._fail(side.place, f"{side.name or side.text}, in {side.unit}, does not compare with {named.name}, in {named.unit}")
        self.names.add(side.name)
        return lambda values: values[side.name]

    def _converted(self, number: _Word, named: _Word) -> float:
        shown = f"{number.text} {number.unit}".rstrip()
        if named.unit == "flag":
            self._fail(number.place, f"{named.name} is true or false: write {named.name}, or not {named.name}")
        if not number.unit:
            if named.unit not in ("1", "bit"):
                self._fail(number.place, f"{shown} needs a unit: {named.name} is in {named.unit}")
            return float(number.text)
        try:
            given = ureg.Quantity(ureg.non_int_type(number.text), ureg.parse_units(number.unit))
            return float(given.to("dimensionless" if named.unit == "1" else named.unit).magnitude)
        except pint.UndefinedUnitError:
            self._fail(number.place, f"{number.unit!r} is not a unit known here")
        except pint.DimensionalityError:
            self._fail(number.place, f"{shown} does not compare with {named.name}, which is in {named.unit}")
