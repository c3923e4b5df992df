# %% [markdown]
# # 23. How many attention devices feed one FFN device
#
# Attention wants memory bandwidth and grows with the context, feed-forward layers want a batch. On devices of their own,
# $\rho$ attention devices with $b$ sequences each share an FFN device. The ratio with the most tokens a second and device
# is the largest of three.

# %%
import numpy as np
from matplotlib.figure import Figure
from sympy import Add, Max, Rational, diff, simplify, sqrt, symbols

import symroof
from symroof import attention_split

# %% [markdown]
# **Theorem 1 (the workload is one number).** Requests with $S$ tokens of prompt and $n$ to generate follow each other in
# a slot. Over time a slot holds on average $\theta = (E[n S] + E[n (n + 1)] / 2) / E[n]$ tokens. With a memory-bound step
# of attention, linear in the context, lengths enter its mean time by $\theta$ alone.
#
# *Proof.* A request takes $n$ steps with contexts $S + 1, \dots, S + n$, together $n S + n (n + 1) / 2$. By the
# renewal-reward theorem the mean over time is the mean of this sum over the mean number of steps. ∎ For geometric $n$
# that do not depend on $S$, $E[n^2] = 2 E[n]^2 - E[n]$, so that $\theta = E[S] + E[n]$: twice what a mean over $1 \dots
# E[n]$ suggests, as long answers stay longer.

# %%
random = np.random.default_rng(7)
prompts, lengths = random.integers(100, 1901, 200_000), random.geometric(1 / 300, 200_000)
contexts = sum(float(n * s + n * (n + 1) / 2) for s, n in zip(prompts, lengths, strict=True)) / lengths.sum()
print(f"mean tokens of a slot: {contexts:.1f}; E[S] + E[n] = {1000 + 300}")
assert abs(contexts / 1300 - 1) < 0.01

# %% [markdown]
# **Theorem 2 (the ratio).** Let a step take $T_A$ seconds on an attention device, $T_C$ on its link, and $T_F = f_0 + f_1
# \rho b$ on the FFN device. In steady state a step takes the longest of the three, and tokens a second and device are
# $\rho b / ((\rho + 1) \max(T_A, T_C, T_F))$. They are most at
# $$\rho^* = \max(r_A, r_C, r_{peak}),\quad r_A = \frac{T_A - f_0}{f_1 b},
# r_C = \frac{T_C - f_0}{f_1 b},\quad r_{peak} = \sqrt{\frac{f_0}{f_1 b}}.$$
#
# *Proof.* The inverse is $(1 + 1/\rho) \max(\dots) / b$, a maximum of convex functions: one minimum. Up to $\max(r_A,
# r_C)$ a constant binds, and $1 + 1/\rho$ falls. Beyond it $(1 + 1/\rho)(f_0 + f_1 b \rho)$ has the slope $f_1 b - f_0 /
# \rho^2$, which is zero at $r_{peak}$. ∎

# %%
rho, b, f0, f1, T_A, T_C = symbols("rho b f_0 f_1 T_A T_C", positive=True)
busy = (1 + 1 / rho) * (f0 + f1 * b * rho)
assert simplify(diff(busy, rho) - (f1 * b - f0 / rho**2)) == 0
assert simplify(diff(busy, rho, 2) - 2 * f0 / rho**3) == 0, "convex"
assert simplify(diff(busy, rho).subs(rho, sqrt(f0 / (f1 * b)))) == 0
cost = (1 + 1 / rho) * Max(T_A, T_C, f0 + f1 * b * rho)
for numbers in ({T_A: 9, T_C: 2, f0: 1, f1: 1, b: 1}, {T_A: 2, T_C: 7, f0: 1, f1: 1, b: 1}, {T_A: 1, T_C: 1, f0: 9, f1: 1, b: 1}):
    rule = max((numbers[T_A] - numbers[f0]), (numbers[T_C] - numbers[f0]), sqrt(numbers[f0]))
    scan = min((Rational(step, 4) for step in range(1, 80)), key=lambda r, of=numbers: cost.subs({**of, rho: r}))
    assert abs(scan - rule) <= Rational(1, 4)

# %% [markdown]
# **Where the rule fails.** If all attention devices share the FFN device's link, communication is a line too, $T_C = c_0
# + c_1 \rho b$, and the ratio at which it stops to bind can be far beyond the best. A point: $T_C = 1 + \rho$, $T_F =
# 1.01 \rho$, no attention. The lines meet at $\rho = 100$ with a hundredth of a token a second and device; at $\rho = 1$
# it is a quarter. The convex maximum still has one minimum, which `attention_split` finds on its pieces; its own links
# are one per attention device.

# %%
shared = (1 + 1 / rho) * Max(1 + rho, Rational(101, 100) * rho)
assert 1 / shared.subs(rho, 1) == Rational(1, 4)
assert 1 / shared.subs(rho, 100) == Rational(1, 101) * Rational(100, 101)

# %% [markdown]
# **From the formulas of a step.** Feed-forward layers are the operators over their own axes (intermediate sizes,
# experts), everything else runs with attention. Llama-3.1-8B on H200s with 64 sequences a device, against a scan over
# whole ratios of the stages themselves.

# %%
model, device, batch = symroof.load_model("llama-3.1-8b"), "h200-sxm", 64
splits = {theta: attention_split(model.decode(batch=batch, seq_len=theta), device) for theta in (512, 2048, 4096)}
for theta, split in splits.items():
    candidates = {name: f"{float(ratio):.2f}" for name, ratio in split.candidates_exprs.items()}
    scan = min(
        range(1, 40),
        key=lambda r, of=split: (1 + Rational(1, r)) * max(of.attention_time_expr, *of.link_times_expr, of.ffn_expr(r)),
    )
    assert split.devices == scan
    assert split.ratio_expr in (*split.candidates_exprs.values(), *split.ffn_expr.edges)
    assert split.fits
    print(f"theta {theta}: {split.devices} to 1, {split.bound} binds; {candidates}; {split.gain:.2f} times both on every device")

# %% [markdown]
# **Against a simulation.** Contexts of real slots differ, and the slowest of the attention devices holds up the step.
# Random requests with $\theta$ = 2048: the rule's ratio is within 10 % of the best simulated one in throughput, as the
# paper reports for its own.

# %%
middle = splits[2048]
ends = [attention_split(model.decode(batch=batch, seq_len=theta), device).attention_time_expr for theta in (1024, 3072)]
slope = float((ends[1] - ends[0]) / (2048 * batch))
fixed = float(middle.attention_time_expr) - slope * 2048 * batch


def simulated(ratio, steps=2500, mean_prompt=1648, mean_output=400):
    """Tokens a second and device with a barrier at every step."""
    random = np.random.default_rng(ratio)
    left = random.geometric(1 / mean_output, (ratio, batch))
    context = random.integers(mean_prompt // 2, 3 * mean_prompt // 2, (ratio, batch)) + random.geometric(1 / mean_output, (ratio, batch))
    taken, ffn = 0.0, float(middle.ffn_expr(ratio))
    for _ in range(steps):
        taken += max(fixed + slope * context.sum(axis=1).max(), ffn, *map(float, middle.link_times_expr))
        left, context = left - 1, context + 1
        done = left == 0
        count = int(done.sum())
        left[done] = random.geometric(1 / mean_output, count)
        context[done] = random.integers(mean_prompt // 2, 3 * mean_prompt // 2, count)
    return steps * ratio * batch / ((ratio + 1) * taken)


rates = {ratio: simulated(ratio) for ratio in range(1, 13)}
best = max(rates, key=rates.get)
print(f"rule {middle.devices}, simulation {best}: the rule's ratio reaches {rates[middle.devices] / rates[best]:.1%} of the best")
assert rates[middle.devices] > 0.9 * rates[best]

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="attention devices for one FFN device", ylabel="tokens per second and device")
for (theta, split), colour, line in zip(splits.items(), ("#009E73", "#0072B2", "#D55E00"), ("-", "--", ":"), strict=True):
    ratios = np.linspace(1, 20, 200)
    axes.plot(ratios, [1 / float(split.cost_expr(Rational(str(round(r, 3))))) for r in ratios], line, color=colour, label=f"{theta} tokens")
    axes.plot([split.devices], [float(split.throughput_expr)], "*", color=colour, markersize=11)
axes.plot([*rates], [*rates.values()], "x", color="#0072B2", label="2048, simulated")
axes.set(xlim=(0, 20), ylim=(0, 26000))
axes.legend(frameon=False, title="mean tokens of a sequence", ncols=2)
symroof.show(figure)

# %% [markdown]
# Llama-3.1-8B on H200s, 64 sequences per attention device: the exact rate over the ratio, its best whole ratio (stars),
# and the simulation.
#
# **Micro-batches.** The stages take turns on $m$ micro-batches. A ring of stages serves one every $\max(\text{longest},
# \text{sum} / m)$ seconds, so the longest never waits from $m = \lceil \text{sum} / \text{longest} \rceil$ on; with equal
# compute stages of $T$ that is $2 (1 + T_C / T)$, the condition of MegaScale-Infer. A token then takes $m$ times the
# longest stage.

# %%
T = symbols("T", positive=True)
assert simplify((2 * T + 2 * T_C) / T - 2 * (1 + T_C / T)) == 0
for split in splits.values():
    total = Add(split.attention_time_expr, *split.link_times_expr, split.ffn_time_expr)
    assert (split.micro_batches - 1) * split.stage_time_expr < total <= split.micro_batches * split.stage_time_expr
print("micro-batches:", {theta: f"{split.micro_batches}, {split.tpot} a token" for theta, split in splits.items()})

# %% [markdown]
# **What it means.** The longer the contexts, the more attention devices an FFN device can serve. With short ones the knee
# decides: three times 64 rows make its matrices compute-bound, and more rows bring nothing. A service whose contexts grow
# needs another ratio; one whose lengths vary around the same mean does not.
#
# **Where it stops.** Stages summed over layers, which have to be alike; one copy of a row for an FFN device, whatever
# experts it has; the gain is at equal batch per attention device, where a device that does both may hold more or fewer.
#
# Sources: Song et al. (2026), Analytical provisioning for attention-FFN disaggregation, arXiv:2601.21351 (the rule, and
# 10 % of a simulator); Zhu et al. (2025), MegaScale-Infer, arXiv:2504.02263 (micro-batches).
