"""A sweep as plain data: cells (model, device, phase) and chunks of points that any process can evaluate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from symroof import __version__
from symroof.sweeps.axes import Axis
from symroof.sweeps.formulas import TOTAL
from symroof.sweeps.metrics import METRICS
from symroof.sweeps.scenario import Cell

CHUNK = 1 << 20
"""Points of a chunk, at most."""


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
