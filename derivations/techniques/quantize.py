# %% [markdown]
# # Quantization: which width pays, up to which batch, and which roof applies
#
# Fewer bits take bytes from their class of tensors, and no FLOP. The roof rises only where every operand is narrow.

# %%
from sympy import Integer, Rational, cancel, simplify

import symroof
from symroof import break_even, payoff, technique

G, a, b, c, d, f, q_a, q_c, q_s, q_w, q_z, w = symroof.symbols.named("G a b c d f q_a q_c q_s q_w q_z w")

DEVICE = "a100-sxm-80gb"
model = symroof.load_model("llama-2-7b")
step = model.decode(symbolic=True)
grouped = step.apply(symroof.techniques.Quantize(weights=q_w, group=G, scale=q_s, zero=q_z))
old, new = (one["up_proj"] for one in (step, grouped))
print("bytes saved by a linear layer:", simplify(old.byte_count() - new.byte_count()))

# %% [markdown]
# **Theorem 1 (weights).** With scale and zero point in groups of $G$ a weight takes $q = q_w + (q_s + q_z)/G$ bits. A linear
# layer moves fewer bytes if and only if $q < w$, does the same FLOPs under the same roof, and so is faster if and only if
# also $b < b^*(w)$, the crossover before. The speed-up is $B / B' < w / q$ up to $b^*(q)$ and falls to 1 at $b^*(w)$.
#
# *Proof.* $B - B' = d f (w - q)/8$ and $F' = F$; the rest is theorem 1 of derivation 9. ∎

# %%
q = q_w + (q_s + q_z) / G
assert simplify(old.byte_count() - new.byte_count() - d * f * (w - q) / 8) == 0
assert old.flop_count == new.flop_count
numbers = model.decode(seq_len=1024)
w4, w8 = technique("quantize:weights=4,group=128"), technique("quantize:weights=8,activations=8,kv=8")
found = payoff(numbers, numbers.apply(w4), over="batch", hardware=DEVICE, operator="up_proj")
assert found.edges_expr == (symroof.crossover(numbers, "up_proj", over="batch", hardware=DEVICE).value_expr,)
assert found.speedup_expr(1) < 16 / (4 + Rational(16, 128)) == Rational(128, 33)
print(f"W4 in groups of 128, up_proj on {DEVICE}: {found.sentence}; at batch 1 by {float(found.speedup_expr(1)):.2f}")

# %% [markdown]
# **Theorem 2 (which ceiling).** A product runs under the roof of its widest operand: weights alone keep the 16-bit roof;
# weights and inputs at 8 bits give linear layers the 8-bit roof. Attention multiplies queries that stay at 16 bits; it gets
# the 8-bit roof where every activation is narrow (`scope=all`, a bound) and the cache too.

# %%
ROOFS = {
    "weights=4": "fp16 fp16",
    "weights=8,activations=8": "int8 fp16",
    "weights=8,activations=8,kv=8": "int8 fp16",
    "weights=8,activations=8,kv=8,scope=all": "int8 int8",
}
for text, told in ROOFS.items():
    roofs = symroof.analyze(model.decode(batch=1, seq_len=1024).apply(technique(f"quantize:{text}")), DEVICE)
    assert f"{roofs['up_proj'].data_type} {roofs['qk_matmul'].data_type}" == told
    print(f"{text}: linear layers and attention in {told}")
against = payoff(numbers.apply(w8), numbers.apply(w4), over="batch", hardware=DEVICE, operator="up_proj")
assert [one.bound for one in against.intervals] == ["pays", "loses"]
print("W4A16 against W8A8:", against.sentence)

# %% [markdown]
# **Theorem 3 (what inputs cost).** An input of $x$ elements that $m$ products share is converted by a pass that reads $a$ and
# writes $q_a$ bits of each, and saves every product $a - q_a$ of them. It moves fewer bytes of activations if and only if
# $m (a - q_a) > a + q_a$: at 16 and 8 bits if more than three products share it. A norm or an activation function that
# writes $q_a$ bits itself (the technique `fuse`) saves $(a - q_a)(m + 1)$ and costs nothing. So what W8A8 gains over W8A16 is
# the roof, from the batch on at which products are compute-bound; below, it loses the passes.

# %%
narrow = step.apply(symroof.techniques.Quantize(activations=q_a)).symbolic
saved = sum(old.byte_count() - narrow[old.name].byte_count() for old in (step[name] for name in ("gate_proj", "up_proj")))
assert simplify(saved - narrow["mlp_norm.quantize"].byte_count() - (2 * (a - q_a) - (a + q_a)) * b * d / 8) == 0
engine = step.apply(*map(technique, ("quantize:weights=8,activations", "fuse:operators=mlp_norm+mlp_norm.quantize"))).symbolic
assert simplify(step["mlp_norm"].byte_count() - engine["mlp_norm+mlp_norm.quantize"].byte_count() - (a - q_a) * b * d / 8) == 0
w8a16, w8a8 = (numbers.apply(technique(f"quantize:weights=8{more}")) for more in ("", ",activations=8"))
gain = payoff(w8a16, w8a8, over="batch", hardware=DEVICE)
assert [one.bound for one in gain.intervals] == ["loses", "pays"]
print("W8A8 against W8A16, the whole step:", gain.sentence)

# %% [markdown]
# **Theorem 4 (cache or weights).** In decode the cache at $q_c$ bits saves more bytes than weights at $q_w$ beyond one
# context length, linear in $1/b$: what the weights save over what a token of the cache saves, less the one that is written.

# %%
even = break_even(
    step.apply(symroof.techniques.Quantize(weights=q_w)), step.apply(symroof.techniques.Quantize(kv=q_c)), over="context_len"
).traffic
line = cancel(even.xreplace({**model.dimensions, w: Integer(16), c: Integer(16), q_w: Integer(4), q_c: Integer(4)}))
assert cancel(line - (Rational(4 * 4096**2 + 3 * 4096 * 11008, 2 * 4096) / b - 1)) == 0
print("KV4 saves more bytes than W4 in Llama-2-7b beyond t =", line)

# %% [markdown]
# **Where it stops.** Weights: at $b^*(w)$. Cache: nowhere while attention is memory-bound (derivation 3). With $n_k$ of $L$
# layers kept, a share $n_k / L$ of the saving is lost, whatever the device. Two operations per weight of counted
# dequantization add $1/b$ to the FLOPs of decode, at the matrix peak; slower units make it worse.

# %%
kept, every = (numbers.apply(technique(f"quantize:weights=4{more}")).graph for more in (",keep_layers=2", ""))
saved = [numbers.graph.byte_count() - one.byte_count() for one in (kept, every)]
assert cancel(saved[0] / saved[1]) == Rational(30, 32)
counted = step.apply(technique("quantize:weights=4,dequantize=counted"))["up_proj"]
assert cancel(counted.flop_count / old.flop_count - 1 - 1 / b) == 0

# %% [markdown]
# AWQ (groups of 128): Lin et al. (2023), arXiv:2306.00978. GPTQ: Frantar et al. (2022), arXiv:2210.17323. SmoothQuant (W8A8):
# Xiao et al. (2022), arXiv:2211.10438. KIVI (groups in the cache): Liu et al. (2024), arXiv:2402.02750.
