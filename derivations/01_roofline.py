# %% [markdown]
# # 1. The roofline and its ridge
#
# A kernel that does `F` FLOPs and moves `B` bytes, on a device with peak `P` and bandwidth `BW`, takes
# $\max(F/P,\ B/BW)$ where arithmetic and transfers overlap. What it reaches, plotted over its arithmetic
# intensity $I = F/B$, is a roof with one corner. That corner, the ridge $P/BW$, separates the two bounds,
# and it depends on nothing but the device.

# %%
from matplotlib.figure import Figure
from sympy import Integer, Rational, factor, simplify, symbols

import symroof
from symroof import attainable

BW, P = symroof.symbols.named("BW P")

F, B, u = symbols("F B u", positive=True)
print("time =", symroof.roofline.time(F, B, P, BW))
print("attainable performance =", attainable(F / B, P, BW))

# %% [markdown]
# **Theorem 1.** The kernel is memory-bound ($F/P < B/BW$) exactly where $I < P/BW$. It reaches
# $\min(P,\ I \cdot BW)$: below the ridge the bandwidth alone counts, above it the peak alone.
#
# *Proof.* Three differences are one number, the slack $F\,BW - B\,P$, over a positive product:
# $$\frac FP - \frac B{BW} = \frac{F\,BW - B\,P}{P\,BW}, \qquad I - \frac P{BW} = \frac{F\,BW - B\,P}{B\,BW},
# \qquad I\,BW - P = \frac{F\,BW - B\,P}{B}.$$
# So all have the same sign. Where it is negative, time is $B/BW$ and $F$ over it is $I \cdot BW < P$;
# otherwise time is $F/P$ and $F$ over it is $P \le I \cdot BW$. Either way it is the smaller of the two. ∎

# %%
slack = F * BW - B * P
for difference, positive in ((F / P - B / BW, P * BW), (F / B - P / BW, B * BW), (F / B * BW - P, B)):
    assert simplify(difference - slack / positive) == 0
    print(factor(difference))

# A kernel below the ridge, I = ridge / (1 + u), one above it, I = ridge (1 + u), and one on it.
below, above, on = (B * P / BW / (1 + u), B * P / BW * (1 + u), B * P / BW)
assert simplify(symroof.roofline.time(below, B, P, BW) - B / BW) == 0
assert simplify(symroof.roofline.time(above, B, P, BW) - above / P) == 0
assert symroof.roofline.time(on, B, P, BW) == B / BW
for flops in (below, above, on):
    assert simplify(flops / symroof.roofline.time(flops, B, P, BW) - attainable(flops / B, P, BW)) == 0

# %% [markdown]
# Two devices, from their data sheets: the H100's peak grew more than its bandwidth, so its ridge is higher.

# %%
devices = [symroof.load_hardware(name) for name in ("a100-sxm-80gb", "h100-sxm")]
roofs = [(device.peak("fp16").magnitude, device.bandwidth.magnitude) for device in devices]
ridges = [peak / bandwidth for peak, bandwidth in roofs]
for device, ridge in zip(devices, ridges, strict=True):
    assert ridge == device.ridge("fp16").magnitude
    print(device.title, "ridge at 16 bits:", ridge, "=", float(ridge), "FLOP/byte")

# %% [markdown]
# **Theorem 2.** Let a second device have the higher ridge. Its speedup over the first is $BW_2/BW_1$ up to
# the ridge of the first, $P_2/P_1$ from its own ridge on, and $I \cdot BW_2/P_1$, between the two, in between.
#
# *Proof.* Divide the two attainable performances of Theorem 1. In between, the first is compute-bound and
# the second memory-bound: $I\,BW_2/P_1$ rises with $I$ from $BW_2/BW_1$ at $I = P_1/BW_1$ to $P_2/P_1$ at
# $I = P_2/BW_2$. ∎

# %%
(peak_1, bandwidth_1), (peak_2, bandwidth_2) = roofs


def speedup(intensity):
    return attainable(intensity, peak_2, bandwidth_2) / attainable(intensity, peak_1, bandwidth_1)


for intensity in map(Integer, range(1, 500)):
    middle = intensity * bandwidth_2 / peak_1
    low, high = bandwidth_2 / bandwidth_1, peak_2 / peak_1
    assert speedup(intensity) == (low if intensity <= ridges[0] else high if intensity >= ridges[1] else middle)
    assert low <= speedup(intensity) <= high
print("H100 over A100:", float(speedup(ridges[0])), "if memory-bound,", float(speedup(ridges[1])), "if compute-bound")

# %% [markdown]
# Brute force: the bound of a grid of kernels from the two times alone; then every operator of a whole model.

# %%
for peak, bandwidth in roofs:
    for megaflops in range(1, 400, 7):
        flops, traffic = Integer(megaflops * 10**6), Integer(10**6)
        slower = "memory" if flops / peak < traffic / bandwidth else "compute"
        by_ridge = "memory" if flops / traffic < peak / bandwidth else "compute"
        assert symroof.roofline.bound(flops, traffic, peak, bandwidth) == slower == by_ridge

llama = symroof.load_model("llama-2-7b")
full = {"batch": 1, "seq_len": 2048}
for device in devices:
    for step in (llama.decode(**full), llama.prefill(**full)):
        placed = list(symroof.analyze(step, device))
        for one in placed:
            assert (one.bound == "memory") == (one.intensity_expr < device.ridge(one.data_type).magnitude)
            assert one.performance_expr * one.time_expr == one.operator.flop_count
        print(device.name, step.options.phase, "compute-bound:", [one.name for one in placed if one.bound == "compute"])

# A linear layer over 200 tokens lies between the two ridges: compute-bound on one device alone.
between = [symroof.analyze(llama.prefill(**full | {"seq_len": 200}), device)["up_proj"] for device in devices]
assert ridges[0] < between[0].intensity_expr < ridges[1]
assert [one.bound for one in between] == ["compute", "memory"]

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot()
for device, (peak, bandwidth), color, line in zip(devices, roofs, ("#0072B2", "#D55E00"), ("-", "--"), strict=True):
    corners = [Rational(1, 4), peak / bandwidth, Integer(4000)]
    roof = [float(attainable(intensity, peak, bandwidth)) / 1e12 for intensity in corners]
    axes.plot([float(corner) for corner in corners], roof, color=color, linestyle=line, label=device.title)
    axes.axvline(float(peak / bandwidth), color=color, linestyle=":", label=f"its ridge, {float(peak / bandwidth):.1f}")
axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity [FLOP/byte]", ylabel="attainable [TFLOP/s]")
axes.legend(loc="upper left", fontsize=8)
symroof.show(figure)

# %% [markdown]
# **What it means.** Compare a kernel's intensity with the ridge before tuning it: below, only fewer bytes
# or more bandwidth help; above, only fewer FLOPs or a faster data type. A newer device with a higher ridge
# speeds memory-bound work up by its bandwidth, not by the FLOP/s of its data sheet.
#
# Source: Williams, Waterman and Patterson (2009), doi:10.1145/1498765.1498785.
