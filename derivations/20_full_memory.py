# %% [markdown]
# # 20. A full memory
#
# Fill a device's memory with sequences and read all of it in every step: how many fit, and how long does the step take? The
# second answer does not know the model. The first does not know the width, if everything narrows together.

# %%
from sympy import Integer, Rational, simplify, solve, symbols

import symroof
from symroof import memory_parts

b, c, t = symroof.symbols.named("b c t")
C, W, K, x, y, z = symbols("C W K x y z", positive=True)

# %% [markdown]
# **Theorem 1.** Let weights take W bytes, a sequence K, the memory C, and a step read all of it once at BW. Then $b = (C - W) / K$
# sequences fit, a step takes $C / BW$, and if weights, cache and memory are all multiplied by one factor, b does not change; nor does
# the step, if BW is multiplied too, as by that many more devices.
#
# *Proof.* $(zC - zW) / (zK) = (C - W) / K$. ∎
#
# **Theorem 2.** If weights are multiplied by x and the cache by y, the batch, and the throughput at full memory with it,
# is multiplied by $(C - x W) / (y (C - W))$. Shrinking weights by x gains more than shrinking the cache by x exactly if
# $W (1 + x) > C$: halved, if the weights fill more than two thirds of the memory.
#
# *Proof.* $\frac{C - x W}{C - W} - \frac{1}{x} = \frac{(1 - x)(W (1 + x) - C)}{x (C - W)}$. ∎

# %%
batch = (C - W) / K
assert simplify(batch.subs({C: z * C, W: z * W, K: z * K}, simultaneous=True) - batch) == 0
gain = batch.subs({W: x * W, K: y * K}, simultaneous=True) / batch
assert simplify(gain - (C - x * W) / (y * (C - W))) == 0
assert simplify((C - x * W) / (C - W) - 1 / x - (1 - x) * (W * (1 + x) - C) / (x * (C - W))) == 0
print("halved weights gain more if W >", solve(W * (1 + Rational(1, 2)) - C, W)[0])

# %% [markdown]
# **An erratum.** The first edition of the scaling book's chapter on serving fits LLaMA-3-70B on TPU v5e slices (16 GB and 8.1e11 B/s
# each) at context 8192: bf16 on 16 chips, int8 on 8, int4 on 4; and prints 43, 52 and 67 sequences and 19 ms. Weights, cache and
# memory halve from one slice to the next, so by Theorem 1 the three numbers are one, whatever it is.

# %%
model = symroof.load_model("llama-3-70b")
cache = memory_parts(model.decode(symbolic=True).symbolic)[1]
printed = {16: (16, 43), 8: (8, 52), 4: (4, 67)}
found = {}
for bits, (chips, said) in printed.items():
    sequence = cache.xreplace({**model.dimensions, c: Integer(bits), t: Integer(8192), b: Integer(1)})
    weights = Integer(70 * 10**9) * bits / 8
    found[bits] = (chips * 16 * 10**9 - weights) / sequence
    room = f"({chips * 16} - {float(weights) / 1e9:g}) GB / {float(sequence) / 1e9:.4f} GB"
    print(f"{bits} bits: {room} = {float(found[bits]):.2f}, printed {said}")
assert len(set(found.values())) == 1, "one number, exactly"
assert f"{float(found[16]):.1f}" == "43.2"
assert [int(value) for value in found.values()] == [43, 43, 43] != [said for _, said in printed.values()]
step = Rational(16 * 10**9) / (81 * 10**10)
print(f"step: 16e9 / 8.1e11 = {float(1000 * step):.2f} ms, printed 19")
assert f"{float(1000 * step):.2f}" == "19.75"

# %% [markdown]
# 52 and 67 are refuted at the point where they stand: 52 sequences at int8 need $70 + 52 \cdot 1.342 = 139.8$ GB of 128, and 67 at
# int4 need $35 + 67 \cdot 0.671 = 80$ GB of 64. The 19 ms are 19.75, cut.

# %%
for bits, (chips, said) in printed.items():
    sequence = cache.xreplace({**model.dimensions, c: Integer(bits), t: Integer(8192), b: Integer(1)})
    assert (Integer(70 * 10**9) * bits / 8 + said * sequence <= chips * 16 * 10**9) == (said == 43)

# %% [markdown]
# **How exact the law is.** A step does not read rows of the embedding that no token names, nor room left for activations; it
# moves activations beside; other resources may bind. The library takes the difference apart, and the parts add up exactly.

# %%
print(f"{'model':20}{'batch':>8}{'law':>8}{'period':>9}{'step':>9}   unread, activations, other (ms)")
for name, device, context, chain in (
    ("llama-3.1-8b", "h100-sxm", 8192, ()),
    ("llama-2-13b", "a100-sxm-80gb", 2048, ()),
    ("mixtral-8x7b-v0.1", "h200-sxm", 4096, ()),
    ("llama-3.1-70b", "h100-sxm", 8192, ("tensor-parallel:degree=4",)),
    ("mamba-2.8b", "h100-sxm", 8192, ()),
):
    full = symroof.load_model(name).decode(seq_len=context, flash_attention=True).apply(*chain).on(device).at_full_memory()
    assert sum(full.breaks_exprs.values()) == full.step_time_expr - full.period_expr
    breaks = ", ".join(f"{1000 * float(value):.3f}" for value in full.breaks_exprs.values())
    times = f"{1000 * float(full.period_expr):9.2f}{1000 * float(full.step_time_expr):9.2f}"
    print(f"{name:20}{float(full.batch_expr):8.1f}{float(full.law_batch_expr):8.1f}{times}   {breaks}")
    miss = float(full.step_time_expr / full.period_expr) - 1
    assert (abs(miss) < 0.02) == (name not in ("mamba-2.8b", "llama-3.1-70b"))

# %% [markdown]
# On one device attention models are within 2 % of it, above it where what their activations move exceeds what is unread.
# The links of four devices take time that no memory does. A state-space model reads and writes each state, and computes on it:
# more than three periods. Where the activations stay at 16 bits while all else halves, the
# batch falls by what they take:

# %%
capacity = Integer(64 * 10**9)
small = symroof.load_model("llama-3.1-8b")
wide = small.decode(seq_len=8192, flash_attention=True).on("h100-sxm").at_full_memory(capacity=capacity)
kept = small.decode(seq_len=8192, flash_attention=True, weight_bits=8, kv_bits=8, activation_bits=16).on("h100-sxm")
kept = kept.at_full_memory(capacity=capacity / 2)
assert wide.law_batch_expr == kept.law_batch_expr
print(
    f"{float(wide.batch_expr):.4f} against {float(kept.batch_expr):.4f}: {100 * float(1 - kept.batch_expr / wide.batch_expr):.3f} % fewer"
)
both = (wide.gain_expr(weights=Rational(1, 2)), wide.gain_expr(cache=Rational(1, 2)))
print(f"weights halved: {float(both[0]):.3f} times the batch; cache halved: {float(both[1]):g} times")
assert wide.gains_more == "cache"

# %% [markdown]
# **What it means.** The period C / BW is a property of the device: 25.5 ms on an H100, 42 on an A100 of 80 GB; no step that only reads,
# each byte at most once, and that memory alone binds takes longer. Activations, states written back and links can make it longer, as
# for Llama-2-13b and Mamba above. A narrower width buys devices, not batch; a narrower cache buys batch until the weights fill two thirds
# of the memory, and then narrower weights do.
#
# Caveats. Capacity is what the driver reports, 85.5 GB on an H100 of "80 GB", whose stated capacity gives 23.9 ms. The batch is a
# real number; a whole one leaves up to one sequence of memory unread.
#
# Source: Austin et al. (2025), How to Scale Your Model, chapter 8, first edition.
