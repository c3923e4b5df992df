"""Figure 15 of arXiv 2402.16363: operator fusion on the roofline of the A6000 at FP16.

Two linear panels. Memory-bound case: fusion takes the intensity from 50 to 180 and performance rises with it.
Compute-bound case: from 250 to 500, and nothing is gained. The survey's intensities are examples; "exact" adds
operators of Llama-2-13b that do the same: attention over a prompt (scores stay on chip), and the three
projections of one input (read once).
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sympy import Add, Expr, Integer

import symroof
from symroof import attainable, figures, fuse, survey

TITLE = "Figure 15: operator fusion on the roofline"
CASES = {"memory-bound case": (50, 180), "compute-bound case": (250, 500)}
"""Intensities before and after, in FLOP/byte."""
SPANS = {"memory-bound case": 1.4, "compute-bound case": 3}
"""The panels' axes end at this many ridge points."""
EXAMPLES = {"memory-bound case": ("qk_matmul", "softmax", "sv_matmul"), "compute-bound case": ("q_proj", "k_proj", "v_proj")}
PROMPTS = {"memory-bound case": 712, "compute-bound case": 512}
"""Tokens of prompt in the examples; at 712 attention stands where the survey has its points."""
SHORT = {"memory-bound case": "attention", "compute-bound case": "q, k, v projections"}


def intensities(panel: str) -> tuple[Expr, Expr]:
    """FLOP/byte of the example's operators one by one, and fused."""
    names = EXAMPLES[panel]
    graph = survey.step("prefill", "exact", batch=1, seq_len=PROMPTS[panel]).graph
    alone = [next(operator for operator, _ in graph if operator.name == name) for name in names]
    fused = fuse(graph, names)[0]
    flops = Add(*(operator.flop_count for operator in alone))
    return flops / Add(*(operator.byte_count() for operator in alone)), flops / fused.byte_count()


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """Per panel: the corners of the roof, and what is attained before and after."""
    device = symroof.load_hardware(survey.A6000)
    peak, bandwidth = device.machine.fastest(("fp16",))[1], device.bandwidth_figure.value

    def under_the_roof(panel: str, name: str, x: tuple[Expr, ...]) -> figures.Series:
        return figures.Series(
            panel, name, "intensity", "FLOP/byte", "performance", "FLOP/s", x, tuple(attainable(one, peak, bandwidth) for one in x)
        )

    found = []
    for panel, (before, after) in CASES.items():
        found.append(under_the_roof(panel, "roof", (Integer(0), peak / bandwidth, SPANS[panel] * peak / bandwidth)))
        found.append(under_the_roof(panel, "fusion", (Integer(before), Integer(after))))
        if accounting == "exact":
            found.append(under_the_roof(panel, SHORT[panel], intensities(panel)))
    return tuple(found)


def draw(accounting: str = "survey") -> Figure:
    """The two cases side by side; an arrow from before to after, with the gain."""
    found = data(accounting)
    figure, axes = figures.new_figure(2, sharey=True, height=3.5)
    for panel, one in zip(CASES, axes, strict=True):
        (_, (ridge, peak), (end, _)) = ((float(x), float(y) / 1e12) for x, y in figures.named(found, panel, "roof").points)
        one.fill([0, ridge, ridge], [0, peak, 0], color=figures.MEMORY_COLOR, alpha=0.12, linewidth=0, gid="region-memory")
        one.fill([ridge, end, end, ridge], [peak, peak, 0, 0], color=figures.COMPUTE_COLOR, alpha=0.12, linewidth=0, gid="region-compute")
        one.plot([0, ridge, end], [0, peak, peak], color="0.25", gid="roof")
        one.plot([ridge, ridge], [0, peak], color="0.5", linestyle=":", linewidth=0.9, gid="ridge-fp16")
        figures.label(one, "arithmetic intensity [FLOP/byte]", "", f"{panel} ({accounting})")
        one.set(xlim=(0, end), ylim=(0, 1.25 * peak))
        pairs = [series for series in found if series.panel == panel and series.name != "roof"]
        for place, (pair, color) in enumerate(zip(pairs, (figures.COLORS[0], figures.COLORS[3]), strict=False)):
            arrow(one, pair, color, peak * (0.06 + 0.12 * place), marker=figures.MARKERS[place])
        one.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), handletextpad=0.3)
        one.text(ridge, 1.02 * peak, f"ridge {ridge:.1f}", fontsize=7, ha="right", va="bottom")
    axes[0].set_ylabel("attainable performance [TFLOP/s]", fontsize=9)
    return figure


def arrow(axes: Axes, pair: figures.Series, color: str, height: float, marker: str) -> None:
    """Before and after as points on the roof, and between them the gain in performance."""
    (before, low), (after, high) = ((float(x), float(y) / 1e12) for x, y in pair.points)
    words = f"{pair.name} {before:.4g} to {after:.4g} FLOP/byte: gain {high / low:.2f}"
    style = {"color": color, "markerfacecolor": "none", "markersize": 10 if marker == "s" else 6, "zorder": 5}
    axes.plot([before, after], [low, high], linestyle="none", marker=marker, gid=pair.name, label=words, **style)
    for x, y in ((before, low), (after, high)):
        axes.plot([x, x], [0, y], color=color, linestyle="--", linewidth=0.8)
    axes.annotate("", (after, height), (before, height), arrowprops={"arrowstyle": "->", "color": color, "shrinkA": 0, "shrinkB": 0})


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "fusion leaves the FLOPs as they are and removes bytes, so the gain is min(P/BW, I2) / min(P/BW, I1)",
        "that is I2/I1 up to the ridge point P/BW, (P/BW)/I1 when fusion crosses it, and 1 when both are compute-bound",
    )
