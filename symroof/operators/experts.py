"""Mixture of experts: every token goes to ``K`` of ``E`` experts, and a step reads the weights of ``X`` of them.

The weights of all ``E`` experts are in memory; a step reads those of ``X`` experts (`Routing`).
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
    """A linear layer of every token's ``K`` experts; each token's input is read once per expert.

    For ``b s K d, E d f_e -> b s K f_e``:

    ========= =============================================================
    FLOPs     ``2 b s K d f_e``
    traffic   ``(b s K d a + X d f_e w + b s K f_e a) / 8``
    ========= =============================================================

    Parameters
    ----------
    spec : the einsum; the axis ``E`` of the weight is not an axis of the work.
    bias : whether each expert has a bias.
    """
    return linear(name, spec, x, bias=bias)


def combine(name: str, outputs: Tensor, scores: Tensor) -> Operator:
    """The sum of a token's ``K`` expert outputs, weighted by their routing weights.

    ========= ===========================================
    FLOPs     ``2 b s K d``
    traffic   ``(b s K d + b s K + b s d) a / 8``
    ========= ===========================================
    """
    space = outputs.space
    out = Tensor(name, tuple(axis for axis in outputs.axes if axis != "K"), Storage.ACTIVATION, space)
    reads = (Access(outputs), Access(scores, ROUTED))
    return Operator(name, Kind.ELEMENTWISE, space, (Work(outputs.axes, 2),), reads, (Access(out),), role=Role.COMBINE, linear_in=1)


UNIFORM = ((symbols.K / symbols.E, symbols.E),)
"""Uniform routing: all experts are equally likely."""


@dataclass(frozen=True)
class Routing(Symbolic):
    """How tokens choose experts.

    ============ ================================================
    expected     ``X = sum_i 1 - (1 - pi_i)^T``; uniform ``X = E (1 - (1 - K/E)^T)``
    at most      ``X = min(E, K T)``, as if no two tokens shared an expert
    ============ ================================================

    The expected value assumes tokens that choose independently of each other; the K choices of one token may be correlated.
    It is K for one token and at most ``min(E, K T)``, and largest for uniform routing. If a token reaches a layer with
    probability S, it goes to an expert there with ``S pi_i``; the number of experts read by a layer that runs is conditional
    on the layer running. Tokens of one text, and real routers, are correlated, which this does not model.

    Attributes
    ----------
    tokens : T, the tokens that are routed.
    shares : pi_i, the probability that a token goes to an expert, with the number of experts of this probability; empty for
        the upper bound.
    reach : S, one value for all layers or one per layer; 1 without early exits.
    runs : the share of the layers that run.

    >>> from symroof.symbols import b
    >>> Routing(b, UNIFORM).touched, Routing(b).touched
    (E*(1 - (1 - K/E)**b), Min(E, K*b))

    Source: Jiang et al. (2024), Mixtral, arXiv:2401.04088, for the layer; the expected value is elementary: all T tokens miss an
    expert with probability ``(1 - pi_i)^T``.
    """

    tokens: Expr
    shares: tuple[tuple[Expr, Expr], ...] = ()
    reach: tuple[Expr, ...] = (S.One,)
    runs: Expr = S.One

    @property
    def touched(self) -> Expr:
        """X, the number of experts whose weights a layer that runs reads."""
        ran = len(self.reach) * self.runs
        if not self.shares:
            return cast(Expr, Min(symbols.E, symbols.K * self.tokens * Add(*self.reach) / ran, evaluate=False))
        return Add(*(experts * union(share * part, self.tokens) for part in self.reach for share, experts in self.shares)) / ran
