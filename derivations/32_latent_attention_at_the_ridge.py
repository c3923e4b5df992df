# %% [markdown]
# # 32. Latent attention stands at the ridge, and a split pushes it back
#
# Multi-head latent attention was drawn so that decoding would compute as much as it reads. Does it? All query heads
# of a token, and all the tokens that one step verifies, share a single latent: $h s$ rows meet every byte of cache.
# DeepSeek's note on its kernel puts DeepSeek-V3 on the ridge of an H800; exactly, it stands 6 % below.

# %%
from sympy import Integer, Rational, ceiling, factor, floor, limit, oo, simplify, solve

import symroof

BW, P, a, b, c, gamma, h, n_p, r, r_kv, t = symroof.symbols.named("BW P a b c gamma h n_p r r_kv t")

model = symroof.load_model("deepseek-v3")
verified = model.decode(symbolic=True, flash_attention=True).apply("speculative:acceptance=0.8,draft_cost=0.1")
core = verified.symbolic["moe.fused_attention"]
flops, moved = core.contraction_flop_count, core.byte_count()
print("F =", factor(flops), "\nB =", factor(moved))

# %% [markdown]
# This is the library's own operator, absorbed, in a step that verifies $s = \gamma + 1$ tokens of each of $b$ sequences.
#
# **Theorem.** Let $\rho = P / BW$. As the context grows, the intensity of the two contractions tends to
# $$I = \frac{16}{c}\, h s\, \frac{2 r_{kv} + r}{r_{kv} + r},$$
# whatever the batch. At two bytes per element ($c = 16$) attention turns compute-bound at some context if and only if
# $$h s > \rho\, \frac{r_{kv} + r}{2 r_{kv} + r}.$$
#
# *Proof.* The batch is a factor of both, and divides out. Of what is left, FLOPs and bytes are polynomials of degree one in $t$;
# the quotient tends to that of their leading coefficients, and rises towards it. ∎

# %%
s = gamma + 1
intensity = simplify(flops / moved)
assert b not in intensity.free_symbols
bound = 16 * h * s * (2 * r_kv + r) / (c * (r_kv + r))
assert simplify(symroof.limit(intensity, t) - bound) == 0
slope = factor(intensity.diff(t).subs(gamma, 0))
assert slope.is_positive, "one token at a time: it rises all the way"
least = solve(bound.subs(c, 16) - P / BW, h)[0] * s
assert simplify(least - P / BW * (r_kv + r) / (2 * r_kv + r)) == 0
print("compute-bound at some context if and only if h s >", factor(least))

# %% [markdown]
# With several tokens the rise need not be monotone, but no context passes the bound: for up to four tokens what the limit leaves
# over has no root beyond the first context.

# %%
above = factor(bound - intensity)
for drafted in range(4):
    left = factor(above.subs(gamma, drafted).xreplace(model.dimensions).subs({a: 16, c: 16}))
    roots = solve(left.as_numer_denom()[0], t)
    assert all(root < drafted + 1 for root in roots if root.is_real)
    assert left.subs(t, drafted + 1).is_positive

# %% [markdown]
# ## The published numbers
#
# The note counts $2 h s$ FLOPs per byte, with the H800 at 865 TFLOP/s (throttled) and 3.35 TB/s: compute-bound from
# $h s \ge \frac12 \cdot 865 / 3.35 = 129$, "128". The approximation drops $r$; exactly the factor is $1088 / 576 = 1.889$ instead of 2.

# %%
H800 = {P: Rational(865 * 10**12), BW: Rational(335 * 10**10)}
approximate = (P / (2 * BW)).xreplace(H800)
least = simplify(least)
exact = least.xreplace(H800).xreplace(model.dimensions)
print(f"approximate: h s >= {float(approximate):.1f}; exact: {float(exact):.1f}, first whole number {ceiling(exact)}")
assert (f"{float(approximate):.1f}", f"{float(exact):.1f}", ceiling(exact)) == ("129.1", "136.7", 137)
short = 1 - model.dimensions[h] / exact
print(f"DeepSeek-V3, h = {model.dimensions[h]}, one token: {100 * float(short):.1f} % short of the ridge; two tokens are past it")
assert f"{100 * float(short):.0f}" == "6"
assert model.dimensions[h] < exact < 2 * model.dimensions[h]
at = bound.xreplace(model.dimensions).subs({c: 16, gamma: 0})
assert at == Rational(2176, 9)

# %% [markdown]
# Brute force: the first number of heads at which some context up to $2^{40}$ is compute-bound, by integers alone.

# %%
rho = H800[P] / H800[BW]


def intense(heads, context, tokens=1):
    """FLOPs over bytes of the operator, all symbols numbers."""
    here = {**model.dimensions, h: Integer(heads), t: Integer(context), gamma: Integer(tokens - 1), b: Integer(1)}
    return (flops / moved).subs({a: 16, c: 16}).xreplace(here)


first = next(heads for heads in range(1, 1000) if any(intense(heads, 2**power) > rho for power in (10, 20, 30, 40)))
assert first == 137
assert intense(128, 2**40) < rho < intense(128, 2**20, tokens=2)

# %% [markdown]
# The data sheet's 989.5 TFLOP/s would ask for 157 heads. An H20, with its 148 TFLOP/s under 4 TB/s, asks for 20; a B200 for
# more than DeepSeek-V3 has as well.

# %%
ONE = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
print(f"{'device':14}{'ridge':>9}{'h s from':>10}   DeepSeek-V3 with 1, 2, 3 tokens")
asked = {}
for name in ("h800-sxm", "h100-sxm", "h200-sxm", "h20", "b200", "mi300x", "a100-sxm-80gb"):
    device = symroof.load_hardware(name)
    ridge = device.peak("bf16").exact / device.bandwidth_expr
    needed = least.subs(P, ridge * BW).xreplace(model.dimensions)
    asked[name] = floor(needed) + 1
    bounds = ["compute" if model.dimensions[h] * tokens > needed else "memory" for tokens in (1, 2, 3)]
    print(f"{name:14}{float(ridge):9.1f}{asked[name]!s:>10}   {', '.join(bounds)}")
assert (asked["h800-sxm"], asked["h20"]) == (157, 20)

# %% [markdown]
# ## A split divides the heads, not the latent
#
# **Corollary.** Tensor parallelism over $n$ devices leaves the cache whole on each and divides the heads: the bound falls to
# $I / n$. A device is memory-bound at every context from $n \ge h s\, (2 r_{kv} + r) / (\rho\, (r_{kv} + r))$ on.

# %%
split = model.decode(symbolic=True, flash_attention=True).apply("tensor-parallel")
part = split.symbolic["moe.fused_attention"]
shared = simplify(symroof.limit(part.contraction_flop_count / part.byte_count(), t))
assert simplify(shared - bound.subs(gamma, 0) / n_p) == 0
assert simplify(limit(part.byte_count() / t, t, oo) - limit(moved.subs(gamma, 0) / t, t, oo)) == 0, "as many bytes of cache on each"
for tokens in (1, 2, 4):
    degree = next(n for n in (1, 2, 4, 8, 16) if bound.xreplace(model.dimensions).subs({c: 16, gamma: tokens - 1}) / n <= rho)
    print(f"{tokens} tokens a step: memory-bound again on {degree} devices")

# %% [markdown]
# **What it means.** Latent attention makes decode's attention as intense as a product with $h s$ rows, the only kind of
# attention whose bound a designer places with the number of heads alone. On the devices it was made for it stands a little
# below the ridge with one token a step, and beyond it as soon as a second token is verified: multi-token prediction is what
# tips it. Tensor parallelism undoes it, which is why such models run data-parallel attention.
#
# Caveats. Contractions only; softmax adds $5 h s t$ FLOPs, which run on other units
# (derivation 15 counts them). The new tokens see each other causally; that vanishes as the context grows.
#
# Sources: DeepSeek-AI (April 2025), *A Deep Dive Into The Flash MLA FP8 Decoding Kernel* and its predecessor in
# github.com/deepseek-ai/FlashMLA, docs (865 TFLOP/s, 3.35 TB/s, $2 h s$, 128); DeepSeek-AI (2024), arXiv:2412.19437 (sizes).
