"""A sweep as plain data: cells (model, device, phase) and chunks of points that any process can evaluate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from symroof import __version__
from symroof.evaluate.axes import Axis
from symroof.evaluate.blocks import run_numpy
from symroof.evaluate.formulas import TOTAL, Formulas
from symroof.evaluate.machine import run_numba
from symroof.evaluate.metrics import METRICS, derived
from symroof.evaluate.rational import rational

CHUNK = 1 << 20
"""Points of a chunk, at most."""

UNDECIDED = 1e-13
"""Relative difference below which rounding could turn a comparison: there it is made exactly."""


@dataclass(frozen=True)
class Cell:
    """One model on one device in one phase.

    Attributes
    ----------
    parts : the formulas of the whole step, or of each operator.
    letters : the letter of every swept variable.
    constants : letters with one value here: bandwidth, buffer, batch and so on.
    widths : the distinct swept widths by letter, and `peaks`, by letter, an array over them.
    """

    model: str
    hardware: str
    phase: str
    parts: tuple[Formulas, ...] = field(repr=False)
    letters: Mapping[str, str] = field(repr=False)
    constants: Mapping[str, float] = field(repr=False)
    widths: Mapping[str, np.ndarray] = field(repr=False)
    peaks: Mapping[str, np.ndarray] = field(repr=False)
    capacity: float | None = None

    def inputs(self, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Every letter of the formulas at the points, peaks looked up by their widths."""
        found: dict[str, Any] = {**self.constants, **{self.letters[name]: array for name, array in values.items()}}
        places = tuple(np.searchsorted(known, found[letter]) for letter, known in self.widths.items())
        return found | {letter: table[places] for letter, table in self.peaks.items()}

    def evaluate(self, values: Mapping[str, np.ndarray], metrics: tuple[str, ...], engine: str) -> dict[str, np.ndarray]:
        """Every metric at broadcastable points; per operator with a last axis for the operators."""
        inputs = self.inputs(values)
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        tokens = inputs["b"] * (inputs["s"] if self.phase == "prefill" else 1.0)
        columns = [self._part(part, inputs, shape, metrics, tokens, engine) for part in self.parts]
        if len(columns) == 1 and self.parts[0].part == TOTAL:
            return columns[0]
        return {name: np.stack([column[name] for column in columns], axis=-1) for name in metrics}

    def _part(
        self, part: Formulas, inputs: Mapping[str, Any], shape: tuple[int, ...], metrics: tuple[str, ...], tokens: Any, engine: str
    ) -> dict[str, np.ndarray]:
        outputs = [np.empty(shape) for _ in part.outputs]
        fine = run_numba(part.program, inputs, outputs, threads=1) if engine == "numba" else run_numpy(part.program, inputs, outputs)
        if not fine:
            raise OverflowError(f"{self.model} on {self.hardware}: a result is larger than a float64 can be")
        raw = dict(zip(part.outputs, outputs, strict=True))
        found = {name: derived(name, raw, tokens, self.capacity) for name in metrics}
        if "bound" in found:
            close = np.abs(raw["compute_time"] - raw["memory_time"]) <= UNDECIDED * raw["memory_time"]
            self._decide(found["bound"], close, part, ("compute_time", "memory_time"), inputs, shape)
        if "fits" in found and self.capacity is not None:
            close = np.abs(raw["memory"] - self.capacity) <= UNDECIDED * self.capacity
            self._decide(found["fits"], close, part, ("memory",), inputs, shape)
        return found

    def _decide(
        self,
        flags: np.ndarray,
        close: np.ndarray,
        part: Formulas,
        names: tuple[str, ...],
        inputs: Mapping[str, Any],
        shape: tuple[int, ...],
    ) -> None:
        """Make the comparisons that are too close for float64 again, in rationals."""
        if not close.any():
            return
        used = [part.expressions[part.outputs.index(name)] for name in names]
        arrays = {letter: np.broadcast_to(value, shape) for letter, value in inputs.items()}
        for place in zip(*np.nonzero(close), strict=True):
            at = {letter: Fraction(array[place].item()) for letter, array in arrays.items()}
            exact = [rational(expression, at) for expression in used]
            flags[place] = exact[0] >= exact[1] if len(exact) > 1 else exact[0] <= Fraction(self.capacity or 0)


@dataclass(frozen=True)
class Chunk:
    """A run of points in the order of the grid, within one cell: where it starts and stops along every variable."""

    number: int
    cell: int
    starts: tuple[int, ...]
    stops: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the chunk lies among the points of its cell."""
        return tuple(slice(start, stop) for start, stop in zip(self.starts, self.stops, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points along every variable."""
        return tuple(stop - start for start, stop in zip(self.starts, self.stops, strict=True))


@dataclass(frozen=True)
class Request:
    """Everything a sweep computes, checked, and nothing computed yet."""

    axes: tuple[Axis, ...]
    points: bool
    models: tuple[str, ...]
    hardware: tuple[str, ...]
    phases: tuple[str, ...]
    cells: tuple[Cell, ...] = field(repr=False)
    operators: tuple[str, ...] | None = field(repr=False)
    metrics: tuple[str, ...]
    engine: str
    attributes: Mapping[str, str] = field(repr=False)
    chunk_points: int = field(default_factory=lambda: CHUNK)

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of a cell: an axis a variable, or one of points."""
        return (len(self.axes[0]),) if self.points else tuple(len(one) for one in self.axes)

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
        return self.size * len(self.operators or (TOTAL,)) * sum(METRICS[name].bytes for name in self.metrics)

    @property
    def chunk_count(self) -> int:
        """How many chunks there are."""
        return len(self.cells) * math.prod(-(-length // step) for length, step in zip(self.inner, self._steps(), strict=True))

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
        cell, rest = divmod(number, math.prod(counts))
        places = np.unravel_index(rest, counts) if counts else ()
        starts = tuple(int(place) * step for place, step in zip(places, steps, strict=True))
        stops = tuple(min(start + step, length) for start, step, length in zip(starts, steps, self.inner, strict=True))
        return Chunk(number, cell, starts, stops)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in the order of the points."""
        return map(self.chunk, range(self.chunk_count))

    def first(self, chunk: Chunk) -> int:
        """The number of a chunk's first point in the whole sweep; its points follow one another."""
        place = np.ravel_multi_index(chunk.starts, self.inner) if self.inner else 0
        return chunk.cell * math.prod(self.inner) + int(place)

    def values(self, chunk: Chunk) -> dict[str, np.ndarray]:
        """The values of every variable at the points of a chunk, broadcastable."""
        if self.points:
            return {one.name: one.values[chunk.slices[0]] for one in self.axes}
        rank = len(self.axes)
        cut = zip(self.axes, chunk.slices, strict=True)
        return {
            one.name: one.values[piece].reshape([-1 if i == place else 1 for i in range(rank)]) for place, (one, piece) in enumerate(cut)
        }

    def evaluate(self, chunk: Chunk) -> dict[str, np.ndarray]:
        """Every metric over a chunk: shape of the chunk, and a last axis for the operators if they are apart."""
        cell = self.cells[chunk.cell]
        found = cell.evaluate(self.values(chunk), self.metrics, self.engine)
        if self.operators is None:
            return found
        own = [part.part for part in cell.parts]
        if tuple(own) == self.operators:
            return found
        return {name: _spread(array, own, self.operators) for name, array in found.items()}

    @property
    def digest(self) -> str:
        """A hash of everything the numbers follow from."""
        seen = hashlib.sha256()
        for cell in self.cells:
            parts = [(part.part, part.outputs, part.program) for part in cell.parts]
            seen.update(
                repr((cell.model, cell.hardware, cell.phase, parts, sorted(cell.letters.items()), sorted(cell.constants.items()))).encode()
            )
            seen.update(repr((sorted((k, v.tolist()) for k, v in (*cell.widths.items(), *cell.peaks.items())), cell.capacity)).encode())
        for one in self.axes:
            seen.update(repr((one.name, one.values.dtype.str)).encode() + one.values.tobytes())
        seen.update(repr((__version__, self.points, self.operators, self.metrics, self.engine, self.chunk_points)).encode())
        return seen.hexdigest()


def _spread(array: np.ndarray, own: list[str], names: tuple[str, ...]) -> np.ndarray:
    """Operators that this model does not have are not a number; a flag has no such value and is refused before."""
    out = np.full((*array.shape[:-1], len(names)), np.nan)
    for place, name in enumerate(own):
        out[..., names.index(name)] = array[..., place]
    return out
