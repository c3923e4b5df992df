"""Generation: total time and traffic of a prompt of S tokens and n generated tokens, in closed form.

Prefill reads the prompt and yields the first token; decode step i has a context of ``S + i`` tokens, including the one it
reads, for i = 1 ... n - 1. A step that completes several tokens of a sequence, as in speculative decoding, counts for each
of them by its share. Every cost of a decode step is a polynomial in the context on each regime (a regime ends where a
window is full), and a sum of a polynomial over integers has a closed form (Faulhaber). Times of calibrated kernels are
not polynomials and are summed step by step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from sympy import Add, Expr, Float, Integer, S, oo

from symroof import symbols
from symroof.algebra.piecewise import Piecewise, piecewise
from symroof.algebra.univariate import sum_over
from symroof.answers import Answer, view
from symroof.architectures.model import Model
from symroof.architectures.options import PHASES, Options, Size, StepInputs, whole
from symroof.architectures.step import Step
from symroof.calibration.prediction import evaluated
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import CALIBRATED, STATED
from symroof.questions.capacity import Fit, fit_of
from symroof.questions.regimes import regimes
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import TOTAL, costs, known_values, needed, occurs, on_branch
from symroof.roof.intervals import branches_over
from symroof.roof.ledger import require_device
from symroof.symbols import VOCABULARY, substitute
from symroof.techniques.registry import techniques_of
from symroof.techniques.technique import Technique
from symroof.units import BYTE, SECOND, in_unit


@dataclass(frozen=True)
class GenerationPart(Answer):
    """The decode steps in one regime.

    Attributes
    ----------
    first, last : context lengths of the first and last token in it.
    step_time_expr : seconds per generated token, a polynomial in t, bare.
    time_expr : seconds of all these tokens, bare.
    """

    first: int
    last: int
    step_time_expr: Expr
    time_expr: Expr

    step_time = in_unit(lambda part: part.step_time_expr, SECOND, "Time of a generated token, as a Quantity in seconds, t the context.")
    time = in_unit(lambda part: part.time_expr, SECOND, "Time of all of them, as a Quantity in seconds.")


@dataclass(frozen=True)
class Generation(Answer):
    """Time and traffic of a prompt and its generated tokens.

    Attributes
    ----------
    prompt, tokens : S and n.
    prefill_time_expr, prefill_traffic_expr : seconds and bytes of reading the prompt, also by a draft model, and generating the
        first token, bare.
    parts : the remaining tokens by regime.
    decode_traffic_expr : bytes of all decode steps, bare.
    band_exprs : seconds of prefill and decode within the mean errors of calibrated kernels, bare; None for other ceilings.
    traffic_formula : symbolic decode traffic in S and n; with a sliding window, for the side of W of these contexts.
    step, device, techniques : the decode step, where it runs, and what was applied to both phases.
    memory : memory of one device for prefill, and for decode at its longest context, with the largest batch that fits each;
        empty if formulas count blocks of the batch.
    """

    prompt: int
    tokens: int
    prefill_time_expr: Expr
    prefill_traffic_expr: Expr
    parts: tuple[GenerationPart, ...]
    decode_traffic_expr: Expr
    traffic_formula: Expr
    statements: tuple[str, ...]
    step: Step = field(repr=False, compare=False)
    device: Device = field(repr=False, compare=False)
    techniques: tuple[Technique, ...] = field(repr=False, compare=False)
    band_exprs: tuple[Expr, Expr] | None = None
    memory: Mapping[str, Fit] = field(default_factory=dict)

    prefill_time = in_unit(lambda answer: answer.prefill_time_expr, SECOND, "Time of prefill, as a Quantity in seconds.")
    prefill_traffic = in_unit(lambda answer: answer.prefill_traffic_expr, BYTE, "Memory traffic of prefill, as a Quantity in bytes.")
    decode_time = in_unit(lambda answer: answer.decode_time_expr, SECOND, "Time of all decode steps, as a Quantity in seconds.")
    decode_traffic = in_unit(lambda answer: answer.decode_traffic_expr, BYTE, "Memory traffic of all decode steps, as a Quantity in bytes.")
    time = in_unit(lambda answer: answer.time_expr, SECOND, "Time of prefill and decode, as a Quantity in seconds.")
    traffic = in_unit(lambda answer: answer.traffic_expr, BYTE, "Memory traffic of prefill and decode, as a Quantity in bytes.")
    band = in_unit(lambda answer: answer.band_exprs, SECOND, "`band_exprs`, as Quantities in seconds, or None.")

    @property
    def fits(self) -> bool | None:
        """Whether prefill, and decode at its longest context, fit the memory of each device; None if the capacity is unknown."""
        known = [one.fits for one in self.memory.values() if one.fits is not None]
        return all(known) if known else None

    @property
    def largest_batch(self) -> int | None:
        """The largest total batch over all devices at which both fit; None if unknown, or if every batch fits."""
        return min((one.largest_batch for one in self.memory.values() if one.largest_batch is not None), default=None)

    @property
    def decode_time_expr(self) -> Expr:
        """Seconds of all decode steps, exactly, bare."""
        return Add(*(part.time_expr for part in self.parts))

    @property
    def time_expr(self) -> Expr:
        """Seconds of prefill and decode, exactly, bare."""
        return self.prefill_time_expr + self.decode_time_expr

    @property
    def traffic_expr(self) -> Expr:
        """Bytes of prefill and decode, exactly, bare."""
        return self.prefill_traffic_expr + self.decode_traffic_expr


def generation(
    model: Model,
    *,
    prompt: Size,
    tokens: Size,
    hardware: Device | str | Path,
    techniques: Sequence[str | Technique] = (),
    ceilings: str = STATED,
    **inputs: Unpack[StepInputs],
) -> Generation:
    """Time and traffic of a prompt and n generated tokens, in closed form: prefill and n - 1 decode steps.

    Additional prefill that a technique needs, such as that of a draft model, is part of prefill.

    Parameters
    ----------
    prompt, tokens : S and n.
    techniques : applied to both phases, each where it supports the phase.
    ceilings : the ceiling set, as in `symroof.analyze`; times of calibrated kernels are summed step by step, in floats.
    inputs : batch, widths and conventions, as for `Model.decode`.

    Raises
    ------
    InputError
        A size is not a positive whole number, or an input is missing.

    >>> import symroof
    >>> found = symroof.generation(symroof.load_model("llama-2-7b"), prompt=512, tokens=128, hardware="a100-sxm-80gb",
    ...     batch=1, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> print(found.decode_time, len(found.parts))
    842.9 ms 1
    """
    prompt, tokens = whole("prompt", prompt, "token"), whole("tokens", tokens, "token")
    techniques = techniques_of(techniques)
    if inputs.get("seq_len") is not None:
        raise InputError("seq_len of a generation follows from prompt and tokens: omit it")
    device = require_device(hardware, "the sums are numeric")
    require_generation(model)
    of_phase = {phase: [one for one in techniques if phase in one.phases] for phase in PHASES}
    prefill = model.step(Options.of("prefill", {**inputs, "seq_len": prompt}))
    before = analyze(prefill.apply(*of_phase["prefill"]), device, ceilings=ceilings)
    drafts = draft_prompts(prefill, techniques)
    beside = [analyze(step, device, ceilings=ceilings).total for step in drafts]
    decode = model.step(Options.of("decode", inputs)).apply(*of_phase["decode"])
    low, high = Integer(prompt + 1), Integer(prompt + tokens - 1)
    said, band = [], None
    if before.machine.calibration is not None:
        after = analyze(decode, device, ceilings=CALIBRATED)
        said = list(dict.fromkeys(line for one in (before, after) for line in view("calibrated_statements")(one)))
        parts, decoding = _measured(after, low, high)
        lows, highs = zip(decoding, *(one.analysis.band_exprs for one in (before.total, *beside)), strict=True)
        band = (Add(*lows), Add(*highs))
    else:
        times = _times(model, decode, device, of_phase["decode"], ceilings)
        parts = tuple(
            GenerationPart(int(first), int(last), piece.value, sum_over(piece.value, times.x, first, last))
            for piece, first, last in times.counts(low, high)
        )
    in_letters, where = _traffic(decode, device, low, high)
    if left := (before.total.time_expr + in_letters).free_symbols - {symbols.S, symbols.n}:
        raise InputError(f"{needed(left)} to follow a generation")
    return Generation(
        prompt,
        tokens,
        Add(before.total.time_expr, *(total.time_expr for total in beside)),
        Add(before.total.byte_count(), *(total.byte_count() for total in beside)),
        parts,
        substitute(in_letters, {symbols.S: Integer(prompt), symbols.n: Integer(tokens)}),
        in_letters,
        (
            *_both(before.step, decode),
            "prefill reads the S tokens of the prompt and yields the first token; decode step i of n - 1 has a context of S + i tokens",
            *where,
            *said,
        ),
        decode,
        device,
        tuple(techniques),
        band,
        _memory(before.step, drafts, decode, int(high), device),
    )


def _memory(prefill: Step, drafts: Sequence[Step], decode: Step, last: int, device: Device) -> dict[str, Fit]:
    """The memory of a device that both phases need, including weights and cache of a draft model."""
    phases = {"prefill": (prefill, drafts)}
    if last > int(prefill.values[symbols.s]):
        phases["decode"] = (replace(decode, values={**decode.values, symbols.t: Integer(last)}), [])
    try:
        return {phase: fit_of(step, device, beside) for phase, (step, beside) in phases.items()}
    except InputError:
        return {}


def draft_prompts(prefill: Step, techniques: Sequence[Technique]) -> list[Step]:
    """Further steps that read the prompt, such as a draft model's, each after the techniques that follow its own."""
    return [
        step.apply(*(later for later in techniques[place:] if "prefill" in later.phases))
        for place, technique in enumerate(techniques)
        for step in technique.prefills(prefill)
    ]


def require_generation(model: Model) -> None:
    """Raise an InputError if a model does not read a prompt and go on with it."""
    if not model.architecture.generative:
        raise InputError(f"{model.name} generates no tokens: it is not a language model")
    if model.architecture.encodes:
        raise InputError(
            f"{model.name} has an encoder that reads the prompt, and its decoder begins with none: ask for its steps one by one"
        )


def _both(prefill: Step, decode: Step) -> Iterator[str]:
    """The statements of both phases; statements of a single phase are prefixed with it, except the convention of the phase."""
    said = {one.text for one in (*prefill.symbolic.conventions, *decode.symbolic.conventions) if one.key == "phase"}
    for line in dict.fromkeys((*prefill.statements, *decode.statements)):
        shared = line in said or (line in prefill.statements and line in decode.statements)
        phase = "prefill" if line in prefill.statements else "decode"
        yield line if shared else f"{phase}: {line}"


def _times(model: Model, decode: Step, device: Device, techniques: Sequence[Technique], ceilings: str) -> Piecewise:
    """The time of a generated token over the context; constant if only recurrent states are stored."""
    if occurs(decode, costs(decode, TOTAL), symbols.t):
        return regimes(decode, over="seq_len", hardware=device, ceilings=ceilings).times
    step = model.step(replace(decode.options, seq_len=1)).apply(*techniques)
    analysis = analyze(step, device, ceilings=ceilings)
    return piecewise(symbols.t, [(1, oo, analysis.total.time_expr / analysis.graph.tokens, None)])


def _measured(analysis: Analysis, low: Expr, high: Expr) -> tuple[tuple[GenerationPart, ...], tuple[Expr, Expr]]:
    """The decode steps of calibrated kernels and their band; every step is evaluated, because their times have no closed-form sum."""
    if high < low:
        return (), (S.Zero, S.Zero)
    contexts = np.arange(int(low), int(high) + 1, dtype=float)

    def summed(formula: Expr) -> Expr:
        if left := formula.free_symbols - {symbols.t}:
            raise InputError(f"{needed(left)} to follow a generation")
        return Float(float(np.sum(evaluated(formula, {symbols.t: contexts}, len(contexts)))))

    time, *ends = (one / analysis.graph.tokens for one in (analysis.total.time_expr, *analysis.band_exprs))
    return (GenerationPart(int(low), int(high), time, summed(time)),), (summed(ends[0]), summed(ends[1]))


def _traffic(decode: Step, device: Device, low: Expr, high: Expr) -> tuple[Expr, list[str]]:
    """Bytes of all tokens after the first as a formula in S and n, summed over the branches of their contexts, and its conditions."""
    whole, values, t = costs(decode, TOTAL), known_values(decode, device, symbols.t), VOCABULARY[symbols.t]
    found = branches_over(decode, whole, t, values)
    moved = [(span, Add(*(cost.traffic for cost in on_branch(whole, span))) / decode.symbolic.tokens) for span in found]
    traffic = piecewise(t.symbol, [(span.low, span.high, substitute(moved, values), None) for span, moved in moved])
    sums = (
        sum_over(piece.value, t.symbol, symbols.S + 1 if first == low else first, symbols.S + symbols.n - 1 if last >= high else last)
        for piece, first, last in traffic.counts(low, max(low, high))
    )
    where = [
        f"S + n - 1 <= {one.high}" if high <= one.high else f"S >= {one.high}" if low > one.high else f"S <= {one.high} <= S + n - 1"
        for one in found[:-1]
    ]
    return Add(*sums).expand(), [f"the formula of decode traffic is for {one}" for one in where]
