"""A device that requests share: how many are in it, under Poisson arrivals.

With k requests in a batch, each gets a token every ``y(k)`` seconds, so the device completes ``k / (N y(k))`` requests of N
decode tokens a second: processor sharing at a rate that depends on the number. The stationary probabilities are products,

``pi(k) = pi(0) prod_{j = 1..k} lambda N y(j) / j``,

whatever the distribution of the lengths (Cohen, 1979, doi:10.1007/BF00264026). Where ``y(j) = C1 + C2 j`` they are a negative
binomial with mean ``lambda N (C1 + C2) / (1 - lambda N C2)``. Beyond the largest batch requests wait, and the factor is that of
the largest batch; there it holds for lengths that are geometric.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from sympy import Expr, Float, Integer, S

from symroof.algebra.piecewise import Piecewise
from symroof.answers import Answer
from symroof.calibration.prediction import evaluated
from symroof.errors import InputError, quote
from symroof.units import COUNT, SECOND, in_unit, number, quantity

TAIL = 1e-13
"""The probability beyond which larger numbers of requests are left out."""
MOST = 2**22
"""The largest number of requests considered."""


@dataclass(frozen=True)
class Sharing(Answer):
    """The number of requests in a device that they share, and the time of a token, as random variables; in floats.

    Attributes
    ----------
    model : what percentiles are of.
    largest_batch : requests beyond it wait; None where every batch fits.
    """

    offered_expr: Expr = field(repr=False)
    times: Piecewise = field(repr=False, compare=False)
    largest_batch: int | None = None
    model: str = "processor sharing, Poisson arrivals"

    @cached_property
    def _probabilities(self) -> np.ndarray:
        """The probability of k requests in the device, k from 0, but for a tail below `TAIL`."""
        count = 1024
        while count <= MOST:
            logs = np.concatenate(([0.0], np.cumsum(np.log(self._factors(count)))))
            weights = np.exp(logs - logs.max())
            last = self._factors(count)[-1]
            if last < 1 and weights[-1] * last / (1 - last) < TAIL * weights.sum():
                return weights / weights.sum()
            count *= 4
        raise InputError(f"more than {MOST} requests at once: the rate is too near saturation for percentiles")

    def probability(self, requests: int) -> Any:
        """The probability of so many requests in the device, as a Quantity without a unit."""
        inside = 0 <= requests < len(self._probabilities)
        return quantity(Float(float(self._probabilities[requests]) if inside else 0.0), COUNT)

    def _factors(self, count: int) -> np.ndarray:
        """Lambda N y(j) / j for j from 1; beyond the largest batch that of the largest batch."""
        batches = np.minimum(np.arange(1, count + 1, dtype=float), self.largest_batch or np.inf)
        return float(self.offered_expr) * self.token_times(batches) / batches

    def token_times(self, batches: np.ndarray) -> np.ndarray:
        """Seconds between two tokens of a request at every batch."""
        seconds = np.empty(len(batches))
        for piece in self.times.pieces:
            inside = (batches >= float(piece.low)) & (batches <= float(piece.high))
            seconds[inside] = evaluated(piece.value, {self.times.x: batches[inside]}, int(inside.sum()))
        return seconds

    @property
    def mean_expr(self) -> Expr:
        """Mean number of requests in the device, those that wait for a place included, bare."""
        return Float(float(self._probabilities @ np.arange(len(self._probabilities))))

    @property
    def waiting_expr(self) -> Expr:
        """Mean number of requests that wait for a place, bare."""
        beyond = np.arange(len(self._probabilities)) - (self.largest_batch or np.inf)
        mean = float(self._probabilities @ np.maximum(beyond, 0))
        return Float(mean) if mean > TAIL else S.Zero

    @property
    def idle_expr(self) -> Expr:
        """Share of the time without a request, bare."""
        return Float(float(self._probabilities[0]))

    def batch_percentile(self, share: Any) -> int:
        """The batch that a token's step does not exceed with this probability.

        A token sees the requests that an arrival sees, itself added.
        """
        wanted = float(number(share, COUNT, "share"))
        if not 0 < wanted < 1:
            raise InputError(f"share {quote(str(share))}: expected a number between 0 and 1")
        seen = 1 + int(np.searchsorted(np.cumsum(self._probabilities), wanted))
        return min(seen, self.largest_batch or seen)

    def token_time_percentile(self, share: Any) -> Any:
        """The time of a token that is not exceeded with this probability, as a Quantity in seconds."""
        return quantity(Float(float(self.token_times(np.array([float(self.batch_percentile(share))]))[0])), SECOND)

    mean = in_unit(lambda shared: shared.mean_expr, COUNT, "Mean number of requests in the device, as a Quantity.")
    waiting = in_unit(lambda shared: shared.waiting_expr, COUNT, "Mean number of requests that wait for a place, as a Quantity.")
    idle = in_unit(lambda shared: shared.idle_expr, COUNT, "Share of the time without a request, as a Quantity.")


def resident_context(prompt: Expr, output: Expr, variance: Expr = S.Zero) -> Expr:
    """The mean context of the sequences in a batch, ``S + (N + 1 + var / N) / 2`` with N = n - 1 decode steps.

    A sequence of N steps reads contexts S + 1 to S + N; over all steps the mean is ``S + E[N (N + 1)] / (2 E[N])``.

    >>> resident_context(Integer(100), Integer(5)), sum((101, 102, 103, 104)) / 4
    (205/2, 102.5)
    """
    steps = output - 1
    return prompt + (steps + 1 + variance / steps) / 2


def first_batch(times: Piecewise, offered: Expr) -> Expr:
    """The smallest batch with ``b = offered y(b)``, exact.

    Raises
    ------
    InputError
        There is none.
    """
    x = times.x
    spare = times.map(lambda time: x - offered * time).signs(below="short", above="enough")
    found = [piece.low for piece in spare.pieces if piece.label == "enough"]
    if not found:
        raise InputError("no batch completes that many tokens a second")
    return found[0]


def negative_binomial_mean(offered: Expr, intercept: Expr, slope: Expr) -> Expr:
    """The mean number of requests where a token takes ``C1 + C2 k`` at batch k: ``a (C1 + C2) / (1 - a C2)``, a the tokens a second.

    >>> from sympy.abc import a, x, y
    >>> negative_binomial_mean(a, x, y)
    a*(x + y)/(-a*y + 1)
    """
    return offered * (intercept + slope) / (Integer(1) - offered * slope)
