"""The best point of a sweep, Pareto fronts, and the points of a condition, chunk by chunk: the grid itself is never in memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from symroof.errors import InputError, member, quote
from symroof.notation import Brief
from symroof.sweeps.arguments import Devices, Models, Over, Reducing
from symroof.sweeps.dataset import OUTER, POINT, described, dtype, need
from symroof.sweeps.filter import Condition
from symroof.sweeps.formulas import StepFormulas
from symroof.sweeps.grid import Chunk, Sweep
from symroof.sweeps.metrics import ALIASES, METRICS
from symroof.sweeps.optimum import fused
from symroof.sweeps.optimum.certificate import Certificate
from symroof.sweeps.optimum.front import front
from symroof.sweeps.optimum.intervals import UnprovableError
from symroof.sweeps.optimum.search import MOST_BOXES
from symroof.sweeps.optimum.search import optimum as bounded
from symroof.sweeps.plan import Plan
from symroof.sweeps.run import evaluated

if TYPE_CHECKING:
    import xarray

MOST_POINTS = 10**7
"""Points that a condition alone may keep: they and their metrics are in memory."""

SEARCHES = AUTO, BRANCH_AND_BOUND, ENUMERATE = "auto", "branch-and-bound", "enumerate"
BOUNDED_FROM = 1 << 20
"""Points from which "auto" tries branch and bound first."""

CHECKED = 256
"""Boxes of a certificate up to which it is checked in fractions at once: a few milliseconds each."""


@dataclass(frozen=True)
class Objectives:
    """What is minimised (1) or maximised (-1), if anything, and under which condition: work on a chunk that travels to other processes."""

    signs: Mapping[str, int]
    where: str
    units: Mapping[str, str]

    @property
    def condition(self) -> Condition | None:
        """The condition, parsed; once in every process."""
        return _condition(self.where, tuple(self.units.items())) if self.where else None

    def __call__(self, chunk: Chunk) -> list[np.ndarray]:
        """The points that no other of the chunk beats: their numbers in the whole sweep, then a score for each objective, least best."""
        found = self._in_one_pass(chunk) if chunk.engine == "numba" and self.signs else None
        if found is None:
            return self._by_arrays(chunk)
        places, *scores = found
        ahead = front(scores)
        return [chunk.first + places[ahead], *(score[ahead] for score in scores)]

    def _by_arrays(self, chunk: Chunk) -> list[np.ndarray]:
        metrics = chunk.evaluate()
        scores = [sign * metrics[name].reshape(-1) for name, sign in self.signs.items()]
        kept = np.arange(math.prod(chunk.shape))
        test = self.condition
        if test is not None:
            kept = np.flatnonzero(np.broadcast_to(test({**chunk.values, **metrics}), chunk.shape))
            scores = [score[kept] for score in scores]
        best = front(scores) if scores else slice(None)
        return [chunk.first + kept[best], *(score[best] for score in scores)]

    def _in_one_pass(self, chunk: Chunk) -> list[np.ndarray] | None:
        """Places and scores by machine code over a grid; None where that does not apply, or rounding leaves the condition open."""
        if len(chunk.values) != len(chunk.slices):
            return None
        loop = fused.loop_of(chunk.scenario, tuple(chunk.values), self.signs, self.condition)
        return loop and fused.best_of(chunk, loop)


@functools.lru_cache(maxsize=64)
def _condition(where: str, units: tuple[tuple[str, str], ...]) -> Condition:
    return Condition(where, dict(units), ALIASES)


def best(
    models: Models, hardware: Devices, over: Over, *, minimize: str = "", maximize: str = "", where: str = "", **options: Unpack[Reducing]
) -> xarray.Dataset:
    """The point of a sweep with the least or largest metric among those that satisfy a condition.

    Parameters
    ----------
    minimize, maximize : one metric; give one of the two. Of equal points the first in the order of the grid.
    where : a condition such as ``"latency < 50 ms and memory <= 80 GB and batch >= 8"``, or ``"fits"``.
    options : as in `symroof.sweeps.sweep.sweep`: phase, metrics, points, engine, scheduler, progress, fixed
        inputs and conventions. `search` is "branch-and-bound", which bounds boxes of points (see `optimum`), "enumerate",
        or "auto", the former from a million points on and where it works. `before` is called with the
        planned sweep, and what is done with each chunk, before anything is enumerated.

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
    return _Request(models, hardware, over, {minimize or maximize: 1 if minimize else -1}, where, options).answer()[0]


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
    return _Request(models, hardware, over, dict.fromkeys(_two(objectives), 0), where, options).answer()[0]


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
    return _Request(models, hardware, over, {}, where, options).answer()[0]


def optimum(
    models: Models,
    hardware: Devices,
    over: Over,
    *,
    minimize: str = "",
    maximize: str = "",
    pareto: Sequence[str] = (),
    where: str = "",
    **options: Unpack[Reducing],
) -> Optimum:
    """The best point or the Pareto front by branch and bound, with the certificate that no point is better.

    Boxes of points are bounded by running the formulas on intervals; only boxes that may hold a better point are split. It takes a
    formula of sums, products, quotients, maxima, rounding and powers of numbers that are not negative, as those of the library are; how
    many boxes it takes depends on how the formulas rise and fall.

    Parameters
    ----------
    minimize, maximize, pareto : one metric, or two for a front; give one of the three.
    where, options : as in `best`.

    Returns
    -------
    Optimum
        ``points``, as `best` and `pareto` answer, and ``certificate``, whose ``check`` goes through all boxes in fractions.

    Raises
    ------
    InputError
        As in `best`; or a formula cannot be bounded, or too many boxes would be needed.

    >>> found = optimum("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 65537), "seq_len": range(1, 131073)},
    ...                 maximize="throughput", where="latency < 50 ms and fits and seq_len >= 2048")
    >>> int(found.points.batch.item()), int(found.points.seq_len.item()), len(found.certificate) < 200
    (67, 2048, True)
    >>> found.certificate.check() == len(found.certificate)
    True
    """
    if sum(map(bool, (minimize, maximize, pareto))) != 1:
        raise InputError("give one of minimize, maximize and pareto")
    signs = dict.fromkeys(_two(pareto), 0) if pareto else {minimize or maximize: 1 if minimize else -1}
    request = _Request(models, hardware, over, signs, where, {**options, "search": BRANCH_AND_BOUND})
    points, certificate = request.answer()
    assert certificate is not None
    return Optimum(points, certificate)


@dataclass(frozen=True)
class Optimum(Brief):
    """The best points of a sweep, and why there are no better ones.

    Attributes
    ----------
    points : a dataset as of `best` or `pareto`.
    certificate : boxes that together are the whole grid, each with the reason why it holds no better point.
    """

    points: xarray.Dataset = field(repr=False)
    certificate: Certificate


class _Request:
    """A reduction, looked up and checked; of no objectives all points are wanted, and one without a sign is wanted as it is better."""

    def __init__(
        self, models: Models, hardware: Devices, over: Over, objectives: Mapping[str, int], where: str, given: Mapping[str, Any]
    ) -> None:
        need("xarray")
        options: dict[str, Any] = {**given}
        self.running = {name: options.pop(name, default) for name, default in (("scheduler", None), ("progress", False))}
        self.shown, self.before, self.search = options.pop("metrics", None), options.pop("before", None), options.pop("search", AUTO)
        member("search", self.search, SEARCHES)
        if options.pop("per", "total") != "total":
            raise InputError("per 'operator': a reduction is over whole steps")
        signs = {}
        for name, sign in ((ALIASES.get(name, name), sign) for name, sign in objectives.items()):
            member("metric", name, tuple(METRICS))
            if METRICS[name].words:
                raise InputError(f"metric {name!r} has no least or largest value")
            signs[name] = sign or {"min": 1, "max": -1}.get(METRICS[name].better, 0)
        self.planned = Plan(models, hardware, over, **options)
        known = {name: metric for name, metric in METRICS.items() if name != "fits" or self.planned.capacities}
        units = {axis.name: axis.unit for axis in self.planned.axes}
        units |= {name: "flag" if metric.words == ("no", "yes") else metric.unit for name, metric in known.items()}
        self.goal = Objectives(signs, where, units)
        mentioned = self.goal.condition.names if self.goal.condition else frozenset()
        self.least = tuple(dict.fromkeys([*signs, *(name for name in METRICS if name in mentioned)])) or ("memory",)

    def answer(self) -> tuple[xarray.Dataset, Certificate | None]:
        """The points, and the certificate if branch and bound found them."""
        size = math.prod((len(self.planned.models), len(self.planned.devices), len(self.planned.phases), *map(len, self._lengths())))
        certificate, how = self._certificate(size), f"enumeration of {size} points"
        if certificate is not None:
            numbers = np.array([*certificate.numbers()], dtype=np.int64)
            checked = ", checked in fractions" if len(certificate) <= CHECKED and certificate.check() else ""
            how = f"branch and bound: {len(certificate)} boxes bound all {size} points{checked}"
        else:
            numbers = self._enumerated()
        wanted = tuple(dict.fromkeys([*self.planned.metrics(self.shown), *self.least]))
        points = _labelled(self.planned.sweep(wanted), numbers)
        points.attrs["search"] = how
        return points, certificate

    def _lengths(self) -> Sequence[Any]:
        return self.planned.axes[:1] if self.planned.points else self.planned.axes

    def _certificate(self, size: int) -> Certificate | None:
        """By branch and bound, where that is wanted and works."""
        forced = self.search == BRANCH_AND_BOUND
        if forced and self.planned.points:
            raise InputError("search 'branch-and-bound' is over a grid, not a list of points")
        if self.search == ENUMERATE or self.planned.points or not self.goal.signs or (size < BOUNDED_FROM and not forced):
            return None
        if size >= 1 << 63:
            raise InputError(f"{size:.2g} points are more than can be numbered; take fewer values")
        try:
            most = MOST_BOXES if forced else min(MOST_BOXES, size // 8)
            found = bounded(self.planned.sweep(self.least, StepFormulas.bounding), self.goal.signs, self.goal.condition, most=most)
        except UnprovableError as error:
            if forced:
                raise InputError(f"search 'branch-and-bound': {error}; take search 'enumerate'") from None
            return None
        if found is None and forced:
            raise InputError(f"search 'branch-and-bound': more than {MOST_BOXES} boxes are not enough; narrow the ranges or the condition")
        if found is not None and not found.best:
            raise self._none(size)
        return found

    def _none(self, size: int) -> InputError:
        return InputError(f"none of {size} points satisfies {quote(self.goal.where)}")

    def _enumerated(self) -> np.ndarray:
        """The numbers of the points, chunk by chunk through the grid."""
        reduction, signs, where = self.planned.sweep(self.least), self.goal.signs, self.goal.where
        if self.before is not None:
            self.before(reduction, self.goal)
        kept = [np.array([], dtype=np.int64), *(np.array([]) for _ in signs)]
        pieces: list[np.ndarray] = []
        for _, candidates in evaluated(reduction.chunks(), reduction.size, self.goal, **self.running):
            if not signs:
                pieces += candidates
                if sum(map(len, pieces)) > MOST_POINTS:
                    raise InputError(
                        f"more than {MOST_POINTS:.0e} points satisfy {quote(where)}; narrow the condition, or minimise a metric"
                    )
                continue
            arrays = [np.concatenate(pair) for pair in zip(kept, candidates, strict=True)]
            ahead = front(arrays[1:])  # in the order of the grid: of equals the earlier stay in front
            kept = [array[ahead] for array in arrays]
        kept = kept if signs else [np.sort(np.concatenate(pieces))]
        if not kept[0].size:
            raise self._none(reduction.size)
        return kept[0]


def _two(objectives: Sequence[str]) -> list[str]:
    """Two metrics, by their own names."""
    names = [ALIASES.get(name, name) for name in objectives]
    if isinstance(objectives, str) or len(names) != 2 or names[0] == names[1]:
        raise InputError(f"pareto {quote(objectives if isinstance(objectives, str) else list(objectives))}: expected two metrics")
    return names


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
