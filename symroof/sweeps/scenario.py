"""One model on one device in one phase: its formulas at any points, as every metric of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from symroof.sweeps.engines import run, run_exact
from symroof.sweeps.formulas import TOTAL, Formulas
from symroof.sweeps.metrics import derived

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
        if not run(part.program, inputs, outputs, engine):
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
        arrays = {letter: np.broadcast_to(value, shape) for letter, value in inputs.items()}
        for place in zip(*np.nonzero(close), strict=True):
            at = {letter: Fraction(array[place].item()) for letter, array in arrays.items()}
            exact = [value for name, value in zip(part.outputs, run_exact(part.program, at), strict=True) if name in names]
            flags[place] = exact[0] >= exact[1] if len(exact) > 1 else exact[0] <= Fraction(self.capacity or 0)
