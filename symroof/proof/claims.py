"""Proofs of claims "memory-bound (or compute-bound) for all b >= 1, t >= 1, ...".

A claim is a sign of the slack ``F BW - B P`` where every variable is at least its lower bound; on a device that states further
ceilings there is one slack for each that the claim is against, such as ``F_v BW - B P_v`` of the vector units. It is *proved* by a
shift: substitute ``x = low + y`` for every variable; if all coefficients of the expanded slack have one sign, so has
the slack for all y >= 0, which a reader can check by eye. It is *refuted* by a point, checked by substitution. If
neither succeeds and the extra ``prove`` is installed, z3 decides. Otherwise the claim is *unknown*; nothing is ever
concluded from samples.

If a symbol saturates (``X = min(E, K b)``), there is one slack per branch; a claim is proved if it is proved on every
branch, and a counterexample is valid only on its own branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from sympy import And, Expr, Piecewise, Symbol
from sympy.logic.boolalg import Boolean

from symroof.algebra.piecewise import MEMORY
from symroof.answers import Answer
from symroof.notation import Brief, Sentence
from symroof.operators.facts import Resource
from symroof.proof import smt
from symroof.proof.bounds import by_bounds
from symroof.proof.provers import REFUTED, UNKNOWN, by_roots, by_search, by_shift, holds, inside, narrowed
from symroof.symbols import VOCABULARY, substitute


@dataclass(frozen=True)
class Certificate(Answer):
    """The answer to a claim.

    Attributes
    ----------
    claim : the claim in words.
    verdict : "proved", "refuted" or "unknown".
    by : "shift", "roots", "bounds", "z3", or for a refutation "substitution"; None if unknown.
    slack : the polynomial whose sign decides; negative means memory-bound. Of several cases, the first that decides.
    cases : all slacks that have to have the sign: one for each ceiling that the claim is against, and for each branch.
    certificate : the proof, or the value at the counterexample, in one line.
    counterexample : a point at which the claim fails.

    >>> from sympy import Integer
    >>> from symroof.symbols import b, t
    >>> decide("b t > 5", "compute", b * t - 5, {b: Integer(3), t: Integer(2)}).certificate
    'with b = 3 + y_b, t = 2 + y_t: y_b*y_t + 2*y_b + 3*y_t + 1 is nonnegative term by term'
    """

    claim: str
    verdict: str
    by: str | None
    slack: Expr
    certificate: str | None
    counterexample: Mapping[Symbol, Expr] | None
    cases: tuple[Case, ...] = ()


NEAR = 1000
"""The number of integers tried where a bound of the slack changes sign but the slack does not."""


@dataclass(frozen=True)
class Case(Brief):
    """The slack on one branch, which is where all margins are nonnegative.

    Attributes
    ----------
    where : the symbolic condition of the branch; None if nothing saturates over the variables.
    claimed, against : the resource of the claim, and the one that it is compared with.
    slack : the polynomial whose sign decides; if blocks are counted, a bound that is closer to refuting the claim.
    exact : the expression that the slack bounds, if it is a bound; a counterexample must refute this one.
    """

    where: Boolean | None
    slack: Expr
    margins: tuple[Expr, ...]
    exact: Expr | None = None
    against: Resource = Resource.COMPUTE
    claimed: Resource = Resource.MEMORY

    @property
    def free_symbols(self) -> frozenset[Symbol]:
        """The symbols of the slack and the margins."""
        return frozenset().union(*(cast(set[Symbol], part.free_symbols) for part in (self.slack, *self.margins)))

    @property
    def order(self) -> tuple[Resource, Resource]:
        """The slack has the sign of the time at the ceiling of the first less that of the second; below zero the second binds."""
        return (self.claimed, self.against) if self.claimed is Resource.COMPUTE else (self.against, self.claimed)

    def reached_from(self, lows: Mapping[Symbol, Expr]) -> bool:
        """Whether no margin is proved negative for all values from the lower bounds."""
        return not any(by_shift(MEMORY, margin, {x: lows[x] for x in lows if x in margin.free_symbols}) for margin in self.margins)

    def decide(self, words: str, bound: str, lows: Mapping[Symbol, Expr]) -> Certificate:
        """The answer on this branch."""
        inside = {x: narrowed(x, low, self.margins)[0] for x, low in lows.items() if x in self.free_symbols}
        answer = decide(words, bound, self.slack, inside, self.margins)
        refuted = answer.counterexample
        if self.exact is None or refuted is None or holds(bound, self.exact, refuted) is False:
            return answer
        if point := self._counterexample(bound, refuted):
            return replace(answer, certificate=Sentence("slack ~ ", substitute(self.exact, point).evalf(4)), counterexample=point)
        return replace(answer, verdict=UNKNOWN, by=None, certificate=None, counterexample=None)

    def _counterexample(self, bound: str, near: Mapping[Symbol, Expr]) -> dict[Symbol, Expr] | None:
        """A point on the branch at which the exact slack refutes the claim, near the point at which its bound does."""
        for symbol, start in near.items():
            for more in range(1, NEAR):
                point = {**near, symbol: start + more}
                if inside(self.margins, point) and holds(bound, cast(Expr, self.exact), point) is False:
                    return point
        return None


def merge_cases(words: str, bound: str, cases: Sequence[Case], lows: Mapping[Symbol, Expr]) -> Certificate:
    """The answer over all branches: proved if every branch is, refuted if one is."""
    answers = [case.decide(words, bound, lows) for case in cases]
    if len(answers) == 1:
        return replace(answers[0], cases=tuple(cases))
    several = len({case.against for case in cases}) > 1
    located = [
        replace(
            answer,
            slack=_over_branches([each for each in cases if each.against is case.against]),
            certificate=answer.certificate and Sentence(*_label(case, several=several), ": ", answer.certificate),
            cases=tuple(cases),
        )
        for case, answer in zip(cases, answers, strict=True)
    ]
    for verdict in (REFUTED, UNKNOWN):
        if deciding := [answer for answer in located if answer.verdict == verdict]:
            return deciding[0]
    by = dict.fromkeys(str(answer.by) for answer in located)
    proofs = dict.fromkeys(answer.certificate for answer in located if answer.certificate)
    return replace(located[0], by=", ".join(by), certificate=Sentence.listed(proofs, "; "))


def _over_branches(cases: Sequence[Case]) -> Expr:
    """The slack against one resource, on every branch."""
    parts = {And(*(margin >= 0 for margin in case.margins)): case.slack for case in cases}
    return cases[0].slack if len(set(parts.values())) == 1 else cast(Expr, Piecewise(*((slack, where) for where, slack in parts.items())))


def _label(case: Case, *, several: bool) -> Iterator[str | Boolean]:
    """The branch, where there are some, and the ceiling that the claim is against, where there are *several*."""
    yield from ("where ", case.where) if case.where is not None else ()
    yield ", " * several * (case.where is not None) + f"against the {case.against.ceiling}" * several


def decide(words: str, bound: str, slack: Expr, lows: Mapping[Symbol, Expr], margins: Sequence[Expr] = ()) -> Certificate:
    """The answer to a claim about the sign of a polynomial, for symbols from their lower bounds and nonnegative margins.

    >>> from sympy import Integer
    >>> from symroof.symbols import b, t
    >>> decide("b t < b + t", "memory", b * t - b - t, {b: Integer(1), t: Integer(1)}).counterexample
    {b: 2, t: 2}
    """
    answer = (
        by_shift(bound, slack, lows)
        or by_roots(bound, slack, lows, margins)
        or by_search(bound, slack, lows, margins)
        or by_bounds(bound, slack, lows, margins)
        or smt.decide(bound, slack, lows, {symbol: VOCABULARY[symbol].domain == "integer" for symbol in lows}, margins)
        or (UNKNOWN, None, None, None)
    )
    verdict, by, proof, point = answer
    if point is not None and (holds(bound, slack, point) is not False or not inside(margins, point)):
        raise AssertionError(f"{point} is not a counterexample to {words}")
    return Certificate(words, verdict, by, slack, proof, point)
