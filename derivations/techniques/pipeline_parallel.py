# %% [markdown]
# # Pipeline parallelism
#
# n stages of `L / n` layers; m micro-batches of `b / m` sequences follow one another. A stage is busy for m of
# `m + n - 1` slots, and reads its weights in each. Memory and work are divided, weight traffic is not.

# %%
from sympy import Integer, limit, oo, simplify, symbols

import symroof
from symroof import technique

m = symroof.symbols.m_p
n = symroof.symbols.n_p

step = symroof.load_model("llama-2-7b").prefill(symbolic=True)
staged = step.apply(technique("pipeline-parallel"))

# %% [markdown]
# **The bubble.** The share of a flushed step in which a device is idle is $(n - 1) / (m + n - 1)$.

# %%
bubble = simplify(1 - staged.symbolic.ceilings.compute)
assert simplify(bubble - (n - 1) / (m + n - 1)) == 0
print("idle:", bubble)

# %% [markdown]
# **What moves.** Over a step a layer does the FLOPs of the whole batch and reads its weights m times: its intensity is that
# of a batch of `b / m`. A device has `L / n` of them.

# %%
one, many = step["up_proj"], staged["up_proj"]
assert many.flop_count == one.flop_count
assert simplify(many.byte_count("weight") - m * one.byte_count("weight")) == 0
assert simplify(many.byte_count("activation") - one.byte_count("activation")) == 0

# %% [markdown]
# **Theorem.** With layers of $F$ seconds of compute and $B$ seconds of weights, a flushed step takes
# $T = (m + n - 1) \max(F / m, B) / n$. Where weights decide that is never below $B$: a pipeline shortens no such step, whatever
# n and m. Where compute decides at every micro-batch ($F \ge m B$) it pays for all $m, n > 1$, and at most n times.
#
# *Proof.* $(m + n - 1) / n \ge 1$ as $m \ge 1$. $(m + n - 1) / (m n) < 1 \iff (m - 1)(n - 1) > 0$; its limit is $1 / n$. ∎
#
# **Steady decode.** Steps that follow one another take $\max(m, n)$ slots: at $m = n$ no device is idle, and
# $T = \max(F / n, B)$. All a pipeline gains in decode is beside the weights.

# %%
F, B = symbols("F B", positive=True)
by_compute = (m + n - 1) / n * F / m
assert limit(by_compute, m, oo) == F / n
assert simplify((F - by_compute) * m * n / F - (m - 1) * (n - 1)) == 0
assert simplify((m + n - 1) / n * B - B - (m - 1) / n * B) == 0

# %% [markdown]
# Both in numbers, against the analysis of whole steps: prefill gains, a flushed decode at batch 1 does not.

# %%
device = "a100-sxm-80gb"
prompt = symroof.load_model("llama-2-7b").prefill(batch=16, seq_len=2048)
alone = symroof.analyze(prompt, device).total.time_expr
previous = Integer(0)
for pieces in (1, 2, 4, 8, 16):
    at = symroof.analyze(prompt.apply(technique(f"pipeline-parallel:degree=4,micro_batches={pieces}")), device)
    gain = alone / at.total.time_expr
    bound = Integer(4) * pieces / (pieces + 3)
    assert previous < gain < bound
    assert (gain > 1) == (pieces > 1)
    previous = gain
    print(f"prefill, 4 stages, {pieces} micro-batches: {float(gain):.3f} times as fast, at most {float(bound):.3f}")
decode = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=128)
staged = decode.apply(technique("pipeline-parallel:degree=4,micro_batches=1"))
assert symroof.analyze(staged, device).total.time_expr > symroof.analyze(decode, device).total.time_expr

# %% [markdown]
# Sources: Huang et al. (2018), GPipe, arXiv:1811.06965; Narayanan et al. (2021), arXiv:2104.04473, section 2.2.
