"""How far ahead to draft: the best whole length of speculative decoding, and where no length pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sympy import Expr, Integer, Rational, Symbol

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.payoff import Payoff, payoff
from symroof.questions.regimes import timeline
from symroof.roof.ledger import require_device
from symroof.symbols import VOCABULARY
from symroof.techniques.decoding.speculative import Speculative

LONGEST = 1024


@dataclass(frozen=True)
class BestLength:
    """The length with the least time per token, with the proof that none is better.

    Attributes
    ----------
    length : in whole tokens; 0 where plain decoding is at least as fast as any.
    time, plain : seconds per token with it, and of plain decoding.
    proof : why no longer one is better.
    """

    length: int
    time: Expr
    plain: Expr
    proof: str

    @property
    def speedup(self) -> Expr:
        """Time of plain decoding over time with this length, exactly."""
        return self.plain / self.time


def best_length(step: Step, technique: Speculative, hardware: Device | str | Path, *, ceilings: str = STATED) -> BestLength:
    """The whole draft length with the least time per completed token, by exact search.

    A step that drafts gamma tokens takes T(gamma), which does not fall with gamma, and completes ``N < 1 / (1 - alpha)``.
    So no length from gamma on is better than the best so far once ``(1 - alpha) T(gamma)`` is no less. With every token
    accepted, where T is convex (no experts) and N is a line, ``T / N`` that has risen once never falls again.

    Parameters
    ----------
    step : a decode step in numbers.
    technique : with its acceptance in numbers and its length left out.

    Raises
    ------
    InputError
        The acceptance is a symbol, the length a number, or no length up to 1024 is proved best.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> best = best_length(step, symroof.technique("speculative:acceptance=0.8,draft_cost=0.05"), "a100-sxm-80gb")
    >>> best.length, round(float(best.speedup), 2)
    (8, 3.07)
    """
    if technique.length != symbols.gamma:
        raise InputError(f"speculative: length {technique.length} is given; leave it out to ask for the best")
    if not isinstance(technique.acceptance, Rational):
        raise InputError("speculative: the best length needs acceptance as a number")
    accepted = Rational(technique.acceptance)
    seconds, convex = _seconds(step, technique, hardware, ceilings)
    plain = _timed(step, hardware, ceilings)(Integer(1))
    best, at, before = plain, 0, plain
    tokens: Expr = Integer(1)
    for length in range(1, LONGEST + 1):
        tokens += accepted**length
        whole = seconds(Integer(length))
        per_token = whole / tokens
        if per_token < best:
            best, at = per_token, length
        if (1 - accepted) * whole >= best:
            return BestLength(
                at, best, plain, "from there on a step takes longer than 1/(1 - alpha) tokens at the best, and completes fewer"
            )
        if accepted == 1 and convex and per_token > before:
            return BestLength(at, best, plain, "its time is convex in the length, and its time per token has risen")
        before = per_token
    raise InputError(f"speculative: no length up to {LONGEST} is proved best with acceptance {accepted}")


def least_acceptance(step: Step, technique: Speculative, hardware: Device | str | Path, *, ceilings: str = STATED) -> Expr:
    """The acceptance above which some length pays: ``T(1) / T(0) - 1``; 1 or more where none does.

    T is convex in gamma and N concave, so ``T / N`` falls first if it ever falls below its value at 0.

    Raises
    ------
    InputError
        The model has experts, or the draft a window: their number saturates, and T is not convex.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> round(float(least_acceptance(step, symroof.technique("speculative:draft_cost=0.05"), "a100-sxm-80gb")), 4)
    0.0647
    """
    seconds, _ = _seconds(step, technique, hardware, ceilings)
    _require_convex(step.apply(technique))
    return seconds(Integer(1)) / _timed(step, hardware, ceilings)(Integer(1)) - 1


def pays_at_all(
    step: Step, technique: Speculative, hardware: Device | str | Path, *, over: str | Symbol = "batch", ceilings: str = STATED
) -> Payoff:
    """Where some draft length pays, over a variable: where a length of one does; see `least_acceptance`.

    Raises
    ------
    InputError
        What a step touches saturates with the length, as with experts.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> found = pays_at_all(step, symroof.technique("speculative:acceptance=0.7,draft_cost=0.1"), "a100-sxm-80gb")
    >>> found.sentence
    'faster for batch < 143.1; slower above'
    """
    _require_convex(step.apply(technique))
    return payoff(step, step.apply(replace(technique, length=1)), over=over, hardware=hardware, ceilings=ceilings)


def _seconds(step: Step, technique: Speculative, hardware: Device | str | Path, ceilings: str) -> tuple[Callable[[Expr], Expr], bool]:
    """Seconds of a whole step by draft length, and whether they are convex in it."""
    after = step.apply(technique)
    whole = replace(after, symbolic=replace(after.symbolic, tokens=Integer(1)))
    return _timed(whole, hardware, ceilings), _is_convex(after)


def _is_convex(step: Step) -> bool:
    """Whether nothing saturates over the length: then every FLOP and byte count is a convex polynomial in it, and so is their maximum."""
    return not any(symbols.gamma in meant.free_symbols for meant in step.symbolic.definitions.values())


def _require_convex(step: Step) -> None:
    if not _is_convex(step):
        raise InputError(
            "speculative: what a step touches saturates with the length: a longer draft may pay where a shorter does not; give a length"
        )


def _timed(step: Step, hardware: Device | str | Path, ceilings: str) -> Callable[[Expr], Expr]:
    device = require_device(hardware, "the best length is told in numbers")
    try:
        return timeline(step, VOCABULARY[symbols.gamma], device, ceilings=ceilings)
    except InputError:
        if _is_convex(step):
            raise

    def at(length: Expr) -> Expr:
        """It counts blocks: every length for itself."""
        drafted = {symbols.gamma: length}
        return _timed(replace(step, symbolic=step.symbolic.bind(drafted), values={**step.values, **drafted}), device, ceilings)(length)

    return at
