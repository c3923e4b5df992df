"""The points of one scenario as boxes, with bounds of what is asked of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from symroof.sweeps.filter import Condition
from symroof.sweeps.grid import Scenario
from symroof.sweeps.inputs import Axis
from symroof.sweeps.metrics import METRICS, TOTAL
from symroof.sweeps.optimum.intervals import Interval, Real, Truth, bounds, whole

PASSES, PROBES = 3, 40
"""How often the ends of the axes are trimmed, and lengths that are looked at together."""

Box = tuple[int, tuple[int, ...], tuple[int, ...]]
"""A scenario, and the first and last place along every axis, in rising order of its values."""


Ends = tuple[list[int], list[int]]
"""The first and last places of a box in a known scenario."""


class Space:
    """The points of one scenario as boxes over the rising values of each axis, with bounds of what is asked."""

    def __init__(self, scenario: Scenario, axes: Sequence[Axis], signs: Mapping[str, int], condition: Condition | None) -> None:
        self.scenario, self.signs, self.condition = scenario, signs, condition
        self.program = scenario.programs[TOTAL]
        self.names = tuple(axis.name for axis in axes)
        self.places = tuple(np.argsort(axis.values, kind="stable") for axis in axes)
        self.values = tuple(axis.values[order] for axis, order in zip(axes, self.places, strict=True))
        self.rising = tuple(bool((np.diff(order) > 0).all()) for order in self.places)
        self.sizes = tuple(map(len, self.values))
        self.exactly = functools.lru_cache(maxsize=1 << 16)(self._exactly)

    def __repr__(self) -> str:
        return f"<Space {' x '.join(f'{size} {name}' for size, name in zip(self.sizes, self.names, strict=True))}>"

    def bounded(self, low: np.ndarray, high: np.ndarray) -> tuple[Truth, np.ndarray]:
        """Of boxes, a row each: the condition, and for every objective the least that a score may be."""
        given = {
            name: Interval(values[low[:, at]].astype(Real), values[high[:, at]].astype(Real))
            for at, (name, values) in enumerate(zip(self.names, self.values, strict=True))
        }
        truth, scores = self._asked(given, self._peaks(low, high), exact=False)
        always, possible = (np.broadcast_to(np.asarray(side, dtype=bool), len(low)) for side in (truth.always, truth.possible))
        least = np.stack([np.broadcast_to(one, len(low)) for one in scores], axis=-1)
        return Truth(always, possible), np.where(np.isnan(least), -np.inf, least)

    def _exactly(self, low: tuple[int, ...], high: tuple[int, ...]) -> tuple[Truth, tuple[Fraction, ...]]:
        """The same of one box, in fractions."""
        ends = zip(self.names, self.values, low, high, strict=True)
        given = {name: Interval(whole(values[first]), whole(values[last])) for name, values, first, last in ends}
        rows = (np.array([low]), np.array([high]))
        peaks = {letter: Interval(whole(one.low[0]), whole(one.high[0])) for letter, one in self._peaks(*rows).items()}
        truth, scores = self._asked(given, peaks, exact=True)
        return Truth(bool(truth.always), bool(truth.possible)), tuple(scores)

    def _asked(self, given: dict[str, Interval], peaks: dict[str, Interval], *, exact: bool) -> tuple[Truth, list[Any]]:
        constants = {letter: whole(value) if exact else Real(value) for letter, value in self.scenario.constants.items()}
        inputs: dict[str, Any] = {**constants, **{self.scenario.letters[name]: one for name, one in given.items()}, **peaks}
        outputs = iter(bounds(self.program, inputs, exact=exact))
        values: dict[str, Any] = {**given}
        for name in self.scenario.metrics:
            metric = METRICS[name]
            operands = [next(outputs) for _ in (metric.formulas if metric.words else metric.formulas[:1])]
            values[name] = operands[0] if not metric.words else metric.value(*operands) if len(operands) == 2 else largest(operands)
        truth = self.condition(values) if self.condition else Truth(True, True)
        return truth, [values[name].low if sign > 0 else -values[name].high for name, sign in self.signs.items()]

    def _peaks(self, low: np.ndarray, high: np.ndarray) -> dict[str, Interval]:
        """The least and the largest peak over the widths of each box."""
        if not self.scenario.peaks:
            return {}
        at = [[*self.scenario.letters.values()].index(letter) for letter in self.scenario.widths]
        along = [[*self.names].index([*self.scenario.letters][place]) for place in at]
        corners, back = np.unique(np.hstack([low[:, along], high[:, along]]), axis=0, return_inverse=True)
        cuts = [tuple(slice(first, last + 1) for first, last in np.reshape(row, (2, -1)).T) for row in corners]
        ends = {
            letter: [np.array([pick(table[cut]) for cut in cuts])[np.ravel(back)] for pick in (np.min, np.max)]
            for letter, table in self.scenario.peaks.items()
        }
        return {letter: Interval(low, high) for letter, (low, high) in ends.items()}

    def number(self, low: Sequence[int], high: Sequence[int]) -> int:
        """The least number, in the order of the grid, of the points of a box."""
        first = 0
        for at, size in enumerate(self.sizes):
            place = low[at] if self.rising[at] else int(self.places[at][low[at] : high[at] + 1].min())
            first = first * size + int(place)
        return first

    @functools.cached_property
    def leaning(self) -> np.ndarray:
        """For every objective, along which axes it wants the high end, by the corners of the whole grid: a guess where to look first."""
        none = np.zeros((1, len(self.sizes)), dtype=np.int64)
        ends = none + np.diag([size - 1 for size in self.sizes])
        start, others = self.bounded(none, none)[1], self.bounded(ends, ends)[1]
        return (others < start).T

    def trimmed(self) -> tuple[Ends, list[Ends]]:
        """The whole grid as boxes: what the condition may leave of it, and the ends of each axis where it holds nowhere."""
        low, high = [0] * len(self.sizes), [size - 1 for size in self.sizes]
        outside: list[Ends] = []
        for _ in range(PASSES if self.condition else 0):
            cut = False
            for at, side, barren in self._barren(low, high):
                length = min(barren, high[at] - low[at])
                if length:
                    first, last, cut = [*low], [*high], True
                    if side:
                        first[at], high[at] = high[at] - length + 1, high[at] - length
                    else:
                        last[at], low[at] = low[at] + length - 1, low[at] + length
                    outside.append((first, last))
            if not cut:
                break
        return (low, high), outside

    def _barren(self, low: list[int], high: list[int]) -> Iterator[tuple[int, int, int]]:
        """For both ends of each axis, how many values hold nothing: the most are found by looking at several at once."""
        ends = [(at, side) for at in range(len(low)) for side in (0, 1)]
        known = {end: (0, high[end[0]] - low[end[0]] + 1) for end in ends}
        while rows := [
            (*end, int(length))
            for end, (none, some) in known.items()
            for length in np.unique(np.linspace(none + 1, some - 1, min(PROBES, some - none - 1)).astype(int))
        ]:
            firsts, lasts = np.tile(low, (len(rows), 1)), np.tile(high, (len(rows), 1))
            for row, (at, side, length) in enumerate(rows):
                if side:
                    firsts[row, at] = high[at] - length + 1
                else:
                    lasts[row, at] = low[at] + length - 1
            possible = self.bounded(firsts, lasts)[0].possible
            for (at, side, length), can in zip(rows, possible.tolist(), strict=True):
                none, some = known[at, side]
                known[at, side] = (none, min(some, length)) if can else (max(none, length), some)
        yield from ((at, side, none) for (at, side), (none, _) in known.items())


def largest(seconds: Sequence[Interval]) -> Interval:
    """The place of the largest, as `symroof.sweeps.metrics.largest` counts it: the least and the most that it may be."""
    from symroof.sweeps import metrics

    if all(one.error == 0 and np.all(one.low == one.high) for one in seconds):
        place = metrics.largest(*(one.low for one in seconds))
        return Interval(place, place)
    lows = [np.asarray(one.low) for one in seconds]
    highs = [np.asarray(one.high + one.error * one.high) for one in seconds]
    others = [functools.reduce(np.maximum, [low for at, low in enumerate(lows) if at != place]) for place in range(len(seconds))]
    strict = [not place and not one.error for place, one in enumerate(seconds)]  # of equals memory, the first, is not the one that binds
    can = np.array(
        np.broadcast_arrays(*(high > low if more else high >= low for high, low, more in zip(highs, others, strict, strict=True)))
    )
    count = len(seconds)
    return Interval(np.argmax(can, axis=0)[()], (count - 1 - np.argmax(can[::-1], axis=0))[()])
