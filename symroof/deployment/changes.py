"""What a change brings: techniques, more devices, a unit beside the device, drafting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sympy import Symbol

from symroof.deployment.core import Core, Given
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import Machine
from symroof.questions import comparison, payoff, placement, scaling, speculation
from symroof.questions.comparison import Comparison
from symroof.questions.payoff import BreakEven, Payoff
from symroof.questions.placement import Split
from symroof.questions.scaling import BestDegree, Curve
from symroof.questions.speculation import BestLength
from symroof.roof import energy
from symroof.techniques.decoding.speculative import Speculative
from symroof.techniques.technique import Technique
from symroof.units import Quantity


@dataclass(frozen=True, repr=False, eq=False)
class Changes(Core):
    """Questions about the step before and after a change."""

    def payoff(self, *techniques: Given, over: str | Symbol, operator: str = "total", per_device: bool = False) -> Payoff:
        """Where the step is faster after techniques than as it is; see `symroof.payoff`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> on.payoff("quantize:weights=4,group=128", over="batch").speedup(1) > 2
        True
        """
        after = self.apply(*techniques)
        over = after._variable(over)
        asked = {"operator": operator, "ceilings": self.ceilings, "per_device": per_device}
        return payoff.payoff(self._open(over), after._open(over), over=over, hardware=self._given(), **asked)

    def compare(
        self,
        *variants: Given | Iterable[str | Technique],
        over: str | Symbol = "batch",
        baseline: Given | Iterable[str | Technique] = (),
    ) -> Comparison:
        """The step as it is, and after each of several variants: a technique, a text of one or several, or a sequence of these.

        With a *baseline*, which is such a variant, the others are compared with it instead. See `symroof.compare`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> [variant.name for variant in on.compare("quantize:weights=4", "quantize:weights=4 quantize:kv=8", over="batch")]
        ['unchanged', 'quantize:weights=4', 'quantize:weights=4 quantize:kv=8']
        >>> print(on.compare("quantize:weights=4,group=128").sentence)
        quantize:weights=4,group=128: 3.04x at batch 1; faster for batch < 165.4; no effect above
        >>> print(on.compare("quantize:weights=4", baseline="quantize:weights=8").sentence)
        quantize:weights=4: 1.7x at batch 1; faster for batch < 82.69; no effect above
        """
        base, *chains = [self._variant(variant) for variant in (baseline, *variants)]
        over = self._variable(over, *(technique for chain in (base, *chains) for technique in chain))
        given = {"over": over, "hardware": self._given(), "ceilings": self.ceilings}
        return comparison.compare(self.step, self._open(over), chains, baseline=base, **given)

    def break_even(self, *techniques: Given, over: str | Symbol, operator: str = "total") -> BreakEven:
        """The value of a variable at which FLOPs, and traffic, are as much after techniques as before; see `symroof.break_even`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(symbolic=True).on()
        >>> print(on.break_even("low-rank", over="rank", operator="up_proj").flops)
        d*f/(d + f)
        """
        after = self.apply(*techniques)
        over = after._variable(over)
        return payoff.break_even(self._open(over), after._open(over), over=over, operator=operator)

    def greenup(self, *techniques: Given) -> Quantity:
        """Energy of a token before techniques over that after them, of all devices that share the step; see `symroof.greenup`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> on.apply("energy:flop=1pJ,byte=30pJ,power=100W").greenup("quantize:weights=4") > 2
        True
        """
        return energy.greenup(energy.energy_of(self.analysis).system_token, energy.energy_of(self.apply(*techniques).analysis).system_token)

    def best_degree(self, among: Iterable[int] = ()) -> BestDegree:
        """The degree of parallelism with the shortest step, after a technique that has one; see `symroof.best_degree`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048).on("a100-sxm-80gb")
        >>> on.apply("tensor-parallel:latency=5us").best_degree(among=(1, 2, 4, 8)).integer
        4
        """
        return scaling.best_degree(self._open("degree"), hardware=self._given(), among=among, ceilings=self.ceilings)

    def communication_degree(self) -> Quantity:
        """The degree from which communication takes as long as everything else; see `symroof.communication_degree`."""
        return scaling.communication_degree(self._open("degree"), hardware=self._given(), ceilings=self.ceilings)

    def over_degree(self) -> Curve:
        """The time of the step over the degree of parallelism; see `symroof.over_degree`."""
        return scaling.over_degree(self._open("degree"), self._given(), ceilings=self.ceilings)

    def strong_scaling(self, *techniques: Given) -> Curve:
        """How well more devices are used on the same step, after a technique that spreads it; see `symroof.strong_scaling`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048).on("a100-sxm-80gb")
        >>> on.strong_scaling("tensor-parallel:latency=5us")(4) < on.weak_scaling("data-parallel")(4) == 1
        True
        """
        after = self.apply(*techniques)
        return scaling.strong_scaling(self.step, after._open("degree"), hardware=self._given(), ceilings=self.ceilings)

    def weak_scaling(self, *techniques: Given) -> Curve:
        """How well more devices are used on as many times the batch; see `symroof.weak_scaling`."""
        after = self.apply(*techniques)
        return scaling.weak_scaling(self.step, after._open("degree"), hardware=self._given(), ceilings=self.ceilings)

    def best_split(self, unit: Machine | Device | str | Path) -> Split:
        """Every operator where it is faster: on the device, or on a unit beside it; see `symroof.best_split`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024).on("a100-sxm-80gb")
        >>> "qk_matmul" in on.best_split(symroof.load_hardware("hbm-pim").machine.scaled(5)).operators
        True
        """
        return placement.best_split(self.step, self._given(), unit, ceilings=self.ceilings)

    def best_length(self, technique: str | Technique) -> BestLength:
        """How many tokens to draft: the length with the least time per token; see `symroof.best_length`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024).on("a100-sxm-80gb")
        >>> draft = "speculative:acceptance=0.8,draft_cost=0.1"
        >>> on.best_length(draft).length, round(float(on.least_acceptance(draft)), 4)
        (6, 0.1015)
        """
        return speculation.best_length(self.step, self._drafting(technique), self._given(), ceilings=self.ceilings)

    def least_acceptance(self, technique: str | Technique) -> Quantity:
        """The acceptance above which some draft length pays; see `symroof.least_acceptance`."""
        return speculation.least_acceptance(self.step, self._drafting(technique), self._given(), ceilings=self.ceilings)

    def pays_at_all(self, technique: str | Technique, *, over: str | Symbol = "batch") -> Payoff:
        """Where some draft length pays, over a variable; see `symroof.pays_at_all`."""
        device = self._given()
        return speculation.pays_at_all(self._open(over), self._drafting(technique), device, over=over, ceilings=self.ceilings)

    def _drafting(self, technique: str | Technique) -> Speculative:
        chain = self._variant(technique)
        if len(chain) != 1 or not isinstance(chain[0], Speculative):
            raise InputError(f"{quote(str(technique))}: expected one such as 'speculative:acceptance=0.8,draft_cost=0.1'")
        return chain[0]
