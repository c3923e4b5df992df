"""Mixture of experts: every token goes to ``K`` of ``E`` experts, and a step reads the weights of ``X`` of them.

The weights of all ``E`` experts are kept; ``X`` of them cross the memory interface (`Routing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sympy import Add, Expr, Min, S

from symroof import symbols
from symroof.algebra.unions import union
from symroof.operators.facts import Kind, Role
from symroof.operators.linear import linear
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Storage, Tensor, axes_of
from symroof.symbolic import Symbolic

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


UNIFORM = ((symbols.K / symbols.E, symbols.E),)
"""Every expert is as likely as any other."""


@dataclass(frozen=True)
class Routing(Symbolic):
    """How tokens choose experts.

    ============ ================================================
    expected     ``X = sum_i 1 - (1 - pi_i)^T``; uniform ``X = E (1 - (1 - K/E)^T)``
    at most      ``X = min(E, K T)``, as if no two tokens shared one
    ============ ================================================

    Expected is the mean over tokens that choose independently of one another, whatever the K choices of one token have to do with
    each other. It is K for one token, at most ``min(E, K T)``, and uniform routing reads the most. Where a token is in a layer with
    probability S it goes to an expert of it with ``S pi_i``; what a layer that runs reads is that over the probability that it does.
    The tokens of one text, and real routers, are correlated: this is the mean of independent ones.

    Attributes
    ----------
    tokens : T, tokens that choose.
    shares : pi_i, the probability that a token goes to an expert, with the number of experts of that share; none for the most
        there can be.
    reach : S, one for all layers or one for each; 1 but for early exits.
    runs : the share of the layers that run.

    >>> from symroof.symbols import b
    >>> Routing(b, UNIFORM).touched, Routing(b).touched
    (E*(1 - (1 - K/E)**b), Min(E, K*b))

    Source: Jiang et al. (2024), Mixtral, arXiv:2401.04088, for the layer; the mean is elementary: an expert is missed by all T tokens
    with probability ``(1 - pi_i)^T``.
    """

    tokens: Expr
    shares: tuple[tuple[Expr, Expr], ...] = ()
    reach: tuple[Expr, ...] = (S.One,)
    runs: Expr = S.One

    @property
    def touched(self) -> Expr:
        """X, the experts whose weights a layer that runs reads."""
        ran = len(self.reach) * self.runs
        if not self.shares:
            return cast(Expr, Min(symbols.E, symbols.K * self.tokens * Add(*self.reach) / ran, evaluate=False))
        return Add(*(experts * union(share * part, self.tokens) for part in self.reach for share, experts in self.shares)) / ran
