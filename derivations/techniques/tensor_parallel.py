# %% [markdown]
# # Tensor parallelism
#
# n devices hold 1/n of all heads, MLPs and the vocabulary. Work and weights are divided, activations are not, and two
# sums per layer cross the link.

# %%
from sympy import Add, Integer, Rational, ceiling, oo, simplify, solve, sqrt, symbols

import symroof
from symroof import (
    Level,
    balanced_degree,
    best_degree,
    over_degree,
    paying_degrees,
    payoff,
    strong_scaling,
    technique,
    useful_degree,
    useful_doubling,
)

BW, BW_l, P, a, b, d, f, n_d, n_i, n_p, w = symroof.symbols.named("BW BW_l P a b d f n_d n_i n_p w")

n = n_p
opt = symroof.load_model("opt-6.7b").decode(symbolic=True)
cut = opt.apply(technique("tensor-parallel"))

# %% [markdown]
# **What moves.** An operator with a cut axis does `F / n` FLOPs and reads `1/n` of its weights, but all of its input (or
# writes all of its output): the intensity never rises. **What is added**: `2 (n - 1) / n` of `b s d` activations, twice per
# layer, where `out_proj` and `down_proj` sum over heads and over f.

# %%
whole, part = opt["up_proj"], cut["up_proj"]
assert simplify(part.flop_count - whole.flop_count / n) == 0
assert simplify(part.byte_count("weight") - whole.byte_count("weight") / n) == 0
kept = simplify(part.byte_count() - whole.byte_count() / n)
assert simplify(kept - (1 - 1 / n) * a * b * d / 8) == 0
added = {op.name: op.byte_count(level=Level.LINK) for op, _ in cut if op.name.endswith(".all_reduce")}
payload = b * d * a / 8
assert [*added] == ["embedding.all_reduce", "out_proj.all_reduce", "down_proj.all_reduce"]
assert all(simplify(moved - 2 * (n - 1) / n * payload) == 0 for moved in added.values())

# %% [markdown]
# **Above the KV heads.** KV heads are divided into $k_d = \min(k, n)$ parts. From $n = k$ on every device has one KV head, so its cache
# and the reads of it stop shrinking, while query heads, MLP and vocabulary go on: n devices together store $n / k$ copies.

# %%
k, k_d = symroof.symbols.named("k k_d")
grouped = symroof.load_model("llama-3-8b").decode(symbolic=True)
shared = grouped.apply(technique("tensor-parallel"))
assert simplify(shared.symbolic.kv_memory() / grouped.symbolic.kv_memory() - 1 / k_d) == 0
assert simplify(shared["q_proj"].flop_count / grouped["q_proj"].flop_count - 1 / n) == 0
assert [shared.symbolic.definitions[k_d].subs({k: 8, n: devices}) for devices in (2, 8, 16)] == [2, 8, 8]

# %% [markdown]
# **Theorem (balance).** With `A` seconds of shared work and `C` seconds for the payload once around, communication takes as
# long as the work at $n = 1 + A / C$. For the MLP of two matrices at 16 bits that is $1 + f\,BW_l / P$ where it is
# compute-bound, and $1 + (f w / b a)(BW_l / BW)$ where its weights decide: then only the batch counts.
#
# *Proof.* $A / n = C (n - 1) / n$, with $A = 4 b d f / P$ or $2 d f w / 8 BW$, and $C = 2 b d a / 8 BW_l$. ∎

# %%
C = 2 * payload / BW_l
by_compute = balanced_degree(4 * b * d * f / P, C, 0).exact
by_weights = balanced_degree(2 * d * f * w / 8 / BW, C, 0).exact
assert simplify(by_compute.subs(a, 16) - (1 + f * BW_l / P)) == 0
assert simplify(by_weights - (1 + f * w * BW_l / (b * a * BW))) == 0
print("balance:", by_compute, "and", by_weights)

# %% [markdown]
# **Theorem (where it stops).** A collective takes $l_0$ however many devices there are, and $t_l$ for every step. With the sum O
# of overheads and the latency H of a round of steps, $T(n) = A/n + R + C (n-1)/n + O + H (n-1)$ for $n > 1$ and $T(1) = A + R$. With
# $D = A - C$ it is below $T(1)$ exactly between the roots of $H n^2 + (O - H - D) n + D$, and one more device shortens it exactly
# while $n (n + 1) < D / H$: the overhead moves where it pays, and not the best degree, $\sqrt{D / H}$ among the reals. Without
# overhead the roots are 1 and $D / H$; without latency there is no upper end. The speed-up is below $(A + R) / (R + C + O)$.
#
# *Proof.* $n (T(n) - T(1)) = H n^2 + (O - H - D) n + D$ and $T(n+1) - T(n) = H - D / (n (n+1))$. ∎
#
# **Trees.** With $H \lceil\log_2 n\rceil$ in the place of $H (n - 1)$ T falls between powers of two and rises by H behind each, so that the
# best degree is one of them: twice the devices pay exactly while $2 n < D / H$.

# %%
for shared, crossing, latency in ((900, 4, 3), (50, 1, 7), (10, 20, 1), (400, 0, 1)):
    times = [Integer(shared) / k + Integer(crossing) * (k - 1) / k + latency * (k - 1) for k in range(1, 60)]
    assert all((time < times[0]) == (k * latency < shared - crossing) for k, time in enumerate(times[1:], 2))
    assert times.index(min(times)) + 1 == useful_degree(Integer(shared), Integer(crossing), Integer(latency))

A, R, C_, H, O = symbols("A R C H O", positive=True)
after_one = A / n + R + C_ * (n - 1) / n + O + H * (n - 1) - (A + R)
assert simplify(n * after_one - (H * n**2 + (O - H - (A - C_)) * n + (A - C_))) == 0
assert [*map(simplify, solve(after_one.subs(O, 0), n))] == [1, (A - C_) / H]
for shared, crossing, latency, overhead in ((900, 4, 3, 100), (50, 1, 7, 20), (400, 0, 1, 30)):
    times = {k: Rational(shared + crossing * (k - 1), k) + (overhead + latency * (k - 1) if k > 1 else 0) for k in range(1, 500)}
    ends = paying_degrees(*map(Integer, (shared, crossing, latency, overhead)))
    assert [k for k in times if times[k] < times[1]] == [k for k in times if ends and ends[0] < k < ends[1]]
    trees = {2**k: Rational(shared + crossing * (2**k - 1), 2**k) + latency * k for k in range(12)}
    assert min(trees, key=lambda k: trees[k]) == useful_doubling(Integer(shared), Integer(crossing), Integer(latency))

# in numbers: an exact partition over the degree, its coefficients, and whole steps one by one
step = symroof.load_model("llama-2-7b").decode(batch=64, seq_len=2048)
after = step.apply(technique("tensor-parallel:latency=5us"))
best = best_degree(after, hardware="a100-sxm-80gb")
regime = over_degree(after, "a100-sxm-80gb").pieces_expr.at(best.value_expr)
inverse, slope = regime.value.coeff(n, -1), regime.value.coeff(n, 1)
assert best.value_expr == sqrt(inverse / slope)
assert best.integer == ceiling((sqrt(1 + 4 * inverse / slope) - 1) / 2)
times = {k: symroof.analyze(step.apply(technique(f"tensor-parallel:degree={k},latency=5us")), "a100-sxm-80gb") for k in (2, 4, 8)}
assert min(times, key=lambda k: times[k].total.time_expr) == 8 == best.integer
efficiency = strong_scaling(step, after, hardware="a100-sxm-80gb").pieces_expr
print(f"Llama-2-7b, batch 64, 5 us a step: best at {float(best.value_expr):.2f}, efficiency there {float(efficiency(8)):.2f}")

# %% [markdown]
# **Per device.** Throughput per device is $b / (n T(n))$, so against one device it changes by $T(1) / (n T(n))$, the strong-scaling
# efficiency: at most 1, as $n T(n) \ge A + n R + n C (n - 1)/n \ge T(1)$. Sharing a step buys latency, and memory for a larger
# batch, with throughput per device; which of the two is meant decides whether it pays.

# %%
latency, throughput = (payoff(step, after, over="degree", hardware="a100-sxm-80gb", per_device=each) for each in (False, True))
for degree in (1, 2, 8):
    assert throughput.speedup_expr(degree) == efficiency(degree) == latency.speedup_expr(degree) / degree <= 1
print(f"eight devices: {latency.speedup_expr(8):.2f} times as fast, {throughput.speedup_expr(8):.2f} of the tokens a second and device")

# %% [markdown]
# **Two tiers.** With $i = \min(n, n_d)$ devices in a node an all-reduce is scattered inside, reduced across and gathered inside:
# $2 (i - 1)/i$ of the payload over the link and $2 (n - i) / (n i)$ over the network: together what a flat ring sends,
# $2 (n - 1) / n$, and no more than $2/i$ of it leaves a node. Beyond one node the link's part is constant and the network's is
# $2 (1/i - 1/n)$: of the form $C' - C'/n$ again, and a round takes $(i - 1) t_l + (n/i - 1) t_n$. So T is a rational function of n on
# each side of $n = n_d$, both agree there, and roots and minima stay exact. On the far side the best degree is
# $\sqrt{(A - C') i / H_n}$ where the network decides, $H_n$ being the latency of a round of steps between nodes.

# %%
tiers = opt.apply(technique("tensor-parallel:node"))
link, network = (tiers["down_proj.all_reduce"].byte_count(level=level) for level in (Level.LINK, Level.NETWORK))
assert simplify(link - 2 * (n_i - 1) / n_i * payload) == 0
assert simplify(network - 2 * (n - n_i) / (n * n_i) * payload) == 0
assert simplify(link + network - 2 * (n - 1) / n * payload) == 0
assert tiers.symbolic.definitions[n_i].subs({n: 16, n_d: 8}) == 8

nodes = step.apply(technique("tensor-parallel:node=8"))
times = over_degree(nodes, "a100-sxm-80gb").pieces_expr
for degree in (1, 2, 4, 8, 16, 32):
    whole = step.apply(technique(f"tensor-parallel:node=8,degree={degree}"))
    assert times(degree) == symroof.analyze(whole, "a100-sxm-80gb").total.time_expr
assert times.high == oo
assert 8 in times.edges
best = best_degree(nodes, hardware="a100-sxm-80gb", among=(1, 2, 4, 8, 16, 32))
inside = best_degree(step.apply(technique("tensor-parallel")), hardware="a100-sxm-80gb")
assert inside.integer == 8 == over_degree(step.apply(technique("tensor-parallel")), "a100-sxm-80gb").pieces_expr.high, (
    "the link joins no more"
)
for what, told in (("nodes of 8", best), ("one node", inside)):
    print(f"A100, {what}: best at {told.integer}, {float(told.time_expr) * 1e3:.2f} ms")
overheads = Add(*(count for operator, count in nodes.graph if operator.name.endswith(("all_reduce", "all_gather"))))
print(f"{overheads} collectives a step: {float(overheads) * 7.87:.0f} us before a byte or a step")

# %% [markdown]
# Sources: Shoeybi et al. (2019), arXiv:1909.08053; Patarasuk and Yuan (2009), doi:10.1016/j.jpdc.2008.09.002; Cho et al. (2019),
# BlueConnect, MLSys. Rings, trees and the two tiers are played through chunk by chunk in `tests/techniques/test_links.py`.
