"""The provers of a sign: the shift certificate, the roots in one variable, and a search for counterexamples.

Each returns (verdict, by, proof in one line, counterexample), or None if it cannot decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import cast

from sympy import Expr, Poly, Symbol, ceiling, floor, oo

from symroof.algebra.piecewise import COMPUTE, MEMORY, Piece, piecewise
from symroof.algebra.saturation import within
from symroof.algebra.unions import Untouched, enclosed
from symroof.notation import Sentence
from symroof.symbols import VOCABULARY, substitute

PROVED, REFUTED, UNKNOWN = "proved", "refuted", "unknown"
SHIFT, ROOTS, SUBSTITUTION = "shift", "roots", "substitution"

Answer = tuple[str, str | None, str | None, Mapping[Symbol, Expr] | None]


def holds(bound: str, slack: Expr, point: Mapping[Symbol, Expr]) -> bool | None:
    """Whether the claim holds at a point, exactly; None if a rounded power (`symroof.algebra.unions`) leaves it open."""
    verdicts = {bool(value < 0) if bound == MEMORY else bool(value >= 0) for value in _values(slack, point)}
    return verdicts.pop() if len(verdicts) == 1 else None


def _values(slack: Expr, point: Mapping[Symbol, Expr]) -> list[Expr]:
    """The value at a point; if a power is rounded, the values at both ends of its enclosure."""
    values = [slack]
    for atom in slack.atoms(Untouched):
        ends = enclosed(*(substitute(part, point) for part in (atom.share, atom.tokens)))
        values = [cast(Expr, value.xreplace({atom: end})) for value in values for end in ends]
    return [substitute(value, point) for value in values]


def inside(margins: Sequence[Expr], point: Mapping[Symbol, Expr]) -> bool:
    """Whether all margins are nonnegative at a point."""
    return all(substitute(margin, point) >= 0 for margin in margins)


def by_shift(bound: str, slack: Expr, lows: Mapping[Symbol, Expr]) -> Answer | None:
    """The shift certificate: all coefficients of the slack at ``low + y`` have one sign."""
    if slack.has(Untouched):
        return None
    shifted = shift(slack, lows)
    numbers = [coefficient for _, coefficient in shifted.terms()]
    if bound == COMPUTE and not all(number >= 0 for number in numbers):
        return None
    # Negative even if all y that can be zero are zero: some term contains none of these.
    closed = [place for place, low in enumerate(lows.values()) if low > 0]
    kept = any(number < 0 and not any(powers[place] for place in closed) for powers, number in shifted.terms())
    if bound == MEMORY and not (kept and all(number <= 0 for number in numbers)):
        return None
    sense = "negative" if bound == MEMORY else "nonnegative"
    shifts = Sentence.listed(
        Sentence(symbol, f" = {f'{low} + ' if low != 0 else ''}", Symbol(f"y_{symbol}")) for symbol, low in lows.items()
    )
    start = Sentence("with ", shifts, ": ") if lows else "for all values: "
    return PROVED, SHIFT, Sentence(start, shifted.as_expr(), f" is {sense} term by term"), None


def shift(slack: Expr, lows: Mapping[Symbol, Expr]) -> Poly:
    """The slack with ``x = low + y`` in every variable."""
    moved = {symbol: low + Symbol(f"y_{symbol}", nonnegative=True) for symbol, low in lows.items()}
    gens = [Symbol(f"y_{symbol}", nonnegative=True) for symbol in lows] or [Symbol("y_", nonnegative=True)]
    return Poly(substitute(slack, moved).expand(), *gens)


def narrowed(x: Symbol, low: Expr, margins: Sequence[Expr]) -> tuple[Expr, Expr]:
    """The integers from *low* between which all margins that depend only on this variable are nonnegative.

    >>> from sympy import Integer
    >>> from symroof.symbols import b
    >>> narrowed(b, Integer(1), [9 - 2 * b])
    (1, 4)
    """
    high: Expr = oo
    for margin in margins:
        if margin.free_symbols == {x}:
            start, end = within(margin, x, low, high)
            low, high = low if start == low else ceiling(start), end if end == oo else floor(end)
    return low, high


def by_roots(bound: str, slack: Expr, lows: Mapping[Symbol, Expr], margins: Sequence[Expr] = ()) -> Answer | None:
    """In one variable the roots decide: a counterexample is a point of an interval with the other bound."""
    if len(lows) != 1:
        return None
    (x, low), *_ = lows.items()
    low, high = narrowed(x, low, margins)
    intervals = piecewise(x, [(low, high, slack, None)]).signs().pieces if low <= high else ()
    whole = VOCABULARY[x].domain == "integer"
    for interval in intervals:
        if interval.bound != bound:
            member = _member(interval, whole, bound, slack, x)
            if member is not None:
                return REFUTED, SUBSTITUTION, _value(slack, {x: member}), {x: member}
    range_of = f"from {low}" if high == oo else f"from {low} to {high}"
    words = f"the roots leave no {'whole number' if whole else 'value'} of "
    return PROVED, ROOTS, Sentence(words, x, f" {range_of} with the other bound"), None


def _value(slack: Expr, point: Mapping[Symbol, Expr]) -> Sentence:
    shown = Sentence.listed(Sentence(symbol, " = ", value) for symbol, value in point.items())
    return Sentence("slack ~ ", substitute(slack, point), " at ", shown)


def _member(interval: Piece, whole: bool, bound: str, slack: Expr, x: Symbol) -> Expr | None:
    candidates = [ceiling(interval.low), floor(interval.low) + 1] if whole else []
    if not whole:
        candidates = [interval.low, (interval.low + interval.high) / 2 if interval.high != oo else interval.low + 1]
    members = [candidate for candidate in candidates if interval.low <= candidate <= interval.high and (candidate != 0)]
    return next((candidate for candidate in members if holds(bound, slack, {x: candidate}) is False), None)


def by_search(bound: str, slack: Expr, lows: Mapping[Symbol, Expr], margins: Sequence[Expr] = ()) -> Answer | None:
    """Search for a counterexample at near and far corners, checked exactly."""
    for point in _corners(lows):
        if inside(margins, point) and holds(bound, slack, point) is False:
            return REFUTED, SUBSTITUTION, _value(slack, point), point
    return None


def _corners(lows: Mapping[Symbol, Expr]) -> Iterator[dict[Symbol, Expr]]:
    steps = (0, 1, 15, 255, 4095, 65535, 2**24, 2**40, 2**60)
    used = steps if len(lows) <= 3 else steps[::4]
    for offsets in product(used, repeat=len(lows)):
        point = {symbol: low + offset for (symbol, low), offset in zip(lows.items(), offsets, strict=True)}
        if all(value > 0 for value in point.values()):
            yield point
