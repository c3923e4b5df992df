# %% [markdown]
# # A KV cache in pages
#
# A contiguous cache reserves `l_max` tokens for every sequence. Pages of `p_b` tokens waste part of the last one, and cost
# 4 bytes of block table each. What is gained is batch, not time.

# %%
from sympy import Integer, Rational, Symbol, limit, oo, simplify, solve, summation

import symroof
from symroof import Storage

L, b, c, e, k, l_max, p_b, t = symroof.symbols.named("L b c e k l_max p_b t")

model = symroof.load_model("llama-2-7b")
plain = model.decode(symbolic=True)
paged = plain.apply(symroof.technique("paged-cache"))
contiguous = plain.apply(symroof.technique("paged-cache:layout=contiguous"))
token = 2 * k * e * c / 8  # bytes per token, sequence and layer

# %% [markdown]
# **The waste.** A length of `j p_b + i` tokens, `i = 1 ... p_b`, leaves `p_b - i` of its last page empty. Over the lengths of
# a page the mean is `(p_b - 1) / 2`, about half a page, and none with pages of one token.

# %%
i = Symbol("i", integer=True, positive=True)
waste = simplify(summation(p_b - i, (i, 1, p_b)) / p_b)
assert simplify(waste - (p_b - 1) / 2) == 0
kept = t + waste
need = paged.graph.kv_memory()
assert simplify(need - L * b * (kept * token + 4 * kept / p_b)) == 0
assert simplify(contiguous.graph.kv_memory() - L * b * l_max * token) == 0
assert simplify(paged["qk_matmul"].byte_count(Storage.KV_CACHE) - (b * t * token / 2 + 4 * b * t / p_b)) == 0
print("paged:", need, " contiguous:", contiguous.graph.kv_memory())

# %% [markdown]
# **Theorem.** (1) With weights W in a capacity C and activations left out, the largest batch grows by
# `l_max kv / ((t + (p_b - 1) / 2) (kv + 4 / p_b))`: for `kv >> 4 / p_b` that is `l_max / (t + (p_b - 1) / 2)`.
# (2) Memory is least at `p_b^2 = 4 (2 t - 1) / kv`. (3) Attention reads `4 b t / p_b` bytes more, so at a given batch it never pays.

# %%
factor = simplify(contiguous.graph.kv_memory() / need)
assert simplify(factor - l_max * token / ((t + (p_b - 1) / 2) * (token + 4 / p_b))) == 0
assert simplify(limit(factor, c, oo) - l_max / (t + (p_b - 1) / 2)) == 0
(best,) = solve(simplify(need.diff(p_b) * p_b**2 / (L * b)), p_b)
assert simplify(best**2 - 4 * (2 * t - 1) / token) == 0
known = {k: Integer(32), e: Integer(128), c: Integer(16), t: Integer(2048)}
print("largest batch x", factor, "; least memory at p_b =", best, "=", float(best.xreplace(known)), "for Llama-2-7b at 2048 tokens")

# %% [markdown]
# vLLM's default is 16 tokens: fragmentation, not the table, decides. Brute force over page sizes and the largest batches on an A100:

# %%
free = model.decode(seq_len=500).with_widths()
sizes = {}
for page in (1, 2, 16, 64, 256):
    sizes[page] = free.apply(symroof.technique(f"paged-cache:page={page}")).graph.kv_memory().coeff(b)
assert min(sizes, key=sizes.__getitem__) == 1
assert float(best.xreplace(known | {t: Integer(500)})) < 1
batches = {}
for text in ("page=16", "page=256", "layout=contiguous,reserved=2048", "layout=contiguous,reserved=4096"):
    batches[text] = symroof.largest(free.apply(symroof.technique(f"paged-cache:{text}")), over="batch", hardware="a100-sxm-80gb").integer
    print(f"{text}: batch {batches[text]}")
ratio = Rational(batches["page=16"], batches["layout=contiguous,reserved=2048"])
claimed = factor.xreplace(known | {t: Integer(500), p_b: Integer(16), l_max: Integer(2048)})
assert abs(ratio / claimed - 1) < Rational(3, 100), "activations and whole numbers apart"

# %% [markdown]
# Not counted: slower gathers of small pages, prefixes that sequences share (see prefix caching), swapping.
#
# Source: Kwon et al. (2023), arXiv:2309.06180.
