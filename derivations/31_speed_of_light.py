# %% [markdown]
# # 31. How many tokens any drafter can gain from a step
#
# A device verifies some tokens for nothing, as the weights are read anyway. However good a drafter is, the model's
# own uncertainty bounds what these tokens are worth: the number gained grows with the logarithm of the number
# verified.

# %%
from heapq import heappop, heappush
from math import exp, log

from matplotlib.figure import Figure
from sympy import Rational, cancel, simplify, symbols

import symroof

# %% [markdown]
# **Theorem 1.** Each token is drawn from a distribution p with entropy $\mu = E[-\ln p] > 0$ and $\mu_2 = E[\ln^2 p]$
# (a text that is certain, $\mu = 0$, has no such bound); the distributions of different prefixes may be drawn at random,
# independently and alike. A step verifies any tree of
# P drafted tokens, chosen with full knowledge of p. The expected number X of them that are accepted is
# $$E[X] \le \frac{\ln P}{\mu} + \frac{\mu_2}{\mu^2}.$$
#
# *Proof.* A node v of the tree is accepted with the probability q(v) of its prefix, so $E[X] = \sum_v q(v)$. Split it
# at $q = 1/P$: the nodes below give $P \cdot 1/P = 1$ at most. Those above are among all prefixes with
# $-\ln q \le x = \ln P$, and $\sum_{-\ln q(v) \le x} q(v) = \sum_{n \ge 1} \Pr(S_n \le x)$ with
# $S_n = \xi_1 + \dots + \xi_n$, $\xi = -\ln p$ of a drawn token: the expected number of renewals up to x. By Wald,
# $\mu\,(1 + \text{that number}) = E[S_{N+1}] = x + $ overshoot, and by Lorden the expected overshoot is at most
# $\mu_2 / \mu$. So it is at most $x / \mu + \mu_2 / \mu^2 - 1$. Add the 1. ∎
#
# **Corollary.** Pankratov and Alistarh print $(\mu + \mu_2) \ln P / \mu^2 + O(1)$. That is no less from $P = e$ on,
# with nothing for the O(1): their factor on $\ln P$ is larger by $1 + \mu_2 / \mu$, and $\ln P / \mu$ is all that a
# large P brings.

# %%
m, m2, L = symbols("mu mu_2 L", positive=True)
ours, theirs = L / m + m2 / m**2, (m + m2) * L / m**2
assert simplify(theirs - ours - m2 / m**2 * (L - 1)) == 0
assert cancel((L / m + m2 / m**2 - 1) + 1 - ours) == 0


def best_trees(p, most):
    """Expected accepted tokens of the best trees of 1, 2, ... tokens: prefixes in the order of their probability."""
    waiting, total, found = [(-share, 0) for share in p], 0.0, []
    waiting.sort()
    for _ in range(most):
        share, _ = heappop(waiting)
        total -= share
        found.append(total)
        for part in p:
            heappush(waiting, (share * part, 0))
    return found


def moments(p):
    """Entropy and second moment of the logarithm, in nats."""
    return -sum(part * log(part) for part in p), sum(part * log(part) ** 2 for part in p)


zipf = [1 / place for place in range(1, 51)]
sure = [0.9, *[0.1 * 0.5**place for place in range(1, 20)]]
DISTRIBUTIONS = {
    "0.8 and 0.2": [0.8, 0.2],
    "one of 20 at 0.9": [part / sum(sure) for part in sure],
    "Zipf over 50": [part / sum(zipf) for part in zipf],
    "even over 8": [1 / 8] * 8,
}
MOST = 4096
curves = {}
print(f"{'distribution':18}{'mu':>7}{'mu_2':>7}{'P':>6}{'best tree':>11}{'bound':>8}{'printed':>9}")
for name, p in DISTRIBUTIONS.items():
    assert abs(sum(p) - 1) < 1e-9
    mu, mu_2 = moments(p)
    tokens = best_trees(p, MOST)
    for count, gained in enumerate(tokens, 1):
        assert gained <= log(count) / mu + mu_2 / mu**2
    steep = (tokens[MOST - 1] - tokens[MOST // 16 - 1]) / log(16)
    assert abs(steep * mu - 1) < 0.35, "the logarithm's factor is 1 / mu"
    curves[name] = (mu, mu_2, tokens)
    for count in (16, MOST):
        bound, printed = log(count) / mu + mu_2 / mu**2, (mu + mu_2) * log(count) / mu**2
        print(f"{name:18}{mu:7.3f}{mu_2:7.3f}{count:6}{tokens[count - 1]:11.3f}{bound:8.3f}{printed:9.3f}")

# %% [markdown]
# A chain of drafts accepted with probability $\alpha$ each is a special tree: $\alpha / (1 - \alpha)$ tokens at most,
# however long. At $\alpha = 0.8$ the best tree over two tokens exceeds that at once.
#
# **Theorem 2 (a ceiling per device).** A step of b sequences whose linear layers are memory-bound up to $b^*$ tokens
# (`token_budget`) verifies $P = b^* / b - 1$ tokens of each sequence under the time that weights take. No drafter
# gains more from these than the factor $1 + \ln P / \mu + \mu_2 / \mu^2$, as a step takes no less than without.

# %%
chain = sum(0.8**place for place in range(1, 200))
assert abs(chain - 4) < 1e-9 < curves["0.8 and 0.2"][2][15] - chain
mu, mu_2, _ = curves["Zipf over 50"]
print("Llama-3.1-8B, tokens from Zipf's law over 50; verified for nothing, and gained at most:")
for device in ("l4", "a100-sxm-80gb", "h100-sxm"):
    step = symroof.load_model("llama-3.1-8b").decode(seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    budget = step.on(device).token_budget()
    cells = []
    for batch in (1, 8, 64):
        room = budget.value_expr / batch - 1
        assert room > exp(0)
        cells.append(f"batch {batch}: {float(room):6.1f}, {1 + log(float(room)) / mu + mu_2 / mu**2:.2f}x")
    assert budget.first_integer == -(-Rational(budget.value_expr).p // Rational(budget.value_expr).q)
    print(f"  {device:15}{'; '.join(cells)}")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="drafted tokens verified, P", ylabel="accepted in expectation", xscale="log", xlim=(1, MOST))
counts = [2**place for place in range(13)]
for (name, (mu, mu_2, tokens)), colour, marker in zip(curves.items(), ("#0072B2", "#D55E00", "#009E73", "#000000"), "os^d", strict=True):
    if name != "one of 20 at 0.9":
        axes.plot(counts, [tokens[count - 1] for count in counts], marker, color=colour, markersize=4, label=name)
        axes.plot(counts, [log(count) / mu + mu_2 / mu**2 for count in counts], color=colour, linewidth=0.8)
axes.legend(frameon=False, fontsize="small")
symroof.show(figure)

# %% [markdown]
# Best trees (markers) run parallel to the bound (lines).
#
# **What it means.** A device with twice the ridge verifies twice the tokens and gains $\ln 2 / \mu$ of a token: 0.22
# for tokens as uncertain as Zipf's. Lower entropy, from easier text or a lower temperature, is worth more than
# arithmetic.
#
# Caveats. Independent distributions along a text are an assumption of the paper too; entropies of real models vary
# with the text. The paper's measured figures on Llama models are curves, without digits to compare.
#
# Sources: Pankratov and Alistarh (2025), arXiv:2512.11718; Lorden (1970), Annals of Mathematical Statistics 41,
# 520-527 (overshoot).
