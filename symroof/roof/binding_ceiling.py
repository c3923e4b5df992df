"""Which ceiling decides an operator's time, over one variable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from sympy import Expr, Symbol

from symroof.algebra.intervals import MEMORY, Interval, Piece, between, partition, roots
from symroof.algebra.polynomial import Polynomial, polynomial
from symroof.errors import InputError
from symroof.roof.costs import needed
from symroof.symbols import VOCABULARY


@dataclass(frozen=True)
class Part:
    """One operator's times over the variable: one for every ceiling, and what comes besides.

    Where nothing overlaps there is one time, their sum.
    """

    name: str
    times: dict[str, Expr]
    beside: Expr
    x: Symbol

    def winners(self, low: Expr, high: Expr) -> tuple[Interval, ...]:
        """The stretches of a range with the ceiling that decides on each."""
        names = [*self.times]
        if len(names) < 2:
            return (Interval(low, high, names[0] if names else ""),)
        if len(names) == 2:
            slack = self._slack(*names)
            return tuple(replace(one, bound=names[one.bound == MEMORY]) for one in partition([Piece(low, high, slack)]))
        slacks = {pair: self._slack(*pair) for pair in combinations(names, 2)}
        inner = {root for slack in slacks.values() for root in roots(slack) if low < root < high}
        edges = sorted({low, high} | inner)
        return tuple(Interval(left, right, self._largest(names, slacks, left, right)) for left, right in pairwise(edges))

    def _largest(self, names: list[str], slacks: dict[tuple[str, str], Polynomial], left: Expr, right: Expr) -> str:
        best = names[0]
        for name in names[1:]:
            if slacks[best, name](between(left, right)) < 0:
                best = name
        return best

    def _slack(self, one: str, other: str) -> Polynomial:
        """The polynomial that is negative where the second time is the longer."""
        slack = polynomial(self.times[one] - self.times[other], self.x)
        if not slack.is_bound:
            raise InputError(f"{needed(slack.as_expr().free_symbols - {self.x})} to follow the time over {VOCABULARY[self.x].name}")
        return slack
