# %% [markdown]
# # 10. The context length beyond which decode is never compute-bound
#
# Batching shares the weights among sequences, but each sequence brings a KV cache of its own. Summed over the
# decode step, weights and cache together leave a context length $S_{max}$: below it a large enough batch makes
# the step compute-bound, from it on no batch does. The limit does not depend on the weight width.

# %%
from matplotlib.figure import Figure
from numpy import linspace
from sympy import Integer, Poly, Rational, Symbol, diff, expand, simplify

import symroof
from symroof import Direction, Kind, Storage, hyperbola

BW, P, b, t, w = symroof.symbols.named("BW P b t w")

SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
letters = symroof.crossover(symroof.load_model("llama-2-7b").decode(symbolic=True), "weights-and-kv", over="batch")
F, B = letters.flops_expr, letters.traffic_expr
print("F =", F, "FLOP (all contractions of the step)")
print("B =", B, "byte (weights and KV cache, read once; the embedding table is not)")

# %% [markdown]
# The library's formulas have the shape $F = b (F_0 + F_1 t)$ and $B = W + b K t$: per sequence, $F_0$ is the work of
# the weight matmuls and $F_1 t$ that of attention; $W$ is all weights and $K$ the cache of one token.

# %%
F1, F0 = Poly(F / b, t).all_coeffs()
K, W = B.coeff(b).coeff(t), B.coeff(b, 0)
assert expand(F - b * (F0 + F1 * t)) == 0 == expand(B - W - b * K * t)
print(f"F0 = {F0}\nF1 = {F1}\nW  = {W}\nK  = {K}")

# %% [markdown]
# **Theorem.** Let one peak $P$ apply to all contractions and $K P > F_1 BW$ (otherwise attention alone reaches the
# ridge, and so does a large batch at every context). Put
# $$S_{max} = \frac{F_0\,BW}{K P - F_1\,BW}, \qquad b_0 = \frac{W P}{F_0\,BW}.$$
# At $t < S_{max}$ the step is compute-bound exactly from $b^*(t) = b_0 / (1 - t / S_{max})$ on; at $t \ge S_{max}$ it
# is memory-bound at every batch. $S_{max}$ does not contain $w$.
#
# *Proof.* The slack is $F\,BW - B\,P = b\,(K P - F_1 BW)(S_{max} - t) - W P$. At $t \ge S_{max}$ the first term is
# zero or below, and what is left is $-W P < 0$. Below, it is a line in $b$ that starts at $-W P$ and rises, and
# its zero is $b^*$. The weight width occurs in $W$ alone, and $W$ not in $S_{max}$. ∎

# %%
S_max = F0 * BW / (K * P - F1 * BW)
b_0 = W * P / (F0 * BW)
slack = F * BW - B * P
y = Symbol("y", nonnegative=True)
assert simplify(slack - (b * (K * P - F1 * BW) * (S_max - t) - W * P)) == 0
assert simplify(slack.subs(t, S_max + y) + W * P + b * (K * P - F1 * BW) * y) == 0, "below zero term by term"
assert simplify(slack.subs(b, b_0 / (1 - t / S_max))) == 0, "exactly zero at the crossover"
assert simplify(letters.formula - b_0 / (1 - t / S_max)) == 0, "the engine's crossover"
assert simplify(symroof.context_limit(symroof.load_model("llama-2-7b").decode(symbolic=True)).formula - S_max) == 0
assert diff(S_max, w) == 0
assert simplify(diff(b_0, w) * w / b_0) == 1
print("dS_max/dw = 0; the batch needed is in proportion to w")

# %% [markdown]
# In numbers, on two devices. The H100's 989.4 TFLOP/s is often rounded to 989: that moves the limit in the fourth
# digit, from 393.05 to 393.21.

# %%
limits, knees = {}, {}
for name, device in (("llama-2-7b", "a100-sxm-80gb"), ("llama-3.1-8b", "h100-sxm")):
    model, roof = symroof.load_model(name), symroof.load_hardware(device)
    step = model.decode().with_widths()
    values = step.values | {P: roof.peak("fp16").magnitude, BW: roof.bandwidth.magnitude}
    limits[name], knees[name] = S_max.xreplace(values), b_0.xreplace(values)
    assert symroof.context_limit(step, roof).value_expr == limits[name]
    print(f"{name} on {device}: S_max = {limits[name]} = {float(limits[name]):.4f}, b_0 = {float(knees[name]):.2f}")
    for bits in (4, 8):  # activations of 16 bits keep the 16-bit peak
        assert symroof.context_limit(model.decode(**SIXTEEN | {"weight_bits": bits}), roof).value_expr == limits[name]
rounded = S_max.xreplace(values | {P: Integer(989 * 10**12)})
print("with 989 TFLOP/s:", rounded, "=", float(rounded))
assert limits == {"llama-2-7b": Rational(51390956, 309961), "llama-3.1-8b": Rational(479519, 1220)}

# %% [markdown]
# The other side, for all batches and contexts at once: a certificate that a reader can check. It holds from the
# exact limit on; at 165 tokens a batch refutes it.

# %%
step = symroof.load_model("llama-2-7b").decode().with_widths()
for start, verdict in ((166, "proved"), (limits["llama-2-7b"], "proved"), (165, "refuted")):
    claim = {"for_all": ["batch", "seq_len"], "at_least": {"seq_len": start}, "hardware": "a100-sxm-80gb"}
    answer = symroof.prove(step, "memory-bound", "weights-and-kv", **claim)
    assert answer.verdict == verdict
    print(answer.claim, "--", verdict, "--", answer.certificate)

# %% [markdown]
# By brute force: add up the operators of `symroof.analyze`, with whole batches around $b^*$, and at the limit the
# largest batch the library takes.


# %%
def compute_bound(name, device, context, batch):
    """Whether the contractions take at least as long as weights and KV cache, added operator by operator."""
    here = symroof.load_model(name).decode(batch=batch, seq_len=context).with_widths()
    compute = memory = Integer(0)
    for placed in symroof.analyze(here, device):
        read = [placed.operator.byte_count(kind, Direction.READ) for kind in (Storage.WEIGHT, Storage.KV_CACHE)]
        if placed.operator.kind is not Kind.EMBEDDING:
            memory += placed.count_expr * sum(read) / placed.bandwidth_expr
        if placed.operator.kind is Kind.MATMUL:
            compute += placed.count_expr * placed.operator.flop_count / placed.peak_expr
    return compute >= memory


for name, device, contexts in (("llama-2-7b", "a100-sxm-80gb", (1, 165)), ("llama-3.1-8b", "h100-sxm", (393,))):
    for context in contexts:
        first = int(knees[name] / (1 - context / limits[name])) + 1
        assert [compute_bound(name, device, context, batch) for batch in (first - 1, first)] == [False, True]
        print(f"{name}, context {context}: compute-bound from batch {first} on")
    assert not any(compute_bound(name, device, contexts[-1] + 1, batch) for batch in (1, 10**6, 10**12))

# %% [markdown]
# The batch needed runs away at the limit, and its cache must fit beside the weights: $b\,t \le C$, a second
# hyperbola. They meet at $t = C / (b_0 + C / S_{max})$ (squares), the longest context with compute-bound decode.

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="context (tokens)", ylabel="batch needed", yscale="log")
axes.set(xlim=(0, 420), ylim=(100, 1e5))
for name, device, colour, line in (
    ("llama-2-7b", "a100-sxm-80gb", "#0072B2", "-"),
    ("llama-3.1-8b", "h100-sxm", "#D55E00", "--"),
):
    limit, knee = limits[name], knees[name]
    pairs = hyperbola(symroof.load_model(name).decode().with_widths(), hardware=device).exact
    meets = pairs / (knee + pairs / limit)
    assert pairs / meets == knee / (1 - meets / limit)
    print(f"{name} on {device}: compute-bound and within memory up to context {float(meets):.1f}")
    grid = linspace(1, float(limit) * 0.9985, 400)
    axes.plot(grid, float(knee) / (1 - grid / float(limit)), line, color=colour, label=f"{name}, {device}")
    axes.axvline(float(limit), color=colour, linestyle=":", linewidth=1)
    axes.plot(float(meets), float(pairs / meets), "s", color=colour)
axes.legend(loc="upper left", bbox_to_anchor=(0, 1.13), ncols=2, frameon=False, fontsize="small")
symroof.show(figure)

# %% [markdown]
# **What it means.** "Batch more to become compute-bound" holds only for short contexts: 165 tokens for multi-head
# attention on an A100, 393 with four query heads per KV head on an H100. Beyond, quantise the cache or share it among
# more heads ($K$ is in the denominator); quantising the weights lowers the batch needed, never the limit. The limit is
# optimistic: activations are not counted, and compute and traffic are taken to overlap across operators.
#
# Source: Williams, Waterman and Patterson (2009), doi:10.1145/1498765.1498785, for the roofline. That cache traffic
# takes the place of weight traffic as batch and context grow: Pope et al. (2022), arXiv:2211.05102.
