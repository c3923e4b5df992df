"""Pictures of a validation: predicted against measured, residuals over intensity, rooflines with measured points, errors by regime."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from symroof.calibration.prediction import COMPUTE, LAUNCH, MEMORY, REGIMES
from symroof.calibration.steps import PHASES, StepValidation
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


def _title(one: Validation) -> str:
    return f"{named(one)}\n{one.device.name}"


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
        text = f"mean error {error.mape:.1f} %, median {error.median:.1f} %\n{error.rows} kernels" if error else "the roofline alone"
        panel.annotate(text, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=7, color="0.2")
        label(panel, "measured [us]", "predicted [us]", _title(one))
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
        label(panel, "arithmetic intensity [FLOP/byte]", "predicted / measured - 1 [%]", _title(one))
    _legend(figure, axes)
    return figure


def _running_median(x: np.ndarray, y: np.ndarray, parts: int = 16) -> tuple[list[float], list[float]]:
    """The median in parts of the range with equally many points each."""
    pieces = [piece for piece in np.array_split(np.argsort(x, kind="stable"), parts) if len(piece)]
    return [float(np.median(x[piece])) for piece in pieces], [float(np.median(y[piece])) for piece in pieces]


def _peak(one: Validation) -> float:
    return float(one.device.machine.fastest(wide_enough(max(one.rows.widths)))[1])


def _ridge(one: Validation) -> float:
    return _peak(one) / float(one.device.bandwidth_expr)


def roofline_figure(found: Sequence[Validation]) -> Figure:
    """Measured performance under all ceilings: matrix units and memory, those stated beside them, and what kernels reach of them."""
    figure, axes = _panels(found)
    for panel, one in zip(axes, found, strict=True):
        intensity, performance = one.bound.flops / one.bound.traffic, one.bound.flops / one.rows.seconds
        peak, bandwidth = _peak(one), float(one.device.bandwidth_expr)
        left, right = intensity.min() / 2, max(intensity.max(), peak / bandwidth) * 2
        x = np.geomspace(left, right, 200)
        _points(panel, one, intensity, performance)
        panel.plot(x, np.minimum(peak, x * bandwidth), color="0.15", linewidth=1.4, label="stated", gid="stated")
        shares = {} if one.constants is None else SHARES[one.constants.kernel]
        reached = {resource: float(one.constants[letter]) for resource, letter in shares.items()} if one.constants else {}
        lower = np.minimum(peak * reached.get(Resource.COMPUTE, 1), x * bandwidth * reached.get(Resource.MEMORY, 1))
        panel.plot(x, lower, color="0.15", linewidth=1.1, linestyle="--", label="calibrated shares", gid="calibrated")
        rates = one.device.machine.with_ceilings(STATED).rates
        if Resource.CACHE in rates:
            cached = np.minimum(peak, x * float(rates[Resource.CACHE]))
            panel.plot(x, cached, color="0.55", linewidth=0.9, linestyle=":", label="were all bytes in the cache", gid="cache")
        flat = _flat_ceilings(one)
        for name, rate in flat.items():
            above = rate == max(flat.values())  # so that two names do not meet
            panel.axhline(rate, color="0.45", linewidth=0.9, linestyle="-.", gid=name)
            place = {"xytext": (3, 2 if above else -2), "va": "bottom" if above else "top"}
            panel.annotate(name, (left, rate), textcoords="offset points", fontsize=6.5, color="0.3", **place)
        panel.set(xscale="log", yscale="log", xlim=(left, right), ylim=(performance.min() / 2, max([peak, *flat.values()]) * 3.5))
        text = f"{peak / 1e12:.4g} TFLOP/s, {bandwidth / 1e9:.4g} GB/s"
        panel.annotate(text, (0.97, 0.04), xycoords="axes fraction", ha="right", fontsize=7, color="0.2")
        label(panel, "arithmetic intensity [FLOP/byte]", "performance [FLOP/s]", _title(one))
    _legend(figure, axes)
    return figure


def _flat_ceilings(one: Validation) -> dict[str, float]:
    """Ceilings of attention that do not depend on the bytes, in FLOP/s: its vector FLOPs and exponentials at their rates."""
    rates = one.device.machine.with_ceilings(STATED).rates
    if one.rows.kernel is Kernel.GEMM:
        return {}
    from symroof.calibration.prediction import dimensions, evaluated, operator_of

    operator, values, count = operator_of(one.rows.kernel, one.rows.widths, one.device), dimensions(one.rows), len(one.rows)
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


def step_figure(steps: Sequence[StepValidation]) -> Figure:
    """Published steps: how near they come to the least time, by class; and how far calibrated times are off."""
    figure, (left, right) = new_figure(2, width=11.0, height=5.2)
    kinds = [(phase, wide) for phase in PHASES for wide in ("16 bit", "8 bit", "<= 5 bit")]
    members = {kind: [one for one in steps if (one.point.phase, _width(one)) == kind] for kind in kinds}
    shown = [kind for kind in kinds if members[kind]]
    for place, kind in enumerate(shown):
        for several, marker, face in ((False, "o", None), (True, "D", "none")):
            some = [one for one in members[kind] if (one.point.devices > 1) is several]
            spread = [place + 0.28 * ((7 * at) % 11 / 10 - 0.5) for at in range(len(some))]
            color = COLORS[PHASES.index(kind[0])]
            face_ = color if face is None else face
            style = {"s": 22, "linewidths": 0.9, "edgecolors": color, "facecolors": face_, "marker": marker}
            known = {str(handle.get_label()) for handle in left.collections}
            text = "several devices, links not counted" if several else "one device"
            left.scatter([one.reached for one in some], spread, label=text if some and text not in known else None, **style)
        middle = float(np.median([one.reached for one in members[kind]]))
        left.plot([middle] * 2, [place - 0.32, place + 0.32], color="black", linewidth=1.6, label="median" if place == 0 else None)
    left.axvline(1, color="0.3", linewidth=0.9, linestyle="--")
    left.set_yticks(range(len(shown)), [f"{phase}, {wide}\n{len(members[phase, wide])} points" for phase, wide in shown], fontsize=8)
    left.set(ylim=(len(shown) - 0.5, -0.5), xlim=(0, 1.2))
    label(left, "least time / measured time", "", "published steps against the bound")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=8, frameon=False)
    _step_errors(right, [one for one in steps if one.predicted is not None])
    return figure


def _width(one: StepValidation) -> str:
    bits = float(one.point.bits[0])
    return "16 bit" if bits == 16 else "8 bit" if bits > 5 else "<= 5 bit"


def _step_errors(axes: Axes, known: Sequence[StepValidation]) -> None:
    """Relative errors of the sums of calibrated kernels, one bar a step."""
    ordered = sorted(known, key=lambda one: (one.point.device, PHASES.index(one.point.phase), one.point.engine, one.point.batch))
    for place, one in enumerate(ordered):
        error = 100 * (float(one.predicted or 0) / one.point.seconds - 1)
        hatch = "" if one.point.sixteen else "///"
        axes.barh([place], [error], 0.72, color=COLORS[PHASES.index(one.point.phase)], hatch=hatch, edgecolor="white", linewidth=0.5)
    for band in BANDS:
        axes.axvspan(-100 * band, 100 * band, color="0.5", alpha=0.1, linewidth=0, zorder=0)
    axes.axvline(0, color="0.25", linewidth=0.9)
    names = [
        f"{one.point.model}, {one.point.engine}, {one.point.phase} {one.point.batch} x {one.point.prompt}+{one.point.output}, "
        f"{one.point.device.split('-')[0]}, {one.point.bits[0]} bit"
        for one in ordered
    ]
    axes.set_yticks(range(len(ordered)), names, fontsize=5.5)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    label(axes, "calibrated / measured - 1 [%]", "", "sums of calibrated kernels; hatched: 8 bit")


KERNEL_FIGURES = {"predicted": predicted_figure, "residuals": residual_figure, "rooflines": roofline_figure, "errors": error_figure}


def save(found: Sequence[Validation], steps: Sequence[StepValidation], folder: Path, form: str = "png") -> Iterator[Path]:
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
    drawn = {name: functools.partial(draw, found) for name, draw in KERNEL_FIGURES.items()} if found else {}
    if steps:
        drawn["steps"] = functools.partial(step_figure, steps)
    for name, draw in drawn.items():
        path = folder / f"{name}.{form}"
        with writing(path, "figure") as temporary:
            draw().savefig(temporary, dpi=160, format=form, metadata={"Software": None} if form == "png" else None)
        yield path
