"""Pictures: the roofline of a step, with every operator on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from symroof.deployment import Deployment
from symroof.errors import InputError
from symroof.operators.facts import Resource
from symroof.present.step_views import analysis_title
from symroof.present.style import COLORS, COMPUTE_COLOR, LINES, MEMORY_COLOR
from symroof.roof.analysis import Analysis
from symroof.roof.kernel_forms import share
from symroof.roof.ledger import OVERHEAD
from symroof.roof.roofline import COMPUTE, RooflinePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINDS = {
    "memory": (MEMORY_COLOR, "o"),
    COMPUTE: (COMPUTE_COLOR, "s"),
    "vector": (COLORS[0], "^"),
    "exponential": (COLORS[3], "D"),
    "cache": (COLORS[4], "v"),
    "link": (COLORS[5], "P"),
    "host": (COLORS[5], "X"),
    "chip": (COLORS[4], "<"),
    "latency": ("0.45", "*"),
    OVERHEAD: ("0.45", "p"),
}
"""Colour and marker of operators by what binds them."""


def roofline_figure(analysis: Analysis | Deployment, *, title: str | None = None) -> Figure:
    """The roofline of the device, log-log, with the operators of the step on it, by what binds them.

    Intensity is that of memory traffic. Solid are the matrix units' roofs; a dashed line is the vector units' peak, or the
    bandwidth of the last-level cache, where the device states them; other lines are what calibrated kernels reach. Exponentials
    are no FLOP: what they bind lies below a roof.
    Operators that fall on the same point share one label. Those without FLOPs have no place on a
    logarithmic axis and are left out.

    Raises
    ------
    InputError
        The analysis still depends on symbols: there is nothing to draw.

    >>> import symroof
    >>> figure = roofline_figure(symroof.load_model("opt-125m").prefill(batch=1, seq_len=512).on("t4"))
    >>> figure.axes[0].get_xlabel()
    'arithmetic intensity [FLOP/byte]'
    """
    analysis = analysis if isinstance(analysis, Analysis) else analysis.analysis
    placed = [operator for operator in analysis if operator.operator.flop_count != 0 and operator.operator.byte_count() != 0]
    if analysis.device is None or any(operator.bound is None for operator in placed):
        raise InputError("a picture needs numbers: give the batch, seq_len, the widths, and a device")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _draw_roofs(axes, analysis, placed)
    _draw_operators(axes, placed)
    axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity [FLOP/byte]", ylabel="attainable performance [FLOP/s]")
    axes.set_title(title or analysis_title(analysis), fontsize=10)
    axes.grid(True, which="major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def _draw_roofs(axes: Axes, analysis: Analysis, placed: Sequence[RooflinePoint]) -> None:
    rates = analysis.machine.rates
    on_matrix = [one for one in placed if Resource.VECTOR not in rates or one.operator.contraction_flop_count != 0] or placed
    roofs = dict.fromkeys((operator.data_type, float(operator.peak_expr)) for operator in on_matrix)
    bandwidth = float(placed[0].bandwidth_expr)
    intensities = [float(operator.intensity_expr) for operator in placed]
    ridges = [peak / bandwidth for _, peak in roofs]
    left, right = min(*intensities, *ridges) / 3, max(*intensities, *ridges) * 8
    beside: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": 7}
    for (data_type, peak), ridge in zip(roofs, ridges, strict=True):
        axes.plot([left, ridge, right], [left * bandwidth, peak, peak], color="0.25", linewidth=1.3, zorder=1)
        axes.plot([ridge, ridge], [0, peak], color="0.6", linewidth=0.8, linestyle=":", zorder=1, gid=f"ridge-{data_type}")
        axes.annotate(f"{data_type}: {peak / 1e12:.4g} TFLOP/s\nridge {ridge:.4g} FLOP/byte", (ridge, peak), xytext=(-4, 4), **beside)
    further: dict[str, Any] = {"color": "0.45", "linewidth": 1.0, "linestyle": "--", "zorder": 1}
    top = max(peak for _, peak in roofs)
    if Resource.VECTOR in rates:
        vector = float(rates[Resource.VECTOR])
        axes.plot([vector / bandwidth, right], [vector, vector], gid="roof-vector", **further)
        axes.annotate(f"vector units: {vector / 1e12:.4g} TFLOP/s", (right, vector), xytext=(-4, 3), **beside)
    side: dict[str, Any] = {"xytext": (-6, 4)}
    if any(Resource.CACHE in one.seconds_exprs for one in placed):
        cache = float(rates[Resource.CACHE])
        axes.plot([left, top / cache], [left * cache, top], gid="roof-cache", **further)
        shown = top / cache / 3
        axes.annotate(f"cache: {cache / 1e9:.4g} GB/s", (shown, shown * cache), xytext=(-6, 4), **beside)
        side = {"xytext": (6, -4), "ha": "left", "va": "top"}  # the cache's line is above
    _draw_reached(axes, placed, left, right)
    middle = (left * min(ridges)) ** 0.5
    axes.annotate(f"{bandwidth / 1e9:.4g} GB/s", (middle, middle * bandwidth), **beside | side)
    axes.set_xlim(left, right)
    lowest = min(left * bandwidth, *(float(operator.performance_expr) for operator in placed))
    axes.set_ylim(lowest / 1.5, top * 4)


def _draw_reached(axes: Axes, placed: Sequence[RooflinePoint], left: float, right: float) -> None:
    """What calibrated kernels of every class reach of the matrix units and of memory."""
    fitted = {operator.constants: operator for operator in placed if operator.constants and operator.constants.error}
    for (constants, one), dashes in zip(fitted.items(), LINES[2:], strict=False):
        peak = float(one.peak_expr) * float(share(constants, Resource.COMPUTE))
        bandwidth = float(one.bandwidth_expr) * float(share(constants, Resource.MEMORY))
        line = {"linewidth": 0.9, "linestyle": dashes, "color": "0.45", "zorder": 1, "label": f"reached by {constants.kernel}"}
        axes.plot([left, peak / bandwidth, right], [left * bandwidth, peak, peak], **line)


def _draw_operators(axes: Axes, placed: Sequence[RooflinePoint]) -> None:
    for bound, (color, marker) in BINDS.items():
        chosen = [operator for operator in placed if operator.bound == bound]
        if chosen:
            points = [(float(operator.intensity_expr), float(operator.performance_expr)) for operator in chosen]
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, color=color, marker=marker, s=26, label=f"{bound}-bound", zorder=3, edgecolors="white", linewidths=0.5)
    above = 0
    ridge = max(float(operator.peak_expr / operator.bandwidth_expr) for operator in placed)
    for (intensity, performance), names in _merged(placed).items():
        roof = min(float(placed[0].peak_expr), intensity * float(placed[0].bandwidth_expr))
        style = BELOW if intensity < ridge / 8 or performance < roof / 2 else LEFT if intensity < ridge else ABOVE
        words = "\n".join(", ".join(names[start : start + 3]) for start in range(0, len(names), 3))
        if style is ABOVE:  # one over the other, as they are wider than the points are apart
            style = {**ABOVE, "xytext": (0, 6 + 9 * above)}
            above += 1 + words.count("\n")
        axes.annotate(words, (intensity, performance), textcoords="offset points", fontsize=6.5, color="0.2", **style)


# Where a label goes so that it crosses neither the roof nor the ridge.
BELOW = {"xytext": (7, -3), "ha": "left", "va": "top"}
LEFT = {"xytext": (-6, 2), "ha": "right", "va": "bottom"}
ABOVE = {"xytext": (0, 6), "ha": "center", "va": "bottom"}


def _merged(placed: Sequence[RooflinePoint]) -> dict[tuple[float, float], list[str]]:
    """Names by point; points nearer than a label is tall are taken together."""
    groups: dict[tuple[float, float], list[str]] = {}
    for operator in sorted(placed, key=lambda one: float(one.intensity_expr)):
        x, y = float(operator.intensity_expr), float(operator.performance_expr)
        near = next((point for point in groups if 1 / 1.6 < point[0] / x < 1.6 and 1 / 1.6 < point[1] / y < 1.6), (x, y))
        groups.setdefault(near, []).append(operator.name)
    return groups
