"""Constants of a kernel's form from measured rows: the least mean of ``|T / t - 1|``, on one half of the rows; the other judges.

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
"""Rows of one kernel below which nothing is fitted."""

NONSENSE = 0.3
"""Mean error on the unseen half beyond which a form does not describe the rows."""

UNKNOWN = 0.5
"""Standard error of a constant, over its size, beyond which rows do not tell it."""

IMPOSSIBLE = 0.01
"""Share of rows faster than the least time, without a cache to explain it, that is put down to noise and left out."""

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
"""How kernels of a class may go about their work: the fit takes what describes its half best."""

BETTER = 0.98
"""A further trait, or a loop, is taken where it lowers the error to this share."""


def errors(predicted: np.ndarray, measured: np.ndarray) -> Errors:
    """The errors of predictions.

    >>> errors(np.array([1.1, 1.8]), np.array([1.0, 2.0]))
    Errors(rows=2, mape=10.0, median=10.0, p90=10.0, bias=0.0)
    """
    relative = predicted / measured - 1
    size = np.abs(relative)
    figures = (np.mean(size), np.median(size), np.quantile(size, 0.9), np.mean(relative))
    return Errors(len(measured), *(round(100 * float(one), 4) for one in figures))


def by_regime(predicted: np.ndarray, measured: np.ndarray, regime: np.ndarray) -> dict[str, Errors]:
    """The errors of all rows, and of those of each regime."""
    found = {"all": errors(predicted, measured)}
    for name in REGIMES:
        chosen = regime == name
        if chosen.any():
            found[name] = errors(predicted[chosen], measured[chosen])
    return found


def plausible(rows: Rows, device: Device) -> tuple[Rows, Least]:
    """The rows without those that are faster than any kernel can be, and their least times.

    Raises
    ------
    InputError
        Too many are: the times have another unit, or another device made them.
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
    """Which rows a fit sees: every second of a shuffled order."""
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
    rows : its measurements.
    seed : of the halves.
    held : constants that are not fitted, by name.
    source : where the rows come from.

    Raises
    ------
    InputError
        There are too few rows, they are faster than the device can be, or the form does not describe them; a constant that is
        held is not one of the kernel's, or outside its range.
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
    values = {one.symbol: _rounded(value) for one, value in zip(CONSTANTS[rows.kernel], best.values, strict=True)}
    made = KernelConstants(rows.kernel, rows.widths, values, best.traits, rows.name, source, len(rows), loop=best.loop)
    unseen = rows.only(~seen)
    found = by_regime(Prediction(unseen, device, best.traits).of(made), unseen.seconds, bound.regime[~seen])
    if found["all"].mape > 100 * NONSENSE:
        raise InputError(
            f"{rows.name or rows.kernel}: the form of {rows.kernel} misses these rows by {found['all'].mape:.0f} % on average, so nothing "
            "is fitted; are the times in another unit, of another device, or of several kernels?"
        )
    return replace(made, error=found, notes=tuple(_notes(rows.kernel, best.values, fixed, unknown)))


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
    """The constants of all kernels that were measured on a device.

    Operators without a contraction are given a GEMM's overhead and memory share, with no error: none of them was measured.

    Parameters
    ----------
    floors : MAPE of one collection of rows as the prediction of another, in percent, where it is known, by `KernelConstants.key`.
    held : constants that are not fitted, by name.

    Raises
    ------
    InputError
        As for `fit`, or a name in *held* is no constant.
    """
    names = [one.name for known in CONSTANTS.values() for one in known]
    for name in held or {}:
        member("constant", name, names)
    fitted = [fit(rows, device, seed=seed, held=held, source=source) for rows in measured]
    keys = [one.key for one in fitted]
    for key in floors or {}:
        member("floor of", key, keys)
    kernels = [replace(one, floor=(floors or {}).get(one.key)) for one in fitted]
    product = next((one for one in kernels if one.kernel is Kernel.GEMM), None)
    if product is not None:
        values = {symbols.t_0v: product[symbols.t_0g], symbols.e_2v: product[symbols.e_2g]}
        kernels.append(KernelConstants(Kernel.VECTOR, frozenset(), values, name="not measured: a GEMM's overhead and memory share"))
    return Calibration(tuple(kernels), device.name, date)


def _rounded(value: float) -> Expr:
    """Four digits, as files have them."""
    return Rational(f"{value:.4g}")


def _held(rows: Rows, held: Mapping[str, float]) -> dict[int, float]:
    places = {one.name: place for place, one in enumerate(CONSTANTS[rows.kernel])}
    found = {}
    for name, value in held.items():
        if name in places:
            one = CONSTANTS[rows.kernel][places[name]]
            if not one.low <= value <= one.high:
                raise InputError(f"{name} {quote(value)}: expected {one.low:g} to {one.high:g}")
            found[places[name]] = value
    return found


def _best(rows: Rows, device: Device, fixed: Mapping[int, float], variants: Sequence[frozenset[Trait]] | None = None) -> _Candidate:
    """The variant that describes the rows best: of nearly equal ones the first, and without a loop."""
    loops = (False, True) if device.cache_capacity and rows.kernel is not Kernel.PREFILL else (False,)
    chosen: _Search | None = None
    for loop, traits in itertools.product(loops, variants or VARIANTS[rows.kernel]):
        search = _Search(Prediction(rows, device, traits), fixed, loop)
        search.descend()
        if chosen is None or search.loss < BETTER * chosen.loss:
            chosen = search
    assert chosen is not None
    chosen.descend(rounds=2)  # a simplex that has shrunk onto a ridge starts anew
    return _Candidate(chosen.prediction.traits, *chosen.spread(chosen.point), chosen.loss)


LOOP = ((0.05, 4.0, 1.0), (1.0, 200.0, 10.0))
"""Range and start of the share of the cache that a loop fills, and of the bytes per clock and processor that come from it."""

LONGEST = 20
"""Times its start that a time may become in a fit."""


class _Search:
    """The constants of least mean ``|T / t - 1|`` within their ranges, by Nelder and Mead's simplex."""

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
        """All constants, and those of a loop, at a point of the search: ``low + (high - low) (1 + sin x) / 2``."""
        within = self.low + self.width * (1 + np.sin(point)) / 2
        values = self.whole.copy()
        values[self.free] = within[: len(self.free)]
        return values, (float(within[-2]), float(within[-1])) if self.loop else None

    def _error(self, point: np.ndarray) -> float:
        return float(np.mean(np.abs(self.prediction(*self.spread(point)) / self.prediction.rows.seconds - 1)))

    def descend(self, rounds: int = 1) -> None:
        options: dict[str, Any] = {"maxiter": 400 * len(self.point), "xatol": 1e-4, "fatol": 1e-6, "adaptive": True}
        for _ in range(rounds):
            found = _scipy().minimize(self._error, self.point, method="Nelder-Mead", options=options)
            self.point, self.loss = found.x, float(found.fun)


def _scipy() -> Any:
    try:
        from scipy import optimize
    except ImportError:
        raise InputError(f"calibrate: scipy is not installed; {installation('calibrate')}") from None
    return optimize


def _unknown(rows: Rows, device: Device, best: _Candidate, fixed: Mapping[int, float]) -> dict[int, float]:
    """Constants that the rows do not tell, with what they are held at: their standard error, from the slopes, is too large."""
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
    """What to know about the constants: those at an end of their range, and those that were held."""
    found = []
    for place, (one, value) in enumerate(zip(CONSTANTS[kernel], values, strict=True)):
        if place in fixed:
            why = "these rows do not tell it" if place in unknown else "as asked"
            found.append(f"{one.name} held at {fixed[place]:g}: {why}")
        elif value > one.low + 0.995 * (one.high - one.low) and not one.is_time:
            found.append(f"{one.name} at {one.high:g}, the end of its range")
        elif value < one.low + 0.002 * (one.high - one.low) and not one.is_time:
            found.append(f"{one.name} at {one.low:g}, the end of its range")
    return found
