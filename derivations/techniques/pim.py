# %% [markdown]
# # Processing in memory: a steep slope under a low roof
#
# Units beside the memory banks see a bandwidth $BW_u$ above that of the memory's interface, $BW$, and have a peak $P_u$ far
# below the device's.

# %%
from itertools import product

from sympy import Integer, Max, Rational

import symroof
from symroof import best_split

cube = symroof.load_hardware("hbm-pim")
P_u, BW_u, interface = cube.machine.fastest(("fp16",))[1], cube.machine.memory_bandwidth, Integer(307 * 10**9)

# %% [markdown]
# **Theorem (when it pays).** With $P_u < P$ and $BW_u > BW$ an operator of intensity $I$ is faster on the unit if and only
# if $I < P_u / BW$. The gain is $BW_u / BW$ up to the unit's ridge $P_u / BW_u$, the most there is, then $P_u / (I\,BW)$.
#
# *Proof.* Per byte the unit takes $\max(I / P_u, 1 / BW_u)$, the device $\max(I / P, 1 / BW)$. Where the device is
# memory-bound, $1 / BW_u < 1 / BW$ leaves $I / P_u < 1 / BW$; where it is compute-bound, $I / P_u > I / P$. ∎

# %%
for peak, flops in product((10**13, 10**15), range(1, 400)):
    intensity = Rational(flops, 20)
    there, here = Max(intensity / P_u, 1 / BW_u), Max(intensity / peak, 1 / interface)
    assert (there < here) == (intensity < P_u / interface)
    assert intensity > P_u / BW_u or here / there == BW_u / interface

# %% [markdown]
# **The survey's figures.** An HBM-PIM cube has 2 TB/s inside, 307 GB/s at its interface, and 1.2 TFLOP/s: its own ridge is at
# 0.6 FLOP/byte, and it is ahead of its interface up to 3.9. At the 1 to 2 FLOP/byte of decode it is 3.9 to 2 times as fast.

# %%
assert (P_u / BW_u, round(float(P_u / interface), 1)) == (Rational(3, 5), 3.9)
print("pays below", P_u / interface, "FLOP/byte; by", [round(float(P_u / (one * interface)), 2) for one in (1, 2)], "at 1 and 2")
for name in ("hbm-pim", "aim", "upmem"):
    unit = symroof.load_hardware(name)
    print(
        name,
        {data_type: float(unit.machine.fastest((data_type,))[1] / unit.machine.memory_bandwidth) for data_type in unit.peaks},
        "FLOP/byte: ridge",
    )

# %% [markdown]
# Linear operators have $I \approx 16 b / w$: they gain up to a batch of some units. Attention in decode
# has $I \approx 16 g / c$ at every batch: it gains as long as few query heads share a key.

# %%
five = cube.machine.scaled(Integer(5))  # the five stacks of an A100, each with units
edge = five.fastest(("fp16",))[1] / symroof.load_hardware("a100-sxm-80gb").bandwidth_expr
for name in ("llama-2-7b", "llama-3-8b"):
    model = symroof.load_model(name)
    for batch in (1, 2, 4, 16):
        step = model.decode(batch=batch, seq_len=1024)
        split = best_split(step, "a100-sxm-80gb", five)
        analysis = symroof.analyze(step, "a100-sxm-80gb")
        for placed in analysis:
            assert (placed.name in split.operators) == (placed.intensity_expr < edge)
        stays = "moves" if "qk_matmul" in split.operators else "stays"
        print(f"{name}, batch {batch}: {float(split.speedup):.2f} times as fast, attention {stays}")

# %% [markdown]
# **Best split.** Operators run one after the other: the least sum has each where it is faster, as trying all choices shows.

# %%
step = symroof.load_model("llama-2-7b").decode(batch=3, seq_len=1024)
split = best_split(step, "a100-sxm-80gb", five)
places = [
    place for place in split.places if place.name in ("q_proj", "k_proj", "qk_matmul", "sv_matmul", "out_proj", "up_proj", "down_proj")
]
choices = [sum(pair) for pair in product(*((place.on_device, place.on_unit) for place in places))]
assert min(choices) == sum(place.time for place in places)
moved = step.apply(symroof.techniques.Pim(units=5, operators="+".join(split.operators)))
assert symroof.analyze(moved, "a100-sxm-80gb").total.time_expr == split.time_expr

# %% [markdown]
# Grouped queries, batches, prompts: all raise the intensity and end it. Handing operands over is not counted.
# Sources: the survey, arXiv:2402.16363, section 6.2; Kwon et al. (2021), ISSCC; Gómez-Luna et al. (2021), arXiv:2105.03814.
