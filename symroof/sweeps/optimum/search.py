"""The best points of a sweep by branch and bound: boxes of points are bounded, and only those that may hold a better one are split.

No point is left out on trust: every box that is not split is kept, with the reason, and `Certificate.check` goes through them
in fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symroof.errors import InputError
from symroof.sweeps.filter import Condition
from symroof.sweeps.grid import Sweep
from symroof.sweeps.optimum.certificate import Certificate
from symroof.sweeps.optimum.front import Front
from symroof.sweeps.optimum.intervals import Real
from symroof.sweeps.optimum.space import Box, Space

MOST_BOXES = 4_000_000
"""Boxes that are bounded before enumeration is the better way."""

FIRST, WIDEST = 4, 1 << 14
"""Boxes that are split at a time: few at first, until a good point is known."""


def optimum(bounding: Sweep, signs: Mapping[str, int], condition: Condition | None, *, most: int = MOST_BOXES) -> Certificate | None:
    """The best points and why there are no better ones; None where it takes more than *most* boxes.

    Parameters
    ----------
    bounding : the sweep, with programs that `symroof.sweeps.formulas.StepFormulas.bounding` makes.
    signs : of one or two objectives: 1 for least, -1 for largest.

    Raises
    ------
    UnprovableError
        A formula has no bounds over boxes.
    InputError
        A result is larger than a float64 can be.
    """
    spaces = tuple(Space(scenario, bounding.axes, signs, condition) for scenario in bounding.scenarios)
    known = Front(spaces, len(signs))
    scores = np.zeros((0, len(signs)), dtype=Real)
    waiting: list[tuple[_Boxes, np.ndarray]] = []
    trimmed = [space.trimmed() for space in spaces]
    live = _Boxes.of([(place, *kept) for place, (kept, _) in enumerate(trimmed)], len(bounding.axes))
    done = [_Boxes.of([(place, *box) for place, (_, outside) in enumerate(trimmed) for box in outside], len(bounding.axes))]
    width, bounded = FIRST, 0
    while len(live):
        bounded += len(live)
        if bounded > most:
            return None
        possible, scores = _bounded(spaces, live)
        done.append(live[~possible])
        live, scores = live[possible], scores[possible]
        points = _candidates(spaces, live, len(signs))
        bounded += len(points)
        holds, reached = _bounded(spaces, points)
        known.add(points.place[holds], points.low[holds], reached[holds])
        waiting.append((live, scores))
        live, scores = _Boxes.joined([one for one, _ in waiting]), np.concatenate([one for _, one in waiting])
        single = (live.low == live.high).all(axis=1)  # seen as candidates
        done.append(live[single])
        live, scores = live[~single], scores[~single]
        beaten = known.beats(live.place, live.low, live.high, scores)
        done.append(live[beaten])
        live, scores = live[~beaten], scores[~beaten]
        order = np.argsort(scores[:, 0], kind="stable") if len(signs) == 1 else np.arange(len(live))
        now, later = order[:width], order[width:]
        waiting = [(live[later], scores[later])]
        live = live[now].halves(spaces)
        width = min(2 * width, WIDEST)
    return Certificate(spaces, tuple(_Boxes.joined(done)), tuple(known), bounded)


@dataclass(frozen=True)
class _Boxes:
    """Boxes, a row each."""

    place: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, rows: Any) -> _Boxes:
        return _Boxes(self.place[rows], self.low[rows], self.high[rows])

    def __iter__(self) -> Iterator[Box]:
        for place, low, high in zip(self.place.tolist(), self.low.tolist(), self.high.tolist(), strict=True):
            yield place, tuple(low), tuple(high)

    @staticmethod
    def of(boxes: Sequence[tuple[int, list[int], list[int]]], axes: int) -> _Boxes:
        """Boxes over so many axes, given one by one."""
        place, low, high = zip(*boxes, strict=True) if boxes else ((), (), ())
        return _Boxes(np.array(place, dtype=np.int64), *(np.array(side, dtype=np.int64).reshape(-1, axes) for side in (low, high)))

    @staticmethod
    def joined(several: Sequence[_Boxes]) -> _Boxes:
        """All of them, one after the other."""
        return _Boxes(*(np.concatenate([getattr(one, name) for one in several]) for name in ("place", "low", "high")))

    def halves(self, spaces: Sequence[Space]) -> _Boxes:
        """Each cut in two along the axis that is widest, as a ratio of its ends, near their geometric mean."""
        if not len(self):
            return self
        values = spaces[0].values
        ends = [(axis[self.low[:, at]].astype(float), axis[self.high[:, at]].astype(float)) for at, axis in enumerate(values)]
        widest = np.argmax([np.where(self.high[:, at] > self.low[:, at], high / low, 0) for at, (low, high) in enumerate(ends)], axis=0)
        rows = np.arange(len(self))
        cut = np.empty(len(self), dtype=np.int64)
        for at, (low, high) in enumerate(ends):
            mine = widest == at
            cut[mine] = np.searchsorted(values[at], np.sqrt(low[mine] * high[mine]), side="right") - 1
        cut = np.clip(cut, self.low[rows, widest], self.high[rows, widest] - 1)
        upper, lower = self.high.copy(), self.low.copy()
        upper[rows, widest], lower[rows, widest] = cut, cut + 1
        return _Boxes.joined([_Boxes(self.place, self.low, upper), _Boxes(self.place, lower, self.high)])


def _bounded(spaces: Sequence[Space], boxes: _Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Whether a box can hold a point with the condition, and its least scores; of points in fractions where floats leave it open."""
    possible = np.zeros(len(boxes), dtype=bool)
    always = np.zeros(len(boxes), dtype=bool)
    scores = np.zeros((len(boxes), len(spaces[0].signs)), dtype=Real)
    for place in np.unique(boxes.place):
        mine = boxes.place == place
        truth, scores[mine] = spaces[place].bounded(boxes.low[mine], boxes.high[mine])
        possible[mine], always[mine] = truth.possible, truth.always
    single = (boxes.low == boxes.high).all(axis=1)
    if not np.isfinite(scores[possible & single]).all():
        raise InputError("a result is larger than a float64 can be; are the values in base units?")
    for row in np.flatnonzero(possible & ~always & single):
        place, low, high = next(iter(boxes[row : row + 1]))
        possible[row] = spaces[place].exactly(low, high)[0].possible
    return possible, scores


def _candidates(spaces: Sequence[Space], boxes: _Boxes, objectives: int) -> _Boxes:
    """Points of the boxes that may be good: both ends, and the corner towards which each objective leans."""
    if not len(boxes):
        return boxes
    leaning = np.array([space.leaning for space in spaces])[boxes.place]
    corners = [boxes.low, boxes.high, *(np.where(leaning[:, at], boxes.high, boxes.low) for at in range(objectives))]
    places = np.tile(boxes.place, len(corners))
    points = np.unique(np.hstack([places[:, None], np.concatenate(corners)]), axis=0)
    return _Boxes(points[:, 0], points[:, 1:], points[:, 1:])
