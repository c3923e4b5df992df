"""A sweep as plain data: scenarios (model, device, phase), axes, metrics, and chunks of points that any process can evaluate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from symroof import __version__
from symroof.sweeps.compile import Program
from symroof.sweeps.engines import run, run_exact
from symroof.sweeps.inputs import Axis
from symroof.sweeps.metrics import METRICS, TOTAL, needed

CHUNK = 1 << 20
"""Points of a chunk, at most."""

OUTER = ("model", "hardware", "phase")
"""What a scenario is of."""

UNDECIDED = 1e-13
"""Relative difference below which rounding could turn a comparison: there it is made exactly."""


@dataclass(frozen=True)
class Scenario:
    """One model on one device in one phase: its metrics at any points.

    Attributes
    ----------
    metrics : what is computed.
    programs : their formulas for the whole step ("total"), or for each operator by its name.
    operators : those of all scenarios of the sweep, if it is per operator.
    letters : the symbol of every swept variable.
    constants : symbols with one value here: bandwidth, buffer, batch and so on.
    widths : the distinct swept widths by symbol, and `peaks`, by symbol, an array over them.
    """

    model: str
    hardware: str
    phase: str
    metrics: tuple[str, ...]
    programs: Mapping[str, Program] = field(repr=False)
    operators: tuple[str, ...] | None = field(repr=False)
    letters: Mapping[str, str] = field(repr=False)
    constants: Mapping[str, float] = field(repr=False)
    widths: Mapping[str, np.ndarray] = field(repr=False)
    peaks: Mapping[str, np.ndarray] = field(repr=False)

    def evaluate(self, values: Mapping[str, np.ndarray], engine: str) -> dict[str, np.ndarray]:
        """Every metric at broadcastable points; per operator with a last axis for the operators, NaN for those a model lacks.

        Raises
        ------
        OverflowError
            A result is larger than a float64.
        """
        inputs: dict[str, Any] = {**self.constants, **{self.letters[name]: array for name, array in values.items()}}
        places = tuple(np.searchsorted(known, inputs[letter]) for letter, known in self.widths.items())
        inputs |= {letter: table[places] for letter, table in self.peaks.items()}
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        columns = {name: self._metrics(program, inputs, shape, engine) for name, program in self.programs.items()}
        if self.operators is None:
            return columns[TOTAL]
        lacking = dict.fromkeys(self.metrics, np.full(shape, np.nan))
        by_operator = [columns.get(name, lacking) for name in self.operators]
        return {name: np.stack([column[name] for column in by_operator], axis=-1) for name in self.metrics}

    def _metrics(self, program: Program, inputs: Mapping[str, Any], shape: tuple[int, ...], engine: str) -> dict[str, np.ndarray]:
        outputs = [np.empty(shape) for _ in program.outputs]
        if not run(program, inputs, outputs, engine):
            raise OverflowError(f"{self.model} on {self.hardware}: a result is larger than a float64 can be")
        formulas, results = needed(self.metrics), {}
        for name in self.metrics:
            metric = METRICS[name]
            operands = [formulas.index(formula) for formula in metric.formulas]
            results[name] = np.asarray(metric.value(*(outputs[place] for place in operands)))
            if metric.words:
                *_, second, first = np.sort(np.array([np.broadcast_to(outputs[place], shape) for place in operands]), axis=0)
                for place in map(tuple, np.argwhere(first - second <= UNDECIDED * first)):
                    exact = run_exact(program, {letter: np.broadcast_to(inputs[letter], shape)[place] for letter in program.inputs})
                    results[name][place] = metric.value(*(exact[operand] for operand in operands))
        return results


@dataclass(frozen=True)
class Chunk:
    """A run of points in the order of the grid, within one scenario, with all that is needed to evaluate it.

    Attributes
    ----------
    number : of the chunk in the sweep; `place` is the scenario's, `first` that of the first point, its points follow one another.
    slices : where the chunk lies along every variable.
    values : of every variable at its points, broadcastable.
    """

    number: int
    place: int
    first: int
    slices: tuple[slice, ...]
    scenario: Scenario
    values: Mapping[str, np.ndarray]
    engine: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points along every variable."""
        return tuple(cut.stop - cut.start for cut in self.slices)

    def thinned(self, step: int) -> Chunk:
        """One point in so many along its longest axis, for a first look by numpy."""
        along = int(np.argmax(self.shape))
        values = {
            name: array.take(range(0, array.shape[along], step), along) if at == along else array
            for at, (name, array) in enumerate(self.values.items())
        }
        slices = tuple(slice(0, -(-size // step) if at == along else size) for at, size in enumerate(self.shape))
        return replace(self, values=values, slices=slices, engine="numpy")

    def evaluate(self) -> dict[str, np.ndarray]:
        """Every metric at the points."""
        return self.scenario.evaluate(self.values, self.engine)


@dataclass(frozen=True)
class Sweep:
    """Everything a sweep computes, checked, and nothing computed yet: scenarios x axes, and the metrics of every point."""

    axes: tuple[Axis, ...]
    points: bool
    scenarios: tuple[Scenario, ...] = field(repr=False)
    metrics: tuple[str, ...]
    engine: str
    attributes: Mapping[str, str] = field(repr=False)
    formulas: Mapping[str, str] = field(repr=False)
    """Of metrics whose formula is short, and the same for all models and phases."""
    chunk_points: int = field(default_factory=lambda: CHUNK)

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of a scenario: an axis a variable, or one of points."""
        return tuple(len(axis) for axis in (self.axes[:1] if self.points else self.axes))

    @property
    def labels(self) -> dict[str, list[str]]:
        """Names of models, devices and phases; and of operators, if the sweep is per operator."""
        named = {what: list(dict.fromkeys(getattr(scenario, what) for scenario in self.scenarios)) for what in OUTER}
        operators = self.scenarios[0].operators
        return named if operators is None else {**named, "operator": list(operators)}

    @property
    def outer(self) -> tuple[int, ...]:
        """The number of models, devices, phases."""
        return tuple(len(self.labels[what]) for what in OUTER)

    @property
    def tail(self) -> tuple[int, ...]:
        """The number of operators, if the sweep is per operator."""
        return tuple(map(len, list(self.labels.values())[len(OUTER) :]))

    @property
    def size(self) -> int:
        """Points in all."""
        return math.prod((*self.outer, *self.inner))

    @property
    def nbytes(self) -> int:
        """Bytes of the result in memory."""
        return self.size * math.prod(self.tail) * sum(METRICS[name].dtype.itemsize for name in self.metrics)

    @property
    def steps(self) -> tuple[int, ...]:
        """Lengths of a full chunk: whole trailing axes, a piece of one axis, one value of those before it."""
        room, steps = max(1, self.chunk_points // math.prod(self.tail)), []
        for length in reversed(self.inner):
            steps.append(min(length, room))
            room = max(1, room // length) if steps[-1] == length else 1
        return tuple(reversed(steps))

    @property
    def counts(self) -> tuple[int, ...]:
        """Scenarios, and how many chunks there are along every variable."""
        return len(self.scenarios), *(-(-length // step) for length, step in zip(self.inner, self.steps, strict=True))

    @property
    def chunk_count(self) -> int:
        """How many chunks there are."""
        return math.prod(self.counts)

    def chunk(self, number: int) -> Chunk:
        """The chunk of that number, in the order of the points."""
        place, *along = map(int, np.unravel_index(number, self.counts))
        cuts = zip(along, self.steps, self.inner, strict=True)
        slices = tuple(slice(at * step, min((at + 1) * step, length)) for at, step, length in cuts)
        first = int(np.ravel_multi_index((place, *(cut.start for cut in slices)), (len(self.scenarios), *self.inner)))
        arrays = [axis.values[cut] for axis, cut in zip(self.axes, slices * len(self.axes) if self.points else slices, strict=True)]
        values = {axis.name: array for axis, array in zip(self.axes, arrays if self.points else np.ix_(*arrays), strict=True)}
        return Chunk(number, place, first, slices, self.scenarios[place], values, self.engine)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in the order of the points."""
        return map(self.chunk, range(self.chunk_count))

    @property
    def digest(self) -> str:
        """A hash of everything the numbers follow from."""
        seen = hashlib.sha256()
        for scenario in self.scenarios:
            tables = {letter: values.tolist() for letter, values in (*scenario.widths.items(), *scenario.peaks.items())}
            seen.update(repr((scenario.model, scenario.hardware, scenario.phase, [*scenario.programs.items()])).encode())
            seen.update(repr([sorted(known.items()) for known in (scenario.letters, scenario.constants, tables)]).encode())
        for axis in self.axes:
            seen.update(repr((axis.name, axis.values.dtype.str)).encode() + axis.values.tobytes())
        seen.update(repr((__version__, self.points, self.labels, self.metrics, self.engine, self.chunk_points)).encode())
        return seen.hexdigest()
