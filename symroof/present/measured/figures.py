"""Pictures of a validation: predicted against measured, residuals over intensity, rooflines with measured points, errors by regime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from symroof.calibration.prediction import COMPUTE, LAUNCH, MEMORY, REGIMES
from symroof.calibration.validate import Validation
from symroof.errors import InputError, quote
from symroof.files import writing
from symroof.hardware.calibration import Kernel
from symroof.hardware.machine import STATED
from symroof.operators import Resource
from symroof.operators.facts import wide_enough
from symroof.present.measured.tables import widths_of
from symroof.present.style import COLORS, COMPUTE_COLOR, MEMORY_COLOR, label, new_figure
from symroof.roof.kernel_forms import SHARES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOK = {LAUNCH: (COLORS[0], "^"), MEMORY: (MEMORY_COLOR, "o"), COMPUTE: (COMPUTE_COLOR, "s")}
TITLES = {Kernel.GEMM: "GEMM", Kernel.DECODE: "attention, decode", Kernel.PREFILL: "attention, prefill"}
SMALL = {"s": 5, "linewidths": 0, "alpha": 0.45, "rasterized": True}
BANDS = (0.1, 0.2)


def named(one: Validation) -> str:
    """What a panel is of."""
    return f"{TITLES[one.rows.kernel]}, {widths_of(one.rows)} bit"


def _points(axes: Axes, one: Validation, x: np.ndarray, y: np.ndarray) -> None:
    """A cloud, each regime with a colour and a marker of its own."""
    for regime in REGIMES:
        chosen = one.bound.regime == regime
        if chosen.any():
            color, marker = LOOK[regime]
            axes.scatter(x[chosen], y[chosen], color=color, marker=marker, label=f"{regime}-bound", **SMALL)  # pyright: ignore[reportArgumentType]


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all panels."""
    from matplotlib.collections import PathCollection

    known = {text: handle for one in axes for handle, text in zip(*one.get_legend_handles_labels(), strict=True)}
    legend = figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=len(known), fontsize=8, frameon=False)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_alpha(1)
            handle.set_sizes([24])


def _panels(found: Sequence[Validation], *, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure, axes = new_figure(columns, rows, height=height * rows + 0.3, width=3.0 * columns + 0.4)
    for spare in axes[len(found) :]:
        spare.set_visible(False)
    return figure, axes[: len(found)]


def predicted_figure(found: Sequence[Validation]) -> Figure:
    """Predicted against measured times, with the diagonal and 10 and 20 percent beside it."""
    figure, axes = _panels(found)
    for panel, one in zip(axes, found, strict=True):
        measured, predicted = one.rows.seconds * 1e6, (one.bound.seconds if one.predicted is None else one.predicted) * 1e6
        ends = np.array([min(measured.min(), predicted.min()) / 1.5, max(measured.max(), predicted.max()) * 1.5])
        for band in BANDS:
            panel.fill_between(ends, ends * (1 - band), ends * (1 + band), color="0.5", alpha=0.13, linewidth=0, gid=f"band-{band:g}")
        panel.plot(ends, ends, color="0.25", linewidth=0.9, gid="diagonal")
        _points(panel, one, measured, predicted)
        panel.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        error = one.errors.get("all")
        told = f"mean error {error.mape:.1f} %, median {error.median:.1f} %\n{error.rows} kernels" if error else "the roofline alone"
        panel.annotate(told, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=7, color="0.2")
        label(panel, "measured [µs]", "predicted [µs]", f"{named(one)}, {one.device.name}")
    _legend(figure, axes)
    return figure


def residual_figure(found: Sequence[Validation]) -> Figure:
    """Relative residuals over arithmetic intensity, with their running median and the ridge point."""
    figure, axes = _panels(found)
    for panel, one in zip(axes, found, strict=True):
        predicted = one.bound.seconds if one.predicted is None else one.predicted
        intensity, residual = one.bound.flops / one.bound.traffic, 100 * (predicted / one.rows.seconds - 1)
        panel.axhline(0, color="0.25", linewidth=0.9)
        for band in BANDS:
            panel.axhspan(-100 * band, 100 * band, color="0.5", alpha=0.13, linewidth=0)
        _points(panel, one, intensity, residual)
        middle = _running_median(intensity, residual)
        panel.plot(*middle, color="black", linewidth=1.6, label="running median", gid="median")
        ridge = _ridge(one)
        panel.axvline(ridge, color="0.4", linewidth=0.9, linestyle=":", label="ridge point", gid="ridge")
        panel.set(xscale="log", ylim=(-60, 60))
        label(panel, "arithmetic intensity [FLOP/byte]", "predicted / measured - 1 [%]", f"{named(one)}, {one.device.name}")
    _legend(figure, axes)
    return figure


def _running_median(x: np.ndarray, y: np.ndarray, parts: int = 16) -> tuple[list[float], list[float]]:
    """The median in parts of the range with equally many points each."""
    pieces = [piece for piece in np.array_split(np.argsort(x, kind="stable"), parts) if len(piece)]
    return [float(np.median(x[piece])) for piece in pieces], [float(np.median(y[piece])) for piece in pieces]


def _peak(one: Validation) -> float:
    return float(one.device.fastest(wide_enough(max(one.rows.widths)))[1])


def _ridge(one: Validation) -> float:
    return _peak(one) / float(one.device.memory_bandwidth)


def roofline_figure(found: Sequence[Validation]) -> Figure:
    """Measured performance under all ceilings: matrix units and memory, those stated beside them, and what kernels reach of them."""
    figure, axes = _panels(found)
    for panel, one in zip(axes, found, strict=True):
        intensity, performance = one.bound.flops / one.bound.traffic, one.bound.flops / one.rows.seconds
        peak, bandwidth = _peak(one), float(one.device.memory_bandwidth)
        left, right = intensity.min() / 2, max(intensity.max(), peak / bandwidth) * 2
        x = np.geomspace(left, right, 200)
        _points(panel, one, intensity, performance)
        panel.plot(x, np.minimum(peak, x * bandwidth), color="0.15", linewidth=1.4, label="stated", gid="stated")
        shares = {} if one.constants is None else SHARES[one.constants.kernel]
        reached = {resource: float(one.constants[letter]) for resource, letter in shares.items()} if one.constants else {}
        lower = np.minimum(peak * reached.get(Resource.COMPUTE, 1), x * bandwidth * reached.get(Resource.MEMORY, 1))
        panel.plot(x, lower, color="0.15", linewidth=1.1, linestyle="--", label="calibrated shares", gid="calibrated")
        for name, rate in _flat_ceilings(one).items():
            panel.axhline(rate, color="0.45", linewidth=0.9, linestyle="-.", gid=name)
            panel.annotate(name, (left, rate), xytext=(3, 2), textcoords="offset points", fontsize=6.5, color="0.3")
        panel.set(xscale="log", yscale="log", xlim=(left, right), ylim=(performance.min() / 2, peak * 2.5))
        told = f"{peak / 1e12:.4g} TFLOP/s, {bandwidth / 1e9:.4g} GB/s"
        panel.annotate(told, (0.97, 0.04), xycoords="axes fraction", ha="right", fontsize=7, color="0.2")
        label(panel, "arithmetic intensity [FLOP/byte]", "performance [FLOP/s]", f"{named(one)}, {one.device.name}")
    _legend(figure, axes)
    return figure


def _flat_ceilings(one: Validation) -> dict[str, float]:
    """Ceilings of attention that do not depend on the bytes, in FLOP/s: its vector FLOPs and exponentials at their rates."""
    rates = one.device.machine.with_ceilings(STATED).rates
    if one.rows.kernel is Kernel.GEMM:
        return {}
    from symroof.calibration.prediction import dimensions, evaluated, operator_of

    operator, values, count = operator_of(one.rows.kernel, one.rows.widths), dimensions(one.rows), len(one.rows)
    found = {}
    for resource in (Resource.VECTOR, Resource.EXPONENTIAL):
        if resource in rates and resource in operator.demands:
            demand = evaluated(operator.demands[resource], values, count)
            found[f"{resource} units"] = float(np.median(one.bound.flops / demand)) * float(rates[resource])
    return found


def error_figure(found: Sequence[Validation]) -> Figure:
    """Mean and median error of every kernel by regime, with the floor: how far collections of such rows differ."""
    shown = [one for one in found if one.errors]
    if not shown:
        raise InputError("errors by regime: no kernel here has constants")
    figure, (axes,) = new_figure(height=3.6, width=max(6.4, 1.5 * len(shown)))
    for place, one in enumerate(shown):
        known = [regime for regime in REGIMES if regime in one.errors]
        for at, regime in enumerate(known):
            x = place + (at - (len(known) - 1) / 2) * 0.24
            color, _ = LOOK[regime]
            hatch = {LAUNCH: "", MEMORY: "///", COMPUTE: "..."}[regime]
            text = f"{regime}-bound" if regime not in {bar.get_gid() for bar in axes.patches} else None
            (bar,) = axes.bar([x], [one.errors[regime].mape], 0.22, color=color, hatch=hatch, edgecolor="white", linewidth=0.5, label=text)
            bar.set_gid(regime)
            axes.plot(
                [x], [one.errors[regime].median], marker="_", markersize=9, color="black", label="median" if place == at == 0 else None
            )
        if one.floor is not None:
            span = [place - 0.42, place + 0.42]
            axes.plot(
                span, [one.floor] * 2, color="0.2", linewidth=1.2, linestyle=":", label="floor" if "floor" not in _labels(axes) else None
            )
    names = [
        f"{one.errors['all'].mape:.1f} %\n{TITLES[one.rows.kernel].replace(', ', chr(10))}\n{widths_of(one.rows)} bit\n{one.device.name}"
        for one in shown
    ]
    axes.set_xticks(range(len(shown)), names, fontsize=7)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    label(axes, "", "mean error [%]", "errors by regime; below each kernel the mean over all its rows")
    axes.legend(fontsize=8, frameon=False, ncols=5, loc="upper left")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.18)
    return figure


def _labels(axes: Axes) -> set[str]:
    return {str(line.get_label()) for line in axes.lines}


FIGURES = {
    "predicted": predicted_figure,
    "residuals": residual_figure,
    "rooflines": roofline_figure,
    "errors": error_figure,
}


def save(found: Sequence[Validation], folder: Path, form: str = "png") -> Iterator[Path]:
    """Write all figures of a validation, each whole or not at all.

    Raises
    ------
    InputError
        The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise InputError(f"folder {quote(str(folder))}: {fault.strerror or fault}") from None
    for name, draw in FIGURES.items():
        path = folder / f"{name}.{form}"
        with writing(path, "figure") as temporary:
            draw(found).savefig(temporary, dpi=200, format=form)
        yield path
