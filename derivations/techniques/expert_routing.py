# %% [markdown]
# # How many experts a step reads
#
# Each of $T$ tokens goes to $K$ of $E$ experts. At most $\min(E, K T)$ of them are read; in expectation fewer.

# %%
from sympy import Rational, exp, simplify

import symroof
from symroof.symbols import E, K, X, b

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16, "seq_len": 64}
mixtral = symroof.load_model("mixtral-8x7b-v0.1")
uniform = mixtral.decode(symbolic=True).apply(symroof.technique("expert-routing")).symbolic.definitions[X]
print("X =", uniform)

# %% [markdown]
# **Theorem 1.** An expert that a token goes to with probability $\pi_i$ is read with probability $1 - (1 - \pi_i)^T$; so $X
# = \sum_i 1 - (1 - \pi_i)^T$ whatever the choices of one token have to do with one another, and $X = E(1 - (1 - K/E)^T)$
# for uniform routing, the most for any $\pi$ (the summand is concave). $K \le X \le \min(E, K T)$, with equality for one
# token.
#
# **Theorem 2.** Bytes fall by at most $\min(E, K T) / X < 1 / (1 - 1/e) = 1.582$, most where $K T = E$; FLOPs stay.
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
# most. There the weights read differ from $E$ by the share $(1 - K/E)^T$: the critical batch is that of $X = E$, lower by
# that share.
#
# *Proof.* $X$ is concave in $T$ and 0 at 0, so its chord from 0 falls. With activations $\kappa T$ bytes, the bytes per
# FLOP are $X/T$ times a number plus $\kappa$: they fall. Compute-bound is where they are less than $BW / P$, linear in $X$.
# ∎

# %%
plain = mixtral.decode(**WIDTHS)
critical = symroof.crossover(plain, "expert_up_proj", over="batch", hardware="a100-sxm-80gb")
share = Rational(3, 4) ** int(critical.first_integer)
assert share < Rational(1, 10**60)
for text in ("expert-routing", "expert-routing:skew=1", "expert-routing:skew=2"):
    intensities, first = [], None
    for batch in (1, 4, 64, int(critical.first_integer) - 1, int(critical.first_integer)):
        step = mixtral.decode(batch=batch, **WIDTHS).apply(symroof.technique(text))
        placed = symroof.analyze(step, "a100-sxm-80gb")["expert_up_proj"]
        intensities.append(placed.intensity_expr)
        first = batch if first is None and placed.bound == "compute" else first
    assert intensities == sorted(intensities)
    print(f"{text}: compute-bound at batch {first} (X = E: {critical.first_integer}, exactly {float(critical.value):.3f})")
    assert first <= critical.first_integer

# %% [markdown]
# **What it means.** At the batch where experts turn compute-bound every expert is read for all that matters; the routing
# decides how much a small batch reads. Skewed routing: $\pi_i \sim i^{-\zeta}$, at most 1, in parts of 1/65536.
#
# Sources: Jiang et al. (2024), Mixtral, arXiv:2401.04088; Clauset et al. (2009), arXiv:0706.1062.
