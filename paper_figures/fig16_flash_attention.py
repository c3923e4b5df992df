"""Figure 16 of arXiv 2402.16363: how much of memory access and time FlashAttention saves, in percent.

Llama-2-13b on an A6000 at FP16, in decode and prefill, at five pairs of batch and sequence length. The survey says that
FlashAttention cuts both, and the more the longer the context. As published the fused operator reads K or V, not both,
and writes twice the scores; the diamonds show what the exact accounting gives (see docs/errata.md).
"""

from __future__ import annotations

from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sympy import Expr, ceiling

import symroof
from symroof import Total, figures, survey

s, t = symroof.symbols.named("s t")

TITLE = "Figure 16: what FlashAttention saves of memory access and time"
PHASES = {"decode": t, "prefill": s}
"""And the letter of the sequence length."""
POINTS = ((1, 1_000), (1, 10_000), (1, 100_000), (16, 1_000), (64, 1_000))
"""Batch and sequence length."""
SERIES = ("memory access", "inference time")


def totals(phase: str, accounting: str, **inputs: Any) -> tuple[Total, Total]:
    """A whole step without FlashAttention and with it."""
    plain, fused = (
        symroof.analyze(survey.step(phase, accounting, flash_attention=flash, **inputs), survey.A6000).total for flash in (False, True)
    )
    return plain, fused


def reductions(phase: str, accounting: str, batch: int, length: int) -> tuple[Expr, Expr]:
    """Percent saved of bytes and of seconds."""
    plain, fused = totals(phase, accounting, batch=batch, seq_len=length)
    return 100 * (1 - fused.byte_count() / plain.byte_count()), 100 * (1 - fused.time_expr / plain.time_expr)


def limit(phase: str, accounting: str) -> Expr:
    """Percent of the bytes saved as the context grows, whole blocks; of time too where all of attention is memory-bound."""
    moved = (symroof.symbols.substitute(one.byte_count(), one.analysis.graph.definitions) for one in totals(phase, accounting, batch=1))
    plain, fused = (cast(Expr, one.replace(ceiling, lambda inner: inner)) for one in moved)
    return 100 * (1 - symroof.limit(fused / plain, PHASES[phase]))


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """Percent saved, one series per phase and quantity."""
    names = tuple(f"batch={batch} seqlen={length}" for batch, length in POINTS)
    found = []
    for phase in PHASES:
        saved = zip(*(reductions(phase, accounting, *point) for point in POINTS), strict=True)
        found += [
            figures.Series(phase, name, "batch and sequence length", "", "reduction", "percent", names, values)
            for name, values in zip(SERIES, saved, strict=True)
        ]
    return tuple(found)


def draw(accounting: str = "survey") -> Figure:
    """Two bars a point; a thin line is the limit of long contexts, diamonds beside published bars are exact."""
    figure, panels = figures.new_figure(2, height=3.3)
    shown = data(accounting)
    beside = data("exact") if accounting == "survey" else ()
    for axes, phase in zip(panels, PHASES, strict=True):
        for place, (name, color, hatch) in enumerate(zip(SERIES, figures.COLORS, figures.HATCHES, strict=False)):
            places = [group + 0.4 * place - 0.2 for group in range(len(POINTS))]
            bars = axes.bar(
                places,
                figures.named(shown, phase, name).values,
                0.4,
                label=name,
                color=color,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.5,
            )
            for bar in bars:
                bar.set_gid(name)
            if beside:
                heights = figures.named(beside, phase, name).values
                words = "exact" if place == 0 else None
                axes.plot(
                    places, heights, "D", color="0.1", markerfacecolor="white", markersize=4.5, label=words, gid=f"exact-{name}", zorder=5
                )
        highest = max(float(value) for one in (*shown, *beside) if one.panel == phase for value in one.y)
        _asymptote(axes, float(limit(phase, accounting)), highest)
        axes.set_xticks(range(len(POINTS)), [f"b={batch}\n{length // 1000}k" for batch, length in POINTS])
        axes.grid(visible=False, axis="x")
        figures.label(axes, "batch b, sequence length [1000 tokens]", "saved [percent]", f"{phase} ({accounting})")
    figure.suptitle("Llama-2-13b on the A6000, FP16: saved by FlashAttention", fontsize=9.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _asymptote(axes: Axes, height: float, highest: float) -> None:
    axes.axhline(height, color="0.35", linewidth=0.8, gid="asymptote-memory access")
    axes.annotate(
        f"long contexts: {height:.3g} %", (0, height), xycoords=("axes fraction", "data"), xytext=(3, 3), textcoords="offset points",
        ha="left", fontsize=7,
    )  # fmt: skip
    axes.set_ylim(0, 1.15 * max(height, highest))


def formula() -> tuple[str, ...]:
    """The closed forms, a line each."""
    return (
        "saved in decode, exact: L b h t 4 a / 8 bytes, the scores written and read twice; K and V are read once either way",
        "as published: L b h (2 a t + a e + c e t) / 8; the last term is the cache that is read once instead of twice",
        "long contexts at equal widths, decode: published (e + 2)/(2 e + 4) = 1/2, exact 2/(e + 2) = 1/65 (g = 1)",
        "long contexts, prefill: published 1/2 - e/(4 R) = 1/4, at R = e = 128 rows per block; exact 1, as K and V cross memory once",
        "were they read from memory for every block, exact would be 1 - e/(2 g R): 1/2 at R = e; 36 % at R = 100, by 100 KiB on chip",
    )
