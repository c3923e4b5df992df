"""Figure 6 of arXiv 2402.16363: the rooflines of the A6000 at FP16 and INT8.

Linear axes up to three times the INT8 turning point. The survey draws the INT8 roof at twice the FP16
one, which turns at 403.2 FLOP/byte; "exact" draws the INT8 peak that its own device entry states (309.7 TOP/s).
"""

from __future__ import annotations

from matplotlib.figure import Figure
from sympy import Expr

import symroof
from symroof import attainable, figures, survey

TITLE = "Figure 6: rooflines at FP16 and INT8"
INT8_OVER_FP16 = 2
"""How the survey draws the INT8 roof."""
SPAN = 3
"""The axis ends at this many times the last turning point."""
TERA = 1e12


def roofs(accounting: str) -> tuple[dict[str, Expr], Expr]:
    """The peak of each data type in FLOP/s, and the bandwidth in byte/s."""
    device = symroof.load_hardware(survey.A6000)
    half = device.machine.fastest(("fp16",))[1]
    integer = INT8_OVER_FP16 * half if accounting == "survey" else device.machine.fastest(("int8",))[1]
    return {"FP16": half, "INT8": integer}, device.bandwidth_figure.value


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """The corners of both roofs, and the two ridge points."""
    peaks, bandwidth = roofs(accounting)
    ridges = {name: peak / bandwidth for name, peak in peaks.items()}
    end = SPAN * ridges["INT8"]
    lines = tuple(
        figures.Series(
            "roofline",
            name,
            "intensity",
            "FLOP/byte",
            "performance",
            "FLOP/s",
            corners,
            tuple(attainable(x, peak, bandwidth) for x in corners),
        )
        for name, peak in peaks.items()
        for corners in [(0 * end, ridges[name], end)]
    )
    return (
        *lines,
        figures.Series("roofline", "ridge points", "data type", "", "intensity", "FLOP/byte", tuple(ridges), tuple(ridges.values())),
    )


def draw(accounting: str = "survey") -> Figure:
    """Both roofs; the ridge points as vertical lines."""
    found = data(accounting)
    figure, (axes,) = figures.new_figure()
    *roofs_drawn, ridges = found
    end, top = float(roofs_drawn[-1].points[-1][0]), max(series.values[-1] for series in roofs_drawn) / TERA
    for roof, ridge, color, line in zip(roofs_drawn, ridges.values, figures.COLORS, figures.LINES, strict=False):
        peak = roof.values[-1] / TERA
        axes.plot(
            [float(x) for x in roof.x], [value / TERA for value in roof.values], color=color, linestyle=line, label=roof.name, gid=roof.name
        )
        axes.plot([ridge, ridge], [0, peak], color=color, linestyle=":", linewidth=0.9, gid=f"ridge-{roof.name}")
        figures.mark(axes, ridge, peak, color, gid=f"knee-{roof.name}")
        words = f"{roof.name}: {peak:.2f} TFLOP/s from {ridge:.2f} FLOP/byte"
        axes.text(0.98 * end, peak + 0.02 * top, words, fontsize=8, color=color, ha="right")
    figures.label(axes, "arithmetic intensity [FLOP/byte]", "attainable performance [TFLOP/s]", f"NVIDIA A6000 ({accounting})")
    axes.set(xlim=(0, end), ylim=(0, 1.15 * top))
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "attainable performance = min(P, I BW); the ridge point is P / BW",
        "twice the peak at the same bandwidth has twice the ridge point: below the FP16 ridge the two roofs are one line",
        "halving all widths also doubles I, so an operator gains a factor of two on either side",
    )
