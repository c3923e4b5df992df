# %% [markdown]
# # Tensor parallelism
#
# n devices hold 1/n of all heads, MLPs and the vocabulary. Work and weights are divided, activations are not, and two
# sums per layer cross the link.

# %%
from sympy import Integer, ceiling, simplify, sqrt

import symroof
from symroof.operators.tensor import Level
from symroof.questions.payoff import payoff
from symroof.questions.scaling import balanced_degree, best_degree, over_degree, strong_scaling, useful_degree
from symroof.symbols import BW, BW_l, P, a, b, d, f, n_p, w
from symroof.techniques.registry import technique

n = n_p
WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
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
# **Theorem (balance).** With `A` seconds of shared work and `C` seconds for the payload once around, communication takes as
# long as the work at $n = 1 + A / C$. For the MLP of two matrices at 16 bits that is $1 + f\,BW_l / P$ where it is
# compute-bound, and $1 + (f w / b a)(BW_l / BW)$ where its weights decide: then only the batch counts.
#
# *Proof.* $A / n = C (n - 1) / n$, with $A = 4 b d f / P$ or $2 d f w / 8 BW$, and $C = 2 b d a / 8 BW_l$. ∎

# %%
C = 2 * payload / BW_l
by_compute = balanced_degree(4 * b * d * f / P, C, Integer(0))
by_weights = balanced_degree(2 * d * f * w / 8 / BW, C, Integer(0))
assert simplify(by_compute.subs(a, 16) - (1 + f * BW_l / P)) == 0
assert simplify(by_weights - (1 + f * w * BW_l / (b * a * BW))) == 0
print("balance:", by_compute, "and", by_weights)

# %% [markdown]
# **Theorem (where it stops).** With latency `H` per round of steps, $T(n) = A/n + R + C (n-1)/n + H (n-1)$ is below $T(1)$
# exactly while $n < (A - C) / H$, and one more device shortens it exactly while $n (n + 1) < (A - C) / H$; the shortest is
# at $\sqrt{(A - C) / H}$. Without latency that is for ever if $A > C$ and never if not. The speed-up is below $(A + R) / (R + C)$.
#
# *Proof.* $T(n) - T(1) = (n - 1)(H - (A - C) / n)$ and $T(n+1) - T(n) = H - (A - C) / (n (n+1))$. ∎

# %%
for shared, crossing, latency in ((900, 4, 3), (50, 1, 7), (10, 20, 1), (400, 0, 1)):
    times = [Integer(shared) / k + Integer(crossing) * (k - 1) / k + latency * (k - 1) for k in range(1, 60)]
    assert all((time < times[0]) == (k * latency < shared - crossing) for k, time in enumerate(times[1:], 2))
    assert times.index(min(times)) + 1 == useful_degree(Integer(shared), Integer(crossing), Integer(latency))

# in numbers: an exact partition over the degree, its coefficients, and whole steps one by one
step = symroof.load_model("llama-2-7b").decode(batch=64, seq_len=2048, **WIDTHS)
after = step.apply(technique("tensor-parallel:latency=5us"))
best = best_degree(after, hardware="a100-sxm-80gb")
regime = over_degree(after, "a100-sxm-80gb").at(best.value)
inverse, slope = regime.value.coeff(n, -1), regime.value.coeff(n, 1)
assert best.value == sqrt(inverse / slope)
assert best.integer == ceiling((sqrt(1 + 4 * inverse / slope) - 1) / 2)
times = {k: symroof.analyze(step.apply(technique(f"tensor-parallel:degree={k},latency=5us")), "a100-sxm-80gb") for k in (4, 8, 16)}
assert min(times, key=lambda k: times[k].total.time_expr) == 8 == best.integer
efficiency = strong_scaling(step, after, hardware="a100-sxm-80gb")
print(f"Llama-2-7b, batch 64, 5 us a step: best at {float(best.value):.2f}, efficiency there {float(efficiency(8)):.2f}")

# %% [markdown]
# **Per device.** Throughput per device is $b / (n T(n))$, so against one device it changes by $T(1) / (n T(n))$, the strong-scaling
# efficiency: at most 1, as $n T(n) \ge A + n R + n C (n - 1)/n \ge T(1)$. Sharing a step buys latency, and memory for a larger
# batch, with throughput per device; which of the two is meant decides whether it pays.

# %%
latency, throughput = (payoff(step, after, over="degree", hardware="a100-sxm-80gb", per_device=each) for each in (False, True))
for degree in (1, 2, 8):
    assert throughput.speedup(degree) == efficiency(degree) == latency.speedup(degree) / degree <= 1
print(f"eight devices: {float(latency.speedup(8)):.2f} times as fast, {float(throughput.speedup(8)):.2f} of the tokens a second and device")

# %% [markdown]
# Sources: Shoeybi et al. (2019), arXiv:1909.08053; Patarasuk and Yuan (2009), doi:10.1016/j.jpdc.2008.09.002.
