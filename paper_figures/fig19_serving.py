"""Figure 19 of arXiv 2402.16363: throughput, latency and memory of decode over the batch, by sequence length.

Llama-2-13b on an A6000 with weights, activations and KV cache at 8 bits; the line at 48 GB is the device's memory.
The survey says that all three rise with the batch. Its axis reads "Sequence length" where the batch is plotted, and
its caption does not say that the widths are 8 bits.
"""

from __future__ import annotations

from functools import cache

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sympy import Expr, Integer

import symroof
from symroof import Regimes, Step, figures, largest, memory_of, regimes, survey

b = symroof.symbols.b

TITLE = "Figure 19: throughput, latency and memory over batch, by sequence length"
BATCHES = range(1, 128)
LENGTHS = (256, 512, 1024, 2048)
CAPACITY = Integer(48 * 10**9)
"""Bytes: the line in the memory panel."""
PANELS = {
    "throughput": ("throughput", "token/s", "throughput [token/s]", 1.0),
    "latency": ("time", "s", "time of a step [ms]", 1e3),
    "memory": ("memory", "byte", "memory [GB]", 1e-9),
}
"""Quantity and unit of the data; label of the axis, and how many of its unit are one of the data's."""
BESIDE = {"textcoords": "offset points", "ha": "left", "va": "center", "fontsize": 7, "annotation_clip": False}
"""A text right of the axes."""


def serving(length: int, accounting: str) -> Step:
    """A decode step of any batch, 8 bits throughout."""
    return survey.step("decode", accounting, "W8A8", seq_len=length)


@cache
def curve(length: int, accounting: str) -> Regimes:
    """The closed form of the latency: piecewise linear in the batch."""
    return regimes(serving(length, accounting), over="batch", hardware=survey.A6000)


@cache
def memory(length: int, accounting: str) -> Expr:
    """Bytes of weights, KV cache and activations, linear in the batch."""
    return memory_of(serving(length, accounting))


def value(panel: str, length: int, accounting: str, batch: Expr) -> Expr:
    """What a panel shows, at one batch."""
    if panel == "memory":
        return symroof.symbols.substitute(memory(length, accounting), {b: batch})
    time = curve(length, accounting).time_expr(batch)
    return time if panel == "latency" else batch / time


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """Tokens per second, seconds and bytes of one decode step."""
    batches = tuple(Integer(batch) for batch in BATCHES)
    return tuple(
        figures.Series(
            panel, f"seqlen={length}", "batch", "", quantity, unit, tuple(BATCHES),
            tuple(value(panel, length, accounting, batch) for batch in batches),
        )
        for panel, (quantity, unit, *_) in PANELS.items()
        for length in LENGTHS
    )  # fmt: skip


def draw(accounting: str = "survey") -> Figure:
    """Three panels; a ring is the largest batch that fits, a thin line the throughput that no batch passes."""
    figure, panels = figures.new_figure(3, height=2.9)
    series = data(accounting)
    for length, color, line in zip(LENGTHS, figures.COLORS, figures.LINES, strict=False):
        name, room = f"seqlen={length}", largest(serving(length, accounting), capacity=CAPACITY)
        for axes, (panel, (*_, scale)) in zip(panels, PANELS.items(), strict=True):
            heights = [scale * height for height in figures.named(series, panel, name).values]
            axes.plot(list(BATCHES), heights, color=color, linestyle=line, label=f"S = {length}: {room.integer} fit", gid=name)
            if room.value_expr < BATCHES.stop:
                text = str(room.integer) if panel == "memory" else ""
                place = scale * float(value(panel, length, accounting, room.value_expr))
                figures.mark(axes, float(room.value_expr), place, color, text, gid=f"knee-{name}", offset=(-12, 6))
        _asymptote(panels[0], float(curve(length, accounting).asymptote_expr), color, name)
    for axes, (panel, (*_, name, _)) in zip(panels, PANELS.items(), strict=True):
        figures.label(axes, "batch", name, panel)
        axes.set_xlim(0, BATCHES.stop)
        axes.set_ylim(bottom=0)
    panels[2].axhline(float(CAPACITY) / 1e9, color="0.1", linewidth=1, linestyle="--", gid="capacity")
    panels[2].annotate(f"{float(CAPACITY) / 1e9:.0f} GB", (BATCHES.stop, float(CAPACITY) / 1e9), xytext=(3, 0), **BESIDE)
    figure.suptitle(f"Llama-2-13b on the A6000, decode, all at 8 bits ({accounting})", fontsize=9.5)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False, title_fontsize=8,
        title="rings: the largest batch that fits; thin lines: the throughput that no batch passes",
    )  # fmt: skip
    return figure


def _asymptote(axes: Axes, height: float, color: str, name: str) -> None:
    axes.axhline(height, color=color, linewidth=0.7, gid=f"asymptote-{name}")
    axes.annotate(f"{height:.0f}", (BATCHES.stop, height), xytext=(3, 0), **BESIDE)


def formula() -> tuple[str, ...]:
    """The closed forms, a line each."""
    return (
        "latency T(b) = sum over layers of max(F/P, B/BW) = T_0 + T_1 b while the weights' layers are memory-bound",
        "throughput = b / T(b); it tends to 1 / (slope of T beyond its last crossover), the thin lines",
        "memory = weights + (KV cache + activations of one sequence) b; the ring is b = (48 GB - weights) / (what one sequence takes)",
    )
