"""One model on one device in one phase: its metrics at any points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from symroof.sweeps.engines import run, run_exact
from symroof.sweeps.metrics import METRICS, TOTAL, needed
from symroof.sweeps.program import Program

UNDECIDED = 1e-13
"""Relative difference below which rounding could turn a comparison: there it is made exactly."""


@dataclass(frozen=True)
class Scenario:
    """One model on one device in one phase.

    Attributes
    ----------
    metrics : what is computed.
    programs : their formulas for the whole step ("total"), or for each operator by its name.
    letters : the letter of every swept variable.
    constants : letters with one value here: bandwidth, buffer, batch and so on.
    widths : the distinct swept widths by letter, and `peaks`, by letter, an array over them.
    formulas : the text of short formulas of the whole step, by metric.
    """

    model: str
    hardware: str
    phase: str
    metrics: tuple[str, ...]
    programs: Mapping[str, Program] = field(repr=False)
    letters: Mapping[str, str] = field(repr=False)
    constants: Mapping[str, float] = field(repr=False)
    widths: Mapping[str, np.ndarray] = field(repr=False)
    peaks: Mapping[str, np.ndarray] = field(repr=False)
    formulas: Mapping[str, str] = field(default_factory=dict, repr=False)

    def inputs(self, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Every letter of the formulas at the points, peaks looked up by their widths."""
        inputs: dict[str, Any] = {**self.constants, **{self.letters[name]: array for name, array in values.items()}}
        places = tuple(np.searchsorted(known, inputs[letter]) for letter, known in self.widths.items())
        return inputs | {letter: table[places] for letter, table in self.peaks.items()}

    def evaluate(self, values: Mapping[str, np.ndarray], engine: str) -> dict[str, np.ndarray]:
        """Every metric at broadcastable points; per operator with a last axis for the operators.

        Raises
        ------
        OverflowError
            A result is larger than a float64.
        """
        inputs = self.inputs(values)
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        columns = [self._metrics(program, inputs, shape, engine) for program in self.programs.values()]
        if TOTAL in self.programs:
            return columns[0]
        return {name: np.stack([column[name] for column in columns], axis=-1) for name in self.metrics}

    def _metrics(self, program: Program, inputs: Mapping[str, Any], shape: tuple[int, ...], engine: str) -> dict[str, np.ndarray]:
        outputs = [np.empty(shape) for _ in program.outputs]
        if not run(program, inputs, outputs, engine):
            raise OverflowError(f"{self.model} on {self.hardware}: a result is larger than a float64 can be")
        places = {formula: place for place, formula in enumerate(needed(self.metrics))}
        results = {}
        for name in self.metrics:
            metric = METRICS[name]
            operands = [places[formula] for formula in metric.formulas]
            results[name] = metric.value(*(outputs[place] for place in operands))
            if metric.words:
                left, right = (outputs[place] for place in operands)
                for place in zip(*np.nonzero(np.abs(left - right) <= UNDECIDED * right), strict=True):
                    at = {letter: Fraction(np.broadcast_to(inputs[letter], shape)[place].item()) for letter in program.inputs}
                    exact = run_exact(program, at)
                    results[name][place] = metric.value(*(exact[operand] for operand in operands))
        return results
