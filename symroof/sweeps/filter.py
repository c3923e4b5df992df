"""Conditions such as ``latency < 50 ms and memory <= 80 GB``: comparisons of names and numbers with units, joined by and, or, not.

Operands are read first, and stand as ``_0``, ``_1``, ... in what the standard library's parser reads; the tree may hold nothing
but comparisons of these. Parsing runs nothing, and nothing is run afterwards.
"""

from __future__ import annotations

import ast
import functools
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import pint

from symroof.errors import InputError, nearest, quote
from symroof.units import ureg

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?)|(?P<name>[A-Za-z_µ]\w{0,40}(?:/[A-Za-z]{1,12})?)"
    r"|(?P<sign><=|>=|==|!=|[<>=()]))"
)
_SIGNS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_BOUNDS = {"memory": 0.0, "compute": 1.0}
_WORDS = ("and", "or", "not")
_PLAIN = ("1", "bit")
DEEPEST = 50

Values = Mapping[str, Any]
Test = Callable[[Values], Any]


@dataclass(frozen=True)
class Condition:
    """A condition on points.

    Attributes
    ----------
    text : as it was typed.
    names : the metrics and variables it mentions.
    test : a function from arrays by name to truth values.
    """

    text: str
    names: frozenset[str]
    test: Test

    def __call__(self, values: Values) -> Any:
        """Whether it holds, at every point."""
        return self.test(values)


@dataclass(frozen=True)
class _Operand:
    """A name with its unit, or a number with the unit that was typed."""

    name: str
    number: Fraction
    unit: str
    text: str
    place: int


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
    return _Reader(text, units, aliases or {}).condition()


class _Reader:
    def __init__(self, text: str, units: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        self.text, self.units, self.aliases = text, units, aliases
        self.operands: list[_Operand] = []
        self.names: set[str] = set()
        self.source = ""
        self.places: list[int] = []
        """Where each character of the source was typed."""

    def fail(self, place: int, why: str) -> NoReturn:
        raise InputError(f"condition {quote(self.text)}: at character {place + 1}: {why}")

    def condition(self) -> Condition:
        self._read()
        try:
            test = self._test(ast.parse(self.source.strip(), mode="eval").body)
        except SyntaxError as error:
            self._explain(error)
        return Condition(self.text, frozenset(self.names), test)

    def _words(self) -> list[tuple[str, str, int]]:
        """Kind, text and place of every word."""
        words, place, end = [], 0, len(self.text.rstrip())
        while place < end:
            match = _TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
                self.fail(start, f"{quote(self.text[start])} is not understood; write like 'latency < 50 ms and batch >= 8'")
            words.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            place = match.end()
        return [*words, ("end", "", end)]

    def _read(self) -> None:
        """Operands by number, signs and words as Python spells them."""
        depth = open_nots = 0
        words = self._words()
        while len(words) > 1:
            kind, word, place = words.pop(0)
            if word in ("(", "not"):
                depth, open_nots = depth + 1, open_nots + (word == "not")
                if depth > DEEPEST:
                    self.fail(place, "nested too deeply")
            elif kind == "sign" or word in _WORDS:
                depth -= word == ")"
            else:
                has_unit = kind == "number" and words[0][0] == "name" and words[0][1] not in (*_WORDS, *self.units, *self.aliases)
                self.operands.append(self._operand(word, words.pop(0)[1] if has_unit else "", place, kind == "number"))
                word, depth, open_nots = f"_{len(self.operands) - 1}", depth - open_nots, 0
            word = "==" if word == "=" else word
            self.source += word + " "
            self.places += [place] * (len(word) + 1)

    def _operand(self, word: str, unit: str, place: int, number: bool) -> _Operand:  # noqa: RET503 -- `fail` never returns
        if number:
            return _Operand("", Fraction(word), unit, word, place)
        name = self.aliases.get(word, word)
        if name in self.units:
            return _Operand(name, Fraction(0), self.units[name], word, place)
        if word in _BOUNDS:
            return _Operand("", Fraction(_BOUNDS[word]), "bound", word, place)
        self.fail(place, f"{quote(word)} is neither swept over nor a metric: {nearest(word, (*self.units, *self.aliases))}")

    def _explain(self, error: SyntaxError) -> NoReturn:
        """Where Python's parser stopped, in the words of this language."""
        if "never closed" in error.msg:
            self.fail(len(self.text.rstrip()), "a ')' is missing")
        offset = (error.offset or 0) - 1
        rest = self.source[offset:].split() if offset >= 0 else []  # the end has no place in what Python says
        if not rest:
            self.fail(len(self.text.rstrip()), "something is missing at the end")
        place, before = self.places[offset], self.source[:offset].split()
        word = self.operands[int(rest[0][1:])].text if rest[0].startswith("_") else rest[0]
        if rest[0] != ")" and (not before or not (before[-1].startswith("_") or before[-1] == ")")):
            self.fail(place, f"expected a name or a number, not {quote(word)}")
        self.fail(place, f"{quote(word)} is not expected here; join comparisons by and, or")

    def _test(self, node: ast.expr) -> Test:
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            tests = [self._test(value) for value in node.values]
            return lambda values: functools.reduce(join, [test(values) for test in tests])
        if isinstance(node, ast.UnaryOp):
            inner = self._test(node.operand)
            return lambda values: np.logical_not(inner(values))
        if isinstance(node, ast.Compare):
            return self._comparison([self._at(side) for side in (node.left, *node.comparators)], node.ops)
        flag = self._at(node)
        if self.units.get(flag.name) != "flag":
            self.fail(flag.place, f"{quote(flag.text)} must be compared with something, by one of < <= > >= == !=")
        self.names.add(flag.name)
        return lambda values: np.asarray(values[flag.name], dtype=bool)

    def _at(self, node: ast.expr) -> _Operand:
        if not isinstance(node, ast.Name):
            self.fail(self.places[node.col_offset], "expected a name or a number here; join comparisons by and, or")
        return self.operands[int(node.id[1:])]

    def _comparison(self, operands: list[_Operand], signs: list[ast.cmpop]) -> Test:
        sides = [self._side(operand, operands) for operand in operands]
        pairs = [(_SIGNS[type(sign)], left, right) for sign, left, right in zip(signs, sides, sides[1:], strict=False)]
        return lambda values: functools.reduce(np.logical_and, [compare(left(values), right(values)) for compare, left, right in pairs])

    def _side(self, operand: _Operand, operands: list[_Operand]) -> Callable[[Values], Any]:
        """A side of a comparison in base units."""
        named = next((other for other in operands if other.name), None)
        if named is None:
            self.fail(operand.place, "a comparison needs a name, such as latency or batch")
        if any(other.name == "bound" for other in operands) and operand.name != "bound":
            if operand.text not in _BOUNDS:
                self.fail(operand.place, "bound is memory or compute")
            return lambda values: _BOUNDS[operand.text]
        if operand.name:
            if operand.name != "bound" and operand.unit != named.unit:
                self.fail(operand.place, f"{operand.name}, in {operand.unit}, does not compare with {named.name}, in {named.unit}")
            self.names.add(operand.name)
            return lambda values: values[operand.name]
        number = self._converted(operand, named)
        return lambda values: number

    def _converted(self, operand: _Operand, named: _Operand) -> float:
        shown = f"{operand.text} {operand.unit}".rstrip()
        if named.unit == "flag":
            self.fail(operand.place, f"{named.name} is true or false: write {named.name}, or not {named.name}")
        if not operand.unit:
            if named.unit not in _PLAIN:
                self.fail(operand.place, f"{shown} needs a unit: {named.name} is in {named.unit}")
            return float(operand.number)
        try:
            given = ureg.Quantity(operand.number, ureg.parse_units(operand.unit))
            return float(given.to("dimensionless" if named.unit == "1" else named.unit).magnitude)
        except pint.UndefinedUnitError:
            self.fail(operand.place, f"{operand.unit!r} is not a unit known here")
        except pint.DimensionalityError:
            self.fail(operand.place, f"{shown} does not compare with {named.name}, which is in {named.unit}")
