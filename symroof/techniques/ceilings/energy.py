"""Energy: joules per FLOP, per byte and per second."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symroof import symbols
from symroof.operators import Graph
from symroof.operators.ceilings import Energy
from symroof.techniques.technique import Example, Given, Number, Technique, number


@dataclass(frozen=True)
class EnergyModel(Technique):
    """The energy of a step, ``E = F eps_F + B eps_B + pi_0 T`` in joules; time, FLOPs and bytes are unchanged.

    ================= ==========================================
    energy balance    ``B_eps = eps_B / eps_F``, FLOP/byte
    time balance      ``B_tau = P / BW``, the ridge
    FLOP per joule    ``1 / (eps_F + eps_B / I + pi_0 max(1 / P, 1 / (I BW)))``
    ================= ==========================================

    Times overlap but energies add, so the curve of FLOP/J over intensity is an arch without a ridge. `symroof.roof.energy`
    gives the energy of a step and of its operators. Bytes over links and on chip are not counted.

    Parameters
    ----------
    flop, byte : eps_F in J per FLOP and eps_B in J per byte of memory traffic.
    power : pi_0, constant power in watts; 0 for none.

    >>> import symroof
    >>> from symroof.roof.energy import energy
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(EnergyModel(power=0))
    >>> print(energy(step)["v_proj"].joules)
    (2*L*b*d*e*eps_F*k + L*eps_B*(a*b*d/8 + b*c*e*k/8 + d*e*k*w/8)) J

    Source: Choi, Bedard, Fowler, Vuduc (2013), A roofline model of energy, doi:10.1109/IPDPS.2013.77.
    """

    name = "energy"
    summary = "joules per FLOP, per byte and per second"
    survey = "2.2"
    source = "doi:10.1109/IPDPS.2013.77"
    example = Example(over="batch", settings={"flop": 1e-12, "byte": 3e-11, "power": 100})

    flop: Number = number(symbols.eps_F)
    byte: Number = number(symbols.eps_B)
    power: Number = number(symbols.pi_0, zero=True)

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        if graph.energy is not None:
            raise self.refused("the step has an energy model already; apply it once")
        return replace(graph, energy=Energy(given["flop"], given["byte"], given["power"]))

    def statements(self, given: Given) -> tuple[str, ...]:
        return (
            f"energy: {given['flop']} J per FLOP, {given['byte']} J per byte of memory traffic, {given['power']} W of constant power; "
            "bytes over links and on chip are not counted",
        )
