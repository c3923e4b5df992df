"""Fits of kernel constants to measured rows: the least mean of ``|T / t - 1|`` on one half of the rows, tested on the other half.

Needs scipy, the extra ``calibrate``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sympy import Expr, Rational

from symroof import symbols
from symroof.calibration.prediction import REGIMES, Least, Prediction, least
from symroof.calibration.rows import Rows
from symroof.errors import InputError, member, quote
from symroof.files import installation
from symroof.hardware.calibration import CONSTANTS, Calibration, Errors, Kernel, KernelConstants, Trait
from symroof.hardware.device import Device

FEWEST = 60
"""The fewest rows of a kernel to fit."""

NONSENSE = 0.3
"""The largest mean error on the unseen half for which a form describes the rows."""

UNKNOWN = 0.5
"""The largest relative standard error of a constant that the rows determine."""

IMPOSSIBLE = 0.01
"""The largest share of rows faster than the least time, without a cache as explanation, that is treated as noise and left out."""

VARIANTS: Mapping[Kernel, tuple[frozenset[Trait], ...]] = {
    Kernel.GEMM: (frozenset(),),
    Kernel.DECODE: (frozenset(), frozenset({Trait.GROUPED})),
    Kernel.PREFILL: tuple(
        frozenset(one)
        for one in (
            (),
            (Trait.PACKED,),
            (Trait.GROUPED,),
            (Trait.OVERLAPPED,),
            (Trait.PACKED, Trait.OVERLAPPED),
            (Trait.GROUPED, Trait.OVERLAPPED),
        )
    ),
}
"""The variants of a kernel class; the fit takes the one that describes its half best."""

BETTER = 0.98
"""An additional trait, or a loop, is taken if it lowers the error to this share."""


def errors(predicted: np.ndarray, measured: np.ndarray) -> Errors:
    """The errors of predictions.

    >>> errors(np.array([1.1, 1.8]), np.array([1.0, 2.0]))
    Errors(rows=2, mape=10.0, median=10.0, p90=10.0, bias=0.0)
    """
    relative = predicted / measured - 1
    size = np.abs(relative)
    figures = (np.mean(size), np.median(size), np.quantile(size, 0.9), np.mean(relative))
    return Errors(len(measured), *(round(100 * float(figure), 4) for figure in figures))


def by_regime(predicted: np.ndarray, measured: np.ndarray, regime: np.ndarray) -> dict[str, Errors]:
    """The errors of all rows, and of those of each regime."""
    regimes = {"all": errors(predicted, measured)}
    for name in REGIMES:
        chosen = regime == name
        if chosen.any():
            regimes[name] = errors(predicted[chosen], measured[chosen])
    return regimes


def plausible(rows: Rows, device: Device) -> tuple[Rows, Least]:
    """The rows that are not faster than the device's least time, and their least times.

    Raises
    ------
    InputError
        Too many rows are faster, so the times are in another unit or from another device.
    """
    bound = least(rows, device)
    beyond = (rows.seconds < bound.seconds) & ~bound.resident
    if beyond.mean() > IMPOSSIBLE:
        worst = int(np.argmin(np.where(beyond, rows.seconds / bound.seconds, 1)))
        fastest, allowed = rows.seconds[worst], bound.seconds[worst]
        raise InputError(
            f"{rows.name or rows.kernel}: {int(beyond.sum())} of {len(rows)} rows are faster than {device.name} can be: {fastest:.3g} s "
            f"where the least time is {allowed:.3g} s; are the times in another unit, or of another device?"
        )
    if not beyond.any():
        return rows, bound
    kept = ~beyond
    return rows.only(kept), Least(*(getattr(bound, name)[kept] for name in ("seconds", "regime", "flops", "traffic", "resident")))


def halves(count: int, seed: int) -> np.ndarray:
    """A mask of the rows that a fit uses: every second one in a shuffled order."""
    return np.random.default_rng(seed).permutation(count) % 2 == 0


@dataclass(frozen=True)
class _Candidate:
    traits: frozenset[Trait]
    values: np.ndarray
    loop: tuple[float, float] | None
    loss: float


def fit(rows: Rows, device: Device, *, seed: int = 0, held: Mapping[str, float] | None = None, source: str = "") -> KernelConstants:
    """The constants of one kernel on one device.

    Parameters
    ----------
    rows : the kernel's measurements.
    seed : the seed of the halves.
    held : fixed values of constants, by name.
    source : the source of the rows.

    Raises
    ------
    InputError
        There are too few rows, they are faster than the device's least time, or the form does not describe them; a fixed
        constant is not one of the kernel's, or outside its range.
    DeviceError
        The device states no processors or no clock.
    """
    rows, bound = plausible(rows, device)
    if len(rows) < FEWEST:
        raise InputError(
            f"{rows.name or rows.kernel}: {len(rows)} rows are too few to fit {len(CONSTANTS[rows.kernel])} constants; expected {FEWEST}"
        )
    seen = halves(len(rows), seed)
    fixed = _held(rows, held or {})
    best = _best(rows.only(seen), device, fixed)
    unknown = _unknown(rows.only(seen), device, best, fixed)
    if unknown:
        fixed |= unknown
        best = _best(rows.only(seen), device, fixed, (best.traits,))
    values = {constant.symbol: _rounded(value) for constant, value in zip(CONSTANTS[rows.kernel], best.values, strict=True)}
    made = KernelConstants(rows.kernel, rows.widths, values, best.traits, rows.name, source, len(rows), loop=best.loop)
    unseen = rows.only(~seen)
    regimes = by_regime(Prediction(unseen, device, best.traits).of(made), unseen.seconds, bound.regime[~seen])
    if regimes["all"].mape > 100 * NONSENSE:
        raise InputError(
            f"{rows.name or rows.kernel}: the form of {rows.kernel} misses these rows by {regimes['all'].mape:.0f} % on average, so "
            "nothing is fitted; are the times in another unit, of another device, or of several kernels?"
        )
    return replace(made, error=regimes, notes=tuple(_notes(rows.kernel, best.values, fixed, unknown)))


def calibrate(
    measured: Iterable[Rows],
    device: Device,
    *,
    seed: int = 0,
    held: Mapping[str, float] | None = None,
    floors: Mapping[str, float] | None = None,
    source: str = "",
    date: str = "",
) -> Calibration:
    """The constants of all kernels measured on a device.

    Operators without a contraction get a GEMM's overhead and memory share, without an error, because none was measured.

    Parameters
    ----------
    floors : MAPE in percent of one collection of rows as a prediction of another, if known, by `KernelConstants.key`.
    held : fixed values of constants, by name.

    Raises
    ------
    InputError
        As for `fit`, or a name in *held* is not a constant.
    """
    names = [kernel.name for known in CONSTANTS.values() for kernel in known]
    for name in held or {}:
        member("constant", name, names)
    fitted = [fit(rows, device, seed=seed, held=held, source=source) for rows in measured]
    keys = [kernel.key for kernel in fitted]
    for key in floors or {}:
        member("floor of", key, keys)
    kernels = [replace(kernel, floor=(floors or {}).get(kernel.key)) for kernel in fitted]
    product = next((kernel for kernel in kernels if kernel.kernel is Kernel.GEMM), None)
    if product is not None:
        values = {symbols.t_0v: product[symbols.t_0g], symbols.e_2v: product[symbols.e_2g]}
        kernels.append(KernelConstants(Kernel.VECTOR, frozenset(), values, name="not measured: a GEMM's overhead and memory share"))
    return Calibration(tuple(kernels), device.name, date)


def _rounded(value: float) -> Expr:
    """The value to four digits, as in files."""
    return Rational(f"{value:.4g}")


def _held(rows: Rows, held: Mapping[str, float]) -> dict[int, float]:
    places = {constant.name: place for place, constant in enumerate(CONSTANTS[rows.kernel])}
    fixed = {}
    for name, value in held.items():
        if name in places:
            constant = CONSTANTS[rows.kernel][places[name]]
            if not constant.low <= value <= constant.high:
                raise InputError(f"{name} {quote(value)}: expected {constant.low:g} to {constant.high:g}")
            fixed[places[name]] = value
    return fixed


def _best(rows: Rows, device: Device, fixed: Mapping[int, float], variants: Sequence[frozenset[Trait]] | None = None) -> _Candidate:
    """The variant with the least error; among nearly equal variants the first, and without a loop."""
    loops = (False, True) if device.cache_capacity_expr and rows.kernel is not Kernel.PREFILL else (False,)
    chosen: _Search | None = None
    for loop, traits in itertools.product(loops, variants or VARIANTS[rows.kernel]):
        search = _Search(Prediction(rows, device, traits), fixed, loop)
        search.descend()
        if chosen is None or search.loss < BETTER * chosen.loss:
            chosen = search
    assert chosen is not None
    chosen.descend(rounds=2)  # restart a simplex that has collapsed
    return _Candidate(chosen.prediction.traits, *chosen.spread(chosen.point), chosen.loss)


LOOP = ((0.05, 4.0, 1.0), (1.0, 200.0, 10.0))
"""Range and starting value of the share of the cache that a loop fills, and of its bytes per clock and processor."""

LONGEST = 20
"""The largest factor on a time's starting value in a fit."""


class _Search:
    """A search for the constants of least mean ``|T / t - 1|`` within their ranges, by the Nelder-Mead simplex method."""

    def __init__(self, prediction: Prediction, fixed: Mapping[int, float], loop: bool) -> None:
        known = CONSTANTS[prediction.rows.kernel]
        self.prediction, self.loop = prediction, loop
        self.free = [place for place in range(len(known)) if place not in fixed]
        self.whole = np.array([fixed.get(place, 0.0) for place in range(len(known))])
        ranges = [(one.low, LONGEST * one.start if one.is_time else one.high, one.start) for one in (known[place] for place in self.free)]
        low, high, start = np.array([*ranges, *(LOOP if loop else ())]).T
        self.low, self.width = low, high - low
        self.point = np.arcsin(2 * (start - low) / self.width - 1)
        self.loss = float("inf")

    def spread(self, point: np.ndarray) -> tuple[np.ndarray, tuple[float, float] | None]:
        """All constants, including those of a loop, at a search point: ``low + (high - low) (1 + sin x) / 2``."""
        within = self.low + self.width * (1 + np.sin(point)) / 2
        values = self.whole.copy()
        values[self.free] = within[: len(self.free)]
        return values, (float(within[-2]), float(within[-1])) if self.loop else None

    def _error(self, point: np.ndarray) -> float:
        return float(np.mean(np.abs(self.prediction(*self.spread(point)) / self.prediction.rows.seconds - 1)))

    def descend(self, rounds: int = 1) -> None:
        options: dict[str, Any] = {"maxiter": 400 * len(self.point), "xatol": 1e-4, "fatol": 1e-6, "adaptive": True}
        for _ in range(rounds):
            optimum = _scipy().minimize(self._error, self.point, method="Nelder-Mead", options=options)
            self.point, self.loss = optimum.x, float(optimum.fun)


def _scipy() -> Any:
    try:
        from scipy import optimize
    except ImportError:
        raise InputError(f"calibrate: scipy is not installed; {installation('calibrate')}") from None
    return optimize


def _unknown(rows: Rows, device: Device, best: _Candidate, fixed: Mapping[int, float]) -> dict[int, float]:
    """Constants that the rows do not determine (by their standard error, from the slopes), with their fixed values."""
    known, prediction = CONSTANTS[rows.kernel], Prediction(rows, device, best.traits)
    free = [place for place in range(len(known)) if place not in fixed]
    size = np.array([max(abs(best.values[place]), 0.1 * known[place].start) for place in free])
    base, slopes = prediction(best.values, best.loop), []
    for place, step in zip(free, 1e-3 * size, strict=True):
        moved = best.values.copy()
        moved[place] += -step if moved[place] + step > known[place].high else step
        slopes.append((prediction(moved, best.loop) - base) / rows.seconds / 1e-3)
    matrix = np.array(slopes) @ np.array(slopes).T
    spread = np.sqrt(np.abs(np.diag(np.linalg.pinv(matrix + 1e-9 * np.eye(len(free)))))) * best.loss * np.sqrt(np.pi / 2)
    return {place: known[place].held for place, one in zip(free, spread, strict=True) if one > UNKNOWN and known[place].held is not None}  # pyright: ignore[reportReturnType]


def _notes(kernel: Kernel, values: np.ndarray, fixed: Mapping[int, float], unknown: Mapping[int, float]) -> list[str]:
    """Notes on the constants: those at an end of their range, and those that are fixed."""
    notes = []
    for place, (constant, value) in enumerate(zip(CONSTANTS[kernel], values, strict=True)):
        if place in fixed:
            why = "not determined by these rows" if place in unknown else "as requested"
            notes.append(f"{constant.name} fixed at {fixed[place]:g}: {why}")
        elif value > constant.low + 0.995 * (constant.high - constant.low) and not constant.is_time:
            notes.append(f"{constant.name} at {constant.high:g}, the end of its range")
        elif value < constant.low + 0.002 * (constant.high - constant.low) and not constant.is_time:
            notes.append(f"{constant.name} at {constant.low:g}, the end of its range")
    return notes
