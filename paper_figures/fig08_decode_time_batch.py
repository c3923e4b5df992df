"""Figure 8 of arXiv 2402.16363: decode time over the batch for weights of 16, 8, 4, 2 and 1 bits.

Llama-2-13b on an A6000, sequence length 1024, activations and KV cache at 16 bits.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from symroof import Regimes, figures, regimes, survey

TITLE = "Figure 8: decode time over batch, by weight width"
BATCHES = range(1, 64)
WIDTHS = {"W16": "FP16", "W8": "W8", "W4": "W4", "W2": "W2", "W1": "W1"}


def curve(width: str, accounting: str) -> Regimes:
    """The closed form of one curve: piecewise linear in the batch."""
    return regimes(survey.step("decode", accounting, WIDTHS[width], seq_len=1024), over="batch", hardware=survey.A6000)


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """Seconds of one decode step."""
    curves = {width: curve(width, accounting) for width in WIDTHS}
    return tuple(
        figures.Series("decode", width, "batch", "", "time", "s", tuple(BATCHES), tuple(found.time_expr(batch) for batch in BATCHES))
        for width, found in curves.items()
    )


def knees(width: str, accounting: str) -> list[float]:
    """Batches in the figure's range at which an operator turns compute-bound: its crossover, drawn as a ring."""
    return [float(knee) for knee in curve(width, accounting).knees_expr if BATCHES[0] < knee < BATCHES[-1]]


def draw(accounting: str = "survey") -> Figure:
    """Time over batch, the crossovers of the linear layers on top."""
    figure, (axes,) = figures.new_figure()
    for series, color, line in zip(data(accounting), figures.COLORS, figures.LINES, strict=False):
        axes.plot(list(BATCHES), [1e3 * value for value in series.values], color=color, linestyle=line, label=series.name, gid=series.name)
        found = curve(series.name, accounting)
        for place, knee in enumerate(knee for knee in found.knees_expr if BATCHES[0] < knee < BATCHES[-1]):
            seconds = 1e3 * float(found.time_expr(knee))
            figures.mark(axes, float(knee), seconds, color, f"b*={float(knee):.1f}" if place == 0 else "", gid=f"knee-{series.name}")
    figures.label(axes, "batch", "time of a decode step [ms]", f"Llama-2-13b on the A6000, context 1024 ({accounting})")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False, title="weight bits", title_fontsize=8)
    return figure


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "time = sum over layers of max(F/P, B/BW), piecewise linear in the batch b",
        "each ring is a crossover: b* = P w d f / (16 BW d f - P a (d + f)) for a d x f layer, near ridge x w / 16",
    )
