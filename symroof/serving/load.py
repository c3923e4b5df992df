"""Load: requests that arrive at a rate, the batch that they make, and the latency that they see.

A request generates n tokens, N = n - 1 of them in decode steps. At batch b a sequence gets a token every ``y(b)`` seconds, the
time of a step over the tokens that it completes. By Little's law the batch is the rate times the time that a request stays:

``b = lambda N y(b)``.

Where the step is a line, ``y = C1 + C2 b``, so ``b = lambda N C1 / (1 - lambda N C2)`` and the request stays ``N C1 / (1 - lambda N C2)``;
on several pieces b is the first root, exact. Steps read the mean context of the sequences in the batch, weighted by the steps
that they stay: ``theta = S + (N + 1 + var / N) / 2``, as a long request is met more often.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sympy import Expr, Integer, S, oo

from symroof import symbols
from symroof.algebra.piecewise import Piece, Piecewise
from symroof.algebra.univariate import is_exponential, limit
from symroof.answers import Answer, Interval
from symroof.architectures.options import Size, whole
from symroof.architectures.step import Step
from symroof.errors import InputError, member, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.capacity import memory_over, room_within, usable_capacity
from symroof.questions.regimes import regimes
from symroof.roof.ledger import require_device
from symroof.serving.replica import Replica, Request
from symroof.serving.requests.sharing import Sharing, first_batch, negative_binomial_mean, resident_context
from symroof.symbols import VOCABULARY, substitute
from symroof.techniques.registry import rounded, whole_multiple
from symroof.units import COUNT, PER_SECOND, SECOND, TOKEN_RATE, in_unit, number

b, t, RATE, BATCH = symbols.b, symbols.t, VOCABULARY[symbols.lambda_a], VOCABULARY[symbols.b]
MEMORY, THROUGHPUT = "memory", "throughput"
ELSEWHERE, HERE = "elsewhere", "here"


@dataclass(frozen=True)
class LoadPiece(Interval):
    """The load curve on one piece of the arrival rate.

    Attributes
    ----------
    label : the operators that are compute-bound on it.
    least_batch_expr, most_batch_expr : the batches at its ends, bare.
    batch_expr, latency_expr : the batch, and seconds from the first token to the last, as functions of lambda_a, bare; None where
        the step is a curve, which has no closed form in the rate.
    """

    least_batch_expr: Expr = S.Zero
    most_batch_expr: Expr = oo
    batch_expr: Expr | None = None
    latency_expr: Expr | None = None


@dataclass(frozen=True)
class Load(Answer):
    """What requests see that arrive at a rate.

    Attributes
    ----------
    rate_expr : requests per second, bare.
    prompt, output_expr, variance_expr : tokens to read; mean and variance of the tokens to generate, bare.
    prefill : "elsewhere": on other devices; "here": between the decode steps.
    prompt_time_expr : seconds in which a prompt is read, bare; 0 elsewhere.
    times : seconds between two tokens of a sequence over the batch, its prompts' share included.
    largest_batch : the sequences that fit the memory at their mean context; None where every batch fits or no capacity is stated.
    step, device : the decode step, and where it runs.
    """

    rate_expr: Expr
    prompt: int
    output_expr: Expr
    variance_expr: Expr
    prefill: str
    prompt_time_expr: Expr
    times: Piecewise = field(repr=False, compare=False)
    largest_batch: int | None
    step: Step = field(repr=False, compare=False)
    device: Device = field(repr=False, compare=False)

    @property
    def decoded_expr(self) -> Expr:
        """N, the tokens that a request takes decode steps for: all but the first, bare."""
        return self.output_expr - 1

    @property
    def offered_expr(self) -> Expr:
        """Tokens per second that the requests ask of decode steps, ``lambda N``, bare."""
        return self.rate_expr * self.decoded_expr

    @property
    def context_expr(self) -> Expr:
        """theta, the mean context of the sequences in the batch, bare."""
        return resident_context(Integer(self.prompt), self.output_expr, self.variance_expr)

    @cached_property
    def batch_expr(self) -> Expr:
        """The batch: the first root of ``b = lambda N y(b)``, exact and bare."""
        return first_batch(self.times, self.offered_expr)

    @cached_property
    def piece(self) -> Piece:
        """The piece of `times` that the batch lies on."""
        return self.times.at(self.batch_expr)

    @cached_property
    def line_exprs(self) -> tuple[Expr, Expr]:
        """C1 and C2: seconds between two tokens at the batch are ``C1 + C2 b``, bare; of a curve its tangent, in floats."""
        slope = substitute(self.piece.value.diff(b), {b: self.batch_expr})
        slope = slope if slope.is_Rational else slope.doit().evalf()
        return substitute(self.piece.value, {b: self.batch_expr}) - slope * self.batch_expr, slope

    @property
    def token_time_expr(self) -> Expr:
        """Seconds between two tokens of a sequence, bare."""
        return substitute(self.piece.value, {b: self.batch_expr})

    @property
    def latency_expr(self) -> Expr:
        """Seconds that a request stays in the batch, from its first token to its last, bare."""
        return self.decoded_expr * self.token_time_expr

    @property
    def fluctuating_latency_expr(self) -> Expr:
        """The mean of the same where the batch fluctuates, and where requests wait for a place, bare and in floats.

        From `sharing`; on a line ``N (C1 + C2) / (1 - lambda N C2)``: what the mean batch leaves out is a sequence's own share of a step.
        """
        return self.sharing.mean_expr / self.rate_expr

    @cached_property
    def formulas(self) -> dict[str, Expr]:
        """The laws on a line, in symbols: batch, latency for the mean batch and for one that fluctuates, saturation, mean context."""
        steps = (symbols.n - 1) / (Integer(1) if self.step.symbolic.tokens == 1 else self.step.symbolic.tokens)
        each = steps * (symbols.tau_b + symbols.tau_t * symbols.theta_r) + (symbols.tau_p if self.prefill == HERE else 0)
        stays = steps * symbols.tau_w / (1 - symbols.lambda_a * each)
        context = resident_context(symbols.S, symbols.n, symbols.v_n if self.variance_expr != 0 else S.Zero)
        own = negative_binomial_mean(symbols.lambda_a, steps * symbols.tau_w, each) / symbols.lambda_a
        laws = {"batch": symbols.lambda_a * stays, "latency": stays, "fluctuating latency": own, "saturation": 1 / each}
        return {**laws, "resident context": context}

    @property
    def saturation_expr(self) -> Expr:
        """Requests per second that no steady batch exceeds, bare."""
        return saturation(self.times, self.decoded_expr, self.largest_batch)

    @property
    def saturated_by(self) -> str:
        """What ends it: "memory", which holds no larger batch, or "throughput", which no batch exceeds."""
        return THROUGHPUT if self.largest_batch is None else MEMORY

    @property
    def utilization_expr(self) -> Expr:
        """The rate over the saturation rate, bare."""
        return self.rate_expr / self.saturation_expr

    @cached_property
    def sharing(self) -> Sharing:
        """The batch as a random variable, with percentiles: Poisson arrivals, processor sharing."""
        return Sharing(self.offered_expr, self.times, self.largest_batch)

    @cached_property
    def curve(self) -> tuple[LoadPiece, ...]:
        """Batch and latency over the rate, up to saturation."""
        most = Integer(self.largest_batch) if self.largest_batch is not None else oo
        return tuple(_over_rate(piece, self.decoded_expr, most) for piece in self.times.pieces if piece.low < most)

    def points(self, batches: Any) -> tuple[tuple[Expr, Expr], ...]:
        """The rate and the latency at which the batch is each of these, for drawing, bare."""
        found = ((number(each, COUNT, "batch"), self.times(number(each, COUNT, "batch"))) for each in batches)
        return tuple((batch / (self.decoded_expr * time), self.decoded_expr * time) for batch, time in found)

    rate = in_unit(lambda load: load.rate_expr, PER_SECOND, "Requests that arrive, as a Quantity in 1/second.")
    output = in_unit(lambda load: load.output_expr, COUNT, "Mean of the tokens that a request generates, as a Quantity.")
    output_variance = in_unit(lambda load: load.variance_expr, COUNT, "Their variance, as a Quantity.")
    context = in_unit(lambda load: load.context_expr, COUNT, "Mean context of the sequences in the batch, as a Quantity.")
    batch = in_unit(lambda load: load.batch_expr, COUNT, "The batch, as a Quantity.")
    token_time = in_unit(lambda load: load.token_time_expr, SECOND, "Time between two tokens of a sequence, as a Quantity in seconds.")
    latency = in_unit(lambda load: load.latency_expr, SECOND, "Time from the first token to the last, as a Quantity in seconds.")
    fluctuating_latency = in_unit(lambda load: load.fluctuating_latency_expr, SECOND, "`fluctuating_latency_expr`, as a Quantity.")
    prompt_time = in_unit(lambda load: load.prompt_time_expr, SECOND, "Time in which a prompt is read, as a Quantity in seconds.")
    saturation = in_unit(lambda load: load.saturation_expr, PER_SECOND, "The rate of saturation, as a Quantity in 1/second.")
    utilization = in_unit(lambda load: load.utilization_expr, COUNT, "The rate over that of saturation, as a Quantity.")
    throughput = in_unit(lambda load: load.rate_expr * load.output_expr, TOKEN_RATE, "Tokens per second, as a Quantity in token/second.")

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions of the numbers, one sentence each."""
        reads = {
            ELSEWHERE: "prefill: on other devices; no step waits for it",
            HERE: "prefill: every request's prompt is read here between decode steps, which all sequences of the batch wait for",
        }
        return (
            *self.step.statements,
            reads[self.prefill],
            "load: batch by Little's law; every step reads the mean context, and every sequence sees the mean batch, at least itself",
            "memory: every sequence takes the cache of the mean context, as paged caches do",
        )


def saturation(times: Piecewise, decoded: Expr, largest_batch: int | None) -> Expr:
    """The largest rate: at the largest batch that fits, or in the limit of large batches; b / y(b) does not fall in b."""
    if largest_batch is not None:
        return largest_batch / (decoded * times(largest_batch))
    return limit(b / times.pieces[-1].value, b) / decoded


def _over_rate(piece: Piece, decoded: Expr, most: Expr) -> LoadPiece:
    """The piece over the rate; the rate at a batch is ``b / (N y(b))``."""
    ends, rate = (piece.low, min(piece.high, most)), b / (decoded * piece.value)
    low, high = (S.Zero if end == 0 else limit(rate, b) if end == oo else substitute(rate, {b: end}) for end in ends)
    if is_exponential(piece.value, b):
        return LoadPiece(RATE, low, high, piece.label, *ends)
    slope = piece.value.diff(b)
    stays = decoded * (piece.value - slope * b).expand() / (1 - RATE.symbol * decoded * slope)
    return LoadPiece(RATE, low, high, piece.label, *ends, RATE.symbol * stays, stays)


def under_load(
    step: Step,
    *,
    rate: Any,
    prompt: Size,
    output: Any,
    output_variance: Any = 0,
    hardware: Device | str | Path,
    prefill: str = ELSEWHERE,
    ceilings: str = STATED,
) -> Load:
    """Batch and latency of requests that arrive at a rate, ``L = N C1 / (1 - lambda N C2)`` where the step is a line.

    Parameters
    ----------
    step : a decode step; its batch and context are not used.
    rate : requests per second, or text such as "2 Hz".
    prompt : tokens of every prompt, or their mean.
    output, output_variance : mean and variance of the tokens that a request generates, at least 2; the distribution is free.
    prefill : "elsewhere", on other devices, or "here", where every prompt is read between decode steps.
    ceilings : "stated" or "classic", as in `symroof.analyze`; calibrated kernels have no closed form.

    Raises
    ------
    InputError
        The rate is at or beyond saturation: the message says at which rate, what ends it, and what would raise it. Or no sequence
        fits, or an input is missing.

    >>> import symroof
    >>> step = symroof.load_model("llama-3-8b").decode()
    >>> load = symroof.under_load(step, rate=4, prompt=2048, output=257, hardware="h100-sxm")
    >>> print(load.batch, load.latency, load.saturation)
    5.077 1.269 s 34.71/s

    Source: Little (1961); Kong et al. (2026), arXiv:2605.15051, where C1 and C2 are fitted.
    """
    device = require_device(hardware, "load is numeric")
    member("prefill", prefill, (ELSEWHERE, HERE))
    if not step.options.decode:
        raise InputError("load is made of decode steps: ask from model.decode(...)")
    asked, tokens = number(rate, PER_SECOND, "rate"), number(output, COUNT, "output")
    spread, prompt = number(output_variance, COUNT, "output_variance", zero=True), whole("prompt", prompt, "token")
    if tokens < 2:
        raise InputError(f"output {quote(str(tokens))}: expected at least 2 tokens; the first comes from prefill, and load is of decode")
    step = step.without("batch", "seq_len").with_widths()
    here = replace(step, values={**step.values, t: resident_context(Integer(prompt), tokens, spread)})
    read = _prompt_time(step, prompt, device, ceilings) if prefill == HERE else S.Zero
    steps = regimes(here, over=BATCH.symbol, hardware=device, ceilings=ceilings).times
    delayed = steps.map(lambda time: (time + b * read / (tokens - 1)).expand(power_exp=False))
    least = Integer(whole_multiple(here.symbolic.applied, b))  # a step has a sequence at least, or one for each part that it is split into
    first, *others = [replace(piece, low=max(piece.low, least)) for piece in delayed.pieces if piece.high > least]
    alone = replace(first, low=S.Zero, high=least, value=substitute(first.value, {b: least}))
    times = Piecewise(b, (alone, first, *others))
    load = Load(asked, prompt, tokens, spread, prefill, read, times, _largest(here, device), step, device)
    if load.largest_batch == 0:
        raise InputError(f"{step.title} does not fit the memory of {device.title} with a sequence of the mean context {load.context}")
    if asked >= load.saturation_expr:
        raise InputError(f"rate {load.rate} is beyond saturation at {load.saturation:.4g}: {_why(load)}")
    return load


def _why(load: Load) -> str:
    """What ends a load, and what would raise it."""
    if load.largest_batch is not None:
        fits = f"memory holds batch {load.largest_batch} at the mean context {load.context:.4g}"
        return f"{fits}; more memory, a smaller cache or shorter requests raise it"
    return "no batch completes more tokens a second; shorter requests, fewer bytes of cache, or further devices raise it"


def _largest(step: Step, device: Device) -> int | None:
    """The largest batch that fits at the step's context."""
    if device.usable_figure is None:
        return None
    room = room_within(BATCH, memory_over(step, BATCH), usable_capacity(device, step))
    if room.fits and room.most_expr is None:
        return None
    return rounded(room.most_expr or Integer(0), "<=", whole_multiple(step.symbolic.applied, b))


def _prompt_time(step: Step, prompt: int, device: Device, ceilings: str) -> Expr:
    """Seconds in which a prompt is read, with the techniques that support prefill, by a draft model as well if there is one."""
    if step.source is None:
        raise InputError(f"the step of {step.model} was not made by a model, which prefill is asked of: give prefill='elsewhere'")
    request = Request(step.source, prompt, 2, step.options)  # what is generated does not matter to it
    return Replica(request, device, step.symbolic.applied, ceilings).read_expr
