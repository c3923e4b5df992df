# %% [markdown]
# # Medusa
#
# $h_m$ heads on the last hidden state guess the next tokens; a tree of $n_t$ candidates is verified in one step.

# %%
from sympy import Rational, simplify

import symroof
from symroof import Storage

b, d, h_m, n_t, v, w = symroof.symbols.named("b d h_m n_t v w")

DEVICE = "a100-sxm-80gb"
model = symroof.load_model("llama-2-7b")
before = model.decode(symbolic=True)
after = before.apply(symroof.technique("medusa")).symbolic

# %% [markdown]
# **Theorem 1.** A step reads $h_m (d^2 + d v)$ weights more, and does $n_t + 1$ times the work of the linear layers. Bound
# by weights $W$ it pays if and only if $N - 1 > h_m (d^2 + d v) / W$ with $N = \sum_{i \le h_m} \alpha^i$, by at most
# $1/(1-\alpha)$; compute-bound never, as $N \le h_m + 1 \le n_t + 1$.

# %%
more = sum(n * op.byte_count(Storage.WEIGHT) for op, n in after if op.name.startswith("medusa."))
assert simplify(more - h_m * (d**2 + d * v) * w / 8) == 0
assert simplify(after["up_proj"].flop_count / before["up_proj"].flop_count) == n_t + 1
print("weights more:", more, "byte")

# %% [markdown]
# **Theorem 2.** A linear layer stays memory-bound while $b (n_t + 1)$ is below its critical batch: that is the largest tree
# that is free.

# %%
plain = symroof.crossover(model.decode(seq_len=64), "up_proj", over="batch", hardware=DEVICE)
step = model.decode(seq_len=64)
for nodes in (4, 20, 63):
    tree = symroof.crossover(step.apply(symroof.technique(f"medusa:heads=4,nodes={nodes}")), "up_proj", over="batch", hardware=DEVICE)
    assert tree.value_expr == plain.value_expr / (nodes + 1)
    print(f"{nodes} nodes: up_proj is memory-bound below batch {float(tree.value_expr):.2f}")

# %%
one = model.decode(batch=1, seq_len=64)
base = symroof.analyze(one, DEVICE).total.time_expr
extra = Rational(4096**2 + 4096 * 32000, 6607343616)
for heads in (1, 3, 5):
    changed = one.apply(symroof.technique(f"medusa:heads={heads},nodes=20,acceptance=0.6"))
    gain = base * changed.graph.tokens / symroof.analyze(changed, DEVICE).total.time_expr
    bound = changed.graph.tokens / (1 + heads * extra)
    assert Rational(96, 100) * bound < gain < bound
    print(f"{heads} heads, acceptance 0.6: faster by {float(gain):.3f}, less than {float(bound):.3f}")

# %% [markdown]
# **Where the heads run.** The published implementation runs them on all $n_t + 1$ tokens of the tree and takes the guesses of
# the one that was accepted; an engine may keep its hidden state and run them on that one alone (`rows=last`). The weights that
# are read are the same, the FLOPs $n_t + 1$ times as many: while the heads are memory-bound, $b (n_t + 1)$ below the critical
# batch of their matrices, it makes a difference of activations alone; beyond, of $h_m n_t$ times $2 b (d^2 + d v) / P$.

# %%
last = before.apply(symroof.technique("medusa:rows=last")).symbolic
for name in ("medusa.linear", "medusa.lm_head"):
    assert simplify(after[name].flop_count / last[name].flop_count) == n_t + 1
    assert after[name].byte_count(Storage.WEIGHT) == last[name].byte_count(Storage.WEIGHT)
for batch in (1, 32):
    here = model.decode(batch=batch, seq_len=1024)
    texts = (f"medusa:heads=4,nodes=63,acceptance=0.6,rows={rows}" for rows in ("all", "last"))
    every, one = (float(symroof.analyze(here.apply(symroof.technique(text)), "h100-sxm").total.time_expr) for text in texts)
    print(f"batch {batch}, 63 nodes on an H100: {1e3 * every:.2f} ms with the heads on all tokens, {1e3 * one:.2f} ms on the last")
assert b in after["medusa.linear"].flop_count.free_symbols

# %% [markdown]
# **Against a draft** of cost $\kappa$ and the same acceptance: heads are cheaper while $d^2 + d v < \kappa W$. A head costs
# as much as a draft of 2.2 % of Llama-2-7b's weights.

# %%
print(f"kappa at which a draft costs as much as a head: {float(extra):.4f}")
assert Rational(22, 1000) < extra < Rational(23, 1000)

# %% [markdown]
# Source: Cai et al. (2024), arXiv:2401.10774.
