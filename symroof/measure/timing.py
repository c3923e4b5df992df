"""Timing of calls, and the spread of measurements over repeats."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Call = Callable[[], object]
Clock = Callable[[], float]

NOISY = 0.1
"""The interquartile range over the median beyond which a measurement is noisy."""

MOST_CALLS = 1_000_000


@dataclass(frozen=True)
class Spread:
    """Repeats of one measurement, times or rates: the best, quartiles and median.

    Attributes
    ----------
    best : the least time, or the highest rate.
    runs : the number of repeats.

    >>> Spread.of([2.0, 1.0, 3.0]).rate(6.0)
    Spread(best=6.0, lower=2.4, median=3.0, upper=4.0, runs=3)
    """

    best: float
    lower: float
    median: float
    upper: float
    runs: int

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        """The spread of times."""
        lower, median, upper = (float(one) for one in np.quantile(times, (0.25, 0.5, 0.75)))
        return cls(float(min(times)), lower, median, upper, len(times))

    def rate(self, amount: float) -> Spread:
        """The spread of the rate *amount* over these times."""
        return Spread(amount / self.best, amount / self.upper, amount / self.median, amount / self.lower, self.runs)

    @property
    def noise(self) -> float:
        """The interquartile range over the median."""
        return (self.upper - self.lower) / self.median


def calls_for(run: Call, clock: Clock, least: float) -> int:
    """The number of calls that take at least *least* seconds together; the first call is a warm-up."""
    run()
    count = 1
    while True:
        taken = elapsed(run, clock, count)
        if taken >= least or count >= MOST_CALLS:
            return count
        wanted = math.ceil(1.2 * count * least / taken) if taken > 0 else 10 * count
        count = min(max(wanted, 2 * count), 10 * count, MOST_CALLS)


def elapsed(run: Call, clock: Clock, count: int) -> float:
    """Seconds of *count* calls in succession."""
    start = clock()
    for _ in range(count):
        run()
    return clock() - start


def timed(calls: Mapping[Hashable, Call], clock: Clock, repeat: int, least: float) -> dict[Hashable, Spread]:
    """Seconds per call of each, timed *repeat* times in rounds over all calls, so that slow drift affects all alike.

    Parameters
    ----------
    least : least seconds per timing; short calls are repeated within it.

    >>> now = iter(range(100))
    >>> timed({"call": lambda: None}, lambda: next(now), repeat=2, least=1)["call"].median
    1.0
    """
    counts = {key: calls_for(run, clock, least) for key, run in calls.items()}
    times: dict[Hashable, list[float]] = {key: [] for key in calls}
    for _ in range(repeat):
        for key, run in calls.items():
            times[key].append(elapsed(run, clock, counts[key]) / counts[key])
    return {key: Spread.of(taken) for key, taken in times.items()}
