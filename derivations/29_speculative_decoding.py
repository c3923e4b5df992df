# %% [markdown]
# # 29. Speculative decoding by formula, its best length, and when it gains at all
#
# Leviathan, Kalman and Matias give three formulas for a draft of cost c (over a step of the target) whose tokens are
# accepted with probability $\alpha$. The library counts whole steps instead; where weights alone are read both agree
# (derivations/techniques/speculative.py has that proof, and recurrent layers and heads).

# %%
from random import Random

from sympy import Poly, Rational, cancel, diff, log, simplify, symbols

import symroof

alpha, gamma, kappa_d = symroof.symbols.named("alpha gamma kappa_d")
c = symbols("c", positive=True)

# %% [markdown]
# **Theorem 1 (their table 1).** With g drafted tokens a step completes $N = (1 - \alpha^{g+1}) / (1 - \alpha)$ tokens
# in expectation, is faster by $N / (g c + 1)$, and does $(g \hat c + g + 1) / N$ times the operations, $\hat c$ the
# draft's operations over the target's.
#
# *Proof.* Token i is kept if all i before it are: $N = \sum_{i=0}^g \alpha^i$. A step takes the target once and the
# draft g times, and verifies g + 1 tokens. ∎

# %%
graph = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(symroof.technique("speculative")).symbolic
assert simplify(graph.tokens - (1 - alpha ** (gamma + 1)) / (1 - alpha)) == 0
tokens = {g: sum(alpha**k for k in range(g + 1)) for g in range(17)}
assert all(cancel(graph.tokens.subs(gamma, g) - tokens[g]) == 0 for g in (1, 4))

TABLE = {("0.6", 2): "1.96", ("0.7", 3): "2.53", ("0.8", 2): "2.44", ("0.8", 5): "3.69", ("0.9", 2): "2.71", ("0.9", 10): "6.86"}
print("acceptance, length: speedup at c = 0, and operations at c = 0")
for (accepted, length), printed in TABLE.items():
    speedup = tokens[length].subs(alpha, Rational(accepted))
    assert f"{float(speedup):.2f}" == printed
    print(f"  {accepted}, {length:2}: {printed}, {float((length + 1) / speedup):.2f}")

chance = Random(1)  # noqa: S311
trials = 20_000
kept = [next((place for place in range(5) if chance.random() >= 0.8), 5) for _ in range(trials)]
simulated = sum(kept) / trials + 1
assert abs(simulated - 3.69) < 0.05
print(f"simulated, 0.8 and 5: {simulated:.2f}")

# %% [markdown]
# **Theorem 2 (any gain).** Some length is faster if and only if $\alpha > c$, and then g = 1 is, by
# $(1 + \alpha) / (1 + c)$.
#
# *Proof.* If $\alpha > c$, then $N = 1 + \alpha > 1 + c$ at g = 1. If $\alpha \le c$, then
# $N = 1 + \sum_{i=1}^g \alpha^i \le 1 + g \alpha \le 1 + g c$ for every g, as powers of $\alpha \le 1$ are at most
# $\alpha$. ∎ The library proves the two inequalities as signs of polynomials in $1 - \alpha$ and $c - \alpha$:

# %%
x, more = symbols("x y", nonnegative=True)
for g in range(1, 7):
    spare = (1 + g * c - tokens[g]).subs(c, alpha + more).subs(alpha, 1 / (1 + x))  # every acceptance up to 1, every cost from it on
    numerator = Poly(cancel(spare * (1 + x) ** g), x, more)
    assert all(coefficient >= 0 for coefficient in numerator.coeffs())
assert simplify((1 + alpha) / (1 + c) - 1 - (alpha - c) / (1 + c)) == 0

# %% [markdown]
# **Theorem 3 (the best length).** $N / (g c + 1)$ has one maximum over real g, where
# $$\alpha^{g+1}\,\bigl(c - (1 + g c) \ln \alpha\bigr) = c,$$
# and over whole g the best is the first at which $\alpha^{g+1} (1 + g c) \le c N$: then one more token adds less than
# it costs.
#
# *Proof.* The derivative's numerator is $-\alpha^{g+1} \ln \alpha\,(1 + g c) - c (1 - \alpha^{g+1})$. And
# $N(g+1) / (1 + (g+1) c) > N(g) / (1 + g c)$ if and only if $h(g) = \alpha^{g+1} (1 + g c) - c N(g) > 0$, where
# $h(g + 1) - h(g) = -(1 - \alpha)\,\alpha^{g+1} (1 + (g + 1) c) < 0$: h changes its sign once. ∎

# %%
g = symbols("g", positive=True)
real = (1 - alpha ** (g + 1)) / ((1 - alpha) * (1 + g * c))
condition = alpha ** (g + 1) * (c - (1 + g * c) * log(alpha)) - c
assert simplify(diff(real, g) * (1 - alpha) * (1 + g * c) ** 2 - condition) == 0
gains = alpha ** (g + 1) * (1 + g * c) - c * (1 - alpha ** (g + 1)) / (1 - alpha)
assert simplify(gains.subs(g, g + 1) - gains + (1 - alpha) * alpha ** (g + 1) * (1 + (g + 1) * c)) == 0


def best(accepted, cost):
    """The first length at which one more token adds less than it costs."""
    return next(n for n in range(200) if accepted ** (n + 1) * (1 + n * cost) <= cost * sum(accepted**k for k in range(n + 1)))


for accepted in (Rational(1, 2), Rational(7, 10), Rational(9, 10)):
    for cost in (Rational(1, 100), Rational(1, 20), Rational(3, 10)):
        every = [sum(accepted**k for k in range(n + 1)) / (1 + n * cost) for n in range(100)]
        assert every.index(max(every)) == best(accepted, cost)

# %% [markdown]
# The library's `best_length` searches whole steps with a proof that no longer length is better. Where weights are all
# that is read it gives the formula's length; with the cache and the activations of verification it gives that or one
# less:

# %%
print("acceptance, cost: best length by the formula, and of Llama-2-7B's steps at batch 1 and 64 on A100")
model = symroof.load_model("llama-2-7b")
for accepted, cost in (("0.7", "0.05"), ("0.8", "0.05"), ("0.9", "0.02")):
    found = []
    for batch in (1, 64):
        step = model.decode(batch=batch, seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16, flash_attention=True)
        exact = symroof.best_length(step, symroof.technique(f"speculative:acceptance={accepted},draft_cost={cost}"), "a100-sxm-80gb")
        found.append(exact.length)
    ideal = best(Rational(accepted), Rational(cost))
    assert ideal - 1 <= found[0] <= ideal
    assert found[1] < ideal
    print(f"  {accepted}, {cost}: {ideal}; {found[0]} and {found[1]}")
step = model.decode(batch=1, seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
for cost in (Rational(1, 20), Rational(1, 2)):
    least = symroof.least_acceptance(step, symroof.technique(f"speculative:draft_cost={cost}"), "a100-sxm-80gb").exact
    assert cost < least < cost + Rational(1, 50), "above the cost by the activations of one more token"
    print(f"cost {cost}: some length is faster from acceptance {float(least):.4f} on")

# %% [markdown]
# **What it means.** The table is right to its digits, and is a bound: it is reached where nothing but weights is
# read. The condition $\alpha > c$ is necessary for every model and device, as verification of more tokens takes no
# less; it is sufficient only in that limit.
#
# Source: Leviathan, Kalman and Matias (2023), arXiv:2211.17192, equation 1, theorems 3.8 and 3.11, corollary 3.9,
# table 1.
