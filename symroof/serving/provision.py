"""Devices for prefill and devices for decode: how many of each keep both busy, and when one pool for both is better.

A prefill device reads a prompt in ``t_p`` seconds. A decode device takes n - 1 steps for a batch of b sequences of n tokens, ``t_d``
seconds together. Prompts arrive as fast as sequences end if

``r = t_p b / t_d`` prefill devices serve one decode device,

which with a mean step ``t_s = t_d / (n - 1)`` is about ``t_p b / (t_s n)``. A step releases ``b (S + n) / n`` tokens of the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack, cast

from sympy import Add, Expr, Integer, Rational, S, Symbol

from symroof import symbols
from symroof.algebra.univariate import sum_over
from symroof.answers import Answer
from symroof.architectures.model import Model
from symroof.architectures.options import Options, Size, StepInputs, whole
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import CALIBRATED, STATED
from symroof.questions.generation import Generation, generation
from symroof.questions.regimes import regimes
from symroof.roof.analysis import analyze
from symroof.roof.ledger import require_device
from symroof.serving.pools import MixedPool, Pools, Transfer, with_values
from symroof.symbols import option_name, substitute
from symroof.techniques.registry import techniques_of, whole_multiple
from symroof.techniques.technique import Technique
from symroof.units import BANDWIDTH, COUNT, SECOND, Quantity, counted, in_unit, number, quantity


@dataclass(frozen=True)
class Provision(Answer):
    """The saturated ratio of prefill to decode devices.

    Attributes
    ----------
    generation : prefill and all decode steps of one batch.
    batch, prompt, output : sequences of a decode step, S and n.
    prefill_time_expr, decode_time_expr : seconds of a prompt's prefill, and of the n - 1 decode steps of a batch, bare.
    formula : the ratio over all lengths near these: prompt_len S, new_tokens n and batch b as symbols; None where formulas count blocks.
    elasticity_exprs : by how many percent the ratio changes with one percent of S, n, b, the peak and the memory bandwidth, bare.
    transfer : the prompt's cache on its way between the pools; None without a link.
    mixed : one pool for both at the same batch; None where mixed batches do not support the step.
    mixed_within : one pool for both at the largest batch within the promise; None without a promise, or if no batch meets it.
    batch_within : the largest batch of the decode pool within the promise; None without one.
    device_time_within_expr : device-seconds of a request in two pools at that batch, bare; None without a promise.
    tpot_expr : the promised time per token, bare; None without one.
    """

    generation: Generation = field(repr=False, compare=False)
    batch: int
    prompt: int
    output: int
    prefill_time_expr: Expr
    decode_time_expr: Expr
    formula: Expr | None = None
    elasticity_exprs: Mapping[Symbol, Expr] = field(default_factory=dict)
    transfer: Transfer | None = None
    mixed: MixedPool | None = None
    mixed_within: MixedPool | None = None
    batch_within: int | None = None
    device_time_within_expr: Expr | None = None
    tpot_expr: Expr | None = None

    prefill_time = in_unit(lambda answer: answer.prefill_time_expr, SECOND, "Time of a prompt's prefill, as a Quantity in seconds.")
    decode_time = in_unit(lambda answer: answer.decode_time_expr, SECOND, "Time of all decode steps of a batch, as a Quantity in seconds.")
    step_time = in_unit(lambda answer: answer.step_time_expr, SECOND, "Mean time of a decode step, as a Quantity in seconds.")
    ratio = in_unit(lambda answer: answer.ratio_expr, COUNT, "`ratio_expr`, as a Quantity without a unit.")
    released = in_unit(lambda answer: answer.released_expr, COUNT, "`released_expr`, as a Quantity without a unit.")
    device_time = in_unit(lambda answer: answer.device_time_expr, SECOND, "Device-seconds of a request, as a Quantity in seconds.")
    device_time_within = in_unit(
        lambda answer: answer.device_time_within_expr, SECOND, "`device_time_within_expr`, as a Quantity, or None."
    )
    elasticity = in_unit(
        lambda answer: {option_name(symbol): value for symbol, value in answer.elasticity_exprs.items()},
        COUNT,
        "`elasticity_exprs` by name, as Quantities without a unit.",
    )
    tpot = in_unit(lambda answer: answer.tpot_expr, SECOND, "The promised time per token, as a Quantity in seconds, or None.")
    devices = counted(
        lambda answer: answer.generation.step.symbolic.devices, "Devices of one member of a pool, where techniques use several."
    )

    @property
    def step_time_expr(self) -> Expr:
        """Seconds of a decode step, the mean over its contexts, bare."""
        return self.decode_time_expr / (self.output - 1)

    @property
    def ratio_expr(self) -> Expr:
        """Prefill devices for one decode device, bare: ``t_p b / t_d``."""
        return self.prefill_time_expr * self.batch / self.decode_time_expr

    @property
    def released_expr(self) -> Expr:
        """Tokens that leave the cache a step, on average, bare: ``b (S + n) / n``."""
        return released_tokens(self.batch, self.prompt, self.output).exact

    @property
    def device_time_expr(self) -> Expr:
        """Device-seconds of a request in pools of this ratio, bare: ``t_p + t_d / b``."""
        return self.prefill_time_expr + self.decode_time_expr / self.batch

    @property
    def splitting_pays(self) -> bool | None:
        """Whether two pools take fewer device-seconds a request than one: with a promise each at its largest batch, otherwise at this one.

        None where mixed batches do not support the step; with a promise that one pool cannot meet, True.
        """
        if self.device_time_within_expr is not None and self.mixed is not None:
            return self.mixed_within is None or bool(self.device_time_within_expr < self.mixed_within.device_time_expr)
        return None if self.mixed is None else bool(self.device_time_expr < self.mixed.device_time_expr)


def saturated_ratio(prefill_time: Any, step_time: Any, batch: Any, output: Any) -> Quantity:
    """Prefill devices for one decode device from measured times: ``t_p b / (t_s n)``, as a Quantity without a unit.

    >>> print(saturated_ratio("0.91 s", "19 ms", 32, 512))
    2.993

    Source: Zhong et al. (2024), DistServe, arXiv:2401.09670; Austin et al. (2025), How to scale your model, applied inference.
    """
    times = (number(time, SECOND, what) for time, what in ((prefill_time, "prefill_time"), (step_time, "step_time")))
    sizes = (number(size, COUNT, what) for size, what in ((batch, "batch"), (output, "output")))
    (reading, writing), (sequences, tokens) = times, sizes
    return quantity(reading * sequences / (writing * tokens), COUNT)


def released_tokens(batch: Any, prompt: Any, output: Any) -> Quantity:
    """Tokens that leave the cache a decode step, on average: ``b (S + n) / n``, as b / n sequences end, of S + n tokens each.

    >>> print(released_tokens(32, 8192, 4096))
    96

    Source: Austin et al. (2025), How to scale your model, applied inference.
    """
    b, s, n = (number(size, COUNT, what) for size, what in ((batch, "batch"), (prompt, "prompt"), (output, "output")))
    return quantity(b * (s + n) / n, COUNT)


def hidden_needed(tpot: Any, weight_time: Any, sequence_time: Any, prompt_time: Any) -> Quantity:
    """Prompt work that a mixed step has to hide for one pool to be better at a promise ``T`` per token, as a Quantity in seconds.

    With decode steps of ``w + beta b`` seconds, mixed ones of ``w + (beta + p) b - o``, of which p is a step's share of a prompt's
    prefill, ``t_p / (n - 1)``, and o is hidden under memory traffic, two pools take fewer device-seconds exactly if

    ``o < w p (T - w) / (p (T - w) + beta T)``

    which is below w: at a promise, chunks that ride along unhidden always lose to a pool of their own.

    >>> print(hidden_needed("50 ms", "10 ms", "0.5 ms", "1 ms"))
    6.154 ms
    """
    target, w, beta, p = (number(time, SECOND, "time") for time in (tpot, weight_time, sequence_time, prompt_time))
    if target.is_number and w.is_number and target <= w:
        raise InputError(f"tpot {quote(str(tpot))}: expected more than {quantity(w, SECOND)}, what a step takes without a sequence")
    return quantity(w * p * (target - w) / (p * (target - w) + beta * target), SECOND)


def provision(
    model: Model,
    *,
    prompt: Size,
    output: Size,
    hardware: Device | str | Path,
    prefill_hardware: Device | str | Path | None = None,
    link: Any = None,
    tpot: Any = None,
    techniques: Sequence[str | Technique] = (),
    ceilings: str = STATED,
    **inputs: Unpack[StepInputs],
) -> Provision:
    """How many prefill devices keep one decode device busy, and when two pools beat one: ``r = t_p b / t_d``, in closed form.

    A request has S tokens of prompt, read one prompt at a time, which yields the first token, and n - 1 decode steps with contexts
    from S + 1 to S + n - 1. Sequences of a batch are at all stages, so a step takes the mean over these contexts; that is exact while
    its time is linear in the context, and otherwise an upper bound of a step at the mean context.

    Where one technique spreads a step over several devices, a member of a pool is that many devices.

    Parameters
    ----------
    prompt, output : S and n.
    hardware : the decode device, and the prefill device unless *prefill_hardware* names another.
    link : bandwidth between the pools, one way, for the transfer of a prompt's cache.
    tpot : promised time per token, at which one pool is compared by its largest batch that meets it.
    techniques : applied to both phases, each where it supports the phase.
    ceilings : the ceiling set; calibrated ones have no closed form over lengths.
    inputs : batch, the sequences of a decode step, widths and conventions, as for `Model.decode`.

    Raises
    ------
    InputError
        A size is not a positive whole number, there is one output token and so no decode step, or the promise is not met.

    >>> import symroof
    >>> model = symroof.load_model("llama-3.1-8b")
    >>> found = symroof.provision(model, prompt=2048, output=256, batch=32, hardware="h100-sxm", link="50 GB/s")
    >>> print(found.ratio, found.released, found.transfer.hidden, found.splitting_pays)
    0.6442 288 True False

    Source: Zhong et al. (2024), DistServe, arXiv:2401.09670; Patel et al. (2023), Splitwise, arXiv:2311.18677.
    """
    prompt, output = whole("prompt", prompt, "token"), whole("output", output, "token")
    if (given := inputs.get("batch")) is None:
        raise InputError("give batch, the sequences of a decode step, to provision pools")
    batch = whole("batch", given, "sequence")
    if output < 2:
        raise InputError("output 1: prefill yields the only token; expected at least 2, for a decode step")
    if ceilings == CALIBRATED:
        raise InputError("provision has no closed form for calibrated kernels; use ceilings stated or classic")
    device = require_device(hardware, "the times of both pools are compared in numbers")
    reader = device if prefill_hardware is None else require_device(prefill_hardware, "prompts are read on it")
    techniques = techniques_of(techniques)
    spent = generation(model, prompt=prompt, tokens=output, hardware=device, techniques=techniques, ceilings=ceilings, **inputs)
    reading = tuple(technique for technique in techniques if "prefill" in technique.phases)
    several = whole_multiple(reading, symbols.b)  # prompts that are read at once: as many as techniques split a step into
    together = cast(Any, {**inputs, "batch": several})
    one = generation(model, prompt=prompt, tokens=1, hardware=reader, techniques=techniques, ceilings=ceilings, **together)
    read = one.prefill_time_expr / several
    prefill = model.step(Options.of("prefill", {**together, "seq_len": prompt})).with_widths().apply(*reading)
    promise = None if tpot is None else number(tpot, SECOND, "tpot")
    mean_step = spent.decode_time_expr / (output - 1)
    if promise is not None and mean_step > promise:
        less = "a smaller batch takes less" if batch > 1 else "expected a longer promise, or a device with more memory bandwidth"
        raise InputError(f"tpot {quote(str(tpot))}: a decode step at batch {batch} takes {quantity(mean_step, SECOND)}; {less}")
    formula, elasticities = _over_lengths(prefill, several, reader, read, spent, ceilings)
    sent = None if link is None else Transfer(_cache(spent, prompt), number(link, BANDWIDTH, "link"), read)
    pools = Pools(spent, prompt, output, ceilings)
    answer = Provision(spent, batch, prompt, output, read, spent.decode_time_expr, formula, elasticities, sent, pools.at(batch))
    if promise is None:
        return answer
    alone, both = (pools.within(promise, mixed=mixed) for mixed in (False, True))
    return replace(
        answer,
        mixed_within=pools.at(both) if both else None,
        batch_within=alone,
        device_time_within_expr=read + pools.step_time(alone) * (output - 1) / alone if alone else None,
        tpot_expr=promise,
    )


def _over_lengths(
    prefill: Step, several: int, reader: Device, prefill_time: Expr, spent: Generation, ceilings: str
) -> tuple[Expr | None, dict[Symbol, Expr]]:
    """The ratio as a formula in S, n and b, and its elasticities there; nothing where a formula counts blocks of rows.

    On a part of the contexts where no operator changes its bound, a step takes ``u + v b + (w b + z) t``: four numbers that its times
    over the batch at two contexts of the part give, and a sum over contexts in closed form.
    """
    S_, n_, b_ = symbols.S, symbols.n, symbols.b
    try:
        reading = regimes(prefill.without("seq_len"), over="seq_len", hardware=reader, ceilings=ceilings).times
        over_prompt = substitute(reading.at(spent.prompt).value, {symbols.s: S_}) / several
        writing = [_bilinear(spent, part.first, part.last, ceilings) for part in spent.parts]
    except InputError:
        return None, {}
    ends = [S_ + 1, *(Integer(part.first) for part in spent.parts[1:])], [*(Integer(part.last) for part in spent.parts[:-1]), S_ + n_ - 1]
    decoding = Add(*(sum_over(step, symbols.t, low, high) for step, low, high in zip(writing, *ends, strict=True)))
    here = {S_: Integer(spent.prompt), n_: Integer(spent.tokens), b_: spent.step.values[b_]}
    if (substitute(over_prompt, here), substitute(decoding, here)) != (prefill_time, spent.decode_time_expr):
        return None, {}
    formula = over_prompt * b_ / decoding
    elasticities = {x: substitute(x * formula.diff(x) / formula, here) for x in (S_, n_, b_)}
    if reader == spent.device:
        shares = [_bound_shares(analyze(prefill, reader, ceilings=ceilings).total.seconds_by_bound_exprs, S.One)]
        middles = [(_at(spent, Rational(part.first + part.last, 2)), part.last - part.first + 1) for part in spent.parts]
        shares += [_bound_shares(analyze(step, reader, ceilings=ceilings).total.seconds_by_bound_exprs, many) for step, many in middles]
        for symbol, bound in ((symbols.P, "compute"), (symbols.BW, "memory")):
            of_prefill, *of_steps = (share.get(bound, S.Zero) for share in shares)
            elasticities[symbol] = Add(*of_steps) / Add(*(share["all"] for share in shares[1:])) - of_prefill / shares[0]["all"]
    return formula, elasticities


def _bound_shares(seconds: Mapping[str, Expr] | None, times: Any) -> dict[str, Expr]:
    """Seconds by what binds, and of all, *times* over."""
    known = seconds or {}
    return {"all": times * Add(*known.values())} | {bound: times * taken for bound, taken in known.items()}


def _at(spent: Generation, context: Expr) -> Step:
    return with_values(spent.step.with_widths(), {symbols.t: context})


def _bilinear(spent: Generation, first: int, last: int, ceilings: str) -> Expr:
    """The time of a decode step on a part of the contexts, linear in the batch and in the context."""
    b_, t_ = symbols.b, symbols.t
    batch, quarter = spent.step.values[b_], Rational(last - first, 4)
    middle = Rational(first + last, 2)

    def over_batch(context: Expr) -> Expr:
        step = _at(spent, context).without("batch")
        return regimes(step, over="batch", hardware=spent.device, ceilings=ceilings).times.at(batch).value.expand()

    if quarter == 0:
        return over_batch(middle)
    low, high = middle - quarter, middle + quarter
    below, above = over_batch(low), over_batch(high)
    return cast(Expr, (below + (above - below) * (t_ - low) / (high - low)).expand())


def _cache(spent: Generation, prompt: int) -> Expr:
    """Bytes of keys and values of one prompt, on all devices of a member."""
    step = spent.step.with_widths()
    graph = step.symbolic.bind({**step.values, symbols.b: S.One, symbols.t: Integer(prompt)})
    return graph.kv_memory() * graph.devices
