"""Formulas that count whole blocks of the variable, as in FlashAttention: decided exactly on whole numbers.

``y <= ceil(y) < y + 1``, so a formula that grows with each count lies between two formulas without ceilings. Where both
have the same bound, it applies to all numbers at once; in between, every whole number is decided separately.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import ceil, prod
from typing import Any

from sympy import Dummy, Expr, Integer, Poly, Symbol, ceiling, floor, nan, oo

from symroof.algebra.envelope import envelope
from symroof.algebra.piecewise import COMPUTE, MEMORY, Piece, Piecewise
from symroof.algebra.unions import Untouched, untouched
from symroof.errors import InputError
from symroof.symbols import substitute

LONGEST = 500_000
"""The largest number of whole numbers that are decided one by one."""


def counted_intervals(x: Symbol, low: Expr, high: Expr, work: Sequence[Expr], moved: Sequence[Expr]) -> tuple[Piece, ...]:
    """The intervals of whole numbers with one bound each, by the larger of *work* and *moved*; the pieces have no formula.

    >>> from sympy import Integer
    >>> from symroof.symbols import s
    >>> pieces = counted_intervals(s, Integer(1), oo, [2 * s], [5 * ceiling(s / 4)])
    >>> [(piece.low, piece.high, piece.bound) for piece in pieces]
    [(1, 2, 'memory'), (3, oo, 'compute')]

    Raises
    ------
    InputError
        The bound is still open after `LONGEST` numbers.
    """
    first, last = ceiling(low), floor(high)
    slowest = envelope(x, first, last, dict(enumerate(work)))
    sides = [[without_ceilings(formula, {x: first}, above=above) for formula in moved] for above in (True, False)]
    bounds = [[formula for formula in side if formula is not None] for side in sides]
    decided: list[tuple[Expr, Expr, str]] = []
    for label, complete, side in ((COMPUTE, None not in sides[0], bounds[0]), (MEMORY, True, bounds[1])):
        if complete and side:
            slack = slowest - envelope(x, first, last, dict(enumerate(side)))
            for piece in slack.signs().pieces:
                if piece.label == label:
                    start, end = ceiling(piece.low), floor(piece.high)
                    if label == MEMORY:  # equal times do not count as memory-bound
                        start, end = start + int(slack(start) == 0), end - int(end != oo and slack(end) == 0)
                    decided.append((start, end, label))
    decided = [interval for interval in sorted(decided, key=lambda interval: interval[0]) if interval[0] <= interval[1]]
    pieces: list[Piece] = []

    def look(start: Expr, end: Expr) -> None:
        """Decide every whole number from *start* to *end*."""
        if end - start > LONGEST:
            raise InputError(f"the bound is still open beyond {LONGEST} numbers of {x}, from {start} on")
        above, below = ([_on_numbers(formula, x) for formula in side] for side in (work, moved))
        for number in range(int(start), int(end) + 1):
            slack = max(function(number) for function in above) - max(function(number) for function in below)
            pieces.append(Piece(Integer(number), Integer(number), nan, MEMORY if slack < 0 else COMPUTE))

    reached = first
    for start, end, label in decided:
        if start > reached:
            look(reached, start - 1)
        if end >= reached:
            pieces.append(Piece(max(start, reached), end, nan, label))
            reached = end + 1
    if reached <= last and reached != oo:
        look(reached, last)
    return Piecewise(x, tuple(pieces)).merged().pieces


def _on_numbers(formula: Expr, x: Symbol) -> Callable[[int], Fraction]:
    """The formula as a function of whole numbers in exact fractions, with long powers rounded as in `symroof.algebra.unions`."""
    atoms = sorted(formula.atoms(Untouched), key=str)
    waves: dict[Any, Expr] = {atom: Dummy() for atom in atoms if x in atom.tokens.free_symbols}
    formula = substitute(formula, waves)
    counts: dict[Any, Expr] = {atom: Dummy() for atom in formula.atoms(ceiling)}
    arguments = [Poly(atom.args[0], x).all_coeffs() for atom in counts]
    lines = [[Fraction(int(number.p), int(number.q)) for number in coefficients] for coefficients in arguments]
    over, under = substitute(formula, counts).as_numer_denom()
    letters = (x, *counts.values(), *waves.values())
    powers_of = [tuple(map(_fraction, (atom.share, atom.tokens / x))) for atom in waves]
    sides = [[(powers, Fraction(int(n.p), int(n.q))) for powers, n in Poly(side, *letters).terms()] for side in (over, under)]

    def value(number: int) -> Fraction:
        point = [number, *(ceil(sum(n * number**place for place, n in enumerate(reversed(line)))) for line in lines)]
        point += [untouched(share, rate * number) for share, rate in powers_of]
        top, bottom = (sum(n * prod(map(pow, point, powers)) for powers, n in side) for side in sides)
        return Fraction(top) / bottom

    return value


def _fraction(number: Any) -> Fraction:
    if not number.is_Rational:
        raise InputError(f"{number} is not a number: experts in expectation are not supported in formulas that count blocks")
    return Fraction(int(number.p), int(number.q))


def without_ceilings(formula: Expr, lows: Mapping[Symbol, Expr], *, above: bool) -> Expr | None:
    """An upper bound of the formula with ``y + 1``, or a lower bound with ``y``, for each ``ceil(y)``; valid from *lows*.

    None if the bound is not proved. The proof: the formula grows with a count, because its derivative by the count has no
    negative coefficient after shifting the count by 1 and the variables by their lows. An upper bound is also proved if the
    formula is convex in a count and as large at y as at y + 1 (the first block beyond a window).

    >>> from sympy import Integer
    >>> from symroof.symbols import s
    >>> without_ceilings(3 * s + 2 * ceiling(s / 4), {s: Integer(1)}, above=True)
    7*s/2 + 2
    >>> without_ceilings(3 * s - 2 * ceiling(s / 4), {s: Integer(1)}, above=True) is None
    True
    """
    counts: dict[Any, Any] = {atom: Dummy(positive=True) for atom in sorted(formula.atoms(ceiling), key=str) if atom.free_symbols & {*lows}}
    in_counts = substitute(formula, counts)
    beyond = {symbol: symbol + low for symbol, low in lows.items()} | {count: count + 1 for count in counts.values()}
    for atom, count in counts.items():
        least = atom.args[0]
        if _is_nonnegative(substitute(in_counts.diff(count), beyond)):
            in_counts = substitute(in_counts, {count: least + int(above)})
            continue
        ends = [substitute(in_counts, {count: end}) for end in (least, least + 1)]
        if not above or (ends[1] - ends[0]).expand() != 0 or not _is_nonnegative(substitute(in_counts.diff(count, 2), beyond)):
            return None
        in_counts = ends[0]
    return in_counts.expand()


def _is_nonnegative(formula: Expr) -> bool:
    """Whether no coefficient of the numerator is negative; symbols are positive."""
    over = formula.as_numer_denom()[0]
    used = sorted(over.free_symbols, key=str)
    return all(number.is_nonnegative for number in (Poly(over, *used).coeffs() if used else [over]))
