"""Predictions held against measurements: errors by regime, rows beyond the bound, how far collections of rows differ among themselves."""

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
    """The measurements of one kernel, and what was told of them.

    Attributes
    ----------
    bound : the least times, and what they follow from.
    predicted : seconds with the kernel's constants; None where the device has none for it.
    constants : these.
    floor : MAPE of one collection of rows as the prediction of another, in percent: of those at hand, else as the constants say.
    """

    rows: Rows
    device: Device
    bound: Least = field(repr=False)
    predicted: np.ndarray | None = field(repr=False)
    constants: KernelConstants | None = None
    floor: float | None = None

    @property
    def errors(self) -> Mapping[str, Errors]:
        """The errors of all rows and of each regime; none without a prediction."""
        return {} if self.predicted is None else by_regime(self.predicted, self.rows.seconds, self.bound.regime)

    @property
    def beyond(self) -> np.ndarray:
        """Which rows are faster than the least time."""
        return self.rows.seconds < self.bound.seconds

    @property
    def beyond_resident(self) -> int:
        """How many of these are loops that a cache serves, whose bytes do not all cross memory."""
        return int((self.beyond & self.bound.resident).sum())

    @property
    def reached(self) -> float:
        """The median share of the roofline that kernels reach: least time over measured."""
        return float(np.median(self.bound.seconds / self.rows.seconds))


def validate(
    measured: Sequence[Rows], device: Device, calibration: Calibration | None = None, unseen: int | None = None
) -> tuple[Validation, ...]:
    """Hold what is told of kernels against their measurements.

    Parameters
    ----------
    calibration : the constants; those of the device where none are given.
    unseen : the seed of a fit: only the half of the rows that it did not see counts.
    """
    known = calibration or device.calibration
    found = []
    for rows in measured:
        chosen = rows if unseen is None else rows.only(~halves(len(rows), unseen))
        constants = _constants(known, chosen)
        predicted = None if constants is None else Prediction(chosen, device, constants.traits).of(constants)
        floor = spread([other for other in measured if (other.kernel, other.widths) == (rows.kernel, rows.widths)])
        stated = constants.floor if constants and floor is None else floor
        found.append(Validation(chosen, device, least(chosen, device), predicted, constants, stated))
    return tuple(found)


def _constants(calibration: Calibration | None, rows: Rows) -> KernelConstants | None:
    """The constants of the kernel that these rows are of, by its name too where several were fitted."""
    fitted = [one for one in calibration.kernels if (one.kernel, one.widths) == (rows.kernel, rows.widths)] if calibration else []
    return next((one for one in fitted if one.name == rows.name), fitted[0] if fitted else None)


def spread(collections: Iterable[Rows]) -> float | None:
    """The median, over pairs of collections, of the mean error of one as the prediction of another, in percent; None of fewer than two."""
    keyed = []
    for rows in collections:
        values = [*dimensions(rows).values()]
        keyed.append(dict(zip(zip(*(column.tolist() for column in values), strict=True), rows.seconds.tolist(), strict=True)))
    found = []
    for one, other in itertools.permutations(keyed, 2):
        shared = one.keys() & other.keys()
        if shared:
            found.append(100 * float(np.mean([abs(one[key] / other[key] - 1) for key in shared])))
    return float(np.median(found)) if found else None
