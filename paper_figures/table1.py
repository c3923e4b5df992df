"""Table 1 of arXiv 2402.16363: Llama-2-7b on an A6000, FP16, batch 1, sequence length 2048.

Operations, memory access, arithmetic intensity, attainable performance and bound of every operator, in prefill
and in decode. `tables` shows the published numbers with the exact ones beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

import symroof
from symroof import Analysis, RooflinePoint, figures, survey

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Table 1: every operator of Llama-2-7b on the A6000"
BATCH, LENGTH = 1, 2048
PHASES = ("prefill", "decode")
ROWS = (
    *("q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj", "down_proj"),
    *("qk_matmul", "sv_matmul", "softmax", "attn_norm", "mlp_norm", "attn_add", "mlp_add"),
)
QUANTITIES = {
    "OPs": ("flops", "FLOP"),
    "memory access": ("bytes", "byte"),
    "arithmetic intensity": ("intensity", "FLOP/byte"),
    "max performance": ("performance", "FLOP/s"),
}
"""The survey's headings, with quantity and unit."""
EDGES = (0.29, 0.45, 0.65, 0.81)
"""Right edges of the columns of numbers, in parts of the table's width."""


def analysis(phase: str, accounting: str = "survey") -> Analysis:
    """One half of the table."""
    return symroof.analyze(survey.step(phase, accounting, model="llama-2-7b", batch=BATCH, seq_len=LENGTH), survey.A6000)


def costs(placed: RooflinePoint) -> tuple[figures.Number, figures.Number, figures.Number, figures.Number]:
    """The four numbers of one row."""
    return placed.operator.flop_count, placed.operator.byte_count(), placed.intensity_expr, placed.performance_expr


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """A series per phase and quantity, over the operators. The bound is "compute" where the intensity reaches the ridge point."""
    found = []
    for phase in PHASES:
        half = analysis(phase, accounting)
        columns = zip(*(costs(half[name]) for name in ROWS), strict=True)
        for (heading, (kind, unit)), column in zip(QUANTITIES.items(), columns, strict=True):
            found.append(figures.Series(phase, heading, "operator", "", kind, unit, ROWS, column))
    return tuple(found)


def draw(accounting: str = "survey") -> Figure:
    """Both halves as one picture; in "exact" what the published table has otherwise is bold."""
    figure, axes = figures.new_figure(rows=2, height=7.4)
    for phase, one in zip(PHASES, axes, strict=True):
        _half(one, phase, accounting)
    if accounting == "exact":
        axes[-1].text(0, len(ROWS) + 0.6, "bold: not as in the published table", fontsize=7.5, va="center")
    return figure


def _half(axes: Axes, phase: str, accounting: str) -> None:
    found, published = analysis(phase, accounting), analysis(phase)
    axes.set(xlim=(0, 1), ylim=(len(ROWS) + 0.9, -1.2))
    axes.axis("off")
    axes.set_title(f"{phase}, batch 1, sequence length 2048, FP16 ({accounting})", fontsize=9.5)
    for edge, (heading, (_, unit)) in zip(EDGES, QUANTITIES.items(), strict=True):
        axes.text(edge, -0.6, f"{heading}\n[{unit}]", fontsize=7.5, ha="right", va="center")
    axes.text(0, -0.6, "operator", fontsize=7.5, va="center")
    axes.text(1, -0.6, "bound", fontsize=7.5, ha="right", va="center")
    axes.plot([0, 1], [0, 0], color="0.3", linewidth=0.8)
    for place, name in enumerate(ROWS):
        row, y = found[name], place + 0.55
        axes.text(0, y, name, fontsize=7.5, va="center", family="monospace")
        for edge, value, before, heading in zip(EDGES, costs(row), costs(published[name]), QUANTITIES, strict=True):
            shown = f"{float(value):.4g}" if heading == "arithmetic intensity" else figures.si(value)
            weight = "bold" if value != before else "normal"
            axes.text(edge, y, shown, fontsize=7.5, ha="right", va="center", family="monospace", weight=weight)
        color, marker = figures.BINDS[str(row.bound)]
        axes.plot([0.85], [y], marker=marker, color=color, markersize=4.5, linestyle="none", gid=f"{phase}-{name}")
        axes.text(1, y, f"{row.bound}-bound", fontsize=7.5, ha="right", va="center", color=color)


def tables(phase: str) -> figures.Table:
    """As published, with the exact accounting in the last three columns."""
    published, exact = analysis(phase), analysis(phase, "exact")
    columns = (
        figures.Column("operator"),
        figures.Column("flops", "FLOP", "OPs", numeric=True),
        figures.Column("bytes", "byte", "memory access", numeric=True),
        figures.Column("intensity", "FLOP/byte", numeric=True, prefixed=False),
        figures.Column("performance", "FLOP/s", "max performance", numeric=True),
        figures.Column("bound"),
        figures.Column("exact_flops", "FLOP", "exact: FLOPs", numeric=True),
        figures.Column("exact_bytes", "byte", "exact: traffic", numeric=True),
        figures.Column("exact_bound", title="exact: bound"),
    )
    rows = []
    for name in ROWS:
        sic, right = published[name], exact[name]
        rows.append((name, *costs(sic), sic.bound, *costs(right)[:2], right.bound))
    return figures.Table(f"Table 1 of arXiv 2402.16363, {phase}", columns, tuple(rows), published.statements)


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "intensity I = OPs / memory access; max performance = min(P, I BW); memory-bound where I < P / BW",
        "a linear layer i to o of S rows: 2 i o S OPs; (i o w + i S a + o S a) / 8 bytes with w and a bits",
    )
