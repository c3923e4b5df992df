"""The maximum of several formulas and the sum of piecewise functions: an operator's time, and the step's."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from sympy import Add, Expr, Integer, Symbol

from symroof.algebra.piecewise import COMPUTE, Piece, Piecewise
from symroof.algebra.reals import ascending, exact, order
from symroof.errors import InputError, quote


def envelope(x: Symbol, low: object, high: object, entries: Mapping[Any, Expr]) -> Piecewise:
    """``max(entries)`` from *low* to *high*, labelled by the largest entry, by the first of equals.

    With two entries, a point at which the first only touches the second is a piece of its own. Without entries the value
    is 0, labelled "".

    Raises
    ------
    InputError
        The difference of two entries is neither a rational function of x nor a sum of exponentials.

    >>> from sympy import oo
    >>> from sympy.abc import x
    >>> roof = envelope(x, 1, oo, {"compute": 2 * x, "memory": x + 5})
    >>> [(str(piece.low), str(piece.high), piece.label) for piece in roof.pieces]
    [('1', '5', 'memory'), ('5', 'oo', 'compute')]
    """
    start, end = exact(low), exact(high)
    if len(entries) < 2:
        label, value = next(iter(entries.items()), ("", Integer(0)))
        return Piecewise(x, (Piece(start, end, value, label),))
    (label, value), *others = entries.items()
    pieces = [Piece(start, end, value, label)]
    for label, value in others:
        larger: list[Piece] = []
        for piece in pieces:
            slack = Piecewise(x, (replace(piece, value=piece.value - value),))
            parts = slack.signs(below=False, above=True, zero=None if len(entries) == 2 else True).pieces
            larger += [
                replace(piece if part.label else Piece(piece.low, piece.high, value, label), low=part.low, high=part.high) for part in parts
            ]
        pieces = list(Piecewise(x, tuple(larger)).merged(value=True).pieces)
    return Piecewise(x, tuple(pieces))


def total(parts: Sequence[tuple[Hashable, Piecewise]], binding: Hashable = COMPUTE) -> Piecewise:
    """The sum of functions on a common range, labelled by the names of those whose own label is *binding*.

    Pieces with the same sum are merged, labelled by the names that apply on all of them.

    Raises
    ------
    InputError
        There are no functions, or their ranges differ.

    >>> from sympy import oo
    >>> from sympy.abc import x
    >>> both = total([("q", envelope(x, 1, oo, {"memory": x + 4, "compute": 2 * x})), ("k", envelope(x, 1, oo, {"memory": x}))])
    >>> [(str(piece.low), piece.value, sorted(piece.label)) for piece in both.pieces]
    [('1', 2*x + 4, []), ('4', 3*x, ['q'])]
    """
    if not parts:
        raise InputError("nothing to add up")
    first = parts[0][1]
    for name, part in parts:
        if (part.low, part.high) != (first.low, first.high):
            raise InputError(f"{quote(name)} is defined from {part.low} to {part.high}, another function from {first.low} to {first.high}")
    changes: dict[Expr, dict[int, Piece]] = {}
    for place, (_, part) in enumerate(parts):
        for piece in part.pieces:
            if not piece.is_point or part.low == part.high:
                changes.setdefault(piece.low, {})[place] = replace(piece, value=piece.value.expand(power_exp=False))
    current: dict[int, Piece] = {}
    pieces: list[Piece] = []
    for low, high in pairwise((*ascending(changes), first.high)):
        current |= changes[low]
        binds = frozenset(parts[place][0] for place, piece in current.items() if piece.label == binding)
        pieces.append(Piece(low, high, Add(*(piece.value for piece in current.values())), binds))
    return Piecewise(first.x, tuple(pieces)).merged(value=True, combine=operator.and_)


def counted(x: Symbol, numbers: Iterable[int], function: Callable[[int], tuple[object, Hashable]]) -> Piecewise:
    """A function known only on whole numbers: a point per number, with its value and label.

    >>> from sympy.abc import x
    >>> counted(x, range(1, 10), lambda n: (-(-n // 4), "even" if n % 4 == 0 else "ragged")).merged().edges
    (4, 5, 8, 9)
    """
    points = ((Integer(n), *function(n)) for n in numbers)
    return Piecewise(x, tuple(Piece(n, n, exact(value), label) for n, value, label in points))


def weighted(terms: Sequence[tuple[Expr, Piecewise]], *, merge: bool = True) -> Piecewise:
    """The sum of functions, each times a number, on their common range, without labels.

    Parameters
    ----------
    merge : join neighbouring pieces with one formula.

    Raises
    ------
    InputError
        There are no functions, or they have no interval in common.

    >>> from sympy import oo
    >>> from sympy.abc import x
    >>> roof = envelope(x, 1, oo, {"compute": 2 * x, "memory": x + 5})
    >>> [(str(piece.low), piece.value) for piece in weighted([(Integer(1), roof), (Integer(-2), envelope(x, 1, 9, {"": x}))]).pieces]
    [('1', 5 - x), ('5', 0)]
    """
    if not terms:
        raise InputError("nothing to add up")
    x, functions = terms[0][1].x, [function for _, function in terms]
    low, high = ascending(one.low for one in functions)[-1], ascending(one.high for one in functions)[0]
    if order(low, high) >= 0:
        raise InputError(f"functions of {x} have no interval in common")
    wide = [[piece for piece in one.pieces if not piece.is_point] for one in functions]
    cuts = (piece.low for pieces in wide for piece in pieces if order(low, piece.low) < 0 < order(high, piece.low))
    places, made = [0] * len(terms), list[Piece]()
    for start, end in pairwise((low, *ascending(cuts), high)):
        for each, pieces in enumerate(wide):
            while order(pieces[places[each]].high, start) <= 0:
                places[each] += 1
        parts = (weight * pieces[place].value for (weight, _), pieces, place in zip(terms, wide, places, strict=True))
        made.append(Piece(start, end, Add(*parts).expand(power_exp=False), None))
    whole = Piecewise(x, tuple(made))
    return whole.merged(value=True) if merge else whole
