"""A replica: the devices that serve one copy of a model, the times of its steps, and the batches that time and memory allow.

A replica decodes b sequences in every step. They are at all stages of their answers, so a step reads their mean context,
``theta = S + n / 2`` for contexts from S + 1 to S + n - 1, and takes ``T(b)``. A request is read once, in ``tau_p`` seconds, and takes
part in n - 1 decode steps. Where prompts are read on the same devices, between decode steps, a request waits while it
generates by the prompts of the b requests that take places in the batch meanwhile. A token takes, in the mean,

``T_p(b) = T(b) + b tau_p / (n - 1)``

and a replica completes ``b / ((n - 1) T_p(b))`` requests a second. With devices of its own for prefill, ``T_p(b) = T(b)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sympy import Add, Expr, Float, Integer, S, ceiling, oo

from symroof import symbols
from symroof.algebra.piecewise import Piecewise
from symroof.architectures.model import Model
from symroof.architectures.options import Options
from symroof.architectures.step import Step
from symroof.calibration.prediction import evaluated
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import CALIBRATED
from symroof.notation import Brief
from symroof.operators import Resource
from symroof.questions.capacity import memory_over, memory_parts, usable_capacity
from symroof.questions.generation import draft_prompts, require_generation
from symroof.questions.regimes import timeline
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import needed
from symroof.serving.requests.sharing import first_batch, resident_context
from symroof.symbols import VOCABULARY
from symroof.techniques.registry import rounded, whole_multiple
from symroof.techniques.technique import Technique

BATCH = VOCABULARY[symbols.b]
TRIED = 2**20
"""The largest batch for which times of calibrated kernels are evaluated."""


@dataclass(frozen=True)
class Request(Brief):
    """What every request asks for: S tokens to read, n to generate.

    Attributes
    ----------
    model : the model that serves it.
    prompt, output : S and n.
    options : widths and conventions of both phases, as for `Model.decode`.
    """

    model: Model
    prompt: int
    output: int
    options: Options

    def __post_init__(self) -> None:
        require_generation(self.model)

    def step(self, phase: str, length: int, techniques: Sequence[Technique], batch: int | None = None) -> Step:
        """The step of a phase, after the techniques that support the phase."""
        step = self.model.step(replace(self.options, phase=phase, batch=batch, seq_len=length)).with_widths()
        return step.apply(*(technique for technique in techniques if phase in technique.phases))


@dataclass(frozen=True)
class Replica(Brief):
    """The devices that serve one copy of a model.

    Attributes
    ----------
    request : what is served.
    device, ceilings : one of its devices, and the ceiling set.
    techniques : applied to both phases.
    split : whether prefill has devices of its own.
    """

    request: Request
    device: Device
    techniques: tuple[Technique, ...]
    ceilings: str
    split: bool = False

    @cached_property
    def decode(self) -> Step:
        """The decode step at the mean context, with the batch free."""
        return self.decoding()

    def decoded(self, batch: int) -> Analysis:
        """The roofline of a decode step at the mean context and a batch."""
        return analyze(self.decoding(batch), self.device, ceilings=self.ceilings)

    def decoding(self, batch: int | None = None) -> Step:
        """The decode step at the mean context and a batch."""
        request = self.request
        step = request.step("decode", request.prompt + (request.output + 1) // 2, self.techniques, batch)
        return replace(step, values={**step.values, symbols.t: resident_context(Integer(request.prompt), Integer(request.output))})

    @cached_property
    def degree(self) -> int:
        """The devices of the replica."""
        devices = self.decode.graph.devices
        if not devices.is_Integer:
            raise InputError(f"{needed(devices.free_symbols)}: the devices of a replica")
        return int(devices)

    @cached_property
    def multiple(self) -> int:
        """What a batch must be a multiple of, because techniques split it evenly."""
        return whole_multiple(self.decode.symbolic.applied, symbols.b)

    @cached_property
    def prefill(self) -> Analysis:
        """The roofline of reading prompts: one, or as many as techniques split evenly."""
        step = self.request.step("prefill", self.request.prompt, self.techniques, self.multiple)
        return analyze(step, self.device, ceilings=self.ceilings)

    @cached_property
    def ttft_expr(self) -> Expr:
        """Seconds in which prompts are read on an idle replica, by a draft model as well if there is one."""
        prompts = self.request.step("prefill", self.request.prompt, (), self.multiple)
        drafts = draft_prompts(prompts, self.techniques)
        beside = (analyze(step, self.device, ceilings=self.ceilings).total.time_expr for step in drafts)
        return Add(self.prefill.total.time_expr, *beside)

    @property
    def read_expr(self) -> Expr:
        """Seconds of prefill for each request, tau_p."""
        return self.ttft_expr / self.multiple

    @property
    def delay_expr(self) -> Expr:
        """Seconds by which each sequence of the batch delays a token of every sequence."""
        return S.Zero if self.split else self.read_expr / (self.request.output - 1)

    @cached_property
    def tpots(self) -> Piecewise:
        """Seconds per output token over the batch, exact: a decode step, and the prompts read meanwhile."""
        times = timeline(self.decode, BATCH, self.device, ceilings=self.ceilings)
        return times.map(lambda value: value + symbols.b * self.delay_expr)

    @cached_property
    def _measured(self) -> np.ndarray:
        """Seconds per output token at every whole batch that memory holds, of calibrated kernels."""
        most = self.most_by_memory
        batches = np.arange(1, (TRIED if most is None else max(most, self.multiple)) + 1, dtype=float)
        analysis = analyze(self.decode, self.device, ceilings=CALIBRATED)
        formula = analysis.total.time_expr / analysis.graph.tokens + symbols.b * self.delay_expr
        if left := formula.free_symbols - {symbols.b}:
            raise InputError(f"{needed(left)} for a plan")
        return evaluated(formula, {symbols.b: batches}, len(batches))

    def tpot_expr(self, batch: int) -> Expr:
        """Seconds per output token at a batch."""
        return Float(float(self._measured[batch - 1])) if self.ceilings == CALIBRATED else self.tpots(batch)

    def tpot_at(self, sequences: Expr) -> Expr:
        """Seconds per output token at a mean number of sequences; that of the least batch where they are fewer."""
        if self.ceilings == CALIBRATED:
            return self.tpot_expr(max(int(ceiling(sequences)), self.multiple))
        return self.tpots(max(sequences, Integer(self.multiple)))

    def request_rate_expr(self, batch: int) -> Expr:
        """Requests per second that a full batch completes."""
        return batch / ((self.request.output - 1) * self.tpot_expr(batch))

    def most_by_time(self, target: Expr) -> int | None:
        """The largest batch whose tokens take at most *target* seconds; 0 if none does, None if every batch does."""
        if self.ceilings == CALIBRATED:
            within = np.flatnonzero(self._measured <= float(target)) + 1
            within = within[within % self.multiple == 0]
            every = len(within) and within[-1] + self.multiple > len(self._measured)
            return None if every else int(within[-1]) if len(within) else 0
        intervals = self.tpots.within(target)
        if not intervals:
            return 0
        return None if intervals[-1].high == oo else rounded(intervals[-1].high, "<=", self.multiple)

    def steady_expr(self, rate: Expr) -> Expr:
        """The mean number of sequences in the batch at a rate of requests below saturation, ``b = rate (n - 1) T_p(b)`` (Little).

        Below the least batch a request meets an idle replica, and the tokens take ``T_p`` of that batch.
        """
        steps = rate * (self.request.output - 1)
        if (alone := steps * self.tpot_expr(self.multiple)) <= self.multiple:
            return alone
        if self.ceilings == CALIBRATED:
            enough = np.arange(1, len(self._measured) + 1) >= float(steps) * self._measured
            return Integer(int(np.flatnonzero(enough[self.multiple - 1 :])[0]) + self.multiple)
        return first_batch(self.tpots, steps)

    def _longest(self, batch: int | None = None) -> Step:
        """The decode step at the longest context, which leaves room for the activations of prefill where that runs in turn with it."""
        request = self.request
        step = request.step("decode", request.prompt + request.output - 1, self.techniques, batch)
        if self.split:
            return step
        kept = self.prefill.graph.activation_memory() - step.symbolic.reserve.runtime
        return replace(step, symbolic=replace(step.symbolic, reserve=replace(step.symbolic.reserve, activations=kept)))

    @cached_property
    def capacity_expr(self) -> Expr:
        """Bytes of a device's memory that the replica may use.

        Raises
        ------
        DeviceError
            The device states no capacity.
        """
        return usable_capacity(self.device, self.decode)

    @cached_property
    def memory(self) -> Piecewise:
        """Bytes of a device's memory over the batch: weights, every sequence's cache at its longest context, S + n - 1, and the
        activations of decode or of prefill, whichever are more.
        """
        return memory_over(self._longest(), BATCH)

    def memory_exprs(self, batch: int) -> dict[str, Expr]:
        """Bytes of one device at a batch by use, and its capacity."""
        return {**self._longest(batch).graph.memory_exprs(), "capacity": self.capacity_expr}

    @cached_property
    def most_by_memory(self) -> int | None:
        """The largest batch that fits; 0 if none does, None if every batch does."""
        intervals = self.memory.within(self.capacity_expr)
        if not intervals:
            return 0
        return None if intervals[-1].high == oo else rounded(intervals[-1].high, "<=", self.multiple)

    @property
    def reading_memory_expr(self) -> Expr:
        """Bytes of a device's memory that reading prompts takes where that has devices of its own; elsewhere `memory` has it."""
        return Add(*memory_parts(self.prefill.graph)) if self.split else S.Zero

    @property
    def transfer_expr(self) -> Expr | None:
        """Seconds in which the cache of the prompts that are read together reaches the devices that decode, each device's over its own
        link; None without a link.
        """
        link = self.device.machine.rates.get(Resource.LINK)
        return None if link is None else memory_parts(self.prefill.graph)[1] / link
