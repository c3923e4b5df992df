"""A sweep as plain data: scenarios (model, device, phase), axes, metrics, and chunks of points that any process can evaluate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from symroof import __version__
from symroof.sweeps.axes import Axis
from symroof.sweeps.metrics import METRICS, TOTAL
from symroof.sweeps.scenario import Scenario

CHUNK = 1 << 20
"""Points of a chunk, at most."""


@dataclass(frozen=True)
class Chunk:
    """A run of points in the order of the grid, within one scenario, with all that is needed to evaluate it.

    Attributes
    ----------
    number : of the chunk in the sweep; `place` is the scenario's, `first` that of the first point, its points follow one another.
    slices : where the chunk lies along every variable.
    values : of every variable at its points, broadcastable.
    operators : those of all scenarios, where each operator is told of.
    """

    number: int
    place: int
    first: int
    slices: tuple[slice, ...]
    scenario: Scenario
    values: Mapping[str, np.ndarray]
    operators: tuple[str, ...] | None
    engine: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points along every variable."""
        return tuple(cut.stop - cut.start for cut in self.slices)

    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric: shape of the chunk, and a last axis for the operators where they are told of; those a model lacks are NaN."""
        metrics = self.scenario.evaluate(self.values, self.engine)
        own = [*self.scenario.programs]
        if self.operators is None or own == [*self.operators]:
            return metrics
        places = [self.operators.index(name) for name in own]
        spread = {name: np.full((*self.shape, len(self.operators)), np.nan) for name in metrics}
        for name, array in metrics.items():
            spread[name][..., places] = array
        return spread


@dataclass(frozen=True)
class Sweep:
    """Everything a sweep computes, checked, and nothing computed yet: scenarios x axes, and the metrics of every point."""

    axes: tuple[Axis, ...]
    points: bool
    models: tuple[str, ...]
    hardware: tuple[str, ...]
    phases: tuple[str, ...]
    scenarios: tuple[Scenario, ...] = field(repr=False)
    operators: tuple[str, ...] | None = field(repr=False)
    metrics: tuple[str, ...]
    engine: str
    attributes: Mapping[str, str] = field(repr=False)
    chunk_points: int = field(default_factory=lambda: CHUNK)

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of a scenario: an axis a variable, or one of points."""
        return (len(self.axes[0]),) if self.points else tuple(len(axis) for axis in self.axes)

    @property
    def outer(self) -> tuple[int, int, int]:
        """Models, devices, phases."""
        return len(self.models), len(self.hardware), len(self.phases)

    @property
    def size(self) -> int:
        """Points in all."""
        return math.prod((*self.outer, *self.inner))

    @property
    def nbytes(self) -> int:
        """Bytes of the result in memory."""
        return self.size * len(self.operators or (TOTAL,)) * sum(METRICS[name].dtype.itemsize for name in self.metrics)

    @property
    def chunk_count(self) -> int:
        """How many chunks there are."""
        return len(self.scenarios) * math.prod(-(-length // step) for length, step in zip(self.inner, self._steps(), strict=True))

    def _steps(self) -> tuple[int, ...]:
        """Lengths of a full chunk: whole trailing axes, a piece of one axis, one value of those before it."""
        room, steps = max(1, self.chunk_points // len(self.operators or (TOTAL,))), []
        for length in reversed(self.inner):
            steps.append(min(length, room))
            room = room // length if steps[-1] == length else 1
            room = max(room, 1)
        return tuple(reversed(steps))

    @property
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """The lengths of the chunks along every variable."""
        cuts = zip(self.inner, self._steps(), strict=True)
        return tuple(tuple(min(step, length - start) for start in range(0, length, step)) for length, step in cuts)

    def chunk(self, number: int) -> Chunk:
        """The chunk of that number, in the order of the points."""
        steps = self._steps()
        counts = [-(-length // step) for length, step in zip(self.inner, steps, strict=True)]
        place, rest = divmod(number, math.prod(counts))
        starts = [int(at) * step for at, step in zip(np.unravel_index(rest, counts) if counts else (), steps, strict=True)]
        cuts = zip(starts, steps, self.inner, strict=True)
        slices = tuple(slice(start, min(start + step, length)) for start, step, length in cuts)
        first = place * math.prod(self.inner) + (int(np.ravel_multi_index(starts, self.inner)) if self.inner else 0)
        shapes = np.ones((len(self.axes),) * 2, dtype=int) - 2 * np.eye(len(self.axes), dtype=int)  # -1 along the variable's own axis
        values = {}
        for along, axis in enumerate(self.axes):
            values[axis.name] = axis.values[slices[0]] if self.points else axis.values[slices[along]].reshape(shapes[along])
        return Chunk(number, place, first, slices, self.scenarios[place], values, self.operators, self.engine)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in the order of the points."""
        return map(self.chunk, range(self.chunk_count))

    @property
    def digest(self) -> str:
        """A hash of everything the numbers follow from."""
        seen = hashlib.sha256()
        for scenario in self.scenarios:
            tables = {letter: values.tolist() for letter, values in (*scenario.widths.items(), *scenario.peaks.items())}
            seen.update(repr((scenario.model, scenario.hardware, scenario.phase, [*scenario.programs])).encode())
            seen.update(repr([program.text for program in scenario.programs.values()]).encode())
            seen.update(repr([sorted(known.items()) for known in (scenario.letters, scenario.constants, tables)]).encode())
        for axis in self.axes:
            seen.update(repr((axis.name, axis.values.dtype.str)).encode() + axis.values.tobytes())
        seen.update(repr((__version__, self.points, self.operators, self.metrics, self.engine, self.chunk_points)).encode())
        return seen.hexdigest()
