"""How many experts of a layer the tokens of a pass touch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from sympy import Add, Expr, Min, S

from symroof import symbols
from symroof.symbols import Values, substitute


def union(share: Expr, tokens: Expr) -> Expr:
    """Expected share that at least one of the tokens touches, each touching its share independently: ``1 - (1 - share)^tokens``.

    >>> from sympy import S
    >>> from symroof.symbols import b, delta
    >>> union(delta, b), union(delta, S.One), union(S.One, b)
    (1 - (1 - delta)**b, delta, 1)
    """
    return share if share == 1 else 1 - (1 - share) ** tokens


@dataclass(frozen=True)
class Routing:
    """How tokens choose experts.

    ============ ================================================
    at most      ``X = min(E, K T)``, as if no two tokens shared one
    expected     ``X = sum_i 1 - (1 - pi_i)^T``
    ============ ================================================

    Attributes
    ----------
    tokens : T, tokens that choose.
    reach : the share of them that is in a layer which runs, on average; 1 but for early exits.
    shares : pi_i, the probability that a token goes to an expert, with the number of experts of that share; none for the most
        there can be.

    >>> from symroof.symbols import E, K, b
    >>> Routing(b).touched, Routing(b, ((K / E, E),)).touched
    (Min(E, K*b), E*(1 - (1 - K/E)**b))
    """

    tokens: Expr
    shares: tuple[tuple[Expr, Expr], ...] = ()
    reach: Expr = S.One

    @property
    def touched(self) -> Expr:
        """X, the experts whose weights a step reads."""
        tokens = self.tokens * self.reach
        if not self.shares:
            return cast(Expr, Min(symbols.E, symbols.K * tokens, evaluate=False))
        return Add(*(experts * union(share, tokens) for share, experts in self.shares))

    def bind(self, values: Values) -> Routing:
        """The same with numbers for symbols."""
        shares = tuple((substitute(share, values), substitute(experts, values)) for share, experts in self.shares)
        return replace(self, tokens=substitute(self.tokens, values), shares=shares, reach=substitute(self.reach, values))
