"""Comparison of several variants of a step: times, bytes, memory, crossovers, and where each variant is faster."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.answers import Answers
from symroof.architectures.step import Step
from symroof.errors import InputError, SymroofError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.notation import Brief
from symroof.questions.capacity import fit_of
from symroof.questions.crossover import Crossover
from symroof.questions.crossovers import crossovers
from symroof.questions.payoff import EACH, Payoff
from symroof.questions.payoff import counted as one_by_one
from symroof.questions.regimes import timeline
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import TOTAL, variable_of
from symroof.roof.ledger import device_of
from symroof.symbols import Variable, substitute
from symroof.techniques.technique import Technique
from symroof.units import SECOND, TOKEN_RATE, counted, in_unit

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Variant(Brief):
    """One variant of the step.

    Attributes
    ----------
    name : the techniques as typed, or "unchanged".
    analysis : the roofline at the given numbers.
    payoff : where it takes less time per token than the baseline; None for that one, or if undetermined.
    device_payoff : where throughput per device exceeds that of the baseline; None if both run on one device.
    crossovers : the crossovers of its operators over the variable; empty if undetermined.
    reasons : why something is undetermined.
    """

    name: str
    analysis: Analysis
    payoff: Payoff | None
    crossovers: tuple[Crossover, ...]
    reasons: tuple[str, ...] = ()
    device_payoff: Payoff | None = None

    time = in_unit(lambda variant: variant.time_expr, SECOND, "`time_expr`, as a Quantity in seconds, or None.")
    time_per_token = in_unit(lambda variant: variant.time_per_token_expr, SECOND, "`time_per_token_expr`, the same.")
    throughput = in_unit(lambda variant: variant.throughput_expr, TOKEN_RATE, "`throughput_expr`, as a Quantity in token/second, or None.")
    devices = counted(lambda variant: variant.devices_expr, "How many devices share the step.")
    prompt_tokens = counted(lambda variant: variant.prompt_tokens_expr, "Tokens of prompts that a decode step also processes.")
    device_throughput = in_unit(lambda variant: variant.device_throughput_expr, TOKEN_RATE, "`device_throughput_expr`, the same.")

    @functools.cached_property
    def time_expr(self) -> Expr | None:
        """Seconds of the step, bare; None if a symbol is left, such as a parameter of a technique."""
        placed = self.analysis.operators
        parts = (part for one in placed for part in (*one.seconds_exprs.values(), one.overhead_expr, one.count_expr))
        return self.analysis.total.time_expr if all(part.is_number for part in parts) else None

    @property
    def time_per_token_expr(self) -> Expr | None:
        """Seconds per completed token of a sequence, bare; None if the time is."""
        return self.time_expr / self.analysis.graph.tokens if self.time_expr is not None else None

    @property
    def devices_expr(self) -> Expr:
        """The number of devices that share the step, bare."""
        return self.analysis.graph.devices

    @property
    def throughput_expr(self) -> Expr | None:
        """Tokens per second of all sequences on all devices, in prefill of their prompts, bare; None if the time is."""
        tokens = substitute(self.analysis.graph.token_count, self.analysis.values)
        return tokens / self.time_expr if self.time_expr is not None and tokens.is_number else None

    @property
    def device_throughput_expr(self) -> Expr | None:
        """The same per device."""
        devices = self.devices_expr
        return self.throughput_expr / devices if self.throughput_expr is not None and devices.is_number else None

    @functools.cached_property
    def largest_batch(self) -> int | None:
        """The largest total batch over all its devices that fits; None if unknown, or if every batch fits."""
        device = self.analysis.device
        try:
            return fit_of(self.analysis.step, device).largest_batch if device else None
        except InputError:
            return None

    @property
    def prompt_tokens_expr(self) -> Expr:
        """Tokens of prompts that a decode step also processes, for all sequences, bare."""
        return substitute(symbols.b * self.analysis.graph.prompt_tokens, self.analysis.values)


@dataclass(frozen=True)
class Comparison(Answers[Variant]):
    """Variants of a step, the one that all are compared with first; an immutable sequence, also by the techniques' text.

    Attributes
    ----------
    over : the variable of payoffs and crossovers.
    """

    _AMONG = "one of the variants"

    over: Variable


def compare(
    step: Step,
    free: Step,
    techniques: Sequence[Sequence[Technique]],
    *,
    over: str | Symbol,
    hardware: Device | str | Path,
    ceilings: str = STATED,
    baseline: Sequence[Technique] = (),
) -> Comparison:
    """The step unchanged, or after the chain of a baseline, and after each of several other chains of techniques.

    Parameters
    ----------
    step : a step with numbers for all inputs.
    free : the same step with the variable as a symbol.
    techniques : one chain per variant.
    ceilings : the ceiling set, as in `symroof.analyze`.
    over : the variable for payoffs and crossovers.
    baseline : the chain that every variant is compared with; without one, the step as it is.

    Raises
    ------
    SymroofError
        A technique does not fit the step.

    >>> import symroof
    >>> from symroof.techniques.registry import chain
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> model = symroof.load_model("llama-2-7b")
    >>> found = compare(model.decode(batch=1, seq_len=2048, **widths), model.decode(seq_len=2048, **widths),
    ...     [chain(["quantize:weights=4"])], over="batch", hardware="a100-sxm-80gb")
    >>> [(one.name, one.payoff and one.payoff.sentence) for one in found]
    [('unchanged', None), ('quantize:weights=4', 'faster for batch < 165.4; no effect above')]
    """
    base = free.apply(*baseline)
    device, variable = device_of(hardware), variable_of(free, over)
    if device is None:
        raise InputError("give a device: variants are compared in numbers")
    of_base = functools.cache(lambda: timeline(base, variable, device, ceilings=ceilings))

    def payoff(after: Step) -> Payoff:
        """The payoff in closed form, or by trying whole numbers if there is none."""
        try:
            return Payoff.between(variable, TOTAL, of_base(), timeline(after, variable, device, ceilings=ceilings))
        except InputError:
            if variable.domain != "integer":
                raise
            asked = step.values.get(variable.symbol, Integer(1))
            return one_by_one(base, after, over=over, hardware=device, last=max(EACH, int(asked)), ceilings=ceilings)

    found = []
    for place, chain in enumerate((tuple(baseline), *techniques)):
        changed, open_ = step.apply(*chain), free.apply(*chain)
        reasons: list[str] = []
        gain = _told(reasons, lambda after=open_: payoff(after)) if place else None
        bends = (
            _told(reasons if place else [], lambda after=open_: crossovers(after, over=over, hardware=device, ceilings=ceilings).members)
            or ()
        )
        name = " ".join(one.text for one in chain) or UNCHANGED
        several = gain is not None and not open_.symbolic.devices == base.symbolic.devices == 1
        share = gain.of_devices(base, open_) if gain is not None and several else None
        found.append(Variant(name, analyze(changed, device, ceilings=ceilings), gain, bends, tuple(reasons), share))
    return Comparison(tuple(found), variable)


def _told(reasons: list[str], how):
    try:
        return how()
    except SymroofError as error:
        reasons.append(str(error))
        return None
