# %% [markdown]
# # How many experts a step reads
#
# Each of $T$ tokens goes to $K$ of $E$ experts. At most $\min(E, K T)$ of them are read; in expectation fewer, and fewer
# still where some experts are chosen more often than others.

# %%
from sympy import Rational, exp, simplify

import symroof

E, K, X, b = symroof.symbols.named("E K X b")

WIDTHS = {"seq_len": 64}
mixtral = symroof.load_model("mixtral-8x7b-v0.1")
uniform = mixtral.decode(symbolic=True).symbolic.definitions[X]
print("X =", uniform)

# %% [markdown]
# **Theorem 1.** An expert that a token goes to with probability $\pi_i$ is read with probability $1 - (1 - \pi_i)^T$; so $X
# = \sum_i 1 - (1 - \pi_i)^T$ whatever the choices of one token have to do with one another, and $X = E(1 - (1 - K/E)^T)$
# for uniform routing, the most for any $\pi$ (the summand is concave). $K \le X \le \min(E, K T)$, with equality for one
# token.
#
# **Theorem 2.** $\min(E, K T) / X < 1 / (1 - 1/e) = 1.582$ for uniform routing, most where $K T = E$: so much more than expected
# a step reads at most. FLOPs are the same.
#
# *Proof.* With $x = K/E$ the ratio is $\min(1, x T) / (1 - (1 - x)^T)$. It rises in $T$ while $x T < 1$ and falls after,
# and at $T = 1/x$ it is $1 / (1 - (1 - x)^{1/x})$, where $(1 - x)^{1/x} < 1/e$. ∎

# %%
assert simplify(uniform.subs(b, 1)) == K
for experts, routed in ((8, 2), (64, 6), (256, 8), (128, 1)):
    ratios = {n: min(experts, routed * n) / uniform.subs({E: experts, K: routed, b: n}) for n in range(1, 3 * experts // routed)}
    worst = max(ratios, key=ratios.get)
    assert abs(worst - Rational(experts, routed)) < 1
    assert ratios[worst] < 1 / (1 - exp(-1))
    print(f"{routed} of {experts}: at most {float(ratios[worst]):.3f}, at {worst} tokens")

# %% [markdown]
# **Theorem 3.** $X / T$ falls as $T$ grows, so the intensity of an expert's layer rises and it has one critical batch at
# most. There the weights read differ from those of all experts by the share $(1 - K/E)^T$, and the critical batch is lower than
# that of $X = E$ by the same share of it.
#
# *Proof.* $X$ is concave in $T$ and 0 at 0, so its chord from 0 falls. With activations $\kappa T$ bytes, the bytes per
# FLOP are $X/T$ times a number plus $\kappa$: they fall. Compute-bound is where they are less than $BW / P$, linear in $X$.
# ∎

# %%
most = symroof.crossover(mixtral.decode(**WIDTHS, experts="at-most"), "expert_up_proj", over="batch", hardware="a100-sxm-80gb")
for text in ("", "expert-routing:skew=1", "expert-routing:skew=2"):
    chain = [symroof.technique(text)] if text else []
    critical = symroof.crossover(mixtral.decode(**WIDTHS).apply(*chain), "expert_up_proj", over="batch", hardware="a100-sxm-80gb")
    intensities, first = [], None
    for batch in (1, 4, 64, int(critical.first_integer) - 1, int(critical.first_integer)):
        placed = symroof.analyze(mixtral.decode(batch=batch, **WIDTHS).apply(*chain), "a100-sxm-80gb")["expert_up_proj"]
        intensities.append(placed.intensity_expr)
        first = batch if first is None and placed.bound == "compute" else first
    assert intensities == sorted(intensities)
    assert first == critical.first_integer
    below = (most.value_expr - critical.value_expr).evalf(5, maxn=200)
    assert below > 0
    assert text or below < most.value_expr * Rational(3, 4) ** int(critical.value_expr)
    print(f"{text or 'uniform'}: compute-bound at batch {first}, by {float(below):.1e} below that of X = E")

# %% [markdown]
# **What it means.** At the batch where experts turn compute-bound every expert is read for all that matters; the routing
# decides how much a small batch reads. Skewed routing: $\pi_i \sim i^{-\zeta}$, at most 1, in parts of 1/65536. Tokens
# that are correlated read other numbers of experts than these means.
#
# Sources: Jiang et al. (2024), Mixtral, arXiv:2401.04088; Clauset et al. (2009), arXiv:0706.1062.
