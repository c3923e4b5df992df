"""What a sweep ranges over: every variable with its values, checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sympy import Symbol, oo

from symroof import symbols
from symroof.architectures.options import LARGEST, WIDEST
from symroof.errors import InputError, quote
from symroof.sweeps.inputs import numeric, refuse_impossible
from symroof.symbols import lookup

MOST_VALUES = 10**8
"""Values of one variable; a longer list is a slip."""

REFUSED = {symbols.T, symbols.S, symbols.n, symbols.R, symbols.X, symbols.t_w}
"""Symbols that no step is a function of, or that follow from others."""


@dataclass(frozen=True)
class Axis:
    """One variable and its values, in the order given."""

    name: str
    unit: str
    meaning: str
    values: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)


def symbol_of(name: str, phase: str) -> Symbol:
    """The symbol behind a variable's name: ``seq_len`` is the context in decode."""
    symbol = lookup(name).symbol
    return symbols.t if symbol == symbols.s and phase == "decode" else symbol


def axis(name: str, values: Any) -> Axis:
    """A variable and its values.

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
    return _axis(name, values, distinct=True)


def _axis(name: str, values: Any, *, distinct: bool) -> Axis:
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
    whole = known.domain == "integer" or known.unit == "bit"
    if whole:
        high = WIDEST if known.unit == "bit" else LARGEST
        wrong = (array != np.floor(array)) | (array > high)
        if wrong.any():
            limit = "1e12" if high == LARGEST else high
            raise InputError(f"{shown} {array[int(np.argmax(wrong))]}: expected a whole number from 1 to {limit}")
        array = array.astype(np.int64)
    else:
        array = array.astype(np.float64)
    if distinct:
        ordered = np.sort(array)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if twice.size:
            raise InputError(f"{shown} {quote(values)}: {twice[0]} is given twice")
    unit = known.unit if known.unit != "dimensionless" else "1"
    return Axis(shown, unit, known.meaning if known.symbol not in (symbols.s, symbols.t) else _LENGTH, array)


_LENGTH = "prompt length in prefill, context length in decode"


def axes(over: Mapping[str, Any], points: bool) -> tuple[Axis, ...]:
    """All variables of a sweep; as a list of points, of equal lengths.

    Raises
    ------
    InputError
        A variable is given twice under two names, or the lengths differ.
    """
    if not isinstance(over, Mapping):
        raise InputError(f"over {quote(over)}: expected values by name, such as {{'batch': [1, 2, 4]}}")
    found = tuple(_axis(name, values, distinct=not points) for name, values in over.items())
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
            raise InputError(f"points need as many values of every variable: {shown}; leave points out for a grid")
    return found
