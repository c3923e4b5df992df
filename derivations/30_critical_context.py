# %% [markdown]
# # 30. Where speculation gains more with a larger batch
#
# Beyond a critical context the cache, not the weights, is what a step reads, and no batch makes attention
# compute-bound. Does speculation then gain more as the batch grows, as MagicDec has it?

# %%
from matplotlib.figure import Figure
from numpy import geomspace
from sympy import Rational, ceiling, diff, factor, floor, limit, oo, simplify, solve, symbols

import symroof

b, t = symroof.symbols.named("b t")
W, W_d, kappa, kappa_d, gamma, N, BW, P, F, A = symbols("W W_d kappa kappa_d gamma N BW P F A", positive=True)
bits = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16, "flash_attention": True}

# %% [markdown]
# **Theorem 1 (bound by memory).** Let a step read W of weights and $\kappa$ of cache per sequence, a draft's step
# $W_d$ and $\kappa_d$, and verification the same as one step of the target. Then the gain over the batch is
# $$g(b) = N\,\frac{W + \kappa b}{W + \gamma W_d + (\kappa + \gamma \kappa_d) b}, \qquad
# g'(b) \gtrless 0 \iff \frac{\kappa_d}{\kappa} \lessgtr \frac{W_d}{W}.$$
# It grows with the batch exactly if the draft saves more of the cache than of the weights, from
# $N / (1 + \gamma W_d / W)$ to $N / (1 + \gamma \kappa_d / \kappa)$; a draft of a fixed cost,
# $\kappa_d / \kappa = W_d / W$, gains the same at every batch.
#
# *Proof.* By the quotient rule $g'(b)$ has the sign of $\kappa (W + \gamma W_d) - W (\kappa + \gamma \kappa_d) = \gamma
# (\kappa W_d - W \kappa_d)$, which does not depend on b: a ratio of two lines is monotone, and lies between its ends. ∎

# %%
gain = N * (W + kappa * b) / (W + gamma * W_d + (kappa + gamma * kappa_d) * b)
slope = factor(diff(gain, b))
assert simplify(slope * (W + gamma * W_d + (kappa + gamma * kappa_d) * b) ** 2 / (N * gamma) - (kappa * W_d - W * kappa_d)) == 0
assert simplify(gain.subs(b, 0) - N / (1 + gamma * W_d / W)) == simplify(limit(gain, b, oo) - N / (1 + gamma * kappa_d / kappa)) == 0

# %% [markdown]
# **Theorem 2 (the critical context).** Let linear layers take $\max(W / BW,\ b F / P)$ with F FLOPs a sequence and token, the
# cache of context t $b \kappa_1 t / BW$, read once for the $\gamma + 1$ tokens of verification, and a step of the draft
# $\max(W_d / BW,\ b F_d / P) + b R$, with R seconds for its cache. With $D = F_d / P + R$ the gain tends to
# $$g_\infty(t) = N\,\frac{F / P + \kappa_1 t / BW}{(\gamma + 1) F / P + \kappa_1 t / BW + \gamma D}, \qquad
# t_c = \frac{(\gamma + 1 - N) F / P + \gamma D}{N - 1}\,\frac{BW}{\kappa_1}$$
# at large batches, and to $N / (1 + \gamma W_d / W)$ at small ones. If the draft turns compute-bound no later, $W_d / F_d \le
# W / F$ (equal where both are dense and equally wide), the gain exceeds 1 at every $b > 0$ exactly if
# $$t > t_c \quad\text{and}\quad \gamma W_d / W \le N - 1.$$
# A draft without weights meets the second always; one of large weights does not, and then no context helps at small
# batches. Without drafts' time, $t_c = S_0\,(\gamma + 1 - N) / (N - 1)$, where $S_0 = F\,BW / (\kappa_1 P)$ is the context at
# which a sequence's cache takes as long as its linear layers: `context_limit` is the same with attention's own FLOPs.
#
# *Proof.* The gain exceeds 1 where $\Delta(b)$, N steps without less one with drafts, is above 0. Up to $b^* = W P / (F BW)$ a
# step is a line in b, and verification and drafts are convex, so $\Delta$ is concave there. $\Delta(0) = ((N - 1) W - \gamma
# W_d) / BW$. From $b^*$ on all three are compute-bound, as the draft is from $W_d P / (F_d BW) \le b^*$, so $\Delta = \delta b$,
# with $\delta > 0$ exactly if $g_\infty > 1$, that is $t > t_c$. A concave function that is not negative at 0 and positive at
# $b^*$ is positive between them. If $\Delta(0) < 0$ or $\delta \le 0$, $\Delta$ is not positive near 0, or from $b^*$ on. ∎

# %%
D, k_1 = symbols("D kappa_1", positive=True)
end = N * (F / P + k_1 * t / BW) / ((gamma + 1) * F / P + k_1 * t / BW + gamma * D)
(critical,) = solve(end - 1, t)
assert simplify(critical - ((gamma + 1 - N) * F / P + gamma * D) / (N - 1) * BW / k_1) == 0
assert simplify(critical.subs(D, 0) - F * BW / (k_1 * P) * (gamma + 1 - N) / (N - 1)) == 0
R, W_d, F_d = symbols("R W_d F_d", positive=True)
linear_end = b * (N * F / P - (gamma + 1) * F / P + (N - 1) * k_1 * t / BW - gamma * (F_d / P + R))
assert simplify(linear_end / b / (N - 1) * BW / k_1 - (t - critical.subs(D, F_d / P + R))) == 0


def gains(weights, flops, draft_weights, draft_flops, context, batches):
    """Gains of four drafts accepted at 0.8 each, on a ridge of 153 FLOP per byte; 1/1000 byte of cache a token. Exact."""
    peak, cache, drafts, many = 153, Rational(context, 1000), 4, sum(Rational(4, 5) ** i for i in range(5))
    for batch in batches:
        plain = max(weights, batch * flops / peak) + cache * batch
        check = max(weights, (drafts + 1) * batch * flops / peak) + cache * batch
        yield many * plain / (check + drafts * max(draft_weights, batch * draft_flops / peak))


accepted, length = Rational(4, 5), 4
tokens = sum(accepted**i for i in range(length + 1))
whole = Rational(16)
batches = [Rational(2) ** power for power in range(-12, 13)]
seen = set()
for share in (Rational(k, 20) for k in range(21)):  # the draft's share of the weights and of the FLOPs, which have equal ridges
    there = critical.subs({N: tokens, gamma: 4, F: 16, P: 153, D: share * 16 / 153, BW: 1, k_1: Rational(1, 1000)})
    for context in (floor(there), floor(there) + 1, 2 * floor(there), 100 * floor(there)):
        always = all(gain > 1 for gain in gains(whole, whole, share * whole, share * whole, context, batches))
        assert always == (context > there and 4 * share <= tokens - 1)
        seen.add((always, context > there))
assert seen == {(True, True), (False, True), (False, False)}

(large,) = gains(whole, whole, Rational(9, 10) * whole, Rational(9, 10) * whole, 464, [1])
limit_there = critical.subs({N: tokens, gamma: 4, F: 16, P: 153, D: Rational(9, 10) * 16 / 153, BW: 1, k_1: Rational(1, 1000)})
print(f"a draft with 0.9 of the weights: t_c {float(limit_there):.0f}, but at 464 and batch 1 the gain is {float(large):.3f}")
assert f"{float(limit_there):.0f} {float(large):.3f}" == "232 0.747"
(late,) = gains(whole, whole, whole / 2, whole / 1000, 80, [153])
assert late < 1, "a draft that turns compute-bound later: weights that pass the condition, beyond t_c, and slower at b*"
assert critical.subs({N: tokens, gamma: 4, F: 16, P: 153, D: whole / 153000, BW: 1, k_1: Rational(1, 1000)}) < 80
model, device = symroof.load_model("llama-3.1-8b"), symroof.load_hardware("a100-sxm-80gb")
step = model.decode(**bits)
limit_of = symroof.context_limit(step, device)
linear = 2 * (model.parameters - 128256 * 4096)
simple = Rational(linear, 131072) * device.bandwidth_expr / device.peak("fp16").magnitude
print(f"Llama-3.1-8B on A100: S_0 {float(simple):.0f}, S_max with attention's FLOPs {float(limit_of.value_expr):.0f}")
assert simple < limit_of.value_expr

ideal = simple * (length + 1 - tokens) / (tokens - 1)
costless = symroof.technique("speculative:acceptance=0.8,length=4,draft_cost=0")
low, high = 1, 8192
while high - low > 1:  # the context from which speculation is faster at every batch, each decided exactly
    middle = (low + high) // 2
    sides = symroof.payoff(one := model.decode(seq_len=middle, **bits), one.apply(costless), over="batch", hardware=device)
    low, high = (low, middle) if sides.sides.labels == ("pays",) else (middle, high)
print(f"faster at every batch from context {high}; by the formula {float(ideal):.0f}")
assert abs(high / ideal - 1) < Rational(1, 10)

# %% [markdown]
# **Proved on whole steps.** An EAGLE head keeps the cache of one layer of 32, and reads about a tenth of the weights,
# so theorem 1 has the gain grow; the whole step's gain rises up to the batch at which linear layers of verification
# turn compute-bound, and falls there; beyond the batch at which plain decoding is compute-bound too, it tends to its
# limit. The signs are those of exact derivatives, piece by piece:

# %%
head = "speculative:acceptance=0.8,length=4,draft=eagle"
print(f"{'context':>8}  largest gain and signs")
peaks = {}
for context in (512, 4096, 32768, 131072):
    peak = model.decode(seq_len=context, **bits).on(device).speculation_peak(head)
    peaks[context] = peak
    print(f"{context:8}  batch {peak.batch}, {float(peak.gain):.3f}: {' '.join(peak.trend)}")
    for piece in peak.trends:
        first, last = ceiling(piece.low_expr), floor(min(piece.high_expr, 1024))
        if last - first > 2:
            middle = peak.payoff.speedup_expr((first + last) // 2)
            rises = peak.payoff.speedup_expr(first) < middle < peak.payoff.speedup_expr(last)
            assert rises == (piece.label == "rises")
assert peaks[512].trend == ("falls",)
assert peaks[4096].trend[0] == "rises"
fixed = model.decode(seq_len=131072, **bits).on(device).speculation_peak("speculative:acceptance=0.8,length=4,draft_cost=0.02")
assert "rises" not in fixed.trend[:1], "a draft of a fixed cost has nothing to gain from the batch"

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="batch", ylabel="speedup of speculation", xscale="log", xlim=(1, 512), ylim=(0, 3.2))
axes.axvspan(32, 256, color="#DDDDDD", label="batches 32 to 256")
batches = sorted({round(x) for x in geomspace(1, 512, 40)})
for (context, peak), style, colour in zip(peaks.items(), ("-", "--", "-.", ":"), ("#0072B2", "#D55E00", "#009E73", "#000000"), strict=True):
    axes.plot(batches, [float(peak.payoff.speedup_expr(batch)) for batch in batches], style, color=colour, label=f"context {context}")
axes.axhline(1, color="black", linewidth=0.8)
axes.legend(frameon=False, fontsize="small")
symroof.show(figure)

# %% [markdown]
# Llama-3.1-8B with an EAGLE head on an A100.
#
# **What it means.** MagicDec's statement holds as theorem 1 says it: while memory binds, and if the draft's cache is
# small against the target's, as with its sparse caches, the gain grows with the batch. "At any batch" does not hold
# for whole steps: linear layers turn compute-bound under any context, and there the gain falls to $g_\infty$, above 1
# beyond $t_c$. Their measured 2.51 for Llama-3.1-8B at batches 32 to 256 lies below the roofline's 2.7 to 2.96 at 32k
# and more; their drafts, contexts and devices differ, so no more than that can be said.
#
# Caveats. Attention with FlashAttention; a memory that holds these caches is another question (derivation 13).
#
# Source: Chen et al. (2024), MagicDec, arXiv:2408.11049.
