# %% [markdown]
# # 2. When does a linear layer turn compute-bound?
#
# A linear layer multiplies `b` vectors of `d` numbers by a `d x f` matrix. It is memory-bound while the
# matrix is most of what it moves, and turns compute-bound at one batch, which for a large layer is the
# ridge point times the weight bits over 16. Very small layers never do. Everything follows from one einsum.

# %%
from matplotlib.figure import Figure
from sympy import Integer, Poly, Rational, ceiling, expand, simplify

import symroof

BW, P, a, b, d, f, s, w = symroof.symbols.named("BW P a b d f s w")

llama = symroof.load_model("llama-2-7b")
layer = llama.decode(symbolic=True)["up_proj"]
F, B = layer.flop_count, layer.byte_count()
print("F =", F, "FLOP, B =", B, "byte")

# %% [markdown]
# All letters are positive, so the bound is the sign of the polynomial $F \cdot BW - B \cdot P$.
# In the batch it has degree one.

# %%
slack = Poly(expand(F * BW - B * P), b)
slope, constant = slack.all_coeffs()
print("F BW - B P =", slack.as_expr())
assert slack.degree() == 1
assert constant == -d * f * w * P / 8, "at b = 0 only the weights move: memory-bound"

# %% [markdown]
# **Theorem.** The layer turns compute-bound at
# $$b^* = \frac{P w d f}{16\,BW\,d f - P a (d + f)}$$
# if the denominator is positive, and is memory-bound at every batch otherwise.
#
# *Proof.* The constant term is negative. A line that starts below zero crosses it once if its slope is
# positive, at minus the constant over the slope, and never otherwise. ∎

# %%
claimed = P * w * d * f / (16 * BW * d * f - P * a * (d + f))
assert simplify(-constant / slope - claimed) == 0
assert simplify(slack.as_expr().subs(b, claimed)) == 0, "exactly zero at the crossover"

answer = symroof.crossover(llama.decode(symbolic=True), "up_proj", over="batch")
assert simplify(answer.formula - claimed) == 0
assert (answer.verdict, answer.below, answer.solution.otherwise) == ("crosses", "memory", "always-memory")
print("b* =", answer.formula, "if", answer.condition)

# %% [markdown]
# As the layer grows, its activations no longer count: $b^* \to \frac{P}{BW} \cdot \frac{w}{16}$. For a
# finite layer it is higher. In prefill the rows of the matrix product are the $b\,s$ tokens of all prompts:
# the same formulas with $b\,s$ in the place of $b$, so $b\,s$ crosses where $b$ does.

# %%
large = answer.tends_to(d, f)
assert simplify(large - P / BW * w / 16) == 0
assert simplify(1 / large - 1 / claimed - a * (d + f) / (w * d * f)) == 0, "so b* is above its limit"
print("b* of a large layer ->", large)

prompt = llama.prefill(symbolic=True)["up_proj"]
assert simplify(prompt.flop_count - F.subs(b, b * s)) == 0 == simplify(prompt.byte_count() - B.subs(b, b * s))
over_prompt = symroof.crossover(llama.prefill(symbolic=True), "up_proj", over="seq_len").formula
assert simplify(over_prompt * b - claimed) == 0

# %% [markdown]
# Two devices and three weight widths, W16, W8 and W4, with 16-bit activations: the matrix product runs in
# 16 bits in all three, so one peak applies. Brute force: the first batch that `analyze` calls compute-bound,
# and the one before it; then as many tokens of a single prompt.

# %%
devices = [symroof.load_hardware(name) for name in ("a100-sxm-80gb", "h100-sxm")]
for device in devices:
    for bits in (16, 8, 4):
        widths = {"weight_bits": bits, "activation_bits": 16, "kv_bits": 16}
        here = symroof.crossover(llama.decode(**widths), "up_proj", over="batch", hardware=device)
        known = {P: device.peak("fp16").magnitude, BW: device.bandwidth.magnitude, w: Integer(bits), a: Integer(16)}
        assert here.value_expr == claimed.xreplace(known | llama.dimensions)
        assert isinstance(here.value_expr, Rational)
        assert here.value_expr > large.xreplace(known) == device.ridge("fp16").magnitude * bits / 16
        first = int(ceiling(here.value_expr))
        assert here.first_integer == first
        for tokens, bound in ((first - 1, "memory"), (first, "compute")):
            steps = [llama.decode(batch=tokens, seq_len=1, **widths), llama.prefill(batch=1, seq_len=tokens, **widths)]
            for step in steps:
                placed = symroof.analyze(step, device)["up_proj"]
                assert (placed.bound, placed.data_type) == (bound, "fp16")
        print(f"{device.name} W{bits}: b* = {here.value_expr} = {float(here.value_expr):.3f}, first batch {first}")

# %% [markdown]
# The condition can fail. It says that $\frac{d f}{d + f} > \frac{P}{BW} \cdot \frac{a}{16}$: at 16 bits, a square layer
# must be wider than twice the ridge, 307 on the A100 and 591 on the H100. The 384 x 384 query projection of
# DiT-S crosses on the first and never on the second. The width of its weights plays no part in that, nor
# does its bias, which only adds to the constant.

# %%
dit = symroof.load_model("dit-s-2")
for device, verdict in zip(devices, ("crosses", "always-memory"), strict=True):
    for bits in (16, 4):
        widths = {"weight_bits": bits, "activation_bits": 16, "kv_bits": 16}
        narrow = symroof.crossover(dit.prefill(seq_len=1, **widths), "q_proj", over="batch", hardware=device)
        assert narrow.verdict == verdict
        huge = symroof.analyze(dit.prefill(batch=10**9, seq_len=1, **widths), device)["q_proj"]
        assert huge.bound == ("compute" if verdict == "crosses" else "memory")
    print(device.name, "q_proj of DiT-S:", verdict)

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot()
known = {P: devices[1].peak("fp16").magnitude, BW: devices[1].bandwidth.magnitude, a: Integer(16)}
for bits, color, line in zip((16, 8, 4), ("#0072B2", "#D55E00", "#009E73"), ("-", "--", "-."), strict=True):
    sizes = [Integer(int(640 * 2 ** (step / 8))) for step in range(52)]
    batches = [float(claimed.xreplace(known | {w: Integer(bits), d: size, f: size})) for size in sizes]
    axes.plot(sizes, batches, color=color, linestyle=line, label=f"W{bits}")
    axes.axhline(float(large.xreplace(known | {w: Integer(bits)})), color=color, linestyle=":", linewidth=0.9)
axes.set(xscale="log", yscale="log", xlabel="width of a square layer, d = f", ylabel="b* on the H100 [tokens]")
axes.legend(title="dotted: the limit", fontsize=8, title_fontsize=8)
symroof.show(figure)

# %% [markdown]
# **What it means.** Quantizing weights to 4 bits pays in full only up to about a quarter of the 16-bit crossover:
# from there on the layer is compute-bound and its time no longer depends on the weight width. A prompt of a
# few hundred tokens is past the crossover by itself; decode needs as many sequences.
#
# Source for the roofline: Williams, Waterman and Patterson (2009), doi:10.1145/1498765.1498785.
