# %% [markdown]
# # 24. A dead zone: FFN devices that links cannot feed
#
# Feed-forward layers on devices of their own compute what attention devices send. In the time that a latency promise
# leaves, a link carries so many rows and no more. Beyond a number of FFN devices another one changes nothing but the
# average.

# %%
from matplotlib.figure import Figure
from sympy import Min, diff, simplify, symbols

import symroof
from symroof import dead_zone

# %% [markdown]
# **Theorem.** $A$ attention devices and $N$ FFN devices have links of $W$ byte/s each way, FFN devices a peak of $P$; a
# token is $\beta$ bytes on the link and $\varphi$ FLOPs. In $\tau$ seconds the utilization of FFN devices is at most
# $$U(N) = \min\Big(1,\ \frac{W \varphi}{\beta P} \min\big(1, \tfrac A N\big)\Big).$$
# It is constant up to $N^* = A \max(1, W \varphi / (\beta P))$ and strictly falls as $1 / N$ beyond: the dead zone. The
# budget $\tau$ cancels. If latencies take a share of it, $W$ shrinks by that share.
#
# *Proof.* Tokens are at most $A W \tau / \beta$ (sent), $N W \tau / \beta$ (received), $N P \tau / \varphi$ (computed);
# the utilization is tokens times $\varphi$ over $N P \tau$. The first limit alone does not grow with $N$; it is the least
# of three exactly from $N^*$ on, and $dU/dN = -A W \varphi / (\beta P N^2) < 0$ there. ∎

# %%
A, N, W, P, beta, phi, tau = symbols("A N W P beta phi tau", positive=True)
sent, received, computed = A * W * tau / beta, N * W * tau / beta, N * P * tau / phi
used = [simplify(tokens * phi / (N * P * tau)) for tokens in (sent, received, computed)]
assert used == [A * W * phi / (N * P * beta), W * phi / (P * beta), 1]
assert not any(tau in value.free_symbols for value in used[:2])
slope = diff(used[0], N)
assert simplify(slope + A * W * phi / (beta * P * N**2)) == 0
assert slope.is_negative, "of positive factors"
U = Min(1, W * phi / (beta * P) * Min(1, A / N))
for numbers in ({W: 1, P: 2}, {W: 3, P: 2}):  # a link below the peak's need, and one above
    given = {**numbers, beta: 1, phi: 1, A: 8}
    threshold = 8 * max(1, numbers[W] / numbers[P])
    values = {many: U.subs({**given, N: many}) for many in range(1, 40)}
    plateau = values[1]
    assert all((value == plateau) == (many <= threshold) for many, value in values.items())
    assert all(values[many] > values[many + 1] for many in range(int(threshold), 39))

# %% [markdown]
# **When there is none that matters.** $W \varphi / (\beta P) \ge 1$: FFN devices compute at their peak, and the zone
# begins $W \varphi / (\beta P)$ times as late. That is a link of at least $\beta P / \varphi$ (a superpod), or FLOPs per
# byte of at least $P / W$. A routed expert does $6 f_e d$ FLOPs on a row of $d$ elements, so with a device per expert
# $\varphi / \beta = 6 f_e / \text{bytes}$ of an element: coarse experts escape, fine ones do not.

# %%
fine, coarse = (symroof.load_model(name).decode(batch=128, seq_len=4096) for name in ("deepseek-v3", "mixtral-8x22b-v0.1"))
device, feeding = "h800-sxm", 8
zones = {}
for (name, step, copies), link in (
    (model, link) for model in (("DeepSeek-V3", fine, 8), ("Mixtral-8x22B", coarse, 2)) for link in ("50 GB/s", "400 GB/s", "900 GB/s")
):
    zone = zones[name, link] = dead_zone(step, device, attention_devices=feeding, copies=copies, link=link)
    at = f"{float(zone.plateau_expr):.0%} up to {float(zone.threshold_expr):.1f} FFN devices"
    print(f"{name}, {link}: {at}, {zone.bound}-bound, then {float(zone.utilization(64).exact):.1%} at 64")
assert zones["DeepSeek-V3", "50 GB/s"].bound == "link"
assert zones["DeepSeek-V3", "50 GB/s"].threshold_expr == feeding
assert zones["DeepSeek-V3", "900 GB/s"].bound == "compute"
assert zones["Mixtral-8x22B", "50 GB/s"].plateau_expr > zones["DeepSeek-V3", "50 GB/s"].plateau_expr

# %% [markdown]
# **Brute force.** Tokens of every number of devices by the three limits in numbers, against the answer's pieces.

# %%
zone = zones["DeepSeek-V3", "400 GB/s"]
ratio = zone.intensity_expr / zone.balance_expr
for many in range(1, 100):
    limits = (feeding * ratio / many, ratio, 1)
    assert zone.utilization(many).exact == min(limits)

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="FFN devices", ylabel="utilization of their peak", xscale="log", ylim=(0, 1.05))
styles = {"50 GB/s": "-", "400 GB/s": "--", "900 GB/s": ":"}
counts = [2 ** (step / 8) for step in range(65)]
for (name, link), zone in zones.items():
    reached = [float(min(zone.pieces_expr.pieces[0].value, zone.pieces_expr.pieces[1].value.subs(symroof.symbols.n_f, x))) for x in counts]
    axes.plot(counts, reached, styles[link], color="#0072B2" if name == "DeepSeek-V3" else "#D55E00", label=f"{name}, {link}")
axes.axvline(feeding, color="black", linewidth=0.8)
axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(0, 0.65))
symroof.show(figure)

# %% [markdown]
# Eight attention devices (vertical line) feed FFN devices of an H800's peak. A row goes to as many devices as a token has
# experts.
#
# **What it means.** On a network of 50 GB/s the FFN devices of DeepSeek-V3 wait for most of the time whatever their
# number, and from as many as there are attention devices on, another one is wasted. The link of a superpod, or experts
# eight times as wide, turn the verdict.
#
# **Where it stops.** An upper bound: weights have to be read within the budget too, and batches to be large enough. Rows
# and results count equal bytes each way (engines send 8 and 16 bits). One link per device, both pools of the same device;
# imbalance is not in it.
#
# Source: Liu et al. (2026), Revealing the challenges of attention-FFN disaggregation, arXiv:2602.09721, whose figures
# have no printed digits.
