# %% [markdown]
# # 38. Weights split along both dimensions
#
# Tensor parallelism moves a layer's input and output whatever the number of devices. Split along both dimensions, a
# matrix moves less the more devices there are, and from 72 of them on it pays, not from 81.

# %%

from matplotlib.figure import Figure
from sympy import Rational, diff, divisors, simplify, solve, sqrt, symbols

import symroof
from symroof import two_dimensional

# %% [markdown]
# **Theorem.** An MLP of matrices $D \times F$ and $F \times D$ over $N = X Y$ devices, X parts along $D$ and Y along $F$,
# for B rows of two-byte elements on three rings of bandwidth $W$ each, one for X and two for Y: it gathers its input over
# Y, sums its inner activations over X (twice the bytes) and scatters its output over Y,
# $$T_{2D} = \frac{2 B D}{X W} + \frac{4 B F}{Y W} \ \ge\ \frac{B \sqrt{32 D F}}{W \sqrt N}, \quad\text{equal at } X = \sqrt{N D / 2 F}.$$
# Splits along one dimension over all rings take $4 B D / 3 W$. So both dimensions take less exactly if $N > 32 (F / D) (3
# / 4)^2 = 18 F / D$.
#
# *Proof.* The first term falls and the second rises in X at fixed N; equal terms minimize. Compare the squares. ∎

# %%
B, D, F, N, W, X = symbols("B D F N W X", positive=True)
both = 2 * B * D / (X * W) + 4 * B * F * X / (N * W)
(best,) = solve(diff(both, X), X)
assert simplify(best - sqrt(N * D / (2 * F))) == 0
assert diff(both, X, 2).is_positive
least = simplify(both.subs(X, best))
assert simplify(least - B * sqrt(32 * D * F) / (W * sqrt(N))) == 0
(threshold,) = solve(least - 4 * B * D / (3 * W), N)
assert simplify(threshold - 32 * F / D * Rational(3, 4) ** 2) == 0
print("threshold:", threshold, "at F = 4 D:", threshold.subs(F, 4 * D))

# %% [markdown]
# **The published figure.** *How to scale your model* prints $N > 128 \cdot (3/4)^2 = 81$ in its early text, corrected
# later (pull request 113 of the book): $128 \cdot 9 / 16$ is 72. Its $X = \sqrt{N / 8}$ at $F = 4 D$ and $T = \sqrt{128}
# B D / (W \sqrt N)$ are ours.

# %%
assert 128 * Rational(3, 4) ** 2 == threshold.subs(F, 4 * D) == 72
assert simplify(best.subs(F, 4 * D) - sqrt(N / 8)) == 0
assert simplify(least.subs(F, 4 * D) - sqrt(128) * B * D / (W * sqrt(N))) == 0

# %% [markdown]
# **From the graph, exactly.** A ring of $k$ devices sends $(k - 1) / k$ of the whole, so whole numbers of devices differ
# from the limit: OPT-66B ($F = 4 D$) takes less at 64 devices already. A gated MLP sums two inner activations and has
# twice the threshold, $36 F / D$.

# %%
step = symroof.load_model("opt-66b").decode(batch=64, seq_len=1024, activation_bits=16)
rows = []
for devices in (16, 32, 64, 72, 128, 256, 1024):
    split = two_dimensional(step, devices=devices, link="90 GB/s")
    x, y = split.parts
    scan = min(divisors(devices), key=lambda x, of=split: of.time_expr(x, of.devices // x))
    assert x == scan
    rows.append((devices, f"{x} x {y}", float(split.time_expr(x, y)), float(split.one_dimensional_time_expr())))
    print(f"{devices} devices: {x} x {y} parts {split.time}, one dimension {split.one_dimensional_time}")
assert split.threshold == 72
assert split.first_power == 64
gated = two_dimensional(symroof.load_model("llama-3-70b").decode(batch=64, seq_len=1024, activation_bits=16), devices=64, link="90 GB/s")
assert gated.threshold_expr == 36 * Rational(28672, 8192) == 126
print("Llama-3-70B, with a gate: from", gated.threshold, "devices")

# %% [markdown]
# **PaLM-540B** (Pope et al.): 64 TPU v4, int8 weights, 29 ms a token at batch 64. Weights alone take 540e9 bytes over 64
# memories of 1.2 TB/s: 7.0 ms, below what was measured, as a bound has to be. Its two-dimensional traffic over rings of
# 90 GB/s adds the links' time: 2.2 ms for an MLP of two matrices, as in the theorem. PaLM's MLP is gated (SwiGLU), and three
# matrices of $D \times F$ in 118 layers are 481e9 of its parameters; two inner activations are summed over X, so 4 in
# $T_{2D}$ is 8, and $32\, D F$ is $64\, D F$: 3.1 ms. Memory and links, one after the other, stay below what was measured.

# %%
palm = {D: 18432, F: 73728, B: 64, N: 64, W: 90 * 10**9}
reading = Rational(540 * 10**9, 64 * 1200 * 10**9)
gated_both = 2 * B * D / (X * W) + 2 * 4 * B * F * X / (N * W)
(gated_best,) = solve(diff(gated_both, X), X)
gated_least = simplify(gated_both.subs(X, gated_best))
assert simplify(gated_least - B * sqrt(64 * D * F) / (W * sqrt(N))) == 0
lower, gated_lower = (118 * of.subs(palm) for of in (least, gated_least))
in_ms = [f"{float(1000 * time):.1f}" for time in (reading, lower, gated_lower)]
print(f"PaLM-540B: memory {in_ms[0]} ms, links {in_ms[1]} ms, gated {in_ms[2]} ms, measured 29 ms")
assert in_ms == ["7.0", "2.2", "3.1"]
assert reading + gated_lower < Rational(29, 1000)
scanned = min(divisors(64), key=lambda x: gated_both.subs({**palm, X: x}))
assert scanned == gated_best.subs(palm) == 2, "of all whole parts, 2 x 32 take least"
assert simplify(118 * gated_both.subs({**palm, X: scanned}) - gated_lower) == 0
assert f"{118 * 3 * 18432 * 73728 / 1e9:.0f}" == "481"
one = 118 * Rational(4 * palm[B] * palm[D], 3 * palm[W])
print(f"along one dimension the links would take {float(one) * 1e3:.2f} ms: 64 devices are below {18 * 4}, and gated {36 * 4}")

# %% [markdown]
# **Context and multi-query attention.** With one KV head for all queries, heads cannot be split, but sequences can: every
# device has the whole head of b / N sequences. Against one head of width $e_1$ on every device (at most a head each, $h
# \le N$), a device has $N e_1 / e$ times fewer bytes per token, so contexts are so many times as long: for 64 devices,
# heads of 128 before and one of 256 after, 32, as the paper prints. The bytes are those of MPT-7B, with heads of 128, and of
# Gemma-2B, with one KV head of 256.

# %%
devices, at_16_bits, per_layer = 64, {symroof.symbols.c: 16}, {}
for name in ("mpt-7b", "gemma-2b"):  # 32 heads of 128, each with its cache; 8 query heads on one KV head of 256
    model = symroof.load_model(name)
    per_layer[name] = Rational(model.cache.growth.xreplace(at_16_bits), model.layers)
heads = symroof.load_model("mpt-7b").dimensions[symroof.symbols.h]
per_token = (per_layer["mpt-7b"] / heads, per_layer["gemma-2b"] / devices)  # a head of all sequences; all of 1 / 64 of them
assert per_token[0] / per_token[1] == 32
print("context over that of multi-head attention:", per_token[0] / per_token[1])

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="devices", ylabel="time of all MLPs on the links [s]", xscale="log", yscale="log")
counts = [2**power for power in range(2, 13)]
for (name, matrices), colour in zip((("opt-66b", "OPT-66B"), ("llama-3-70b", "Llama-3-70B")), ("#0072B2", "#D55E00"), strict=True):
    of = symroof.load_model(name).decode(batch=64, seq_len=1024, activation_bits=16)
    splits = [two_dimensional(of, devices=many, link="90 GB/s") for many in counts]
    axes.plot(
        counts, [float(one.time_expr(*one.parts)) for one in splits], "-o", markersize=3, color=colour, label=f"{matrices}, both dimensions"
    )
    axes.plot(counts, [float(one.one_dimensional_time_expr()) for one in splits], "--", color=colour, label=f"{matrices}, one dimension")
    axes.axvline(float(splits[0].threshold_expr), color=colour, linewidth=0.7, linestyle=":")
axes.legend(frameon=False, fontsize=8)
symroof.show(figure)

# %% [markdown]
# Best whole parts against splits along one dimension, three rings of 90 GB/s; thresholds dotted.
#
# **What it means.** Beyond about a hundred devices per replica a second dimension keeps the links from deciding: four
# times as many devices halve their time. Gated MLPs need twice as many before it pays. On a switch (one link for all) it
# is 4 F / D devices.
#
# **Where it stops.** MLPs alone, transfers without latency, and rings that are all in use; work and weights are the same
# either way.
#
# Sources: Pope et al. (2022), Efficiently scaling transformer inference, arXiv:2211.05102; Austin et al. (2025), How to
# scale your model, inference, question 7.
