# %% [markdown]
# # 13. How large a batch fits, and how large a batch pays
#
# Memory caps batch times context along a hyperbola. Throughput, batch over time, rises along pieces of hyperbolas
# with a knee wherever an operator turns compute-bound, towards an asymptote. Which of the two stops a growing batch
# first depends on the context: memory beyond a certain length, which is shorter where the ridge is higher.

# %%
from itertools import pairwise

from matplotlib.figure import Figure
from numpy import geomspace
from sympy import Integer, Poly, Rational, ceiling, floor

import symroof
from symroof import hyperbola, memory_of, memory_parts

b, t = symroof.symbols.named("b t")

DEVICES = ("a100-sxm-80gb", "h100-sxm")
model = symroof.load_model("llama-3.1-8b")
weights, cache, activations = memory_parts(model.decode(symbolic=True).symbolic)
kappa = cache / (b * t)
assert not {b, t} & (weights.free_symbols | kappa.free_symbols)
assert all(Poly(state, b).degree() == 1 for state in activations.args)  # what is alive at one operator or another
print("weights:", weights, "\ncache:", cache, "\nactivations: the largest of", len(activations.args), "states")

# %% [markdown]
# **Theorem 1.** With capacity $C$, weights $W$, $\kappa$ bytes of cache per token, and states of the activations
# $\alpha_i + \sigma_i b$, the batches that fit at context $t$ are those with
# $$b \le \min_i \frac{C - W - \alpha_i}{\kappa t + \sigma_i}, \qquad\text{so}\qquad b\,t < \frac{C - W}{\kappa}.$$
#
# *Proof.* Memory is $W + \kappa b t + \max_i (\alpha_i + \sigma_i b)$, and a maximum is at most $C$ if and only if each
# of its members is. Leave out the activations, which are above zero, for the hyperbola. ∎

# %%
for device in DEVICES:
    capacity = symroof.load_hardware(device).usable.magnitude
    pairs = hyperbola(model.decode().with_widths(), hardware=device).exact
    print(f"{device}: batch x context < {pairs} = {float(pairs)}; with activations, by context:", end=" ")
    for context in (256, 4096):
        step = model.decode(seq_len=context).with_widths()
        most = symroof.largest(step, hardware=device)
        assert memory_of(step).subs(b, most.value_expr) == capacity, "full to the last byte"
        assert most.value_expr * context < pairs
        for batch, fits in ((int(most.integer), True), (int(most.integer) + 1, False)):
            here = model.decode(batch=batch, seq_len=context).with_widths()
            assert symroof.analyze(here, device).fits == fits
        print(context, "->", most.integer, end="  ")
    print()

# %% [markdown]
# The survey's Figure 19: Llama-2-13b, everything at 8 bits, 48 GB. In the survey's own accounting, which leaves out
# the embedding, the norms and the LM head, halving the context doubles the batch. The exact accounting fits
# slightly fewer.

# %%
thirteen = symroof.load_model("llama-2-13b")
eight = {"weight_bits": 8, "activation_bits": 8, "kv_bits": 8}
found = {"survey": [], "exact": []}
for accounting, batches in found.items():
    for context in (2048, 1024, 512, 256):
        step = thirteen.decode(seq_len=context, accounting=accounting, **eight)
        batches.append(symroof.largest(step, capacity=Integer(48 * 10**9)).integer)
print("contexts 2048, 1024, 512, 256:", found)
assert found == {"survey": [42, 84, 168, 336], "exact": [41, 83, 166, 333]}

# %% [markdown]
# **Theorem 2.** On regime $j$ a decode step takes $T(b) = \alpha_j + \beta_j b$ with $\alpha_j \ge 0$; from one regime
# to the next $\alpha_j$ falls and $\beta_j$ rises. Throughput $b / T(b)$ never falls and tends to $1 / \beta_{last}$.
# It reaches a share $\theta < 1$ of that at $b = \theta \alpha_j / (\beta_{last} - \theta \beta_j)$, on the first
# regime that contains this point.
#
# *Proof.* Each operator takes the larger of two lines in $b$ with intercepts of zero or above. A sum of these is
# convex: slopes rise. Two lines that meet at a knee with the steeper on the right have the lower intercept there,
# and an intercept is a sum of what is not below zero. So $b / T = 1 / (\alpha_j / b + \beta_j)$ does not fall; on the
# last regime it tends to $1 / \beta_{last}$. Setting it to $\theta / \beta_{last}$ gives the batch. ∎


# %%
def over_batch(model, context, device):
    """Time over the batch in closed form."""
    return symroof.regimes(model.decode(seq_len=context).with_widths(), over="batch", hardware=device)


def at(model, batch, context, device):
    """Seconds of a step, from the sum over its operators."""
    return symroof.analyze(model.decode(batch=batch, seq_len=context).with_widths(), device).total.time_expr


NINETY = Rational(9, 10)
for device in DEVICES:
    found = over_batch(model, 4096, device)
    lines = [tuple(reversed(Poly(regime.time_expr, b).all_coeffs())) for regime in found.regimes]
    assert all(alpha >= 0 and beta > 0 for alpha, beta in lines)
    assert all(one[0] > two[0] and one[1] < two[1] for one, two in pairwise(lines))
    assert found.asymptote_expr == 1 / lines[-1][1]
    for left, right in pairwise(found.regimes):
        assert (left.time_expr - right.time_expr).subs(b, right.low_expr) == 0, "no jump at a knee"
        for batch in (floor(right.low_expr), ceiling(right.low_expr)):
            assert at(model, int(batch), 4096, device) == found.time_expr(batch)
    reached = found.batch_reaching_expr(NINETY)
    alpha, beta = next(line for line, regime in zip(lines, found.regimes, strict=True) if regime.high_expr >= reached)
    assert reached == NINETY * alpha / (lines[-1][1] - NINETY * beta)
    low, high = (batch / at(model, int(batch), 4096, device) for batch in (floor(reached), ceiling(reached)))
    assert low < NINETY * found.asymptote_expr <= high
    print(f"{device}: knees {', '.join(f'{float(knee):.2f}' for knee in found.knees_expr)}; asymptote", end=" ")
    print(f"{float(found.asymptote_expr):.1f} token/s; 90 % from batch {reached} = {float(reached):.3f}")

# %% [markdown]
# **Which is first?** Memory, if the largest batch that fits stays below 90 % of the asymptote. The border is found by
# bisection over whole contexts (each decided exactly).


# %%
def roofline_first(model, context, device):
    """Whether a batch that reaches 90 % of the asymptote fits."""
    fits = symroof.largest(model.decode(seq_len=context).with_widths(), hardware=device).value_expr
    return fits >= over_batch(model, context, device).batch_reaching_expr(NINETY)


borders = {}
for name, device in (("llama-2-7b", DEVICES[0]), ("llama-3.1-8b", DEVICES[0]), ("llama-3.1-8b", DEVICES[1])):
    low, high = 1024, 8192
    assert roofline_first(symroof.load_model(name), low, device)
    assert not roofline_first(symroof.load_model(name), high, device)
    while high - low > 1:
        middle = (low + high) // 2
        inside = roofline_first(symroof.load_model(name), middle, device)
        low, high = (middle, high) if inside else (low, middle)
    borders[name, device] = low
    print(f"{name} on {device}: the roofline limits up to context {low}, memory from {high} on")
assert list(borders.values()) == [2507, 8190, 4013]

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="batch", ylabel="tokens per second", xscale="log", xlim=(1, 2000), ylim=(0, 6400))
most = float(symroof.largest(model.decode(seq_len=4096).with_widths(), hardware=DEVICES[0]).value_expr)
for device, colour, line in zip(DEVICES, ("#0072B2", "#D55E00"), ("-", "--"), strict=True):
    found = over_batch(model, 4096, device)
    batches = [*geomspace(1, most, 100), *geomspace(most, 2000, 100)]
    rates = [x / max(float(regime.time_expr.subs(b, x)) for regime in found.regimes) for x in batches]
    axes.plot(batches[:100], rates[:100], line, color=colour, linewidth=2, label=device)
    axes.plot(batches[100:], rates[100:], line, color=colour, linewidth=0.8)
    axes.axhline(float(found.asymptote_expr), color=colour, linestyle=":", linewidth=1)
    for marker, size, points in (("o", 4, found.knees_expr), ("*", 10, [found.batch_reaching_expr(NINETY)])):
        axes.plot(points, [float(x / found.time_expr(x)) for x in points], marker, color=colour, markersize=size)
axes.axvline(most, color="black", linewidth=1)
axes.legend(loc="upper left", frameon=False)
symroof.show(figure)

# %% [markdown]
# Llama-3.1-8b at context 4096: knees (dots), asymptotes (dotted), 90 % of them (stars), and the batch at which memory
# is full on both devices (vertical line), beyond which the curves are thin. The star of the A100 is to the left of
# the line, that of the H100 to the right.
#
# **What it means.** On the A100 a bigger batch stops paying before memory is full; on the H100, with the same 80 GB,
# memory stops first, and a narrower cache buys throughput. The first knee is no target: at a long context 90 % of
# the asymptote is reached before any operator is compute-bound, as cache traffic grows with the batch like compute.
#
# Source: Yuan et al. (2024), arXiv:2402.16363, Figure 19, for the four batches.
