"""Mixture of experts: every token goes to ``K`` of ``E`` experts, and a step reads the weights of ``X`` of them.

The weights of all ``E`` experts are kept; ``X`` of them cross the memory interface (`Routing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sympy import Add, Expr, Min, S

from symroof import symbols
from symroof.operators.facts import Kind, Role
from symroof.operators.linear import linear
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Storage, Tensor, axes_of
from symroof.symbols import Symbolic

ROUTED = axes_of("b s K")


def expert_linear(name: str, spec: str, x: Tensor, *, bias: bool = False) -> Operator:
    """A linear layer of every token's ``K`` experts; each token's input is read once for each of them.

    For ``b s K d, E d f_e -> b s K f_e``:

    ========= =============================================================
    FLOPs     ``2 b s K d f_e``
    traffic   ``(b s K d a + X d f_e w + b s K f_e a) / 8``
    ========= =============================================================

    Parameters
    ----------
    spec : the einsum; the axis ``E`` of the weight is no axis of the work.
    bias : whether each expert has one.
    """
    return linear(name, spec, x, bias=bias)


def combine(name: str, outputs: Tensor, scores: Tensor) -> Operator:
    """The sum of a token's ``K`` expert outputs, each times its routing weight.

    ========= ===========================================
    FLOPs     ``2 b s K d``
    traffic   ``(b s K d + b s K + b s d) a / 8``
    ========= ===========================================
    """
    space = outputs.space
    out = Tensor(name, axes_of("b s d"), Storage.ACTIVATION, space)
    reads = (Access(outputs), Access(scores, ROUTED))
    return Operator(name, Kind.ELEMENTWISE, space, (Work(outputs.axes, 2),), reads, (Access(out),), role=Role.COMBINE, linear_in=1)


def union(share: Expr, tokens: Expr) -> Expr:
    """Expected share that at least one of the tokens touches, each touching its share independently: ``1 - (1 - share)^tokens``.

    >>> from sympy import S
    >>> from symroof.symbols import b, delta
    >>> union(delta, b), union(delta, S.One), union(S.One, b)
    (1 - (1 - delta)**b, delta, 1)
    """
    return share if share == 1 else 1 - (1 - share) ** tokens


@dataclass(frozen=True)
class Routing(Symbolic):
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
