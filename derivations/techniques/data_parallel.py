# %% [markdown]
# # Data parallelism
#
# n replicas with `b / n` sequences each. Nothing crosses a link; the weights are held, and read, n times.

# %%
from sympy import simplify, symbols

import symroof
from symroof import over_degree, technique, weak_scaling

d, f, w = symroof.symbols.named("d f w")
n = symroof.symbols.n_p

step = symroof.load_model("llama-2-7b").decode(symbolic=True)
copies = step.apply(technique("data-parallel"))

# %% [markdown]
# **What moves.** All FLOPs, activations and cache are divided by n, weight reads are not: every operator has the intensity it
# has at the batch `b / n`.

# %%
for operator, _ in step:
    assert simplify(copies[operator.name].flop_count - operator.flop_count / n) == 0
assert simplify(copies["up_proj"].byte_count("weight") - d * f * w / 8) == 0
assert copies.symbolic.weight_memory() == step.symbolic.weight_memory()
assert simplify(copies.symbolic.kv_memory() - step.symbolic.kv_memory() / n) == 0

# %% [markdown]
# **Theorem.** At the same batch per device n devices have n times the throughput, for every model and phase; a step of one
# and the same batch takes $B_w + B_r / n$ where memory decides, with $B_w$ the weights' seconds and $B_r$ those of the
# rest, so it gets shorter $1 + B_r / B_w$ times at most. Tensor parallelism divides both: what data parallelism has over it
# is that there is no link.
#
# *Proof.* `n b` sequences on n devices are b on each, which is the step of one device. ∎

# %%
weights, rest = symbols("B_w B_r", positive=True)
assert ((weights + rest) / weights - (1 + rest / weights)).equals(0)
numbers = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048)
spread = numbers.apply(technique("data-parallel"))
weak = weak_scaling(numbers, spread, hardware="a100-sxm-80gb")
assert all(weak(k) == 1 for k in (1, 2, 7, 100))
last = over_degree(spread, "a100-sxm-80gb").pieces_expr.pieces[-1].value
alone = symroof.analyze(numbers, "a100-sxm-80gb").total.time_expr
most = alone / last.coeff(n, 0)
print(f"Llama-2-7b, batch 16, 2048 tokens: a step gets shorter {float(most):.3f} times at most, whatever the replicas")
for k in (2, 4, 8, 16):
    time = symroof.analyze(numbers.apply(technique(f"data-parallel:degree={k}")), "a100-sxm-80gb").total.time_expr
    assert 1 < alone / time < most

# %% [markdown]
# Source: Pope et al. (2022), arXiv:2211.05102, section 3.1.
