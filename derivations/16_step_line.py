# %% [markdown]
# # 16. A decode step is a line
#
# Almost every law of serving starts from a step whose time is a line in the batch. Here the line is not fitted: its three
# numbers are bytes over bandwidth or FLOPs over peaks, and the step says where it stops to hold.

# %%
from itertools import pairwise

from matplotlib.figure import Figure
from sympy import Add, Integer, Poly

import symroof

BW, b, t, tau_b, tau_t, tau_w = symroof.symbols.named("BW b t tau_b tau_t tau_w")

# %% [markdown]
# **Theorem.** Let every operator of a decode step move and compute amounts $\alpha + b (\beta + \gamma t)$ of each resource,
# with $\alpha, \beta, \gamma \ge 0$. Then on every piece of $(b, t)$ on which no operator changes what binds it,
# $$T(b, t) = \tau_w + b\,(\tau_b + \tau_t\, t),$$
# where each $\tau$ is a sum of amounts over rates. At a fixed context T is convex in b: from piece to piece its slope rises
# and its intercept falls. $\tau_w$ is what no sequence adds to, $\tau_b$ what each adds, $\tau_t$ what each token of its context
# adds.
#
# *Proof.* An operator takes the largest of its quotients, each of the form above; on the piece the same one is largest. Sums
# keep the form. A maximum of lines is convex, and so is a sum of convex functions; where two lines with intercepts of 0 or above
# meet, the steeper one has the lower intercept. ∎

# %%
PLACES = (
    ("llama-3.1-8b", "h100-sxm"),
    ("llama-2-13b", "a100-sxm-80gb"),
    ("mixtral-8x7b-v0.1", "h200-sxm"),
    ("mistral-7b-v0.1", "h100-sxm"),
)
for name, device in PLACES:
    model = symroof.load_model(name)
    line = model.decode(batch=8, seq_len=8192).on(device).step_line()
    for batch, context in ((1, 64), (8, 8192), (700, 4096)):  # brute force: the analysis of each of these steps
        there = model.decode(batch=batch, seq_len=context).on(device)
        assert there.step_line().time_at_expr(batch, context) == there.analysis.total.time_expr
    rest = "" if line.rest_expr == 0 else f", and {line.rest_expr} s"
    print(f"{name} on {device}: {line.weight_time}, {line.sequence_time} a sequence, {line.context_token_time} a token{rest}")

# %% [markdown]
# In symbols, for a model of one kind of layer below every knee:

# %%
line = symroof.load_model("llama-3.1-8b").decode(batch=8, seq_len=8192, flash_attention=True).on("h100-sxm", ceilings="classic").step_line()
step = line.step.symbolic
moved, cache = step.byte_count(), step.byte_count("kv_cache", "read")
print("tau_t =", line.formulas[tau_t])
assert (line.formulas[tau_t] - cache / (b * t * BW)).expand() == 0, "the cache of a token over the bandwidth"
once = Add(*(term for term in (moved / BW).expand().args if b not in term.free_symbols))
assert (line.formulas[tau_w] - once).expand() == 0, "what all sequences share, over the bandwidth"

# %% [markdown]
# Where the step is no line, it is so for a reason that can be written down. Experts that are touched in expectation add $-C q^b$,
# concave, until they are compute-bound. A context beyond a window adds nothing. Calibrated kernels are norms, and have secants.

# %%
dense, sparse, window = (
    symroof.load_model(PLACES[place][0]).decode(batch=8, seq_len=8192).on(PLACES[place][1]).step_line() for place in (0, 2, 3)
)
slopes = [(piece.intercept_expr, piece.slope_expr) for piece in dense.lines()]
assert all(left[0] > right[0] and left[1] < right[1] for left, right in pairwise(slopes))
assert all(Poly(piece.time_expr, b).degree() == 1 for piece in dense.lines())
assert {piece.kind for piece in sparse.lines()} == {"secant", "line"}
assert window.taus_exprs[2] == 0, "at context 8192 the window of 4096 is full"
for line in (dense, sparse):
    print(
        f"{line.step.model}: {line.kind}; pieces over batch from",
        ", ".join(f"{float(piece.low_expr):.4g} ({piece.kind})" for piece in line.lines()),
    )

# %%
figure = Figure(figsize=(7.2, 3.2), layout="constrained")
for place, (line, batches) in enumerate(((dense, range(1, 513)), (sparse, range(1, 33)))):
    axes = figure.add_subplot(
        1, 2, place + 1, xlabel="batch", ylabel="time of a step (ms)", title=f"{line.step.model} on {line.device.name}"
    )
    pieces = line.lines()
    own = [float(pieces.at(n).time_expr.xreplace({b: Integer(n)})) * 1e3 for n in batches]
    axes.plot(batches, own, color="#0072B2", label="the step")
    intercept, slope = (float(value) * 1e3 for value in line.tangent_exprs)
    axes.plot(batches, [intercept + slope * n for n in batches], "--", color="#D55E00", label="tangent at 8")
    axes.plot(batches, [float(line.context_token_time.magnitude) * 8192e3 * n for n in batches], ":", color="black", label="cache alone")
    axes.legend(frameon=False, fontsize="small")
symroof.show(figure)

# %% [markdown]
# **What it means.** Three numbers say what a model costs a device to serve: what is read however few are served, what a
# user adds, what a user's token of context adds. The latency of requests under load, their saturation, the batch at full memory and
# the price of speed are made of these alone. For a dense model below the first knee, on the left, the tangent is the step. A mixture
# of experts, on the right, is steeper at small batches, where each further sequence brings experts of its own.
#
# Caveats. The line has no term for what an engine does between steps; `launch-overhead` adds one to $\tau_w$. Times are
# at best: `ceilings="calibrated"` gives the secant of measured kernels.
#
# Source: Kong et al. (2026), arXiv:2605.15051, whose step is such a line with fitted numbers.
