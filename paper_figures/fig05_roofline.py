"""Figure 5 of arXiv 2402.16363: the roofline of the A6000 at FP16, with operators on it.

The survey draws the roof, the memory-bound side in red, the compute-bound side in green, and the turning
point between them at 201.6 FLOP/byte. Here the operators of Llama-2-7b's prefill of 2048 tokens (its
Table 1) stand on it too, and the axes are logarithmic so that all of them can be told apart.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import symroof
from symroof import Analysis, attainable, figures, survey

TITLE = "Figure 5: the roofline of the A6000, FP16"
BATCH, LENGTH = 1, 2048
SPAN = 3
"""The survey draws the roof up to three times the turning point."""
AXES = ("intensity", "FLOP/byte", "performance", "FLOP/s")


def analysis(accounting: str) -> Analysis:
    """Llama-2-7b, prefill of 2048 tokens at FP16, on the survey's A6000."""
    return symroof.analyze(survey.step("prefill", accounting, model="llama-2-7b", batch=BATCH, seq_len=LENGTH), survey.A6000)


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """The corners of the roof, then a point per operator under its bound; one without FLOPs has no place on the picture."""
    device = symroof.load_hardware(survey.A6000)
    peak, bandwidth = device.machine.fastest(("fp16",))[1], device.bandwidth_figure.value
    corners = (0 * peak, peak / bandwidth, SPAN * peak / bandwidth)
    roof = figures.Series("roof", "fp16", *AXES, corners, tuple(attainable(x, peak, bandwidth) for x in corners))
    placed = (one for one in analysis(accounting) if one.operator.flop_count != 0)
    points = (figures.Series(f"{one.bound}-bound", one.name, *AXES, (one.intensity_expr,), (one.performance_expr,)) for one in placed)
    return (roof, *points)


def draw(accounting: str = "survey") -> Figure:
    """The roofline, log-log; the sides of the turning point coloured as in the survey."""
    figure = figures.roofline_figure(analysis(accounting), title=f"NVIDIA A6000, FP16: Llama-2-7b, prefill of 2048 tokens ({accounting})")
    axes = figure.axes[0]
    ridge, peak = map(float, data(accounting)[0].points[1])
    (left, right), bottom = axes.get_xlim(), axes.get_ylim()[0]
    sides = {"memory": ([left, ridge, ridge, left], [left / ridge * peak, peak, bottom, bottom])}
    sides["compute"] = ([ridge, right, right, ridge], [peak, peak, bottom, bottom])
    for bound, (x, y) in sides.items():
        axes.fill(x, y, color=figures.BINDS[bound][0], alpha=0.1, linewidth=0, zorder=0, gid=f"region-{bound}")
    figures.mark(axes, ridge, peak, "0.25", gid="knee-fp16")
    return figure


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "attainable performance = min(P, I BW), with I = FLOPs / bytes the arithmetic intensity of an operator",
        "the turning point is P / BW: memory-bound below it, compute-bound from it on",
    )
