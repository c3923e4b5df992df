# %% [markdown]
# # 4. Why long prompts do not make unfused attention compute-bound
#
# In prefill `s` queries share the keys, so one expects the intensity of attention to grow with the prompt. It
# does, but where the scores are written to memory and read back it saturates at $16\,e/a$: 128 FLOP/byte at
# head dimension 128 and 16 bits, below the ridge of an A100. Kept on chip, it grows without end.

# %%
from itertools import product

from matplotlib.figure import Figure
from sympy import Integer, ceiling, diff, oo, simplify

import symroof
from symroof import fuse, intensity_supremum

BW, P, R, a, b, c, e, h, k, s = symroof.symbols.named("BW P R a b c e h k s")

llama = symroof.load_model("llama-2-7b")
full, causal = (llama.prefill(symbolic=True, causal=mask) for mask in (False, True))
parts = ["qk_matmul", "softmax", "sv_matmul"]
print("F =", full["qk_matmul"].flop_count, "FLOP, B =", full["qk_matmul"].byte_count(), "byte")

# %% [markdown]
# **Theorem 1.** Without a mask, the intensity of $QK^T$ and of the weighted sum grows with the prompt and
# stays below $16\,e/a$. Softmax stays at $20/a$.
#
# *Proof.* `b` and one `s` cancel; what is left is $N s / (A + C s)$ with positive letters. Its derivative is
# $N A / (A + C s)^2 > 0$, and $N/C = 16\,e/a$ exceeds it by $N A / (C (A + C s)) > 0$. ∎

# %%
for name in ("qk_matmul", "sv_matmul"):
    intensity = simplify(full[name].flop_count / full[name].byte_count())
    assert simplify(diff(intensity, s)).is_positive
    assert simplify(16 * e / a - intensity).is_positive
    assert intensity_supremum(full[name].flop_count, full[name].byte_count(), s) == 16 * e / a
    print(name, "I =", intensity)
assert simplify(full["softmax"].flop_count / full["softmax"].byte_count()) == 20 / a

# %% [markdown]
# **Theorem 2.** A causal prompt of `s` tokens has the intensity of one without a mask of $(s + 1)/2$: so the
# same suprema, and every crossover at $2 s^* - 1$.
#
# *Proof.* FLOPs and scores count pairs, $s \cdot s$ without a mask and $s \cdot (s + 1)/2$ with it; all else counts
# tokens. Divide both by `s`: only $s$ or $(s + 1)/2$ is left of the prompt. ∎

# %%
fused, fused_causal = (fuse(step.graph, parts)[0] for step in (full, causal))
for one, other in ((fused, fused_causal), *((full[name], causal[name]) for name in parts)):
    at_half = (one.flop_count / one.byte_count()).subs(s, (s + 1) / 2)
    assert simplify(at_half - other.flop_count / other.byte_count()) == 0

# %% [markdown]
# So the two contractions are memory-bound at every prompt where $16\,e/a$ is not above the ridge, and cross at
# one prompt where it is. At 16 bits the head dimension has to be above the ridge: 154 on an A100, 296 on an
# H100. The 128 of most models is not; the 256 of GPT-J is, on the first.

# %%
devices = [symroof.load_hardware(name) for name in ("a100-sxm-80gb", "h100-sxm")]
letters = symroof.crossover(full, "qk_matmul", over="seq_len")
assert simplify(letters.formula - P * e * (a * h + c * k) / (h * (16 * BW * e - P * a))) == 0
assert symroof.crossover(full, "qk_matmul", over="head_dim").tends_to(s) == P * a / (16 * BW)
for device in devices:
    for mask in (False, True):
        for name in parts:
            step, free = llama.prefill(causal=mask).with_widths(), ["batch", "seq_len"]
            assert symroof.prove(step, "memory-bound", name, for_all=free, hardware=device, ceilings="classic").verdict == "proved"
        for length in (1, 2048, 131072, 10**9):
            placed = symroof.analyze(llama.prefill(batch=1, seq_len=length, causal=mask).with_widths(), device, ceilings="classic")
            assert {placed[name].bound for name in parts} == {"memory"}
    print(device.name, "Llama-2-7b: memory-bound at every prompt; ridge", device.ridge("fp16").magnitude)

# %% [markdown]
# **Theorem 3.** Fused, with each key and value read once, attention saturates nowhere: whatever the device, it
# crosses, without a mask at
# $$s^* = \frac{P\,e\,(a h + c k)}{4\,BW\,h\,(4 e + 5)}.$$
#
# *Proof.* The scores are gone from the bytes: $I = N s / A$, a line through the origin. ∎

# %%
once = symroof.crossover(full, "+".join(parts), over="seq_len")
assert simplify(once.formula - P * e * (a * h + c * k) / (4 * BW * h * (4 * e + 5))) == 0
assert diff(fused.flop_count / fused.byte_count(), s, 2).simplify() == 0
assert intensity_supremum(fused.flop_count, fused.byte_count(), s) == oo

gptj = symroof.load_model("gpt-j-6b")
for device, model, name in ((devices[0], gptj, "qk_matmul"), *((device, llama, "+".join(parts)) for device in devices)):
    peak, bandwidth = device.peak("fp16").magnitude, device.bandwidth.magnitude
    values = []
    for mask in (False, True):
        step = model.prefill(batch=1, causal=mask).with_widths()
        answer = symroof.crossover(step, name, over="seq_len", hardware=device, ceilings="classic")
        values.append(answer.value_expr)
        group, _ = fuse(step.graph, name.split("+"))
        first = int(answer.first_integer)
        for length in (1, first // 2, *range(first - 20, first + 20), 2 * first, 10**9):  # by the two times alone
            flops, traffic = (cost.xreplace({s: Integer(length)}) for cost in (group.flop_count, group.byte_count()))
            assert (flops / peak >= traffic / bandwidth) == (length >= first)
    assert values[1] == 2 * values[0] - 1
    print(device.name, model.name, name, "s* =", *values, "=", *map(float, values))
never = symroof.crossover(gptj.prefill().with_widths(), "qk_matmul", over="seq_len", hardware=devices[1], ceilings="classic")
assert never.verdict == "always-memory"

# %% [markdown]
# **FlashAttention is this fused attention** while the keys and values of a KV head fit the last-level cache
# ($2\,s\,e\,c / 8 \le M_L$), from which its blocks of queries take what another block has read: the same bytes, the same
# crossover. It compares with a machine on which every block of `R` positions reads keys and values from memory for itself.
# There it saturates, at $(16 + 20/e)\,g R / c$; with the $g R \le e$ rows of Algorithm 1 that is $(16 e + 20)/c$, hardly
# above the unfused limit.

# %%
for mask, one in ((False, fused), (True, fused_causal)):
    step = llama.prefill(symbolic=True, causal=mask, flash_attention=True)
    flash = step["fused_attention"]
    assert simplify(flash.byte_count().xreplace({R: s}) - one.byte_count()) == 0
    same = symroof.crossover(step, "fused_attention", over="seq_len")
    of_group = symroof.crossover(causal if mask else full, "+".join(parts), over="seq_len")
    assert simplify(same.formula - of_group.formula) == 0
    print("FlashAttention,", "causal:" if mask else "no mask:", "s* =", same.formula, "where", same.where)

alone = symroof.technique("flash-attention:reread=memory")
blocks = full.apply(alone)["fused_attention"]
whole = blocks.byte_count().replace(ceiling, lambda count: count)  # s a multiple of R; else there are more
limit = intensity_supremum(blocks.flop_count, whole, s)
assert simplify(limit - (16 + 20 / e) * (h / k) * R / c) == 0
for device in devices:
    found = {}
    for mask in (False, True):
        step = llama.prefill(batch=1, causal=mask).with_widths()
        shared = llama.prefill(batch=1, causal=mask, flash_attention=True).with_widths()
        found[mask] = symroof.crossover(shared, "fused_attention", over="seq_len", hardware=device, ceilings="classic")
        assert (
            found[mask].value_expr
            == symroof.crossover(step, "+".join(parts), over="seq_len", hardware=device, ceilings="classic").value_expr
        )
        apart = symroof.crossover(step.apply(alone), "fused_attention", over="seq_len", hardware=device, ceilings="classic")
        assert apart.verdict == "always-memory"
    highest = limit.xreplace({h: k, e: Integer(128), c: Integer(16), R: apart.values[R]})
    assert highest < device.ridge("fp16").magnitude
    for length, mask in product((1, 128, 129, 10**4, 10**6), (False, True)):
        step = llama.prefill(batch=1, seq_len=length, causal=mask).with_widths()
        both = [step.apply(one) for one in (symroof.technique("flash-attention"), alone)]
        bounds = [symroof.analyze(one, device, ceilings="classic")["fused_attention"].bound for one in both]
        assert bounds == [found[mask].bound_at(length), "memory"]
    print(device.name, "compute-bound from", found[True].first_integer, "tokens, without a mask from", found[False].first_integer, end="; ")
    print("blocks of", apart.values[R], "rows that share nothing stay below", highest, "FLOP/byte")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot()
known = {**llama.dimensions, k: Integer(32), b: Integer(1), a: Integer(16), c: Integer(16), R: Integer(128)}
curves = (("QK^T, no mask", full["qk_matmul"], "-", "#0072B2"), ("QK^T, causal", causal["qk_matmul"], "--", "#D55E00"))
curves += (("fused, K and V read once", fused, "-.", "#009E73"), ("a read for every 128 rows", blocks, ":", "#CC79A7"))
lengths = [int(8 * 2 ** (step / 4)) for step in range(50)]
for label, one, line, color in curves:
    intensity = (one.flop_count / one.byte_count()).xreplace(known)
    values = [float(intensity.xreplace({s: Integer(length)})) for length in lengths]
    axes.plot(lengths, values, color=color, linestyle=line, label=label)
for device, name in zip(devices, ("A100", "H100"), strict=True):
    ridge = float(device.ridge("fp16").magnitude)
    axes.axhline(ridge, color="0.5", linewidth=0.9)
    axes.annotate(f"ridge of the {name}", (8, ridge), xytext=(0, 3), textcoords="offset points", fontsize=8)
axes.set(xscale="log", yscale="log", xlabel="prompt [tokens]", ylabel="intensity [FLOP/byte]", ylim=(3, 3000))
axes.legend(loc="lower right", fontsize=8)
symroof.show(figure)

# %% [markdown]
# **What it means.** At head dimension 128 no prompt is long enough to make unfused attention compute-bound:
# fuse it. What fusion wins is bounded by how often keys and values come from memory again. 129 FLOP/byte at an
# H100's bandwidth is 433 TFLOP/s, and kernels reach up to 740: they do not read from memory what another block has just
# read, and the count that charges them for it is no bound. Derivation 6 has what they read from the cache, and what
# happens to prompts whose keys and values do not fit.
#
# Sources: Dao et al. (2022), arXiv:2205.14135, Algorithm 1; Shah et al. (2024), arXiv:2407.08608, for the 740.
