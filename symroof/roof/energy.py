"""Energy of a step and of its operators, and the energy roofline: balance points, FLOP per joule, power, greenup."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sympy import Add, Expr, Integer, Max

from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.notation import Brief
from symroof.operators import Energy, of_name
from symroof.roof.analysis import Analysis, analyze
from symroof.symbols import substitute
from symroof.units import BANDWIDTH, BYTE, COUNT, FLOP, INTENSITY, JOULE, RATE, SECOND, WATT, Quantity, counted, in_unit, number, quantity


@dataclass(frozen=True)
class OperatorEnergy(Brief):
    """The energy of an operator with all its occurrences, of a step, or of a token.

    Attributes
    ----------
    name : the operator, or the total.
    flop_count, byte_count, seconds_expr, joules_expr : bare expressions.
    """

    name: str
    flop_count: Expr
    byte_count: Expr
    seconds_expr: Expr
    joules_expr: Expr

    flops = in_unit(lambda spent: spent.flop_count, FLOP, "FLOPs, as a Quantity.")
    traffic = in_unit(lambda spent: spent.byte_count, BYTE, "Memory traffic, as a Quantity in bytes.")
    time = in_unit(lambda spent: spent.seconds_expr, SECOND, "Time, as a Quantity in seconds.")
    joules = in_unit(lambda spent: spent.joules_expr, JOULE, "Energy, as a Quantity in joules.")
    efficiency = in_unit(lambda spent: spent.flop_count / spent.joules_expr, FLOP / JOULE, "FLOPs per joule, as a Quantity in FLOP/joule.")
    power = in_unit(lambda spent: spent.joules_expr / spent.seconds_expr, WATT, "Energy over time, as a Quantity in watts.")

    def of_all(self, devices: Expr) -> OperatorEnergy:
        """The same on *devices* devices at once: equal time, and that many times the work, bytes and energy."""
        every = (devices * self.flop_count, devices * self.byte_count, self.seconds_expr, devices * self.joules_expr)
        return OperatorEnergy(self.name, *every)

    def per(self, tokens: Expr) -> OperatorEnergy:
        """The share of one of *tokens* tokens."""
        return OperatorEnergy(
            self.name, *(amount / tokens for amount in (self.flop_count, self.byte_count, self.seconds_expr, self.joules_expr))
        )


@dataclass(frozen=True)
class StepEnergy(Answer):
    """The energy of a step by operator and in total, per device and for all devices, per step and per token.

    ============== ============================ ==========================
    energy of      one device                   all devices
    a step         ``total``, and operators     ``system``, n times as much
    a token        ``token``                    ``system_token``
    ============== ============================ ==========================

    The tokens of a step are those that all sequences generate; in prefill those of the prompts.

    >>> import symroof
    >>> step = symroof.load_model("llama-3-8b").decode(batch=8, seq_len=2048).with_widths()
    >>> chain = map(symroof.technique, ("tensor-parallel:degree=8,link=450GB/s", "energy:flop=1pJ,byte=30pJ,power=100W"))
    >>> spent = energy(step.apply(*chain), "h100-sxm")
    >>> [round(float(part.joules_expr), 4) for part in (spent.total, spent.token, spent.system, spent.system_token)]
    [0.1502, 0.0188, 1.2013, 0.1502]
    """

    analysis: Analysis = field(repr=False)
    model: Energy
    operators: tuple[OperatorEnergy, ...] = field(repr=False)

    def __getitem__(self, name: str) -> OperatorEnergy:
        return of_name(self.operators, name)

    devices = counted(lambda spent: spent.devices_expr, "How many devices share the step.")
    tokens = counted(lambda spent: spent.tokens_expr, "Tokens of the step, of all sequences on all devices.")

    @property
    def devices_expr(self) -> Expr:
        """The number of devices that share the step, bare."""
        return self.analysis.graph.devices

    @property
    def tokens_expr(self) -> Expr:
        """Tokens of the step, of all sequences on all devices, bare."""
        return substitute(self.analysis.graph.token_count, self.analysis.values)

    @property
    def total(self) -> OperatorEnergy:
        """The whole step; more than the sum of its operators if they wait for prefetched transfers."""
        flops, traffic = (Add(*(getattr(operator, what) for operator in self.operators)) for what in ("flop_count", "byte_count"))
        seconds = self.analysis.total.time_expr
        return OperatorEnergy("total", flops, traffic, seconds, self.model.joules(flops, traffic, seconds))

    @property
    def token(self) -> OperatorEnergy:
        """One token of the step."""
        return self.total.per(self.tokens_expr)

    @property
    def system(self) -> OperatorEnergy:
        """The whole step on all devices."""
        return self.total.of_all(self.devices_expr)

    @property
    def system_token(self) -> OperatorEnergy:
        """One token of the step on all devices."""
        return self.system.per(self.tokens_expr)


def energy(step: Step, hardware: Device | str | Path | None = None) -> StepEnergy:
    """The energy of a step after the technique "energy", symbolic or numeric.

    Raises
    ------
    InputError
        The step has no energy model.

    >>> import symroof
    >>> from symroof.techniques.registry import technique
    >>> step = symroof.load_model("llama-2-7b").decode(
    ...     batch=1, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> spent = energy(step.apply(technique("energy:flop=1pJ,byte=30pJ,power=100W")), "a100-sxm-80gb")
    >>> round(float(spent.total.joules_expr), 3), round(float(spent.total.power.magnitude), 1)
    (1.102, 163.2)
    """
    return energy_of(analyze(step, hardware))


def energy_of(analysis: Analysis) -> StepEnergy:
    """The energy of a step that is analyzed already.

    Raises
    ------
    InputError
        The step has no energy model.
    """
    model = analysis.graph.energy
    if model is None:
        raise InputError("the step has no energy model; apply the technique energy, as energy:flop=1pJ,byte=30pJ,power=100W")
    spent: list[OperatorEnergy] = []
    for placed in analysis:
        occurrence = (placed.operator.flop_count, placed.operator.byte_count(), placed.time_expr)
        flops, traffic, seconds = (placed.count_expr * amount for amount in occurrence)
        spent.append(OperatorEnergy(placed.name, flops, traffic, seconds, model.joules(flops, traffic, seconds)))
    return StepEnergy(analysis, model, tuple(spent))


def energy_balance(model: Energy) -> Quantity:
    """``B_eps = eps_B / eps_F``, the FLOP/byte at which work and traffic take equal energy, without constant power, as a Quantity.

    >>> from symroof.symbols import eps_B, eps_F
    >>> print(energy_balance(Energy(eps_F, eps_B)))
    eps_B/eps_F FLOP/byte
    """
    return quantity(model.byte / model.flop, INTENSITY)


def effective_balance(model: Energy, peak: Any, bandwidth: Any) -> Quantity:
    """The FLOP/byte at which a FLOP takes twice the least energy ``eps_F + pi_0 / P``: half of the best FLOP/J.

    With ``eta = eps_F / (eps_F + pi_0 / P)`` it is ``eta B_eps`` if that is beyond the ridge ``B_tau``, otherwise
    ``(eta B_eps + (1 - eta) B_tau) / (2 - eta)``.

    >>> from symroof.symbols import BW, P, eps_B, eps_F
    >>> print(effective_balance(Energy(eps_F, eps_B), P, BW))
    eps_B/eps_F FLOP/byte
    """
    peak, bandwidth = number(peak, RATE, "peak"), number(bandwidth, BANDWIDTH, "bandwidth")
    share = model.flop / (model.flop + model.constant / peak)
    beyond, ridge = share * model.byte / model.flop, peak / bandwidth
    return quantity(beyond if share == 1 else Max(beyond, (beyond + (1 - share) * ridge) / (2 - share)), INTENSITY)


def arch_line(intensity: Any, peak: Any, bandwidth: Any, model: Energy) -> Quantity:
    """FLOP/J at an intensity, as a Quantity: ``1 / (eps_F + eps_B / I + pi_0 max(1 / P, 1 / (I BW)))``.

    >>> from symroof.symbols import BW, P, eps_B, eps_F
    >>> print(arch_line(4, P, BW, Energy(eps_F, eps_B)))
    1/(eps_B/4 + eps_F) FLOP/J
    """
    joules, _ = _of_a_flop(intensity, peak, bandwidth, model)
    return quantity(1 / joules, FLOP / JOULE)


def power_line(intensity: Any, peak: Any, bandwidth: Any, model: Energy) -> Quantity:
    """Watts at an intensity, as a Quantity; the maximum is at the ridge, where work and traffic both run at full rate.

    >>> from symroof.symbols import BW, P, eps_B, eps_F
    >>> power_line(P / BW, P, BW, Energy(eps_F, eps_B)).exact.expand()
    BW*eps_B + P*eps_F
    >>> print(power_line("100 FLOP/byte", "312 TFLOP/s", "2039 GB/s", Energy(Integer(1) / 10**12, Integer(30) / 10**12, Integer(100))))
    365.1 W
    """
    joules, seconds = _of_a_flop(intensity, peak, bandwidth, model)
    return quantity(joules / seconds, WATT)


def _of_a_flop(intensity: Any, peak: Any, bandwidth: Any, model: Energy) -> tuple[Expr, Expr]:
    """Joules and seconds of one FLOP at an intensity."""
    of_memory = number(intensity, INTENSITY, "intensity") * number(bandwidth, BANDWIDTH, "bandwidth")
    seconds = Max(1 / number(peak, RATE, "peak"), 1 / of_memory)
    return model.joules(Integer(1), 1 / number(intensity, INTENSITY, "intensity"), seconds), seconds


def greenup(before: OperatorEnergy, after: OperatorEnergy) -> Quantity:
    """Energy before over energy after, the analogue of speedup.

    >>> before, after = (OperatorEnergy("total", Integer(1), Integer(1), Integer(1), Integer(joules)) for joules in (2, 1))
    >>> print(greenup(before, after))
    2
    """
    return quantity(before.joules_expr / after.joules_expr, COUNT)


def most_work(intensity: Any, saved: Any, model: Energy) -> Quantity:
    """The factor on work at which an algorithm that moves 1 / *saved* of the bytes takes equal energy.

    ``1 + (m - 1) / m B_eps / I``, without constant power; below it the change is a greenup.

    >>> from symroof.symbols import eps_B, eps_F
    >>> print(most_work(2, 4, Energy(eps_F, eps_B)))
    (3*eps_B/eps_F + 8)/8
    """
    part = 1 - 1 / number(saved, COUNT, "saved")
    return quantity(1 + part * energy_balance(model).exact / number(intensity, INTENSITY, "intensity"), COUNT)


def race_to_halt(model: Energy, peak: Any, bandwidth: Any) -> bool | None:
    """Whether whatever is compute-bound in time has at least half of the best FLOP per joule.

    That is so if the effective energy balance is at or below the ridge. It is Choi's condition of race to halt; of two ways to
    compute the same, the faster can still take more energy under it (derivation 41). None if it depends on a symbol.

    >>> race_to_halt(Energy(Integer(1), Integer(30)), 100, 1)
    True
    """
    ridge = number(peak, RATE, "peak") / number(bandwidth, BANDWIDTH, "bandwidth")
    slack = ridge - effective_balance(model, peak, bandwidth).exact
    return bool(slack >= 0) if slack.is_number else None
