"""The two panels of a technique's figure: the roofline before and after, and the time over a variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from symroof.present.series import Series, named
from symroof.present.style import COLORS, LINES, label, mark
from symroof.questions.technique_effect import Effect
from symroof.roof.costs import TOTAL
from symroof.symbols import VOCABULARY, lookup, option_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER = "before", "after"
ROOFLINE, TIME, ENERGY = "roofline", "time per token", "energy"


def draw_roofline(axes: Axes, found: Sequence[Series], effect: Effect) -> None:
    """Roofs and points before and after, with an arrow from one to the other."""
    roofs = [one for one in found if one.panel == ROOFLINE and one.roof]
    spots = [one for one in found if one.panel == ROOFLINE and not one.roof]
    every = [float(one.x[0]) for one in (*roofs, *spots)]  # pyright: ignore[reportArgumentType]
    left, right = min(every) / 4, max(*every, 100 * min(every)) * 8
    drawn: set[tuple[float, float]] = set()
    for roof in roofs:
        peak, slope = roof.values
        if (peak, slope) in drawn:
            continue
        drawn.add((peak, slope))
        after = roof.side == AFTER
        color, line = (COLORS[1], LINES[1]) if after else ("0.3", LINES[0])
        ridge = peak / slope
        axes.plot(
            [left, ridge, right],
            [left * slope, peak, peak],
            linewidth=1.3,
            zorder=2 if after else 1,
            gid=roof.name,
            color=color,
            linestyle=line,
        )
        axes.plot([ridge, ridge], [left * slope, peak], color="0.6", linewidth=0.8, linestyle=":", gid=f"ridge {roof.name}")
        words = f"{peak / 1e12:.4g} TFLOP/s, {slope / 1e9:.4g} GB/s\nridge {ridge:.4g}"
        leftish = ridge < (left * right) ** 0.5
        place = {"xytext": (4, -4 - 18 * (len(drawn) - 2)), "va": "top"} if after else {"xytext": (4 if leftish else -4, 3), "va": "bottom"}
        side = "left" if after or leftish else "right"
        axes.annotate(words, (ridge, peak), textcoords="offset points", fontsize=6.5, color=color, ha=side, **place)
    for spot in spots:
        after = spot.side == AFTER
        x, y = float(spot.x[0]), spot.values[0]  # pyright: ignore[reportArgumentType]
        color, marker = (COLORS[1], "s") if after else (COLORS[0], "o")
        words = f"{spot.name}: {x:.4g} FLOP/byte, {y / 1e12:.4g} TFLOP/s"
        size = 6 if spot.name == spot.side else 4
        axes.plot([x], [y], marker=marker, color=color, linestyle="none", markersize=size, zorder=4, gid=spot.name, label=words)
    ends = [(float(one.x[0]), one.values[0]) for one in spots if one.name == one.side]  # pyright: ignore[reportArgumentType]
    if len(ends) == 2 and ends[0] != ends[1]:
        axes.annotate(
            "", ends[1], ends[0], arrowprops={"arrowstyle": "->", "color": "0.35", "shrinkA": 4, "shrinkB": 4, "lw": 0.9}, zorder=3
        )
    low = min(one.values[0] for one in spots) if spots else min(one.values[1] for one in roofs) * left
    high = max(one.values[0] for one in roofs) * 5
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(min(low / 6, high / 2000), high))
    axes.xaxis.set_minor_formatter("")
    label(axes, "arithmetic intensity [FLOP/byte]", "performance [FLOP/s]", f"{effect.example.part}, {effect.example.phase}")
    axes.legend(fontsize=6.5, loc="lower right", framealpha=0.9, edgecolor="white")


def draw_times(axes: Axes, found: Sequence[Series], effect: Effect) -> None:
    """Times before and after, with a ring wherever paying begins or ends."""
    payoff = effect.payoff
    for name, color, line in ((BEFORE, COLORS[0], LINES[0]), (AFTER, COLORS[1], LINES[1])):
        series = named(found, TIME, name)
        x = [float(value) for value in series.x]  # pyright: ignore[reportArgumentType]
        axes.plot(x, [value * 1e3 for value in series.values], color=color, linestyle=line, label=name, gid=f"time {name}")
    edges = named(found, TIME, "edges")
    for place, (x, y) in enumerate(edges.points):
        mark(axes, float(x), float(y) * 1e3, "0.2", f"{float(x):.5g}", gid=f"edge {place}", offset=(4, 6 if place % 2 else -10))  # pyright: ignore[reportArgumentType]
    wide = float(named(found, TIME, BEFORE).x[-1]) / float(named(found, TIME, BEFORE).x[0]) > 50  # pyright: ignore[reportArgumentType]
    axes.set_xscale("log" if wide else "linear")
    over = lookup(option_name(payoff.over.symbol))
    unit = "" if over.unit == "dimensionless" else f" [{over.unit}]"
    where = " of the step" if effect.example.part == TOTAL else ""
    label(
        axes, f"{option_name(over.symbol)}{unit}", "time per token [ms]", f"time{where} over {option_name(VOCABULARY[over.symbol].symbol)}"
    )
    values = [value for name in (BEFORE, AFTER) for value in named(found, TIME, name).values]
    if min(values) > 0 and max(values) / min(values) > 30:
        axes.set_yscale("log")
        axes.tick_params(axis="y", which="minor", labelsize=6)
    else:
        axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, frameon=False, loc="best")


def draw_energy(axes: Axes, found: Sequence[Series]) -> None:
    """The arch line of Choi et al. (2013): FLOP per joule over the intensity, its balance points marked."""
    line = named(found, ENERGY, "arch line")
    axes.plot([float(x) for x in line.x], line.values, color=COLORS[0], gid="arch line", label="FLOP per joule")  # pyright: ignore[reportArgumentType]
    for place, name in enumerate(("ridge of time", "half of the best")):
        one = named(found, ENERGY, name)
        x, y = float(one.x[0]), one.values[0]  # pyright: ignore[reportArgumentType]
        mark(axes, x, y, COLORS[1], f"{name}: {x:.4g} FLOP/byte", gid=name, offset=(6, -10 - 10 * place))
    axes.set(xscale="log", yscale="log")
    label(axes, "arithmetic intensity [FLOP/byte]", "efficiency [FLOP/J]", "the roofline of energy")
    axes.legend(fontsize=7, frameon=False, loc="best")
