"""Figure 20 of arXiv 2402.16363: what a higher memory bandwidth does to the roofline and to the time of decode.

Left: the A6000 at FP16 with its bandwidth and with three times that, an operator of 50 FLOP/byte marked. Right: decode
time of Llama-2-13b over 0.2 to 4 TB/s, batch 1, context 1024, FP16, on a device of 200 TFLOP/s with a buffer of 10.24 MB
(the peak is not in its caption). The survey's point is the steeper slope of the memory-bound side.
"""

from __future__ import annotations

from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sympy import Integer

import symroof
from symroof import Device, OnChip, Peak, Regimes, attainable, figures, limit, load_hardware, regimes, survey
from symroof import Figure as Stated

TITLE = "Figure 20: the roofline at three times the bandwidth, and decode time over bandwidth"
TIMES = (1, 3)
INTENSITY = Integer(50)
"""FLOP/byte, marked on the left."""
LEAST, MOST = Integer(1), Integer(1000)
"""The ends of the intensity axis."""
BANDWIDTHS = tuple(Integer(tenths * 10**11) for tenths in range(2, 41, 2))
PEAK, BUFFER = "200 TFLOP/s", "10.24 MB"
BATCH, CONTEXT = 1, 1024
SETTING = f"batch={BATCH} seqlen={CONTEXT}"


def faster(times: int) -> Device:
    """The A6000 with a multiple of its bandwidth."""
    device = load_hardware(survey.A6000)
    return replace(device, bandwidth_figure=replace(device.bandwidth_figure, value=times * device.bandwidth_figure.value))


def roof(times: int) -> figures.Series:
    """The roofline at a multiple of the bandwidth: its ends, the marked intensity and the ridge."""
    device = faster(times)
    peak, bandwidth = device.machine.fastest(["fp16"])[1], device.bandwidth_figure.value
    corners = tuple(sorted((LEAST, INTENSITY, peak / bandwidth, MOST)))
    heights = tuple(attainable(corner, peak, bandwidth) for corner in corners)
    return figures.Series("roofline", f"{times}x bandwidth", "arithmetic intensity", "FLOP/byte", "performance", "FLOP/s", corners, heights)


def curve(accounting: str) -> Regimes:
    """The closed form on the right: constants over the bandwidth, regime by regime."""
    level = OnChip("buffer", Stated(symroof.units.figure(BUFFER, symroof.units.BYTE), BUFFER, None), role="buffer")
    device = replace(
        load_hardware(survey.A6000),
        peaks={"fp16": Peak(Stated(symroof.units.figure(PEAK, symroof.units.RATE), PEAK, None))},
        on_chip=(level,),
    )
    return regimes(survey.step("decode", accounting, batch=BATCH, seq_len=CONTEXT), over="bandwidth", hardware=device)


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """Attainable FLOP/s over the intensity; seconds of one decode step over the bandwidth."""
    found = curve(accounting)
    seconds = tuple(found.time_expr(bandwidth) for bandwidth in BANDWIDTHS)
    return (*map(roof, TIMES), figures.Series("decode time", SETTING, "bandwidth", "byte/s", "time", "s", BANDWIDTHS, seconds))


def draw(accounting: str = "survey") -> Figure:
    """The two rooflines, and time over bandwidth with its knee and asymptote in an inset."""
    figure, (left, right) = figures.new_figure(2)
    _rooflines(left)
    found, series = curve(accounting), figures.named(data(accounting), "decode time", SETTING)
    bandwidths = [float(bandwidth) / 1e12 for bandwidth in BANDWIDTHS]
    right.plot(bandwidths, [1e3 * value for value in series.values], color=figures.COLORS[0], marker=".", gid=SETTING)
    figures.label(right, "memory bandwidth [TB/s]", "time of a decode step [ms]", f"Llama-2-13b decode ({accounting})")
    right.set_ylim(bottom=0)
    moved = symroof.symbols.substitute(found.regimes[0].time_expr, {found.over.symbol: Integer(1)})
    right.text(0.42, 0.27, f"B / BW, B = {float(moved) / 1e9:.2f} GB", transform=right.transAxes, fontsize=8)
    _inset(right.inset_axes((0.42, 0.42, 0.56, 0.54)), found)
    return figure


def _rooflines(axes: Axes) -> None:
    """Rings at the ridges; diamonds at what the marked intensity attains."""
    # where labels go, in points, so that they cross no line: of the ridge, of the diamond
    places = (((0, 6), (7, -9)), ((-46, 6), (-28, 3)))
    for times, color, line, (above, beside) in zip(TIMES, figures.COLORS, figures.LINES, places, strict=False):
        series, ridge = roof(times), faster(times).ridge("fp16").magnitude
        heights = {x: float(y) / 1e12 for x, y in series.points}
        axes.plot([float(x) for x in series.x], list(heights.values()), color=color, linestyle=line, label=series.name, gid=series.name)
        figures.mark(axes, float(ridge), heights[ridge], color, f"I* = {float(ridge):.1f}", gid=f"knee-{series.name}", offset=above)
        point = (float(INTENSITY), heights[INTENSITY])
        axes.plot(*([one] for one in point), marker="D", markersize=5, color=color, linestyle="none", gid=f"marked-{series.name}")
        axes.annotate(f"{point[1]:.1f}", point, xytext=beside, textcoords="offset points", fontsize=7)
    axes.axvline(float(INTENSITY), color="0.4", linewidth=0.8, linestyle=":", gid="intensity")
    axes.set(xscale="log", yscale="log", xlim=(float(LEAST), float(MOST)), ylim=(0.6, 600))
    figures.label(axes, "arithmetic intensity [FLOP/byte]", "performance [TFLOP/s]", "A6000, FP16")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _inset(axes: Axes, found: Regimes) -> None:
    """The closed form far beyond the survey's range: where it bends, and what no bandwidth passes."""
    least, knee = limit(found.regimes[-1].time_expr, found.over.symbol), found.knee_expr
    assert knee is not None
    places = sorted({BANDWIDTHS[0], *found.knees_expr, 10 * found.knees_expr[-1]})
    axes.plot(
        [float(place) / 1e12 for place in places],
        [1e3 * float(found.time_expr(place)) for place in places],
        color=figures.COLORS[0],
        gid="beyond",
    )
    axes.axhline(1e3 * float(least), color="0.1", linewidth=0.7, gid=f"asymptote-{SETTING}")
    place = (float(knee) / 1e12, 1e3 * float(found.time_expr(knee)))
    figures.mark(axes, *place, figures.COLORS[0], f"{place[0]:.0f} TB/s", gid=f"knee-{SETTING}", offset=(2, 7))
    start = (float(BANDWIDTHS[0]) / 1e12, 1e3 * float(least))
    axes.annotate(f"{start[1]:.3f} ms", start, xytext=(2, 3), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks([1, 10, 100], ["1", "10", "100"])
    axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.tick_params(labelsize=7)
    axes.set_title("beyond that range", fontsize=7, y=0.84)


def formula() -> tuple[str, ...]:
    """The closed forms, a line each."""
    return (
        "left: performance = min(P, I BW); below its ridge P / BW an operator gains what the bandwidth gains",
        "right: time = B / BW, exactly, while every operator is memory-bound, as it is in the survey's range",
        "beyond the crossovers, BW = P / I of each operator (inset), time tends to F/P, which no bandwidth shortens",
    )
