# %% [markdown]
# # When does a linear layer turn compute-bound?
#
# A linear layer multiplies `b` vectors of `d` numbers by a `d x f` matrix. It is compute-bound where
# its FLOPs take longer at the peak `P` than its bytes at the bandwidth `BW`:
# $F / P \ge B / BW$. Everything below follows from one einsum.

# %%
from sympy import Integer, Poly, Rational, expand, fraction, limit, oo, simplify, symbols, together

import symroof
from symroof.symbols import BW, P, a, b, d, f, w

step = symroof.load_model("llama-2-7b").decode(symbolic=True)
layer = step["up_proj"]
F, B = layer.flops.magnitude, layer.traffic.magnitude
print("F =", F, "FLOP")
print("B =", B, "byte")

# %% [markdown]
# All letters are positive, so the bound is the sign of the polynomial $F \cdot BW - B \cdot P$.
# In the batch it has degree one, and no batch makes it zero if its slope is not positive.

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
crossover = simplify(-constant / slope)
claimed = P * w * d * f / (16 * BW * d * f - P * a * (d + f))
assert simplify(crossover - claimed) == 0
assert simplify((F * BW - B * P).subs(b, claimed)) == 0, "exactly zero at the crossover"
print("b* =", claimed)

# %% [markdown]
# As the layer grows, its activations no longer count: $b^* \to \frac{P}{BW} \cdot \frac{w}{16}$, the
# ridge point times the weight bits over 16. Weights of 4 bits turn compute-bound at a quarter of the
# batch.

# %%
n = symbols("n", positive=True)
tends_to = limit(claimed.subs({d: n, f: n}), n, oo)
assert simplify(tends_to - P / BW * w / 16) == 0
print("b* of a large layer ->", tends_to)

# %% [markdown]
# On a device: an A100 80 GB at FP16 has its ridge at 312000/2039, about 153 FLOP/byte.

# %%
device = symroof.load_hardware("a100-sxm-80gb")
values = step.values | symroof.load_model("llama-2-7b").dimensions
values |= {P: device.peak("fp16").magnitude, BW: device.bandwidth.magnitude, w: Integer(16), a: Integer(16)}
exact = claimed.xreplace(values)
print("b* of Llama-2-7b's up_proj on the A100 80 GB =", exact, "=", float(exact))
assert isinstance(exact, Rational)
assert exact > device.ridge("fp16").magnitude, "activations are traffic too"

# The first whole batch on the far side is compute-bound, the one before it is not.
first = int(exact) + 1
for batch, bound in ((first - 1, "memory"), (first, "compute")):
    here = symroof.load_model("llama-2-7b").decode(batch=batch, seq_len=1, weight_bits=16, activation_bits=16, kv_bits=16)
    assert symroof.analyze(here, device)["up_proj"].bound == bound
print("first compute-bound batch:", first)

# %% [markdown]
# Source: Williams, Waterman and Patterson (2009), doi:10.1145/1498765.1498785, for the roofline.

# %%
assert fraction(together(claimed))[1].subs({a: 0}) == 16 * BW * d * f
