"""Figure 5 of the survey (arXiv 2402.16363): the roofline of the A6000 at FP16, with operators on it.

Run ``python paper_figures/fig05_roofline.py FILE.png``. The survey draws the roof and its turning point;
here the operators of Llama-2-7b's prefill stand on it too.
"""

from __future__ import annotations

import sys

from matplotlib.figure import Figure

import symroof
from symroof.analysis.analysis import Analysis
from symroof.present.pictures import roofline_figure


def data(accounting: str = "survey") -> Analysis:
    """Llama-2-7b, prefill of 2048 tokens at FP16, on the survey's A6000."""
    step = symroof.load_model("llama-2-7b").prefill(
        batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16, accounting=accounting
    )
    return symroof.analyze(step, "survey/nvidia_A6000")


def draw(accounting: str = "survey") -> Figure:
    """The roofline, log-log."""
    return roofline_figure(data(accounting), title=f"NVIDIA A6000, FP16: Llama-2-7b, prefill of 2048 tokens ({accounting})")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    draw().savefig(sys.argv[1], dpi=160)
