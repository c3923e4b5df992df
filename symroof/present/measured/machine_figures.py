"""Pictures of a measured machine: bandwidth by working set; its roofline, with the operators of steps that ran on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symroof.errors import InputError, quote
from symroof.files import writing
from symroof.hardware.device import CACHE, Device
from symroof.measure.machine import Measured
from symroof.measure.session import Session
from symroof.measure.step import OperatorTime, StepTime
from symroof.operators.facts import Role
from symroof.present.measured.machine import binary
from symroof.present.style import COLORS, LINES, MARKERS, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPS = {
    "products with weights": (Role.PROJECTION, Role.HEAD, Role.ROUTER),
    "attention": (Role.ATTENTION, Role.SCORES, Role.SOFTMAX, Role.WEIGHTED_SUM, Role.SCORE_CAP),
    "norms, sums, activations": tuple(set(Role) - {Role.PROJECTION, Role.HEAD, Role.ROUTER, Role.ATTENTION, Role.SCORES, Role.SOFTMAX}),
}
"""How operators are distinguished by kind."""


def bandwidth_figure(measured: Measured) -> Figure:
    """Byte/s over the working set, for every stream on one thread and on all; the capacities of the caches."""
    figure, (axes,) = new_figure(height=3.8)
    streams = [one for one in measured.streams if one.data_type == "fp32"]
    functions = list(dict.fromkeys(one.name for one in streams))
    for threads in sorted({one.threads for one in streams}):
        for name, color, marker in zip(functions, COLORS, MARKERS, strict=False):
            some = [one for one in streams if (one.name, one.threads) == (name, threads)]
            x, best = np.array([one.working_set for one in some]), np.array([one.bandwidth.best for one in some])
            low, high = (np.array([getattr(one.bandwidth, key) for one in some]) for key in ("lower", "upper"))
            many = threads > 1
            look = {"linestyle": LINES[1] if many else LINES[0], "color": color, "marker": marker, "markersize": 3.5, "linewidth": 1.2}
            words = f"{name}, {threads} threads" if many else name
            axes.plot(x, best, label=words, gid=f"{name}-{threads}", **look)  # pyright: ignore[reportArgumentType]
            axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
    for level in measured.system.caches:
        axes.axvline(level.capacity, color="0.5", linewidth=0.9, linestyle=":", gid=level.name)
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (3, -8), "textcoords": "offset points", "fontsize": 7}
        axes.annotate(f"{level.name.partition(' ')[0]}: {binary(level.capacity)}", (level.capacity, 0.99), **place)
    axes.set(xscale="log", yscale="log")
    figure.legend(loc="outside lower center", ncols=len(functions), fontsize=8, frameon=False)
    label(axes, "working set [byte]", "bandwidth [byte/s]", f"{measured.system.title}: best of {measured.repeat}, quartiles shaded")
    return figure


def measured_roofline(steps: Sequence[StepTime]) -> Figure:
    """The measured roofline, one panel a step, with every operator where it was measured: median, quartiles, and its name."""
    figure, axes = new_figure(len(steps), height=4.2, width=4.8 * len(steps) + 0.4)
    for panel, one in zip(axes, steps, strict=True):
        _panel(panel, one)
    known = {text: handle for panel in axes for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=3 * len(steps), fontsize=7.5, frameon=False)
    return figure


def _panel(axes: Axes, one: StepTime) -> None:
    device = one.analysis.device
    assert device is not None
    placed = [other for other in one.ran if other.point.operator.flop_count != 0 and other.point.operator.byte_count() != 0]
    if not placed:
        raise InputError("a roofline needs operators that ran and compute something")
    intensity = np.array([float(other.point.intensity_expr) for other in placed])
    performance = np.array([_performance(other, "median") for other in placed])
    peak, bandwidth = float(device.machine.fastest((one.data_type,))[1]), float(device.bandwidth_expr)
    left, right = min(intensity.min(), 0.1) / 1.5, max(intensity.max(), peak / bandwidth) * 3
    x = np.geomspace(left, right, 200)
    axes.plot(x, np.minimum(peak, x * bandwidth), color="0.15", linewidth=1.5, label="memory and products", gid="roofline")
    _other_ceilings(axes, device, x, peak)
    for (name, roles), color, marker in zip(GROUPS.items(), COLORS, MARKERS, strict=False):
        chosen = np.array([other.point.operator.role in roles for other in placed])
        if chosen.any():
            y = performance[chosen]
            reach = np.array([[_performance(other, "upper"), _performance(other, "lower")] for other in placed])[chosen].T
            axes.errorbar(
                intensity[chosen], y, np.abs(reach - y), fmt=marker, color=color, markersize=5, linewidth=0, elinewidth=1, label=name
            )
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(performance.min() / 3, peak * 3))
    _names(axes, placed, intensity, performance)
    text = f"{peak / 1e9:.4g} GFLOP/s, {bandwidth / 1e9:.4g} GB/s"
    axes.annotate(text, (0.97, 0.03), xycoords="axes fraction", ha="right", fontsize=7, color="0.2")
    options = one.analysis.step.options
    tokens = f"context of {options.seq_len}" if options.decode else f"prompt of {options.seq_len}"
    title = f"{one.analysis.step.model}, {options.phase}, batch {options.batch}, {tokens}, {one.data_type}"
    label(axes, "arithmetic intensity [FLOP/byte]", "measured performance [FLOP/s]", title)


def _performance(one: OperatorTime, which: str) -> float:
    assert one.seconds is not None
    return float(one.point.operator.flop_count) / getattr(one.seconds, which)


def _other_ceilings(axes: Axes, device: Device, x: np.ndarray, peak: float) -> None:
    """The last-level cache, and what runs without a contraction."""
    if device.cache is not None:
        cache = np.minimum(peak, x * float(device.cache.value))
        name = next((level.name for level in device.on_chip if level.role == CACHE), "cache")
        axes.plot(x, cache, color="0.5", linewidth=1, linestyle=":", label=f"were all bytes in the {name}", gid="cache")
    if device.vector is not None:
        axes.axhline(float(device.vector.value), color="0.5", linewidth=1, linestyle="-.", label="without contraction", gid="vector")


def _names(axes: Axes, placed: Sequence[OperatorTime], intensity: np.ndarray, performance: np.ndarray) -> None:
    """Names beside the points; those nearer than a label is tall are taken together."""
    groups: dict[tuple[float, float], list[str]] = {}
    for other, x, y in sorted(zip(placed, intensity, performance, strict=True), key=lambda item: item[1]):
        near = next((at for at in groups if 1 / 1.8 < at[0] / x < 1.8 and 1 / 1.5 < at[1] / y < 1.5), (float(x), float(y)))
        groups.setdefault(near, []).append(other.point.name)
    low, high = axes.get_xlim()
    behind = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.4}
    for (x, y), names in groups.items():
        words = "\n".join(", ".join(names[start : start + 3]) for start in range(0, len(names), 3))
        crowded = any(x < at[0] < 8 * x and 1 / 4 < at[1] / y < 1 for at in groups)  # a point below, to the right
        place: dict[str, Any] = {"ha": "left", "xytext": (6, 2 if crowded else -2)}
        if x * x > low * high:
            place = {"ha": "right", "xytext": (-6, -2)}
        va = "bottom" if crowded and place["ha"] == "left" else "top"
        axes.annotate(words, (x, y), textcoords="offset points", va=va, fontsize=6, color="0.25", bbox=behind, zorder=2.5, **place)


def save(session: Session | None, steps: Sequence[StepTime], folder: Path, form: str = "png") -> Iterator[Path]:
    """Write the figures there are data for, each whole or not at all.

    Raises
    ------
    InputError
        The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise InputError(f"folder {quote(str(folder))}: {fault.strerror or fault}") from None
    drawn = {} if session is None else {"bandwidth": bandwidth_figure(session.measured)}
    drawn |= {"roofline": measured_roofline(steps)} if steps else {}
    for name, figure in drawn.items():
        path = folder / f"{name}.{form}"
        with writing(path, "figure") as temporary:
            figure.savefig(temporary, dpi=200, format=form)
        yield path
