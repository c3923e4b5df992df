"""Scaled hardware: factors on peak, memory bandwidth and on-chip buffer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symroof import symbols
from symroof.operators import Graph, Level
from symroof.techniques.technique import Example, Given, Number, Technique, number


@dataclass(frozen=True)
class ScaleHardware(Technique):
    """The device with f_P times its peaks, f_BW times its memory bandwidth and f_M times its on-chip buffer.

    The ridge point becomes ``(f_P / f_BW) P / BW``; in the large-layer limit the critical batch is proportional to it. A
    memory-bound operator of intensity I is faster by f_BW up to ``f_BW = P / (I BW)``, and no faster beyond that. The
    buffer matters only for the blocks of Algorithm 1 (``flash-attention:reread=memory``).

    Parameters
    ----------
    peak, bandwidth, buffer : the factors f_P, f_BW, f_M; at least one.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-13b").decode(batch=1, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> scaled = step.apply(ScaleHardware(bandwidth=3))
    >>> [symroof.analyze(variant, "survey/nvidia_A6000")["up_proj"].seconds_exprs["memory"] for variant in (step, scaled)]
    [138277/750000000, 138277/2250000000]

    Source: Williams, Waterman, Patterson (2009), doi:10.1145/1498765.1498785; the survey's Figure 20 (three times the bandwidth).
    """

    name = "scale-hardware"
    summary = "a device with another peak, memory bandwidth or buffer"
    survey = "6.1"
    source = "doi:10.1145/1498765.1498785"
    example = Example(
        model="llama-2-13b", over="batch", settings={"bandwidth": 3}, inputs={"seq_len": 1024}, hardware="survey/nvidia_A6000"
    )

    peak: Number = number(symbols.f_P, optional=True)
    bandwidth: Number = number(symbols.f_BW, optional=True)
    buffer: Number = number(symbols.f_M, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.peak is None and self.bandwidth is None and self.buffer is None:
            raise self.refused("give a factor for peak, bandwidth or buffer, as bandwidth=3")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        ceilings = graph.ceilings
        if "bandwidth" in given:
            levels = {**ceilings.levels, Level.MEMORY: ceilings.factor(Level.MEMORY) * given["bandwidth"]}
            ceilings = replace(ceilings, levels=levels)
        if "peak" in given:
            ceilings = replace(ceilings, compute=ceilings.compute * given["peak"])
        if "buffer" in given:
            graph = graph.replaced({symbols.M: given["buffer"] * symbols.M})
        return replace(graph, ceilings=ceilings)

    def statements(self, given: Given) -> tuple[str, ...]:
        factors = {"peak": "peaks", "bandwidth": "memory bandwidth", "buffer": "buffer"}
        scaled = ", ".join(f"{given[name]} times the {what}" for name, what in factors.items() if name in given)
        return (f"scale-hardware: {scaled}, also of an added unit; capacity, links and power are unchanged",)
