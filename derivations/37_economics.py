# %% [markdown]
# # 37. What speed costs, and how fast a token can be
#
# More devices read the weights faster, and every layer waits for their collectives. The least time per token is a balance
# of the two, and powers of the model's size and of the memory bandwidth. How the latency grows with the devices decides
# which powers.

# %%
from fractions import Fraction

import numpy as np
from matplotlib.figure import Figure
from sympy import Rational, diff, log, simplify, solve, sqrt, symbols

import symroof
from symroof import price_of_speed, technique, token_cost

# %% [markdown]
# **Theorem 1 (least time per token).** n devices read $A / BW$ seconds of weights in $A / (n\, BW)$, and wait $H n^{1/k}$
# for the collectives of all layers, where a layer is split along k dimensions: $n^{1/k}$ devices in every ring. Then
# $$n^* = \Big(\frac{k A}{H\, BW}\Big)^{k/(k+1)},\qquad T^* = (k + 1) \Big(\frac{A}{BW}\Big)^{1/(k+1)} \Big(\frac{H}{k}\Big)^{k/(k+1)}.$$
# With $A \propto M$ for a model of M parameters and $H \propto$ layers $\propto M^\delta$,
# $$T^* \propto M^{(1 + k \delta)/(k + 1)}\, BW^{-1/(k + 1)}.$$
# Two dimensions give $-1/3$ in the bandwidth and $1/3 + 2\delta/3$ in the size: 1/2 exactly if $\delta = 1/4$, 5/9 for
# models that grow in depth and width alike ($\delta = 1/3$). One dimension, the ring of tensor parallelism, gives $-1/2$
# and $(1 + \delta)/2$.
#
# *Proof.* $dT/dn = -A / (n^2 BW) + (H / k) n^{1/k - 1}$ is zero at $n^*$ alone; at $n^*$ the waiting is k times the
# reading. ∎

# %%
A, BW, H, M, n, delta, c = symbols("A BW H M n delta c", positive=True)
for k, of_bandwidth, of_size in (
    (1, -Rational(1, 2), (1 + delta) / 2),
    (2, -Rational(1, 3), (1 + 2 * delta) / 3),
    (3, -Rational(1, 4), (1 + 3 * delta) / 4),
):
    time = A / (n * BW) + H * n ** Rational(1, k)
    best = (k * A / (H * BW)) ** Rational(k, k + 1)
    assert simplify(diff(time, n).subs(n, best)) == 0
    least = simplify(time.subs(n, best))
    assert simplify((H * n ** Rational(1, k) / (A / (n * BW))).subs(n, best)) == k
    assert simplify(least - (k + 1) * (A / BW) ** Rational(1, k + 1) * (H / k) ** Rational(k, k + 1)) == 0
    assert simplify(BW * diff(log(least), BW) - of_bandwidth) == 0
    grown = least.subs({A: M, H: M**delta})
    assert simplify(M * diff(log(grown), M) - of_size) == 0
    print(f"{k} dimensions: T* = {least}; BW^{of_bandwidth}, M^({of_size})")
assert ((1 + 2 * delta) / 3).subs(delta, Rational(1, 4)) == Rational(1, 2)
assert ((1 + 2 * delta) / 3).subs(delta, Rational(1, 3)) == Rational(5, 9)

# %% [markdown]
# **The published exponents**, 1/2 and $-1/3$ (Erdil, 2025), are those of two dimensions. Its code (section 2.2) has $L
# \cdot 4$ all-reduces of $2\,\mu s (\sqrt n - 1) + 6\,\mu s$, scales models with $\delta = 1/3$, and so has a part $c
# \propto M^{1/3}$ that no device shortens. With a share $\lambda$ of the time that is not c, the exponents there are $1/3
# + 2\lambda/9$ and $-\lambda/3$. So 1/2 is reached at $\lambda = 3/4$, where the bandwidth has $-1/4$: both published
# exponents at once need $\delta = 1/4$ and no c.

# %%
share = symbols("lambda", positive=True)
whole = 3 * (M * M ** Rational(2, 3) / BW) ** Rational(1, 3) + c * M ** Rational(1, 3)  # T* with H ~ M^(1/3), up to a factor
elasticity = simplify(M * diff(log(whole), M))
in_share = simplify(elasticity.subs(c, (1 / share - 1) * 3 * M ** Rational(2, 9) / BW ** Rational(1, 3)))
assert simplify(in_share - (Rational(1, 3) + 2 * share / 9)) == 0
assert solve(in_share - Rational(1, 2), share) == [Rational(3, 4)]
in_bandwidth = simplify((BW * diff(log(whole), BW)).subs(c, (1 / share - 1) * 3 * M ** Rational(2, 9) / BW ** Rational(1, 3)))
assert simplify(in_bandwidth + share / 3) == 0
assert in_bandwidth.subs(share, Rational(3, 4)) == -Rational(1, 4)


def published(parameters, layers, bandwidth=3.3e12):
    """The least time per token of the published code's section 2.2 at batch 1 and two bytes per weight, by scan, and its devices."""
    devices = np.arange(1, 20001)
    time = layers * 4 * (2e-6 * (np.sqrt(devices) - 1) + 6e-6) + 2 * parameters / (devices * bandwidth)
    return time.min(), int(devices[time.argmin()])


def closed(parameters, layers, bandwidth=3.3e12):
    """The same by Theorem 1."""
    reading, waiting = 2 * parameters / bandwidth, 8e-6 * layers
    return 3 * (reading * (waiting / 2) ** 2) ** (1 / 3) + 16e-6 * layers, (2 * reading / waiting) ** (2 / 3)


size, layers = 70.5e9, 80
assert abs(published(size, layers)[0] / closed(size, layers)[0] - 1) < 1e-4
assert abs(published(size, layers)[1] - closed(size, layers)[1]) <= 1
for scale in (1, 10, 100):
    own = size * scale, layers * scale ** (1 / 3)
    (low, _), (high, _) = (closed(own[0] * f, own[1] * f ** (1 / 3)) for f in (0.999, 1.001))
    wide = closed(*own, bandwidth=3.3e12 * 1.001)[0], closed(*own, bandwidth=3.3e12 * 0.999)[0]
    exponents = np.log(high / low) / np.log(1.001 / 0.999), np.log(wide[0] / wide[1]) / np.log(1.001 / 0.999)
    time, devices = closed(*own)
    print(
        f"{own[0] / 1e9:.0f}e9 parameters: {time * 1e3:.2f} ms on {devices:.0f} devices; exponents {exponents[0]:.3f}, {exponents[1]:.3f}"
    )
    assert 1 / 3 < exponents[0] < 5 / 9

# %% [markdown]
# **Symroof's own tensor parallelism** runs rings over all devices (k = 1): the best degree is $\sqrt{D / H}$ and the
# bandwidth has the exponent $-1/2$ on the part that devices share. Four times the bandwidth, half of it.

# %%
model = symroof.load_model("llama-3.1-70b")
split = model.decode(batch=1, seq_len=1024).apply(technique("tensor-parallel:latency=5us,overhead=0.00001,link=450GB/s"))
x = symroof.symbols.n_p
parts = {}
for factor in (1, 4):
    h100 = symroof.load_hardware("h100-sxm")
    faster = split.apply(technique(f"scale-hardware:bandwidth={factor}"))
    piece = symroof.over_degree(faster, h100).pieces_expr.at(32).value.expand()
    inverse, slope = piece.coeff(x, -1), piece.coeff(x, 1)
    parts[factor] = 2 * sqrt(inverse * slope), inverse, slope
    print(f"bandwidth x {factor}: best degree {float(sqrt(inverse / slope)):.1f}, shared part {float(parts[factor][0]) * 1e3:.3f} ms")
assert parts[1][2] == parts[4][2]
assert abs(float(parts[4][0] / parts[1][0]) - 0.5) < 0.01, "links and vector units do not scale"

# %% [markdown]
# **Price.** Seconds of all devices over tokens times their price. The code's own outputs, 5.51744746672314 H100s at 3.15
# * 2/3 USD/h, a batch of 97.21841040661891 and 0.01194768 s per token, print 0.39553979 USD per million tokens;
# 247.10077728 tokens a second and device print 2.36071023.

# %%
rate = Rational(315, 100) * Rational(2, 3)
first = 10**6 * rate / 3600 * Rational("5.51744746672314") * Rational("0.01194768") / Rational("97.21841040661891")
second = 10**6 * rate / (3600 * Rational("247.10077728"))
print(f"{float(first):.5f} (printed 0.39553979), {float(second):.8f} (printed 2.36071023)")
assert f"{float(first):.5f}" == "0.39554"
assert f"{float(second):.8f}" == "2.36071023"
cost = token_cost(symroof.load_model("llama-3.1-8b").decode(batch=64, seq_len=2048), "h100-sxm", price="2.1 USD/h")
assert cost.money_expr == Rational(21, 10) / 3600 * cost.analysis.total.time_expr / 64

# %% [markdown]
# **A whole front of the code**, Mistral Large 2 on H100s with a short context, prints 99.24 tokens a second at most, on
# 23.79 devices, and 0.92 USD per million at 59.82 tokens a second, on 15.97 devices. Ours, rings within nodes of 8 and
# across, with the latencies that the device file has:

# %%
mistral = symroof.load_model("mistral-large-instruct-2407")
nodes = price_of_speed(
    mistral.decode(seq_len=1),
    "h100-sxm",
    price="2.1 USD/h",
    degrees=(8, 16, 32),
    techniques="tensor-parallel:node=8,network=50GB/s",
    largest_batch=256,
)
same = nodes.within(Rational(100, 5982))
print(f"ours: {nodes.fastest.speed} on {nodes.fastest.degree}; at 59.82 token/s {same.money_per_million}; printed 99.24 and 0.92")
launches, all_reduces = 88 * 4 * Rational(4) / 10**6, 88 * 4 * Rational(68, 10) / 10**6
print(f"their launches and least latencies alone: {float(launches + all_reduces) * 1e3:.2f} of {1e3 / 99.24:.2f} ms")
assert same.money_per_million.exact < Rational(92, 100), "a bound"

# %% [markdown]
# So ours is faster and cheaper, as a bound without launches has to be: their four kernels and four all-reduces of every
# layer take 3.8 ms in addition to bytes and hops, where ours has two all-reduces and no launch. `launch-overhead` adds
# launches.

# %% [markdown]
# **Theorem 2 (the front).** On one degree a step never takes less time with a larger batch, nor more per sequence. So of
# all pairs of degree and batch those on the front of price and speed are the lower envelope of one falling curve per
# degree; where a step takes $\alpha + \beta b$ it is $\pi n \beta T / (T - \alpha)$. The largest batch that memory or a
# promise allows is the cheapest of its degree.
#
# *Proof.* Each operator takes the largest of lines in b with intercepts of zero or above, so T rises and $T / b$ falls. ∎
# Exactly, in fractions, and against all pairs:

# %%
step = symroof.load_model("llama-3.1-8b").decode(seq_len=4096)
front = price_of_speed(step, "h100-sxm", price="2 USD/h")
T, alpha, beta, b = symbols("T alpha beta b", positive=True)
assert simplify((n * (alpha + beta * b) / b).subs(b, (T - alpha) / beta) - n * beta * T / (T - alpha)) == 0
times = {}
for degree in (2, 4, 8):
    several = step.apply(technique(f"tensor-parallel:degree={degree}"))
    most = symroof.largest(several, hardware="h100-sxm").integer
    over = symroof.regimes(several, over="batch", hardware="h100-sxm")
    for batch in range(1, min(most, 600) + 1, 5):
        value = over.time_expr(batch)
        times[degree, batch] = Fraction(int(value.p), int(value.q))
on_front = {(point.degree, point.batch) for point in front}
for key, time in times.items():
    money = key[0] * time / key[1]
    beaten = any(other <= time and of[0] * other / of[1] < money for of, other in times.items())
    assert key in on_front or beaten or any(point.time_expr <= time and point.money_expr * 1800 <= money for point in front)
    assert not (beaten and key in on_front)
assert {point.degree for point in front} == {2, 4, 8}
print(f"{len(front)} points; fastest {front.fastest.name}: {front.fastest.speed}, {front.fastest.money_per_million}; cheapest", end=" ")
print(f"{front.cheapest.name}: {front.cheapest.speed}, {front.cheapest.money_per_million}")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="tokens per second of one sequence", ylabel="USD per million tokens", yscale="log")
for degree, colour, marker in ((2, "#009E73", "s"), (4, "#0072B2", "o"), (8, "#D55E00", "^")):
    points = [point for point in front if point.degree == degree]
    axes.plot([float(1 / point.time_expr) for point in points], [float(point.money_expr) * 1e6 for point in points], marker, markersize=3,
              color=colour, label=f"{degree} devices")  # fmt: skip
axes.legend(frameon=False)
symroof.show(figure)

# %% [markdown]
# Llama-3.1-8B at context 4096 on H100s at 2 USD/h: every whole batch that fits and that no other deployment beats. One
# device alone is on the front nowhere: two have more than twice the room for sequences.
#
# **What it means.** Latency of collectives, not bandwidth, is what a fast token waits for: at the optimum twice as long
# in two dimensions. Ten times the bandwidth, with the number of devices chosen anew, makes a token at most
# $10^{1/3} = 2.15$ times as fast in two dimensions (and $10^{1/2} = 3.16$ in one).
#
# **Where it stops.** Theorem 1 is for batch 1 and continuous n; published figures fit sizes of today, where the fixed
# part holds the exponent near 1/2. Prices are inputs.
#
# Source: Erdil (2025), Inference economics of language models, arXiv:2506.04645, and its notebook
# (github.com/ege-erdil/inference-economics).
