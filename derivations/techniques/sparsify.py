# %% [markdown]
# # Sparsity: the density below which zeros pay, and what two of four give
#
# A zero that is not stored saves its bits; every weight that is kept pays for an index. Only some hardware skips zeros.

# %%
from sympy import Rational, cancel, limit, oo, simplify

import symroof
from symroof import break_even, payoff, technique

P, b, d, f, q_i, sigma, w = symroof.symbols.named("P b d f q_i sigma w")

DEVICE = "a100-sxm-80gb"
model = symroof.load_model("llama-2-7b")
step = model.decode(symbolic=True)
dense, sparse = step["up_proj"], step.apply(symroof.techniques.Sparsify(index=q_i))["up_proj"]
print("bytes of a sparse layer:", sparse.byte_count())

# %% [markdown]
# **Theorem 1 (unstructured).** A layer of density $\sigma$ with $q_i$ bits of index per kept weight moves fewer bytes if
# and only if $\sigma < w / (w + q_i)$, by $B / B' < w / (\sigma (w + q_i))$. Tensor cores multiply the zeros: $F$ and the
# dense roof stay, and it gains nothing from the crossover $b^*(w)$ on.
#
# *Proof.* $B - B' = d f (w - \sigma (w + q_i)) / 8$; it is quantization to $\sigma (w + q_i)$ bits per weight. ∎

# %%
assert simplify(dense.byte_count() - sparse.byte_count() - d * f * (w - sigma * (w + q_i)) / 8) == 0
assert sparse.flop_count == dense.flop_count
even = break_even(step, step.apply(symroof.techniques.Sparsify(index=q_i)), over="density", operator="up_proj").traffic_expr
assert simplify(even - w / (w + q_i)) == 0
print("breaks even at sigma =", even, "; 16-bit weights:", {bits: even.subs({w: 16, q_i: bits}) for bits in (0, 2, 5, 16)})
numbers = model.decode(seq_len=1024)
found = payoff(numbers, numbers.apply(technique("sparsify:density=1/5")), over="batch", hardware=DEVICE, operator="up_proj")
assert found.edges_expr == (symroof.crossover(numbers, "up_proj", over="batch", hardware=DEVICE).value_expr,)
print(f"density 1/5 with 16-bit indices on {DEVICE}: {found.sentence}; at batch 1 by {float(found.speedup_expr(1)):.2f}")

# %% [markdown]
# **Theorem 2 (zeros skipped).** Hardware that skips them does $\sigma F$ operations: compute-bound it pays for every
# $\sigma < 1$, by $1 / \sigma$; memory-bound the condition stays. Intensity falls where $q_i > 0$.

# %%
skipped = step.apply(symroof.techniques.Sparsify(index=q_i, zeros="skipped"))["up_proj"]
ratio = (skipped.flop_count / skipped.byte_count()) / (dense.flop_count / dense.byte_count())
assert cancel(skipped.flop_count - sigma * dense.flop_count) == 0 == simplify(limit(ratio, b, 0) - w / (w + q_i))

# %% [markdown]
# **Theorem 3 (two of four).** $\sigma = 1/2$, $q_i = 2$. Vendors state the sparse peak in dense-equivalent FLOPs: it is $2P$,
# and $F$ counts all products, half of which are done. Then $F / P$ halves, bytes of weights fall by $2 w / (w + 2)$: it
# pays for every $w > 2$ at every batch, by at most $2w/(w+2)$ memory-bound (16/9 at 16 bits, 8/5 at 8, 4/3 at 4) and by 2
# compute-bound.

# %%
layer = step.apply(symroof.techniques.Sparsify(pattern="2:4"))["up_proj"]
assert (layer.sparse, layer.flop_count) == (True, dense.flop_count)
best = simplify(limit(dense.byte_count() / layer.byte_count(), b, 0))
assert cancel(best - 2 * w / (w + 2)) == 0
print("2:4 gains at most", best, {bits: best.subs(w, bits) for bits in (16, 8, 4)}, "memory-bound; 2 compute-bound")
two_of_four = numbers.apply(technique("sparsify:pattern=2:4"))
ends = payoff(numbers, two_of_four, over="batch", hardware=DEVICE, operator="up_proj")
assert [one.bound for one in ends.intervals] == ["pays"]
assert ends.speedup_expr(1) < Rational(16, 9) < ends.speedup_expr(10**6) == 2

# %% [markdown]
# Its crossover lies higher: the ridge doubles while the bytes fall by less than half, $b^*_{2:4} / b^*$ tending to
# $(w + 2)/w$ where activations do not count.

# %%
star = symroof.crossover(step, "up_proj", over="batch").formula
raised = star.subs({w: (w + 2) / 2, P: 2 * P}, simultaneous=True)
assert cancel(limit((raised / star).subs({d: f}), f, oo) - (w + 2) / w) == 0
edges = [symroof.crossover(one, "up_proj", over="batch", hardware=DEVICE).value_expr for one in (numbers, two_of_four)]
print("crossovers on the device:", [round(float(edge), 1) for edge in edges])

# %% [markdown]
# Flash-LLM (load sparse, compute dense): Xia et al. (2023), arXiv:2309.10285. Two of four: Mishra et al. (2021),
# arXiv:2104.08378. SparseGPT: Frantar and Alistarh (2023), arXiv:2301.00774.
