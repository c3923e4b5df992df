"""Figure 7 of arXiv 2402.16363: relative memory consumption by weight, KV cache and temporary activation.

Llama-2-13b in decode and prefill at three pairs of batch and sequence length, each at FP16, with 4-bit weights (W4),
4-bit weights and KV cache (W4KV4), and everything at 4 bits (W4A4). The data are bytes; the drawing is
relative to FP16, as the survey's is.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from sympy import Expr

from symroof import Graph, figures, survey

TITLE = "Figure 7: relative memory consumption, by widths"
PHASES = ("decode", "prefill")
POINTS = ((1, 1024), (1, 4096), (16, 1024))
"""Batch and sequence length."""
WIDTHS = ("FP16", "W4", "W4KV4", "W4A4")
PARTS = {"weight": "weight", "kv_cache": "KV cache", "temporary_activation": "temporary activation"}


def sizes(graph: Graph) -> tuple[Expr, Expr, Expr]:
    """Bytes of each part, in the order of PARTS."""
    return graph.weight_memory(), graph.kv_memory(), graph.activation_memory()


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """Bytes of every part, one series per phase, widths and part."""
    names = tuple(f"batch={batch} seqlen={length}" for batch, length in POINTS)
    found: list[figures.Series] = []
    for phase in PHASES:
        for widths in WIDTHS:
            rows = [sizes(survey.step(phase, accounting, widths, batch=batch, seq_len=length).graph) for batch, length in POINTS]
            found += [
                figures.Series(phase, widths, "batch and sequence length", "", part, "byte", names, values)
                for part, values in zip(PARTS, zip(*rows, strict=True), strict=True)
            ]
    return tuple(found)


def draw(accounting: str = "survey") -> Figure:
    """Stacked bars, three groups of four; the height of FP16 is 1."""
    figure, panels = figures.new_figure(2, height=3.4, sharey=True)
    everything = data(accounting)
    for axes, phase in zip(panels, PHASES, strict=True):
        chosen = {(one.name, one.quantity): one.values for one in everything if one.panel == phase}
        whole = [sum(chosen["FP16", part][place] for part in PARTS) for place in range(len(POINTS))]
        heights = {
            part: (words, [chosen[widths, part][group] / whole[group] for group in range(len(POINTS)) for widths in WIDTHS])
            for part, words in PARTS.items()
        }
        figures.stacked(axes, [f"b={batch}\ns={length}" for batch, length in POINTS], list(WIDTHS), heights)
        figures.label(axes, "widths", "", f"{phase} ({accounting})")
    panels[0].set_ylim(0, 1.05)
    panels[0].set_ylabel("memory, FP16 = 1", fontsize=9)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle("Llama-2-13b: memory relative to FP16", fontsize=9.5)
    return figure


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "published weight = L (2 d^2 + 2 d k e + 3 d f) w / 8: the linear layers; exact: every parameter, N w / 8",
        "KV cache = 2 L b t k e c / 8, with t = s in prefill",
        "published temporary activation: all that one layer writes, proportional to a; in prefill 2 b h s^2 a / 8 of it are scores",
        "exact: the most that is alive at once, and half as many scores under the causal mask",
        "relative to FP16, activations apart: (N w + 2 L b t k e c) / (16 (N + 2 L b t k e)); W4A4 is exactly 1/4 with them too",
    )
