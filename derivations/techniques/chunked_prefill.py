# %% [markdown]
# # Chunked prefill: what it costs to read a prompt in pieces
#
# A prompt of $s$ tokens in $n = s / s_k$ chunks does the same FLOPs. It reads the weights $n$ times, and the keys and
# values of the prefix once per chunk.

# %%
from sympy import Rational, expand, factor, simplify

import symroof
from symroof.symbols import BW, P, R, a, b, c, d, e, f, h, k, s, s_k, w
from symroof.techniques.system.chunked_prefill import ChunkedPrefill

SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
model = symroof.load_model("llama-2-7b")
whole = model.prefill(symbolic=True)
chunked = whole.apply(ChunkedPrefill())
n = s / s_k
assert simplify(whole.graph.flop_count - chunked.graph.flop_count) == 0

# %% [markdown]
# **Theorem 1 (bytes).** A linear operator moves $(n - 1) d f w / 8$ bytes more. Unfused attention reads
# $s_k (1 + \dots + n) = s (n + 1) / 2$ rows of K and of V in the place of $s$: $(n - 1) / 2$ times the cache more.

# %%
more = {name: factor(chunked[name].byte_count() - whole[name].byte_count()) for name in ("up_proj", "qk_matmul", "softmax")}
assert simplify(more["up_proj"] - (n - 1) * d * f * w / 8) == 0
assert simplify(more["qk_matmul"] - (n - 1) / 2 * b * s * k * e * c / 8) == 0
assert more["softmax"] == 0
print(more)

# %% [markdown]
# **Theorem 2 (FlashAttention pays nothing).** In blocks of $R$ query rows that divide a chunk, fused attention moves the same
# bytes in chunks as at once: a block streams the keys up to its own last row, whichever chunk it belongs to.
# *Proof.* Chunks of $s_k = m R$ rows read $n (R m (m - 1) / 2 + s_k) + m s_k n (n - 1) / 2 = s^2 / (2 R) + s / 2$ rows. ∎

# %%
flash = {"batch": 2, "flash_attention": True, **SIXTEEN}
for name in ("llama-2-7b", "llama-3-8b"):
    for length, chunk in ((2048, 128), (2048, 512), (4096, 1024), (2048, 64), (96, 24)):
        step = symroof.load_model(name).prefill(seq_len=length, **flash)
        both = [symroof.analyze(one, "a100-sxm-80gb") for one in (step, step.apply(ChunkedPrefill(chunk=chunk)))]
        extra = both[1]["fused_attention"].operator.byte_count() - both[0]["fused_attention"].operator.byte_count()
        rows = both[0].values[R]
        print(f"{name}, {length} tokens in chunks of {chunk}, R = {rows}: {extra} bytes more in fused attention")
        assert (extra == 0) == (chunk % rows == 0)

# %% [markdown]
# **Theorem 3 (when it is free).** A linear operator takes no longer in chunks if and only if $b s_k \ge b^*$, the token
# budget of a decode step; below, it is $b^* / (b s_k)$ times slower to first order. *Proof.* Its intensity is that of
# $b s_k$ tokens; compute-bound, both take $F / P$, and memory-bound in chunks, more than that. ∎

# %%
budget = P * w * d * f / (16 * BW * d * f - P * a * (d + f))
edge = symroof.crossover(chunked, "up_proj", over="chunk").formula
assert simplify(edge - budget / b) == 0
for batch in (1, 4):
    step = model.prefill(batch=batch, seq_len=2048, **SIXTEEN)
    found = symroof.payoff(step, step.apply(ChunkedPrefill()), over="chunk", hardware="a100-sxm-80gb", part="up_proj")
    print(f"batch {batch}: up_proj {found.sentence}")
    for chunk in (2**power for power in range(12)):
        seconds = [symroof.analyze(one, "a100-sxm-80gb")["up_proj"].time_expr for one in (step, step.apply(ChunkedPrefill(chunk=chunk)))]
        assert (seconds[0] == seconds[1]) == (chunk >= found.edges[0])

# %% [markdown]
# **What it buys.** Activations of one chunk instead of the whole prompt, and a decode step between two chunks: the wait is
# $1 / n$ of the prompt's.

# %%
step = model.prefill(batch=1, seq_len=2048, flash_attention=True, **SIXTEEN)
part = step.apply(ChunkedPrefill(chunk=512)).graph.activation_memory() / step.graph.activation_memory()
assert part == Rational(1, 4)
print("activations of a quarter of the prompt:", part, "of", step.graph.activation_memory())
print("pairs, chunk by chunk:", expand(chunked["qk_matmul"].flop_count / (2 * b * h * e)))

# %% [markdown]
# Source: Agrawal et al. (2023), SARATHI, arXiv:2308.16369, section 4.2. Attention of all chunks is held against one roof.
