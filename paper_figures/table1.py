"""Table 1 of the survey (arXiv 2402.16363): Llama-2-7b on an A6000, FP16, batch 1, sequence length 2048.

Run ``python paper_figures/table1.py`` to print it as published, and with the right formulas beside it.
"""

from __future__ import annotations

import symroof
from symroof.analysis.analysis import Analysis
from symroof.tabular import Column, Table

SETTINGS = {"batch": 1, "seq_len": 2048, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
ROWS = (
    *("q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj", "down_proj"),
    *("qk_matmul", "sv_matmul", "softmax", "attn_norm", "mlp_norm", "attn_add", "mlp_add"),
)


def data(phase: str, accounting: str = "survey") -> Analysis:
    """One half of the table: the analysis of one phase."""
    model = symroof.load_model("llama-2-7b")
    step = getattr(model, phase)(accounting=accounting, **SETTINGS)
    return symroof.analyze(step, "survey/nvidia_A6000")


def draw(phase: str) -> Table:
    """As published, with the exact accounting in the last three columns."""
    published, exact = data(phase), data(phase, "exact")
    columns = (
        Column("operator"),
        Column("flops", "FLOP", "OPs", numeric=True),
        Column("bytes", "byte", "memory access", numeric=True),
        Column("intensity", "FLOP/byte", numeric=True, prefixed=False),
        Column("performance", "FLOP/s", "max performance", numeric=True),
        Column("bound"),
        Column("exact_flops", "FLOP", "exact: FLOPs", numeric=True),
        Column("exact_bytes", "byte", "exact: traffic", numeric=True),
        Column("exact_bound", title="exact: bound"),
    )
    rows = []
    for name in ROWS:
        sic, right = published[name], exact[name]
        costs = (sic.operator.flop_count, sic.operator.byte_count(), sic.intensity_expr, sic.performance_expr, sic.bound)
        rows.append((name, *costs, right.operator.flop_count, right.operator.byte_count(), right.bound))
    return Table(f"Table 1 of arXiv 2402.16363, {phase}", columns, tuple(rows), published.statements)


if __name__ == "__main__":
    from rich.console import Console

    for phase in ("prefill", "decode"):
        Console(width=160).print(draw(phase))
