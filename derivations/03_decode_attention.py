# %% [markdown]
# # Why batching does not help attention in decode
#
# In decode one token per sequence asks the whole context. Every sequence has keys and values of its
# own, so a bigger batch brings as many more bytes as FLOPs. Only the query heads that share a KV head
# share its bytes.

# %%
from sympy import diff, limit, oo, simplify

import symroof
from symroof.symbols import a, b, c, e, h, k, t

step = symroof.load_model("llama-2-70b").decode(symbolic=True, flash_attention=True)
scores, weighted = (symroof.load_model("llama-2-70b").decode(symbolic=True)[name] for name in ("qk_matmul", "sv_matmul"))
fused = step["fused_attention"]
F = scores.flop_count + weighted.flop_count
B = fused.byte_count()
print("F =", F, "FLOP (the two contractions)")
print("B =", B, "byte (fused: no score leaves the chip)")

# %% [markdown]
# **Theorem.** The arithmetic intensity of the two contractions does not depend on the batch, grows with
# the context, and stays below $16 g / c$, with $g = h / k$ query heads per KV head and $c$ bits per
# element of the KV cache.

# %%
intensity = simplify(F / B)
print("I =", intensity)
assert b not in intensity.free_symbols
assert simplify(diff(intensity, t)).is_positive
supremum = limit(intensity, t, oo)
assert simplify(supremum - 16 * (h / k) / c) == 0
print("sup I =", supremum)

# %% [markdown]
# Strictly below: the difference of the two sides is a fraction of positive letters.

# %%
gap = simplify(16 * h / (k * c) - intensity)
print("16 g / c - I =", gap)
assert gap.is_positive
assert simplify(gap - 16 * a * h**2 / (c * k * (a * h + c * k * t))) == 0

# %% [markdown]
# Multi-head attention at 16 bits stays below 1 FLOP/byte, and groups of 8 below 8: two orders of
# magnitude under the ridge of any accelerator (153 on an A100, 295 on an H100). It is memory-bound at
# every batch and every context. What would change that is the group, or the width: 153 query heads per
# KV head at 16 bits.

# %%
ridge = symroof.load_hardware("a100-sxm-80gb").ridge("fp16").magnitude
group = symroof.load_model("llama-2-70b").dimensions
assert supremum.xreplace({c: 16} | group) == 8 < ridge
print("group that reaches the A100's ridge at 16 bits:", float(ridge))
assert e not in supremum.free_symbols, "the head dimension drops out"
