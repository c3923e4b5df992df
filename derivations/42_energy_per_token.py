# %% [markdown]
# # 42. The energy of a token as a line in the parameters, explained
#
# A widely used estimate of the energy of generation is a line fitted to measurements: watt-hours per token over billions
# of active parameters. A memory-bound step at batch 1, times the power of the board, gives its slope without a fit.

# %%
from matplotlib.figure import Figure
from sympy import Add, Rational, simplify

import symroof
from symroof import token_cost

b, w = symroof.symbols.named("b w")
device = symroof.load_hardware("a100-sxm-80gb")
bandwidth, board = device.bandwidth.exact, Rational(400)

# %% [markdown]
# **Theorem.** At batch 1 every operator with weights of w bits is memory-bound on a device with a ridge of $16 / w$ FLOPs per
# byte or more (one at 16 bits, four at 4), and a step that reads M active parameters of w bits takes at
# least $M w / (8 BW)$ seconds. On a device that draws $\pi$ watts a token takes
# $$E = \frac{\pi\, w}{8\, BW} M + \text{(what does not grow with M: activations, cache, launches)},$$
# a line whose slope is a property of the device: $\pi w / (8 BW)$ joules per parameter.
#
# *Proof.* A matrix with n elements does $2 n$ FLOPs for one row on at least $n w / 8$ bytes: $16 / w$ FLOPs per byte. ∎

# %%
step = symroof.load_model("llama-2-7b").decode(symbolic=True)
for operator, _count in step:
    if operator.role == symroof.Role.PROJECTION:
        weights = operator.byte_count("weight")
        assert simplify(operator.flop_count.subs(b, 1) / weights - 16 / w) == 0
        for bits in (4, 8, 16):
            alone = operator.flop_count.subs(b, 1) / weights.subs(w, bits)
            assert simplify(alone - {4: 4, 8: 2, 16: 1}[bits]) == 0
slope = board * Rational(16) / 8 / bandwidth * 10**9 / 3600
print(f"A100 80 GB at {board} W: {float(slope):.3e} Wh per token and 1e9 parameters")
assert f"{float(slope):.2e}" == "1.09e-04"

# %% [markdown]
# **The published line** (EcoLogits, quoted in embeddings-benchmark/mteb, issue 4368): 8.91e-5 Wh per 1e9 active
# parameters and 1.43e-3 Wh, on A100s of 80 GB; 7.67e-3 Wh or 27.6 J for 70e9.

# %%
fitted, constant = Rational("8.91e-5"), Rational("1.43e-3")
seventy = 70 * fitted + constant
print(f"70e9 parameters: {float(seventy):.2e} Wh = {float(seventy) * 3600:.1f} J; fitted slope {float(fitted / slope):.0%} of ours")
assert f"{float(seventy):.2e}" == "7.67e-03"
assert f"{float(seventy) * 3600:.1f}" == "27.6"
assert f"{float(fitted / slope):.0%}" == "82%"

# %% [markdown]
# **Why 82 % and not 100.** The bound is 400 W in the time of the bytes at full bandwidth. A board that reads memory and
# computes little draws less than its limit; a kernel that reaches less than the bandwidth takes longer. The fitted slope
# is the product of the two, power over limit by time over bound: 82 % is a board at its limit for 82 % of the bound's
# time (impossible), or one that draws 0.82 of 400 W, 327 W, at full bandwidth, or 278 W at 85 % of it. Batches above 1
# share the read of the weights and lower it further. The line alone cannot say which.

# %%
for reached in (Rational(1), Rational(85, 100), Rational(70, 100)):
    print(f"at {float(reached):.0%} of the bandwidth the fitted slope is {float(board * fitted / slope * reached):.0f} W at batch 1")
assert round(float(board * fitted / slope)) == 327
assert round(float(board * fitted / slope * Rational(85, 100))) == 278

# %% [markdown]
# **Steps of whole models** at batch 1, on A100s, against the line through their own energies: the slope of the bound, and
# a constant far below the fitted one, which therefore is not memory traffic but the rest of the server.

# %%
NAMES = ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b", "llama-2-13b", "qwen2.5-32b", "llama-3.1-70b", "mistral-large-instruct-2407")
points = []
for name in NAMES:
    model = symroof.load_model(name)
    made = model.decode(batch=1, seq_len=128)
    cost = token_cost(made, device, power=board, pue=1)
    read = Add(*(count * operator.byte_count("weight") for operator, count in made.with_widths().graph)) / 2
    points.append((float(read) / 1e9, float(cost.energy_expr) / 3600))
    assert cost.energy_expr / 3600 >= slope * read / 10**9, "a bound"
    print(
        f"{name}: {points[-1][0]:.2f}e9 parameters read, {points[-1][1]:.2e} Wh, fit {float(fitted) * points[-1][0] + float(constant):.2e}"
    )
n = len(points)
mean_x, mean_y = (sum(part) / n for part in zip(*points, strict=True))
own_slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
print(f"slope through them {own_slope:.3e}, {own_slope / float(slope):.4f} of the bound; constant {mean_y - own_slope * mean_x:.1e} Wh")
assert abs(own_slope / float(slope) - 1) < 0.01
assert mean_y - own_slope * mean_x < float(constant) / 20

# %% [markdown]
# **A mixture of experts** reads its active parameters at batch 1, and nearly all of them at large batches: the line holds
# for the first alone.

# %%
mixtral = symroof.load_model("mixtral-8x7b-v0.1")
for batch in (1, 8, 64):
    made = mixtral.decode(batch=batch, seq_len=128)
    joules = token_cost(made, device, power=board, pue=1).energy_expr
    read = Add(*(count * operator.byte_count("weight") for operator, count in made.with_widths().graph)) / 2
    print(f"Mixtral 8x7B, batch {batch}: {float(read) / 1e9:.1f}e9 parameters read, {float(joules) / 3600:.2e} Wh per token")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="parameters read in a step [1e9]", ylabel="Wh per token", xscale="log", yscale="log")
sizes = [1, 3, 10, 30, 100, 200]
axes.plot(sizes, [float(fitted) * x + float(constant) for x in sizes], "-", color="#D55E00", label="fitted to measurements")
axes.plot(sizes, [float(slope) * x for x in sizes], "--", color="#0072B2", label="bytes over bandwidth at 400 W")
axes.plot(*zip(*points, strict=True), "o", color="#0072B2", markersize=4, label="steps of models, batch 1")
axes.legend(frameon=False)
symroof.show(figure)

# %% [markdown]
# **What it means.** The slope of a measured law is two figures of a data sheet. On a device with more bandwidth per watt
# it is lower in proportion, and narrower weights divide it; the constant is the server's, and matters below about 16e9
# parameters.
#
# **Where it stops.** One board's limit is not its mean power; several devices for one model, batching and prompts are
# left out; the fit is theirs, and its measurements are not here to be repeated.
#
# Source: EcoLogits' model of energy as quoted in github.com/embeddings-benchmark/mteb, issue 4368 and pull request 4878;
# A100 data sheet (2039 GB/s, 400 W).
