"""Claims about slacks with terms ``y = (1 - share)^tokens``, such as expected experts: bounds on y reduce them to polynomials.

Over the tokens T, y is decreasing and convex. So it is at most its chord between two numbers of tokens, and beyond the second
at most its value there; it is at least its tangent at 0, ``1 - share T`` (Bernoulli), and at least 0. A slack that is linear in
y has its extremes at such bounds, so a proof at the bounds holds throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, cast

from sympy import Dummy, Expr, Poly, PolynomialError, Rational, S, Symbol, ceiling, together

from symroof.algebra.piecewise import COMPUTE, MEMORY
from symroof.algebra.polynomial import polynomial, sign
from symroof.algebra.unions import Untouched, left_untouched, untouched
from symroof.notation import Sentence
from symroof.proof import smt
from symroof.proof.provers import PROVED, Answer, by_shift, narrowed
from symroof.symbols import VOCABULARY, substitute

TRIED = (8, 32, 2)
"""Ends of chords, as multiples of the tokens that would touch all parts if no two touched the same part."""
PLACES = 20
"""Binary digits of y at the end of a chord, rounded up."""

Parts = list[tuple[Expr, tuple[Expr, ...], str]]
"""A bound on y for each part of the range, the margins of the part, and the bound in words."""


def in_lowest_terms(slack: Expr) -> Expr:
    """A polynomial in the symbols and the untouched shares that has the sign of the slack for all positive values."""
    shares = sorted(slack.atoms(Untouched), key=str)
    unknowns = {cast(Any, share): Dummy("y", positive=True) for share in shares}
    plain = cast(Expr, slack.xreplace(unknowns))
    free = sorted(plain.free_symbols, key=str)
    if not free:
        return slack.as_numer_denom()[0]
    lowest = polynomial(plain, cast(Symbol, free[0])).as_expr().expand()
    return cast(Expr, lowest.xreplace({unknown: share for share, unknown in unknowns.items()}))


def by_bounds(bound: str, slack: Expr, lows: Mapping[Symbol, Expr], margins: Sequence[Expr] = ()) -> Answer | None:
    """Prove that a slack has one sign for all values of y between its bounds; None if the bounds do not decide.

    >>> from sympy import Integer
    >>> from symroof.symbols import b, t
    >>> y = Untouched(Rational(1, 4), b)
    >>> by_bounds("memory", b / 100 + 8 * y - 8 - b * t, {b: Integer(1), t: Integer(1)})[0]
    'proved'
    """
    shares = sorted(slack.atoms(Untouched), key=str)
    if not shares:
        return None
    unit, y = shares[0], Dummy("y", positive=True)
    try:
        line = Poly(slack.xreplace({unit: y}), y)
    except PolynomialError:
        return None
    if line.degree() != 1:
        return None
    rise = sign(cast(Expr, line.LC()))
    if rise in (None, 0):
        return None
    worst_low = (rise == 1) == (bound == COMPUTE)
    for parts in _from_below(unit) if worst_low else _from_above(unit, lows):
        proofs: list[str] = []
        for value, within, words in parts:
            if any(by_shift(MEMORY, margin, {x: low for x, low in lows.items() if x in margin.free_symbols}) for margin in within):
                continue  # this part is empty
            inside = in_lowest_terms(cast(Expr, together(slack.xreplace({unit: value}))))
            every = (*margins, *within)
            starts = {x: narrowed(x, low, every)[0] for x, low in lows.items()}
            answer = _decided(bound, inside, {x: low for x, low in starts.items() if x in inside.free_symbols}, every)
            if answer is None:
                break
            proofs.append(Sentence(words, ": ", answer[2] or "None"))
        else:
            return PROVED, "bounds", Sentence("with y = ", unit, ", ", Sentence.listed(proofs, "; ")), None
    return None


def _decided(bound: str, slack: Expr, lows: Mapping[Symbol, Expr], margins: Sequence[Expr]) -> Answer | None:
    """A proof by shift, further bounds or z3; a counterexample to a bound does not refute the claim."""
    if slack.has(Untouched):
        return by_bounds(bound, slack, lows, margins)
    answer = by_shift(bound, slack, lows)
    if answer is None:
        relevant = [margin for margin in margins if margin.free_symbols <= set(lows)]
        answer = smt.decide(bound, slack, lows, {x: VOCABULARY[x].domain == "integer" for x in lows}, relevant)
    return answer if answer is not None and answer[0] == PROVED else None


def _from_below(unit: Untouched) -> Iterator[Parts]:
    """Lower bounds of y: 0; or the tangent at 0 while that is larger, which is the most parts that tokens can touch."""
    part, whole = unit.share.as_numer_denom()
    margin = whole - part * unit.tokens
    yield [(S.Zero, (), "y >= 0")]
    yield [(1 - unit.share * unit.tokens, (margin,), f"y >= 1 - {unit.share * unit.tokens}"), (S.Zero, (-margin,), "y >= 0 beyond")]


def _from_above(unit: Untouched, lows: Mapping[Symbol, Expr]) -> Iterator[Parts]:
    """Upper bounds of y: the chord from the fewest tokens and the value at its end beyond; or the value at the fewest tokens."""
    least = substitute(unit.tokens, lows)
    if not least.is_Rational:
        return
    if unit.share.is_Rational and not unit.tokens.is_number:
        start = _rounded_up(unit.share, least)
        for times in TRIED:
            reach = least + ceiling(times / unit.share)
            end = _rounded_up(unit.share, reach)
            chord = start + (end - start) * (unit.tokens - least) / (reach - least)
            yield [
                (chord, (reach - unit.tokens,), f"y <= {chord} up to {reach} tokens"),
                (end, (unit.tokens - reach,), f"y <= {end} beyond"),
            ]
    first = left_untouched(unit.share, least)
    yield [(first, (), f"y <= {first}")]


def _rounded_up(share: Expr, tokens: Expr) -> Expr:
    """A short rational upper bound of y."""
    value = untouched(*(Fraction(int(cast(Any, number).p), int(cast(Any, number).q)) for number in (share, tokens)))
    return Rational(int(value * 2**PLACES) + 1, 2**PLACES)
