# %% [markdown]
# # Resident weights: a spatial architecture
#
# Weights live in on-chip memory of bandwidth $BW_c$, over as many chips as hold them; activations and cache stay in memory.

# %%
from sympy import ceiling, limit, oo, simplify, solve

import symroof
from symroof import Level

BW, BW_c, P, a, b, d, f, w = symroof.symbols.named("BW BW_c P a b d f w")

model = symroof.load_model("llama-2-7b")
plain = model.decode(symbolic=True)
resident = plain.apply(symroof.techniques.ResidentWeights())
up = resident["up_proj"]
F, A, W = up.flop_count, up.byte_count(), up.byte_count(level=Level.CHIP)
assert simplify(A - b * (d + f) * a / 8) == 0
assert simplify(W - d * f * w / 8) == 0
assert resident.graph.weight_memory() == 0
assert resident.graph.parameter_count() == plain.graph.parameter_count()

# %% [markdown]
# **Theorem 1 (three ceilings).** $T = \max(F / P, A / BW, W / BW_c)$. Against memory's $16 d f / (a (d + f))$ FLOP per byte of
# activations, which no batch changes, a layer is compute-bound from $b = P w / (16 BW_c)$ on: $BW / BW_c$ of the critical batch.

# %%
intensity = F / A
assert b not in simplify(intensity).free_symbols
critical = solve(F / P - W / BW_c, b)[0]
assert simplify(critical - P * w / (16 * BW_c)) == 0
old = symroof.crossover(plain, "up_proj", over="batch").formula
assert simplify(limit(old.subs(f, d), d, oo) * BW / BW_c - critical) == 0
print("FLOP/byte of memory:", simplify(intensity), "; weights on chip decide up to a batch of", critical)

# %% [markdown]
# **Theorem 2 (when it pays, how much at most).** Where memory decides, if $BW_c > BW W / (W + A)$: then by
# $(1 + W / A)$ at most, what the activations leave, and by about $BW_c / BW$ while the weights decide. It stops at the old
# critical batch, from which on both are compute-bound.

# %%
step = model.decode(seq_len=1024)
after = step.apply(symroof.techniques.ResidentWeights(bandwidth=80 * 10**12))
found = symroof.payoff(step, after, over="batch", hardware="a100-sxm-80gb", operator="up_proj")
print(found.sentence, {batch: round(float(found.speedup_expr(batch)), 2) for batch in (1, 16, 64, 161)})
assert found.edges_expr == (symroof.crossover(step, "up_proj", over="batch", hardware="a100-sxm-80gb").value_expr,)
one = model.decode(batch=1, seq_len=1024)
over = symroof.payoff(
    one, one.apply(symroof.techniques.ResidentWeights()), over="chip_bandwidth", hardware="a100-sxm-80gb", operator="up_proj"
)
wanted = (BW * W / (W + A)).subs(model.dimensions | {b: 1, a: 16, w: 16, BW: 2039 * 10**9})
assert over.edges_expr == (wanted,)
print("on-chip bandwidth:", over.sentence)
for batch in (1, 2, 8, 32, 128, 512):
    at = model.decode(batch=batch, seq_len=1024)
    times = [
        symroof.analyze(which, "a100-sxm-80gb")["up_proj"].time_expr
        for which in (at, at.apply(symroof.techniques.ResidentWeights(bandwidth=80 * 10**12)))
    ]
    assert times[0] / times[1] == found.speedup_expr(batch)
    assert times[0] / times[1] <= 1 + (W / A).subs(model.dimensions | {b: batch, a: 16, w: 16})

# %% [markdown]
# **How many chips.** $\lceil W_{all} / M_c \rceil$; on a chip of 230 MB, as Groq's, a model takes hundreds. A token runs
# through them one after the other: chips hold, they do not speed up.

# %%
for name, bits in (("llama-2-7b", 16), ("llama-2-70b", 16), ("llama-2-70b", 8)):
    whole = symroof.load_model(name).decode(weight_bits=bits)
    chips = symroof.techniques.ResidentWeights(capacity=230 * 10**6).chips_for(whole)
    assert chips == ceiling(whole.graph.weight_memory() / (230 * 10**6))
    assert (chips - 1) * 230 * 10**6 < whole.graph.weight_memory() <= chips * 230 * 10**6
    print(f"{name} at {bits} bits: {chips} chips of 230 MB")

# %% [markdown]
# Source: Abts et al. (2020), Think Fast: a tensor streaming processor, doi:10.1109/ISCA45697.2020.00023.
