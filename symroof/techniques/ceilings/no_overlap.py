"""No overlap: an operator's times under its ceilings add up."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symroof.operators import Graph
from symroof.techniques.technique import Example, Given, Technique


@dataclass(frozen=True)
class NoOverlap(Technique):
    """An operator computes only after its bytes have arrived: its times add instead of overlapping.

    ========== =======================================
    time       ``F / P + B / BW``
    slowdown   ``1 + min(F / P, B / BW) / max(F / P, B / BW)``
    ========== =======================================

    The slowdown is 2 at the crossover, tends to 1 away from it, and is at most n with n ceilings. Crossovers do not move;
    a step's time over a variable is one rational function without kinks. Applying it twice changes nothing.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(symroof.analyze(step.apply(NoOverlap()))["v_proj"].time_expr)
    2*b*d*e*k/P + (a*b*d/8 + b*c*e*k/8 + d*e*k*w/8)/BW

    Source: Treibig and Hager (2010), arXiv:0905.0792 (a model without overlap of transfers and work).
    """

    name = "no-overlap"
    summary = "times under the ceilings add up"
    survey = "2.2"
    source = "arXiv:0905.0792"
    example = Example(over="batch")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        return replace(graph, ceilings=replace(graph.ceilings, overlap=False))

    def statements(self, given: Given) -> tuple[str, ...]:
        return ("no-overlap: an operator's times under its ceilings add up; at most as many times slower as it has ceilings",)
