# %% [markdown]
# # 40. How far tensor parallelism goes before links decide
#
# A compute-bound MLP is bound by its links from a number of devices on that no batch changes: the intermediate size times
# the link over the peak. The same ratio of peak and link decides data parallelism of a training step, which a mixture of
# experts makes E / k times as hard.

# %%
from sympy import Add, Rational, floor, simplify, solve

import symroof
from symroof import Level, Role, technique

BW_l, BW_n, P, a, f, n, n_i, E, K = symroof.symbols.named("BW_l BW_n P a f n_p n_i E K")

# %% [markdown]
# **Theorem 1.** An MLP of two matrices over n devices at 16 bits does $4 b d f / n$ FLOPs and sends $2 \frac{n-1}{n}
# \cdot 2 b d$ bytes: links take longer exactly if $n > 1 + f\, BW_l / P$. Without the one, $n > f W / C$: what *How to
# scale your model* has, for payloads sent in full. A gated MLP does $6 b d f / n$ with as many bytes: $n > 1 + \frac32
# f\, BW_l / P$.
#
# *Proof.* $4 b d f / (n P) < 4 (n - 1) b d / (n BW_l)$. ∎

# %%
limits = {}
for name, factor in (("opt-6.7b", 1), ("llama-3-70b", Rational(3, 2))):
    step = symroof.load_model(name).decode(symbolic=True).apply(technique("tensor-parallel"))
    wide = Add(*(op.flop_count for op, _ in step if op.role == Role.PROJECTION and "f" in {*op.result.axes, *op.reads[0].tensor.axes}))
    moved = step["down_proj.all_reduce"].byte_count(level=Level.LINK).subs(a, 16)
    (limits[name],) = solve(wide / P - moved / BW_l, n)
    assert simplify(limits[name] - 1 - factor * f * BW_l / P) == 0
    print(f"{name}: links take longer above n = {limits[name]}")

# %% [markdown]
# **The published figures.** An H100 at 990 TFLOP/s has 450 GB/s in a node and 400 GB/s from node to node for collectives:
# 2200 and 2475 FLOPs per byte. The book allows F / 2200 devices for Llama-3-70B, F = 28672, and prints "about 14", from
# 1995 instead of 2200; TPU v5e with two axes allows F 2 / 2550, 22. First whole numbers by which links decide:

# %%
F, C = 28672, 990 * 10**12
ratios = {
    "2200": Rational(C, 450 * 10**9),
    "2475": Rational(C, 400 * 10**9),
    "1995": Rational(1995),
    "2550 over two axes": Rational(2550, 2),
}
assert (ratios["2200"], ratios["2475"]) == (2200, 2475)
found = {}
for text, ratio in ratios.items():
    book, ours = F / ratio, 1 + F / ratio
    rule = next(many for many in range(1, 99) if many > book)
    exact = next(many for many in range(1, 99) if Rational(F, many) < (many - 1) * ratio / many)
    assert (rule, exact) == (floor(book) + 1, floor(ours) + 1)
    found[text] = int(floor(book))
    print(f"C/W = {text}: F W / C = {float(book):.2f}, up to {floor(book)} by the book, {floor(ours)} exactly; links bind from {exact}")
assert found == {"2200": 13, "2475": 11, "1995": 14, "2550 over two axes": 22}

# %% [markdown]
# So 22 for the TPU; for the GPU 13 by its own 2200, 14 only with 1995. As a ring sends $(n - 1)/n$, one more device is
# hidden in every case.
#
# **Theorem 2 (two tiers).** Beyond a node of i devices an all-reduce sends $2 (i - 1)/i$ of the payload in the node and
# $2 (n - i)/(n i)$ across. With the MLP of two matrices the network alone is hidden up to $n = i (1 + f\, BW_n / P)$ for
# a device's own network $BW_n$.

# %%
tiers = symroof.load_model("opt-6.7b").decode(symbolic=True).apply(technique("tensor-parallel:node"))
work = Add(*(op.flop_count for op, _ in tiers if op.role == Role.PROJECTION and "f" in {*op.result.axes, *op.reads[0].tensor.axes}))
inside, across = (tiers["down_proj.all_reduce"].byte_count(level=level).subs(a, 16) for level in (Level.LINK, Level.NETWORK))
(most,) = solve(work / P - across / BW_n, n)
assert simplify(most - n_i - n_i * f * BW_n / P) == 0
network = Rational(50 * 10**9)
whole = 8 * (1 + F * network / C)
print(f"H100, nodes of 8, 50 GB/s a device: the network is hidden up to {float(whole):.1f} devices; in the node up to {1 + F / 2200:.1f}")
assert whole - 8 == F / Rational(2475), "eight networks together are the 400 GB/s of 2475: the book's n - 8 < F / 2475"
assert floor(whole) == 19, "the book's 19 ways over two nodes"

# %% [markdown]
# **Theorem 3 (data parallelism).** A training step's gradients take twice a forward pass, $2 F_1$ FLOPs per token, and
# are summed over devices: $2 B_w$ bytes. With two-byte weights a dense layer has $F_1 = B_w$, so links are hidden from $C
# / W$ tokens per device on; with E experts, K of them per token, from $(E / K)(C / W)$.

# %%
oss = symroof.load_model("gpt-oss-120b")
step = oss.prefill(batch=1, seq_len=1, weight_bits=16, activation_bits=16)
experts = [
    (count * op.flop_count, count * matrix.tensor.byte_count)
    for op, count in step.symbolic
    for matrix in op.reads
    if op.role == Role.PROJECTION and matrix.tensor.parameter == symroof.operators.Parameter.MATRIX and "E" in matrix.tensor.axes
]
forward, weights = (Add(*parts).subs(step.values) for parts in zip(*experts, strict=True))
inflation = (oss.dimensions[E] / oss.dimensions[K], simplify(weights / forward))
assert inflation == (32, 32), "by the counts, and by bytes of gradients over FLOPs of a token"
for text in ("2200", "2475"):
    print(f"C/W = {text}: dense from {text} tokens per device, {oss.name} from {inflation[0] * ratios[text]}")
assert inflation[0] * ratios["2475"] == 79200

# %% [markdown]
# **What it means.** The width of a model bounds its tensor parallelism: about a dozen H100s for F = 28672, half as many
# again with a gate, whatever the batch. A decode step bound by memory goes further ([the balance for
# weights](techniques/tensor_parallel.py) depends on the batch).
#
# **Where it stops.** Peaks and links as stated, perfect overlap, no latency. The figure of 990 TFLOP/s is the book's;
# data sheets say 989.4.
#
# Source: Austin et al. (2025), How to scale your model, GPUs (2200, 2475, 79200, "14.372") and applied inference (22).
