# %% [markdown]
# # Operator fusion
#
# A group run as one operator does the same work and moves fewer bytes: what its members hand to one another stays on
# chip, and what several of them read is read once. Here: the gated half of an MLP, gate, up and activation.

# %%
from sympy import Integer, limit, oo, simplify

import symroof
from symroof import payoff

BW, P, a, b, d, f, w = symroof.symbols.named("BW P a b d f w")

GROUP = "gate_proj+up_proj+mlp_act"
step = symroof.load_model("llama-2-7b").decode(symbolic=True)
after = step.apply(symroof.technique(f"fuse:operators={GROUP}"))
apart = [step.symbolic[name] for name in GROUP.split("+")]
one = after.symbolic[GROUP]
B = sum(each.byte_count() for each in apart)
saved = simplify(B - one.byte_count())
assert one.flop_count == sum(each.flop_count for each in apart)
assert simplify(saved - b * a * (d + 4 * f) / 8) == 0
print("bytes saved:", saved)

# %% [markdown]
# The input is read once instead of twice (`b d a / 8`); gate and up are neither written nor read (`4 b f a / 8`).
#
# **Theorem.** (1) With members and group memory-bound, fusion pays by `B / (B - saved)`; the factor grows with the batch,
# and is below `(2 d + 5 f) / (d + f)`. (2) With the products compute-bound on both sides and the activation
# memory-bound, it pays by `(4 d + 3 a P / (8 BW)) / (4 d + 5)`, whatever the batch: the activation's bytes go, its work
# stays. (3) That is above 1 if and only if `P / BW > 40 / (3 a)`; below it the activation was compute-bound, and nothing
# is gained.

# %%
gain = simplify(B / one.byte_count())
assert simplify(gain.diff(b) * one.byte_count() ** 2 - a * d * f * w * (d + 4 * f) / 32) == 0, "positive: it grows with b"
assert simplify(limit(gain, b, oo) - (2 * d + 5 * f) / (d + f)) == 0
times = [apart[0].flop_count / P, apart[1].flop_count / P, apart[2].byte_count() / BW]
steady = simplify(sum(times) / (one.flop_count / P))
assert simplify(steady - (4 * d + 3 * a * P / (8 * BW)) / (4 * d + 5)) == 0
assert simplify(steady.subs(P, BW * 40 / (3 * a)) - 1) == 0
assert steady.diff(P).is_positive
print("memory-bound:", gain, "; compute-bound products:", steady)

# %% [markdown]
# On an A100, at 16 bits: the exact payoff agrees on both sides of the group's crossover.

# %%
numbers = symroof.load_model("llama-2-7b").decode(seq_len=128)
fused = numbers.apply(symroof.technique(f"fuse:operators={GROUP}"))
found = payoff(numbers, fused, over="batch", hardware="a100-sxm-80gb", operator=GROUP, ceilings="classic")
device = symroof.load_hardware("a100-sxm-80gb")
known = {d: Integer(4096), f: Integer(11008), w: Integer(16), a: Integer(16)}
known |= {P: device.machine.fastest(("fp16",))[1], BW: device.bandwidth_figure.value}
assert found.speedup_expr(1) == gain.xreplace(known | {b: Integer(1)})
assert found.speedup_expr(10_000) == steady.xreplace(known)
assert [each.bound for each in found.intervals] == ["pays"]
print(f"A100: x {float(found.speedup_expr(1)):.6f} at batch 1, x {float(found.speedup_expr(10_000)):.4f} from the crossover on")

# %% [markdown]
# **Where it stops.** What has to stay on chip must fit there, which the model does not check; tiles of real kernels do.
# A group that is compute-bound throughout gains nothing. A product fused with a norm over its whole output row needs
# that row on chip.
#
# Sources: Aminabadi et al. (2022), DeepSpeed Inference, arXiv:2207.00032; the survey, section 5.1.
