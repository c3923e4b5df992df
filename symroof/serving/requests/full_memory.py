"""A device whose memory is full: the batch that fills it, and the step that reads all of it.

With capacity C, weights W and M_s bytes of cache a sequence, ``b = (C - W) / M_s`` sequences fit, and a step that reads the memory
once takes ``C / BW``, whatever the model. Where weights, cache and capacity scale by one factor, neither changes. Where weights
scale by x and cache by y, the batch, and with it the throughput, changes by ``(C - x W) / (y (C - W))``: of weights or cache shrunk by
the same factor x, weights gain more exactly if ``W (1 + x) > C``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sympy import Expr, S, factor_terms

from symroof import symbols
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.operators import Direction, Resource, Storage
from symroof.questions.capacity import Largest, largest, memory_parts
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import needed
from symroof.roof.ledger import require_device
from symroof.units import BANDWIDTH, BYTE, COUNT, SECOND, TOKEN_RATE, in_unit, number, quantity

b, t = symbols.b, symbols.t


@dataclass(frozen=True)
class AtFullMemory(Answer):
    """The batch that fills the memory of a device, and its step.

    Attributes
    ----------
    largest : the largest batch that fits, activations included.
    analysis : the step at that batch, as a real number.
    weights_expr, sequence_expr : bytes of weights, and of what each sequence keeps, of one device, bare.
    """

    largest: Largest
    analysis: Analysis = field(repr=False)
    weights_expr: Expr
    sequence_expr: Expr

    @property
    def capacity_expr(self) -> Expr:
        """C, bytes of one device's memory that a step can use, bare."""
        return self.largest.capacity_expr

    @property
    def batch_expr(self) -> Expr:
        """The batch that fills it, activations included, bare."""
        return self.largest.value_expr

    @property
    def law_batch_expr(self) -> Expr:
        """``(C - W) / M_s``, the batch without activations, bare."""
        return (self.capacity_expr - self.weights_expr) / self.sequence_expr

    @cached_property
    def bandwidth_expr(self) -> Expr:
        """The memory bandwidth in byte/s, bare."""
        return self.analysis.machine.rate(Resource.MEMORY)

    @property
    def period_expr(self) -> Expr:
        """``C / BW``, seconds in which all of the memory is read once, bare."""
        return self.capacity_expr / self.bandwidth_expr

    @property
    def step_time_expr(self) -> Expr:
        """Seconds of the step, bare."""
        return self.analysis.total.time_expr

    @cached_property
    def breaks_exprs(self) -> dict[str, Expr]:
        """What the step takes beyond the period, in seconds, bare: the differences add up to `step_time_expr` - `period_expr`.

        unread : memory that the step does not read, below 0: rows of the embedding, experts not touched, activations.
        activations : their traffic, and writes of the cache.
        other : what other resources take beyond memory, where they bind; overheads.
        """
        total, rate = self.analysis.total, self.bandwidth_expr
        kept = total.byte_count(Storage.WEIGHT, Direction.READ) + total.byte_count(Storage.KV_CACHE, Direction.READ)
        moved = total.byte_count()
        return {
            "unread": (kept - self.capacity_expr) / rate,
            "activations": (moved - kept) / rate,
            "other": self.step_time_expr - moved / rate,
        }

    @property
    def throughput_expr(self) -> Expr:
        """Tokens a second of all sequences, bare."""
        return self.batch_expr * self.analysis.graph.tokens / self.step_time_expr

    @cached_property
    def formulas(self) -> dict[str, Expr]:
        """The laws in symbols: the batch of this model without activations, M_d the memory; the period; who gains."""
        weights, cache, _ = memory_parts(self.analysis.step.symbolic)
        return {
            "batch": factor_terms((symbols.M_d - weights) * b / cache),
            "period": symbols.M_d / symbols.BW,
            "elasticity to weights": -symbols.M_w / (symbols.M_d - symbols.M_w),
        }

    def gain_expr(self, weights: Any = 1, cache: Any = 1, capacity: Any = 1) -> Expr:
        """The batch, and with it the throughput of a step that reads all of the memory, after these scale, over before, bare.

        ``(z C - x W) / (y (C - W))`` tokens in a step that takes z as long.

        Raises
        ------
        InputError
            The weights alone would fill the memory.
        """
        x, y, z = (number(each, COUNT, name) for each, name in ((weights, "weights"), (cache, "cache"), (capacity, "capacity")))
        left = z * self.capacity_expr - x * self.weights_expr
        if left <= 0:
            raise InputError(f"weights {quote(str(x))}: the weights alone would take {quantity(x * self.weights_expr, BYTE)} of memory")
        return left / (y * (self.capacity_expr - self.weights_expr))

    @property
    def more_gain_expr(self) -> Expr:
        """The factor above which shrinking weights gains more than shrinking the cache by as much, ``C / W - 1``, bare.

        From 1 on neither factor below 1 does: shrinking the cache always gains more.
        """
        return self.capacity_expr / self.weights_expr - 1

    @property
    def gains_more(self) -> str:
        """Which of the two gains more where it is halved: "weights" or "cache"."""
        return "weights" if self.gain_expr(weights=S.Half) > 2 else "cache"

    capacity = in_unit(lambda answer: answer.capacity_expr, BYTE, "Memory of one device that a step can use, as a Quantity in bytes.")
    weights = in_unit(lambda answer: answer.weights_expr, BYTE, "Weights on one device, as a Quantity in bytes.")
    sequence = in_unit(lambda answer: answer.sequence_expr, BYTE, "What each sequence keeps on one device, as a Quantity in bytes.")
    batch = in_unit(lambda answer: answer.batch_expr, COUNT, "The batch that fills it, as a Quantity.")
    law_batch = in_unit(lambda answer: answer.law_batch_expr, COUNT, "The batch without activations, as a Quantity.")
    bandwidth = in_unit(lambda answer: answer.bandwidth_expr, BANDWIDTH, "Memory bandwidth, as a Quantity in byte/second.")
    period = in_unit(lambda answer: answer.period_expr, SECOND, "Time in which the memory is read once, as a Quantity in seconds.")
    step_time = in_unit(lambda answer: answer.step_time_expr, SECOND, "Time of the step, as a Quantity in seconds.")
    breaks = in_unit(lambda answer: answer.breaks_exprs, SECOND, "`breaks_exprs`, as Quantities in seconds.")
    throughput = in_unit(lambda answer: answer.throughput_expr, TOKEN_RATE, "Tokens a second, as a Quantity in token/second.")
    more_gain = in_unit(lambda answer: answer.more_gain_expr, COUNT, "`more_gain_expr`, as a Quantity.")

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions of the numbers, one sentence each."""
        return (
            *self.analysis.step.statements,
            "full memory: the batch is a real number; the law leaves out activations, the step does not",
        )


def full_memory(step: Step, *, hardware: Device | str | Path, capacity: Any = None, ceilings: str = STATED) -> AtFullMemory:
    """The batch that fills a device's memory, ``(C - W) / M_s``, and its step, ``C / BW`` where it reads all of the memory once.

    Parameters
    ----------
    step : a decode step with a context; its batch is not used.
    capacity : bytes of memory in place of the device's.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    InputError
        The step is a prefill or has no context, keeps nothing for a sequence, or not even one sequence fits.

    >>> import symroof
    >>> full = symroof.full_memory(symroof.load_model("llama-3-8b").decode(seq_len=8192), hardware="h100-sxm")
    >>> print(full.law_batch, full.batch, full.period, full.step_time)
    64.69 64.63 25.53 ms 26.72 ms
    """
    device = require_device(hardware, "its memory is filled")
    if not step.options.decode:
        raise InputError("full memory is asked of a decode step: ask from model.decode(...)")
    step = step.without("batch").with_widths()
    if t not in step.values and step.symbolic.kv_memory().has(t):
        raise InputError(f"{needed([t])} to fill the memory")
    found = largest(step, over=b, hardware=device, capacity=capacity)
    if found.value_expr < 1:
        raise InputError(f"{step.title} does not fit the memory of {device.title} with one sequence of context {step.values.get(t, 1)}")
    here = replace(step, values={**step.values, b: found.value_expr})
    weights, cache, _ = memory_parts(here.graph)
    if cache == 0:
        raise InputError(f"{step.model} keeps nothing for a sequence, which no number of sequences fills a memory with")
    return AtFullMemory(found, analyze(here, device, ceilings=ceilings), weights, cache / found.value_expr)
