"""Between pools, and one pool instead: a prompt's cache on a link, and decode steps that include chunks of prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from sympy import Expr, Integer, Rational, Symbol, ceiling, oo

from symroof import symbols
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.questions.generation import Generation
from symroof.roof.analysis import analyze
from symroof.serving.requests.sharing import resident_context
from symroof.techniques.system.mixed_batch import MixedBatch
from symroof.units import BANDWIDTH, BYTE, COUNT, SECOND, in_unit

MOST = 2**16
"""The largest batch considered where no memory limits it."""


@dataclass(frozen=True)
class Transfer(Answer):
    """A prompt's keys and values on their way from a prefill device to a decode device.

    Attributes
    ----------
    size_expr : their bytes, bare.
    bandwidth_expr : byte/s of the link, one way, bare.
    prefill_time_expr : seconds in which a prefill device makes the next ones, bare.
    """

    size_expr: Expr
    bandwidth_expr: Expr
    prefill_time_expr: Expr

    size = in_unit(lambda sent: sent.size_expr, BYTE, "Keys and values of a prompt, as a Quantity in bytes.")
    bandwidth = in_unit(lambda sent: sent.bandwidth_expr, BANDWIDTH, "Bandwidth of the link, one way, as a Quantity in byte/second.")
    time = in_unit(lambda sent: sent.time_expr, SECOND, "Time on the link, as a Quantity in seconds.")
    needed = in_unit(lambda sent: sent.needed_expr, BANDWIDTH, "The bandwidth from which prefill hides it, as a Quantity in byte/second.")

    @property
    def time_expr(self) -> Expr:
        """Seconds on the link, bare."""
        return self.size_expr / self.bandwidth_expr

    @property
    def needed_expr(self) -> Expr:
        """The byte/s from which the link keeps up with prefill, bare: the prompt's bytes over the time of its prefill."""
        return self.size_expr / self.prefill_time_expr

    @property
    def hidden(self) -> bool:
        """Whether the link sends a prompt's keys and values while the next prompt is read, so that no prefill device waits for it."""
        return bool(self.time_expr <= self.prefill_time_expr)


@dataclass(frozen=True)
class MixedPool(Answer):
    """One pool for both: decode steps include as many prompt tokens as keep their batch full.

    Attributes
    ----------
    batch : sequences that decode in a step.
    chunk, prompts : tokens of a prompt in a step, of so many prompts.
    share_expr : the share of the steps that have chunks, as these are whole tokens, bare.
    step_time_expr, plain_time_expr : seconds of such a step, and of one without a chunk, bare.
    device_time_expr : device-seconds of a request, over steps with and without chunks, bare.
    """

    batch: int
    chunk: int
    prompts: int
    share_expr: Expr
    step_time_expr: Expr
    plain_time_expr: Expr
    device_time_expr: Expr

    step_time = in_unit(lambda pool: pool.step_time_expr, SECOND, "Time of a step with its chunk, as a Quantity in seconds.")
    share = in_unit(lambda pool: pool.share_expr, COUNT, "The share of the steps that have chunks, as a Quantity without a unit.")
    plain_time = in_unit(lambda pool: pool.plain_time_expr, SECOND, "Time of a step without a chunk, as a Quantity in seconds.")
    interference = in_unit(lambda pool: pool.interference_expr, COUNT, "`interference_expr`, as a Quantity without a unit.")
    device_time = in_unit(lambda pool: pool.device_time_expr, SECOND, "Device-seconds of a request, as a Quantity in seconds.")

    @property
    def interference_expr(self) -> Expr:
        """How many times as long sequences that decode wait for a token as without the chunk, bare."""
        return self.step_time_expr / self.plain_time_expr


@dataclass(frozen=True)
class Pools:
    """Decode steps at the mean context, alone and with the chunks that keep their batch full.

    On average that is ``b S / (n - 1)`` tokens of prompts a step. Chunks are whole tokens, so some steps have none. A chunk has
    ``(S + chunk) / 2`` tokens of its prompt up to its end, which is the mean over all chunks.
    """

    spent: Generation
    prompt: int
    output: int
    ceilings: str

    def step(self, batch: int) -> Step:
        """The decode step at the mean context."""
        context = resident_context(Integer(self.prompt), Integer(self.output))
        return with_values(self.spent.step.with_widths(), {symbols.b: Integer(batch), symbols.t: context})

    def seconds(self, step: Step) -> Expr:
        """Seconds per generated token of a step."""
        analysis = analyze(step, self.spent.device, ceilings=self.ceilings)
        return analysis.total.time_expr / analysis.graph.tokens

    def step_time(self, batch: int) -> Expr:
        """Seconds of a decode step."""
        return self.seconds(self.step(batch))

    def arriving(self, batch: int) -> Expr:
        """Tokens of prompts that a step has to read, on average: where it completes several tokens of a sequence, so many times more."""
        return self.step(batch).graph.tokens * Rational(batch * self.prompt, self.output - 1)

    def chunk(self, batch: int) -> MixedBatch:
        """The chunks of a step that keep a batch full, in whole tokens."""
        prompts = int(ceiling(self.arriving(batch) / self.prompt))
        chunk = int(ceiling(self.arriving(batch) / prompts))
        end = int(ceiling(Rational(self.prompt + chunk, 2)))
        return MixedBatch(chunk=chunk, prompts=prompts, prompt=max(end, chunk))

    def mixed_time(self, batch: int) -> Expr:
        """Seconds of a step with its chunks; infinite where mixed batches do not support it."""
        try:
            return self.seconds(self.step(batch).apply(self.chunk(batch)))
        except InputError:
            return cast(Expr, oo)

    def at(self, batch: int) -> MixedPool | None:
        """One pool at a batch; None where mixed batches do not support the step."""
        both, added = self.mixed_time(batch), self.chunk(batch)
        if both == oo:
            return None
        plain = self.step_time(batch)
        share = cast(Expr, self.arriving(batch) / (added.chunk * added.prompts))
        mean = share * both + (1 - share) * plain
        sizes = (int(added.chunk), int(added.prompts))
        return MixedPool(batch, *sizes, share, both, plain, mean * (self.output - 1) / batch)

    def fits(self, batch: int) -> bool:
        """Whether a step with its chunks fits the memory of a device, where that is known."""
        return analyze(self.step(batch).apply(self.chunk(batch)), self.spent.device, ceilings=self.ceilings).fits is not False

    def within(self, promise: Expr, *, mixed: bool) -> int:
        """The largest batch that fits memory and meets a promise, by bisection, as steps grow with their batch; 0 if there is none.

        Without a chunk it has to fit at its longest context; with one, the cache of the prompts is in memory too.
        """
        known = self.spent.memory.get("decode")
        most = known.largest_batch if known is not None and known.largest_batch is not None else MOST
        if most == 0:
            raise InputError(f"not even batch 1 of {self.spent.step.title} fits {self.spent.device.name}: spread it over devices")
        time = self.mixed_time if mixed else self.step_time
        low, high = 0, most + 1
        while high - low > 1:
            middle = (low + high) // 2
            enough = time(middle) <= promise and (not mixed or self.fits(middle))
            low, high = (middle, high) if enough else (low, middle)
        return low


def with_values(step: Step, values: Mapping[Symbol, Expr]) -> Step:
    """The step with other numbers."""
    return replace(step, values={**step.values, **values})
