"""Validation of predictions against measurements: errors by regime, rows beyond the bound, spread between collections of rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from symroof.calibration.fit import by_regime, halves
from symroof.calibration.prediction import Least, Prediction, dimensions, least
from symroof.calibration.rows import Rows
from symroof.hardware.calibration import Calibration, Errors, KernelConstants
from symroof.hardware.device import Device


@dataclass(frozen=True)
class Validation:
    """The measurements of one kernel and their predictions.

    Attributes
    ----------
    bound : the least times with their regimes.
    predicted : predicted seconds with the kernel's constants; None if the device has none for it.
    constants : the kernel's constants.
    floor : MAPE in percent of one collection of rows as a prediction of another: of these rows, otherwise from the constants.
    """

    rows: Rows
    device: Device
    bound: Least = field(repr=False)
    predicted: np.ndarray | None = field(repr=False)
    constants: KernelConstants | None = None
    floor: float | None = None

    @property
    def errors(self) -> Mapping[str, Errors]:
        """The errors of all rows and of each regime; empty without a prediction."""
        return {} if self.predicted is None else by_regime(self.predicted, self.rows.seconds, self.bound.regime)

    @property
    def beyond(self) -> np.ndarray:
        """A mask of the rows that are faster than the least time."""
        return self.rows.seconds < self.bound.seconds

    @property
    def beyond_resident(self) -> int:
        """The number of these rows whose loop stays in a cache, so that not all bytes cross memory."""
        return int((self.beyond & self.bound.resident).sum())

    @property
    def reached(self) -> float:
        """The median share of the roofline that kernels reach: least over measured time."""
        return float(np.median(self.bound.seconds / self.rows.seconds))


def validate(
    measured: Sequence[Rows], device: Device, calibration: Calibration | None = None, unseen: int | None = None
) -> tuple[Validation, ...]:
    """Compare predicted and least times of kernels with their measurements.

    Parameters
    ----------
    calibration : the constants; by default those of the device.
    unseen : the seed of a fit, to use only the half of the rows that it did not see.
    """
    known = calibration or device.calibration
    validations = []
    for rows in measured:
        chosen = rows if unseen is None else rows.only(~halves(len(rows), unseen))
        constants = _constants(known, chosen)
        predicted = None if constants is None else Prediction(chosen, device, constants.traits).of(constants)
        floor = spread([other for other in measured if (other.kernel, other.widths) == (rows.kernel, rows.widths)])
        stated = constants.floor if constants and floor is None else floor
        validations.append(Validation(chosen, device, least(chosen, device), predicted, constants, stated))
    return tuple(validations)


def _constants(calibration: Calibration | None, rows: Rows) -> KernelConstants | None:
    """The constants of the kernel of these rows; by name if several were fitted."""
    fitted = (
        [kernel for kernel in calibration.kernels if (kernel.kernel, kernel.widths) == (rows.kernel, rows.widths)] if calibration else []
    )
    return next((kernel for kernel in fitted if kernel.name == rows.name), fitted[0] if fitted else None)


def spread(collections: Iterable[Rows]) -> float | None:
    """The median over pairs of collections of the MAPE in percent of one as a prediction of the other; None for fewer than two."""
    keyed = []
    for rows in collections:
        values = [*dimensions(rows).values()]
        keyed.append(dict(zip(zip(*(column.tolist() for column in values), strict=True), rows.seconds.tolist(), strict=True)))
    differences = []
    for first, second in itertools.permutations(keyed, 2):
        shared = first.keys() & second.keys()
        if shared:
            differences.append(100 * float(np.mean([abs(first[key] / second[key] - 1) for key in shared])))
    return float(np.median(differences)) if differences else None
