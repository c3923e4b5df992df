"""Promises: times of a request and rates of users, devices and systems; which batch, context, chunk and degree keep them.

A request of S tokens gets its first token after its prompt is read, ``tau_p`` on an idle replica, and each of the n - 1 others after
``T_p(b) = T(b) + b tau_p / (n - 1)``, a decode step and the prompts read meanwhile (`symroof.serving.replica`). So it ends after
``tau_p + (n - 1) T_p(b)``; a user gets ``1 / T_p``, a replica of d devices gives ``b / T_p``, a device ``b / (d T_p)`` tokens a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from sympy import Expr, Integer, S, Symbol, oo

from symroof import symbols
from symroof.algebra.piecewise import Piecewise
from symroof.answers import Answer, Intervals, intervals
from symroof.architectures.model import Model
from symroof.architectures.options import Options, Size, StepInputs, whole
from symroof.architectures.step import Step
from symroof.errors import InputError, SymroofError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import CALIBRATED, STATED
from symroof.questions.capacity import memory_over
from symroof.questions.regimes import timeline
from symroof.roof.ledger import require_device
from symroof.serving.candidates import Asked
from symroof.serving.planned import Miss
from symroof.serving.replica import Replica, Request
from symroof.symbols import VOCABULARY, Variable
from symroof.techniques.registry import technique, techniques_of
from symroof.techniques.technique import Technique
from symroof.units import SECOND, TOKEN_RATE, in_unit, measured, number, unit_of

TTFT, TPOT, MEMORY = "ttft", "tpot", "memory"


@dataclass(frozen=True)
class Allowed(Answer):
    """The values of a variable that keep the promises and fit the memory.

    Attributes
    ----------
    most_exprs : the most that each allows, "ttft", "tpot" or "memory", exact and bare; 0 where nothing is allowed. What sets no limit is
        absent.
    refused : why the limit of another is not known.
    """

    over: Variable
    most_exprs: Mapping[str, Expr]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def binding(self) -> str | None:
        """Which of them allows least; None without a limit."""
        return min(self.most_exprs, key=lambda name: self.most_exprs[name], default=None)

    @property
    def most(self) -> int | None:
        """The largest whole number that all of them allow; None without a limit."""
        return None if self.binding is None else int(self.most_exprs[self.binding] // 1)

    limits = in_unit(lambda allowed: dict(allowed.most_exprs), lambda allowed: unit_of(allowed.over), "`most_exprs`, as Quantities.")


@dataclass(frozen=True)
class AtDegree(Answer):
    """Tensor parallelism over a number of devices.

    Attributes
    ----------
    degree : devices of a replica.
    ttft_expr, tpot_expr : seconds at the least batch, bare.
    batch : the largest batch that keeps the promises and fits; 0 if none does.
    misses : what is missed.
    """

    degree: int
    ttft_expr: Expr
    tpot_expr: Expr
    batch: int | None
    misses: tuple[Miss, ...] = ()

    ttft = in_unit(lambda at: at.ttft_expr, SECOND, "Time to first token, as a Quantity in seconds.")
    tpot = in_unit(lambda at: at.tpot_expr, SECOND, "Time per output token at the least batch, as a Quantity in seconds.")


@dataclass(frozen=True)
class Promises(Answer):
    """What a request gets at a batch, and what keeps the promises.

    Attributes
    ----------
    replica : the devices that serve it.
    ttft_limit_expr, tpot_limit_expr : the promises in seconds, bare; None where not given.
    batch : the batch asked about; without one the largest that keeps the promises and fits, or the least if none does.
    misses : promises and memory that no batch keeps: by how much, which resource binds, and what would meet them.
    degrees : the same request under tensor parallelism, where degrees were asked about.
    """

    replica: Replica = field(repr=False)
    ttft_limit_expr: Expr | None
    tpot_limit_expr: Expr | None
    batch: int
    misses: tuple[Miss, ...] = ()
    degrees: tuple[AtDegree, ...] = ()

    @property
    def ttft_expr(self) -> Expr:
        """Seconds to the first token on an idle replica, bare."""
        return self.replica.ttft_expr

    @property
    def tpot_expr(self) -> Expr:
        """Seconds per output token at the batch, bare."""
        return self.replica.tpot_expr(self.batch)

    @property
    def latency_expr(self) -> Expr:
        """Seconds from the request to its last token, bare."""
        return self.ttft_expr + (self.replica.request.output - 1) * self.tpot_expr

    @property
    def kept(self) -> bool:
        """Whether the batch keeps the promises and fits."""
        within = (self.ttft_expr, self.ttft_limit_expr), (self.tpot_expr, self.tpot_limit_expr)
        most = self.replica.most_by_memory
        return all(limit is None or value <= limit for value, limit in within) and (most is None or self.batch <= most)

    @cached_property
    def allowed_batch(self) -> Allowed:
        """The batches that time per token and memory allow."""
        limits = {TPOT: self._by_time(), MEMORY: self.replica.most_by_memory}
        return Allowed(VOCABULARY[symbols.b], {name: Integer(most) for name, most in limits.items() if most is not None})

    def _by_time(self) -> int | None:
        return None if self.tpot_limit_expr is None else self.replica.most_by_time(self.tpot_limit_expr)

    @property
    def batch_intervals(self) -> Intervals:
        """The batches on which the time per token is kept, exact, with what is compute-bound there; of none, none."""
        if self.tpot_limit_expr is None:
            return Intervals(())
        parts = self.replica.tpots.within(self.tpot_limit_expr)
        return intervals(VOCABULARY[symbols.b], (piece for part in parts for piece in part.pieces))

    @cached_property
    def allowed_prompt(self) -> Allowed:
        """The prompts that time to first token allows, and the contexts that time per token and memory allow at this batch."""
        replica, found = self.replica, _Limits(self.replica)
        if self.ttft_limit_expr is not None:
            draft = replica.ttft_expr - replica.prefill.total.time_expr
            found.by_time(TTFT, lambda: replica.prefill.step.without("seq_len"), symbols.s, self.ttft_limit_expr - draft)
        decode = lambda: replica.decoding(self.batch).without("seq_len")  # noqa: E731
        if self.tpot_limit_expr is not None:
            found.by_time(TPOT, decode, symbols.t, self.tpot_limit_expr - self.batch * replica.delay_expr)
        found.add(MEMORY, lambda: memory_over(decode(), VOCABULARY[symbols.t]), replica.capacity_expr)
        return Allowed(VOCABULARY[symbols.t], found.most, found.refused)

    @cached_property
    def allowed_chunk(self) -> Allowed:
        """The tokens of a prompt that a decode step of this batch can take along within the time per token."""
        found = _Limits(self.replica)
        if self.tpot_limit_expr is not None:
            made = lambda: self.replica.decoding(self.batch).apply("mixed-batch")  # noqa: E731
            found.by_time(TPOT, made, symbols.s_k, self.tpot_limit_expr)
        return Allowed(VOCABULARY[symbols.s_k], found.most, found.refused)

    @property
    def formulas(self) -> dict[str, Expr]:
        """Times and rates in symbols."""
        tau_p, tau_w, each, steps = symbols.tau_p, symbols.tau_w, symbols.tau_b + symbols.tau_t * symbols.theta_r, symbols.n - 1
        meanwhile = 0 if self.replica.split else symbols.b * tau_p / steps
        token = (tau_w + symbols.b * each) / self.replica.decode.symbolic.tokens + meanwhile
        return {
            "time to first token": tau_p,
            "time per output token": token,
            "latency": tau_p + steps * token,
            "tokens/s of a user": 1 / symbols.T_p,
            "tokens/s of a replica": symbols.b / symbols.T_p,
            "tokens/s of a device": symbols.b / (symbols.n_g * symbols.T_p),
        }

    ttft = in_unit(lambda answer: answer.ttft_expr, SECOND, "Time to first token, as a Quantity in seconds.")
    tpot = in_unit(lambda answer: answer.tpot_expr, SECOND, "Time per output token, as a Quantity in seconds.")
    latency = in_unit(lambda answer: answer.latency_expr, SECOND, "Time from the request to its last token, as a Quantity in seconds.")
    ttft_limit = in_unit(lambda answer: answer.ttft_limit_expr, SECOND, "The promised time to first token, as a Quantity, or None.")
    tpot_limit = in_unit(lambda answer: answer.tpot_limit_expr, SECOND, "The promised time per output token, as a Quantity, or None.")

    @property
    def rates(self) -> dict[str, Any]:
        """Tokens per second of a "user", of a "replica" and of a "device", as Quantities in token/second."""
        user, replica = 1 / self.tpot_expr, self.batch / self.tpot_expr
        return measured({"user": user, "replica": replica, "device": replica / self.replica.degree}, TOKEN_RATE)

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions of the numbers, one sentence each."""
        reads = "on other devices" if self.replica.split else "between decode steps, which wait for it"
        return (*self.replica.decode.statements, f"prefill: {reads}", "decode: every step reads the mean context of the batch, S + n / 2")


@dataclass
class _Limits:
    """The most of a variable that several functions of it allow, and why others are not known."""

    replica: Replica
    most: dict[str, Expr] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def by_time(self, name: str, made: Callable[[], Step], symbol: Symbol, target: Expr) -> None:
        """The most of it at which a step is within a target."""
        device, ceilings = self.replica.device, self.replica.ceilings
        self.add(name, lambda: timeline(made(), VOCABULARY[symbol], device, ceilings=ceilings), target)

    def add(self, name: str, made: Callable[[], Piecewise], target: Expr) -> None:
        """The most of it at which a function is within a target."""
        try:
            within = made().within(target)
        except SymroofError as error:
            self.refused[name] = str(error)
        else:
            if not within or within[-1].high != oo:
                self.most[name] = within[-1].high if within else S.Zero


def promises(
    model: Model,
    *,
    prompt: Size,
    output: Size,
    hardware: Device | str | Path,
    ttft: Any = None,
    tpot: Any = None,
    degrees: Iterable[int] = (),
    techniques: Sequence[str | Technique] = (),
    split: bool = False,
    ceilings: str = STATED,
    **inputs: Unpack[StepInputs],
) -> Promises:
    """Times and rates of requests as formulas and numbers, and the batches, contexts, chunks and degrees that keep promises.

    Parameters
    ----------
    prompt, output : tokens of a request to read and to generate, at least 2.
    ttft, tpot : promised time to first token and per output token, in seconds or as "50 ms"; either may be left out.
    degrees : numbers of devices to try tensor parallelism over.
    split : whether prefill has devices of its own.
    ceilings : "stated" or "classic", as in `symroof.analyze`; the limits are exact, which calibrated kernels have no form for.
    inputs : widths and conventions as for `Model.decode`; the batch to answer for, without it the largest that keeps the promises.

    Raises
    ------
    InputError
        A size or a promise is no positive number, neither time nor memory limits the batch, or the kernels are calibrated.
    DeviceError
        The device states no capacity.

    >>> import symroof
    >>> kept = symroof.promises(symroof.load_model("llama-3-8b"), prompt=2048, output=257, hardware="h100-sxm", ttft="1 s", tpot="30 ms")
    >>> print(kept.batch, kept.allowed_batch.binding, kept.ttft, kept.tpot)
    104 tpot 38.45 ms 29.89 ms
    """
    device = require_device(hardware, "promises are numeric")
    if ceilings == CALIBRATED:
        raise InputError("times of calibrated kernels have no closed form; ask with ceilings stated or classic, or ask symroof.plan")
    prompt, output = whole("prompt", prompt, "token"), whole("output", output, "token")
    if output < 2:
        raise InputError(f"output {quote(output)}: expected at least 2 tokens; the first comes from prefill")
    batch = inputs.pop("batch", None)
    if inputs.get("seq_len") is not None:
        raise InputError("seq_len of a request follows from prompt and output: omit it")
    limits = {name: None if limit is None else number(limit, SECOND, name) for name, limit in ((TTFT, ttft), (TPOT, tpot))}
    request = Request(model, prompt, output, Options.of("decode", inputs))
    asked = Asked(request, limits[TTFT], limits[TPOT], None, techniques_of(techniques), ceilings, split)
    replica = Replica(request, device, asked.techniques, ceilings, split)
    found = Promises(replica, limits[TTFT], limits[TPOT], replica.multiple)
    if batch is not None:
        if (asked_for := whole("batch", batch, "sequence")) % replica.multiple:
            raise InputError(f"batch {asked_for}: expected a multiple of {replica.multiple}, as the techniques split it evenly")
        found = replace(found, batch=asked_for)
    else:
        most = found.allowed_batch.most
        if most is None:
            raise InputError("neither time nor memory limits the batch; give tpot, or a batch")
        found = replace(found, batch=max(most, replica.multiple))
    every = tuple(_at_degree(asked, device, degree) for degree in degrees)
    return replace(found, misses=_misses(asked, replica), degrees=every)


def _misses(asked: Asked, replica: Replica) -> tuple[Miss, ...]:
    """What not even the least batch keeps."""
    least = replica.multiple
    times = ((TTFT, replica.ttft_expr, asked.ttft), (TPOT, replica.tpot_expr(least), asked.tpot))
    late = tuple(asked.late(name, replica, value, limit) for name, value, limit in times if limit is not None and value > limit)
    memory = () if replica.most_by_memory != 0 else (Miss(MEMORY, replica.memory(least), replica.capacity_expr),)
    return (*late, *memory)


def _at_degree(asked: Asked, device: Device, degree: int) -> AtDegree:
    """The same request on so many devices."""
    split = () if degree == 1 else (technique(f"tensor-parallel:degree={degree}"),)
    replica = Replica(asked.request, device, (*asked.techniques, *split), asked.ceilings, asked.split)
    misses = _misses(asked, replica)
    by_time = None if asked.tpot is None else replica.most_by_time(asked.tpot)
    known = [most for most in (by_time, replica.most_by_memory) if most is not None]
    batch = 0 if misses else min(known, default=None)
    return AtDegree(degree, replica.ttft_expr, replica.tpot_expr(replica.multiple), batch, misses)
