# %% [markdown]
# # 6. What FlashAttention moves, and when it turns compute-bound
#
# FlashAttention keeps the scores on chip and pays by reading keys and values once per block of `R` query
# positions. Its intensity grows with the context up to a supremum that is proportional to `g R`, the query
# rows of a block. On an A100 and an H100 that supremum is below the ridge.

# %%
from matplotlib.figure import Figure
from sympy import Integer, Symbol, ceiling, expand, factor, limit, oo, simplify, summation

import symroof
from symroof.algebra.signs import intensity_supremum
from symroof.hardware.loader import catalogue
from symroof.questions.crossover import of_expressions
from symroof.symbols import BW, M, P, R, a, b, c, e, g, h, k, n, s

model = symroof.load_model("llama-2-70b")
flash = model.prefill(symbolic=True, flash_attention=True)["fused_attention"]
F, B = flash.flop_count, flash.byte_count()
print("F =", factor(F), "FLOP")
print("B =", B, "byte")

# %% [markdown]
# **Where the bytes come from.** Under a causal mask block $i$ of $R$ rows sees the first $i R$ positions, the
# last block all $s$. With $n = \lceil s / R \rceil$ blocks the rows of K (and as many of V) are
# $\sum_{i=1}^{n-1} i R + s = R\,n (n - 1) / 2 + s$.

# %%
i = Symbol("i", positive=True)
rows = summation(i * R, (i, 1, n - 1)) + s
assert simplify(B.subs(ceiling(s / R), n) - (2 * b * s * h * e * a + 2 * b * k * e * c * rows) / 8) == 0
print("rows of K read:", rows)

# %% [markdown]
# **Against the three operators apart.** Whole blocks, $s = n R$, read $s (s / R + 1) / 2$ rows.

# %%
whole = expand(B.subs(ceiling(s / R), s / R))
apart = model.prefill(symbolic=True)
apart = sum(apart[name].byte_count() for name in ("qk_matmul", "softmax", "sv_matmul"))
ratio = simplify((apart / whole).subs(h, g * k))
print("bytes apart / bytes fused =", ratio)
gain = limit(ratio, s, oo)
assert simplify(gain - 2 * a * g * R / (c * e)) == 0
print("-> for a long context", gain)

# %% [markdown]
# The gain is proportional to the block. With Algorithm 1's $g R \le e$ and equal widths it is at most 2: the
# three operators are counted as if each read its operands just once, which no real matmul does.
#
# **Theorem.** For every context the intensity is below
# $$\sup I = \frac{4\,g R\,(4 e + 5)}{c\,e},$$
# of which $16\,g R / c$ are the contractions. So FlashAttention is memory-bound at every context if and only if
# $R \le R^* = \frac{P}{BW} \cdot \frac{c\,e}{4 g (4 e + 5)}$, and on whole blocks beyond some length
# compute-bound otherwise.
#
# *Proof.* On whole blocks $I$ is $(s + 1)$ over a line in $s$, increases (its slope has the sign of the first
# difference below), and tends to $\sup I$. A context with $j < R$ rows missing in the last block reads
# $j (n - 1/2 - j / 2R) \ge 0$ more rows than whole blocks would, and has the same FLOPs. ∎

# %%
y = Symbol("y", positive=True)  # R = 1 + y: a block has a row at least
parts = [part.subs({h: g * k, R: 1 + y}) for part in (F, whole)]
supremum = intensity_supremum(*parts, s).subs(y, R - 1)
assert simplify(supremum - 4 * g * R * (4 * e + 5) / (c * e)) == 0
print("sup I =", supremum)
line = expand(whole / s)
slope = simplify(line - (s + 1) * line.diff(s))
assert simplify(slope - (a * b * e * h / 4 + b * c * e * k / 8 * (1 - 1 / R))) == 0, "positive, as R >= 1"
j = Symbol("j", nonnegative=True)
more = simplify((R * n * (n - 1) / 2 + s - s * (s / R + 1) / 2).subs(s, R * n - j))
assert simplify(more - j * (n - Integer(1) / 2 - j / (2 * R))) == 0
needed = of_expressions("flash", R, (supremum, Integer(1), P, BW))
print("R* =", needed.formula)

# %% [markdown]
# **On devices.** The library takes Algorithm 1's block: a quarter of one multiprocessor's shared memory, at most
# $e$ rows. That cap makes $g R = e = 128$ on most devices, and $\sup I$ about 129 FLOP/byte at 16 bits.

# %%
WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
step = model.prefill(batch=1, flash_attention=True, **WIDTHS)
known = dict(step.values) | {g: step.values[h] / step.values[k]}
can = {}
for name in catalogue():
    device = symroof.load_hardware(name)
    if device.buffer is None or device.kind == "pim":  # no buffer of tiles is stated
        continue
    peak = device.fastest(("fp16", "bf16", "fp32", "fp64"))[1]
    here = known | {P: peak, BW: device.bandwidth_figure.value}
    here[R] = step.symbolic.definitions[R].xreplace(here | {M: device.buffer})
    can[name] = (here[R], needed.formula.xreplace(here), supremum.xreplace(here), peak / here[BW])
    assert (can[name][2] > can[name][3]) == (can[name][0] > can[name][1])
print("compute-bound at some context:", *[name for name, (block, least, *_) in can.items() if block > least])
tried = ("a100-sxm-80gb", "h100-sxm", "t4", "rtx-3090", "epyc-9654")
for name in tried:
    block, least, top, ridge = can[name]
    print(f"{name}: R = {block}, sup I = {top} = {float(top):.1f}, ridge {float(ridge):.1f};", end=" ")
    print(f"R* = {least} = {float(least):.2f}, first R = {int(least) + 1}, {8 * (int(least) + 1)} query rows")

# %% [markdown]
# Checked against the engine, which counts partial blocks exactly, and against a loop that walks the blocks.


# %%
def bound(length, block, peak, bandwidth):
    """The bound of one layer, block by block, in whole numbers."""
    heads, groups, width = int(known[h]), int(known[k]), int(known[e])
    read = sum(min(start + block, length) for start in range(0, length, block))
    flops = (4 * width + 5) * heads * sum(range(1, length + 1))
    moved = 2 * (2 * length * heads * width + 2 * groups * width * read)  # 2 bytes each
    return "memory" if flops * bandwidth < moved * peak else "compute"


for name in tried:
    answer = symroof.crossover(step, "fused_attention", over="seq_len", hardware=name, ceilings="classic")
    block, least, _, ridge = can[name]
    assert (answer.verdict == "always-memory") == (block <= least)
    for length in [*range(1, 1000), 2**14, 2**14 + 1]:
        assert bound(length, int(block), int(ridge.p), int(ridge.q)) == answer.bound_at(length)
    if block > least:
        edges = [one.high for one in answer.intervals[:-1]]
        star = answer.formula.xreplace(known | {R: block, P: ridge, BW: Integer(1)})
        print(f"{name}: s* = {star} = {float(star):.1f} on whole blocks;", end=" ")
        print(f"memory-bound up to {edges[0]}, compute-bound from {edges[-1] + 1}")
        for length in (edges[0], edges[0] + 1, edges[-1], edges[-1] + 1):
            at = model.prefill(batch=1, seq_len=int(length), flash_attention=True, **WIDTHS)
            assert symroof.analyze(at, name, ceilings="classic")["fused_attention"].bound == answer.bound_at(length)
        assert all((answer.bound_at(block * i) == "compute") == (block * i >= star) for i in range(1, 100))

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="context length (tokens)", ylabel="intensity (FLOP/byte)", xscale="log", yscale="log")
curve = (F / whole).subs(h, g * k).xreplace({g: Integer(8), a: Integer(16), c: Integer(16), e: Integer(128)})
for block, colour, style in ((4, "#0072B2", "-"), (16, "#D55E00", "--"), (64, "#009E73", "-.")):
    lengths = [block * 2**power for power in range(16) if 128 <= block * 2**power <= 2**17]
    points = [float(curve.subs({R: block, s: length})) for length in lengths]
    axes.plot(lengths, points, style, color=colour, label=f"{8 * block} query rows per block (8 heads x {block})")
for name, words in (("a100-sxm-80gb", "A100"), ("h100-sxm", "H100")):
    axes.axhline(float(can[name][3]), color="black", linewidth=0.8, linestyle=":")
    axes.text(2**17, float(can[name][3]) * 1.04, f"ridge of the {words}", fontsize=8, ha="right")
axes.set_ylim(10, 1500)
axes.legend(loc="upper right", fontsize=8)
figure

# %% [markdown]
# **What it means.** Query rows per block are the lever, as the batch is for weights: grouped heads that share a
# block do as well as more positions. Half the bits of the cache double $\sup I$. The model counts HBM traffic for
# every block and no reuse of K and V in a shared L2 cache by blocks that run side by side, so a real kernel
# can do better: on an A100 it allows 84% of the peak (FlashAttention-2 reports up to 73%), on an H100 44%, and
# FlashAttention-3 reports 75%. There the traffic to HBM must be less than counted here.
#
# Sources: Dao et al. (2022), arXiv:2205.14135 (Algorithm 1; Theorem 2 has the traffic, Proposition 3 the lower
# bound); Dao (2023), arXiv:2307.08691; Shah et al. (2024), arXiv:2407.08608.
