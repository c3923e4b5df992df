"""Spatial architectures: weights that live on chip, spread over as many chips as it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Graph, Level, Storage
from symroof.techniques.technique import Example, Given, Number, Technique, number


@dataclass(frozen=True)
class ResidentWeights(Technique):
    """All weights in on-chip memory: they leave the traffic of the main memory, and cross BW_c instead.

    A linear layer moves ``b s (d + f) a / 8`` bytes of memory for ``2 b s d f`` FLOPs, whatever the batch; what the batch
    still shares is the read of the weights on chip. Chips hold ``ceil(weights / M_c)`` parts of the model, and a token runs
    through one after the other: the time is that of one chip at work, and chips add throughput, not speed.

    Parameters
    ----------
    bandwidth : BW_c, as 80TB/s.
    capacity : M_c, on-chip bytes of a chip that hold weights, as 230MB; left out, they fit.
    chips : n_p.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(ResidentWeights())["up_proj"].traffic)
    a*b*d/8 + a*b*f/8 byte

    Source: Abts et al. (2020), Think Fast: a tensor streaming processor, doi:10.1109/ISCA45697.2020.00023.
    """

    name = "resident-weights"
    summary = "weights live on chip, spread over chips"
    survey = "6.1"
    source = "doi:10.1109/ISCA45697.2020.00023"
    example = Example(settings={"bandwidth": 80 * 10**12}, inputs={"seq_len": 1024})

    bandwidth: Number = number(symbols.BW_c)
    capacity: Number = number(symbols.M_c, optional=True)
    chips: Number = number(symbols.n_p, 1)

    def check(self, step: Step) -> None:
        if self.capacity is None:
            return
        needed, chips = self.chips_for(step), self.chips
        if needed.is_number and chips.is_number and chips < needed:
            raise self.refused(
                f"weights take {step.graph.weight_memory()} bytes, and {chips} x {self.capacity} on chip hold "
                f"{chips * self.capacity}; expected chips={needed} or more"
            )

    def chips_for(self, step: Step) -> Expr:
        """How many chips hold the weights of a step.

        >>> import symroof
        >>> step = symroof.load_model("llama-2-70b").decode(weight_bits=16)
        >>> ResidentWeights(capacity=230 * 10**6).chips_for(step)
        600
        """
        capacity = symbols.M_c if self.capacity is None else self.capacity
        return ceiling(step.graph.weight_memory() / capacity)

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        return graph.map(tensor=lambda tensor: replace(tensor, level=Level.CHIP) if tensor.storage is Storage.WEIGHT else tensor)

    def statements(self, given: Given) -> tuple[str, ...]:
        return (
            "resident-weights: weights cross on-chip memory at BW_c, one chip at a time; what passes from chip to chip is not counted, "
            "cache and activations stay in memory",
        )
