# %% [markdown]
# # 17. Latency under load
#
# Requests arrive at a rate and share the batch. The more there are, the longer a step takes, the longer they stay, the more there
# are. Where a step is a line (derivation 16) this ends in a hyperbola with one pole, the rate of saturation.

# %%
import heapq
import math
import random

from matplotlib.figure import Figure
from sympy import Rational, binomial, simplify, solve, symbols

import symroof

b, lam, n, v_n, S = symroof.symbols.named("b lambda_a n v_n S")
C1, C2, N, rho, c = symbols("C1 C2 N rho c", positive=True)

# %% [markdown]
# **Theorem 1.** Let requests take N decode steps of $C_1 + C_2 b$ seconds, and arrive at a rate $\lambda$. A steady batch exists
# exactly if $\lambda N C_2 < 1$, and is
# $$b = \frac{\lambda N C_1}{1 - \lambda N C_2}, \qquad L = \frac{N C_1}{1 - \lambda N C_2},$$
# with L the time from the first token to the last.
#
# *Proof.* Little's law: $b = \lambda L$ with $L = N (C_1 + C_2 b)$, one linear equation. ∎

# %%
(steady,) = solve(b - lam * N * (C1 + C2 * b), b)
assert simplify(steady - lam * N * C1 / (1 - lam * N * C2)) == 0
assert simplify(N * (C1 + C2 * steady) - N * C1 / (1 - lam * N * C2)) == 0

# %% [markdown]
# This is Kong et al.'s $L = C_1 / (1 - \lambda C_2)$ with their constants, of a whole request, N times ours. What is measured
# there follows here from the model and the device: $C_1 = \tau_w$, $C_2 = \tau_b + \tau_t \theta$, with $\theta$ the mean context.
#
# **Theorem 2.** A step reads contexts of $\theta = S + (N + 1 + v / N) / 2$ tokens in the mean, N and v the mean and
# variance of the requests' decode steps.
#
# *Proof.* A request of N steps reads contexts S + 1 to S + N: over all steps $S + E[N (N + 1)] / (2 E[N])$. ∎
#
# **Theorem 3.** Let arrivals be Poisson, and lengths of any distribution. Seen in continuous time, k requests are in the batch with
# probability $\pi_k = \binom{k + c}{k} \rho^k (1 - \rho)^{c + 1}$, where $c = C_1 / C_2$, $\rho = \lambda N C_2$: a negative
# binomial. Its mean is $\lambda N (C_1 + C_2) / (1 - \rho)$, so Theorem 1 is low by the factor $1 + C_2 / C_1$, at any load.
#
# *Proof.* With k in the batch the device completes $k / (N (C_1 + C_2 k))$ requests a second, shared equally: processor sharing at
# a rate that depends on k, whose stationary law does not depend on the distribution of lengths (Cohen, 1979). For exponential
# ones it is a birth-death chain, $\pi_k / \pi_{k-1} = \lambda N (C_1 + C_2 k) / k = \rho (k + c) / k$, which the binomial solves. ∎

# %%
k = symbols("k", positive=True, integer=True)
ratio = simplify((binomial(k + c, k) * rho**k / (binomial(k - 1 + c, k - 1) * rho ** (k - 1))).gammasimp())
assert simplify(ratio - rho * (k + c) / k) == 0
third = Rational(1, 3)  # with c = 3, where the mean is rho (c + 1) / (1 - rho) = 2
mean_of = sum(count * math.comb(count + 3, count) * third**count * (1 - third) ** 4 for count in range(1, 60))
assert abs(mean_of - 2) < Rational(1, 10**20)
print("mean batch:", lam * N * (C1 + C2) / (1 - lam * N * C2))

# %% [markdown]
# **The discrete system.** A queue with Poisson arrivals, whole batches, every sequence with its own context, each step as long
# as the library's own step: nothing is averaged. Requests join at the next step, so they wait for up to one step more.


# %%
def simulated(line, rate, steps, prompt, count, seed):
    """Mean seconds from joining to the last token."""
    draw = random.Random(seed)  # noqa: S311 - a simulation
    weights, sequence, token, _ = map(float, line.taus_exprs)
    now, arrival, taken, tokens, stayed, done = 0.0, draw.expovariate(rate), 0, 0, 0.0, 0
    running = []
    while done < count:
        now = max(now, arrival) if not running else now
        while arrival <= now:
            heapq.heappush(running, (taken + steps, now))
            tokens, arrival = tokens + prompt, arrival + draw.expovariate(rate)
        tokens += len(running)
        now, taken = now + weights + sequence * len(running) + token * tokens, taken + 1
        while running and running[0][0] == taken:
            stayed, done, tokens = stayed + now - heapq.heappop(running)[1], done + 1, tokens - prompt - steps
    return stayed / done


on = symroof.load_model("llama-3.1-8b").decode(batch=4, seq_len=1024).on("h100-sxm")
line, asked = on.step_line(), {"prompt": 512, "output": 65}
pole = on.under_load(rate=1, **asked).saturation
drawn = []
for rate in (20, 60, 120):
    load = on.under_load(rate=rate, **asked)
    queue = simulated(line, rate, 64, 512, 4000, rate)
    drawn.append((rate, queue))
    fluid, shared = load.latency_expr, load.fluctuating_latency_expr
    print(f"{rate}/s: Theorem 1 {float(fluid):.4f} s, Theorem 3 {float(shared):.4f} s, simulated {queue:.4f} s, batch {load.batch:.4g}")
    assert abs(float(shared) / queue - 1) < 0.03
    intercept, slope = load.line_exprs
    assert abs(float(shared / fluid) / float(1 + slope / intercept) - 1) < 1e-9
print(f"saturation at {pole:.4g}, by {load.saturated_by}: batch {load.largest_batch}")

# %% [markdown]
# Mean context: over five requests of unequal lengths, all their steps one by one.

# %%
lengths, prompt = (3, 9, 9, 40, 200), 100
mean = Rational(sum(lengths), len(lengths))
spread = sum((length - mean) ** 2 for length in lengths) / len(lengths)
contexts = [prompt + step for length in lengths for step in range(1, length)]
theta = on.under_load(rate=1, prompt=prompt, output=mean, output_variance=spread).context_expr
assert theta == Rational(sum(contexts), len(contexts))
print(f"mean context {theta}; for equal lengths it would be {float(prompt + mean / 2):.1f}")

# %%
figure = Figure(figsize=(6.4, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="requests per second", ylabel="first token to last (s)", yscale="log")
for name, device, colour, style in (
    ("llama-3.1-8b", "h100-sxm", "#0072B2", "-"),
    ("llama-3.1-8b", "l4", "#D55E00", "--"),
    ("qwen3-30b-a3b", "h100-sxm", "#009E73", "-."),
):
    there = symroof.load_model(name).decode().on(device).under_load(rate=Rational(1, 10), **asked)
    most = there.largest_batch
    points = there.points([*(1 + (most - 1) * Rational(place, 60) ** 2 for place in range(61))])
    axes.plot(*zip(*((float(x), float(y)) for x, y in points), strict=True), style, color=colour, label=f"{name} on {device}")
    axes.plot(float(there.saturation_expr), float(points[-1][1]), "x", color=colour)
axes.plot(*zip(*drawn, strict=True), "o", color="black", markersize=4, label="simulated queue")
axes.legend(frameon=False, fontsize="small")
symroof.show(figure)

# %% [markdown]
# **What it means.** Each curve ends (cross) where memory holds no larger batch. Rate and latency are traded by nothing else than the
# batch: the 8B model on an H100 first gains rate at little latency, until all its matrices are compute-bound, from batch 330 on; a
# larger batch then adds latency and no rate, and the curve is vertical. On an L4 memory ends it long before. A mixture of experts pays
# for its first sequences, which bring experts of their own, and then little. Saturation is the throughput of the largest batch.
#
# Caveats. Prompts are read elsewhere here; `prefill="here"` adds each prompt's time to $C_2$. A mixture of experts has no line at
# small batches, the green curve; its root is exact on the step itself, and there a batch that fluctuates touches fewer experts, so
# that Theorem 1 is high, not low. Beyond the largest batch requests wait, and the percentiles of `Load.sharing` then rest on
# geometric lengths.
#
# Sources: Little (1961); Cohen (1979), Acta Informatica 12, 245-284, doi:10.1007/BF00264026; Kong et al. (2026), arXiv:2605.15051.
