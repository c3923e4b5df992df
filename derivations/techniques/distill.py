# %% [markdown]
# # Distillation: a smaller model on the same inputs
#
# The student's step is a step like any other. What it gains is a ratio of two models, different in each corner of the
# roofline: parameters at small batches, FLOPs at large ones, cache at long contexts.

# %%
from sympy import Rational

import symroof
from symroof import payoff

DEVICE = "a100-sxm-80gb"
teacher, student = (symroof.load_model(name) for name in ("llama-3.1-8b", "llama-3.2-1b"))
distilled = symroof.techniques.Distill(model="llama-3.2-1b")


def sizes(batch, context, **more):
    """The step before and after."""
    before = teacher.decode(batch=batch, seq_len=context, **more).with_widths()
    return before, before.apply(distilled)


def seconds(step):
    """Time of the step."""
    return symroof.analyze(step, DEVICE).total.time_expr


# %% [markdown]
# **Theorem 1.** The speed-up $T / T'$ lies between the least and the greatest of the operators' ratios of time, matched
# kind by kind with their counts; where each of these is at least 1 the student never loses. Where both steps are
# memory-bound throughout it is $B / B'$, where both are compute-bound throughout $F / F'$.
#
# *Proof.* $T = \sum n_i t_i$ and $T' = \sum n'_i t'_i$ over the same operators: a ratio of sums lies between the least and
# the greatest ratio of their terms. ∎

# %%
assert {one.name for one, _ in sizes(1, 16)[0]} == {one.name for one, _ in sizes(1, 16)[1]}
for batch, context in ((1, 16), (1, 8192), (64, 1024), (4096, 16)):
    before, after = sizes(batch, context)
    each = [{one.name: one.count * one.time_expr for one in symroof.analyze(step, DEVICE)} for step in (before, after)]
    ratios = [each[0][name] / each[1][name] for name in each[0]]
    gain = seconds(before) / seconds(after)
    assert 1 <= min(ratios) <= gain <= max(ratios)
    print(f"batch {batch}, context {context}: {float(gain):.2f} times faster")

# %% [markdown]
# **Theorem 2 (the corners of decode).** At batch 1 and a short context the bytes are the weights, less the rows of the
# embedding not looked up. As the context grows $B / B'$ with FlashAttention tends to the ratio of the cache per token, $L k e$.

# %%
before, after = sizes(1, 1, flash_attention=True)
assert all(one.bound == "memory" for step in (before, after) for one in symroof.analyze(step, DEVICE))
assert seconds(before) / seconds(after) == before.graph.byte_count() / after.graph.byte_count()
weights = [before.graph.byte_count("weight"), after.graph.byte_count("weight")]
print(f"batch 1, one token: {float(seconds(before) / seconds(after)):.3f}; ratio of weights read {float(weights[0] / weights[1]):.3f}")
caches = Rational(teacher.kv_bytes_per_token.magnitude / student.kv_bytes_per_token.magnitude)
assert caches == Rational(32 * 8 * 128, 16 * 8 * 64)
long = sizes(1, 10**9, flash_attention=True)
assert abs(seconds(long[0]) / seconds(long[1]) - caches) < Rational(1, 1000)
print(f"as the context grows it tends to the ratio of the caches, {caches}")

# %% [markdown]
# **Where it pays, and stops.** A student with fewer FLOPs and bytes in every operator pays at every batch; the exact
# partition says so. It stops nowhere on the roofline: what bounds it, accuracy, is no part of this model.

# %%
open_batch = teacher.decode(seq_len=1024).with_widths()
found = payoff(open_batch, open_batch.apply(distilled), over="batch", hardware=DEVICE)
assert [one.bound for one in found.intervals] == ["pays"]
print(
    "Llama-3.1-8B to 3.2-1B:",
    found.sentence,
    "; by batch:",
    {batch: round(float(found.speedup_expr(batch)), 2) for batch in (1, 16, 256, 4096)},
)

# %% [markdown]
# Hinton, Vinyals, Dean (2015), arXiv:1503.02531. Survey, section 3.3: no roofline is given there.
