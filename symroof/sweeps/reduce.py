"""The best point of a sweep and Pareto fronts, chunk by chunk: the grid itself is never in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from symroof.errors import InputError, quote
from symroof.sweeps.dataset import POINT, described, dtype, need
from symroof.sweeps.filter import Condition, condition
from symroof.sweeps.inputs import member
from symroof.sweeps.metrics import ALIASES, METRICS, chosen
from symroof.sweeps.plan import request
from symroof.sweeps.request import Chunk, Request
from symroof.sweeps.run import evaluated

THINNED = 64
"""One point in so many is looked at first: most of the others are worse than one of these."""


class Candidates(NamedTuple):
    """Points by their number in the whole sweep, with what is minimised (maximised: negated)."""

    numbers: np.ndarray
    scores: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Objectives:
    """What is minimised or maximised, and under which condition."""

    names: tuple[str, ...]
    signs: tuple[int, ...]
    where: str = ""
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def condition(self) -> Condition | None:
        """The condition, parsed; in every process anew."""
        return condition(self.where, self.units, ALIASES) if self.where else None


class _Reduction:
    """The work on one chunk: an object that travels to other processes."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives

    def __call__(self, asked: Request, chunk: Chunk) -> Candidates:
        found = asked.evaluate(chunk)
        scores = [sign * found[name].reshape(-1) for name, sign in zip(self.objectives.names, self.objectives.signs, strict=True)]
        kept = np.arange(scores[0].size)
        test = self.objectives.condition
        if test is not None:
            mask = np.broadcast_to(test({**asked.values(chunk), **found}), chunk.shape).reshape(-1)
            kept = np.flatnonzero(mask)
            scores = [score[kept] for score in scores]
        best = front(scores) if len(scores) > 1 else first_least(scores[0])
        return Candidates(asked.first(chunk) + kept[best], tuple(score[best] for score in scores))


def first_least(score: np.ndarray) -> np.ndarray:
    """The place of the least value, of equals the first; empty for none.

    >>> first_least(np.array([3.0, 1.0, 1.0])).tolist()
    [1]
    """
    return np.array([np.argmin(score)]) if score.size else np.array([], dtype=np.intp)


def front(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The places of the points that no other beats in one score without losing in the other; of equals the first.

    >>> front([np.array([1.0, 2.0, 3.0, 1.0]), np.array([5.0, 6.0, 2.0, 5.0])]).tolist()
    [0, 2]
    """
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


def best(
    models: Any, hardware: Any, over: Mapping[str, Any], *, minimize: str = "", maximize: str = "", where: str = "", **options: Any
) -> Any:
    """The point of a sweep with the least or largest metric among those that satisfy a condition.

    Parameters
    ----------
    minimize, maximize : one metric; give one of the two. Of equal points the first in the order of the grid.
    where : a condition such as ``"latency < 50 ms and memory <= 80 GB and batch >= 8"``, or ``"fits"``.
    options : as in `symroof.sweeps.sweep.sweep`: phase, metrics, points, engine, scheduler, progress, fixed
        inputs and conventions.

    Returns
    -------
    xarray.Dataset
        One point, with its coordinates and all metrics.

    Raises
    ------
    InputError
        No point satisfies the condition, or something asked for makes no sense.

    >>> found = best("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 257)}, seq_len=2048,
    ...              maximize="throughput", where="latency < 50 ms and fits")
    >>> int(found.batch.item()), round(float(found.time.item()), 4)
    (61, 0.0394)
    """
    if bool(minimize) == bool(maximize):
        raise InputError("give one of minimize and maximize")
    objectives = [(minimize or maximize, 1 if minimize else -1)]
    return _reduced(models, hardware, over, objectives, where, options)


def pareto(
    models: Any,
    hardware: Any,
    over: Mapping[str, Any],
    objectives: Sequence[str] = ("latency", "throughput"),
    *,
    where: str = "",
    **options: Any,
) -> Any:
    """The Pareto front of two metrics: the points that none beats in one without losing in the other.

    Time, memory, traffic and FLOPs are minimised, throughput, intensity and performance maximised. Of points
    that are equal in both the first in the order of the grid is kept; the front is sorted by the first metric.
    The other parameters are those of `best`.

    >>> found = pareto("llama-2-7b", "a100-sxm-80gb", {"batch": [1, 2, 4, 8]}, seq_len=2048)
    >>> found.batch.values.tolist()
    [1, 2, 4, 8]

    Raises
    ------
    InputError
        No point satisfies the condition, or something asked for makes no sense.
    """
    names = [ALIASES.get(name, name) for name in objectives]
    if len(names) != 2 or names[0] == names[1]:
        raise InputError(f"pareto {quote(list(objectives))}: expected two metrics")
    for name in names:
        member("metric", name, tuple(METRICS))
    known = [(name, {"min": 1, "max": -1}.get(METRICS[name].better, 0)) for name in names]
    return _reduced(models, hardware, over, known, where, options)


def _reduced(
    models: Any, hardware: Any, over: Mapping[str, Any], objectives: Sequence[tuple[str, int]], where: str, options: dict[str, Any]
) -> Any:
    need("xarray")
    scheduler, progress, shown = options.pop("scheduler", None), options.pop("progress", False), options.pop("metrics", None)
    if options.pop("per", "total") != "total":
        raise InputError("per 'operator': a reduction is over whole steps")
    names = tuple(ALIASES.get(name, name) for name, _ in objectives)
    for name in names:
        member("metric", name, tuple(METRICS))
        if METRICS[name].flag:
            raise InputError(f"metric {name!r} has no least or largest value")
    every = request(models, hardware, over, metrics=shown, **options)
    capacities = all(cell.capacity is not None for cell in every.cells)
    units = {one.name: one.unit for one in every.axes}
    units |= {name: "flag" if name == "fits" else metric.unit for name, metric in METRICS.items() if name != "fits" or capacities}
    goal = Objectives(names, tuple(sign for _, sign in objectives), where, units)
    mentioned = goal.condition.names if goal.condition else frozenset()
    least = tuple(dict.fromkeys([*names, *(name for name in METRICS if name in mentioned)]))
    asked = request(models, hardware, over, metrics=least, **options)
    found = _streamed(asked, goal, scheduler, progress)
    if not found.numbers.size:
        raise InputError(f"none of {asked.size} points satisfies {quote(where)}")
    wanted = tuple(dict.fromkeys([*chosen(shown, "total", capacities), *least]))
    return _labelled(request(models, hardware, over, metrics=wanted, **options), found.numbers)


def _streamed(asked: Request, goal: Objectives, scheduler: Any, progress: bool) -> Candidates:
    """Candidates of all chunks, merged as they come; the result does not depend on the order in which they do."""
    kept = Candidates(np.array([], dtype=np.int64), tuple(np.array([]) for _ in goal.names))

    def merge(chunk: Chunk, found: Candidates) -> None:
        nonlocal kept
        numbers: Any = np.concatenate([kept.numbers, found.numbers])
        order: Any = np.argsort(numbers, kind="stable")
        scores: Any = tuple(np.concatenate(pair)[order] for pair in zip(kept.scores, found.scores, strict=True))
        best: Any = front(scores) if len(scores) > 1 else first_least(scores[0])
        kept = Candidates(numbers[order][best], tuple(score[best] for score in scores))

    evaluated(asked, asked.chunks(), merge, scheduler=scheduler, progress=progress, work=_Reduction(goal))
    return kept


def _labelled(asked: Request, numbers: np.ndarray) -> Any:
    """The points of these numbers with their coordinates and metrics."""
    import xarray

    asked = replace(asked, engine="numpy")
    cells, places = np.divmod(numbers, int(np.prod(asked.inner)))
    along: tuple[Any, ...] = np.unravel_index(places, asked.inner)
    values = {one.name: one.values[along[0 if asked.points else at]] for at, one in enumerate(asked.axes)}
    arrays: dict[str, Any] = {}
    for at in np.unique(cells):
        chosen_points = cells == at
        found = asked.cells[at].evaluate({name: array[chosen_points] for name, array in values.items()}, asked.metrics, asked.engine)
        for name, array in found.items():
            arrays.setdefault(name, np.empty(numbers.size, dtype=dtype(asked, name)))[chosen_points] = array
    coordinates = {name: (POINT, [getattr(asked.cells[at], name) for at in cells]) for name in ("model", "hardware", "phase")}
    coordinates |= {one.name: (POINT, values[one.name], {"units": one.unit, "long_name": one.meaning}) for one in asked.axes}
    variables = {name: (POINT, array, described(asked, name)) for name, array in arrays.items()}
    return xarray.Dataset(variables, coordinates, dict(asked.attributes))
