# %% [markdown]
# # Without overlap an operator is at most twice as slow
#
# The roofline assumes that bytes move while the units compute. Without that an operator's times add up.
#
# **Theorem.** With the times $x_1, \ldots, x_n$ under $n$ ceilings, $\sum x_i / \max x_i = 1 + \sum_{i \ne m} x_i / x_m$. For two it is
# $1 + \min / \max$: 2 exactly at the crossover and towards 1 away from it; for $n$ it is at most $n$. Crossovers stay where
# they are, as $F / P = B / BW$ does not mention how times combine.
#
# *Proof.* Divide by the largest: every other term is at most 1, and is 1 where the two times are equal. ∎

# %%
from sympy import Rational, limit, oo, simplify

import symroof
from symroof import payoff, technique

BW, P, a, b, d, f = symroof.symbols.named("BW P a b d f")

up = symroof.load_model("llama-2-7b").decode(symbolic=True)["up_proj"]
compute, memory = up.flop_count / P, up.byte_count() / BW
slowdown = 1 + compute / memory  # while memory-bound
crossing = symroof.crossover(symroof.load_model("llama-2-7b").decode(symbolic=True), "up_proj", over="batch").formula
assert simplify(slowdown.subs(b, crossing)) == 2
assert limit(slowdown, b, 0) == 1
far = simplify(1 + limit(memory / compute, b, oo))
assert simplify(far - (1 + P * a * (d + f) / (16 * BW * d * f))) == 0
print("slowdown while memory-bound:", simplify(slowdown), "; it tends to", far, "for large batches")

# %% [markdown]
# **In numbers**: the exact slowdown of one operator and of the step over the batch, on an A100.

# %%
step = symroof.load_model("llama-2-7b").decode(seq_len=1024)
for part in ("up_proj", "total"):
    found = payoff(step, step.apply(technique("no-overlap")), over="batch", hardware="a100-sxm-80gb", operator=part)
    assert found.sentence == "slower at every batch"
    told = {batch: 1 / found.speedup_expr(batch) for batch in (1, 16, 161, 1000, 100000)}
    assert all(1 < one <= 2 for one in told.values())
    print(part, *(f"{float(one):.3f} at batch {batch}" for batch, one in told.items()), sep="; ")
at = symroof.crossover(step, "up_proj", over="batch", hardware="a100-sxm-80gb").value_expr
alone = payoff(step, step.apply(technique("no-overlap")), over="batch", hardware="a100-sxm-80gb", operator="up_proj")
assert alone.speedup_expr(at) == Rational(1, 2)
print("twice as slow at batch", at)

# %% [markdown]
# **What it means.** Overlap is worth at most a factor of 2 and that only where an operator is balanced; decode at batch 1
# gains under 1 % from it. Real kernels lie between the two. A model of the sum: Treibig and Hager (2010), arXiv:0905.0792.
