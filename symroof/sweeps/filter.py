"""Conditions such as ``latency < 50 ms and memory <= 80 GB``: parsed by a small grammar, never evaluated as code.

::

    condition  = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation   = "not" negation | "(" condition ")" | comparison
    comparison = operand [ sign operand [ sign operand ] ]      sign: < <= > >= == != (and = for ==)
    operand    = name | number [ unit ]
"""

from __future__ import annotations

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
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
}
_BOUNDS = {"memory": 0.0, "compute": 1.0}
_WORDS = ("and", "or", "not")
_PLAIN = ("1", "bit")
DEEPEST = 50

Values = Mapping[str, Any]


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
    test: Callable[[Values], Any]

    def __call__(self, values: Values) -> Any:
        """Whether it holds, at every point."""
        return self.test(values)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


@dataclass(frozen=True)
class _Operand:
    """A name with its unit, or a number."""

    name: str
    number: Fraction
    unit: str
    token: _Token


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

    >>> found = condition("latency < 50 ms and not batch > 8", {"time": "s", "batch": "1"}, {"latency": "time"})
    >>> found({"time": np.array([0.01, 0.06]), "batch": 4}).tolist()
    [True, False]
    >>> condition("time < 50 GB", {"time": "s"})
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: condition 'time < 50 GB': at character 8: 50 GB does not compare with time, which is in s
    """
    return _Parser(text, units, aliases or {}).whole()


class _Parser:
    def __init__(self, text: str, units: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        self.text, self.units, self.aliases = text, units, aliases
        self.names: set[str] = set()
        self.depth = 0
        self.tokens = self._tokens()

    def fail(self, place: int, why: str) -> NoReturn:
        raise InputError(f"condition {quote(self.text)}: at character {place + 1}: {why}")

    def _tokens(self) -> list[_Token]:
        tokens, place = [], 0
        end = len(self.text.rstrip())
        while place < end:
            match = _TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
                self.fail(start, f"{quote(self.text[start])} is not understood; write like 'latency < 50 ms and batch >= 8'")
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            place = match.end()
        return [*tokens, _Token("end", "", end)]

    def accept(self, *texts: str) -> _Token | None:
        """The next token, taken if it is one of these."""
        return self.tokens.pop(0) if self.tokens[0].text in texts and self.tokens[0].kind != "end" else None

    def whole(self) -> Condition:
        test = self.condition()
        if self.tokens[0].kind != "end":
            self.fail(self.tokens[0].place, f"{quote(self.tokens[0].text)} is not expected here; join comparisons by and, or")
        return Condition(self.text, frozenset(self.names), test)

    def condition(self) -> Callable[[Values], Any]:
        return self._joined("or", np.logical_or, self.conjunction)

    def conjunction(self) -> Callable[[Values], Any]:
        return self._joined("and", np.logical_and, self.negation)

    def _joined(self, word: str, join: Any, part: Callable[[], Callable[[Values], Any]]) -> Callable[[Values], Any]:
        parts = [part()]
        while self.accept(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else lambda values: _fold(join, [one(values) for one in parts])

    def negation(self) -> Callable[[Values], Any]:
        token = self.accept("not", "(")
        if token is None:
            return self.comparison()
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(token.place, "nested too deeply")
        if token.text == "not":
            inner = self.negation()
            result: Callable[[Values], Any] = lambda values: np.logical_not(inner(values))  # noqa: E731
        else:
            result = self.condition()
            if not self.accept(")"):
                self.fail(self.tokens[0].place, "a ')' is missing")
        self.depth -= 1
        return result

    def comparison(self) -> Callable[[Values], Any]:
        operands, signs = [self.operand()], []
        while len(signs) < 2 and (sign := self.accept(*_SIGNS)):
            signs.append(sign.text)
            operands.append(self.operand())
        first = operands[0]
        if not signs:
            if self.units.get(first.name) != "flag":
                self.fail(first.token.place, f"{quote(first.token.text)} must be compared with something, by one of < <= > >= == !=")
            self.names.add(first.name)
            return lambda values: np.asarray(values[first.name], dtype=bool)
        sides = [self._side(one, operands) for one in operands]
        pairs = list(zip(signs, sides, sides[1:], strict=False))
        return lambda values: _fold(np.logical_and, [_SIGNS[sign](left(values), right(values)) for sign, left, right in pairs])

    def operand(self) -> _Operand:  # noqa: RET503 -- `fail` never returns
        token = self.tokens.pop(0)
        if token.kind == "number":
            following = self.tokens[0]
            known = following.kind == "name" and following.text not in (*_WORDS, *self.units, *self.aliases)
            return _Operand("", Fraction(token.text), self.tokens.pop(0).text if known else "", token)
        if token.kind != "name" or token.text in _WORDS:
            self.fail(
                token.place, f"expected a name or a number, not {quote(token.text)}" if token.text else "something is missing at the end"
            )
        name = self.aliases.get(token.text, token.text)
        if name in self.units:
            return _Operand(name, Fraction(0), self.units[name], token)
        if token.text in _BOUNDS:
            return _Operand("", Fraction(_BOUNDS[token.text]), "bound", token)
        self.fail(
            token.place, f"{quote(token.text)} is neither swept over nor a metric: {nearest(token.text, (*self.units, *self.aliases))}"
        )

    def _side(self, one: _Operand, operands: list[_Operand]) -> Callable[[Values], Any]:
        """A side of a comparison in base units."""
        named = [other for other in operands if other.name]
        if not named:
            self.fail(one.token.place, "a comparison needs a name, such as latency or batch")
        if "bound" in {other.name for other in named}:
            return self._of_bound(one)
        unit = named[0].unit
        if one.name:
            if one.unit != unit:
                self.fail(one.token.place, f"{one.name}, in {one.unit}, does not compare with {named[0].name}, in {unit}")
            self.names.add(one.name)
            return lambda values: values[one.name]
        number = self._converted(one, named[0].name, unit)
        return lambda values: number

    def _of_bound(self, one: _Operand) -> Callable[[Values], Any]:
        word = _BOUNDS.get(one.token.text)
        if one.token.text == "bound":
            self.names.add("bound")
            return lambda values: values["bound"]
        if word is None:
            self.fail(one.token.place, "bound is memory or compute")
        return lambda values: word

    def _converted(self, one: _Operand, name: str, unit: str) -> float:
        shown = f"{one.token.text} {one.unit}".rstrip()
        if unit == "flag":
            self.fail(one.token.place, f"{name} is true or false: write {name}, or not {name}")
        if not one.unit:
            if unit not in _PLAIN:
                self.fail(one.token.place, f"{shown} needs a unit: {name} is in {unit}")
            return float(one.number)
        try:
            given = ureg.Quantity(one.number, ureg.parse_units(one.unit))
            return float(given.to("dimensionless" if unit == "1" else unit).magnitude)
        except pint.UndefinedUnitError:
            self.fail(one.token.place, f"{one.unit!r} is not a unit known here")
        except pint.DimensionalityError:
            self.fail(one.token.place, f"{shown} does not compare with {name}, which is in {unit}")


def _fold(join: Any, parts: list[Any]) -> Any:
    result = parts[0]
    for part in parts[1:]:
        result = join(result, part)
    return result
