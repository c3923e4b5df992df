# %% [markdown]
# # 7. The context at which attention does as many FLOPs as the linear layers
#
# The FLOPs of a layer's linear layers do not depend on the context; attention's grow with it. In decode the two
# are equal at about twice the hidden size plus one and a half times the intermediate size; in causal prefill at
# twice that context less one, because a position looks back over half the prompt on average.

# %%
from matplotlib.figure import Figure
from sympy import Add, Integer, ceiling, expand, factor, floor, simplify, solve
from sympy import sign as sympy_sign

import symroof

BW, M, P, R, a, b, c, d, e, f, g, h, k, s, t = symroof.symbols.named("BW M P R a b c d e f g h k s t")

MODELS = ("llama-2-7b", "llama-3.1-8b", "llama-2-70b")
ATTENTION = ("qk_matmul", "sv_matmul")


def split(step, attention=ATTENTION):
    """FLOPs of the linear layers of one layer, and of its attention."""
    layer = next(block.operators for block in step.graph.blocks if any(op.name in attention for op in block.operators))
    linear = [op.flop_count for op in layer if op.kind == "matmul" and op.name not in ATTENTION]
    return expand(Add(*linear)), expand(Add(*(op.flop_count for op in layer if op.name in attention)))


model = symroof.load_model("llama-2-70b")
linear, attention = split(model.decode(symbolic=True))
print("decode, linear layers:", factor(linear), "FLOP")
print("decode, attention:", attention, "FLOP")
assert t not in linear.free_symbols

# %% [markdown]
# **Theorem.** In a gated transformer with $d = h e$ and $g = h / k$, the two contractions of attention do as many
# FLOPs as the seven linear layers of the layer at the context
# $$t^* = d\,(1 + 1/g) + \tfrac{3}{2} f$$
# in decode, at $s^* = 2 t^* - 1$ in causal prefill, and at $s^* = t^*$ without a mask. Batch, widths and the
# number of heads drop out.
#
# *Proof.* In decode attention is proportional to $t$ and the linear layers constant: one solution. In prefill
# both have a factor $b s$, and $t$ becomes $(s + 1) / 2$ with the mask (the mean of $1, \dots, s$), or $s$. ∎

# %%
star = factor(solve(linear - attention, t)[0])
print("t* =", star)
assert simplify(star.subs(h, d / e) - (d * (1 + k * e / d) + 3 * f / 2)) == 0, "1/g = k / h = k e / d"
for causal, pairs in ((True, (s + 1) / 2), (False, s)):
    lin, att = split(model.prefill(symbolic=True, causal=causal))
    assert simplify(lin / linear - s) == 0
    assert simplify(att / (attention / t * s) - pairs) == 0, "t becomes the mean of what a position sees"
    s_star = solve(expand((lin - att) / (b * s)), s)[0]
    print("s* =", factor(s_star), "causal" if causal else "without a mask")
    assert simplify(s_star - (2 * star - 1 if causal else star)) == 0

# %% [markdown]
# Softmax counts $5$ FLOPs per score besides the contractions' $4 e$; with it the contexts shrink by the factor
# $4 e / (4 e + 5)$, 1% at $e = 128$.

# %%
with_softmax = solve(linear - split(model.decode(symbolic=True), (*ATTENTION, "softmax"))[1], t)[0]
assert simplify(with_softmax / star - 4 * e / (4 * e + 5)) == 0

# %% [markdown]
# In numbers, and by counting FLOPs at the whole numbers around each of them:

# %%
for name in MODELS:
    model = symroof.load_model(name)
    at = star.xreplace(model.dimensions)
    soft = with_softmax.xreplace(model.dimensions)
    print(f"{name}: t* = {at}, s* = {2 * at - 1} in causal prefill; with softmax t* = {soft} = {float(soft):.0f}")
    for step, middle in ((model.decode, at), (model.prefill, 2 * at - 1)):
        for length, sign in ((middle - 1, 1), (middle, 0), (middle + 1, -1)):
            lin, att = split(step(batch=3, seq_len=int(length)))
            assert lin.is_Integer
            assert sympy_sign(lin - att) == sign

# %% [markdown]
# **In time, on a device.** Equal FLOPs are equal time where both sides are compute-bound. In prefill they are, from some
# hundred tokens on: the linear layers, and FlashAttention (derivation 6). So the prompt at which attention takes half of a
# layer's time is the one at which it does half of the FLOPs, softmax counted: $s = 2\,t^* \frac{4 e}{4 e + 5} - 1$ on
# every such device, whatever its ridge, and beyond its cache too. Held against the engine, token by token:

# %%
EDGES = {}


def times(name, length, device, technique="flash-attention"):
    """Seconds of the linear layers of one layer, and of its FlashAttention; what binds them."""
    step = symroof.load_model(name).prefill(batch=1, seq_len=int(length))
    placed = symroof.analyze(step.apply(symroof.technique(technique)), device, ceilings="classic")
    linear = [one for one in placed if one.operator.kind == "matmul" and one.name != "lm_head"]
    bounds = {one.bound for one in (*linear, placed["fused_attention"])}
    return Add(*(one.time_expr for one in linear)), placed["fused_attention"].time_expr, bounds


for name in MODELS:
    model = symroof.load_model(name)
    equal = 2 * with_softmax.xreplace(model.dimensions) - 1
    EDGES[name] = equal
    for device in map(symroof.load_hardware, ("a100-sxm-80gb", "h100-sxm")):
        linear, attention, bounds = times(name, floor(equal), device)
        assert linear >= attention
        assert bounds == {"compute"}
        linear, attention, bounds = times(name, floor(equal) + 1, device)
        assert linear < attention
        assert bounds == {"compute"}
    print(f"{name}: equal times in causal prefill at s = {equal} = {float(equal):.0f}, on the A100 and on the H100")

# %% [markdown]
# On a machine where every block of queries reads keys and values from memory for itself, attention is memory-bound, and
# takes half of the time earlier: at 0.84 of that prompt with an A100's ridge, at 0.43 with an H100's. On whole blocks, for
# linear FLOPs against attention's bytes:

# %%
alone = symroof.technique("flash-attention:reread=memory")
fused = symroof.load_model("llama-2-7b").prefill(symbolic=True).apply(alone)
per_token = factor(split(fused, ("fused_attention",))[0] / s)
traffic = fused["fused_attention"].byte_count().subs(ceiling(s / R), s / R)
in_time = solve(expand((per_token / P - traffic / s / BW) / b), s)[0]
print("equal times at s =", factor(in_time))
for name in MODELS:
    model = symroof.load_model(name)
    for device in map(symroof.load_hardware, ("a100-sxm-80gb", "h100-sxm")):
        here = model.dimensions | dict.fromkeys((a, c), Integer(16))
        here |= {P: device.peak("fp16").magnitude, BW: device.bandwidth.magnitude, M: device.buffer_expr}
        here[R] = fused.symbolic.definitions[R].xreplace(here | {g: here[h] / here[k]})
        exact = in_time.xreplace(here)
        whole = floor(exact / here[R]) * here[R]
        below, above = (times(name, length, device, alone.text)[:2] for length in (whole, whole + here[R]))
        assert below[0] > below[1]
        assert above[0] <= above[1]
        share = float(exact / EDGES[name])
        print(f"{name} on {device.name}, blocks of {here[R]} positions alone: s = {float(exact):.0f}, {share:.2f} of the above")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="context length (tokens)", ylabel="attention's share of the FLOPs", xscale="log")
lengths = [2**power for power in range(9, 20)]
for name, colour, style in zip(MODELS, ("#0072B2", "#D55E00", "#009E73"), ("-", "--", "-."), strict=True):
    at = star.xreplace(symroof.load_model(name).dimensions)
    axes.plot(lengths, [float(one / (one + at)) for one in lengths], style, color=colour, label=f"{name}: {at}")
axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
axes.set_ylim(0, 1)
axes.legend(title="equal in decode at", loc="upper left", fontsize=8, title_fontsize=8)
symroof.show(figure)

# %% [markdown]
# **What it means.** Up to a few thousand tokens a transformer is its linear layers, and `2 x parameters` FLOPs per
# token is a good estimate; from 20 to 50 thousand tokens on it is not. GQA hardly moves this line, as it saves
# bytes of attention and none of its FLOPs. That estimate is in Kaplan et al. (2020), arXiv:2001.08361, section
# 2.1, with attention left out where $d$ is far above a twelfth of the context.
