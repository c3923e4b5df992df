"""The figures the survey did not draw: every technique on the roofline, before and after, and where it is faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import wrap
from typing import TYPE_CHECKING

from sympy import Add, Expr, Rational, oo

from symroof.algebra.piecewise import Piecewise
from symroof.errors import SymroofError
from symroof.hardware.machine import RATE_SYMBOLS
from symroof.operators import Level, Resource
from symroof.present.series import Series, named
from symroof.present.style import COLORS, LINES, label, mark, new_figure
from symroof.present.tabular import times
from symroof.present.techniques import condition, factor, memory_condition
from symroof.questions.crossovers import crossover
from symroof.questions.technique_effect import Effect, effect_of, fixed
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import TOTAL, costs_of
from symroof.roof.energy import arch_line, effective_balance
from symroof.roof.roofline import total_time
from symroof.symbols import lookup, option_name, substitute
from symroof.techniques.registry import technique_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE, AFTER = "before", "after"
ROOFLINE, TIME, ENERGY = "roofline", "time per token", "energy"
POINTS = 120
FARTHEST = 1024
"""Where a picture over a variable without an end stops, if nothing happens beyond."""


@dataclass(frozen=True)
class TechniquePlate:
    """One technique: its example on the roofline, and its time over the example's variable.

    >>> TechniquePlate("quantize").title
    'quantize: weights, activations and KV cache in fewer bits'
    """

    name: str
    accountings: tuple[str, ...] = ("exact",)

    @cached_property
    def effect(self) -> Effect:
        """What the technique does to its example."""
        return effect_of(technique_class(self.name))

    @property
    def title(self) -> str:
        """What it shows."""
        return f"{self.name}: {technique_class(self.name).summary}"

    @property
    def formula(self) -> tuple[str, ...]:
        """The closed forms behind it, a line each."""
        return captions(self.effect)

    @cached_property
    def _points(self) -> tuple[Analysis, Analysis]:
        return points(self.effect)

    def data(self, accounting: str = "exact") -> tuple[Series, ...]:
        """Roofs and points before and after; times over the variable, and where paying begins or ends."""
        del accounting
        found: list[Series] = []
        for name, analysis in zip((BEFORE, AFTER), self._points, strict=True):
            found += _roofline(name, analysis, self.effect.example.part)
        return (*found, *_arch_line(self._points[1]), *_times(self.effect))

    def draw(self, accounting: str = "exact") -> Figure:
        """The two panels."""
        found = self.data(accounting)
        figure, (left, right) = new_figure(2, width=9.0, height=4.6)
        _draw_roofline(left, found, self.effect)
        if any(one.panel == ENERGY for one in found):
            _draw_energy(right, found)
        else:
            _draw_times(right, found, self.effect)
        figure.suptitle(self.title, fontsize=10)
        lines = [part for line in self.formula for part in wrap(line, 150)]
        figure.supxlabel("\n".join(lines), fontsize=6.5, x=0.01, ha="left", linespacing=1.35)
        return figure


def _arch_line(analysis: Analysis) -> list[Series]:
    """FLOP per joule over the intensity, with the two balance points; none where there is no energy model."""
    model = analysis.graph.energy
    if model is None:
        return []
    main = max(analysis, key=lambda one: one.count_expr * one.operator.flop_count)
    ridge = main.peak_expr / main.bandwidth_expr
    places = [ridge * Rational(2) ** (step // 4) for step in range(-40, 25, 4)]

    def line(name: str, x: Sequence[Expr]) -> Series:
        y = tuple(arch_line(one, main.peak_expr, main.bandwidth_expr, model).exact for one in x)
        return Series(ENERGY, name, "intensity", "FLOP/byte", "efficiency", "FLOP/J", tuple(x), y)

    return [
        line("arch line", places),
        line("ridge of time", [ridge]),
        line("half of the best", [effective_balance(model, main.peak_expr, main.bandwidth_expr).exact]),
    ]


def points(effect: Effect) -> tuple[Analysis, Analysis]:
    """The example on its device, before and after the technique, at the numbers the roofline shows."""
    before, after = effect.pair(over=False)
    if effect.at is not None:
        after = fixed(after, effect.example.over, effect.at)
    hardware = effect.example.hardware
    return analyze(before, hardware), analyze(after, hardware)


def captions(effect: Effect) -> tuple[str, ...]:
    """What the technique does, when it is faster, and the crossover, from the rewrite."""
    example, payoff = effect.example, effect.payoff
    settings = effect.kind(**effect.kind.example.settings).text.partition(":")[2]
    inputs = ", ".join(f"{name} {value}" for name, value in example.inputs.items())
    where = f"{example.part} of {example.model} in {example.phase} on {example.hardware}"
    beside = [f"{word} {text}" for word, text in (("after", example.before), ("against", example.against)) if text]
    lines = [", ".join(part for part in (where, settings, inputs, *beside) if part)]
    lines.append(f"F'/F = {factor(effect, effect.flop_factor)}, B'/B = {factor(effect, effect.byte_factor)}, per completed token")
    lines += [f"over the {level}: {factor(effect, value)} byte" for level, value in effect.further.items()]
    memory = memory_condition(effect)
    compute = condition(effect, effect.compute_bound, effect.compute_gain)
    lines.append(f"faster, memory-bound: {memory}; compute-bound: {compute}")
    lines += _crossovers(effect)
    if effect.memory_factor != 1 and effect.memory_factor.is_number:
        lines.append(f"the step's memory per device: {times(effect.memory_factor)}")
    best, at = effect.best
    best_text = f"at best {times(best)}, at {option_name(payoff.over.symbol)} {float(at):.4g}"
    if effect.device_payoff is None:
        return (*lines, f"on the device: {payoff.sentence}; {best_text}")
    throughput = effect.device_payoff
    lines.append(f"by latency: {payoff.sentence}; {best_text}")
    lines.append(
        f"by tokens per second and device: {throughput.sentence.removeprefix('per device: ')}; {times(throughput.speedup(at))} there"
    )
    return tuple(lines)


def _crossovers(effect: Effect) -> list[str]:
    """Where the part turns compute-bound, before and after, symbolic and on the device; none for a whole step."""
    found = []
    if effect.example.part == TOTAL:
        return found
    for when, step in zip((BEFORE, AFTER), effect.pair(over=True), strict=True):
        try:
            answer = crossover(step, effect.example.part, over=effect.example.over, hardware=effect.example.hardware)
        except SymroofError:
            continue
        x = answer.over.symbol
        if answer.value_expr is not None:
            letters = f"{_short(answer.formula)} = " if answer.formula is not None else ""
            crossing = f"{x}* = {letters}{float(answer.value_expr):.5g}"
            found.append(f"{when}, it turns from {answer.below}- to {answer.above}-bound at {crossing}")
        elif answer.verdict.startswith("always"):
            found.append(f"{when}, it is {answer.verdict.replace('-', ' ')}-bound over {x}")
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"a formula of {', '.join(sorted(map(str, getattr(value, 'free_symbols', ()))))}"


def _roofline(name: str, analysis: Analysis, part: str) -> list[Series]:
    """The roof that applies to most of the part's work, and the part under it."""
    names = {one.operator.name for one in costs_of(analysis.step, part)}
    placed = [one for one in analysis if one.name in names]
    seconds = total_time(placed)
    flops = Add(*(one.count_expr * one.operator.flop_count for one in placed))
    main = max(placed, key=lambda one: one.count_expr * one.operator.flop_count)
    ceilings = analysis.graph.ceilings
    peak, bandwidth = main.peak_expr * ceilings.compute, main.bandwidth_expr * ceilings.factor(Level.MEMORY)
    moved = {level: Add(*(one.count_expr * one.operator.byte_count(level=level) for one in placed)) for level in Level}
    rates = {level: RATE_SYMBOLS[Resource(level)] for level in Level if moved[level] != 0}
    slopes = {level: substitute(rate, analysis.values) * ceilings.factor(level) for level, rate in rates.items()}
    if Level.MEMORY in slopes:
        slopes[Level.MEMORY] = bandwidth
    found = []
    deciding = max(slopes, key=lambda level: moved[level] / slopes[level], default=Level.MEMORY)
    for level, slope in slopes.items():
        suffix = "" if level is deciding else f", {level}"
        ridge = peak / slope
        found.append(replace(_series(ROOFLINE, f"roof {name}{suffix}", (ridge, ridge), (peak, slope)), side=name, roof=True))
        if flops != 0:
            found.append(replace(_series(ROOFLINE, f"{name}{suffix}", (flops / moved[level],), (flops / seconds,)), side=name))
    return found


def _series(panel: str, name: str, x: Sequence[Expr], y: Sequence[Expr]) -> Series:
    return Series(panel, name, "intensity", "FLOP/byte", "performance", "FLOP/s", tuple(x), tuple(y))


def _times(effect: Effect) -> list[Series]:
    payoff = effect.payoff
    over = option_name(payoff.over.symbol)
    unit = "" if payoff.over.unit == "dimensionless" else payoff.over.unit
    low, high = payoff.sides.low, _end(payoff.over.highest, payoff.edges_expr)
    sampled = _sampled(payoff.over.domain == "integer", low, min(high, payoff.sides.high))

    def series(name: str, x: Sequence[Expr], times: Piecewise) -> Series:
        return Series(TIME, name, over, unit, "time per token", "s", tuple(x), tuple(map(times, x)))

    inside = [edge for edge in payoff.edges_expr if low < edge <= sampled[-1] and edge.is_finite]
    return [series(BEFORE, sampled, payoff.before), series(AFTER, sampled, payoff.after), series("edges", inside, payoff.after)]


def _end(highest: Expr, edges: Sequence[Expr]) -> Expr:
    if highest != oo:
        return highest
    last = [edge for edge in edges if edge.is_finite]
    return max(Rational(FARTHEST), *(3 * edge for edge in last)) if last else Rational(FARTHEST)


def _sampled(whole: bool, low: Expr, high: Expr) -> list[Expr]:
    """Points from low to high: evenly on a logarithm where the range is wide, else evenly."""
    if whole or high / max(low, Rational(1, 100)) > 100:
        start = max(low, high / 10**6, Rational(1, 100))
        ratio = float(high / start)
        places = {start * Rational(str(round(ratio ** (place / POINTS), 6))) for place in range(POINTS + 1)}
        rounded = {Rational(max(1, round(place))) for place in places} if whole else places
        return sorted(place for place in rounded if low <= place <= high)
    start = low if low > 0 else high / 100
    return [start + (high - start) * Rational(place, POINTS) for place in range(POINTS + 1)]


def _draw_roofline(axes: Axes, found: Sequence[Series], effect: Effect) -> None:
    """Roofs and points before and after, with an arrow from one to the other."""
    roofs = [one for one in found if one.panel == ROOFLINE and one.roof]
    spots = [one for one in found if one.panel == ROOFLINE and not one.roof]
    every = [one.places[0] for one in (*roofs, *spots)]
    further = sorted(one.places[0] for one in roofs if one.side == AFTER)[2:]  # of a third roof, so far on that its words need room
    left, right = min(every) / 4, max(*every, 100 * min(every), *(12 * ridge for ridge in further)) * 8
    drawn: set[tuple[float, float]] = set()
    for roof in roofs:
        peak, slope = roof.values
        if (peak, slope) in drawn:
            continue
        drawn.add((peak, slope))
        after = roof.side == AFTER
        color, line = (COLORS[1], LINES[1]) if after else ("0.3", LINES[0])
        ridge = peak / slope
        drawing = {"linewidth": 1.3, "zorder": 2 if after else 1, "color": color, "linestyle": line}
        axes.plot([left, ridge, right], [left * slope, peak, peak], gid=roof.name, **drawing)
        axes.plot([ridge, ridge], [left * slope, peak], color="0.6", linewidth=0.8, linestyle=":", gid=f"ridge {roof.name}")
        words = f"{peak / 1e12:.4g} TFLOP/s, {slope / 1e9:.4g} GB/s\nridge {ridge:.4g}"
        leftish = ridge < (left * right) ** 0.5
        place = {"xytext": (4, -4 - 18 * (len(drawn) - 2)), "va": "top"} if after else {"xytext": (4 if leftish else -4, 3), "va": "bottom"}
        side = "left" if after or leftish else "right"
        annotation = axes.annotate(words, (ridge, peak), textcoords="offset points", fontsize=6.5, color=color, ha=side, **place)
        annotation.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5})
    for spot in spots:
        after = spot.side == AFTER
        x, y = spot.places[0], spot.values[0]
        color, marker = (COLORS[1], "s") if after else (COLORS[0], "o")
        words = f"{spot.name}: {x:.4g} FLOP/byte, {y / 1e12:.4g} TFLOP/s"
        size = 6 if spot.name == spot.side else 4
        axes.plot([x], [y], marker=marker, color=color, linestyle="none", markersize=size, zorder=4, gid=spot.name, label=words)
    ends = [(one.places[0], one.values[0]) for one in spots if one.name == one.side]
    if len(ends) == 2 and ends[0] != ends[1]:
        arrow = {"arrowstyle": "->", "color": "0.35", "shrinkA": 4, "shrinkB": 4, "lw": 0.9}
        axes.annotate("", ends[1], ends[0], arrowprops=arrow, zorder=3)
    low = min(one.values[0] for one in spots) if spots else min(one.values[1] for one in roofs) * left
    high = max(one.values[0] for one in roofs) * 5
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(min(low / 6, high / 2000), high))
    axes.xaxis.set_minor_formatter("")
    label(axes, "arithmetic intensity [FLOP/byte]", "performance [FLOP/s]", f"{effect.example.part}, {effect.example.phase}")
    axes.legend(fontsize=6.5, loc="lower right", framealpha=0.9, edgecolor="white")


def _draw_times(axes: Axes, found: Sequence[Series], effect: Effect) -> None:
    """Times before and after, with a ring wherever paying begins or ends."""
    payoff = effect.payoff
    before, after, edges = (named(found, TIME, name) for name in (BEFORE, AFTER, "edges"))
    for series, color, line in ((before, COLORS[0], LINES[0]), (after, COLORS[1], LINES[1])):
        milliseconds = [value * 1e3 for value in series.values]
        axes.plot(series.places, milliseconds, color=color, linestyle=line, label=series.name, gid=f"time {series.name}")
    for place, (x, y) in enumerate(zip(edges.places, edges.values, strict=True)):
        mark(axes, x, y * 1e3, "0.2", f"{x:.5g}", gid=f"edge {place}", offset=(4, 6 if place % 2 else -10))
    axes.set_xscale("log" if before.places[-1] / before.places[0] > 50 else "linear")
    over = lookup(option_name(payoff.over.symbol))
    unit = "" if over.unit == "dimensionless" else f" [{over.unit}]"
    where = " of the step" if effect.example.part == TOTAL else ""
    label(axes, f"{option_name(over.symbol)}{unit}", "time per token [ms]", f"time{where} over {option_name(over.symbol)}")
    values = before.values + after.values
    if min(values) > 0 and max(values) / min(values) > 30:
        axes.set_yscale("log")
        axes.tick_params(axis="y", which="minor", labelsize=6)
    else:
        axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, frameon=False, loc="best")


def _draw_energy(axes: Axes, found: Sequence[Series]) -> None:
    """The arch line of Choi et al. (2013): FLOP per joule over the intensity, its balance points marked."""
    line = named(found, ENERGY, "arch line")
    axes.plot(line.places, line.values, color=COLORS[0], gid="arch line", label="FLOP per joule")
    for place, name in enumerate(("ridge of time", "half of the best")):
        one = named(found, ENERGY, name)
        x, y = one.places[0], one.values[0]
        mark(axes, x, y, COLORS[1], f"{name}: {x:.4g} FLOP/byte", gid=name, offset=(6, -10 - 10 * place))
    axes.set(xscale="log", yscale="log")
    label(axes, "arithmetic intensity [FLOP/byte]", "efficiency [FLOP/J]", "the roofline of energy")
    axes.legend(fontsize=7, frameon=False, loc="best")
