"""Efficiency: the share of each ceiling that kernels reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import S

from symroof import symbols
from symroof.operators import Graph, Level
from symroof.techniques.technique import Example, Given, Number, Technique, number

LINKS = (Level.LINK, Level.NETWORK, Level.HOST)


@dataclass(frozen=True)
class Efficiency(Technique):
    """The share of each ceiling that real kernels reach; applied twice, shares multiply.

    ============ =============================================
    time         ``max(F / (eta_P P), B / (eta_BW BW), B_l / (eta_l BW_l))``
    ridge        ``(eta_P / eta_BW) P / BW``
    ============ =============================================

    FLOPs and bytes do not change. An operator that stays compute-bound takes ``1 / eta_P`` times as long, one that stays
    memory-bound ``1 / eta_BW`` times, and none more than ``1 / min(eta)`` times. Equal shares move no crossover.

    Parameters
    ----------
    compute, memory, link : eta_P, eta_BW and eta_l, above 0 and at most 1; default 1, at least one is required. The last
        applies to the links to other devices, to other nodes and to the host.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> slower = step.apply(Efficiency(compute=0.7, memory=0.9))
    >>> print(symroof.crossover(slower, "up_proj", over="batch").formula)
    P*d*eta_P*f*w/(16*BW*d*eta_BW*f - P*a*d*eta_P - P*a*eta_P*f)

    Source: Williams, Waterman, Patterson (2009), doi:10.1145/1498765.1498785 (ceilings below the roof).
    """

    name = "efficiency"
    summary = "the share of each ceiling that kernels reach"
    survey = "2.2"
    source = "doi:10.1145/1498765.1498785"
    example = Example(over="batch", settings={"compute": 0.7, "memory": 0.9})

    compute: Number = number(symbols.eta_P, optional=True)
    memory: Number = number(symbols.eta_BW, optional=True)
    link: Number = number(symbols.eta_l, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compute is None and self.memory is None and self.link is None:
            raise self.refused("give compute, memory or link as a share, as memory=0.9")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        old = graph.ceilings
        factors = {level: given["link"] for level in LINKS if "link" in given}
        factors |= {Level.MEMORY: given["memory"]} if "memory" in given else {}
        levels = {**old.levels, **{level: old.factor(level) * factor for level, factor in factors.items()}}
        return replace(graph, ceilings=replace(old, compute=old.compute * given.get("compute", S.One), levels=levels))

    def statements(self, given: Given) -> tuple[str, ...]:
        names = {"compute": "peak", "memory": "memory bandwidth", "link": "bandwidth of links"}
        shares = ", ".join(f"{given[name]} of the {what}" for name, what in names.items() if name in given)
        return (f"efficiency: every operator reaches {shares}; FLOPs and bytes are unchanged",)
