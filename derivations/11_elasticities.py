# %% [markdown]
# # 11. What one percent buys: elasticities of a step's time
#
# One percent more bandwidth saves as many percent of time as the step spends memory-bound; one percent more peak
# saves the rest. The two elasticities sum to -1, because time is homogeneous of degree -1 in peak and bandwidth.
# The elasticities to the three widths sum to the memory-bound share.

# %%
from dataclasses import replace

from sympy import Add, Rational, cancel, diff

import symroof

BW, L, P, a, b, c, t, w = symroof.symbols.named("BW L P a b c t w")

model = symroof.load_model("llama-3.1-8b")
DEVICES = ("a100-sxm-80gb", "h100-sxm")
operators = [(one.flop_count, one.byte_count()) for one, _ in model.decode(symbolic=True)]
print(len(operators), "operators, each of time max(F / P, B / BW); for example", *operators[2], sep="\n  ")

# %% [markdown]
# The elasticity of time to $x$ is $\varepsilon_x = \frac{x}{T} \frac{\partial T}{\partial x}$: percent of time per
# percent of $x$. On one regime, where each operator keeps its bound,
# $T = \sum_{compute} F_i / P_i + \sum_{memory} B_j / BW$. Call $\mu$ the share of $T$ in the second sum.
#
# **Theorem.** Where no operator is exactly on its ridge,
# 1. $\varepsilon_P = -(1 - \mu)$ with all peaks raised together, $\varepsilon_{BW} = -\mu$, and their sum is $-1$;
# 2. $\varepsilon_w + \varepsilon_a + \varepsilon_c = \mu$, as long as a width keeps its data type;
# 3. $\varepsilon_b = 1 -$ the share of $T$ that does not depend on the batch (weights and rotary tables).
#
# *Proof.* (1) $T(\lambda P, \lambda BW) = T(P, BW) / \lambda$: both branches of each maximum scale so, and no ridge
# moves. Differentiate at $\lambda = 1$: $P\,T_P + BW\,T_{BW} = -T$ (Euler). As $P$ is in the first sum alone,
# $P\,T_P$ is minus that sum. (2) Each byte count is a sum of terms with one width each, so it is homogeneous of
# degree 1 in $(w, a, c)$; a FLOP count contains none. (3) $F$ and $B$ are lines in $b$: $T = \alpha + \beta b$, and
# $\varepsilon_b = \beta b / T = 1 - \alpha / T$. ∎

# %%
for flops, traffic in operators:
    for branch in (flops / P, traffic / BW):
        assert cancel(P * diff(branch, P) + BW * diff(branch, BW) + branch) == 0
    assert cancel(Add(*(width * diff(traffic, width) for width in (w, a, c))) - traffic) == 0
    assert not {w, a, c} & flops.free_symbols
    assert diff(flops, b, 2) == 0 == diff(traffic, b, 2)
print("checked on every operator: degree -1 in (P, BW), bytes of degree 1 in (w, a, c), lines in b")

# %% [markdown]
# The engine writes every elasticity as a formula on the regime the step is in. That to a size is a share too: $L$ has
# the share of the layers, $t$ that of what is read or written once per position of the context.

# %%
steps = {(n, length): model.decode(batch=n, seq_len=length) for n, length in ((1, 2048), (512, 512))}
found = {(size, device): symroof.sensitivity(step, device) for size, step in steps.items() for device in DEVICES}
mixed = found[(512, 512), "a100-sxm-80gb"]
assert {one.bound for one in mixed.analysis} == {"memory", "compute"}
assert cancel(mixed.formulas[P] + mixed.formulas[BW]) == -1
assert cancel(mixed.formulas[w] + mixed.formulas[a] + mixed.formulas[c] + mixed.formulas[BW]) == 0
for (size, device), answer in found.items():
    values, layers = answer.values, ("embedding", "final_norm", "lm_head")
    whole = answer.analysis.total.time_expr
    assert values[P] + values[BW] == -1
    assert values[w] + values[a] + values[c] == answer.memory_boundness_expr
    assert values[L] == 1 - sum(one.count * one.time_expr for one in answer.analysis if one.name in layers) / whole
    print(f"batch {size[0]}, context {size[1]}, {device}: {answer.advice}")
    shown = ", ".join(f"{x} {float(values[x]):.3f}" for x in (w, a, c, b, t, L))
    print(f"  memory-boundness {answer.memory_boundness_expr} = {float(answer.memory_boundness_expr):.4f}; {shown}")

# %% [markdown]
# Checked against the engine's own times, without derivatives. Time is a line in every letter while no bound changes,
# so a difference quotient is the elasticity exactly: one unit less of a letter (of the batch: one more). It is a
# line in $1 / BW$ and $1 / P$ too: a device with 1/101 less of one takes $\mu / 100$ or $(1 - \mu) / 100$ longer.


# %%
def bounds(analysis):
    """The bound of every operator."""
    return [one.bound for one in analysis]


def slower(device, part):
    """The device with 100/101 of its bandwidth, or of all its peaks."""

    def less(figure):
        return replace(figure, value=figure.value * Rational(100, 101))

    if part == BW:
        return replace(device, bandwidth_figure=less(device.bandwidth_figure))
    return replace(device, peaks={name: replace(peak, dense=less(peak.dense)) for name, peak in device.peaks.items()})


for (size, device), answer in found.items():
    before, step = answer.analysis, steps[size]
    whole = before.total.time_expr
    for x in (P, BW):
        after = symroof.analyze(step, slower(before.device, x))
        assert bounds(after) == bounds(before)
        assert 100 * (after.total.time_expr / whole - 1) == -answer.values[x]
    sizes = [x for x in answer.values if x not in (P, BW)]
    for x in sizes:
        by = 1 if x == b else -1
        after = symroof.analyze(replace(step, values=step.values | {x: before.values[x] + by}), device)
        assert bounds(after) == bounds(before)
        assert before.values[x] * (after.total.time_expr - whole) / (by * whole) == answer.values[x]
print("exact difference quotients agree for P, BW and", ", ".join(str(x) for x in sizes))

# %% [markdown]
# The total's intensity is no substitute. At batch 512 and context 512 the step as a whole has fewer FLOPs per byte
# than either ridge, so it looks memory-bound on both devices; still the A100 spends most of its time compute-bound.

# %%
for device in DEVICES:
    total = found[(512, 512), device].analysis.total
    ratio = total.flop_count / total.byte_count() / symroof.load_hardware(device).ridge("fp16").magnitude
    print(f"{device}: intensity of the total / ridge = {float(ratio):.3f}, buy {found[(512, 512), device].buy}")
    assert ratio < 1
assert [found[(512, 512), device].buy for device in DEVICES] == ["peak", "bandwidth"]
assert [found[(1, 2048), device].memory_boundness_expr for device in DEVICES] == [1, 1]

# %% [markdown]
# **What it means.** At batch 1 buy bandwidth, or narrow the weights: a percent of either is about a percent of time,
# and peak is worth nothing. At batch 512 the same model splits the bill, and the device decides: on the A100 peak is
# worth more, on the H100, whose ridge is almost twice as high, bandwidth. At a large batch narrow the cache, not the
# weights: compute-bound matmuls read them, and $\varepsilon_w$ is near zero, unless a faster data type applies.
#
# Source: Williams, Waterman and Patterson (2009), doi:10.1145/1498765.1498785, for the bounds of one operator.
