# %% [markdown]
# # Sequence parallelism
#
# n devices have `s / n` tokens of a prompt each; keys and values go around a ring while attention works on those at hand.

# %%
from sympy import Integer, floor, simplify, solve

import symroof
from symroof.operators.tensor import Level
from symroof.symbols import BW_l, P, b, c, e, h, k, n_p, s
from symroof.techniques.registry import technique

n = n_p
WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
step = symroof.load_model("llama-2-7b").prefill(symbolic=True, flash_attention=True)
cut = step.apply(technique("sequence-parallel"))
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
dense = symroof.load_model("llama-2-7b").prefill(symbolic=True, flash_attention=True, causal=False).apply(technique("sequence-parallel"))
block = solve(simplify((dense["fused_attention"].contraction_flop_count / P - ring / BW_l) / (b * s)), s)[0] / n
assert simplify(block.subs({c: 16, k: h}) - (n - 1) / n * P / BW_l) == 0

# %% [markdown]
# On both sides in numbers, on a link of 1 GB/s.

# %%
here = symroof.load_model("llama-2-7b").dimensions | {n: Integer(4), c: Integer(16), P: Integer(312) * 10**12, BW_l: Integer(10) ** 9}
at = floor(edge.xreplace(here))
for length in (int(at) // 4 * 4 - 40000, int(at) // 4 * 4 + 4):
    prompt = symroof.load_model("llama-2-7b").prefill(batch=1, seq_len=length, flash_attention=True, **WIDTHS)
    times = symroof.analyze(prompt.apply(technique("sequence-parallel:degree=4,link=1GB/s")), "a100-sxm-80gb")["fused_attention"].seconds
    assert (times["link"] < times["compute"]) == (length > at)
print("Llama-2-7b, 4 devices, 1 GB/s: the ring is hidden from", at + 1, "tokens on")

# %% [markdown]
# Sources: Liu, Zaharia and Abbeel (2023), arXiv:2310.01889; Brandon et al. (2023), arXiv:2311.09431.
