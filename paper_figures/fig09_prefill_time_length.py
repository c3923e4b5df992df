"""Figure 9 of arXiv 2402.16363: prefill time over the sequence length for weights of 16, 8, 4, 2 and 1 bits.

Llama-2-13b on an A6000, batch 1, activations and KV cache at 16 bits; the length axis is logarithmic to base 2.
Narrower weights shorten the prefill of short prompts: from its crossovers on, where the linear layers turn
compute-bound, a curve joins the others.
"""

from __future__ import annotations

from math import ceil
from typing import cast

from matplotlib.figure import Figure
from sympy import Expr, Poly

from symroof import Regimes, figures, regimes, survey

TITLE = "Figure 9: prefill time over sequence length, by weight width"
LENGTHS = range(16, 1024)
WIDTHS = {"W16": "FP16", "W8": "W8", "W4": "W4", "W2": "W2", "W1": "W1"}
BATCH = 1


def curve(width: str, accounting: str) -> Regimes:
    """The closed form of one curve: piecewise quadratic in the length."""
    return regimes(survey.step("prefill", accounting, WIDTHS[width], batch=BATCH), over="seq_len", hardware=survey.A6000)


def values(polynomial: Poly, lengths: range) -> list[Expr]:
    """A polynomial in the length at each of these lengths, exactly."""
    return [cast(Expr, polynomial.eval(length)) for length in lengths]


def seconds(found: Regimes) -> tuple[Expr, ...]:
    """The time at every length, regime by regime, so that each one's polynomial is built once."""
    ends = [max(LENGTHS.start, min(LENGTHS.stop, ceil(knee))) for knee in found.knees_expr]
    stretches = zip([LENGTHS.start, *ends], [*ends, LENGTHS.stop], found.regimes, strict=True)
    return tuple(value for low, high, regime in stretches for value in values(Poly(regime.time_expr, found.over.symbol), range(low, high)))


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """Seconds of one prefill."""
    return tuple(
        figures.Series("prefill", width, "sequence length", "token", "time", "s", tuple(LENGTHS), seconds(curve(width, accounting)))
        for width in WIDTHS
    )


def draw(accounting: str = "survey") -> Figure:
    """Time over length; rings where linear layers turn compute-bound, and the form that all curves tend to."""
    figure, (axes,) = figures.new_figure()
    for series, color, line in zip(data(accounting), figures.COLORS, figures.LINES, strict=False):
        found = curve(series.name, accounting)
        text = f"{series.name}: S* = {', '.join(f'{float(knee):.1f}' for knee in found.knees_expr)}"
        axes.plot(list(LENGTHS), [1e3 * value for value in series.values], color=color, linestyle=line, label=text, gid=series.name)
        for knee in (knee for knee in found.knees_expr if LENGTHS[0] < knee < LENGTHS[-1]):
            figures.mark(axes, float(knee), 1e3 * float(found.time_expr(knee)), color, gid=f"knee-{series.name}")
    widest = curve("W16", accounting)
    heights = [1e3 * float(value) for value in values(Poly(widest.regimes[-1].time_expr, widest.over.symbol), LENGTHS)]
    axes.plot(list(LENGTHS), heights, color="0.1", linewidth=0.7, label="linear layers compute-bound", gid="asymptote-W16")
    figures.label(axes, "sequence length [token]", "time of a prefill [ms]", f"Llama-2-13b on the A6000, batch {BATCH} ({accounting})")
    axes.set_xscale("log", base=2)
    axes.set_xlim(LENGTHS.start, LENGTHS.stop)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False, title="weight bits, and crossovers of the linear layers", title_fontsize=8, loc="upper left")
    return figure


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "time = sum over layers of max(F/P, B/BW), piecewise quadratic in the length S: attention brings the S^2",
        "each ring is a crossover of d x f layers: S* = P w d f / (16 BW d f - P a (d + f)), near ridge x w / 16",
        "the thin line is the form beyond the last crossover, F/P for all linear layers: their weights' width is no longer in it",
    )
