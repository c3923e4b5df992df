# %% [markdown]
# # Layers left out
#
# A fixed set of layers is left out for all tokens: weights, cache and work of these go.

# %%
from sympy import Rational, Symbol, simplify

import symroof

model = symroof.load_model("llama-3-8b")

# %% [markdown]
# **Theorem.** With a share $\lambda_l$ of the layers kept, FLOPs, bytes and time of the layers go to $\lambda_l$ of what they
# were and their intensities stay, so no crossover of an operator moves. With $\epsilon$ the share of the time that
# embedding and LM head take, the step is faster by $1 / (\lambda_l + \epsilon (1 - \lambda_l))$: it always pays, by less than
# $1/\lambda_l$ and never more than $1/\epsilon$.
#
# *Proof.* A layer's operators do not change; only how often they run. Time is a sum over operators. ∎

# %%
share, ends = symroof.symbols.lookup("depth").symbol, Symbol("epsilon", positive=True)
gain = 1 / (share * (1 - ends) + ends)
assert simplify(gain - 1 / (share + ends * (1 - share))) == 0
for batch in (1, 64, 1024):
    step = model.decode(batch=batch, seq_len=512)
    whole = symroof.analyze(step, "h100-sxm")
    inside = {operator.name for block in step.graph.blocks if block.name in symroof.symbols.LAYERS for operator in block.operators}
    outside = sum(placed.count_expr * placed.time_expr for placed in whole if placed.name not in inside) / whole.total.time_expr
    for kept in (Rational(3, 4), Rational(1, 2)):
        after = symroof.analyze(step.apply(symroof.technique(f"skip-layers:depth={kept}")), "h100-sxm")
        found = whole.total.time_expr / after.total.time_expr
        assert found == gain.subs({share: kept, ends: outside})
        assert 1 < found < min(1 / kept, 1 / outside)
        assert all(after[placed.name].bound == placed.bound for placed in whole)
        print(f"batch {batch}, lambda {kept}: epsilon {float(outside):.3f}, faster by {float(found):.3f}, less than {float(1 / kept):.3f}")

# %% [markdown]
# What the model's answers lose is not counted.
#
# Source: Fan et al. (2019), LayerDrop, arXiv:1909.11556.
