# %% [markdown]
# # Context parallelism
#
# n devices have `s / n` tokens of a prompt each; keys and values go around a ring while attention works on those at hand.

# %%
from sympy import Integer, Max, floor, simplify, solve

import symroof
from symroof import Level, technique

BW, BW_l, P, a, b, c, e, h, k, n_p, s = symroof.symbols.named("BW BW_l P a b c e h k n_p s")

n = n_p
step = symroof.load_model("llama-2-7b").prefill(symbolic=True, flash_attention=True)
cut = step.apply(technique("context-parallel"))
attention = cut["fused_attention"]

# %% [markdown]
# **What moves.** All FLOPs but the LM head's are divided by n, and so are activations and cache; weights are read in full by
# each, so a linear layer has the intensity of `b s / n` tokens.

# %%
for name in ("up_proj", "attn_norm", "fused_attention", "k_proj", "mlp_add"):
    assert simplify(cut[name].flop_count - step[name].flop_count / n) == 0
assert cut["up_proj"].byte_count("weight") == step["up_proj"].byte_count("weight")
ring = attention.byte_count(level=Level.LINK)
assert simplify(ring - 2 * (n - 1) / n * b * s * k * e * c / 8) == 0

# %% [markdown]
# **Theorem.** The ring is hidden behind the products of attention from the prompt on at which
# $$s + 1 \ge (n - 1)\,\frac{k}{h}\,\frac{c}{8}\,\frac{P}{BW_l},$$
# where the softmax beside them only helps. Without a causal mask half of that is enough: at 16 bits and one query head per
# KV head $s / n \ge (1 - 1/n) P / BW_l$, a block no shorter than the ratio of peak and link (Liu et al., section 3).
#
# *Proof.* $2 b h e s (s + 1) / n P \ge 2 (n - 1) b s k e c / 8 n BW_l$; without a mask $4 b h e s^2$ in the place of
# $2 b h e s (s + 1)$. ∎

# %%
products = 2 * b * h * e * s * (s + 1) / n
assert simplify(attention.contraction_flop_count - products) == 0
(edge,) = solve(simplify((products / P - ring / BW_l) / (b * s * e)), s)
assert simplify(edge + 1 - (n - 1) * k * c * P / (8 * h * BW_l)) == 0
print("hidden from s =", edge)
dense = symroof.load_model("llama-2-7b").prefill(symbolic=True, flash_attention=True, causal=False).apply(technique("context-parallel"))
block = solve(simplify((dense["fused_attention"].contraction_flop_count / P - ring / BW_l) / (b * s)), s)[0] / n
assert simplify(block.subs({c: 16, k: h}) - (n - 1) / n * P / BW_l) == 0

# %% [markdown]
# On both sides in numbers, on a link of 1 GB/s.

# %%
here = symroof.load_model("llama-2-7b").dimensions | {n: Integer(4), c: Integer(16), P: Integer(312) * 10**12, BW_l: Integer(10) ** 9}
at = floor(edge.xreplace(here))
for length in (int(at) // 4 * 4 - 40000, int(at) // 4 * 4 + 4):
    prompt = symroof.load_model("llama-2-7b").prefill(batch=1, seq_len=length, flash_attention=True)
    times = symroof.analyze(prompt.apply(technique("context-parallel:degree=4,link=1GB/s")), "a100-sxm-80gb")[
        "fused_attention"
    ].seconds_exprs
    assert (times["link"] < times["compute"]) == (length > at)
print("Llama-2-7b, 4 devices, 1 GB/s: the ring is hidden from", at + 1, "tokens on")

# %% [markdown]
# **Memory.** Queries, output and FLOPs are divided by n; keys and values are not: each device reads those of all devices once, while
# what it has at hand of a KV head fits its cache. So the prompt from which FlashAttention is compute-bound grows with n,
# $$s^* = \frac{P}{BW} \cdot \frac{e\,(a + n\,c / g)}{2\,(4 e + 5)} - 1,$$
# as if every KV head had n times as many bits. Only blocks that read for themselves (`reread=memory`) are divided like all else.

# %%
(passes,) = attention.byte_count("kv_cache", "read").atoms(Max)
at_hand = attention.byte_count().xreplace({passes: n})
assert simplify(at_hand - (2 * b * s / n * h * e * a + 2 * b * s * k * e * c) / 8) == 0
star = P * e * (a + n * c * k / h) / (2 * BW * (4 * e + 5)) - 1
assert simplify((attention.flop_count * BW - at_hand * P).subs(s, star)) == 0
alone = symroof.load_model("llama-2-7b").prefill(symbolic=True).apply(technique("flash-attention:reread=memory"))
shared_out = alone.apply(technique("context-parallel"))["fused_attention"]
assert simplify(shared_out.byte_count() - alone["fused_attention"].byte_count() / n) == 0
model, device = symroof.load_model("llama-3-8b"), symroof.load_hardware("h100-sxm")
for degree in (1, 2, 8):
    rates = {P: device.peak("fp16").magnitude, BW: device.bandwidth.magnitude}
    first = star.xreplace(model.dimensions | rates | {n: Integer(degree), a: Integer(16), c: Integer(16)})
    for length in (floor(first) // degree * degree, (floor(first) // degree + 1) * degree):
        prompt = model.prefill(batch=1, seq_len=int(length), flash_attention=True)
        split = prompt.apply(technique(f"context-parallel:degree={degree}")) if degree > 1 else prompt
        taken = symroof.analyze(split, device, ceilings="classic")["fused_attention"].seconds_exprs
        assert (taken["compute"] >= taken["memory"]) == (length >= first)
    print(f"Llama-3-8b on {degree} x H100: attention is bound by compute rather than memory from {floor(first) + 1} tokens on")

# %% [markdown]
# Sources: Liu, Zaharia and Abbeel (2023), arXiv:2310.01889; Brandon et al. (2023), arXiv:2311.09431.
