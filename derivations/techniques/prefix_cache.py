# %% [markdown]
# # Prefix caching: a context in common
#
# A share $x_p$ of the context is the same for all $b$ sequences of the batch. Kept once, the cache has
# $(b (1 - x_p) + x_p) t$ tokens; a prompt skips it; and decode may read it once for the whole batch.

# %%
from sympy import Integer, Rational, cancel, ceiling, limit, oo, simplify, solve

import symroof

BW, P, a, b, c, e, g, h, k, s, t, x_p = symroof.symbols.named("BW P a b c e g h k s t x_p")

model = symroof.load_model("llama-3-8b")
plain = model.decode(symbolic=True, flash_attention=True)
once, each = (plain.apply(symroof.techniques.PrefixCache(read=how)) for how in ("once", "each"))
kept = (b * (1 - x_p) + x_p) / b
for step in (once, each):
    assert simplify(step.graph.kv_memory() / plain.graph.kv_memory() - kept) == 0
    assert simplify(step.graph.flop_count - plain.graph.flop_count) == 0
assert each.graph.byte_count().equals(plain.graph.byte_count())
print("cache kept, of what it was:", kept, "->", limit(kept, b, oo), "for large batches")

# %% [markdown]
# **Theorem 1 (decode).** Reading the prefix once saves $2 (b - 1) x_p t k e c / 8$ bytes of a layer. The queries are read
# once more, and its part of the output is written and read: $3 b h e a / 8$. Where both parts are memory-bound it pays
# if and only if $x_p t > \frac{3 b}{2 (b - 1)} \frac{g a}{c}$: from a few tokens of prefix on, the fewer the fewer heads share a key.

# %%
parts = [once[f"fused_attention.{part}"] for part in ("prefix", "suffix")]
saved = plain["fused_attention"].byte_count() - sum(one.byte_count() for one in parts)
assert simplify(saved - (2 * (b - 1) * x_p * t * k * e * c - 3 * b * h * e * a) / 8) == 0
edge = solve(saved, x_p)[0] * t
assert simplify(edge.subs(h, g * k) - 3 * b * g * a / (2 * (b - 1) * c)) == 0
print("pays from a prefix of", cancel(edge), "tokens on")
for batch in (2, 3, 16):
    step = model.decode(batch=batch, seq_len=1024, flash_attention=True)
    found = symroof.payoff(step, step.apply(symroof.techniques.PrefixCache()), over="prefix_share", hardware="a100-sxm-80gb")
    assert [one * 1024 for one in found.edges_expr] == [edge.subs(model.dimensions | {b: batch, a: 16, c: 16})]
    print(f"batch {batch}: {found.sentence}; at three quarters {float(found.speedup_expr(Rational(3, 4))):.3f} times as fast")

# %% [markdown]
# **Theorem 2 (how much at most).** The prefix's part has $b g$ queries per key: its intensity grows with the batch like a
# matrix product's, so that beyond $b \approx 2 P c / (8 BW g (4 + 5 / e))$ it is compute-bound. Until then attention over the
# prefix is $b$ times faster to first order; $1 / (1 - x_p)$ is the bound of what attention as a whole can gain.

# %%
critical = symroof.crossover(once, "fused_attention.prefix", over="batch")
assert simplify(limit(critical.formula, t, oo).subs(h, g * k) - P * c / (4 * BW * g * (4 + 5 / e))) == 0
print("prefix compute-bound from a batch of", limit(critical.formula, t, oo))
gain = plain["fused_attention"].byte_count() / sum(one.byte_count() for one in parts)
assert simplify(limit(limit(gain, t, oo), b, oo) - 1 / (1 - x_p)) == 0

# %% [markdown]
# **Theorem 3 (prefill).** $(1 - x_p) s$ tokens are left to compute: linear operators take that share of the FLOPs, attention
# $(1 - x_p)(1 + x_p) = 1 - x_p^2$ of its pairs to first order, as the queries left still look at everything.

# %%
prompt = model.prefill(symbolic=True)
rest = prompt.apply(symroof.techniques.PrefixCache())
assert simplify(rest["up_proj"].flop_count / prompt["up_proj"].flop_count - (1 - x_p)) == 0
pairs = (rest["qk_matmul.prefix"].flop_count + rest["qk_matmul.suffix"].flop_count) / prompt["qk_matmul"].flop_count
assert simplify(limit(pairs, s, oo) - (1 - x_p**2)) == 0
print("prefill, pairs left:", limit(pairs, s, oo))

# %% [markdown]
# With FlashAttention the queries of all sequences are one pass over the prefix, while a head's part of it fits the last-level cache:
# it crosses memory once for the batch, and $b\,g\,(1 - x_p)\,s$ rows of queries share the read (derivation 6).

# %%
one_pass = model.prefill(symbolic=True, flash_attention=True).apply(symroof.techniques.PrefixCache())["fused_attention.prefix"]
crossed = one_pass.byte_count("kv_cache", "read").replace(ceiling, lambda _: Integer(1))
assert simplify(crossed - 2 * x_p * s * k * e * c / 8) == 0
assert simplify(one_pass.flop_count / (4 * e + 5) / h - b * (1 - x_p) * s * x_p * s) == 0
for batch in (2, 16):
    step = model.prefill(batch=batch, seq_len=4096, flash_attention=True).apply(symroof.techniques.PrefixCache(share=Rational(3, 4)))
    placed = symroof.analyze(step, "a100-sxm-80gb", ceilings="classic")["fused_attention.prefix"]
    assert placed.operator.byte_count("kv_cache", "read") == 2 * 3072 * 8 * 128 * 2
    assert placed.bound == "compute"
    print(f"batch {batch}: a prefix of 3072 tokens, {float(placed.intensity_expr):.0f} FLOP/byte")

# %% [markdown]
# Sources: Juravsky et al. (2024), Hydragen, arXiv:2402.05099; Zheng et al. (2023), SGLang, arXiv:2312.07104.
