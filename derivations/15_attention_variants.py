# %% [markdown]
# # 15. What a token costs to remember
#
# Every variant of attention since 2019 answers one question: how many bytes does a sequence leave behind for each
# token it has read? Fewer KV heads, one latent for all heads, a window, a state of fixed size. The bytes set the
# memory a batch needs; their ratio to the FLOPs sets the bound. Both are read off the library's graphs here, and held
# against the textbook's formulas.

# %%
from dataclasses import replace

from matplotlib.figure import Figure
from sympy import Add, Integer, LambertW, Min, Poly, Rational, diff, expand, factor, floor, limit, log, oo, simplify, solve, sqrt

import symroof
from symroof import Direction, Graph, Options, Storage, intensity_supremum

BW, E, K, P, W, X, a, b, c, d_i, d_s, e, e_k, e_l, e_n, e_v, f, f_e, h, h_l, k, k_c, k_l, r, r_kv, s, t, t_w, w = symroof.symbols.named(
    "BW E K P W X a b c d_i d_s e e_k e_l e_n e_v f f_e h h_l k k_c k_l r r_kv s t t_w w"
)

SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
IN_BITS = {w: Integer(16), a: Integer(16), c: Integer(16)}
LONG = 131072
NAMES = (
    *("llama-2-7b", "llama-3-8b", "falcon-7b", "deepseek-v3", "gemma-3-27b-pt", "gpt-oss-20b"),
    *("qwen3-next-80b-a3b-instruct", "jamba-v0.1", "mamba-2.8b"),
)
MODELS = {name: symroof.load_model(name) for name in NAMES}
FUSED = {name: model.decode(symbolic=True, flash_attention=True).symbolic for name, model in MODELS.items()}

# %% [markdown]
# ## Bytes of cache
#
# One layer of each kind, one sequence, context $t$, $c$ bits per element. The left side is added up from the tensors
# that a decode step of the published model keeps; the right side is the formula to be found there.


# %%
def kept(graph, kind):
    """Bytes that one layer of a kind keeps for one sequence."""
    (block,) = (block for block in graph.blocks if block.name == kind)
    tensors = [tensor for tensor in block.tensors() if tensor.storage is Storage.KV_CACHE]
    return expand(Add(*(tensor.byte_count for tensor in tensors)) / b)


STATE, LINEAR_STATE = d_i * (d_s + k_c), h_l * e_k * e_l + k_c * (2 * k_l * e_k + h_l * e_l)
TEXTBOOK = (
    ("multi-head", "llama-2-7b", "layer", {k: h}, 2 * h * e * t),
    ("grouped-query", "llama-3-8b", "layer", {}, 2 * k * e * t),
    ("multi-query", "falcon-7b", "layer", {k: Integer(1)}, 2 * e * t),
    ("latent", "deepseek-v3", "moe", {}, (r_kv + r) * t),
    ("sliding window", "gemma-3-27b-pt", "sliding", {}, 2 * k * e * t_w),
    ("gated delta rule", "qwen3-next-80b-a3b-instruct", "linear", {}, LINEAR_STATE),
    ("Mamba", "mamba-2.8b", "layer", {}, STATE),
    ("Mamba", "jamba-v0.1", "mamba_moe", {}, STATE),
)
for variant, name, kind, special, elements in TEXTBOOK:
    sizes = MODELS[name].dimensions
    assert all(letter.xreplace(sizes) == value.xreplace(sizes) for letter, value in special.items())
    assert simplify(kept(FUSED[name], kind).subs(special) - elements * c / 8) == 0
    most = "" if elements.has(t) else f", at most {elements.subs(t_w, W).xreplace(sizes)} elements in {name}"
    print(f"{variant:17}({elements}) c/8{most}")
assert FUSED["gemma-3-27b-pt"].definitions[t_w] == Min(t, W, evaluate=False)

# %% [markdown]
# With $h = g k$ the first three differ by the factors $g$ and $h$. A latent of $r_{kv} + r$ elements costs as much as
# $(r_{kv} + r) / 2e$ KV heads: DeepSeek-V3's 576 as much as 2.25 heads of 128, for 128 query heads. A window stops
# growing at $W$; the last three never grow. Whole models, in bytes at 16 bits:

# %%
print(f"{'model':28}{'per token':>10}{'beyond windows':>16}{'state':>11}{'at 131072 tokens':>20}")
at_long = {}
for name, model in MODELS.items():
    cache, here = model.cache, model.dimensions | IN_BITS
    growth, beyond, state = (part.xreplace(here) for part in (cache.growth, cache.beyond, cache.state))
    at_long[name] = cache.bytes.xreplace({t_w: Min(t, here.get(W, t))}).xreplace(here | {t: Integer(LONG)})
    assert at_long[name] == LONG * beyond + state + cache.window.xreplace(here)
    print(f"{name:28}{growth!s:>10}{beyond!s:>16}{state!s:>11}{at_long[name]!s:>20}")
assert MODELS["llama-3-8b"].cache.growth.subs(c, 16) == 131072, "published: 128 KiB per token"
assert MODELS["deepseek-v3"].cache.growth.subs(c, 16) == 70272 == 61 * (512 + 64) * 2
print("multi-head over Mamba at 131072 tokens:", float(at_long["llama-2-7b"] / at_long["mamba-2.8b"]))

# %%
figure = Figure(figsize=(7.2, 4.2), layout="constrained")
axes = figure.add_subplot(xlabel="context (tokens)", ylabel="kept per sequence (byte)", xscale="log", yscale="log")
axes.set(xlim=(16, 2**20), ylim=(1e5, 1e12))
contexts = [2 ** (power / 4) for power in range(16, 81)]
COLOURS = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#7F7F7F", "#882255")
STYLES = ("-", "-", "-", "-", "--", "--", "-.", "-.", ":")
for name, colour, style in zip(NAMES, COLOURS, STYLES, strict=True):
    formula = MODELS[name].cache.bytes.xreplace(MODELS[name].dimensions | IN_BITS)
    window = float(MODELS[name].dimensions.get(W, oo))
    heights = [float(formula.xreplace({t: x, t_w: min(x, window)})) for x in contexts]
    axes.plot(contexts, heights, style, color=colour, label=name)
axes.axhline(80e9, color="black", linewidth=0.8, linestyle=(0, (1, 3)))
axes.text(20, 95e9, "80 GB", fontsize="small")
axes.grid(visible=True, which="major", linewidth=0.3)
figure.legend(loc="outside right upper", frameon=False, fontsize="small")
symroof.show(figure)

# %% [markdown]
# ## Intensity in decode
#
# The core of attention, scores, softmax and weighted sum in one operator (`flash_attention=True`), reads what it
# keeps.
#
# **Theorem 1.** The intensity of such a core in decode is $N t / (A + C t)$ with positive $N$, $A$, $C$ free of the
# batch. It rises with the context towards the bound $I_{sup} = N / C$ and does not reach it:
# $$\text{GQA:}\; \frac{16 g}{c}\left(1 + \frac{5}{4 e}\right), \qquad
# \text{MLA absorbed:}\; \frac{16 h}{c} \cdot \frac{2 r_{kv} + r}{r_{kv} + r}\left(1 + \frac{5}{2 (2 r_{kv} + r)}\right).$$
# Multi-head attention is $g = 1$, multi-query $g = h$. A window has the same $N$, $A$, $C$ and stops at $t = W$. The
# second factor is what softmax, 5 FLOPs per score, adds to the two contractions.
#
# *Proof.* Each sequence has a cache of its own, so `b` is a factor of FLOPs and bytes. FLOPs are $N t$; the bytes are
# the cache, $C t$, and queries and output, $A$. The derivative in $t$ is $N A / (A + C t)^2 > 0$. ∎


# %%
def line(graph, name):
    """N, A, C of a core: per sequence N t FLOPs and A + C t bytes."""
    flops, moved = (expand(part / b).subs(t_w, t) for part in (graph[name].flop_count, graph[name].byte_count()))
    (N, none), (C, A) = Poly(flops, t).all_coeffs(), Poly(moved, t).all_coeffs()
    assert none == 0
    assert not (flops.free_symbols | moved.free_symbols) & {b, w}
    assert simplify(diff(flops / moved, t) - N * A / (A + C * t) ** 2) == 0
    assert simplify(intensity_supremum(flops, moved, t) - N / C) == 0
    return N, A, C


GQA = 16 * h / k / c * (1 + 5 / (4 * e))
MLA = 16 * h / c * (2 * r_kv + r) / (r_kv + r) * (1 + 5 / (2 * (2 * r_kv + r)))
CORES = (
    ("llama-2-7b", "fused_attention", GQA),
    ("llama-3-8b", "fused_attention", GQA),
    ("falcon-7b", "fused_attention", GQA),
    ("deepseek-v3", "moe.fused_attention", MLA),
    ("gemma-3-27b-pt", "sliding.fused_attention", GQA),
    ("gemma-3-27b-pt", "full.fused_attention", GQA),
    ("qwen3-next-80b-a3b-instruct", "full.fused_attention", GQA),
    ("jamba-v0.1", "full_dense.fused_attention", GQA),
)
bounds = {}
for name, core, formula in CORES:
    N, A, C = line(FUSED[name], core)
    here = MODELS[name].dimensions | IN_BITS
    assert simplify(N / C - formula) == 0
    bounds[name] = (N / C).xreplace(here)
    at = {t: here[W] if "sliding" in core else oo}
    reached = f", {float((N * t / (A + C * t)).subs(at).xreplace(here)):.4f} at t = W" if "sliding" in core else ""
    print(f"{name:28}{core:27} below {bounds[name]} = {float(bounds[name]):.4f} FLOP/byte at 16 bits{reached}")
contractions = (16 * h / c * (2 * r_kv + r) / (r_kv + r)).xreplace(MODELS["deepseek-v3"].dimensions | IN_BITS)
assert contractions == Rational(2176, 9), "about 242, as in derivation 3"

# %% [markdown]
# GPT-OSS gives each head a sink, one learned score outside the context: 5 FLOPs and one weight per head, the only
# bytes that a batch shares. The bound stays GQA's. Recurrent layers have no context at all: their FLOPs per byte of
# state are a constant, $32/c$ (Mamba) and $28/c$ (gated delta rule), 2 and 1.75 at 16 bits, and rise with the batch
# to a little less, as inputs and outputs are moved too.

# %%
sink = FUSED["gpt-oss-20b"]["full.fused_attention"]
assert simplify(sink.byte_count().coeff(b, 0) - 2 * h) == 0, "one weight of 16 bits per head"
assert simplify(symroof.limit(sink.flop_count / sink.byte_count(), t) - GQA) == 0
for name, scan, states, leading in (
    ("mamba-2.8b", "selective_scan", d_i * d_s, 32 / c),
    ("qwen3-next-80b-a3b-instruct", "linear.delta_rule", h_l * e_k * e_l, 28 / c),
):
    operator = FUSED[name][scan]
    flops, moved = operator.flop_count, operator.byte_count()
    assert t not in flops.free_symbols | moved.free_symbols
    of_state = operator.byte_count(Storage.KV_CACHE)
    assert simplify(of_state - 2 * b * states * c / 8) == 0, "read and written once"
    assert simplify(Poly(expand(flops), *states.free_symbols).coeff_monomial(states) * states / of_state - leading) == 0
    bound = intensity_supremum(flops, moved, b).xreplace(MODELS[name].dimensions | IN_BITS)
    assert bound < leading.xreplace(IN_BITS)
    print(f"{name}: {scan} below {bound} = {float(bound):.4f} FLOP/byte, at every batch and context")

# %% [markdown]
# ## Which cores are memory-bound at every batch and context
#
# **Theorem 2.** On a device with ridge $\rho = P / BW$ a core is memory-bound at every batch and context if and only
# if $I_{sup} \le \rho$, else compute-bound from $t^* = A P / (N BW - C P)$ on, at every batch. The condition is
# $$g \le \frac{\rho\,c}{16 + 20 / e} \;\text{(GQA)}, \qquad
# h \le \frac{\rho\,c\,(r_{kv} + r)}{16\,(2 r_{kv} + r) + 40} \;\text{(MLA absorbed)}.$$
# Without softmax the first is $g \le \rho\,c / 16$. A window of $W$ is memory-bound also where $t^* > W$.
#
# *Proof.* $I(t) < I_{sup}$ for all $t$, so $I_{sup} \le \rho$ leaves all contexts below the ridge. Otherwise $I$
# passes $\rho$, once as it rises, where $N t\,BW = (A + C t) P$. The batch occurs nowhere. ∎

# %%
ridge = P / BW
CONDITIONS = (
    ("llama-3-8b", "fused_attention", h / k, ridge * c / (16 + 20 / e)),
    ("deepseek-v3", "moe.fused_attention", h, ridge * c * (r_kv + r) / (16 * (2 * r_kv + r) + 40)),
)
for name, core, sharing, formula in CONDITIONS:
    N, A, C = line(FUSED[name], core)
    step = MODELS[name].decode(symbolic=True, flash_attention=True)
    most = sharing.subs(h, solve(N / C - ridge, h)[0])
    assert simplify(most - formula) == 0
    over_context = symroof.crossover(step, core, over="seq_len")
    assert simplify(over_context.formula - A * P / (N * BW - C * P)) == 0, "the engine's crossover over the context"
    over_heads = symroof.crossover(step, core, over="num_heads")
    assert simplify(sharing.subs(h, over_heads.tends_to(t)) - most) == 0, "and over the heads, as the context grows"
    print(f"{name}: memory-bound at every batch and context if and only if {sharing} <= {factor(most)}")

# %% [markdown]
# The first whole group, and the first whole number of MLA heads, that turn compute-bound at some context, at 16 bits
# and with the sizes of Llama-3-8b and DeepSeek-V3; a cache of 8 bits halves them. Beside them, the models above that
# cross.

# %%
gqa = MODELS["llama-3-8b"].decode(flash_attention=True, **SIXTEEN)
MOST = {name: formula for name, *_, formula in CONDITIONS}
first = {}
DEVICES = (
    *("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200", "mi300x", "tpu-v5e", "tpu-v5p", "tpu-v6e"),
    *("gaudi3", "rtx-3090", "epyc-9654", "groq-lpu"),
)
print(f"{'device':16}{'ridge':>8}{'group':>7}{'MLA heads':>11}   compute-bound at some context")
for device in DEVICES:
    placed = symroof.analyze(replace(gqa, values=gqa.values | {b: Integer(1), t: Integer(1)}), device, ceilings="classic")[
        "fused_attention"
    ]
    rho = placed.peak_expr / placed.bandwidth_expr
    on_device = {P: placed.peak_expr, BW: placed.bandwidth_expr}
    group, heads = (floor(most.xreplace(MODELS[name].dimensions | IN_BITS | on_device)) + 1 for name, most in MOST.items())
    first[device] = (group, heads)
    crossing = [name for name, bound in bounds.items() if bound > rho]
    print(f"{device:16}{float(rho):8.2f}{group!s:>7}{heads!s:>11}   {', '.join(crossing) or 'none of them'}")
    for size, verdict in ((group - 1, "proved"), (group, "refuted")):
        shared = replace(gqa, values=gqa.values | {h: size * gqa.values[k]})
        proof = symroof.prove(shared, "memory-bound", "fused_attention", for_all=["batch", "seq_len"], hardware=device, ceilings="classic")
        assert proof.verdict == verdict
assert [first[device] for device in ("a100-sxm-80gb", "h100-sxm", "h200-sxm")] == [(152, 81), (293, 156), (205, 109)]

# %% [markdown]
# **DeepSeek-V3 on H100 and H200.** The two have the same peak but for 1 part in 10 000; the bandwidth differs, 3.35
# and 4.8 TB/s, and the bound 242.3 lies between their ridges 295.3 and 206.1. On an H100 absorbed attention is
# memory-bound at every context, on an H200 compute-bound from 1378 tokens on: the faster memory alone moves
# it. On the H100 156 heads would be compute-bound. No rank would: $I_{sup}$ rises with $r_{kv}$, but not to $32 h / c$,
# 256 with 128 heads.

# %%
rising = factor(diff(MLA, r_kv))
assert simplify(rising - 8 * h * (2 * r - 5) / (c * (r_kv + r) ** 2)) == 0, "rising where r > 5/2"
assert limit(MLA, r_kv, oo) == 32 * h / c
for device, one_sequence in (("h100-sxm", "proved"), ("h200-sxm", "refuted"), ("a100-sxm-80gb", "refuted")):
    single = MODELS["deepseek-v3"].decode(batch=1, flash_attention=True, **SIXTEEN)
    proof = symroof.prove(single, "memory-bound", "moe.fused_attention", for_all=["seq_len"], hardware=device, ceilings="classic")
    assert proof.verdict == one_sequence
    answer = symroof.crossover(single, "moe.fused_attention", over="seq_len", hardware=device, ceilings="classic")
    print(f"{device}: {answer.verdict}, t* = {answer.value_expr}, first whole context {answer.first_integer}")
    for batch in (1, 1000):
        around = (answer.first_integer - 1, answer.first_integer) if answer.value_expr else (1, 10**9)
        steps = [MODELS["deepseek-v3"].decode(batch=batch, seq_len=int(at), flash_attention=True, **SIXTEEN) for at in around]
        found = [symroof.analyze(step, device, ceilings="classic")["moe.fused_attention"].bound for step in steps]
        assert found == ["memory", "compute" if answer.value_expr else "memory"]
kimi = MLA.xreplace(symroof.load_model("kimi-k2-instruct").dimensions | IN_BITS)
print(f"Kimi K2, 64 heads: below {kimi} = {float(kimi):.2f} FLOP/byte, memory-bound on all three")
assert kimi < symroof.load_hardware("a100-sxm-80gb").ridge("fp16").magnitude
every = {name: symroof.load_model(name).dimensions for name in symroof.models()}
groups = {name: sizes[h] / sizes[k] for name, sizes in every.items() if k in sizes}
largest = sorted(groups, key=lambda name: groups[name])[-4:]
print("largest groups in models/:", ", ".join(f"{groups[name]} ({name})" for name in largest))
reached = max(GQA.xreplace(every[name] | IN_BITS) for name in groups)
assert reached < symroof.load_hardware("a100-sxm-80gb").ridge("fp16").magnitude / 2

# %% [markdown]
# ## The two forms of latent attention
#
# *Absorbed* (`mla="absorbed"`), the expansions $W_{UK}$ and $W_{UV}$ act on the queries and the output, once per
# query token. *Decompressed*, they act on the cache, once per token of context, and attention then runs on shorter
# heads. Let $q$ query tokens per sequence, the latest of $t$, take part in a step: $q = 1$ is decode, $q = t$
# prefill, in between a chunk of a prompt or a speculated run.
#
# **Theorem 3.** With $\alpha = r_{kv} (e_n + e_v)$ and $\beta = 2 r_{kv} - e_n - e_v > 0$, absorbed minus
# decompressed is
# $$\Delta F = 2 b h\,\left(\beta\,\Pi - \alpha\,(t - q)\right) \text{ FLOPs}, \qquad
# \Pi = q\,(2 t - q + 1) / 2 \text{ pairs.}$$
# Both forms cost the same at
# $$q^* = m - \sqrt{m^2 - 2 \alpha t / \beta}, \qquad m = t + \tfrac12 + \alpha / \beta,$$
# absorbed costs less below and more above; $q^*$ rises with $t$ and stays below $\alpha / \beta$, its limit. Softmax
# is the same in both forms and drops out.
#
# *Proof.* $\Delta F / 2 b h = \Delta(q)$ is a parabola, opening downwards, from $-\alpha t < 0$ at $q = 0$ to
# $\beta\,t (t + 1) / 2 > 0$ at $q = t$: one zero lies in between, the smaller one. At $q = \alpha / \beta$ it is
# $\frac{\alpha}{2} (1 + \frac{\alpha}{\beta}) > 0$, so $q^* < \alpha / \beta$. Its derivative in $t$ is $\beta q -
# \alpha$, below zero at $q^*$: a longer context moves the zero up. ∎

# %%
UP, CORE = ("k_up_proj", "v_up_proj"), ("qk_matmul", "softmax", "sv_matmul")
v3 = MODELS["deepseek-v3"]


def chunk(form):
    """FLOPs of what differs between the forms, in one layer: s query tokens, the latest of t."""
    options = Options("prefill", mla=form)
    space = v3.architecture.space(options)
    graph = Graph(v3.architecture.blocks(replace(space, sizes={**space.sizes, "t": t}), options))
    return expand(Add(*(graph[f"moe.{name}"].flop_count for name in (*UP, *CORE))))


pairs, alpha, beta = s * (2 * t - s + 1) / 2, r_kv * (e_n + e_v), 2 * r_kv - e_n - e_v
difference = expand((chunk("absorbed") - chunk("decompressed")) / (2 * b * h))
assert expand(difference - (beta * pairs - alpha * (t - s))) == 0
for form in ("absorbed", "decompressed"):  # both ends are the library's own steps
    for step, ends in ((v3.decode, {s: Integer(1)}), (v3.prefill, {t: s})):
        graph = step(symbolic=True, mla=form).symbolic
        own = Add(*(graph[f"moe.{name}"].flop_count for name in (*UP, *CORE)))
        assert expand(own - chunk(form).subs(ends)) == 0
for step, ends in ((v3.decode, {s: Integer(1)}), (v3.prefill, {t: s})):  # and nothing else of a step differs
    totals = [step(symbolic=True, mla=form).graph.flop_count.xreplace(v3.dimensions) for form in ("absorbed", "decompressed")]
    assert expand(totals[0] - totals[1] - (v3.layers * 2 * b * h * difference).xreplace(v3.dimensions).subs(ends)) == 0
m = t + Rational(1, 2) + alpha / beta
q_star = m - sqrt(m**2 - 2 * alpha * t / beta)
assert simplify(difference + beta / 2 * ((s - m) ** 2 - (m**2 - 2 * alpha * t / beta))) == 0, "zero at m less the root"
assert simplify(difference.subs(s, alpha / beta) - alpha / 2 * (1 + alpha / beta)) == 0
assert expand(diff(difference, t) - (beta * s - alpha)) == 0
at_v3 = q_star.xreplace(v3.dimensions)
assert limit(at_v3, t, oo) == (alpha / beta).xreplace(v3.dimensions) == Rational(512, 3)
for context in (128, 1024, 4096, 32768, LONG):
    here = at_v3.subs(t, context)
    below = floor(here)
    signs = [difference.xreplace(v3.dimensions | {s: n, t: Integer(context)}) for n in (below, below + 1)]
    assert signs[0] < 0 < signs[1]
    print(f"t = {context}: absorbed does fewer FLOPs up to {below} query tokens per sequence (q* = {float(here):.2f})")

# %% [markdown]
# At the two ends, for DeepSeek-V3. In prefill the expansions cost the same, and absorbed attention's contractions
# $\frac{2 r_{kv} + r}{e_n + e_v + r} = 3.4$ times as many FLOPs. In decode, decompressing the context again at every step
# costs $2 \alpha$ FLOPs per head and token of it. In bytes the heads decide: absorbed, a token of context is read as
# $r_{kv} + r$ elements; decompressed, $h (e_n + e_v)$ activations of it are written and read again.

# %%
sizes = v3.dimensions
per_token = {}
for form in ("absorbed", "decompressed"):
    graph = v3.decode(symbolic=True, flash_attention=True, mla=form).symbolic
    parts = [graph[f"moe.{name}"] for name in (*UP, "fused_attention")]
    flops, moved = Add(*(part.flop_count for part in parts)), Add(*(part.byte_count() for part in parts))
    per_token[form] = [expand(diff(total, t) / b) for total in (flops, moved)]
flops_of, bytes_of = ([per_token[form][which] for form in per_token] for which in (0, 1))
assert expand(flops_of[0] - 2 * h * (2 * r_kv + r) - 5 * h) == 0
assert expand(flops_of[1] - 2 * h * (alpha + e_n + e_v + r) - 5 * h) == 0
assert expand(bytes_of[0] - (r_kv + r) * c / 8) == 0
assert expand(bytes_of[1] - (2 * r_kv + r) * c / 8 - 2 * h * (e_n + e_v) * a / 8) == 0
for unit, both in (("FLOP", flops_of), ("byte", bytes_of)):
    absorbed, decompressed = (value.xreplace(sizes | IN_BITS) for value in both)
    print(f"decode, per token of context and layer: {absorbed} and {decompressed} {unit}, ratio {float(decompressed / absorbed):.1f}")
attention = [v3.prefill(symbolic=True, mla=form)["moe.qk_matmul"].flop_count for form in ("absorbed", "decompressed")]
weighted = [v3.prefill(symbolic=True, mla=form)["moe.sv_matmul"].flop_count for form in ("absorbed", "decompressed")]
ratio = simplify((attention[0] + weighted[0]) / (attention[1] + weighted[1]))
assert simplify(ratio - (2 * r_kv + r) / (e_n + e_v + r)) == 0
assert ratio.xreplace(sizes) == Rational(17, 5)
for phase, make in (("prefill", v3.prefill), ("decode", v3.decode)):
    for form in ("absorbed", "decompressed"):
        step = symroof.analyze(make(batch=1, seq_len=4096, flash_attention=True, mla=form, **SIXTEEN), "h100-sxm")
        parts = [step[f"moe.{name}"] for name in (*UP, "fused_attention")]
        flops, moved, seconds = (
            float(Add(*values))
            for values in (
                [part.operator.flop_count for part in parts],
                [part.operator.byte_count() for part in parts],
                [part.time_expr for part in parts],
            )
        )
        print(f"{phase:7} {form:12} {flops:.3e} FLOP, {moved:.3e} byte, {1000 * seconds:.4f} ms: layer, 4096 tokens, H100")

# %% [markdown]
# Hence `mla="auto"`: absorbed in decode, decompressed in prefill. With these sizes a chunk of a prompt is on the side
# of prefill from 171 query tokens on, whatever the context.
#
# ## A state against a cache
#
# **Proposition 4.** A Mamba layer keeps as much as a GQA layer at the context $t = d_i (d_s + k_c) / (2 k e)$. It
# moves as many bytes of it per step at $2 d_i (d_s + k_c) / (2 k e) - 1$: all of a state is read and written; all of a
# cache is read, and one row of it written.
# *Proof.* Equate the bytes. ∎

# %%
jamba, graph = MODELS["jamba-v0.1"], FUSED["jamba-v0.1"]
same_size = solve(kept(graph, "mamba_moe") - kept(graph, "full_dense"), t)[0]
assert simplify(same_size - d_i * (d_s + k_c) / (2 * k * e)) == 0
moved = {
    block.name: Add(*(operator.byte_count(Storage.KV_CACHE, way) for operator in block.operators for way in Direction))
    for block in graph.blocks
}
same_traffic = solve(expand((moved["mamba_moe"] - moved["full_dense"]) / b), t)[0]
assert simplify(same_traffic - (2 * same_size - 1)) == 0
print("Jamba: same bytes kept at", same_size.xreplace(jamba.dimensions), "tokens, same moved at", same_traffic.xreplace(jamba.dimensions))
assert same_size.xreplace(jamba.dimensions) == 80
whole = jamba.cache.bytes.xreplace(jamba.dimensions | IN_BITS)
all_attention = jamba.layers * kept(graph, "full_dense").xreplace(jamba.dimensions | IN_BITS)
assert solve(whole - all_attention, t) == [80]
for context in (80, 4096, 262144):
    both = [total.subs(t, context) for total in (whole, all_attention)]
    print(f"  {context} tokens: {both[0]} bytes; {both[1]} if all 32 layers were attention, {float(both[1] / both[0]):.2f} times")
next_model = MODELS["qwen3-next-80b-a3b-instruct"]
parity = LINEAR_STATE.xreplace(next_model.dimensions) / (2 * k * e).xreplace(next_model.dimensions)
print("Qwen3-Next: a linear layer keeps as much as an attention layer at", parity, "tokens")
assert parity == 544

# %% [markdown]
# ## Experts: a batch that is spread thin
#
# In decode a layer reads the weights of $X = E (1 - q^b)$ experts, $q = 1 - K / E$, in expectation over tokens that choose
# independently and uniformly, and of $\min(E, K b)$ at most.
#
# **Theorem 5.** Let $b_0$ be the batch at which one expert's linear layer, alone and for all tokens, turns
# compute-bound. If $b_0 > 1$, the layer of experts turns compute-bound once, at
# $$b^* = b_E - W_0(z) / \ln q\,, \quad b_E = b_0 E / K\,, \quad z = b_E \ln q\; q^{b_E}\,,$$
# below $b_E$ by $b_E\,q^{b^*} < b_E\,e^{-K b^* / E}$; with the most experts there can be it does so at $b_E$ itself.
#
# *Proof.* The slack is $A b - C X / E$, with $A$ what FLOPs leave over activations and $C$ the bytes of all $E$, each in
# seconds; on $X = E$ this is, divided by $E$, a dense layer at the batch $K b / E$, so $b_E = C / A$. With $X = E (1 - q^b)$
# it is 0 at 0 and convex: it has one more zero, where it falls first. It is below zero at 1, where $X = K$ and the
# intensity is the dense layer's at batch 1, below the ridge as $b_0 > 1$; so that zero is $b^* > 1$. There
# $b^* = b_E (1 - q^{b^*})$, that is $u e^u = z$ for $u = (b_E - b^*) \ln q = b_E q^{b^*} \ln q$; and $u > -1$, as the slack
# rises there. With the most there can be, everything is in proportion to $b$ on $X = K b$: nothing crosses before
# $b = E / K < b_E$. ∎

# %%
H100 = symroof.load_hardware("h100-sxm")
at_h100 = {P: H100.peak("fp16").magnitude, BW: H100.bandwidth.magnitude}
expert = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True).symbolic["expert_up_proj"]
slack = expand(8 * (expert.flop_count * BW - expert.byte_count() * P))
b_star = solve(slack.subs(X, E), b)[0]
dense = symroof.crossover(symroof.load_model("llama-2-7b").decode(symbolic=True), "up_proj", over="batch")
assert simplify(b_star - E / K * dense.formula.subs(f, f_e)) == 0
assert simplify(slack.subs(X, K * b) / (K * b) - slack.subs({X: 1, K: 1, b: 1})) == 0
print("b* =", E / K * dense.formula.subs(f, f_e))
print(f"{'model':20}{'w':>3}{'E/K':>6}{'b0':>9}{'b_E':>10}  first batch  experts missed there, routing uniform")
for name in ("mixtral-8x7b-v0.1", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-120b"):
    model = symroof.load_model(name)
    step = model.decode(symbolic=True).symbolic
    operators = {operator.name: operator for operator, _ in step if operator.name.endswith("expert_up_proj")}
    called, operator = operators.popitem()
    here = model.dimensions | at_h100 | {a: Integer(16), w: Integer(model.weight_bits)}
    assert step.definitions[X].doit() == E * (1 - (1 - K / E) ** b)
    slack = operator.flop_count * BW - operator.byte_count() * P
    (alone,) = solve(slack.subs({X: 1, K: 1}).xreplace(here), b)
    (root,) = solve(slack.subs(X, E).xreplace(here), b)
    spread = here[E] / here[K]
    assert root == alone * spread > spread, "on the branch X = E"
    bits = {"weight_bits": model.weight_bits, "activation_bits": 16, "kv_bits": 16}
    answer = symroof.crossover(model.decode(seq_len=1, **bits), called, over="batch", hardware=H100, ceilings="classic")
    base = 1 - 1 / spread
    closed = root - LambertW(root * log(base) * base**root) / log(base)
    assert abs((closed - answer.value_expr).evalf(30, maxn=400)) < Rational(1, 10**30)
    assert 0 < (root - answer.value_expr).evalf(30, maxn=400) < root * base ** int(answer.value_expr)
    batch = answer.first_integer
    found = [
        symroof.analyze(model.decode(batch=int(n), seq_len=1, **bits), H100, ceilings="classic")[called].bound
        for n in (1, spread, batch - 1, batch)
    ]
    assert found == ["memory", "memory", "memory", "compute"]
    missed = float(here[E] * (1 - 1 / spread) ** batch)
    print(f"{name:20}{model.weight_bits:>3}{spread!s:>6}{float(alone):9.2f}{float(root):10.2f}{batch!s:>13}  {missed:.1e}")

# %% [markdown]
# Whether experts are counted as expected or at most changes next to nothing at $b^*$, where next to none is missed,
# $E q^{b^*} \le E e^{-K b^*/E}$ of them; at small batches it changes the bytes by up to $1 / (1 - 1/e) = 1.58$.
#
# **What it means.** Attention's bound in decode is settled by how many query heads share a byte of cache, a constant
# of the model, and by the ridge, a constant of the device; batch and context do not enter but through the short
# run-up. No group in `models/` reaches half the ridge of an A100; latent attention passes it, and DeepSeek-V3 falls
# on one side on an H100 and on the other on an H200. In bytes, a group of $g$ divides the cache by $g$; DeepSeek-V3's
# latent divides that of its 128 heads by 57; a window or a state takes the context out. Experts save FLOPs, and
# traffic at a small batch, and need a batch $E / K$ times larger before their weights are used well.
#
# Caveats. States are counted at the cache's width; implementations often keep them at 32 bits, which doubles them.
# The FLOPs are those of the recurrence. Contexts beyond what a model was published for are arithmetic, not a claim
# about it.
#
# Sources: Shazeer (2019), arXiv:1911.02150 (multi-query); Ainslie et al. (2023), arXiv:2305.13245 (grouped-query);
# DeepSeek-AI (2024), arXiv:2405.04434, section 2.1, and arXiv:2412.19437 (latent); Gu and Dao (2023),
# arXiv:2312.00752 (Mamba); Lieber et al. (2024), arXiv:2403.19887 (Jamba); Yang, Kautz and Hatamizadeh (2024),
# arXiv:2412.06464 (gated delta rule); Kimi team (2025), arXiv:2507.20534, for 64 heads. Derivation 3 has the batch's
# part in detail.
