# %% [markdown]
# # Ragged batches: what padding costs
#
# Sequences of lengths $l_i \le s$ with mean $m = \mu s$ and coefficient of variation $c_v$, computed at their own lengths
# or padded to the longest.

# %%
from fractions import Fraction

from sympy import Rational, expand, factor, limit, oo, simplify

import symroof

b, c_v, e, h, mu, s, t = symroof.symbols.named("b c_v e h mu s t")

model = symroof.load_model("llama-2-7b")

# %% [markdown]
# **Theorem 1 (decode).** Attention is linear in the context, so that of the lengths their mean alone matters: $\mu$ times
# the KV bytes and pairs, whatever the spread; linear operators do not change.

# %%
decode = model.decode(symbolic=True)
ragged = decode.apply(symroof.techniques.RaggedBatch())
assert simplify(ragged.graph.kv_memory() / decode.graph.kv_memory()) == mu
assert simplify(ragged["qk_matmul"].flop_count / decode["qk_matmul"].flop_count) == mu
assert ragged["up_proj"].byte_count() == decode["up_proj"].byte_count()
assert c_v not in ragged.graph.flop_count.free_symbols | ragged.graph.byte_count().free_symbols

# %% [markdown]
# **Theorem 2 (prefill).** Linear operators take $\mu$ of the work, attention $\mu^2 (1 + c_v^2)$ of its pairs in the limit of
# long prompts: the mean of the squares is $m^2 (1 + c_v^2)$. *Proof.* $E[l (l + 1) / 2] = (m^2 (1 + c_v^2) + m) / 2$. ∎

# %%
prefill = model.prefill(symbolic=True)
shorter = prefill.apply(symroof.techniques.RaggedBatch())
pairs = expand(shorter["qk_matmul"].flop_count / (2 * b * h * e))
assert simplify(pairs - (mu**2 * s**2 * (1 + c_v**2) + mu * s) / 2) == 0
assert simplify(shorter["up_proj"].flop_count / prefill["up_proj"].flop_count) == mu
share = limit(pairs / (s * (s + 1) / 2), s, oo)
assert simplify(share - mu**2 * (1 + c_v**2)) == 0
print("pairs:", factor(pairs), "of which in the limit", factor(share), "of those padded")

# %% [markdown]
# Held against a batch of lengths that are summed one by one: the same, exactly.

# %%
for lengths in ((2048, 2048), (2048, 512, 512, 64), (100, 1, 1, 1), (1000, 999, 998)):
    most, mean = max(lengths), Rational(sum(lengths), len(lengths))
    squares = Rational(sum(one * one for one in lengths), len(lengths))
    variation = squares / mean**2 - 1
    assert mean / most * (1 + variation) <= 1, "no lengths vary by more"
    counted = pairs.subs({c_v: variation ** Rational(1, 2), mu: mean / most, s: most})
    assert counted * len(lengths) == sum(one * (one + 1) // 2 for one in lengths)
    step = model.decode(batch=len(lengths), seq_len=most).apply(
        symroof.techniques.RaggedBatch(mean=Fraction(int(mean.p), int(mean.q) * most))
    )
    assert step["qk_matmul"].flop_count == sum(model.decode(batch=1, seq_len=one)["qk_matmul"].flop_count for one in lengths)
    print(lengths, "mean share", mean / most, "c_v^2 =", variation)

# %% [markdown]
# **When it pays, and how much at most.** Always while $\mu < 1$: no operator does more. Lengths of mean $\mu s$ have
# $c_v^2 \le (1 - \mu) / \mu$, so the pairs are between $\mu^2$ and $\mu$ of the padded ones: at best $1 / \mu^2$ in
# attention of prompts, $1 / \mu$ elsewhere. It stops at lengths that are equal.

# %%
assert simplify(share.subs(c_v, ((1 - mu) / mu) ** Rational(1, 2)) - mu) == 0
step = model.decode(batch=16, seq_len=4096)
found = symroof.payoff(step, step.apply(symroof.techniques.RaggedBatch()), over="mean_share", hardware="a100-sxm-80gb")
print(found.sentence, {mean: round(float(found.speedup_expr(Rational(mean))), 2) for mean in ("1/4", "1/2", "3/4", "1")})
assert found.speedup_expr(Rational(1)) == 1
print("cache:", factor(ragged.graph.kv_memory()), t)

# %% [markdown]
# Sources: Yu et al. (2022), Orca, OSDI 22; Zhai et al. (2022), ByteTransformer, arXiv:2210.03052.
