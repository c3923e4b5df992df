"""Launch overhead: seconds added to every occurrence of an operator."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symroof import symbols
from symroof.operators import Graph
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number


@dataclass(frozen=True)
class LaunchOverhead(Technique):
    """Add t_0 seconds to every occurrence of an operator, before its work begins; applied twice, overheads add.

    ================ ===========================================
    operator         ``max(F / P, B / BW) + t_0``
    step             ``sum(count max(F / P, B / BW)) + N t_0``
    ================ ===========================================

    N counts the occurrences of operators, one kernel each. Fusion lowers N; a CUDA graph, which launches all kernels at
    once, lowers t_0. `symroof.questions.regimes.work_exceeds` gives the batch above which work takes longer than launches;
    a step is never faster than ``N t_0``. Valid for launches that do not overlap with work.

    Parameters
    ----------
    launch : t_0 in seconds; 0 for none.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(symroof.analyze(step.apply(LaunchOverhead()))["v_proj"].time_expr)
    t_0 + Max((a*b*d/8 + b*c*e*k/8 + d*e*k*w/8)/BW, 2*b*d*e*k/P)

    Source: Fernandez et al. (2023), The Framework Tax, arXiv:2302.06117.
    """

    name = "launch-overhead"
    summary = "seconds per operator in addition to its work"
    survey = "2.2"
    source = "arXiv:2302.06117"
    requires = frozenset({Fact.WHOLE_STEP})
    example = Example(model="opt-125m", part="total", over="batch", settings={"launch": 5e-06})

    launch: Number = number(symbols.t_0, zero=True)

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        return replace(graph, ceilings=replace(graph.ceilings, launch=graph.ceilings.launch + given["launch"]))

    def statements(self, given: Given) -> tuple[str, ...]:
        return (f"launch-overhead: {given['launch']} s for every occurrence of an operator, one kernel each, not overlapped with work",)
