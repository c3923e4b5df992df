"""Figure 11 of arXiv 2402.16363: memory of decode at long contexts, weights and KV cache.

Llama-2-13b, batch 1, contexts of 10,000, 50,000 and 200,000 tokens at FP16, with a 4-bit KV cache (KV4), 4-bit weights
and KV cache (W4KV4) and a 2-bit KV cache (KV2). The survey stacks weight and KV cache; the data hold the temporary
activations too, which are too small to see. On the right the same as curves, with the context at which the
cache passes the weights.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from sympy import Expr, Integer

import symroof
from symroof import cache_passes_weights, figures, memory_parts, survey

t = symroof.symbols.t

TITLE = "Figure 11: memory of decode at long contexts"
CONTEXTS = (10_000, 50_000, 200_000)
WIDTHS = ("FP16", "KV4", "W4KV4", "KV2")
PARTS = ("weight", "kv_cache", "temporary_activation")
CURVE = (1_000, 1_000_000)
"""Contexts between which the curves run."""


def parts(widths: str, accounting: str) -> tuple[Expr, Expr, Expr]:
    """Bytes of weights, KV cache and activations as functions of the context t, at batch 1."""
    return memory_parts(survey.step("decode", accounting, widths, batch=1).graph)


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """Bytes of every part, one series per widths and part."""
    names = tuple(f"seqlen={context}" for context in CONTEXTS)
    return tuple(
        figures.Series(
            "decode",
            widths,
            "context",
            "token",
            part,
            "byte",
            names,
            tuple(symroof.symbols.substitute(size, {t: Integer(x)}) for x in CONTEXTS),
        )
        for widths in WIDTHS
        for part, size in zip(PARTS, parts(widths, accounting), strict=True)
    )


def passes(widths: str, accounting: str) -> Expr:
    """The context from which the KV cache takes more memory than the weights."""
    return cache_passes_weights(survey.step("decode", accounting, widths, batch=1)).exact


def draw(accounting: str = "survey") -> Figure:
    """Stacked bars as published; beside them weight + KV cache over the context, log-log."""
    figure, (bars, curves) = figures.new_figure(2, height=3.4)
    found = data(accounting)
    heights = {
        part: (
            words,
            [figures.named(found, "decode", widths, part).values[group] / 1e9 for group in range(len(CONTEXTS)) for widths in WIDTHS],
        )
        for part, words in zip(PARTS[:2], ("weight", "KV cache"), strict=True)
    }
    figures.stacked(bars, [f"t = {context // 1000}k" for context in CONTEXTS], list(WIDTHS), heights)
    figures.label(bars, "widths", "memory [GB]", f"Llama-2-13b, batch 1, decode ({accounting})")
    bars.legend(fontsize=8, frameon=False, loc="upper left")
    for widths, color, line in zip(WIDTHS, figures.COLORS, figures.LINES, strict=False):
        weight, cache, _ = parts(widths, accounting)
        contexts = [CURVE[0] * (CURVE[1] / CURVE[0]) ** (place / 60) for place in range(61)]
        per_token, star = float(symroof.symbols.substitute(cache, {t: Integer(1)})), float(passes(widths, accounting))
        heights = [(float(weight) + per_token * context) / 1e9 for context in contexts]
        curves.plot(contexts, heights, color=color, linestyle=line, label=f"{widths}: t* = {star / 1e3:.1f}k", gid=widths)
        figures.mark(curves, star, 2 * float(weight) / 1e9, color, gid=f"knee-{widths}")
    curves.set(xscale="log", yscale="log", xlim=CURVE)
    curves.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figures.label(curves, "context [tokens]", "weight + KV cache [GB]", "KV cache = weights at the ring, t*")
    curves.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "memory = W + 2 L b t k e c / 8 (+ activations, below 0.1 %): a line in the context t, with W = N w / 8",
        "the KV cache passes the weights at t* = N w / (2 L b k e c): FP16 and W4KV4 have the same t*, KV4 four times it, KV2 eight times",
        "N: all parameters; as published those of the linear layers, without embedding and LM head",
    )
