"""The best point of a sweep, Pareto fronts, and the points of a condition, chunk by chunk: the grid itself is never in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from symroof.errors import InputError, member, quote
from symroof.sweeps.arguments import Devices, Models, Over, Reducing
from symroof.sweeps.dataset import OUTER, POINT, described, dtype, need
from symroof.sweeps.filter import Condition
from symroof.sweeps.grid import Chunk, Sweep
from symroof.sweeps.metrics import ALIASES, METRICS
from symroof.sweeps.plan import Plan
from symroof.sweeps.run import evaluated

if TYPE_CHECKING:
    import xarray

MOST_POINTS = 10**7
"""Points that a condition alone may keep: they and their metrics are in memory."""

THINNED = 64
"""One point in so many is looked at first: most of the others are worse than one of these."""


@dataclass(frozen=True)
class Objectives:
    """What is minimised (1) or maximised (-1), if anything, and under which condition: work on a chunk that travels to other processes."""

    signs: Mapping[str, int]
    where: str
    units: Mapping[str, str]

    @property
    def condition(self) -> Condition | None:
        """The condition, parsed; again in every process."""
        return Condition(self.where, self.units, ALIASES) if self.where else None

    def __call__(self, chunk: Chunk) -> list[np.ndarray]:
        """The points that no other of the chunk beats: their numbers in the whole sweep, then a score for each objective, least best."""
        metrics = chunk.evaluate()
        scores = [sign * metrics[name].reshape(-1) for name, sign in self.signs.items()]
        kept = np.arange(math.prod(chunk.shape))
        test = self.condition
        if test is not None:
            kept = np.flatnonzero(np.broadcast_to(test({**chunk.values, **metrics}), chunk.shape))
            scores = [score[kept] for score in scores]
        best = front(scores) if scores else slice(None)
        return [chunk.first + kept[best], *(score[best] for score in scores)]


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


def best(
    models: Models, hardware: Devices, over: Over, *, minimize: str = "", maximize: str = "", where: str = "", **options: Unpack[Reducing]
) -> xarray.Dataset:
    """The point of a sweep with the least or largest metric among those that satisfy a condition.

    Parameters
    ----------
    minimize, maximize : one metric; give one of the two. Of equal points the first in the order of the grid.
    where : a condition such as ``"latency < 50 ms and memory <= 80 GB and batch >= 8"``, or ``"fits"``.
    options : as in `symroof.sweeps.sweep.sweep`: phase, metrics, points, engine, scheduler, progress, fixed
        inputs and conventions. `before` is called with the planned sweep, and what is done with each
        chunk, before anything is computed.

    Returns
    -------
    xarray.Dataset
        One point, with its coordinates and all metrics.

    Raises
    ------
    InputError
        No point satisfies the condition, or some request makes no sense.

    >>> found = best("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 257)}, seq_len=2048,
    ...              maximize="throughput", where="latency < 50 ms and fits")
    >>> int(found.batch.item()), round(float(found.time.item()), 4)
    (67, 0.0427)
    """
    if bool(minimize) == bool(maximize):
        raise InputError("give one of minimize and maximize")
    return _reduced(models, hardware, over, {minimize or maximize: 1 if minimize else -1}, where, options)


def pareto(
    models: Models,
    hardware: Devices,
    over: Over,
    objectives: Sequence[str] = ("latency", "throughput"),
    *,
    where: str = "",
    **options: Unpack[Reducing],
) -> xarray.Dataset:
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
        No point satisfies the condition, or some request makes no sense.
    """
    names = [ALIASES.get(name, name) for name in objectives]
    if len(names) != 2 or names[0] == names[1]:
        raise InputError(f"pareto {quote(list(objectives))}: expected two metrics")
    return _reduced(models, hardware, over, dict.fromkeys(names, 0), where, options)


def feasible(models: Models, hardware: Devices, over: Over, where: str, **options: Unpack[Reducing]) -> xarray.Dataset:
    """The points of a sweep that satisfy a condition, in the order of the grid.

    The parameters are those of `best`.

    >>> feasible("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 257)}, "batch >= 64 and fits", seq_len=2048).batch.values.tolist()
    [64, 65, 66, 67]

    Raises
    ------
    InputError
        No point satisfies the condition, or some request makes no sense.
    """
    return _reduced(models, hardware, over, {}, where, options)


def _reduced(models: Models, hardware: Devices, over: Over, objectives: Mapping[str, int], where: str, given: Reducing) -> xarray.Dataset:
    """The best points, of no objectives all; an objective without a sign is wanted as it is better."""
    need("xarray")
    options: dict[str, Any] = {**given}
    scheduler, progress, shown = options.pop("scheduler", None), options.pop("progress", False), options.pop("metrics", None)
    before = options.pop("before", None)
    if options.pop("per", "total") != "total":
        raise InputError("per 'operator': a reduction is over whole steps")
    signs = {}
    for name, sign in ((ALIASES.get(name, name), sign) for name, sign in objectives.items()):
        member("metric", name, tuple(METRICS))
        if METRICS[name].words:
            raise InputError(f"metric {name!r} has no least or largest value")
        signs[name] = sign or {"min": 1, "max": -1}.get(METRICS[name].better, 0)
    planned = Plan(models, hardware, over, **options)
    known = {name: metric for name, metric in METRICS.items() if name != "fits" or planned.capacities}
    units = {axis.name: axis.unit for axis in planned.axes}
    units |= {name: "flag" if metric.words == ("no", "yes") else metric.unit for name, metric in known.items()}
    goal = Objectives(signs, where, units)
    mentioned = goal.condition.names if goal.condition else frozenset()
    least = tuple(dict.fromkeys([*signs, *(name for name in METRICS if name in mentioned)])) or ("memory",)
    reduction = planned.sweep(least)
    if before is not None:
        before(reduction, goal)
    kept = [np.array([], dtype=np.int64), *(np.array([]) for _ in signs)]
    pieces: list[np.ndarray] = []
    for _, candidates in evaluated(reduction.chunks(), reduction.size, goal, scheduler=scheduler, progress=progress):
        if not signs:
            pieces += candidates
            if sum(map(len, pieces)) > MOST_POINTS:
                raise InputError(f"more than {MOST_POINTS:.0e} points satisfy {quote(where)}; narrow the condition, or minimise a metric")
            continue
        arrays = [np.concatenate(pair) for pair in zip(kept, candidates, strict=True)]
        ahead = front(arrays[1:])  # in the order of the grid: of equals the earlier stay in front
        kept = [array[ahead] for array in arrays]
    kept = kept if signs else [np.sort(np.concatenate(pieces))]
    if not kept[0].size:
        raise InputError(f"none of {reduction.size} points satisfies {quote(where)}")
    wanted = tuple(dict.fromkeys([*planned.metrics(shown), *least]))
    return _labelled(reduction if wanted == least else planned.sweep(wanted), kept[0])


def _labelled(sweep: Sweep, numbers: np.ndarray) -> xarray.Dataset:
    """The points of these numbers with their coordinates and metrics."""
    import xarray

    places, *along = np.unravel_index(numbers, (len(sweep.scenarios), *sweep.inner))
    values = {axis.name: axis.values[along[0 if sweep.points else at]] for at, axis in enumerate(sweep.axes)}
    arrays = {name: np.empty(numbers.size, dtype=dtype(sweep, name)) for name in sweep.metrics}
    for place in np.unique(places):
        of_scenario = places == place
        metrics = sweep.scenarios[place].evaluate({name: array[of_scenario] for name, array in values.items()}, "numpy")
        for name, array in metrics.items():
            arrays[name][of_scenario] = array
    coordinates = {name: (POINT, [getattr(sweep.scenarios[place], name) for place in places]) for name in OUTER}
    coordinates |= {axis.name: (POINT, values[axis.name], axis.notes) for axis in sweep.axes}
    variables = {name: (POINT, array, described(sweep, name)) for name, array in arrays.items()}
    return xarray.Dataset(variables, coordinates, dict(sweep.attributes))
