"""Spatial architectures: weights reside on chip, spread over as many chips as needed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Graph, Level, Storage
from symroof.techniques.technique import Example, Given, Number, Technique, number


@dataclass(frozen=True)
class ResidentWeights(Technique):
    """All weights in on-chip memory: they are read at BW_c and cause no traffic of main memory.

    A linear layer moves ``b s (d + f) a / 8`` bytes of main memory for ``2 b s d f`` FLOPs at any batch; the batch still
    amortizes the on-chip reads of the weights. The model takes ``ceil(weights / M_c)`` chips, and a token runs through
    them in turn: the step takes the time of one chip working at a time, and more chips add throughput, not speed.
    Traffic between chips is not counted.

    Parameters
    ----------
    bandwidth : BW_c in byte/s, as 80TB/s.
    capacity : M_c, bytes of weights that one chip stores, as 230MB; by default all weights fit.
    chips : n_p.

    Raises
    ------
    InputError
        The weights do not fit the chips.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(ResidentWeights())["up_proj"].traffic)
    (a*b*d + a*b*f)/8 byte

    Source: Abts et al. (2020), Think Fast: a tensor streaming processor, doi:10.1109/ISCA45697.2020.00023.
    """

    name = "resident-weights"
    summary = "weights reside on chip, spread over chips"
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
        """The number of chips that a step's weights need, ``ceil(weights / M_c)``.

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
            "resident-weights: weights are read from on-chip memory at BW_c, one chip at a time; traffic between chips is not counted, "
            "cache and activations stay in main memory",
        )
