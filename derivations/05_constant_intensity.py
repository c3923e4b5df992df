# %% [markdown]
# # 5. No size takes an elementwise operator off the memory roof
#
# A residual add, an activation, a gate or a softmax does a fixed number of FLOPs per element it moves. Its
# intensity is a constant: no batch, context, width of the model or number of heads changes it. It is
# memory-bound on every device whose ridge lies above that constant. Norms and rotary embeddings are nearly so.

# %%
from sympy import Integer, diff, limit, oo, simplify

import symroof
from symroof import fuse

BW, P, a, b, c, e, r, w = symroof.symbols.named("BW P a b c e r w")

families = ("llama", "opt", "gptj", "chatglm")
language = [name for name in symroof.models() if symroof.load_model(name).architecture.family in families]
OTHERS = ("elementwise", "softmax", "norm", "rotary")


def operators(*kinds, of=language):
    """Every operator of these kinds in every model's prefill and decode, in letters."""
    for name in of:
        model = symroof.load_model(name)
        for step in (model.prefill(symbolic=True), model.decode(symbolic=True)):
            yield from (operator for operator, _ in step if operator.kind in kinds)


# %% [markdown]
# **Theorem.** An operator that does $q$ FLOPs per element of its result and moves $m$ tensors of the result's
# size (operands and result, $a$ bits per element) and nothing else has the intensity $I = 8 q / (m a)$. It is
# memory-bound at every size if $8 q / (m a) < P / BW$, and compute-bound at every size otherwise. A smaller
# operand beside them (a norm's weight, a rotary table) can only push the intensity down: $I < 8 q / (m a)$.
#
# *Proof.* With $N$ elements in the result, $F = q N$ and $B = m N a / 8$; $N$ cancels. A further operand adds
# to $B$ and not to $F$. ∎
#
# The operators of these families follow, to the letter. (DiT's modulations read a vector per sequence beside, a
# mixture of experts sums a token's experts with weights of their own: "<".)

# %%
constants = {}
for op in operators("elementwise", "softmax"):
    N = sum(op.space.points(write.axes or write.tensor.axes) for write in op.writes)
    q, m = simplify(op.flop_count / N), len(op.reads) + len(op.writes)
    assert q.is_Integer
    assert simplify(op.flop_count / op.byte_count() - 8 * q / (m * a)) == 0
    constants.setdefault((q, m), set()).add(op.name)
for (q, m), names in sorted(constants.items(), key=lambda pair: pair[0][0] / pair[0][1]):
    print(f"q = {q}, m = {m}: I = {8 * q / (m * a)}, {float(q / m / 2):.3f} FLOP/byte at 16 bits:", *sorted(names))

# %% [markdown]
# Norms have $m = 2$, and a weight of $d$ elements beside them. In decode they cross, if at all, at a batch in
# which the hidden size cancels (in prefill: rows, $b s$).

# %%
norm = symroof.crossover(symroof.load_model("llama-2-7b").decode(symbolic=True), "attn_norm", over="batch")
print("an RMSNorm turns compute-bound at b* =", norm.formula, "if", norm.condition)
assert simplify(norm.formula - P * w / (32 * BW - 2 * P * a)) == 0
assert simplify((norm.condition.lts - norm.condition.gts) / (P * a - 16 * BW)).is_positive, "a ridge below 16/a"

# %% [markdown]
# So it crosses only where the ridge is below its own least upper bound, $8 q / (2 a)$, where the theorem
# had it. A rotary embedding turns at most all $e$ components ($r \le e$); its tables are read once for all heads.

# %%
suprema = {}
for op in operators("norm", "rotary"):
    intensity = (op.flop_count / op.byte_count()).subs({c: a, r: e})
    assert simplify(diff(intensity, b)).is_positive, "it grows with the batch towards its limit"
    suprema.setdefault(limit(intensity, b, oo), set()).add(op.name)
for supremum, names in suprema.items():
    print(f"I < {supremum}, {float(supremum.subs(a, 16)):.2f} FLOP/byte at 16 bits:", *sorted(names))
highest = max([8 * q / (m * a) for q, m in constants] + list(suprema), key=lambda one: one.subs(a, 1))
assert highest == 36 / a, "2.25 FLOP/byte at 16 bits: GELU by tanh is the top of all"

# %% [markdown]
# **On the devices.** The least ridge of the catalogue at 16 bits is 2.35 FLOP/byte (Groq's LPU, whose "memory"
# is 80 TB/s of SRAM). It is above 2.25: at 16 bits all these operators are memory-bound at every size on
# every processor. On the A100 and the H100 they are so by two orders of magnitude.

# %%
WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
ridges = {}
for name in symroof.devices():
    device = symroof.load_hardware(name)
    if device.kind == "pim":  # memory that computes: built to have a ridge below one
        continue
    ridges[name] = device.machine.fastest(("fp16", "bf16", "fp32", "fp64"))[1] / device.bandwidth_figure.value
least = min(ridges, key=ridges.get)
print(f"least of {len(ridges)} ridges: {least}, {ridges[least]} = {float(ridges[least]):.2f} FLOP/byte")
assert highest.subs(a, 16) < ridges[least]
for name in ("a100-sxm-80gb", "h100-sxm"):
    share = highest.subs(a, 16) / ridges[name]
    softmax = Integer(20) / 16 / ridges[name]
    print(f"{name}: softmax reaches {softmax} = {float(softmax):.2%} of the peak, the highest {float(share):.2%}")
    step = symroof.load_model("llama-2-7b").prefill()
    for part in ("attn_norm", "softmax", "mlp_act", "attn_add", "q_rotary"):
        proof = symroof.prove(step, "memory-bound", part, for_all=["batch", "seq_len"], hardware=name)
        assert proof.verdict == "proved", part

# %% [markdown]
# Checked by brute force: the engine at several sizes. Where activations have 8 bits the intensities double while
# what is not a matmul still runs in 16 bits; the LPU, alone of all, is then below some of them.

# %%
for name in ("llama-2-7b", "gpt-j-6b"):
    model = symroof.load_model(name)
    for size in ({"batch": 1, "seq_len": 1}, {"batch": 37, "seq_len": 4095}, {"batch": 1024, "seq_len": 10**6}):
        for device in (least, "a100-sxm-80gb", "h100-sxm"):
            for one in symroof.analyze(model.prefill(**size), device):
                assert one.operator.kind not in OTHERS or one.bound == "memory", (one.name, size, device)
eight = [intensity.subs(a, 8) for intensity in [*suprema, *(8 * q / (m * a) for q, m in constants)]]
print("below the greatest intensity at 8 bits:", *[name for name, ridge in ridges.items() if ridge <= max(eight)])
narrow = model.prefill(batch=8, seq_len=2048, **dict.fromkeys(WIDTHS, 8))
turned = [one.name for one in symroof.analyze(narrow, least) if one.operator.kind in OTHERS and one.bound == "compute"]
print("compute-bound there in gpt-j-6b:", *turned)

# %% [markdown]
# The matrix peak flatters the ridge, as these operators run on vector units. But the least FP32 ridge of the
# catalogue, on GPUs that of the CUDA cores, is above all of them too. Only special functions are scarcer: an H100
# does 3.9e12 exponentials per second (arXiv:2407.08608); a softmax at full bandwidth, one per 4 bytes, asks 0.84e12.

# %%
vector = {name: symroof.load_hardware(name) for name in symroof.devices()}
vector = {name: device.ridge("fp32").magnitude for name, device in vector.items() if "fp32" in device.peaks}
print("least FP32 ridge:", min(vector, key=vector.get), float(min(vector.values())), "FLOP/byte")
assert min(vector.values()) > highest.subs(a, 16)

# %% [markdown]
# **What it means.** Batching, tensor cores and a narrower matmul do nothing for these operators: their time is
# bytes over bandwidth. What helps is to move fewer bytes: fuse them with their neighbours (a residual add
# and the norm after it), or keep activations in fewer bits.

# %%
step = symroof.load_model("llama-2-7b").decode(symbolic=True)
apart = step["attn_add"].byte_count() + step["mlp_norm"].byte_count()
together = fuse(step.graph, ["attn_add", "mlp_norm"])[0].byte_count()
print("add and norm apart:", apart, "byte; fused:", together, "byte")
assert limit(together / apart, b, oo) == Integer(4) / 5

# %% [markdown]
# Roofline: Williams, Waterman and Patterson (2009), doi:10.1145/1498765.1498785. That moving data bounds these
# operators in training too was measured by Ivanov et al. (2021), arXiv:2007.00072.
