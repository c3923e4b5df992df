# %% [markdown]
# # 28. The hump of speculation in sparse models
#
# Speculative decoding gains less the larger the batch of a dense model. In a mixture of experts the gain first falls,
# then rises, then falls: where is it largest, and where does it exceed the dense model's?

# %%
from dataclasses import replace

from matplotlib.figure import Figure
from numpy import geomspace
from sympy import Integer, Rational, diff, factor, simplify, symbols

import symroof

E, K = symroof.symbols.named("E K")
DRAFT = "speculative:acceptance=0.8,length=4,draft_cost=0.02"
DEVICE = "a100-sxm-80gb"
bits = {"seq_len": 512, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}

# %% [markdown]
# **Theorem 1 (bound by memory).** A step reads A bytes for every batch and W of experts, of which b sequences touch
# $X(b) = 1 - r^b$, $r = 1 - K / E$. Drafts cost nothing, $m = \gamma + 1$ tokens are verified, N are accepted. Then
# the gain is
# $$g(b) = N\,\frac{A + W (1 - r^b)}{A + W (1 - r^{m b})} < N,$$
# it tends to N at 0 and as b grows, and in between it has one minimum; with $A = 0$ it rises from $N / m$ throughout.
# For a dense model, $r = 0$, it is N for all b.
#
# *Proof.* With $y = r^b \in (0, 1)$ and $c = A / W + 1$ the gain is $N (c - y) / (c - y^m)$. The numerator of its
# derivative in y is $-c + m c\,y^{m-1} - (m - 1) y^m$, which rises in y on (0, 1), as its slope $m (m - 1) y^{m-2} (c - y)$
# is positive, from $-c < 0$ to $(m - 1)(c - 1) \ge 0$. So it has one zero if $c > 1$, where g is least, and
# none in (0, 1) if $c = 1$; y falls as b rises. ∎

# %%
y, c, N, A, W = symbols("y c N A W", positive=True)
for m in (2, 5):
    gain = (c - y) / (c - y**m)
    slope = -c + m * c * y ** (m - 1) - (m - 1) * y**m
    assert simplify(diff(gain, y) * (c - y**m) ** 2 - slope) == 0
    assert simplify(diff(slope, y) - m * (m - 1) * y ** (m - 2) * (c - y)) == 0
    assert (slope.subs(y, 0), factor(slope.subs(y, 1))) == (-c, factor((m - 1) * (c - 1)))
    assert simplify(gain.subs(c, 1)).subs(y, Rational(1, 10**9)) > 1 - Rational(1, 10**8)

# %% [markdown]
# **Theorem 2 (existence).** Time over the batch is continuous, and beyond some batch verification is compute-bound:
# where all linear layers are, it does $m / N > 1$ times the work of plain decoding per token. So if the gain rises
# anywhere, and its limit is less than its value at the top of that rise, it has a maximum, at a finite batch. On
# every piece of both times the derivative's sign is that of a sum of polynomials times exponentials; the library
# isolates all its zeros, each proved to be the only one in its bracket. The best whole batch is next to one of them
# or to an end of a piece. ∎

# %%
model = symroof.load_model("qwen2-57b-a14b")
step = model.decode(**bits)
twin = symroof.active_twin(step)
peak = step.on(DEVICE).speculation_peak(DRAFT, dense=twin)
speedup = {batch: peak.payoff.speedup_expr(batch) for batch in (*range(1, 9), *range(24, 41), 64, 128, 512)}
assert max(speedup, key=speedup.get) == peak.batch == 32
assert peak.is_hump
assert [f"{float(speedup[batch]):.2f}" for batch in (1, 8, 32, 128, 512)] == ["1.41", "2.23", "2.99", "2.14", "1.12"]
print("Qwen2-57B-A14B on A100:", peak.trends.sentence)
print(f"largest at batch {peak.batch}: {float(peak.gain):.4f}, by a real maximum at {float(peak.place_expr):.4f}")
for batch in (8, peak.batch):
    at = model.decode(batch=batch, **bits)
    before, after = (symroof.analyze(one, DEVICE).total.time_expr / one.graph.tokens for one in (at, at.apply(DRAFT)))
    assert before / after == speedup[batch], "two analyses at this batch"

# %% [markdown]
# **Against dense.** A dense model of the active size (`active_twin`: K experts that all tokens use) gains most at
# batch 1. The sparse one gains more between two exact batches:

# %%
print(f"{'model':20}{'E / K':>7}{'dip':>7}{'top':>6}{'gain':>7}{'above dense from':>18}{'to':>9}")
for name in ("qwen3-30b-a3b",):
    sparse = symroof.load_model(name).decode(**bits)
    found = sparse.on(DEVICE).speculation_peak(DRAFT, dense=symroof.active_twin(sparse))
    assert [piece.label for piece in found.against_dense] == ["less than dense", "more than dense", "less than dense"]
    low, high = found.against_dense[1].low_expr, found.against_dense[1].high_expr
    for batch, sign in ((int(low), -1), (int(low) + 1, 1)):
        assert sign * (found.payoff.speedup_expr(batch) - found.dense.speedup_expr(batch)) > 0
    spread = sparse.values[E] / sparse.values[K]
    dip = f"{float(found.slope.edges[0]):.2f}" if found.trend[0] == "falls" else "-"
    numbers = f"{float(spread):7.0f}{dip:>7}{found.batch:6}{float(found.gain):7.2f}{float(low):18.2f}{float(high):9.1f}"
    print(f"{name:20}{numbers}")

# %% [markdown]
# **The range widens with sparsity**: the same model with fewer experts for a token, all else equal, and the batch up
# to which speculation is faster at all.

# %%
ends = {}
for chosen in (16, 8, 4):
    one = replace(step, values={**step.values, K: Integer(chosen)})
    found = one.on(DEVICE).payoff(DRAFT, over="batch") if chosen != 8 else peak.payoff
    assert found.pieces[0].label == "pays"
    ends[chosen] = found.edges_expr[0]
    for batch, faster in ((int(ends[chosen]), True), (int(ends[chosen]) + 1, False)):
        assert (found.speedup_expr(batch) > 1) == faster
assert ends[16] < ends[8] < ends[4]
print("experts per token, faster for batch below:", {chosen: f"{float(end):.1f}" for chosen, end in ends.items()})

# %% [markdown]
# The published 2.29 on Qwen2-57B-A14B, "at medium batch", is a measurement, on several devices and with an acceptance
# of its own; it cannot be had from a formula alone. The roofline's hump with Qwen2-0.5B as the draft is a bound on
# it, at a batch that is as medium:

# %%
found = step.on(DEVICE).speculation_peak("speculative:acceptance=0.8,length=4,draft=qwen2-0.5b")
assert found.gain_expr > Rational(229, 100)
print(f"with Qwen2-0.5B, acceptance 0.8, length 4: largest at batch {found.batch}, {float(found.gain):.2f}; published 2.29")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="batch", ylabel="speedup of speculation", xscale="log", xlim=(1, 2000))
batches = [Integer(int(batch)) for batch in sorted({round(x) for x in geomspace(1, 2000, 24)})]
for payoff, style, colour, label in ((peak.payoff, "-", "#0072B2", "Qwen2-57B-A14B"), (peak.dense, "--", "#D55E00", "dense, active size")):
    axes.plot(batches, [float(payoff.speedup_expr(batch)) for batch in batches], style, color=colour, label=label)
axes.plot([peak.batch], [float(peak.gain)], "*", color="#0072B2", markersize=11)
axes.axhline(1, color="black", linewidth=0.8)
axes.legend(frameon=False)
symroof.show(figure)

# %% [markdown]
# The top (star) is where the first layers of verification turn compute-bound, not at a smooth maximum.
#
# **What it means.** At batch 1 a mixture reads an expert for almost every drafted token, so speculation buys little;
# at a batch that touches all experts anyway it buys what it does in a dense model; and there a mixture, whose experts
# turn compute-bound E / K times later, keeps the gain for longer. The dip at the left is real but shallow.
#
# Caveats. Tokens choose experts independently; drafted tokens of one text choose alike, which makes the dip shallower
# still. A measured gain is less than the roofline's: sampling, launches and imbalance are not counted.
#
# Source: Huang et al. (2025), MoESD, arXiv:2505.19645.
