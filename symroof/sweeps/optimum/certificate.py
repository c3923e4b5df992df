"""Why no point is better: boxes that together are the whole grid, each with its reason, to be gone through in fractions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from symroof.sweeps.optimum.space import Box, Space

OUTSIDE, BEATEN, BEST = "no point satisfies the condition", "no point is better", "the best"


@dataclass(frozen=True)
class Certificate:
    """Why no point is better: boxes that together are the whole grid, each with the reason that it was not split further.

    Attributes
    ----------
    boxes : scenario, first and last place along every axis in rising order of its values.
    best : the points found, as boxes of one point.
    bounded : boxes and points that were bounded in the search.
    """

    spaces: tuple[Space, ...] = field(repr=False)
    boxes: tuple[Box, ...] = field(repr=False)
    best: tuple[Box, ...] = field(repr=False)
    bounded: int

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Every box: the scenario and the range of every variable, and the reason, found in fractions."""
        best = self._best()
        for place, low, high in self.boxes:
            space = self.spaces[place]
            known = {"model": space.scenario.model, "hardware": space.scenario.hardware, "phase": space.scenario.phase}
            ends = zip(space.names, space.values, low, high, strict=True)
            yield (
                {**known, **{name: (values[first].item(), values[last].item()) for name, values, first, last in ends}},
                self._reason((place, low, high), best),
            )

    def numbers(self) -> Iterator[int]:
        """The numbers of the best points in the order of the whole grid, scenario after scenario."""
        for place, low, high in self.best:
            space = self.spaces[place]
            yield place * math.prod(space.sizes) + space.number(low, high)

    def check(self) -> int:
        """Go through all boxes in fractions; how many there are.

        Raises
        ------
        ArithmeticError
            The boxes are not the whole grid, or one may hold a better point: the message says which.
        """
        for place, space in enumerate(self.spaces):
            mine = [(low, high) for number, low, high in self.boxes if number == place]
            low, high = (np.array(side).reshape(-1, len(space.sizes)) for side in zip(*mine, strict=True))
            _tiled(low, high, np.zeros(len(space.sizes), dtype=int), np.array(space.sizes) - 1)
        for box, reason in self:
            if not reason:
                raise ArithmeticError(f"the box {box} may hold a better point")
        return len(self)

    def _best(self) -> list[tuple[tuple[Fraction, ...], tuple[int, int]]]:
        """Scores and numbers of the best points, in fractions."""
        found = []
        for place, low, high in self.best:
            truth, scores = self.spaces[place].exactly(low, high)
            if not truth.always:
                raise ArithmeticError("a point that was found does not satisfy the condition")
            found.append((scores, (place, self.spaces[place].number(low, high))))
        return found

    def _reason(self, box: Box, best: Sequence[tuple[tuple[Fraction, ...], tuple[int, int]]]) -> str:
        place, low, high = box
        truth, scores = self.spaces[place].exactly(low, high)
        if not truth.possible:
            return OUTSIDE
        first = (place, self.spaces[place].number(low, high))
        for known, number in best:
            if all(one <= other for one, other in zip(known, scores, strict=True)) and (known != scores or number < first):
                return BEATEN
        return BEST if box in self.best else ""


def _tiled(low: np.ndarray, high: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    """Raise unless the boxes are the region from *first* to *last*, cut in two again and again."""
    todo = [(np.arange(len(low)), first, last)]
    while todo:
        rows, first, last = todo.pop()
        if len(rows) == 1 and (low[rows[0]] == first).all() and (high[rows[0]] == last).all():
            continue
        for at in range(low.shape[1]):
            rows = rows[np.argsort(low[rows, at], kind="stable")]
            reached = np.maximum.accumulate(high[rows, at])[:-1]
            gaps = np.flatnonzero(low[rows, at][1:] == reached + 1)
            if len(gaps):
                gap = gaps[len(gaps) // 2]
                below, above = last.copy(), first.copy()
                below[at], above[at] = reached[gap], reached[gap] + 1
                todo += [(rows[: gap + 1], first, below), (rows[gap + 1 :], above, last)]
                break
        else:
            raise ArithmeticError(f"the boxes do not cover the places from {first.tolist()} to {last.tolist()} once")
