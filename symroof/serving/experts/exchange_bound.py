"""The exchange of tokens between devices bounds a step of expert parallelism from below, whatever the devices compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, Integer, S, oo

from symroof import symbols
from symroof.algebra.envelope import envelope
from symroof.answers import Answer, Intervals, intervals
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.operators.facts import Resource
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.select import exchanges
from symroof.operators.tensor import Level
from symroof.roof.costs import TOTAL, costs, known_values
from symroof.roof.intervals import seconds
from symroof.roof.ledger import WORK, device_of, machine_of
from symroof.symbols import VOCABULARY, substitute
from symroof.units import BANDWIDTH, BIT, BYTE, SECOND, Quantity, in_unit, number, quantity

LINK, MEMORY, ARITHMETIC = "link", "memory", "compute"


@dataclass(frozen=True)
class ExchangeBound(Answer):
    """Bytes that a device exchanges in a step of expert parallelism, and the time below which no link of a bandwidth lets it.

    Attributes
    ----------
    dispatch_expr, combine_expr : bytes that a device sends in a layer of experts, to the experts and back, bare.
    layers_expr : layers with an exchange.
    other_exprs : seconds of the rest of the step by memory traffic and by arithmetic, bare; empty without a device.
    formula : bytes of the whole step over the link's bandwidth, in symbols.
    """

    dispatch_expr: Expr
    combine_expr: Expr
    layers_expr: Expr
    other_exprs: Mapping[str, Expr]
    formula: Expr = field(repr=False)
    step: Step = field(repr=False, compare=False)
    device: Device | None = field(default=None, repr=False, compare=False)

    dispatch = in_unit(lambda bound: bound.dispatch_expr, BYTE, "Bytes to the experts of a layer, as a Quantity.")
    combine = in_unit(lambda bound: bound.combine_expr, BYTE, "Bytes back from the experts of a layer, as a Quantity.")
    traffic = in_unit(lambda bound: bound.traffic_expr, BYTE, "`traffic_expr`, as a Quantity in bytes.")
    balance = in_unit(lambda bound: bound.balance_expr, BANDWIDTH, "`balance_expr`, as a Quantity in byte/second; None without a device.")

    @property
    def traffic_expr(self) -> Expr:
        """Bytes that a device sends in a step, bare."""
        return self.layers_expr * (self.dispatch_expr + self.combine_expr)

    @property
    def balance_expr(self) -> Expr | None:
        """The bandwidth at which the exchange takes as long as memory traffic or arithmetic, whichever is longer, bare."""
        return self.traffic_expr / max(self.other_exprs.values()) if self.other_exprs else None

    def time_expr(self, link: Any) -> Expr:
        """The least seconds of a step with this bandwidth of a device, one way, bare."""
        return self.traffic_expr / number(link, BANDWIDTH, "link")

    def time(self, link: Any) -> Quantity:
        """`time_expr`, as a Quantity in seconds; a number in byte/second, a Quantity or text such as "50 GB/s"."""
        return quantity(self.time_expr(link), SECOND)

    @cached_property
    def regimes(self) -> Intervals:
        """The intervals of the link's bandwidth by what takes longest: "link", "memory" or "compute".

        Raises
        ------
        InputError
            There is no device.
        """
        if not self.other_exprs:
            raise InputError("give a device to compare the exchange with its memory and its arithmetic")
        over = VOCABULARY[symbols.BW_l]
        longest = envelope(over.symbol, Integer(1), oo, {LINK: self.traffic_expr / over.symbol, **self.other_exprs})
        return intervals(over, longest.merged().pieces)


def exchange_bound(
    step: Step, hardware: Device | str | Path | None = None, *, dispatch_bits: Any = None, combine_bits: Any = None, ceilings: str = STATED
) -> ExchangeBound:
    """The lower bound that the exchange of expert parallelism sets to the time of a step.

    ======== ===================================================================================
    a layer  ``(n - 1) / n x T K_d d (a_d + a_c) / 8`` byte per device, T tokens of a device
    a step   L layers of experts; ``t >= L (bytes of a layer) / W``, with two micro-batches as with one
    ======== ===================================================================================

    DeepSeek count a shared expert too, ``K + 1`` copies of each token, and all L layers; here only what is sent counts:
    K_d devices per token, at most K, in layers that have experts.

    Parameters
    ----------
    step : a decode step after the technique expert-parallel.
    hardware : the device, for the comparison with memory and arithmetic.
    dispatch_bits, combine_bits : bits per element on the way there and back; default those of activations.

    Raises
    ------
    InputError
        The step has no exchange, or a number is missing.

    >>> import symroof
    >>> step = symroof.load_model("deepseek-v3").decode(batch=64 * 256, seq_len=4096).apply("expert-parallel:degree=256")
    >>> bound = exchange_bound(step, dispatch_bits=8, combine_bits=16)
    >>> print(bound.dispatch, bound.time("50 GB/s"), bound.time("900 GB/s"))
    3.656 MB 12.72 ms 706.8 us

    Source: DeepSeek-AI (2025), Insights into DeepSeek-V3, arXiv:2505.09343, section 2.3.
    """
    widths = [
        None if bits is None else number(bits, BIT, name)
        for name, bits in (("dispatch_bits", dispatch_bits), ("combine_bits", combine_bits))
    ]
    step, device = step.with_widths(), device_of(hardware)
    own, formula_layers = step.values[symbols.a], _layers(step.symbolic)
    if not formula_layers:
        raise InputError(f"{step.title} exchanges no tokens between devices; apply the technique expert-parallel")
    sent = [(_sent(pair[0]), _sent(pair[1]), count) for pair, count in _layers(step.graph)]
    layers = Add(*(count for *_, count in sent))
    there, back = (
        cast(Expr, Add(*(one[place] * one[2] for one in sent)) / layers * (1 if bits is None else bits / own))
        for place, bits in enumerate(widths)
    )
    whole = Add(*(count * (_sent(pair[0]) + _sent(pair[1])) for pair, count in formula_layers))
    others = {} if device is None else _others(step, device, ceilings)
    return ExchangeBound(there, back, layers, others, whole / symbols.BW_l, step, device)


def _layers(graph: Graph) -> list[tuple[tuple[Operator, Operator], Expr]]:
    """The two exchanges of every kind of layer that has experts, and how many layers there are."""
    found = ((exchanges(block), block.count) for block in graph.blocks if block.count != 0)
    return [(pair, count) for pair, count in found if pair is not None]


def _sent(operator: Operator) -> Expr:
    """Bytes that a device sends, within its node and to others."""
    return operator.byte_count(level=Level.LINK) + operator.byte_count(level=Level.NETWORK)


def _others(step: Step, device: Device, ceilings: str) -> dict[str, Expr]:
    """Seconds of all memory traffic and of all arithmetic of the step."""
    definitions = {symbols.BW_l: Integer(1), **step.symbolic.definitions}  # of any link: its seconds are not used
    step = replace(step, symbolic=replace(step.symbolic, definitions=definitions))
    machine = machine_of(step.symbolic, device, ceilings, accounting=step.options.accounting)
    values = known_values(step, device)
    by_resource = seconds(step.graph, costs(step, TOTAL, machine), values, machine)
    work = Add(*(taken for resource, taken in by_resource.items() if resource in WORK))
    others = {MEMORY: by_resource.get(Resource.MEMORY, S.Zero), ARITHMETIC: work}
    others = {name: substitute(taken, values) for name, taken in others.items()}
    if any(not taken.is_number for taken in others.values()):
        raise InputError(f"{step.model}: give batch and seq_len as numbers to compare the exchange with the rest of the step")
    return others
