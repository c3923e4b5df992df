# %% [markdown]
# # Channel pruning: always a gain, never more than 1 / chi
#
# What is left out is left out of FLOPs, weights and cache alike, and what remains is dense.

# %%
from sympy import cancel, factor, limit, oo, simplify

import symroof
from symroof import payoff, technique

a, b, chi, d, f, w = symroof.symbols.named("a b chi d f w")

DEVICE = "a100-sxm-80gb"
model = symroof.load_model("llama-2-7b")
step = model.decode(symbolic=True)
old, new = (one["up_proj"] for one in (step, step.apply(symroof.techniques.PruneChannels())))
print("FLOPs:", new.flop_count, "; bytes:", factor(new.byte_count()))

# %% [markdown]
# **Theorem 1.** A layer that keeps a share $\chi$ of its channels does $\chi F$ operations and moves
# $(\chi d f w + b (d + \chi f) a)/8$ bytes. Both fall for every $\chi < 1$ under the same roof, so it always pays: by
# $1/\chi$ compute-bound, by less memory-bound, as the $b d a / 8$ bytes of its input stay. Intensity falls.
#
# *Proof.* $B - B' = (1 - \chi) f (d w + b a)/8 > 0$, and $\chi B - B' = -(1 - \chi) b d a / 8 < 0$. ∎

# %%
assert cancel(new.flop_count / old.flop_count) == chi
assert simplify(old.byte_count() - new.byte_count() - (1 - chi) * f * (d * w + b * a) / 8) == 0
assert simplify(chi * old.byte_count() - new.byte_count() + (1 - chi) * b * d * a / 8) == 0
assert limit(old.byte_count() / new.byte_count(), b, 0) == 1 / chi
print("memory-bound speed-up: from 1/chi at small batches towards", cancel(limit(old.byte_count() / new.byte_count(), b, oo)))
numbers = model.decode(seq_len=1024)
half = payoff(numbers, numbers.apply(technique("prune-channels:share=1/2")), over="batch", hardware=DEVICE, operator="up_proj")
assert [one.bound for one in half.intervals] == ["pays"]
assert half.speedup_expr(1) < 2 == half.speedup_expr(10**4)

# %% [markdown]
# **Theorem 2 (the step).** The step gains $1 / (1 - (1 - \chi)\,\mu)$ at most, $\mu$ the share of its time that the pruned
# parts take: MLPs for one choice, attention with its cache for the other. No share of either makes the rest faster.
#
# *Proof.* The other operators are unchanged, the pruned ones take at least $\chi$ of their time. ∎


# %%
def seconds(one, names=()):
    """Time of the step, or of some of its operators over all layers."""
    placed = symroof.analyze(one, DEVICE)
    return sum(part.count * part.time_expr for part in placed if not names or part.name in names)


MLP = ("gate_proj", "up_proj", "mlp_act", "down_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "q_rotary", "k_rotary", "qk_matmul", "softmax", "sv_matmul", "out_proj")
for batch, context in ((1, 1024), (64, 1024), (16, 32768)):
    here = model.decode(batch=batch, seq_len=context)
    for of, names in (("mlp", MLP), ("heads", ATTENTION)):
        pruned = here.apply(technique(f"prune-channels:share=1/2,of={of}"))
        share = seconds(here, names) / seconds(here)
        gain, most = seconds(here) / seconds(pruned), 1 / (1 - share / 2)
        assert 1 < gain <= most
        what = f"half of {of} at batch {batch}, context {context}"
        print(f"{what}: {float(share):.2f} of the time, {float(gain):.3f} times faster of at most {float(most):.3f}")


# %% [markdown]
# **Where it stops.** At one channel or head; shares must leave whole ones. A KV head goes with its group, so grouped
# models keep their group size and the intensity of attention, and the cache scales with $\chi$.

# %%
fewer = step.apply(technique("prune-channels:of=heads"))
some, every = (one["qk_matmul"] for one in (fewer, step))
assert cancel(some.flop_count / every.flop_count) == cancel(some.byte_count() / every.byte_count()) == chi
assert cancel(fewer.graph.kv_memory() / step.graph.kv_memory()) == chi

# %% [markdown]
# LLM-Pruner: Ma et al. (2023), arXiv:2305.11627. Sheared LLaMA: Xia et al. (2023), arXiv:2310.06694.
