# %% [markdown]
# # 35. Sparse attention and its indexer
#
# An indexer looks at all t keys, in few bytes; attention then reads only the k that it selects. From which context on
# is that worth it, where does the indexer take over, and how much can it bring?

# %%
from matplotlib.figure import Figure
from numpy import geomspace
from sympy import Min, Rational, limit, oo, simplify, solve

import symroof
from symroof import Storage

BW, P, b, c, e_i, h, h_i, k_i, r, r_kv, t, t_i = symroof.symbols.named("BW P b c e_i h h_i k_i r r_kv t t_i")
model = symroof.load_model("deepseek-v3.2")
letters = model.decode(symbolic=True, flash_attention=True).symbolic
attention, indexer = letters["moe.fused_attention"], letters["moe.index_scores"]

# %% [markdown]
# **Theorem 1 (bytes).** Per layer and sequence, attention to all keys reads $C t$ bytes of cache,
# $C = (r_{kv} + r) c / 8$; with an indexer of $I = e_i c / 8$ bytes per key, $I t + C \min(t, k)$. Bound by memory,
# $$\text{it is faster beyond}\; t^* = \frac{k\,C}{C - I}, \qquad \text{the indexer reads most beyond}\; t_I = \frac{k\,C}{I}, \qquad
# \text{the gain tends to}\; \frac{C}{I}$$
# and stays below. If $I \ge C$ it never is.
#
# *Proof.* For $t \le k$ the indexer is only added. Beyond, both sides are lines in t. $C t / (I t + C k)$ rises in t
# to $C / I$. ∎

# %%
kept, scored = (operator.byte_count(Storage.KV_CACHE) for operator in (attention, indexer))
C, I = (r_kv + r) * c / 8, e_i * c / 8
assert simplify(kept - b * C * t_i) == simplify(scored - b * I * t) == 0
assert letters.definitions[t_i] == Min(k_i, t)
(faster,), (most,) = solve(C * t - I * t - C * k_i, t), solve(I * t - C * k_i, t)
assert simplify(faster - k_i * C / (C - I)) == simplify(most - k_i * C / I) == 0
assert limit(C * t / (I * t + C * k_i), t, oo).simplify() == (r + r_kv) / e_i
here = model.dimensions
print(f"DeepSeek-V3.2, k = {here[k_i]}: t* = {float(faster.subs(here)):.1f}, t_I = {most.subs(here)}, gain below {(C / I).subs(here)}")
assert (here[k_i], (C / I).subs(here), most.subs(here)) == (2048, Rational(9, 2), 9216)

# %% [markdown]
# **Theorem 2 (FLOPs).** Bound by arithmetic the same holds with $C = (4 r_{kv} + 2 r + 5) h$ and
# $I = (2 e_i + 3) h_i + 1$ FLOPs per key.

# %%
flops_C, flops_I = (4 * r_kv + 2 * r + 5) * h, (2 * e_i + 3) * h_i + 1
assert simplify(attention.flop_count - b * t_i * flops_C) == 0
assert simplify(indexer.flop_count + letters["moe.index_topk"].flop_count - b * t * flops_I) == 0
contexts = [float((k_i * flops_C / part).subs(here)) for part in (flops_C - flops_I, flops_I)]
print(f"by FLOPs: t* = {contexts[0]:.1f}, t_I = {contexts[1]:.1f}, gain below {float((flops_C / flops_I).subs(here)):.2f}")

# %% [markdown]
# **On a device** the larger of bytes and FLOPs counts for each side, with everything else of the step. The
# statement's limit, cache bytes over index bytes, is right where memory binds both attentions. Latent attention to
# all keys has $2 h (2 r_{kv} + r) / (r_{kv} + r) = 242$ FLOPs per byte at 16 bits: beyond the ridge of an H200 it is
# bound by arithmetic, which the indexer is not, and the gain exceeds 4.5.

# %%
print(f"{'device':10}{'ridge':>7}{'faster from':>13}{'indexer longer from':>21}{'gain at 131072':>16}{'in the limit':>14}")
limits = {}
for name in ("h200-sxm", "b200", "h20"):
    device = symroof.load_hardware(name)
    on = model.decode(batch=128, weight_bits=16, activation_bits=16, kv_bits=16, flash_attention=True).on(device, ceilings="classic")
    found = on.sparse_contexts()
    assert all(proof.verdict == "proved" for proof in found.proofs)
    first, longer = found.first_faster.exact, found.first_indexer.exact
    for context, gains in ((first - 1, False), (first, True)):
        assert (found.pays.speedup_expr(context) > 1) == gains
    before, after = (times.pieces[-1].value for times in (found.pays.before, found.pays.after))
    limits[name] = before.coeff(t) / after.coeff(t)
    assert found.pays.speedup_expr(131072) < found.pays.speedup_expr(10**9) < limits[name]
    assert found.pays.speedup_expr(10**9) > limits[name] * Rational(999, 1000)
    ridge = device.peak("fp16").magnitude / device.bandwidth_expr
    shown = f"{float(ridge):7.0f}{first!s:>13}{longer!s:>21}{float(found.pays.speedup_expr(131072)):16.2f}{float(limits[name]):14.2f}"
    print(f"{name:10}{shown}")

# %% [markdown]
# Where attention to all keys is bound by arithmetic and the indexer by memory, the limit is their quotient,
# $(F_C / P) / (B_I / BW)$, with the bytes that top-k reads and the indexer writes among $B_I$:

# %%
step = model.decode(batch=128, weight_bits=16, activation_bits=16, kv_bits=16, flash_attention=True)
per_key = {name: step[f"moe.{name}"].byte_count().coeff(t) for name in ("index_scores", "index_topk")}
B_I = sum(per_key.values())
assert per_key["index_scores"] == 128 * ((I.subs({c: 16})).subs(here) + 2)
for name, most_gained in limits.items():
    device = symroof.load_hardware(name)
    peak, bandwidth = device.peak("fp16").magnitude, device.bandwidth_expr
    whole = {part: 128 * amount.subs(here) for part, amount in (("flops", flops_C), ("bytes", 2 * (r_kv + r)))}
    scores = step["moe.index_scores"].flop_count.coeff(t)
    full = max(whole["flops"] / peak, whole["bytes"] / bandwidth)
    light = max(scores / peak, per_key["index_scores"] / bandwidth) + max(
        step["moe.index_topk"].flop_count.coeff(t) / peak, per_key["index_topk"] / bandwidth
    )
    assert most_gained == full / light
    print(f"{name}: {float(full / light):.3f}; cache bytes over all that is read per key {float(whole['bytes'] / B_I):.3f}")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="context (tokens)", ylabel="bytes of cache per layer and sequence", xscale="log", yscale="log")
lengths = geomspace(256, 2**18, 60)
parts = {"all keys": lambda x: 1152 * x, "indexer and selected keys": lambda x: 256 * x + 1152 * min(x, 2048), "indexer": lambda x: 256 * x}
for (name, size), style, colour in zip(parts.items(), ("-", "--", ":"), ("#0072B2", "#D55E00", "#009E73"), strict=True):
    axes.plot(lengths, [size(x) for x in lengths], style, color=colour, label=name)
for border, height in ((faster, 1152 * faster), (most, 256 * most)):
    axes.plot([float(border.subs(here))], [float(height.subs(here))], "ko", markersize=4)
assert C.subs(here).subs(c, 16) == 1152
axes.legend(frameon=False)
symroof.show(figure)

# %% [markdown]
# DeepSeek-V3.2 at 16 bits; dots at $t^*$ and $t_I$.
#
# **What it means.** Selection pays a few hundred tokens after it starts to select. It does not make attention cheap:
# an indexer that looks at every key still grows with the context, and beyond $t_I$ it is what attention costs. A
# narrower index, 8 bits instead of 16, doubles what is left to gain.
#
# Caveats. Published kernel times are not compared; the config's top-k of 2048 is.
#
# Sources: DeepSeek-AI (2025), DeepSeek-V3.2-Exp, config.json (`index_topk`); `symroof.sparse_contexts`.
