# %% [markdown]
# # 12. A whole generation in closed form
#
# A prompt of $S$ tokens is read, which gives the first of $n$ tokens; $m = n - 1$ decode steps give the others, one by one;
# step $i$ looks back on $S + i$ tokens, the one it reads included. The sum of all $m$ steps is a step at the mean context,
# times $m$: exactly, as long as no operator changes its bound on the way. Where one does, the sum splits there, and the
# mean alone says too little.

# %%
from matplotlib.figure import Figure
from sympy import Add, Integer, Symbol, bernoulli, diff, expand, factor, simplify

import symroof
from symroof import sum_over

S, n, t = symroof.symbols.named("S n t")

SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
model = symroof.load_model("llama-2-7b")
letters = model.decode(symbolic=True).symbolic
for operator, _ in letters:
    assert diff(operator.flop_count, t, 2) == 0 == diff(operator.byte_count(), t, 2)
print("every operator's FLOPs and bytes are lines in t:", letters["qk_matmul"].byte_count())

# %% [markdown]
# **Lemma** (Faulhaber). $\sum_{t=l}^{u} t^p = \frac{B_{p+1}(u + 1) - B_{p+1}(l)}{p + 1}$ with the Bernoulli
# polynomials. *Proof.* $B_{p+1}(t + 1) - B_{p+1}(t) = (p + 1)\,t^p$, so the sum telescopes. ∎
# For a line $\alpha + \beta t$ this is $(u - l + 1)\,(\alpha + \beta\,\frac{l + u}{2})$: the mean of the first and the
# last, times how many there are.

# %%
alpha, beta, low, high = (Symbol(name, positive=True) for name in ("alpha", "beta", "l", "u"))
for power in range(5):
    assert expand(bernoulli(power + 1, t + 1) - bernoulli(power + 1, t) - (power + 1) * t**power) == 0
    assert sum_over(t**power, t, Integer(3), Integer(9)) == sum(i**power for i in range(3, 10))
line = sum_over(alpha + beta * t, t, low, high)
assert expand(line - (high - low + 1) * (alpha + beta * (low + high) / 2)) == 0
print("sum of a line:", factor(line))

# %% [markdown]
# **Theorem.** Let $B(t) = B_0 + B_1 t$ be the bytes of a decode step and $T(t)$ its time. All $m = n - 1$ steps move
# $$m B_0 + B_1\left(m S + \frac{m (m + 1)}{2}\right)$$
# bytes. $T$ is convex and made of lines $\alpha_j + \beta_j t$, one per regime; the $m$ steps take
# $$\sum_j m_j (\alpha_j + \beta_j \bar t_j) \;\ge\; m\,T\!\left(S + \frac{m + 1}{2}\right),$$
# where $m_j$ of the contexts $S + 1 \ldots S + m$ are on regime $j$, with mean $\bar t_j$. On one regime both agree.
#
# *Proof.* Each operator takes the larger of two lines in $t$, $F / P$ and $B / BW$: a convex function made of lines,
# and so is the sum of such. The contexts on a regime are consecutive whole numbers, so the lemma sums them; one on
# the border may go to either side, as time agrees there. The inequality is Jensen's. ∎

# %%
B = letters.byte_count()
B_1, B_0 = B.expand().coeff(t), B.expand().coeff(t, 0)
m = n - 1
traffic = m * B_0 + B_1 * (m * S + m * (m + 1) / 2)
assert simplify(sum_over(B, t, S + 1, S + m) - traffic) == 0
assert simplify(traffic - m * B.subs(t, S + (m + 1) / 2)) == 0, "m steps at the mean context"
print("B0 =", factor(B_0), "\nB1 =", factor(B_1))

# %% [markdown]
# Two devices on which all steps are memory-bound, so that there is one regime. Checked by running every step through
# `symroof.analyze` and adding up.


# %%
def added(model, prompt, tokens, device, **inputs):
    """Seconds and bytes of the decode steps, one after the other; the first token is the prompt's."""
    steps = (model.decode(seq_len=prompt + i, **inputs) for i in range(1, tokens))
    totals = [symroof.analyze(step, device).total for step in steps]
    return Add(*(one.time_expr for one in totals)), Add(*(one.byte_count() for one in totals))


for device in ("a100-sxm-80gb", "h100-sxm"):
    found = symroof.generation(model, prompt=512, tokens=33, hardware=device, batch=1, **SIXTEEN)
    assert (found.decode_time_expr, found.decode_traffic_expr) == added(model, 512, 33, device, batch=1, **SIXTEEN)
    assert simplify(found.traffic_formula - traffic.xreplace(model.decode(batch=1, **SIXTEEN).values)) == 0
    prefill = symroof.analyze(model.prefill(batch=1, seq_len=512, **SIXTEEN), device).total
    assert (found.prefill_time_expr, found.prefill_traffic_expr) == (prefill.time_expr, prefill.byte_count())
    (only,) = found.parts
    assert found.decode_time_expr == 32 * only.step_time_expr.subs(t, 512 + Integer(33) / 2)
    print(f"{device}: prefill {float(found.prefill_time_expr):.5f} s, decode {found.decode_time_expr} s", end=" ")
    print(f"= {float(found.decode_time_expr):.5f} s, {found.decode_traffic_expr} bytes")

# %% [markdown]
# A bound that does change: ChatGLM3-6b shares each KV head among 16 query heads. With FlashAttention and a cache of 4
# bits its attention has up to 64 FLOP/byte; the ridge of an EPYC 9654 is 32. Attention turns compute-bound at 62.8
# tokens, where the slope of time about doubles. Without FlashAttention the border is exactly 128, a whole number.

# %%
glm, cpu = symroof.load_model("chatglm3-6b"), "epyc-9654"
plain = {"batch": 64, "weight_bits": 16, "activation_bits": 16, "kv_bits": 4}
flash = plain | {"flash_attention": True}
over_context = symroof.regimes(glm.decode(**flash), over="seq_len", hardware=cpu)
before, after = (regime.time_expr for regime in over_context.regimes)
assert over_context.regimes[1].compute_bound - over_context.regimes[0].compute_bound == {"fused_attention"}
print("knee at", *over_context.knees_expr, "=", float(over_context.knees_expr[0]), "tokens")
print("slopes:", diff(before, t), "and", diff(after, t), "s per token; ratio", float(diff(after, t) / diff(before, t)))
assert symroof.regimes(glm.decode(**plain), over="seq_len", hardware=cpu).knees_expr == (128,)

for inputs, prompt, tokens, parts in (
    (flash, 50, 25, 2),  # 62 is the last context before the knee, 63 the first after it
    (flash, 61, 2, 1),
    (flash, 62, 2, 1),
    (plain, 120, 17, 2),  # 128 is the knee itself
    (plain, 127, 2, 1),
    (plain, 128, 2, 1),
):
    found = symroof.generation(glm, prompt=prompt, tokens=tokens, hardware=cpu, **inputs)
    assert (found.decode_time_expr, found.decode_traffic_expr) == added(glm, prompt, tokens, cpu, **inputs)
    assert len(found.parts) == parts
    assert sum(part.last - part.first + 1 for part in found.parts) == tokens - 1
    print(prompt, "+", tokens, "tokens: contexts", *(f"{part.first}-{part.last}" for part in found.parts), "agree")

# %% [markdown]
# Over 4000 steps, against a plain loop over the larger of the two lines (time is convex), the mean context, and the
# first regime carried on.

# %%
found = symroof.generation(glm, prompt=32, tokens=4001, hardware=cpu, **flash)
assert found.decode_time_expr == sum(max(before.subs(t, i), after.subs(t, i)) for i in range(33, 4033))
at_mean = 4000 * over_context.time_expr(32 + Integer(4001) / 2)
carried_on = sum_over(before, t, Integer(33), Integer(4032))
assert carried_on < at_mean < found.decode_time_expr
for words, seconds in (("exact", found.decode_time_expr), ("mean context", at_mean), ("first regime", carried_on)):
    print(f"{words}: {seconds} s = {float(seconds):.6f} s")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="context (tokens)", ylabel="time of a decode step (ms)", xlim=(1, 256))
knee, end = over_context.knees_expr[0], Integer(256)
for line, ends, style, label in (
    (before, (1, knee), {"color": "#0072B2"}, "attention memory-bound"),
    (after, (knee, end), {"color": "#D55E00", "linewidth": 2.5}, "attention compute-bound"),
    (before, (knee, end), {"color": "#0072B2", "linestyle": "--"}, "first regime carried on"),
):
    axes.plot([float(x) for x in ends], [1000 * float(line.subs(t, x)) for x in ends], label=label, **style)
axes.plot(float(knee), 1000 * float(before.subs(t, knee)), "o", color="black", label="knee")
axes.legend(loc="upper left", frameon=False)
symroof.show(figure)

# %% [markdown]
# **What it means.** On a data-centre GPU decode stays on one regime, so "m steps at the mean context" is exact. The
# cache costs $m S + m^2 / 2$ reads of a token's rows on top of $m$ reads of the weights. On a device with a low ridge
# and a narrow cache shared by many heads, look for a knee first: the mean is then a lower bound (a close one), and
# one regime carried on can be far off.
#
# Source: Graham, Knuth and Patashnik, *Concrete Mathematics* (1994), section 6.5, for Faulhaber's formula.
