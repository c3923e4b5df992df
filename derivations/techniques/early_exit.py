# %% [markdown]
# # Early exit
#
# A token leaves the model before its last layer. In a batch a layer's weights are read while any sequence still runs.

# %%
from sympy import Rational, log, simplify

import symroof
from symroof import Role, Storage

L_x, a, b, d, f, w = symroof.symbols.named("L_x a b d f w")
lambda_l = symroof.symbols.lambda_l

WIDTHS = {"seq_len": 256}
model = symroof.load_model("llama-2-7b")

# %% [markdown]
# **Theorem.** Let $S_l$ be the share of the tokens that reach layer $l$, $\lambda_l$ its mean. Without what leads to keys and
# values, the FLOPs, activations and cache of the layers go to $\lambda_l$ of what they were, their weights to $L_x / L$ with
# $L_x = \sum_l 1 - (1 - S_l)^b$, and
# $$\lambda_l \le L_x / L \le 1 - (1 - \lambda_l)^b .$$
# No operator is slower. One that is compute-bound, or bound by its cache, is faster by $1/\lambda_l$; one bound by its
# weights by $L / L_x$, which tends to 1 as the batch grows, unless all sequences leave together. Ceilings stay; intensity
# of a layer bound by its weights falls by $\lambda_l L / L_x$.
#
# *Proof.* $1 - (1 - S)^b$ is concave in $S$ with the values 0 at 0 and 1 at 1, so it is at least $S$, and its mean is at
# most its value at the mean (Jensen). Both factors are at most 1. ∎

# %%
up = model.decode(symbolic=True)
after = up.apply(symroof.technique("early-exit:exits=independent"))
count = after.symbolic.blocks[1].count
before_bytes = b * (d + f) * a / 8 + d * f * w / 8
after_bytes = after["up_proj"].byte_count() * count / up.symbolic.blocks[1].count
assert simplify(after_bytes - (lambda_l * b * (d + f) * a / 8 + (1 - (1 - lambda_l) ** b) * d * f * w / 8)) == 0
assert simplify(up["up_proj"].byte_count() - before_bytes) == 0
print("bytes of up_proj, a layer of L on average:", after_bytes.simplify())

for batch in (1, 2, 4, 16):
    leave = Rational(1, 10)
    depth = (1 - (1 - leave) ** 32) / leave / 32
    step = model.decode(batch=batch, **WIDTHS)
    runs = step.apply(symroof.technique("early-exit:exits=geometric,exit=1/10")).graph.definitions[L_x] / 32
    most = 1 - (1 - depth) ** batch
    assert depth <= runs <= most
    seconds = symroof.analyze(step, "a100-sxm-80gb").total.time_expr
    gains = [
        seconds / symroof.analyze(step.apply(exits), "a100-sxm-80gb").total.time_expr
        for exits in (
            symroof.techniques.EarlyExit(depth=depth),
            symroof.techniques.EarlyExit(exit=leave, exits="geometric"),
            symroof.techniques.EarlyExit(depth=depth, exits="independent"),
        )
    ]
    assert 1 / depth > gains[0] >= gains[1] >= gains[2] > 1
    shares, told = (" <= ".join(f"{float(x):.3f}" for x in (depth, runs, most)), ", ".join(f"{float(x):.2f}" for x in gains))
    print(f"batch {batch}: layers read {shares}; speed-up together, geometric, independent: {told}")

# %% [markdown]
# **Keys and values of skipped layers.** A later token attends to all layers of the earlier ones, so a token's keys and values
# are computed in layers it skips too, from the hidden state it left with (CALM's propagation). With $\kappa$ the share of a
# layer's weights that make keys and values, $\kappa = 2 d k e / W$ for attention over $k$ KV heads, all $L$ layers read that
# share in every step: $\lambda_l$ becomes $\lambda_l + \kappa (1 - \lambda_l)$ where weights decide and exits are together, and a
# gain of $1 / \lambda_l$ at most $1 / (\lambda_l + \kappa (1 - \lambda_l))$. Grouped queries make $\kappa$ small: 0.166 in
# Llama-2-7b, 0.038 in Llama-3-8b.

# %%
for name, kv, width in (("llama-2-7b", 4096, 11008), ("llama-3-8b", 1024, 14336)):
    share = Rational(2 * 4096 * kv, 2 * 4096 * kv + 2 * 4096**2 + 3 * 4096 * width)
    step = symroof.load_model(name).decode(batch=1, **WIDTHS)
    exits = [step.apply(symroof.techniques.EarlyExit(depth=Rational(1, 2), skipped_kv=how)) for how in ("computed", "none")]
    read = [sum(n * op.byte_count(Storage.WEIGHT) for op, n in one.graph if op.role is Role.PROJECTION) for one in (step, *exits)]
    assert read[1] / read[0] == (1 + share) / 2
    assert read[2] / read[0] == Rational(1, 2)
    gains = [float(symroof.analyze(step, "h100-sxm").total.time_expr / symroof.analyze(one, "h100-sxm").total.time_expr) for one in exits]
    print(f"{name}: kappa {float(share):.3f}; half of the layers: x {gains[0]:.2f} with keys and values, x {gains[1]:.2f} without")

# %% [markdown]
# **Where it stops.** Independent exits leave less than a share $\epsilon$ of the weights unread from $b = \ln \epsilon /
# \ln(1 - \lambda_l)$ on. After that the gain is that of the work and the cache alone.

# %%
half = log(Rational(1, 100)) / log(Rational(1, 2))
assert (Rational(1, 2)) ** 6 > Rational(1, 100) > Rational(1, 2) ** 7
print(f"lambda = 1/2: 99 % of the weights are read from batch {float(half):.2f} on")

# %% [markdown]
# Not counted: the decision to leave (a classifier or an LM head per layer).
#
# Sources: Schuster et al. (2022), arXiv:2207.07061; Teerapittayanon et al. (2016), arXiv:1709.01686.
