# %% [markdown]
# # 9. What fewer bits buy: weights, activations, cache
#
# Fewer weight bits lower the batch at which a linear layer turns compute-bound, and buy nothing beyond the batch
# at which it was compute-bound anyway. Fewer cache bits never stop paying in decode. Fewer bits of weights and
# activations together raise the roof itself.

# %%
from sympy import diff, expand, factor, floor, simplify, solve

import symroof

BW, L, P, a, b, c, d, e, f, k, t, v, w = symroof.symbols.named("BW L P a b c d e f k t v w")

model = symroof.load_model("llama-2-7b")
step = model.decode(symbolic=True)
layer = step["up_proj"]
F, B = layer.flop_count, layer.byte_count()
star = symroof.crossover(step, "up_proj", over="batch").formula
DEVICES = [symroof.load_hardware(name) for name in ("a100-sxm-80gb", "h100-sxm")]
print("b* =", star)

# %% [markdown]
# **How each width moves the crossover.** Where there is a crossover (its denominator $\Delta$ is positive), $b^*$ is
# proportional to the weight bits, grows with the activation bits, and does not know the cache's.

# %%
delta = 16 * BW * d * f - P * a * (d + f)
assert simplify(star - P * w * d * f / delta) == 0
print("d b*/d w =", factor(diff(star, w)))
print("d b*/d a =", factor(diff(star, a)))
assert simplify(diff(star, w) - star / w) == 0
assert simplify(diff(star, a) - star * P * (d + f) / delta) == 0
assert c not in star.free_symbols

# %% [markdown]
# **Theorem 1 (weight-only quantization).** With 16-bit activations, hence the 16-bit roof, narrowing the weights
# from $w$ to $w' < w$ bits shortens a linear layer's time if and only if $b < b^*(w)$. The speedup is
# $B_w / B_{w'}$ up to $b^*(w')$, then $P B_w / (BW\,F)$, which falls to 1 at $b^*(w)$.
#
# *Proof.* $T = \max(F / P, B / BW)$ and $F$, $P$, $BW$ do not know $w$. From $b^*(w)$ on
# $F / P \ge B_w / BW > B_{w'} / BW$: both times are $F / P$. Before it, $T_w = B_w / BW$ is above both $F / P$
# and $B_{w'} / BW$, hence above $T_{w'}$. ∎


# %%
def seconds(batch, device, weight_bits=16, activation_bits=16):
    """Time of the layer by the engine."""
    bits = {"weight_bits": weight_bits, "activation_bits": activation_bits, "kv_bits": 16}
    return symroof.analyze(model.decode(batch=batch, seq_len=1, **bits), device)["up_proj"].time_expr


assert not {w} & (F.free_symbols | {P, BW})
assert simplify(diff(B, w)).is_positive
exact = {}
for device in DEVICES:
    for bits in (16, 4):
        at = model.decode(seq_len=1, weight_bits=bits, activation_bits=16, kv_bits=16)
        exact[device.name, bits] = symroof.crossover(at, "up_proj", over="batch", hardware=device).value_expr
    last = int(exact[device.name, 16])
    print(f"{device.name}: b*(16) = {exact[device.name, 16]} = {float(exact[device.name, 16]):.2f},", end=" ")
    print(f"W4A16 gains nothing from batch {last + 1}; b*(4) = {float(exact[device.name, 4]):.2f}")
    for batch in (1, int(exact[device.name, 4]), last - 1, last):
        assert seconds(batch, device, 4) < seconds(batch, device)
    for batch in (last + 1, last + 2, 4096):
        assert seconds(batch, device, 4) == seconds(batch, device)
    speedups = {n: round(float(seconds(n, device) / seconds(n, device, 4)), 2) for n in (1, 32, 128, last)}
    print("  speedup by batch:", speedups)

# %% [markdown]
# **Theorem 2 (weights and activations).** Where the 8-bit peak is twice the 16-bit one, W8A8 has the crossover of
# W16A16 and half its time at every batch. W4A16 is faster than that only up to $b^*$ of $w = a = 8$ at the 16-bit
# peak, if it is compute-bound by then.
#
# *Proof.* Halving $w$ and $a$ halves $B$, doubling $P$ halves $F / P$; the maximum halves, and the two meet where they
# met. W4A16, compute-bound at $F / P$, meets $B_{16} / (2\,BW) = B_8 / BW$ where $F / P = B_8 / BW$. ∎

# %%
assert simplify(star.subs({w: 8, a: 8, P: 2 * P}, simultaneous=True) - star.subs({w: 16, a: 16})) == 0
meets = star.subs({w: 8, a: 8})
print("W4A16 and W8A8 meet at", factor(meets))
for device in DEVICES:
    ratio = device.machine.fastest(("fp8", "int8"))[1] / device.peak("fp16").magnitude
    here = model.dimensions | {P: device.peak("fp16").magnitude, BW: device.bandwidth.magnitude}
    even = meets.xreplace(here)
    print(f"{device.name}: 8-bit peak / 16-bit peak = {ratio}; W4A16 is ahead of W8A8 up to b = {float(even):.2f}")
    assert exact[device.name, 4] < even < exact[device.name, 16]
    for batch in (1, int(exact[device.name, 16]), int(exact[device.name, 16]) + 2, 4096):
        gain = seconds(batch, device) / seconds(batch, device, 8, 8)
        assert gain == (2 if batch < exact[device.name, 16] else ratio)
    for batch in (1, 8, 32, 64, int(even), int(even) + 1, 256, 1024):
        assert (seconds(batch, device, 4) < seconds(batch, device, 8, 8)) == (batch < even)

# %% [markdown]
# **Theorem 3 (cache or weights).** Going from 16 to 4 bits (from any to any) on the cache saves more traffic in a
# decode step than on the weights if and only if $b\,(t + 1) > (N - v d + b d) / (2 L k e)$: the hyperbola of
# derivation 8 at equal widths.
#
# *Proof.* Traffic is linear in $w$ and $c$. The slope in $c$ counts the cache's elements, read ($b t$ tokens) and
# written ($b$); the slope in $w$ the weights' without the rows of the embedding table that nobody looks up. ∎

# %%
traffic = step.graph.byte_count()
per_w, per_c = (expand(traffic).coeff(letter, 1) for letter in (w, c))
assert simplify(traffic - per_w * w - per_c * c - expand(traffic).coeff(a, 1) * a) == 0
N = step.graph.parameter_count()
assert simplify(8 * per_w - (N - v * d + b * d)) == 0
assert simplify(8 * per_c - 2 * L * k * e * b * (t + 1)) == 0
even = factor(solve(per_c - per_w, t)[0])
print("KV4 saves more traffic than W4 from a context of", even)
for batch in (1, 16, 64):
    context = even.xreplace(model.dimensions).subs(b, batch)
    print(f"batch {batch}: {context} = {float(context):.1f} tokens")
    for length in (int(context), int(context) + 1):
        sizes = {"batch": batch, "seq_len": length, "activation_bits": 16}
        w4, kv4 = (model.decode(**sizes, weight_bits=x, kv_bits=20 - x).graph.byte_count() for x in (4, 16))
        assert (kv4 < w4) == (length > context)

# %% [markdown]
# In time the cache wins earlier still: beyond $b^*$ the weights' bits buy nothing, while attention in decode stays
# memory-bound at every batch and context (derivation 3), also at 4 bits.

# %%
for device in DEVICES:
    for batch in (16, 128, 512):
        sizes = {"batch": batch, "activation_bits": 16, "flash_attention": True}
        steps = [model.decode(**sizes, weight_bits=x, kv_bits=20 - x) for x in (4, 16)]
        w4, kv4 = (symroof.regimes(one, over="seq_len", hardware=device) for one in steps)
        positive = solve(w4.regimes[-1].time_expr - kv4.regimes[-1].time_expr, t)
        first = floor(positive[0]) + 1 if positive else 1
        print(f"{device.name}, batch {batch}: KV4 is faster than W4 from {first} tokens", end="; ")
        print(f"less traffic from {floor(even.xreplace(model.dimensions).subs(b, batch)) + 1}")
        assert kv4.time_expr(first) < w4.time_expr(first)
        assert first == 1 or kv4.time_expr(first - 1) >= w4.time_expr(first - 1)
    big = symroof.load_model("llama-2-70b").decode(weight_bits=16, activation_bits=16, kv_bits=4, flash_attention=True)
    claim = {"for_all": ["batch", "seq_len"], "hardware": device}
    assert symroof.prove(big, "memory-bound", "fused_attention", **claim).verdict == "proved"

# %% [markdown]
# **What it means.** W4A16 is for small batches, latency and fitting; a server that batches beyond $b^*$ wants W8A8 (or
# FP8), and 4-bit caches where batch times context is long. All of it assumes that unpacking costs nothing.
#
# GPTQ (W4A16): Frantar et al. (2022), arXiv:2210.17323. SmoothQuant (W8A8): Xiao et al. (2022), arXiv:2211.10438.
# KIVI (2-bit cache): Liu et al. (2024), arXiv:2402.02750.
