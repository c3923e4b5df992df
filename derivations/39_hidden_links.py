# %% [markdown]
# # 39. When arithmetic hides the links of tensor parallelism
#
# Tensor parallelism sends activations while matrices multiply. Both are proportional to the rows of the batch, so whether
# the links are hidden is decided by the width of the model, the number of devices and the device, and not by the batch.

# %%
from sympy import Add, Rational, simplify, solve

import symroof
from symroof import Level, Resource, Role, technique

BW, BW_l, P, a, b, d, e, f, h, L, n, w = symroof.symbols.named("BW BW_l P a b d e f h L n_p w")

# %% [markdown]
# **Theorem 1.** Let an operator that sums over a split axis of k elements do $2 b k d / n$ FLOPs on each of n devices and
# its results, b rows of d elements of q bytes, be summed by a ring. Then arithmetic takes at least as long as the ring
# exactly if
# $$k \ge q\, (n - 1) \frac{P}{BW_l}$$
# whatever the batch and the width d. For one half of the ring (a reduce-scatter or an all-gather) it is $k \ge q (n - 1)
# P / (2 BW_l)$.
#
# *Proof.* $2 b k d / (n P) \ge 2 \frac{n - 1}{n} b d q / BW_l$; divide by $2 b d / n$. ∎

# %%
plain = symroof.load_model("opt-6.7b").decode(symbolic=True)
split = plain.apply(technique("tensor-parallel"))
reduces = {op.name.removesuffix(".all_reduce"): op.byte_count(level=Level.LINK) for op, _ in split if op.name.endswith("proj.all_reduce")}
axes = {"out_proj": h * e, "down_proj": f}
for name, moved in reduces.items():
    operator = split[name]
    slack = operator.flop_count / P - moved / BW_l
    inner = simplify(operator.flop_count * n / (2 * b * d))
    assert inner == axes[name]
    claim = inner - (a / 8) * (n - 1) * P / BW_l
    ratio = simplify(slack / claim)
    assert ratio == 2 * b * d / (n * P), "a positive factor: the batch and the width only scale both sides"
    print(f"{name}: hidden if {inner} >= {(a / 8) * (n - 1) * P / BW_l}")

# %% [markdown]
# **Theorem 2.** As long as an operator's time is that of its weights, the batch does count: with $w / 8$ bytes per weight
# a ring is hidden below $b = k\, (w/8)\, BW_l / (2 q (n - 1) BW)$ rows. So small batches hide links behind memory, large
# ones behind arithmetic, or not at all.

# %%
plain_weights = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(technique("tensor-parallel"))  # without biases
for name, moved in reduces.items():
    weights = plain_weights[name].byte_count("weight")
    (rows,) = solve(weights / BW - moved / BW_l, b)
    assert simplify(rows - axes[name] * (w / 8) * BW_l / (2 * (a / 8) * (n - 1) * BW)) == 0

# %% [markdown]
# **The published figures** (kipply, 2022): an A100 with 312 TFLOP/s, 300 GB/s one way and 1.5 TB/s does 1040 FLOPs per
# byte of the link and 208 per byte of memory; tokens up to 208 cost no time. The text counts $b d^2$ for a product of $2
# b d^2$ FLOPs, and d bytes for $2 d$: the factors cancel, and "d per device above 1040" is Theorem 1 for half a ring with
# $k = d$, $q = 2$, where $d \ge 1040\,(n - 1)$.

# %%
A100 = {P: 312 * 10**12, BW_l: 300 * 10**9, BW: 1500 * 10**9}
assert (P / BW_l).subs(A100) == 1040
assert (P / BW).subs(A100) == 208
assert simplify((2 * (n - 1) / 2 * P / BW_l).subs(A100) - 1040 * (n - 1)) == 0
for device in ("a100-sxm-40gb", "a100-sxm-80gb"):
    stated = symroof.load_hardware(device)
    link, memory = stated.machine.rates[Resource.LINK], stated.machine.rates[Resource.MEMORY]
    peak = stated.machine.peaks["fp16"]
    print(f"{device}: {float(peak / link):.0f} FLOP per byte of the link, {float(peak / memory):.1f} of memory, as its data sheet says")
budget = symroof.token_budget(plain, "up_proj").formula
large = budget.subs({w: 16, a: 16, f: 4 * d, P: A100[P], BW: A100[BW]}).subs(d, 10**9)
print(f"tokens for a crossover of a very wide matrix: {float(large):.1f}")
assert round(float(large)) == 208

# %% [markdown]
# **52B on four devices at batch 256**: 64 layers of width 8192. The text has 21 ms of arithmetic, with 52e9 parameters,
# and 4 ms on the links, with $n / (n - 1)$ rounded to 1. From the graph of such a model:

# %%
sizes = {d: 8192, f: 4 * 8192, h: 64, e: 128, L: 64, b: 256, n: 4, a: 16}
linear = Add(*(count * op.flop_count for op, count in split if op.role == Role.PROJECTION))
rings = Add(*(count * op.byte_count(level=Level.LINK) for op, count in split if op.name.endswith("proj.all_reduce")))
arithmetic, links = linear.subs(sizes) / A100[P], rings.subs(sizes) / A100[BW_l]
theirs = Rational(256 * 2 * 52 * 10**9, 4) / A100[P], Rational(256 * 2 * 64 * 4 * 8192) / A100[BW_l]
print(f"arithmetic: {float(arithmetic) * 1e3:.2f} ms, published {float(theirs[0]) * 1e3:.2f}, printed 21")
print(f"links: {float(links) * 1e3:.2f} ms, published {float(theirs[1]) * 1e3:.2f}, printed 4: ours times 4/3")
assert f"{float(arithmetic) * 1e3:.0f}" == f"{float(theirs[0]) * 1e3:.0f}" == "21"
assert f"{float(theirs[1]) * 1e3:.0f}" == "4"
assert links * Rational(4, 3) == theirs[1]
assert arithmetic > links, "hidden"

# %% [markdown]
# **The first degree that is not hidden**, by brute force over devices, and by Theorem 1 with all of a ring.

# %%
for name in ("out_proj", "down_proj"):
    fixed = {**sizes, **A100}
    del fixed[n]
    work, moved = split[name].flop_count / P, reduces[name] / BW_l
    scan = next(many for many in range(2, 100) if work.subs(fixed).subs(n, many) < moved.subs(fixed).subs(n, many))
    inner = axes[name].subs(sizes)
    most = 1 + inner / Rational(2 * 1040)
    print(f"{name}: a ring takes longer from {scan} devices on; hidden up to {float(most):.2f}")
    assert scan == int(most) + 1
    for rows in (1, 256, 10**6):
        assert next(
            many for many in range(2, 100) if work.subs({**fixed, b: rows}).subs(n, many) < moved.subs({**fixed, b: rows}).subs(n, many)
        ) == scan  # fmt: skip

# %% [markdown]
# **What it means.** Larger batches do not hide links, wider models do; the projection behind attention is the first to
# show them. On data sheets the memory's ratio is 200.6 for the A100 of 40 GB (1555 GB/s) and 153 for 80 GB: 208 is for
# the rounded 1.5 TB/s.
#
# **Where it stops.** Rings without latency, transfers that overlap with their own operator perfectly.
#
# Source: kipply (2022), Transformer inference arithmetic, for 1040, 208, 21 ms and 4 ms.
