"""Constants of the measured kernels: the forms of `symroof.roof.kernel_forms`, fitted on one half and tested on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sympy import Rational

from symroof import symbols
from symroof.calibration.fit import by_regime, fit, halves
from symroof.calibration.prediction import LAUNCH, MEMORY, SHORT
from symroof.errors import SymroofError
from symroof.hardware.calibration import CONSTANTS, Calibration, Kernel, KernelConstants
from symroof.hardware.device import Device
from symroof.measure.kernels import Kernels
from symroof.measure.machine import Measured, Rate

SHARES = 400
"""The number of shares of bandwidth tried for kernels without contraction, in geometric steps."""


def calibrate(measured: Measured, device: Device, kernels: Sequence[Kernels], source: str) -> tuple[Calibration | None, tuple[str, ...]]:
    """The constants of all measured classes, and why other classes have none.

    Parameters
    ----------
    device : the measured machine, with the peak of the data type that ran.
    source : how the kernels were measured.
    """
    fitted, reasons = [], []
    for one in kernels:
        if not one.rates:
            reasons.append(f"{one.kernel}: {one.reason}")
            continue
        try:
            fitted.append(_fit(measured, device, one, source))
        except SymroofError as error:
            reasons.append(f"{one.kernel}: {error}")
    return (Calibration(tuple(fitted), device.name, measured.date) if fitted else None), tuple(reasons)


def _fit(measured: Measured, device: Device, one: Kernels, source: str) -> KernelConstants:
    if one.rows is None:
        return replace(fit_vector(one.rates, float(device.bandwidth_expr)), name=f"{measured.backend}, without contraction", source=source)
    waves = measured.system.kind == "gpu" and measured.system.clock is not None
    held = {} if waves or one.kernel is not Kernel.GEMM else {"gemm_step_clocks": 0.0}  # a CPU has no waves of tiles
    return fit(one.rows, replace(device, on_chip=()), held=held, source=source)  # operands exceed every cache


def fit_vector(rates: Sequence[Rate], bandwidth: float) -> KernelConstants:
    """The fit of ``T = t_0v + B / (e_2v BW)`` with the least mean of ``|T / t - 1|``, exact in t_0v for every share tried.

    >>> from symroof.measure.timing import Spread
    >>> rates = [Rate("", "fp32", 1, 0, size, 0, Spread.of([1e-6 + size / 5e9])) for size in range(1000, 90000, 1000)]
    >>> found = fit_vector(rates, 1e10)
    >>> round(float(found[symbols.t_0v]) * 1e6, 1), round(float(found[symbols.e_2v]), 2), found.error["all"].mape < 0.5
    (1.0, 0.5, True)
    """
    overhead, share = CONSTANTS[Kernel.VECTOR]
    least = np.array([one.traffic / bandwidth for one in rates])
    taken = np.array([one.seconds.median for one in rates])
    seen = halves(len(rates), 0)
    best = (np.inf, 0.0, 1.0)
    for reached in np.geomspace(share.low, share.high, SHARES):
        start = min(max(_weighted_median(taken[seen] - least[seen] / reached, 1 / taken[seen]), overhead.low), overhead.high)
        loss = float(np.mean(np.abs((start + least[seen] / reached) / taken[seen] - 1)))
        best = min(best, (loss, start, float(reached)))
    _, start, reached = best
    unseen, regime = ~seen, np.where(least < SHORT, LAUNCH, MEMORY)
    values = {symbols.t_0v: Rational(f"{start:.4g}"), symbols.e_2v: Rational(f"{reached:.4g}")}
    error = by_regime(start + least[unseen] / reached, taken[unseen], regime[unseen])
    return KernelConstants(Kernel.VECTOR, frozenset(), values, rows=len(rates), error=error)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])
