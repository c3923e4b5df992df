"""Speculative decoding: the best draft length, and where no length is faster."""

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
from symroof.notation import Brief
from symroof.questions.payoff import Payoff, payoff
from symroof.questions.regimes import timeline
from symroof.roof.ledger import require_device
from symroof.symbols import VOCABULARY
from symroof.techniques.decoding.speculative import Speculative
from symroof.units import COUNT, SECOND, Quantity, in_unit, quantity

LONGEST = 1024


@dataclass(frozen=True)
class BestLength(Brief):
    """The length with the least time per token, with the proof that none is better.

    Attributes
    ----------
    length : the best length in tokens; 0 if plain decoding is at least as fast as any.
    time_expr, plain_expr : seconds per token with this length, and of plain decoding, bare.
    proof : why no longer length is better.
    """

    length: int
    time_expr: Expr
    plain_expr: Expr
    proof: str

    time = in_unit(lambda best: best.time_expr, SECOND, "Time per token with it, as a Quantity in seconds.")
    plain = in_unit(lambda best: best.plain_expr, SECOND, "Time per token of plain decoding, as a Quantity in seconds.")
    speedup = in_unit(lambda best: best.speedup_expr, COUNT, "`speedup_expr`, as a Quantity without a unit.")

    @property
    def speedup_expr(self) -> Expr:
        """Time of plain decoding over time with this length, exact and bare."""
        return self.plain_expr / self.time_expr


def best_length(step: Step, technique: Speculative, hardware: Device | str | Path, *, ceilings: str = STATED) -> BestLength:
    """The draft length with the least time per completed token, by exact search.

    A step that drafts gamma tokens takes T(gamma), which does not fall with gamma, and completes ``N < 1 / (1 - alpha)``
    tokens. So lengths from gamma are no better than the best so far once ``(1 - alpha) T(gamma)`` is at least its time per
    token. If every token is accepted, T is convex (no experts) and N linear, so ``T / N`` never falls again after it has risen.

    Parameters
    ----------
    step : a numeric decode step.
    technique : speculative decoding with a numeric acceptance and without a length.

    Raises
    ------
    InputError
        The acceptance is a symbol, the length a number, or no length up to 1024 is proved best.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> best = best_length(step, symroof.technique("speculative:acceptance=0.8,draft_cost=0.05"), "a100-sxm-80gb")
    >>> best.length, f"{best.speedup:.3g}"
    (8, '3.07')
    """
    if technique.length != symbols.gamma:
        raise InputError(f"speculative: length {technique.length} is given; omit it to find the best")
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
                at, best, plain, "longer lengths take more time than 1/(1 - alpha) tokens at the best length, and complete fewer"
            )
        if accepted == 1 and convex and per_token > before:
            return BestLength(at, best, plain, "its time is convex in the length, and its time per token has risen")
        before = per_token
    raise InputError(f"speculative: no length up to {LONGEST} is proved best with acceptance {accepted}")


def least_acceptance(step: Step, technique: Speculative, hardware: Device | str | Path, *, ceilings: str = STATED) -> Quantity:
    """The acceptance above which some length is faster: ``T(1) / T(0) - 1``; 1 or more if none is.

    T is convex in gamma and N concave, so ``T / N`` falls first if it ever falls below its value at 0.

    Raises
    ------
    InputError
        The model has experts, or the draft a window, so T is not convex.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> print(least_acceptance(step, symroof.technique("speculative:draft_cost=0.05"), "a100-sxm-80gb"))
    0.06471
    """
    seconds, _ = _seconds(step, technique, hardware, ceilings)
    _require_convex(step.apply(technique))
    return quantity(seconds(Integer(1)) / _timed(step, hardware, ceilings)(Integer(1)) - 1, COUNT)


def pays_at_all(
    step: Step, technique: Speculative, hardware: Device | str | Path, *, over: str | Symbol = "batch", ceilings: str = STATED
) -> Payoff:
    """Where some draft length is faster, over a variable; equivalent to a length of 1, see `least_acceptance`.

    Raises
    ------
    InputError
        The number of experts or the window saturates with the length.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> found = pays_at_all(step, symroof.technique("speculative:acceptance=0.7,draft_cost=0.1"), "a100-sxm-80gb")
    >>> found.sentence
    'faster for batch < 143.1; slower above'
    """
    _require_convex(step.apply(technique))
    return payoff(step, step.apply(replace(technique, length=1)), over=over, hardware=hardware, ceilings=ceilings)


def _seconds(step: Step, technique: Speculative, hardware: Device | str | Path, ceilings: str) -> tuple[Callable[[Expr], Expr], bool]:
    """A function for the seconds of a step by draft length, and whether it is convex."""
    after = step.apply(technique)
    whole = replace(after, symbolic=replace(after.symbolic, tokens=Integer(1)))
    return _timed(whole, hardware, ceilings), _is_convex(after)


def _is_convex(step: Step) -> bool:
    """Whether nothing saturates over the length; then every FLOP and byte count is a convex polynomial in it, and the maximum is convex."""
    return not any(symbols.gamma in meant.free_symbols for meant in step.symbolic.definitions.values())


def _require_convex(step: Step) -> None:
    if not _is_convex(step):
        raise InputError(
            "speculative: experts or windows saturate with the length: longer drafts may be faster when shorter ones are not; set length"
        )


def _timed(step: Step, hardware: Device | str | Path, ceilings: str) -> Callable[[Expr], Expr]:
    device = require_device(hardware, "the best length is numeric")
    try:
        return timeline(step, VOCABULARY[symbols.gamma], device, ceilings=ceilings)
    except InputError:
        if _is_convex(step):
            raise

    def at(length: Expr) -> Expr:
        """The time at one length, for steps that count blocks."""
        drafted = {symbols.gamma: length}
        return _timed(replace(step, symbolic=step.symbolic.bind(drafted), values={**step.values, **drafted}), device, ceilings)(length)

    return at
