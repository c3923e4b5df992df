# %% [markdown]
# # Contextual sparsity
#
# Every token needs a share $\delta$ of the neurons, and other tokens need others: a step reads what some token needs.

# %%
from sympy import Rational, log, simplify

import symroof

a, b, d, delta, f, rho, w = symroof.symbols.named("a b d delta f rho w")

WIDTHS = {"seq_len": 64}
letters = symroof.load_model("llama-2-7b").decode(symbolic=True)
after = letters.apply(symroof.technique("contextual-sparsity:predictor"))

# %% [markdown]
# **Theorem.** In decode a linear layer of the MLP does $\delta F$ and reads a share $1 - (1 - \delta)^b$ of its weights. It
# is never slower; compute-bound by $1/\delta$ faster, bound by its weights by $1 / (1 - (1 - \delta)^b)$: $1/\delta$ at
# batch 1, and tending to 1. Its intensity at large batches falls to $\delta$ of what it was, so its critical batch rises by
# $1/\delta$. With predictors of rank $\rho$, a memory-bound MLP of $n$ matrices pays if and only if
# $$n\,d f w (1-\delta)^b + 2 n a\,b f (1-\delta) > \rho (d + f) w + a\,b\,(d + 2\rho + f) ,$$
# (for a gate, $n = 3$). Without activations it stops at $b = \ln(n d f / (\rho (d + f))) / -\ln(1 - \delta)$.

# %%
MLP = ("gate_proj", "up_proj", "mlp_act", "down_proj")
PREDICTOR = ("mlp_predictor.first", "mlp_predictor.second")
saved = sum(letters[name].byte_count() - after[name].byte_count() for name in MLP)
spent = sum(after[name].byte_count() for name in PREDICTOR)
assert simplify(saved - (3 * d * f * w * (1 - delta) ** b + 6 * a * b * f * (1 - delta)) / 8) == 0
assert simplify(spent - (rho * (d + f) * w + a * b * (d + 2 * rho + f)) / 8) == 0
print("bytes saved:", simplify(saved), "\nbytes spent:", simplify(spent))

model, rank, share = symroof.load_model("llama-2-7b"), 1000, Rational(1, 10)
sizes = {d: 4096, f: 11008, w: 16, a: 16, rho: rank, delta: share}
last = None
for batch in (1, 10, 20, 21, 22, 23, 40):
    step = model.decode(batch=batch, **WIDTHS)
    sparse = step.apply(symroof.technique(f"contextual-sparsity:share=0.1,predictor={rank}"))
    both = [symroof.analyze(one, "a100-sxm-80gb") for one in (step, sparse)]
    gain = sum(both[0][name].time_expr for name in MLP) - sum(both[1][name].time_expr for name in (*MLP, *PREDICTOR))
    assert (gain > 0) == bool((saved - spent).subs({**sizes, b: batch}) > 0)
    last = batch if gain > 0 else last
stop = log(Rational(3 * 4096 * 11008, rank * (4096 + 11008))) / -log(1 - share)
assert last - 1 < stop < last + 2
print(f"delta = 1/10, rank {rank}: pays up to batch {last}; without activations up to {float(stop):.2f}")

# %% [markdown]
# Heads are different: every sequence reads its own cache, so the cache of a batch is read to a share $\delta$ whatever its
# size.

# %%
heads = letters.apply(symroof.technique("contextual-sparsity:where=heads"))
cache = [one["qk_matmul"].byte_count("kv_cache") for one in (letters, heads)]
assert simplify(cache[1] / cache[0]) == delta
print("cache read, after over before:", simplify(cache[1] / cache[0]))

# %% [markdown]
# Tokens are taken to choose independently; tokens that agree read less.
#
# Source: Liu et al. (2023), Deja Vu, arXiv:2310.17157.
