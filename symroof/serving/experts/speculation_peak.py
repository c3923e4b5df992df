"""Speculation in sparse models: the batch with the largest speedup, where it rises and falls, and where it exceeds a dense model's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import mul
from pathlib import Path
from typing import Any, cast

from sympy import Expr, ceiling, floor, oo

from symroof.algebra.piecewise import Piecewise
from symroof.algebra.reals import order
from symroof.algebra.univariate import limit
from symroof.answers import Answer, Intervals, intervals
from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.payoff import Payoff, payoff
from symroof.techniques.decoding.speculative import Speculative
from symroof.units import COUNT, in_unit

RISES, FALLS, LEVEL = "rises", "falls", "stays"
SPARSE, DENSE, EQUAL = "more than dense", "less than dense", "as dense"


@dataclass(frozen=True)
class SpeculationPeak(Answer):
    """The speedup of speculative decoding over the batch: where it rises and falls, and its maximum, exact.

    Attributes
    ----------
    payoff : the times per token before and after, over the batch.
    slope : the sign of the speedup's derivative, labelled "rises", "falls" or "stays".
    place_expr : the real batch of the largest speedup, bare; oo where it only tends to its supremum.
    batch : the whole batch of the largest speedup; None where it has no maximum.
    step, technique : what was asked about.
    dense : the same of a dense model, where one was given.
    """

    payoff: Payoff
    slope: Piecewise
    place_expr: Expr
    batch: int | None
    step: Step = field(repr=False, compare=False)
    technique: Speculative
    dense: Payoff | None = None

    place = in_unit(lambda peak: peak.place_expr, COUNT, "The real batch of the largest speedup, as a Quantity without a unit.")
    gain = in_unit(lambda peak: peak.gain_expr, COUNT, "`gain_expr`, as a Quantity without a unit.")

    @property
    def gain_expr(self) -> Expr:
        """The speedup at the whole batch, or the one that it tends to, exact and bare."""
        return _at_infinity(self.payoff) if self.batch is None else self.payoff.speedup_expr(self.batch)

    @property
    def trend(self) -> tuple[str, ...]:
        """The labels in order: ("falls",) for most dense models, ("falls", "rises", "falls") with a hump."""
        return tuple(map(str, self.slope.labels))

    @property
    def is_hump(self) -> bool:
        """Whether the speedup rises to its maximum and falls after it."""
        return self.batch is not None and order(self.slope.low, self.place_expr) < 0 and RISES in self.trend and self.trend[-1] == FALLS

    @cached_property
    def trends(self) -> Intervals:
        """The intervals of the batch on which the speedup rises and falls."""
        return intervals(self.payoff.over, self.slope.pieces)

    @cached_property
    def against_dense(self) -> Intervals | None:
        """The intervals on which the sparse model's speedup is above, and below, the dense one's; None without a dense model."""
        if self.dense is None:
            return None
        above, below = (
            reduce(_product, times) for times in ((self.payoff.before, self.dense.after), (self.payoff.after, self.dense.before))
        )
        return intervals(self.payoff.over, below.compare(above, (DENSE, SPARSE, EQUAL)).pieces)


def _product(one: Piecewise, other: Piecewise) -> Piecewise:
    return one.overlay(other, lambda left, right: cast(Expr, mul(left, right).expand()))


def speculation_peak(
    step: Step, technique: Speculative, hardware: Device | str | Path, *, dense: Step | None = None, ceilings: str = STATED
) -> SpeculationPeak:
    """The maximum of the speedup of speculative decoding over the batch, proved: no batch has more.

    A step of b sequences reads ``X(b) = E (1 - (1 - K/E)^b)`` experts, one that verifies g tokens ``X((g + 1) b)``. For few
    sequences both grow alike and there is little gain; where all experts are touched anyway they are read once for
    ``g + 1`` tokens; and where verification is compute-bound there is less again. So the speedup has a hump. On every piece of both times
    the speedup's derivative is a sum of polynomials times exponentials, whose roots are isolated with a proof
    (`symroof.algebra.isolation`); the whole batch is the best of the whole numbers beside these roots and the ends of pieces.

    Parameters
    ----------
    step : a decode step with numbers for all inputs but the batch, which is not used.
    technique : speculative decoding with numeric acceptance, length and cost, or a draft.
    dense : a step of a dense model, to compare the speedups; see `symroof.active_twin`.

    Raises
    ------
    InputError
        Another input is a symbol, or a formula counts blocks of the batch.

    >>> import symroof
    >>> step = symroof.load_model("qwen2-57b-a14b").decode(seq_len=512)
    >>> peak = speculation_peak(step, symroof.technique("speculative:acceptance=0.8,length=4,draft_cost=0.02"), "a100-sxm-80gb")
    >>> peak.batch, f"{peak.gain:.4g}", peak.trend
    (32, '2.987', ('falls', 'rises', 'falls'))

    Source: Huang et al. (2025), MoESD, arXiv:2505.19645, for the hump.
    """
    step = step.without("batch")
    asked: dict[str, Any] = {"over": "batch", "hardware": hardware, "ceilings": ceilings}
    found = payoff(step, step.apply(technique), **asked)
    other = None if dense is None else payoff(open_dense := dense.without("batch"), open_dense.apply(technique), **asked)
    x = found.over.symbol
    slope = found.before.overlay(found.after, lambda before, after: before.diff(x) * after - before * after.diff(x))
    signs = slope.signs(below=FALLS, above=RISES, zero=LEVEL)
    ends = [found.before.low, *signs.edges, *found.before.edges, *found.after.edges]
    whole = {near for end in ends for near in (floor(end), ceiling(end)) if order(found.before.low, near) <= 0}
    supremum = _at_infinity(found) if signs.labels[-1] == RISES else None
    batch = max(_best_first(found, whole), key=lambda one: one[0])
    place = _highest(found, ends)
    if supremum is not None and order(supremum, found.speedup_expr(place)) > 0:
        return SpeculationPeak(found, signs, oo, None, step, technique, other)
    return SpeculationPeak(found, signs, place, int(cast(Any, batch[1])), step, technique, other)


def _best_first(found: Payoff, whole: set[Expr]) -> Iterator[tuple[Expr, Expr]]:
    """The speedups at whole batches, small ones first, since the first of equals is taken."""
    return ((found.speedup_expr(batch), batch) for batch in sorted(whole))


def _highest(found: Payoff, points: list[Expr]) -> Expr:
    """The first point with the largest speedup."""
    return reduce(lambda best, one: one if order(found.speedup_expr(one), found.speedup_expr(best)) > 0 else best, points)


def _at_infinity(found: Payoff) -> Expr:
    """The limit of the speedup: both times grow with the batch, as every sequence reads its own cache or takes work."""
    x = found.over.symbol
    before, after = (limit((times.pieces[-1].value / x).expand(), x) for times in (found.before, found.after))
    return cast(Expr, before / after)
