"""The figures the survey did not draw: every technique on the roofline, before and after, and where it pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import wrap
from typing import TYPE_CHECKING

from sympy import Add, Expr, Rational, oo

from symroof.algebra.piecewise import Piecewise
from symroof.errors import SymroofError
from symroof.hardware.machine import LETTERS
from symroof.operators.facts import Resource
from symroof.operators.tensor import Level
from symroof.present.axes import AFTER, BEFORE, ENERGY, ROOFLINE, TIME, draw_energy, draw_roofline, draw_times
from symroof.present.series import Series
from symroof.present.style import new_figure
from symroof.present.techniques import condition, factor, settings_of
from symroof.questions.crossovers import crossover
from symroof.questions.technique_effect import Effect, effect_of, fixed
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import TOTAL, costs_of
from symroof.roof.energy import arch_line, effective_balance
from symroof.symbols import option_name, substitute
from symroof.techniques.registry import technique_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        draw_roofline(left, found, self.effect)
        if any(one.panel == ENERGY for one in found):
            draw_energy(right, found)
        else:
            draw_times(right, found, self.effect)
        figure.suptitle(self.title, fontsize=10)
        lines = [part for line in self.formula for part in wrap(line, 150)]
        figure.supxlabel("\n".join(lines), fontsize=6.5, x=0.01, ha="left", linespacing=1.35)
        return figure


def _arch_line(analysis: Analysis) -> list[Series]:
    """FLOP per joule over the intensity, with the two balance points; none where there is no energy model."""
    model = analysis.graph.energy
    if model is None:
        return []
    main = max(analysis, key=lambda one: one.count * one.operator.flop_count)
    ridge = main.peak / main.bandwidth
    places = [ridge * Rational(2) ** (step // 4) for step in range(-40, 25, 4)]

    def line(name: str, x: Sequence[Expr]) -> Series:
        y = tuple(arch_line(one, main.peak, main.bandwidth, model) for one in x)
        return Series(ENERGY, name, "intensity", "FLOP/byte", "efficiency", "FLOP/J", tuple(x), y)

    return [
        line("arch line", places),
        line("ridge of time", [ridge]),
        line("half of the best", [effective_balance(model, main.peak, main.bandwidth)]),
    ]


def points(effect: Effect) -> tuple[Analysis, Analysis]:
    """The example on its device, before and after the technique, at the numbers the roofline shows."""
    before, after = effect.pair(over=False)
    if effect.at is not None:
        after = fixed(after, effect.example.over, effect.at)
    hardware = effect.example.hardware
    return analyze(before, hardware), analyze(after, hardware)


def captions(effect: Effect) -> tuple[str, ...]:
    """What the technique does, when it pays, and the crossover, from the rewrite."""
    example, payoff = effect.example, effect.payoff
    settings = settings_of(effect.kind)
    inputs = ", ".join(f"{name} {value}" for name, value in example.inputs.items())
    where = f"{example.part} of {example.model} in {example.phase} on {example.hardware}"
    beside = [f"{word} {text}" for word, text in (("after", example.before), ("against", example.against)) if text]
    lines = [", ".join(part for part in (where, settings, inputs, *beside) if part)]
    lines.append(f"F'/F = {factor(effect, effect.flop_factor)}, B'/B = {factor(effect, effect.byte_factor)}, per completed token")
    lines += [f"over the {level}: {factor(effect, value)} byte" for level, value in effect.further.items()]
    memory, compute = (
        condition(effect, effect.memory_bound, effect.memory_gain),
        condition(effect, effect.compute_bound, effect.compute_gain),
    )
    told = (
        f"{name}: {value}"
        for name, value in (("memory-bound" + (" (memory alone)" if effect.further else ""), memory), ("compute-bound", compute))
    )
    lines.append("it pays, " + "; ".join(told))
    lines += _crossovers(effect)
    if effect.memory_factor != 1 and effect.memory_factor.is_number:
        lines.append(f"the step's memory per device: x {float(effect.memory_factor):.4g}")
    best, at = effect.best
    lines.append(f"on the device: {payoff.sentence}; at best x {float(best):.4g}, at {option_name(payoff.over.symbol)} {float(at):.4g}")
    return tuple(lines)


def _crossovers(effect: Effect) -> list[str]:
    """Where the part turns compute-bound, before and after, in letters and on the device; none for a whole step."""
    found = []
    if effect.example.part == TOTAL:
        return found
    for when, step in zip((BEFORE, AFTER), effect.pair(over=True), strict=True):
        try:
            answer = crossover(step, effect.example.part, over=effect.example.over, hardware=effect.example.hardware)
        except SymroofError:
            continue
        x = answer.over.symbol
        if answer.value is not None:
            letters = f"{_short(answer.formula)} = " if answer.formula is not None else ""
            told = f"{x}* = {letters}{float(answer.value):.5g}"
            found.append(f"{when}, it turns from {answer.below}- to {answer.above}-bound at {told}")
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
    seconds = Add(*(one.count * one.time_expr for one in placed))
    flops = Add(*(one.count * one.operator.flop_count for one in placed))
    main = max(placed, key=lambda one: one.count * one.operator.flop_count)
    ceilings = analysis.graph.ceilings
    peak, bandwidth = main.peak * ceilings.compute, main.bandwidth * ceilings.factor(Level.MEMORY)
    moved = {level: Add(*(one.count * one.operator.byte_count(level=level) for one in placed)) for level in Level}
    rates = {level: LETTERS[Resource(level)] for level in Level if moved[level] != 0}
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
    low, high = payoff.sides.low, _end(payoff.over.highest, payoff.edges)
    sampled = _sampled(payoff.over.domain == "integer", low, min(high, payoff.sides.high))

    def series(name: str, x: Sequence[Expr], times: Piecewise) -> Series:
        return Series(TIME, name, over, unit, "time per token", "s", tuple(x), tuple(map(times, x)))

    inside = [edge for edge in payoff.edges if low < edge <= sampled[-1] and edge.is_finite]
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
