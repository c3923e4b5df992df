# %% [markdown]
# # Expert parallelism
#
# n devices have `E / n` experts each and `b / n` sequences. Tokens travel to their experts and back.

# %%
from sympy import Integer, Rational, binomial, factorial, prod, simplify, solve
from sympy.utilities.iterables import partitions

import symroof
from symroof import Level, technique

BW, BW_l, E, K, K_d, X, a, b, d, f_e, n_p, w = symroof.symbols.named("BW BW_l E K K_d X a b d f_e n_p w")

n = n_p
EXPERTS = ("expert_gate_proj", "expert_up_proj", "expert_down_proj")
step = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True)
spread = step.apply(technique("expert-parallel"))

# %% [markdown]
# **What moves.** FLOPs, activations and weights of the experts are divided by n, so their intensity stays; what is added
# is two all-to-alls of `b s K_d d / n` activations, `(n - 1) / n` of it over the link: a token goes once to each of the `K_d`
# devices that have some of its K experts.

# %%
for name in EXPERTS:
    assert simplify(spread[name].flop_count - step[name].flop_count / n) == 0
    assert simplify(spread[name].byte_count() - step[name].byte_count() / n) == 0
crossing = sum(op.byte_count(level=Level.LINK) for op, _ in spread)
assert simplify(crossing - 2 * (n - 1) / n * b * K_d * d * a / (8 * n)) == 0
print("over the link, per layer:", simplify(crossing))

# %% [markdown]
# **Devices of a token.** With experts placed at random, a device has none of K experts with probability
# $\binom{E - E/n}{K} / \binom{E}{K}$, so $K_d = n (1 - \binom{E - E/n}{K} / \binom{E}{K})$, from 1 on one device to K on E of them.

# %%
assert simplify(spread.symbolic.definitions[K_d] - n * (1 - binomial(E - E / n, K) / binomial(E, K))) == 0
for devices, expected in ((1, 1), (8, 2)):
    assert spread.symbolic.definitions[K_d].subs({n: devices, E: 8, K: 2}) == expected

# %% [markdown]
# **Theorem.** While memory decides at the experts of a gated MLP, spreading them pays as long as
# $$b < \frac{3 n X d f_e w\,BW_l}{a\,(2 K_d d\,BW - 3 n K (d + f_e)\,BW_l)},$$
# and always where the denominator is not above 0. On a slow link that is near $(3 n X f_e w / 2 K_d a)(BW_l / BW)$. X grows
# with b: for few tokens it is near $K b$, and the batch leaves the condition. The experts get at most n times as fast.
#
# *Proof.* Spreading saves $(1 - 1/n)\,3\,(X d f_e w + b K (d + f_e) a) / 8 BW$ and costs
# $2 (n - 1) b K_d d a / (8 n^2 BW_l)$. Divide by $(n - 1) / 8 n$. ∎

# %%
saved = (1 - 1 / n) * sum(step[name].byte_count() for name in EXPERTS) / BW
(limit,) = solve(simplify((saved - crossing / BW_l) / (n - 1)), b)
assert simplify(limit - 3 * n * X * d * f_e * w * BW_l / (a * (2 * K_d * d * BW - 3 * n * K * (d + f_e) * BW_l))) == 0
print("pays for b <", limit)

# %% [markdown]
# Against the analysis of single operators, two devices on a link of 1 GB/s: every batch around the limit.

# %%
model, device = symroof.load_model("mixtral-8x7b-v0.1"), symroof.load_hardware("a100-sxm-80gb")
here = model.dimensions | dict.fromkeys((w, a), Integer(16)) | {n: Integer(2), BW_l: Integer(10**9), BW: device.bandwidth_expr}
devices = spread.symbolic.definitions[K_d].xreplace(here)
assert devices == Rational(2 * (7 * 8 - 4 * 3), 7 * 8)  # of 28 pairs of 8 experts, 12 are on one of two devices
edge = limit.xreplace({**here, X: here[E], K_d: devices})
print(f"Mixtral on two devices over 1 GB/s: for b < {float(edge):.2f}")
for batch in (4, 20, int(edge) // 2 * 2, int(edge) // 2 * 2 + 2, 120):
    before = model.decode(batch=batch, seq_len=64)
    old, new = (symroof.analyze(one, device) for one in (before, before.apply(technique("expert-parallel:degree=2,link=1GB/s"))))
    after = sum(new[op.name].time_expr for op in new if op.name.startswith(EXPERTS))
    assert (after < sum(old[name].time_expr for name in EXPERTS)) == (batch < edge)

# %% [markdown]
# **The fullest device.** A step waits for it. If tokens choose at random, the experts that it reads have an exact expectation: given
# how many experts are touched, every set of as many is equally likely, and within at most m on each device are
# $[z^x] (\sum_{k \le m} \binom{E/n}{k} z^k)^n$ of the $\binom{E}{x}$ sets. Its pairs are bounded by
# $T K / n + \min(\sqrt{2 v \ln n} + \ln(n) / 3, \sqrt{(n - 1) v (E - K) / (E - 1)})$ with $v = T K (n - 1) / n^2$.
# One token of Qwen3-30B-A3B on eight devices, partition by partition, and the excess over the mean as batches grow:

# %%
load = symroof.techniques.expert_load
LARGEST: dict[int, int] = {}
for parts in partitions(8, m=8, k=8):  # how 8 experts divide over 8 devices of 16: orders of the devices, choices on each
    counts = [size for size, times in parts.items() for _ in range(times)]
    zeros = 8 - len(counts)
    orders = factorial(8) / prod(map(factorial, [*parts.values(), zeros]))
    LARGEST[max(counts)] = LARGEST.get(max(counts), 0) + orders * prod(binomial(16, size) for size in counts)
expected = load.FullestExperts(1, 8, 128, 8)
mean_of_most = sum(most * ways for most, ways in LARGEST.items()) / sum(LARGEST.values())
assert expected == load.FullestPairs(1, 8, 128, 8, 0) == mean_of_most
print("one token: experts of the fullest of 8 devices", float(expected), "and 1 on average")
excess = [load.FullestPairs(tokens, 8, 128, 8, 1) / tokens - 1 for tokens in (16, 64, 256, 1024)]
assert excess == sorted(excess, reverse=True)
assert 7 < excess[0] / excess[-1] < 9  # it falls about with the root of the tokens
print("pairs beyond the mean, at most:", [f"{float(part):.1%}" for part in excess])

# %% [markdown]
# Sources: Lepikhin et al. (2020), arXiv:2006.16668; Rajbhandari et al. (2022), arXiv:2201.05596.
