"""Numbers that a user gives: checked before any work, and quoted where they make no sense."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from sympy import Rational

from symroof.errors import InputError, nearest, quote
from symroof.symbols import VOCABULARY, lookup, s, t


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
    """Values by the letters of a formula; ``seq_len`` stands for the context where the formula is one of decode.

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


def member(what: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise unless a word is one of those known.

    Raises
    ------
    InputError
        With the nearest known word.
    """
    if value not in known:
        raise InputError(f"{what} {quote(value)}: {nearest(str(value), known)}")
