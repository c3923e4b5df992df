# %% [markdown]
# # 43. A kernel has one bound per level, and only one of them binds
#
# A roofline has one bandwidth; a device has several, from registers to memory, and a kernel moves a different number
# of bytes through each. So it has an intensity for every level. Which level binds is no property of the kernel: it
# depends on how the kernel is tiled.

# %%
from itertools import product

from matplotlib.figure import Figure
from sympy import Integer, Min, Symbol, simplify

import symroof
from symroof import Access, Direction, Kind, Level, Operator, Space, Storage, Tensor, Work, attainable

P, b = symroof.symbols.named("P b")

# %% [markdown]
# **Theorem 1.** Let a kernel do $F$ FLOPs and move $B_l$ bytes through level $l$ at $BW_l$, all of it overlapping. It reaches
# $$\min\left(P,\; \min_l I_l\, BW_l\right), \qquad I_l = F / B_l,$$
# and level $l$ binds exactly if $I_l\, BW_l$ is the least. Being memory-bound at one level says nothing about another: for any
# two levels and any order of their bandwidths there are kernels that are bound by either.
#
# *Proof.* Time is the longest of $F / P$ and the $B_l / BW_l$; $F$ over it is the least of the quotients. For the second part take
# $B_1 / B_2$ on either side of $BW_1 / BW_2$. ∎

# %%
F, B1, B2, W1, W2 = (Symbol(name, positive=True) for name in ("F", "B_1", "B_2", "BW_1", "BW_2"))
nested = attainable(F / B1, attainable(F / B2, P, W2), W1)
assert nested == Min(P, F * W1 / B1, F * W2 / B2)
print("attainable:", nested)
assert nested.subs({F: 100, P: 10**6, B1: 4, W1: 1, B2: 2, W2: 1}) == 25, "by the first"
assert nested.subs({F: 100, P: 10**6, B1: 2, W1: 1, B2: 4, W2: 1}) == 25, "by the second"

# %% [markdown]
# ## The published intensities
#
# Of the roofline's first paper, with the library's own operators: a sparse matrix times a vector, 8 bytes of value and 4 of index per
# nonzero, indices shared in blocks at best; and a lattice Boltzmann step that does 1,300 FLOPs per point, reads 73 and writes 79
# doubles, and reads what it writes first where caches allocate on a write.

# %%
z, p = Space({"z": 10**6, "r": Integer(1)}), Space({"p": 10**6, "i": 73, "o": 79, "q": 1300})


def in_memory(name, axes, space, bits):
    """A tensor in memory."""
    return Tensor(name, axes, Storage.ACTIVATION, space, bits=Integer(bits))


def intensity(operator):
    """FLOPs over bytes, exact."""
    return operator.flop_count / operator.byte_count()


values, indices = in_memory("values", ("z",), z, 64), in_memory("indices", ("z",), z, 32)
row = Access(in_memory("sums", ("r",), z, 64))
spmv = [
    Operator("spmv", Kind.MATMUL, z, (Work(("z",), Integer(2), contraction=True),), reads, (row,))
    for reads in ((Access(values), Access(indices)), (Access(values),))
]
before, after = in_memory("before", ("p", "i"), p, 64), in_memory("after", ("p", "o"), p, 64)
lattice = [
    Operator("lbmhd", Kind.ELEMENTWISE, p, (Work(("p", "q"), Integer(1)),), (Access(before), *more), (Access(after),))
    for more in ((Access(after),), ())
]
published = {"SpMV": (spmv, ("0.17", "0.25")), "LBMHD": (lattice, ("0.70", "1.07"))}
for name, (operators, printed) in published.items():
    found = [intensity(operator) for operator in operators]
    print(f"{name}: {float(found[0]):.3f} to {float(found[1]):.3f} FLOP/byte, printed {printed[0]} to {printed[1]}")
    assert tuple(f"{float(value):.2f}" for value in found) == printed

# %% [markdown]
# ## Tiles decide the level
#
# A product of $R \times K$ by $K \times N$ in square tiles of side $B_t$ has the intensity $16 B_t / (a + w)$ on chip
# (the technique *memory-levels*), and one in memory that tiles do not change.
#
# **Theorem 2.** Over the tile there are at most two regimes. With $I$ the intensity in memory,
# $$B_t < \frac{(a + w)\, \min(P,\; I\, BW)}{16\, BW_c}$$
# is bound by on-chip memory; from there on the bound is that of the roofline without it, the same for every larger tile.
#
# *Proof.* $16 B_t BW_c / (a + w)$ rises from 0 with the tile, $\min(P, I\, BW)$ does not contain it: they cross once. ∎
#
# Held against every whole tile, for products on both sides of the ridge.

# %%
chip = "memory-levels:bandwidth=19.5TB/s"
A100 = symroof.load_hardware("a100-sxm-80gb")
model = symroof.load_model("llama-2-7b")
regimes = {}
for batch, length in ((1, 64), (1, 2048)):
    plain = model.prefill(batch=batch, seq_len=length).with_widths()
    point = plain.on(A100)["up_proj"]
    roof = Min(point.peak_expr, point.intensity_expr * A100.bandwidth_expr)
    edge = 32 * roof / (16 * Integer(195 * 10**11))
    bounds = [plain.apply(f"{chip},tile={tile}").on(A100)["up_proj"].bound for tile in range(1, 65)]
    assert bounds == ["chip" if tile < min(edge, length) else point.bound for tile in range(1, 65)]
    regimes[length] = (float(edge), point.bound)
    print(f"{length} tokens: on-chip memory binds below a tile of {float(edge):.4g}, {point.bound} from there on")
assert regimes[2048] == (32.0, "compute")
assert regimes[64][1] == "memory"
assert regimes[64][0] < 32

# %% [markdown]
# A kernel that memory binds is content with smaller tiles: what it needs on chip is its share of the peak. A decode step with one row
# per sequence has one tile of rows; its weights pass the chip as often as memory, once, and at 19.5 TB/s on chip against
# 2.04 in memory no tile binds.

# %%
decode = model.decode(batch=1, seq_len=2048).with_widths()
assert {decode.apply(f"{chip},tile={tile}").on(A100)["up_proj"].bound for tile in (1, 2, 16, 128)} == {"memory"}
step = model.decode(symbolic=True).apply("memory-levels")["up_proj"]
weights = [step.byte_count(Storage.WEIGHT, Direction.READ, level=level) for level in (Level.CHIP, Level.MEMORY)]
assert simplify(weights[0].replace(Min, lambda *sides: b) - weights[1]) == 0, "where a tile holds all rows"

# %% [markdown]
# ## Three levels on the way
#
# A device that states the bandwidth of its last-level cache has a third ceiling. FlashAttention's blocks read keys and values from it
# once per block, from memory once: one kernel, two intensities, and either can bind.

# %%
print(f"{'tokens':>7}{'rows':>6}{'FLOP/byte: memory':>19}{'cache':>8}   bound")
seen = set()
for tokens, rows in product((512, 4096), (8, 32, 128)):
    step = model.prefill(batch=1, seq_len=tokens).with_widths().apply(f"flash-attention:rows={rows}")
    point = step.on(A100)["fused_attention"]
    longest = max(point.seconds_exprs, key=lambda resource: point.seconds_exprs[resource])
    assert longest == point.bound, "the level with the longest time, which is the lowest ceiling"
    cached = point.seconds_exprs[symroof.Resource.CACHE] * A100.machine.rates[symroof.Resource.CACHE]
    on_cache = point.operator.flop_count / cached
    print(f"{tokens:>7}{rows:>6}{float(point.intensity_expr):>19.1f}{float(on_cache):>8.1f}   {point.bound}")
    seen.add(point.bound)
assert {"cache", "compute"} <= seen

# %%
figure = Figure(figsize=(6.4, 4.0), layout="constrained")
axes = figure.add_subplot(xlabel="side of a tile, $B_t$", ylabel="FLOP/s", xscale="log", yscale="log")
tiles = range(1, 257)
peak = float(A100.peak("fp16").exact)
axes.plot(tiles, [16 * tile * 19.5e12 / 32 for tile in tiles], label="on-chip memory, $16 B_t BW_c / (a + w)$")
for length, style in ((64, "--"), (2048, "-")):
    point = model.prefill(batch=1, seq_len=length).with_widths().on(A100)["up_proj"]
    height = float(Min(point.peak_expr, point.intensity_expr * A100.bandwidth_expr))
    axes.axhline(height, color="black", linewidth=0.9, linestyle=style)
    axes.text(256, height * 1.06, f"{length} tokens: {point.bound}", ha="right", fontsize="small")
axes.set(ylim=(5e12, 6e14))
axes.grid(visible=True, which="major", linewidth=0.3)
axes.legend(frameon=False, loc="lower right")
symroof.show(figure)

# %% [markdown]
# **What it means.** "Memory-bound" is said of a level. On the same device a product with small tiles is bound on chip, with large ones
# by memory or arithmetic, and only the last of these is a fact of the operator.
#
# Caveats. All transfers overlap, and a level's bandwidth does not depend on the pattern. The A100's 19.5 TB/s of shared memory
# are a figure of this text (108 processors of 128 byte per clock at 1.41 GHz), not of the data sheet.
#
# Sources: Williams, Waterman and Patterson (2009), doi:10.1145/1498765.1498785, table 2; Ilic, Pratas and Sousa (2014),
# doi:10.1109/L-CA.2013.6; Yang, Kurth and Williams (2020), arXiv:2009.02449.
