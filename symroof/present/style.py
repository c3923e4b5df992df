"""How figures look: colours that the colour-blind can distinguish, and a line style or marker that says the same again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), "Color Universal Design".
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
MEMORY_COLOR, COMPUTE_COLOR = COLORS[1], COLORS[2]
WIDTH = 6.4
"""Inches: two columns of a paper; half of it is one."""


def new_figure(
    columns: int = 1, rows: int = 1, *, height: float = 3.6, width: float = WIDTH, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure and its axes in reading order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    axes = list(grid.flat)
    for one in axes:
        one.tick_params(labelsize=8)
        one.grid(True, which="major", color="0.92", linewidth=0.6)
        one.set_axisbelow(True)
    return figure, axes


def label(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Axis labels with units, and a title."""
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    if title:
        axes.set_title(title, fontsize=9.5)


def mark(axes: Axes, x: float, y: float, color: str, text: str = "", *, gid: str = "", offset: tuple[float, float] = (4, -10)) -> None:
    """A closed form on top of a curve: a ring at the point, with its label beside it."""
    axes.plot(
        [x], [y], marker="o", markersize=6, markerfacecolor="white", markeredgecolor=color, linestyle="none", gid=gid or None, zorder=5
    )
    if text:
        axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", fontsize=7, color="0.15")


def stacked(axes: Axes, groups: Sequence[str], members: Sequence[str], parts: Mapping[str, tuple[str, Sequence[float]]]) -> None:
    """Stacked bars: groups named above the axes, their members below, the parts distinguished by colour and hatch.

    Parameters
    ----------
    parts : by gid, the words of the legend and the heights, group by group.
    """
    places = [group * (len(members) + 1) + bar for group in range(len(groups)) for bar in range(len(members))]
    below = [0.0] * len(places)
    for (gid, (words, heights)), color, hatch in zip(parts.items(), COLORS, HATCHES, strict=False):
        for bar in axes.bar(places, heights, 0.86, below, label=words, color=color, hatch=hatch, edgecolor="white", linewidth=0.5):
            bar.set_gid(gid)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.set_xticks(places, list(members) * len(groups), rotation=90, fontsize=7)
    axes.grid(visible=False, axis="x")
    above = axes.secondary_xaxis("top")
    above.set_xticks([group * (len(members) + 1) + (len(members) - 1) / 2 for group in range(len(groups))], groups, fontsize=7)
    above.tick_params(length=0)
