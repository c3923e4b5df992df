# %% [markdown]
# # 34. An attention is a point, a device is a slope
#
# A token's cache costs bytes; computing over it costs FLOPs. An attention design is the pair of the two, and their
# quotient is to be compared with a device's ridge: far above it, arithmetic is short and bandwidth idles, far below the reverse. Step-3
# draws four designs in this plane. All eight numbers follow from the einsums; one of them counts products that
# need not be done, and one is a rounding.

# %%
from matplotlib.figure import Figure
from sympy import Add, Integer, Rational, floor, log, simplify

import symroof
from symroof import Storage

b, c, e, g, h, k, r, r_kv, t = symroof.symbols.named("b c e g h k r r_kv t")

# %% [markdown]
# **Theorem.** At $c$ bits per element, $L$ layers and a context of $t$, a sequence's decode step reads $B$ bytes of cache and does $F$
# FLOPs of contractions over it:
# $$\text{grouped: } B = 2 L k e t\,\tfrac{c}{8},\; F = 4 L h e t,\; \frac FB = \frac{16}{c}\,\frac hk;\qquad
# \text{latent: } B = L (r_{kv} + r)\, t\,\tfrac{c}{8},\; F = 2 L h (2 r_{kv} + r)\, t .$$
# Multi-matrix factorization attention is the grouped form with one head of keys and one of values, $k = 1$. A design is matched to a
# device where $F / B$ is its ridge; batch and context drop out of that condition.
#
# *Proof.* By the einsums, below: each is linear in $t$. ∎


# %%
def point(name, core):
    """Bytes of cache read and FLOPs of the contractions of one layer, for one sequence."""
    operator = symroof.load_model(name).decode(symbolic=True, flash_attention=True).symbolic[core]
    return operator.byte_count(Storage.KV_CACHE) / b, operator.contraction_flop_count / b


grouped, latent = point("llama-3-8b", "fused_attention"), point("deepseek-v3", "moe.fused_attention")
assert simplify(grouped[0] - 2 * k * e * t * c / 8) == simplify(grouped[1] - 4 * h * e * t) == 0
assert simplify(latent[0] - (r_kv + r) * t * c / 8) == simplify(latent[1] - 2 * h * (2 * r_kv + r) * t) == 0

# %% [markdown]
# ## The published numbers
#
# Sizes as the paper's designs have them, at one byte per element and 32,768 tokens of context.

# %%
AT = {t: Integer(32768), c: Integer(8)}
DESIGNS = {
    "Step-3 (MFA)": (grouped, 61, {h: 64, k: 1, e: 256}, ("1.02e+09", "1.31e+11", 128)),
    "DeepSeek-V3 (MLA)": (latent, 61, {h: 128, r_kv: 512, r: 64}, ("1.15e+09", "5.89e+11", 512)),
    "Qwen3 MoE 235B (GQA)": (grouped, 94, {h: 64, k: 4, e: 128}, ("3.15e+09", "1.01e+11", 32)),
    "ERNIE 4.5 300B (GQA)": (grouped, 54, {h: 64, k: 8, e: 128}, ("3.60e+09", "5.80e+10", 16)),
}
for name in ("deepseek-v3", "qwen3-235b-a22b"):  # where the sizes are those of a config in models/
    sizes = symroof.load_model(name).dimensions
    mine = next(values for title, (_, _, values, _) in DESIGNS.items() if title.split()[0].lower() in name)
    assert all(sizes[symbol] == value for symbol, value in mine.items())
assert symroof.load_model("qwen3-235b-a22b").layers == 94
assert symroof.load_model("deepseek-v3").layers == 61

points = {}
print(f"{'design':22}{'bytes':>12}{'printed':>10}{'FLOPs':>12}{'printed':>10}{'FLOP/byte':>11}{'printed':>9}")
for name, (formulas, layers, sizes, printed) in DESIGNS.items():
    here = {symbol: Integer(value) for symbol, value in sizes.items()} | AT
    moved, flops = (layers * formula.xreplace(here) for formula in formulas)
    points[name] = moved, flops
    print(f"{name:22}{float(moved):12.4e}{printed[0]:>10}{float(flops):12.4e}{printed[1]:>10}{float(flops / moved):11.1f}{printed[2]:>9}")
same = {name: (f"{float(moved):.2e}", f"{float(flops):.2e}") for name, (moved, flops) in points.items()}
printed = {name: values[:2] for name, (*_, values) in DESIGNS.items()}
assert {name: [ours == theirs for ours, theirs in zip(same[name], printed[name], strict=True)] for name in same} == {
    "Step-3 (MFA)": [True, True],
    "DeepSeek-V3 (MLA)": [True, False],
    "Qwen3 MoE 235B (GQA)": [True, True],
    "ERNIE 4.5 300B (GQA)": [False, True],
}

# %% [markdown]
# Six of the eight to the last digit. The two others:
#
# - **5.89e11 FLOPs of latent attention** count 576 numbers in both products. The weighted sum needs the latent's 512 alone, as the
#   rotary key is no value: 5.57e11. The difference is $2 L h\, r\, t$, 1/18 of the larger, and with it the intensity: 512 is
#   $4 h (r_{kv} + r) / (r_{kv} + r)$, $4 h$ whatever the sizes; exactly it is 483.6.
# - **3.60e9 bytes of ERNIE 4.5** are 3.62e9: the printed FLOPs over the printed 16 FLOP/byte give
#   $5.80 \cdot 10^{10} / 16 = 3.62 \cdot 10^9$.

# %%
larger = 2 * h * (r_kv + r) * t * 2
extra = simplify(larger - latent[1])
assert simplify(extra - 2 * h * r * t) == 0
here = {symbol: Integer(value) for symbol, value in DESIGNS["DeepSeek-V3 (MLA)"][2].items()} | AT
assert f"{float(61 * larger.xreplace(here)):.2e}" == "5.89e+11"
assert f"{float(61 * latent[1].xreplace(here)):.2e}" == "5.57e+11"
assert (extra / larger).xreplace(here) == Rational(1, 18)
assert simplify(larger / (latent[0].subs(c, 8)) - 4 * h) == 0
assert f"{float((latent[1] / latent[0]).xreplace(here)):.1f}" == "483.6"
ernie = points["ERNIE 4.5 300B (GQA)"]
assert ernie[1] / ernie[0] == 16
assert f"{float(ernie[0]):.2e}" == "3.62e+09"
assert f"{5.80e10 / 16:.2e}" == "3.62e+09", "from the two other printed numbers"

# %% [markdown]
# Brute force: bytes and FLOPs of the whole step, operator by operator, with numbers from the start.

# %%
for name, title in (("qwen3-235b-a22b", "Qwen3 MoE 235B (GQA)"), ("deepseek-v3", "DeepSeek-V3 (MLA)")):
    step = symroof.load_model(name).decode(batch=1, seq_len=32768, kv_bits=8, flash_attention=True).with_widths()
    cores = [(operator, count) for operator, count in step.graph if operator.role is symroof.Role.ATTENTION]
    assert Add(*(count * operator.byte_count(Storage.KV_CACHE) for operator, count in cores)) == points[title][0]
    assert Add(*(count * operator.contraction_flop_count for operator, count in cores)) == points[title][1]

# %% [markdown]
# ## Which device a design is matched to
#
# By how many powers of two a design is off a device's ridge: above zero it is short of arithmetic there, below zero of bandwidth. Peaks of
# 8 bits for caches of 8 bits, except where a device has only 16.

# %%
H20_RIDGE = 74
print(f"{'device':12}{'ridge':>8}" + "".join(f"{name.split(' (')[1][:-1] + ' ' + name.split()[0]:>18}" for name in points))
closest = {}
for name in ("h800-sxm", "h20", "a100-sxm-80gb", "ascend-910b3"):
    device = symroof.load_hardware(name)
    kind = next(kind for kind in ("fp8", "int8", "bf16", "fp16") if kind in device.peaks)
    ridge = device.peak(kind).exact / device.bandwidth_expr
    off = {design: float(log(flops / moved / ridge, 2)) for design, (moved, flops) in points.items()}
    closest[name] = min(off, key=lambda design: abs(off[design]))
    print(f"{name:12}{float(ridge):8.1f}" + "".join(f"{value:18.2f}" for value in off.values()))
h20 = symroof.load_hardware("h20")
assert floor(h20.peak("fp8").exact / h20.bandwidth_expr) == H20_RIDGE, "published: 74"

# %%
figure = Figure(figsize=(6.6, 4.2), layout="constrained")
axes = figure.add_subplot(xlabel="bytes of cache at 32,768 tokens, 8 bits", ylabel="FLOPs over it", xscale="log", yscale="log")
axes.set(xlim=(7e8, 6e9), ylim=(3e10, 3e12))
for name, (moved, flops) in points.items():
    axes.plot(float(moved), float(flops), "o")
    axes.annotate(name, (float(moved), float(flops)), textcoords="offset points", xytext=(6, 6), fontsize="small")
for name, style in (("h20", "--"), ("h800-sxm", ":")):
    device = symroof.load_hardware(name)
    ridge = float(device.peak("fp8").exact / device.bandwidth_expr)
    axes.plot([7e8, 6e9], [7e8 * ridge, 6e9 * ridge], color="black", linewidth=0.8, linestyle=style)
    axes.text(7.4e8, 7.4e8 * ridge * 1.12, f"ridge of {name}", fontsize="small", rotation=24)
axes.grid(visible=True, which="major", linewidth=0.3)
symroof.show(figure)

# %% [markdown]
# **What it means.** A design far off the line pays for one resource and leaves the other idle, in attention itself, at any batch. Of the
# four, Step-3's is the nearest to an H20's line in the paper's sense; it reads the least and computes a quarter of what latent attention
# does. The paper's 4,039 against 2,324 tokens per second and device are of whole systems, with different precision and splits, and are
# not a consequence of this plane.
#
# Caveats. Contractions over the cache alone, without projections. The paper's sizes of Step-3 and ERNIE 4.5 300B are used as
# printed; the two other designs are checked against the configs.
#
# Sources: StepFun (2025), arXiv:2507.19427, sections 2 and 4, table of designs; DeepSeek-AI (2024), arXiv:2412.19437; Qwen team (2025),
# arXiv:2505.09388.
