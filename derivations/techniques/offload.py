# %% [markdown]
# # Offloading to the host
#
# A share `omega` of the weights lives at the host and crosses a link of `BW_h` bytes per second whenever it is read. An
# operator takes the longest of compute, memory and link.

# %%
from sympy import Integer, Rational, simplify, solve

import symroof
from symroof import Level, payoff

BW, BW_h, P, a, b, d, f, omega, w = symroof.symbols.named("BW BW_h P a b d f omega w")

model = symroof.load_model("llama-2-13b")
up = model.decode(symbolic=True).apply(symroof.technique("offload")).symbolic["up_proj"]
F, near, far = up.flop_count, up.byte_count(), up.byte_count(level=Level.HOST)
assert simplify(far - omega * d * f * w / 8) == 0
assert simplify(near - (d * f * w * (1 - omega) + b * (d + f) * a) / 8) == 0
print("F =", F, " memory:", near, " link:", far)

# %% [markdown]
# **Theorem.** (1) The link is hidden behind compute from `b = omega w P / (16 BW_h)` on. (2) It is hidden behind memory from
# `b = w d f (omega (BW + BW_h) - BW_h) / (a (d + f) BW_h)` on, so at every batch if `omega <= BW_h / (BW + BW_h)`. The smallest
# batch that hides it is the lesser of the two. (3) Below it the operator is slower by at most `omega BW / BW_h`
# while memory-bound before; hidden, a memory-bound one is faster, as fewer bytes cross its memory.

# %%
compute = solve(F / P - far / BW_h, b)[0]
memory = solve(near / BW - far / BW_h, b)[0]
assert simplify(compute - omega * w * P / (16 * BW_h)) == 0
assert simplify(memory - w * d * f * (omega * (BW + BW_h) - BW_h) / (a * (d + f) * BW_h)) == 0
assert simplify(memory.subs(omega, BW_h / (BW + BW_h))) == 0
slower = simplify(far / BW_h / ((d * f * w + b * (d + f) * a) / 8 / BW))
assert simplify(slower.subs(a, 0) - omega * BW / BW_h) == 0
print("hidden from the lesser of", compute, "and", memory)

# %% [markdown]
# **The survey's Figure 18**: an A6000 at FP16 with its memory, with host memory at 89.6 GB/s, and a 13900K on that memory.
# The knees are 201.6, 1728 and 15.4 FLOP/byte. For weights of 16 bits the batch is the intensity.

# %%
gpu, cpu = symroof.load_hardware("survey/nvidia_A6000"), symroof.load_hardware("survey/intel_13900k")
peak, host = gpu.machine.fastest(("fp16",))[1], Integer(896) * 10**8
knees = [peak / gpu.bandwidth_expr, peak / host, cpu.machine.fastest(("fp16",))[1] / cpu.bandwidth_expr]
assert [round(float(knee), 1) for knee in knees] == [201.6, 1728.1, 15.4]
step = model.decode(seq_len=1024).with_widths()
over_link = step.apply(symroof.technique("offload:share=1,link=89.6GB/s"))
told = payoff(step, over_link, over="batch", hardware=gpu, operator="up_proj")
assert told.edges_expr == (knees[1],)
print("knees", [round(float(knee), 2) for knee in knees], "; all weights over 89.6 GB/s:", told.sentence)

# %% [markdown]
# Against brute force in exact arithmetic, for shares and links on both sides of (2):

# %%
sizes = {d: Integer(5120), f: Integer(13824), w: Integer(16), a: Integer(16), P: peak, BW: gpu.bandwidth_expr}
for share, link in ((Rational(1), 25), (Rational(1, 2), 25), (Rational(1, 2), 700), (Rational(1, 40), 25), (Rational(1, 20), 25)):
    known = sizes | {omega: share, BW_h: Integer(link) * 10**9}
    least = min(max(one.xreplace(known), Integer(0)) for one in (compute, memory))
    for batch in {1, 2, *(int(least) + more for more in (0, 1)), 5000} - {0}:
        here = model.decode(batch=batch, seq_len=1024).with_widths().apply(symroof.technique(f"offload:share={share},link={link}GB/s"))
        bound = symroof.analyze(here, gpu)["up_proj"].bound
        assert (bound == "host") == (batch < least), (share, link, batch, bound)
    print(f"share {share}, link {link} GB/s: hidden from batch {float(least):.5g}")

# %% [markdown]
# **Across layers.** FlexGen fetches the next layer's weights under the work of this one. A step then takes
# $\max(\sum_i \max(F_i/P, B_i/BW), \sum_i B_{h,i}/BW_h)$: no more than operator by operator, as
# $\max(\sum x_i, \sum y_i) \le \sum \max(x_i, y_i)$, and less wherever some operators wait for the link while others, attention
# above all, leave it idle. The link is hidden from the batch on at which all the work of a step takes as long as
# $\omega W / BW_h$, not from where every operator hides its own.

# %%
DEVICE, HALF = "h100-sxm", "offload:share=1/2,link=64GB/s"
llama = symroof.load_model("llama-3-8b")
free = llama.decode(seq_len=4096).with_widths()
layers, alone = (free.apply(symroof.technique(f"{HALF},overlap={how}")) for how in ("layers", "operator"))
across, apart = (symroof.regimes(one, over="batch", hardware=DEVICE) for one in (layers, alone))
transfers = layers.graph.byte_count(level=Level.HOST) / Integer(64 * 10**9)
for batch in (1, 64, 256, 1024):
    placed = symroof.analyze(llama.decode(batch=batch, seq_len=4096).with_widths().apply(symroof.technique(HALF)), DEVICE)
    assert across.time_expr(batch) == max(sum(one.count * one.work_expr for one in placed), transfers) <= apart.time_expr(batch)
    print(f"Llama-3-8B, half at the host, batch {batch}: {1e3 * float(across.time_expr(batch)):.1f} ms across layers", end=", ")
    print(f"{1e3 * float(apart.time_expr(batch)):.1f} ms operator by operator")
hidden = [
    payoff(free, free.apply(symroof.technique(HALF)), over="batch", hardware=DEVICE, operator=part).edges[0]
    for part in ("total", "up_proj")
]
assert hidden[0] < hidden[1]
print("hidden from batch {:.0f} on in a step, from {:.0f} on for up_proj by itself".format(*map(float, hidden)))

# %% [markdown]
# **Or compute on the CPU**: operands and results cross the link instead of weights. Against the link it pays while
# `b < w P_cpu / (16 BW_h)`, less what the transfers take.

# %%
link = 25
there = step.apply(symroof.technique(f"offload:link={link}GB/s,compute=cpu,unit=survey/intel_13900k"))
here = step.apply(symroof.technique(f"offload:share=1,link={link}GB/s"))
told = payoff(here, there, over="batch", hardware=gpu, operator="gate_proj")
bound = 16 * cpu.machine.fastest(("fp16",))[1] / (16 * Integer(link) * 10**9)
exact = solve(2 * b * d * f / cpu.machine.fastest(("fp16",))[1] + b * (d + f) * a / (8 * BW_h) - d * f * w / (8 * BW_h), b)[0]
assert told.edges_expr == (exact.xreplace(sizes | {BW_h: Integer(link) * 10**9}),)
assert told.edges_expr[0] < bound
print(f"on the CPU against {link} GB/s: {told.sentence}; without transfers up to {float(bound):.5g}")

# %% [markdown]
# Not counted: staging in device memory (it adds less than the link takes while `BW_h < BW / 2`), prefetching across operators, which
# would hide more, and CPU work beside GPU work.
#
# Sources: Sheng et al. (2023), FlexGen, arXiv:2303.06865; the survey, section 5.2 and Figure 18.
