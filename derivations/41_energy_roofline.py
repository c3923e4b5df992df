# %% [markdown]
# # 41. Compute-bound in time, memory-bound in energy
#
# Times overlap and energies add up, so an operator has two balance points: where work and traffic take equal time, and
# where they take equal energy. Between them it is bound by one in time and by the other in energy. How much power a
# device draws for nothing decides whether a kernel that is bound by compute is also near the best FLOP per joule.

# %%
from matplotlib.figure import Figure
from numpy import geomspace
from sympy import Rational, oo, simplify, solve, symbols

import symroof
from symroof import Energy, arch_line, effective_balance, energy, energy_balance, race_to_halt, technique

BW, P, b, eps_B, eps_F, pi_0 = symroof.symbols.named("BW P b eps_B eps_F pi_0")

# %% [markdown]
# **Theorem 1 (two crossovers).** With intensity $I(b) = F / B$ of an operator that rises over the batch to $I_\infty$,
# time turns compute-bound where $I = B_\tau = P / BW$ and energy where $I = B_\epsilon = \epsilon_B / \epsilon_F$. Each
# exists exactly if it is below $I_\infty$. For a matrix $d \times f$ with w and a bits they are
# $$b(I) = \frac{I\, w\, d f}{16\, d f - I\, a\, (d + f)}, \qquad I_\infty = \frac{16\, d f}{a (d + f)}.$$
# Between $b(B_\tau)$ and $b(B_\epsilon)$ the operator is compute-bound in time and memory-bound in energy if $B_\epsilon
# > B_\tau$, and the other way round if $B_\epsilon < B_\tau$.
#
# *Proof.* The first is the crossover of two terms of a maximum, the second that of two terms of a sum; set $F / B = I$. ∎

# %%
step = symroof.load_model("llama-2-7b").decode(symbolic=True)
up, (a, d, f, w) = step["up_proj"], symroof.symbols.named("a d f w")
F, B = up.flop_count, up.byte_count()
intensity = symbols("I", positive=True)
(at,) = solve(F - intensity * B, b)
assert simplify(at - intensity * w * d * f / (16 * d * f - intensity * a * (d + f))) == 0
assert simplify((F / B).limit(b, oo) - 16 * d * f / (a * (d + f))) == 0
assert simplify(symroof.crossover(step, "up_proj", over="batch").formula - at.subs(intensity, P / BW)) == 0
print("crossover in time or energy: b =", at)

# %% [markdown]
# **In numbers.** Round figures, as constants of today's devices are not published: 0.5 pJ per FLOP, 60 pJ per byte of
# memory, so that $B_\epsilon$ = 120 and an A100's $B_\tau$ = 153. Joules of the two parts, and seconds, of whole batches
# on both sides of either crossover.

# %%
model = Energy(Rational(1, 2) / 10**12, Rational(60) / 10**12, Rational(90))
device = symroof.load_hardware("a100-sxm-80gb")
peak, bandwidth = device.peak("fp16").exact, device.bandwidth.exact
sizes = {a: 16, w: 16, d: 4096, f: 11008}
turns = {}
for name, balance in (("time", peak / bandwidth), ("energy", energy_balance(model).exact)):
    turns[name] = at.subs({**sizes, intensity: balance})
    for batch in (int(turns[name]), int(turns[name]) + 1):
        flops, moved = (amount.subs({**sizes, b: batch}) for amount in (F, B))
        first, second = (flops / peak, moved / bandwidth) if name == "time" else (flops * model.flop, moved * model.byte)
        assert (first >= second) == (batch > turns[name])
print(f"up_proj on {device.name}: compute-bound in energy from batch {float(turns['energy']):.1f}, in time from {float(turns['time']):.1f}")
assert turns["energy"] < turns["time"], "the energy balance is below the ridge: between them memory-bound in time, compute-bound in energy"
dear = Energy(model.flop, 2 * model.byte)
print(f"with 120 pJ per byte the order turns: in energy from {float(at.subs({**sizes, intensity: energy_balance(dear).exact})):.1f}")

# %% [markdown]
# **The published example** (Choi et al., Table 2, a Fermi GPU in double precision after Keckler et al.): 515 GFLOP/s, 144
# GB/s, 25 pJ per FLOP, 360 pJ per byte: $B_\tau$ = 3.6, $B_\epsilon$ = 14.4 FLOP per byte, a gap of four.

# %%
fermi = Energy(Rational(25) / 10**12, Rational(360) / 10**12)
ridge = Rational(515, 144)
print(f"Fermi: B_tau {float(ridge):.1f}, B_eps {float(energy_balance(fermi).exact):.1f}")
assert (f"{float(ridge):.1f}", f"{float(energy_balance(fermi).exact):.1f}") == ("3.6", "14.4")

# %% [markdown]
# **Theorem 2 (the condition of race to halt, closed).** With constant power $\pi_0$ every operator that is compute-bound in
# time has at least half of the best FLOP per joule exactly if
# $$\pi_0 \ge BW\, \epsilon_B - P\, \epsilon_F:$$
# what memory at full rate draws more than arithmetic at full rate. That is no more than a balance: of two ways to do the
# same, the faster can still take more energy (below).
#
# *Proof.* Half of the best is reached at $\hat I$, which is $\eta B_\epsilon$ where that is at least $B_\tau$, and
# otherwise a mean of $\eta B_\epsilon$ and $B_\tau$, with $\eta = \epsilon_F / (\epsilon_F + \pi_0 / P)$. So $\hat I \le
# B_\tau$ exactly if $\eta B_\epsilon \le B_\tau$, that is $\epsilon_B BW \le P \epsilon_F + \pi_0$. ∎

# %%
eta = eps_F / (eps_F + pi_0 / P)
(threshold,) = solve(eta * eps_B / eps_F - P / BW, pi_0)
assert simplify(threshold - (BW * eps_B - P * eps_F)) == 0
mean = (eta * eps_B / eps_F + (1 - eta) * P / BW) / (2 - eta)
assert simplify((mean - P / BW) * (2 - eta) - (eta * eps_B / eps_F - P / BW)) == 0, "of one sign"
for pico_byte in (60, 200, 400):
    cost = Rational(pico_byte) / 10**12
    needed = bandwidth * cost - peak * model.flop
    for power in (needed - 1, needed + 1):
        if power > 0:
            machine = Energy(model.flop, cost, power)
            assert race_to_halt(machine, peak, bandwidth) == (power >= needed)
            best = 1 / (model.flop + power / peak)
            at_ridge = arch_line(peak / bandwidth, peak, bandwidth, machine).exact
            assert (at_ridge >= best / 2) == (power >= needed), "brute force: FLOP per joule at the ridge against half of the best"
    print(f"{pico_byte} pJ per byte: compute-bound means half of the best FLOP/J from {max(float(needed), 0):.0f} W of constant power on")
print(f"Fermi: from {float(144 * 10**9 * fermi.byte - 515 * 10**9 * fermi.flop):.1f} W on")

# %% [markdown]
# **Faster is not always more economic under it.** Let P, BW, $\epsilon_B$ and $\pi_0$ be 1 and $\epsilon_F$ 1/1000, so that
# the condition holds. One FLOP on one byte takes 1 s and 2.001 J; a way with 1 % more work on 1 % of the bytes takes 1.01 s
# and 1.021 J: slower, and about half the energy.

# %%
unit = Energy(Rational(1, 1000), Rational(1), Rational(1))
assert race_to_halt(unit, 1, 1)
(fast, thrifty), cost = ((Rational(1), Rational(1)), (Rational(101, 100), Rational(1, 100))), {}
for way in (fast, thrifty):
    cost[way] = max(way), unit.joules(*way, max(way))
assert cost[fast] == (1, Rational(2001, 1000))
assert cost[thrifty] == (Rational(101, 100), Rational(102101, 100000))
assert cost[fast][0] < cost[thrifty][0]
assert cost[fast][1] > cost[thrifty][1], "the faster way takes more energy, though the condition holds"

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="batch", ylabel="joules of up_proj per sequence", xscale="log", yscale="log")
batches = geomspace(1, 4096, 80)
flops, moved = (simplify(amount.subs(sizes)) for amount in (F, B))
rows = [(float(flops.subs(b, x)), float(moved.subs(b, x))) for x in batches]
parts = {"FLOPs": [fl * float(model.flop) for fl, _ in rows], "bytes": [by * float(model.byte) for _, by in rows],
         "constant power": [float(model.constant) * max(fl / float(peak), by / float(bandwidth)) for fl, by in rows]}  # fmt: skip
for (name, values), colour, line in zip(parts.items(), ("#D55E00", "#0072B2", "#009E73"), ("-", "--", ":"), strict=True):
    axes.plot(batches, [value / x for value, x in zip(values, batches, strict=True)], line, color=colour, label=name)
for name, _marker in (("energy", "s"), ("time", "o")):
    axes.axvline(float(turns[name]), color="black", linewidth=0.8, linestyle="--" if name == "time" else ":")
axes.legend(frameon=False)
symroof.show(figure)

# %% [markdown]
# Joules of Llama-2-7b's up projection on an A100 with these figures; the crossover in energy (dotted) and in time
# (dashed).
#
# **On whole steps** energies add up as well: the technique gives each operator's, and constant power counts the step's
# time once.

# %%
text = "energy:flop=0.5pJ,byte=60pJ,power=90W"
for batch in (1, 128, 512):
    whole = energy(symroof.load_model("llama-2-7b").decode(batch=batch, seq_len=1024).apply(technique(text)), device)
    total = whole.total
    shares = (total.flop_count * model.flop, total.byte_count * model.byte, total.seconds_expr * model.constant)
    assert sum(shares) == total.joules_expr
    print(f"batch {batch}: {float(whole.token.joules_expr):.3f} J per token; work, traffic, constant power:", end=" ")
    print(", ".join(f"{float(part / total.joules_expr):.0%}" for part in shares))
print(f"half of the best FLOP/J at {float(effective_balance(model, peak, bandwidth).exact):.0f} FLOP/byte")

# %% [markdown]
# **What it means.** Where a byte takes little, as in the first figures, no constant power at all is needed for every
# compute-bound operator to be within a factor of two of the best FLOP per joule; with bytes several times as dear it takes
# hundreds of watts. Whether a faster way saves energy is to be computed for the two ways. Traffic of the cache stays a large part of a
# step's energy at any batch.
#
# **Where it stops.** One cost per FLOP and per byte; the A100's are not published, and those here show the formulas. All
# of the arch is in [the technique's own derivation](techniques/energy.py).
#
# Source: Choi, Bedard, Fowler, Vuduc (2013), A roofline model of energy, doi:10.1109/IPDPS.2013.77.
