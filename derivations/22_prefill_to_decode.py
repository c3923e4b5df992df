# %% [markdown]
# # 22. How many devices for prefill, how many for decode
#
# Prefill and decode on pools of their own are both busy at one ratio, and that ratio is a formula in the lengths. Whether
# two pools are better than one that mixes both into its steps is decided by the promise of time per token.

# %%
from itertools import product

from matplotlib.figure import Figure
from sympy import Add, Rational, simplify, symbols

import symroof
from symroof import provision, released_tokens, saturated_ratio

S, n, b = symroof.symbols.named("S n b")
model = symroof.load_model("llama-3.1-8b")

# %% [markdown]
# **Theorem 1.** A prefill device reads a prompt in $t_p$ seconds; a decode device takes $t_d$ seconds for the $n - 1$
# steps of $b$ sequences. Both pools are busy all the time if and only if there are $r = t_p\, b / t_d$ prefill devices
# for every decode device. On a step $t_d / b$ seconds of a decode device go to every request, so a request costs $t_p +
# t_d / b$ device-seconds.
#
# *Proof.* $r$ prefill devices yield $r / t_p$ prompts a second, a decode device ends $b / t_d$ sequences; with more of
# either, one waits. Where no operator changes its bound a step takes $u + v b + (w b + z) t$ at context $t$; its sum over
# $t = S + 1 \dots S + n - 1$ is a polynomial in $S$ and $n$. ∎

# %%
device, prompt, output, batch = "h100-sxm", 2048, 24, 32
found = provision(model, prompt=prompt, output=output, batch=batch, hardware=device)


def seconds(phase, batch, length):
    """One step by itself."""
    return symroof.analyze(getattr(model, phase)(batch=batch, seq_len=length), device).total.time_expr


def brute(prompt, output, batch):
    """The ratio from every step by itself."""
    steps = Add(*(seconds("decode", batch, prompt + i) for i in range(1, output)))
    return seconds("prefill", 1, prompt) * batch / steps


for lengths in ((prompt, output, batch), (prompt + 40, output - 9, batch + 1)):
    assert found.formula.subs(dict(zip((S, n, b), lengths, strict=True))) == brute(*lengths)
print("ratio:", found.ratio, "=", found.formula)
print("elasticities:", {name: f"{value:.3f}" for name, value in found.elasticity.items()})

# %% [markdown]
# **The published figures.** *How to scale your model* (Austin et al., 2025) has 0.91 s, 19 ms, a batch of 32 and 512
# tokens: 3 to 1, and $b (S + n) / n$ = 96 tokens that leave the cache in a step at 8192 and 4096. The book's 0.91 s takes
# $2 \cdot 70 \cdot 10^9$ FLOPs a token at 40 % of the peak of 16 TPU v5e. Ours counts the weights that multiply (no
# embedding table, logits of one token) and adds attention.

# %%
print(f"book: {saturated_ratio('0.91 s', '19 ms', 32, 512):.3f} prefill devices, {released_tokens(32, 8192, 4096)} tokens a step")
assert f"{saturated_ratio('0.91 s', '19 ms', 32, 512):.0f}" == "3"
assert released_tokens(32, 8192, 4096) == 96
large = symroof.load_model("llama-3-70b")
reading = large.prefill(batch=1, seq_len=8192)
flops, chips = reading.graph.contraction_flop_count, 16 * Rational(197 * 10**12) * Rational(2, 5)
linear = Add(*(count * operator.flop_count for operator, count in reading.graph if operator.role == symroof.Role.PROJECTION))
parameters = 2 * 70 * 10**9 * 8192
print(f"book {float(parameters / chips):.3f} s, projections {float(linear / chips):.3f} s, with attention {float(flops / chips):.3f} s")
assert f"{float(parameters / chips):.2f}" == "0.91"
ours = saturated_ratio(flops / chips, "19 ms", 32, 512)
print(f"with attention's FLOPs the ratio is {ours:.3f}: still about 3 to 1")

# %% [markdown]
# **Theorem 2 (two pools or one).** One pool mixes $b S / (n - 1)$ tokens of prompts into every step. Let steps take $w +
# \beta b$ seconds, and mixed ones $w + (\beta + p) b - o$: $p = t_p / (n - 1)$ seconds of prompt work for every sequence,
# of which $o$ are hidden under memory traffic. Then
#
# 1. at the same batch one pool takes fewer device-seconds a request exactly if $o > 0$;
# 2. with the promise of $T$ seconds a token, each pool at its largest batch, two pools take fewer exactly if $o < w\, p
#    (T - w) / (p (T - w) + \beta T)$, which is below $w$.
#
# *Proof.* A request takes $n - 1$ steps and $1/b$ of each. 1: $p + (w + \beta b) / b > (w + (\beta + p) b - o) / b$. 2:
# $b = (T - w) / \beta$ in two pools, $b = (T - w + o) / (\beta + p)$ in one; compare $p + T / b$ with $T / b$. ∎

# %%
w, beta, p, o, T = symbols("w beta p o T", positive=True)
apart = p + T * beta / (T - w)
together = T * (beta + p) / (T - w + o)
threshold = w * p * (T - w) / (p * (T - w) + beta * T)
assert simplify(apart.subs(T, w + beta * b) - (w + beta * b + p * b) / b) == 0
assert simplify((apart - together).subs(o, threshold)) == 0
assert simplify(threshold / w - 1 / (1 + beta * T / (p * (T - w)))) == 0, "below w"
assert simplify(together.diff(o) + T * (beta + p) / (T - w + o) ** 2) == 0, "falls with what is hidden"
assert symroof.hidden_needed("50 ms", "10 ms", "0.5 ms", "1 ms").exact == threshold.subs(
    {T: Rational(1, 20), w: Rational(1, 100), beta: Rational(1, 2000), p: Rational(1, 1000)}
)

# %% [markdown]
# **On an H100.** With steps of the roofline instead of lines, both sides of the threshold occur.

# %%
PROMISES = (6, 8, 11, 16)
costs = {}
for length, tpot in product((2048, 8192), PROMISES):
    pools = provision(model, prompt=length, output=256, batch=1, hardware=device, tpot=f"{tpot} ms")
    one = pools.mixed_within
    costs[length, tpot] = float(pools.device_time_within_expr), float(one.device_time_expr)
    assert pools.splitting_pays == (costs[length, tpot][0] < costs[length, tpot][1])
for length in (2048, 8192):
    better = {tpot: "two" if costs[length, tpot][0] < costs[length, tpot][1] else "one" for tpot in PROMISES}
    print(f"prompts of {length}, pools by promise in ms:", better)
assert costs[2048, 6][0] < costs[2048, 6][1]
assert costs[2048, 8][0] > costs[2048, 8][1]

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="promised time per token [ms]", ylabel="device-seconds of a request", yscale="log")
for length, colour in ((2048, "#0072B2"), (8192, "#D55E00")):
    promises = [tpot for of, tpot in costs if of == length]
    for place, (line, marker, name) in enumerate((("-", "o", "two pools"), ("--", "s", "one pool"))):
        values = [costs[length, tpot][place] for tpot in promises]
        axes.plot(promises, values, line, color=colour, marker=marker, markersize=4, label=f"{name}, prompts of {length}")
axes.legend(frameon=False, fontsize=8)
symroof.show(figure)

# %% [markdown]
# Llama-3.1-8b on an H100, 256 tokens generated. Two pools are below one pool at tight promises alone, up to a longer
# promise where prompts are longer.
#
# **What it means.** Splitting is a way to keep a promise, not to save devices: where the promise is loose, prompts ride
# along with decode and are partly free. The ratio follows the lengths almost in proportion ($S$ up, $n$ down), so pools
# of a fixed size fit one workload.
#
# **Where it stops.** $o$ counts what chunks read again as well: with prompts of 131,072 tokens and a batch of one it is
# below zero, and two pools win without a promise. Saturated pools without queues; prompts read one at a time; every step
# at the mean context, exact while a step is linear in it; chunks spread evenly over the steps, and rounded up to whole
# tokens.
#
# Sources: Zhong et al. (2024), DistServe, arXiv:2401.09670; Patel et al. (2023), Splitwise, arXiv:2311.18677; Agrawal et
# al. (2023), SARATHI, arXiv:2308.16369; Austin et al. (2025), How to scale your model, applied inference, for the two
# published figures.
