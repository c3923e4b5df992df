# %% [markdown]
# # 3. Why batching does not help attention in decode
#
# In decode one token per sequence asks the whole context. Every sequence has keys and values of its own,
# so a bigger batch brings as many more bytes as FLOPs, and the batch drops out of the intensity. Only the
# query heads that share a KV head share its bytes: the intensity stays below about $g$ FLOP/byte at 16 bits.

# %%
from dataclasses import replace

from sympy import Integer, Rational, Symbol, ceiling, diff, simplify

import symroof
from symroof import Access, Block, Graph, Options, Space, Step, Storage, Tensor, contraction, fuse, intensity_supremum

b, c, e, h, k, r, t = symroof.symbols.named("b c e h k r t")

steps = symroof.load_model("llama-2-70b").decode(symbolic=True)
fused, _ = fuse(steps.graph, ["qk_matmul", "softmax", "sv_matmul"])
F, B = fused.flop_count, fused.byte_count()
print("F =", F, "FLOP, B =", B, "byte (fused: no score leaves the chip)")

# %% [markdown]
# **Theorem.** The intensity of fused attention in decode does not depend on the batch, grows with the
# context, and stays below $\left(16 + \frac{20}{e}\right) \frac{g}{c}$, with $g = h / k$ query heads per KV head and
# `c` bits per element of the cache. The two contractions are $16\,g/c$ of it, softmax the rest.
#
# *Proof.* The factor `b` cancels. What is left is $N t / (A + C t)$ with positive $N$, $A$, $C$: its derivative
# $N A / (A + C t)^2$ is positive, and it is $N/C$ minus $N A / (C (A + C t))$, which is positive too. ∎

# %%
contractions = steps["qk_matmul"].flop_count + steps["sv_matmul"].flop_count
for flops, bound in ((F, (16 + 20 / e) * (h / k) / c), (contractions, 16 * (h / k) / c)):
    intensity = simplify(flops / B)
    assert b not in intensity.free_symbols
    assert simplify(diff(intensity, t)).is_positive
    assert simplify(intensity_supremum(flops, B, t) - bound) == 0
    assert simplify(bound - intensity).is_positive
    print("sup I =", simplify(bound))

# %% [markdown]
# Multi-head attention ($g = 1$) at 16 bits stays below $1 + 5/(4e)$ FLOP/byte, two orders of magnitude under
# the ridges 153 (A100) and 295 (H100). It is memory-bound at every batch, context and head dimension. The H100 states further
# ceilings, and there is a polynomial against each: its coefficients are all negative, and every $y \ge 0$, so it is negative.

# %%
devices = [symroof.load_hardware(name) for name in ("a100-sxm-80gb", "h100-sxm")]
mha = symroof.load_model("llama-2-7b").decode()
for device in devices:
    free = ["batch", "seq_len", "head_dim"]
    proof = symroof.prove(mha, "memory-bound", fused.name, for_all=free, hardware=device)
    assert (proof.verdict, proof.by) == ("proved", "shift")
    print(device.name, "--", proof.certificate)
for name in symroof.devices():  # at head dimension 128, on every device whose ridge is above it; processing in memory is built not to be
    device = symroof.load_hardware(name)
    if sixteen := [kind for kind in ("fp16", "bf16", "fp32", "fp64") if kind in device.peaks]:
        ridge = device.machine.fastest(sixteen)[1] / device.bandwidth_expr
        proof = symroof.prove(mha, "memory-bound", fused.name, for_all=["batch", "seq_len"], hardware=device)
        assert (proof.verdict == "proved") == (ridge >= 1 + Rational(5, 4 * 128)), name
for batch, context in ((1, 1), (1, 10**6), (10**6, 1), (10**6, 10**6)):
    flash = symroof.load_model("llama-2-7b").decode(batch=batch, seq_len=context, flash_attention=True)
    assert {symroof.analyze(flash, device)["fused_attention"].bound for device in devices} == {"memory"}

# %% [markdown]
# What would change that is the group, $h = g k$. The crossover over $g$ falls with the context, to
# $\frac{P}{BW} \cdot \frac{c}{16 + 20/e}$: at 16 bits the ridge, but for softmax. Brute force: `analyze` with as many
# heads.

# %%
in_letters = symroof.crossover(steps, fused.name, over="group_size")
print("g* =", in_letters.formula, "->", in_letters.tends_to(t))
gqa = symroof.load_model("llama-2-70b").decode(batch=1, seq_len=32768, flash_attention=True)
for device in devices:
    answer = symroof.crossover(gqa, "fused_attention", over="group_size", hardware=device)
    assert simplify(answer.formula - in_letters.formula) == 0
    lowest = device.ridge("fp16").magnitude * 16 / (16 + Integer(20) / 128)
    first = ceiling(answer.value_expr)
    for group, bound in ((8, "memory"), (first - 1, "memory"), (first, "compute")):
        heads = replace(gqa, values={**gqa.values, h: group * gqa.values[k]})
        assert symroof.analyze(heads, device)["fused_attention"].bound == bound
    assert lowest < answer.value_expr
    print(device.name, "g* =", answer.value_expr, "=", float(answer.value_expr), "at 32768 tokens, and tends to", lowest)

# %% [markdown]
# **Multi-head latent attention** shares further. In DeepSeek-V2, with its up-projections absorbed into the
# query and output projections, all `h = 128` heads attend to one latent of `l = 512` elements per token and a
# rotary key of `r = 64`. The latent is key and value at once, read once. The scores run over `l + r`
# components, written here as two einsums.

# %%
l = Symbol("l", positive=True)
space = Space({"b": b, "s": Integer(1), "t": t, "h": h, "l": l, "r": r})
latent, key = (Access(Tensor(f"cache {x}", symroof.operators.axes_of(f"b t {x}"), Storage.KV_CACHE, space)) for x in "lr")
query, turned = (Access(Tensor(f"query {x}", symroof.operators.axes_of(f"b s h {x}"), Storage.ACTIVATION, space)) for x in "lr")
scores = Access(Tensor("scores", symroof.operators.axes_of("b h s t"), Storage.ACTIVATION, space))
out = Access(Tensor("context", symroof.operators.axes_of("b s h l"), Storage.ACTIVATION, space))
parts = (
    contraction("qk_latent", "b s h l, b t l -> b h s t", (query, latent), scores),
    contraction("qk_rotary", "b s h r, b t r -> b h s t", (turned, key), scores),
    contraction("sv_latent", "b h s t, b t l -> b s h l", (scores, latent), out),
)
mla = replace(fuse(Graph((Block("mla", parts),)), [part.name for part in parts])[0], name="mla")
supremum = intensity_supremum(mla.flop_count, mla.byte_count(), t)
assert simplify(supremum - (16 * h / c) * (2 * l + r) / (l + r)) == 0
print("F =", mla.flop_count, "FLOP, B =", mla.byte_count(), "byte, sup I =", supremum)

# %% [markdown]
# The form is $N t / (A + C t)$ again, so the proof above holds: the intensity of the contractions stays below
# $$\frac{16 h}{c} \cdot \frac{2 l + r}{l + r}.$$
# At 16 bits that is $128 \cdot 17/9 = 2176/9$, about 242, between the two ridges: a decode attention that turns
# compute-bound on an A100, at a context of 417, and that never does on an H100 unless its cache is narrower.
# (Softmax, left out here, would add 5 FLOPs per score to 2176.)

# %%
sizes = {h: Integer(128), l: Integer(512), r: Integer(64)}
for device, bits, first in zip(devices * 2, (16, 16, 8, 8), (417, None, 224, 759), strict=True):
    highest = supremum.xreplace(sizes | {c: Integer(bits)})
    assert (highest < device.ridge("fp16").magnitude) == (first is None)
    options = Options("decode", activation_bits=16, kv_bits=bits)
    step = Step("DeepSeek-V2", options, Graph((Block("mla", (mla,)),)), {**options.inputs(), **sizes})
    answer = symroof.crossover(step, "mla", over="seq_len", hardware=device)
    assert answer.first_integer == first
    proof = symroof.prove(step, "memory-bound", "mla", for_all=["batch", "seq_len"], hardware=device)
    assert proof.verdict == ("proved" if first is None else "refuted")
    for context in (1, 416, 417, 223, 224, 758, 759, 10**9):
        here = symroof.analyze(replace(step, values={**step.values, b: Integer(3), t: Integer(context)}), device)
        assert here["mla"].bound == ("memory" if first is None or context < first else "compute")
    print(f"{device.name}, {bits}-bit cache, sup {highest}: {answer.verdict}, t* = {answer.value_expr}")

# %% [markdown]
# **What it means.** In decode, batch attention for the sake of the linear layers, not for its own: per sequence
# it costs the same time at every batch, the bytes of its cache over the bandwidth. A narrower or more widely
# shared cache shortens it. MLA is the exception: it lies near the ridge, so the device and the cache width
# decide its bound. The authors of FlashMLA count the same ratio, round it to $2 h = 256$, and call the kernel
# compute-bound on an H800 that holds 865 TFLOP/s at 3.35 TB/s, a ridge of 258: nearly a tie.
#
# Sources: Ainslie et al. (2023), arXiv:2305.13245, for grouped queries; DeepSeek-AI (2024), arXiv:2405.04434,
# sections 2.1.2 (absorption), 2.1.3 (rotary key) and 3.1.2 (sizes); DeepSeek-AI (2025), "A Deep-Dive Into the New
# Flash MLA Kernel", github.com/deepseek-ai/FlashMLA.
