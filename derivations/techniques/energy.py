# %% [markdown]
# # Energy: times overlap, joules add up
#
# A FLOP costs $\epsilon_F$, a byte $\epsilon_B$, a second $\pi_0$: $E = F \epsilon_F + B \epsilon_B + \pi_0 T$.
#
# **Theorem.** With $I = F / B$, $B_\tau = P / BW$, $B_\epsilon = \epsilon_B / \epsilon_F$, $\hat\epsilon = \epsilon_F + \pi_0 / P$ and
# $\eta = \epsilon_F / \hat\epsilon$:
#
# 1. $F / E = 1 / (\hat\epsilon (1 + \hat B(I) / I))$ with $\hat B(I) = \eta B_\epsilon + (1 - \eta) \max(0, B_\tau - I)$: an arch.
# 2. Half of its limit is reached at $\hat I = \eta B_\epsilon$ if that is at least $B_\tau$, else at
#    $(\eta B_\epsilon + (1 - \eta) B_\tau) / (2 - \eta)$.
# 3. If $\hat I \le B_\tau$, a compute-bound operator has at least half of the best FLOP/J: race to halt.
# 4. Power is most at $I = B_\tau$, and is there $P \epsilon_F + BW \epsilon_B + \pi_0$.
# 5. Without $\pi_0$, $f$ times the work for an $m$-th of the bytes saves energy for $f < 1 + (1 - 1/m) B_\epsilon / I$.
#
# *Proof.* 1: divide $E$ by $F$, with $T / F = \max(1, B_\tau / I) / P$. 2: set it to $2 \hat\epsilon$ on either side of $B_\tau$.
# 3: $F / E$ grows with $I$. 4: below $B_\tau$, $E / T = I\, BW \epsilon_F + BW \epsilon_B + \pi_0$ grows; above it
# $P \epsilon_F + P \epsilon_B / I + \pi_0$ falls. 5: compare $\epsilon_F + \epsilon_B / I$ with $f \epsilon_F + \epsilon_B / (m I)$. ∎

# %%
from sympy import Max, Rational, Symbol, simplify

import symroof
from symroof import Energy, arch_line, effective_balance, energy, energy_balance, greenup, most_work, power_line, race_to_halt, technique

BW, P, eps_B, eps_F, pi_0 = symroof.symbols.named("BW P eps_B eps_F pi_0")

model, intensity = Energy(eps_F, eps_B, pi_0), Symbol("I", positive=True)
best = eps_F + pi_0 / P
eta = eps_F / best
claimed = 1 / (best * (1 + (eta * eps_B / eps_F + (1 - eta) * Max(0, P / BW - intensity)) / intensity))
for side in ({P: 3 * intensity * BW}, {P: intensity * BW / 3}):
    assert simplify((claimed - arch_line(intensity, P, BW, model).exact).subs(side)) == 0
assert simplify(power_line(P / BW, P, BW, model).exact - (P * eps_F + BW * eps_B + pi_0)) == 0
print("FLOP/J:", arch_line(intensity, P, BW, model).exact)
print("half of the best at", effective_balance(model, P, BW).exact, "FLOP/byte")

# %% [markdown]
# **In numbers**, with figures of round size to show the formulas (1 pJ per FLOP, 30 pJ per byte, 100 W) and not of a device.

# %%
text = "energy:flop=1pJ,byte=30pJ,power=100W"
peak, bandwidth = 312 * 10**12, 2039 * 10**9
for batch in (1, 64, 1024):
    plain = symroof.load_model("llama-2-7b").decode(batch=batch, seq_len=1024)
    fewer = plain.apply(technique("quantize:weights=4,group=128"))
    before, after = (energy(step.apply(technique(text)), "a100-sxm-80gb") for step in (plain, fewer))
    faster = float(before.total.seconds_expr / after.total.seconds_expr)
    power = float(before.total.power.magnitude)
    print(f"batch {batch}: {float(before.total.joules_expr) / batch:.3g} J per token at {power:.0f} W; W4:", end=" ")
    print(f"greenup {float(greenup(before.total, after.total)):.2f}, speed-up {faster:.2f}")
    up = before["up_proj"]
    assert up.flop_count / up.joules_expr == arch_line(up.flop_count / up.byte_count, *map(Rational, (peak, bandwidth)), before.model).exact
numbers = before.model
half = effective_balance(numbers, Rational(peak), Rational(bandwidth)).exact
print(f"B_eps = {energy_balance(numbers).exact}, B_tau = {float(peak / bandwidth):.0f}, half of the best at {float(half):.1f} FLOP/byte")
assert race_to_halt(numbers, Rational(peak), Rational(bandwidth))
assert arch_line(half, Rational(peak), Rational(bandwidth), numbers).exact * 2 * (numbers.flop + numbers.constant / peak) == 1
assert most_work(Rational(1), Rational(2), numbers).exact == 16

# %% [markdown]
# **Of one device or of all, of a step or of a token.** What is told of a step on $n$ devices is one device's; the system takes
# $n$ times that, and a token the system's over the tokens that all sequences generate. Spreading a step over devices never saves
# energy: every device does its share of the work, moves no less than its share of the bytes, and draws $\pi_0$ for a time
# $T(n) \ge T(1) / n$. Speculation does, where its step takes less than $N$ times the energy of a plain one.

# %%
plain = symroof.load_model("llama-3-8b").decode(batch=8, seq_len=2048)
alone = energy(plain.apply(technique(text)), "h100-sxm")
for degree in (2, 4, 8):
    spread = energy(plain.apply(technique(f"tensor-parallel:degree={degree},link=450GB/s"), technique(text)), "h100-sxm")
    assert spread.system.joules_expr == degree * spread.total.joules_expr > alone.total.joules_expr
    each, every = float(spread.total.joules_expr), float(spread.system.joules_expr)
    print(f"{degree} devices: a step takes {each:.3f} J of each and {every:.3f} J in all", end="; ")
    print(f"a token {float(spread.system_token.joules_expr):.3f} J, on one device {float(alone.token.joules_expr):.3f} J")
drafted = energy(plain.apply(technique("speculative:acceptance=0.8,length=4,draft_cost=0.05"), technique(text)), "h100-sxm")
assert drafted.total.joules_expr > alone.total.joules_expr
assert drafted.token.joules_expr < alone.token.joules_expr
print(f"speculation: {float(drafted.total.joules_expr):.2f} J a step, {float(drafted.token.joules_expr):.3f} J a token")

# %% [markdown]
# **Where it stops.** One $\epsilon_F$ for all data types, none for bytes over links or on chip. All formulas are those of Choi, Bedard,
# Fowler and Vuduc (2013), A roofline model of energy, doi:10.1109/IPDPS.2013.77; their measured constants are not used here.
