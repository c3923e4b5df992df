"""Numbers that a user gives, and what a sweep ranges over: checked before any work, and quoted where they make no sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from sympy import Rational, Symbol, oo

from symroof import symbols
from symroof.architectures.options import LARGEST, WIDEST
from symroof.errors import InputError, quote
from symroof.symbols import VOCABULARY, lookup, option_name, s, t

MOST_VALUES = 10**8
"""Values of one variable; a longer list is a slip."""

REFUSED = {symbols.T, symbols.S, symbols.n, symbols.R, symbols.X, symbols.t_w, symbols.t_i, symbols.t_j, symbols.n_i}
"""Symbols that no step is a function of, or that follow from others."""


def numeric(name: str, values: Any) -> np.ndarray:
    """The values as an array of numbers; whether they are positive is seen where they are used.

    >>> numeric("batch", [])
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: batch []: there are no values
    >>> numeric("batch", "many")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: batch 'many': expected positive numbers

    Raises
    ------
    InputError
        They are not real numbers, or there are none.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise InputError(f"{name} {quote(values)}: expected a number or an array of numbers, not a ragged one") from None
    if array.dtype == object and array.size and all(isinstance(one, int | Fraction | Rational) for one in array.flat):
        try:
            array = array.astype(np.float64)
        except OverflowError:
            raise InputError(f"{name} {quote(values)}: larger than a float64 can be") from None
    if array.size == 0:
        raise InputError(f"{name} {quote(values)}: there are no values")
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name} {quote(values)}: expected positive numbers")
    return array


def refuse_impossible(name: str, array: np.ndarray) -> None:
    """Raise if a value is zero, negative, infinite or not a number.

    Raises
    ------
    InputError
        The first such value and its place are quoted.
    """
    fine = (array > 0) & np.isfinite(array)
    if not fine.all():
        place = int(np.argmin(fine))
        where = f" at position {place}" if array.size > 1 else ""
        raise InputError(f"{name} {array.reshape(-1)[place]}{where}: expected positive, finite numbers")


def by_letter(names: Mapping[str, Any], needed: tuple[str, ...]) -> dict[str, Any]:
    """Values by the symbols of a formula; ``seq_len`` means the context in a formula of decode.

    Raises
    ------
    InputError
        A name is no symbol of the library, is given twice, or one that the formula needs is missing.
    """
    found: dict[str, Any] = {}
    for name, value in names.items():
        symbol = lookup(name).symbol
        if symbol == s and str(t) in needed and str(s) not in needed:
            symbol = t
        if str(symbol) in found:
            raise InputError(f"{quote(name)}: {VOCABULARY[symbol].name} is given twice")
        found[str(symbol)] = value
    for letter in needed:
        if letter not in found:
            others = [VOCABULARY[lookup(other).symbol].name for other in needed]
            raise InputError(f"{lookup(letter).name} ({letter}) is missing; the formula needs {', '.join(others)}")
    return found


@dataclass(frozen=True)
class Axis:
    """One variable and its values, in the order given."""

    name: str
    unit: str
    meaning: str
    values: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def notes(self) -> dict[str, str]:
        """What a labelled array says of it."""
        return {"units": self.unit, "long_name": self.meaning}


def symbol_of(name: str, phase: str) -> Symbol:
    """The symbol behind a variable's name: ``seq_len`` is the context in decode."""
    symbol = lookup(name).symbol
    return t if symbol == s and phase == "decode" else symbol


def axis(name: str, values: Any, *, distinct: bool = True) -> Axis:
    """A variable and its values, each once where they are to be *distinct*.

    >>> axis("b", range(1, 5)).values.tolist()
    [1, 2, 3, 4]
    >>> axis("weight_bits", [4, 4])
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: weight_bits [4, 4]: 4 is given twice

    Raises
    ------
    InputError
        The name is no symbol, or a value is not one of its domain.
    """
    known = lookup(name)
    if known.symbol in REFUSED:
        raise InputError(f"{quote(name)}: {known.meaning} is not something to sweep over")
    shown = symbols.option_name(known.symbol)
    length = len(values) if isinstance(values, Sequence | np.ndarray) else 1
    if length > MOST_VALUES:
        raise InputError(f"{shown} has {length} values; more than {MOST_VALUES} are not swept over")
    array = np.atleast_1d(numeric(shown, values))
    if array.ndim != 1:
        raise InputError(f"{shown} {quote(values)}: expected one list of values")
    refuse_impossible(shown, array)
    if known.highest != oo and (array > int(known.highest)).any():
        raise InputError(f"{shown} {array[int(np.argmax(array))]}: expected a number above 0, at most {known.highest}")
    if known.domain == "integer" or known.unit == "bit":
        high = WIDEST if known.unit == "bit" else LARGEST
        wrong = (array != np.floor(array)) | (array > high)
        if wrong.any():
            limit = "1e12" if high == LARGEST else high
            raise InputError(f"{shown} {array[int(np.argmax(wrong))]}: expected a whole number from 1 to {limit}")
        array = array.astype(np.int64)
    else:
        array = array.astype(np.float64)
    once, counts = np.unique(array, return_counts=True)
    if distinct and len(once) < len(array):
        raise InputError(f"{shown} {quote(values)}: {once[counts > 1][0]} is given twice")
    unit = known.unit if known.unit != "dimensionless" else "1"
    meaning = "prompt length in prefill, context length in decode" if known.symbol in (s, t) else known.meaning
    return Axis(shown, unit, meaning, array)


def axes(over: Mapping[Any, Any], points: bool) -> tuple[Axis, ...]:
    """All variables of a sweep; as a list of points, of equal lengths.

    Raises
    ------
    InputError
        A variable is given twice under two names, or the lengths differ.
    """
    if not isinstance(over, Mapping):
        raise InputError(f"over {quote(over)}: expected values by name, such as {{'batch': [1, 2, 4]}}")
    named = {option_name(name) if isinstance(name, Symbol) else name: values for name, values in over.items()}
    found = tuple(axis(name, values, distinct=not points) for name, values in named.items())
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name} is given twice, under two names")
    if points:
        if not found:
            raise InputError("a list of points needs at least one variable")
        lengths = {len(one) for one in found}
        if len(lengths) > 1:
            shown = ", ".join(f"{one.name} {len(one)}" for one in found)
            raise InputError(f"points need equally many values of every variable: {shown}; leave points out for a grid")
    return found
