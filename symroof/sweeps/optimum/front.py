"""The points that no other beats, in one score or two: of equals the first; where floats are too close, in fractions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from symroof.sweeps.optimum.intervals import ROUNDING, Real

if TYPE_CHECKING:
    from symroof.sweeps.optimum.space import Box, Space

THINNED = 64
"""One point in so many is looked at first: most of the others are worse than one of these."""


def front(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The places of the points that no other beats in one score without losing in the other; of equals the first.

    >>> front([np.array([1.0, 2.0, 3.0, 1.0]), np.array([5.0, 6.0, 2.0, 5.0])]).tolist()
    [0, 2]
    >>> front([np.array([3.0, 1.0, 1.0])]).tolist()
    [1]
    """
    if len(scores) == 1:
        return np.array([np.argmin(scores[0])] if scores[0].size else [], dtype=np.intp)
    x, y = scores
    places = np.arange(x.size)
    if x.size > THINNED * THINNED:
        sample = places[::THINNED]
        pivots = sample[_front(x[sample], y[sample])]
        rank = np.searchsorted(x[pivots], x, side="right") - 1
        beaten = (rank >= 0) & (y > y[pivots][rank])
        places = np.flatnonzero(~beaten)
    return places[_front(x[places], y[places])]


def _front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    order = np.lexsort((np.arange(x.size), y, x))
    least = np.minimum.accumulate(y[order])
    ahead = np.ones(order.size, dtype=bool)
    ahead[1:] = y[order][1:] < least[:-1]
    return order[ahead]


class Front:
    """The best points known so far, in rising order of the first score."""

    def __init__(self, spaces: Sequence[Space], objectives: int) -> None:
        self.spaces = spaces
        self.place = np.zeros(0, dtype=np.int64)
        self.low = np.zeros((0, len(spaces[0].sizes)), dtype=np.int64)
        self.scores = np.zeros((0, objectives), dtype=Real)

    def __len__(self) -> int:
        return len(self.place)

    def __iter__(self) -> Iterator[Box]:
        for place, low in zip(self.place.tolist(), self.low.tolist(), strict=True):
            yield place, tuple(low), tuple(low)

    def add(self, place: np.ndarray, low: np.ndarray, scores: np.ndarray) -> None:
        """Points that satisfy the condition; those that others beat go."""
        scores, place, low = np.concatenate([self.scores, scores]), np.concatenate([self.place, place]), np.concatenate([self.low, low])
        if not len(scores):
            return
        if scores.shape[1] == 1:
            least = scores.min()
            close = np.flatnonzero(scores[:, 0] <= least + 2 * ROUNDING * abs(least))
            kept = np.array([min(close.tolist(), key=lambda row: self._ranked(place, low, row))]) if len(close) > 1 else close
        else:
            kept = self._settled(place, low, scores)
        self.place, self.low, self.scores = place[kept], low[kept], scores[kept]

    def _settled(self, place: np.ndarray, low: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The front of two scores: neighbours that are close in one of them are compared in fractions."""
        in_grid = [order[low[:, at]] for at, order in enumerate(self.spaces[0].places)]
        first = np.lexsort((*reversed(in_grid), place))
        rows = first[front([*scores[first].T])]
        close = (abs(np.diff(scores[rows], axis=0)) <= 2 * ROUNDING * abs(scores[rows[1:]])).any(axis=1)
        close &= np.maximum(rows[1:], rows[:-1]) >= len(self)  # two old ones have been compared
        kept: list[int] = []
        for run in np.split(rows, np.flatnonzero(~close) + 1):
            kept += self._compared(place, low, run) if len(run) > 1 else run.tolist()
        return np.array(kept, dtype=np.int64)

    def _compared(self, place: np.ndarray, low: np.ndarray, rows: np.ndarray) -> list[int]:
        """Neighbours that are close, compared in fractions."""
        kept: list[tuple[Ranked, int]] = []
        for row in rows.tolist():
            new = self._ranked(place, low, row)
            while kept and _ahead(new, kept[-1][0]):
                kept.pop()
            if not kept or not _ahead(kept[-1][0], new):
                kept.append((new, row))
        return [row for _, row in kept]

    def _ranked(self, place: np.ndarray, low: np.ndarray, row: int) -> Ranked:
        """Scores of a point in fractions, and its number."""
        point = tuple(low[row].tolist())
        space = self.spaces[place[row]]
        return space.exactly(point, point)[1], (int(place[row]), space.number(point, point))

    def beats(self, place: np.ndarray, low: np.ndarray, high: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Of boxes whose scores are at least these: whether a known point is as good as theirs, and better or earlier in the grid."""
        if not len(self) or not len(scores):
            return np.zeros(len(scores), dtype=bool)
        margin = 2 * ROUNDING * np.where(np.isfinite(scores), abs(scores), 0)
        rank = np.searchsorted(self.scores[:, 0], scores[:, 0] + margin[:, 0], side="right") - 1
        near = (rank >= 0) & (self.scores[rank] <= scores + margin).all(axis=1)
        sure = near & (self.scores[rank] < scores - margin).all(axis=1)
        for row in np.flatnonzero(near & ~sure):
            first, last = tuple(low[row].tolist()), tuple(high[row].tolist())
            space = self.spaces[place[row]]
            box = (space.exactly(first, last)[1], (int(place[row]), space.number(first, last)))
            several = range(int(rank[row]), max(int(rank[row]) - 2, -1), -1)
            sure[row] = any(_ahead(self._ranked(self.place, self.low, at), box) for at in several)
        return sure


Ranked = tuple[tuple[Fraction, ...], tuple[int, int]]
"""Scores, and the number of a point in the grid, after that of its scenario."""


def _ahead(one: Ranked, other: Ranked) -> bool:
    """Whether a point is as good as another in every score, and better in one, or earlier."""
    return all(mine <= theirs for mine, theirs in zip(one[0], other[0], strict=True)) and (one[0] != other[0] or one[1] < other[1])
