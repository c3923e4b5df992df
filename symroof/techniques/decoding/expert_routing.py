"""Expert routing: the expected number of distinct experts that a step reads if some are chosen more often than others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import cast

from sympy import Expr, Integer, Rational, S, integer_nthroot

from symroof import symbols
from symroof.architectures.step import Step
from symroof.conventions import Convention, without
from symroof.operators import Graph
from symroof.operators.experts import UNIFORM, Routing
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, refuse_graph

PARTS = 1 << 16
"""Routing probabilities are multiples of one over this."""

ROUNDED = 1 << 64
STEEPEST, FINEST = 8, 16


@dataclass(frozen=True)
class ExpertRouting(Technique):
    """Each of T tokens is routed to K of E experts, independently of the others; a step reads X distinct experts in expectation.

    ========= ===================================================================
    uniform   ``X = E (1 - (1 - K/E)^T)``, what a step reads without this technique (`Options.experts`)
    skewed    ``X = sum_i 1 - (1 - pi_i)^T``, with ``sum_i pi_i = K``
    at most   ``X = min(E, K T)``, the upper bound
    ========= ===================================================================

    Skewed: pi_i, the probability that a token goes to expert i, falls as ``i^-zeta`` (Zipf's law) and is at most 1; an
    expert that would exceed 1 gets every token, and the remainder is distributed over the others. Probabilities are
    rounded to multiples of 1/65536 that add up to K, and X is exact for these. Skewed routing reads fewer experts than
    uniform routing; for one token both read K. FLOPs do not change, so intensity rises as X falls where weights dominate
    the traffic. The upper bound exceeds uniform routing by at most ``1 / (1 - 1/e) = 1.58``, at ``K T = E``. X / T falls
    as T grows, so an operator has at most one critical batch, below that of ``X = E`` by a share ``(1 - K/E)^T``.

    Skewed, X is a sum of exponentials in the batch: crossovers over the batch are exact numbers without a symbolic formula.

    Parameters
    ----------
    skew : zeta, a number from 0 (uniform) to 8 with a denominator of at most 16. Above 0 it requires numeric E and K.

    Raises
    ------
    InputError
        The model is dense, or the skew is a symbol or out of range.

    >>> import symroof
    >>> step = symroof.load_model("mixtral-8x7b-v0.1").decode(batch=4)
    >>> step.graph.definitions[symbols.X], float(step.apply(ExpertRouting(skew=1)).graph.definitions[symbols.X])
    (175/32, 4.625041659878542)

    Sources: Jiang et al. (2024), Mixtral, arXiv:2401.04088; Clauset et al. (2009), arXiv:0706.1062, for Zipf's law.
    """

    name = "expert-routing"
    summary = "tokens choose some experts more often than others, so a step reads fewer"
    survey = "4.1"
    source = "arXiv:2401.04088"
    requires = frozenset({Fact.OWN_STEP})
    once = True
    example = Example(model="mixtral-8x7b-v0.1", part="expert_up_proj", over="batch", inputs={"experts": "at-most"})

    skew: Number = number(symbols.zeta, 0, zero=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        skew = self.skew
        if not isinstance(skew, Rational):
            raise self.refused("skew must be a number: the sum over the experts has no closed form in it")
        if skew > STEEPEST or skew.q > FINEST:
            raise self.refused(f"skew {skew}: expected at most {STEEPEST}, with a denominator of at most {FINEST}")

    def check(self, step: Step) -> None:
        self._tokens(step.symbolic)

    def on_graph(self, graph: Graph) -> Graph:
        if self.skew != 0:
            raise refuse_graph(self)
        return self._routed(graph, UNIFORM)

    def on_step(self, step: Step) -> Step:
        self.check(step)
        if self.skew == 0:
            return super().on_step(step)
        routed, experts = (step.values.get(symbol, symbol) for symbol in (symbols.K, symbols.E))
        if symbols.K in step.symbolic.definitions:
            raise self.refused(f"skew {self.skew}: tokens also choose experts without weights here; only uniform choices are counted")
        if not (routed.is_number and experts.is_number):
            raise self.refused(f"skew {self.skew} needs the numbers of experts; here they are symbols")
        wanted = Counter(shares(cast(Rational, self.skew), int(experts), int(routed)))
        return replace(step, symbolic=self._routed(step.symbolic, tuple((share, Integer(count)) for share, count in wanted.items())))

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        del given
        return self.on_graph(graph)

    def _routed(self, graph: Graph, chosen: tuple[tuple[Expr, Expr], ...]) -> Graph:
        tokens = self._tokens(graph)
        routed = graph.with_routing(replace(graph.routing or Routing(tokens), shares=chosen))
        lines = (Convention("routing", text, self.source) for text in self.statements({}))
        return replace(routed, conventions=(*without(graph.conventions, "routing"), *lines))

    def _tokens(self, graph: Graph) -> Expr:
        """The number of tokens of the step that are routed to experts."""
        if graph.routing is None:
            raise self.refused("this model is dense: it has no experts to route tokens to")
        return graph.routing.tokens

    def statements(self, given: Given) -> tuple[str, ...]:
        del given
        how = "uniformly" if self.skew == 0 else f"by Zipf's law with exponent {self.skew}"
        return (
            f"mixture of experts: tokens choose experts independently and {how}; a step reads the weights of X experts per "
            "layer, the expected number of distinct experts, and every expert reads its tokens' inputs",
        )


def shares(skew: Rational, experts: int, routed: int) -> tuple[Expr, ...]:
    """The probability that a token goes to each expert, in descending order: proportional to ``i^-skew``, at most 1, adding up to K.

    >>> [str(share) for share in shares(Rational(0), 4, 2)]
    ['1/2', '1/2', '1/2', '1/2']
    >>> [float(share) for share in shares(Rational(2), 4, 2)][:2]
    [1.0, 0.5901641845703125]
    """
    power, root = int(skew.p), int(skew.q)
    weights = [int(integer_nthroot(ROUNDED**root // place**power, root)[0]) for place in range(1, experts + 1)]
    full = 0
    while full < routed and weights[full] * (routed - full) > sum(weights[full:]):
        full += 1
    if full == routed:
        return (*[S.One] * routed, *[S.Zero] * (experts - routed))
    rest, parts = sum(weights[full:]), (routed - full) * PARTS
    counts = [weight * parts // rest for weight in weights[full:]]
    missing = parts - sum(counts)
    counts = [count + (place < missing) for place, count in enumerate(counts)]
    return (*[S.One] * full, *(cast(Expr, Rational(Integer(count), PARTS)) for count in counts))
