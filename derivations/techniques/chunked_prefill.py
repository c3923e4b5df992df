# %% [markdown]
# # Chunked prefill: what it costs to read a prompt in pieces
#
# A prompt of $s$ tokens in $n = s / s_k$ chunks does the same FLOPs. It reads the weights $n$ times, and the keys and
# values of the prefix once per chunk.

# %%
from sympy import Integer, Rational, ceiling, expand, factor, limit, oo, simplify

import symroof
from symroof import technique

BW, P, R, a, b, c, d, e, f, h, k, s, s_k, w = symroof.symbols.named("BW P R a b c d e f h k s s_k w")

model = symroof.load_model("llama-2-7b")
whole = model.prefill(symbolic=True)
chunked = whole.apply(symroof.techniques.ChunkedPrefill())
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
# **Theorem 2 (FlashAttention pays the same).** While keys and values of a head fit the cache, a chunk's queries are one pass over
# all that stands before them: $s (n + 1) / 2$ rows cross memory in the place of $s$. That is as much as a prompt at once moves on
# Dao's machine with blocks of $s_k$ positions: to memory a chunk is the block. What blocks read from the cache stays, where a chunk is
# whole blocks; and blocks that read memory for themselves pay nothing. *Proof.* $n$ chunks see $s_k (1 + \dots + n)$ rows. ∎

# %%
fused = model.prefill(symbolic=True, flash_attention=True)
in_chunks = (
    fused.apply(symroof.techniques.ChunkedPrefill())["fused_attention"].byte_count().xreplace({ceiling(s_k / R): Integer(1)})
)  # R = s_k
extra = in_chunks - fused["fused_attention"].byte_count().xreplace({ceiling(s / R): Integer(1)})
assert simplify(extra - more["qk_matmul"] * 2) == 0, "K and V"
dao = whole.apply(technique("flash-attention:reread=memory"))["fused_attention"].byte_count()
assert simplify(in_chunks - dao.xreplace({ceiling(s / R): s / R}).subs(R, s_k)) == 0
for name, group in (("llama-2-7b", 1), ("llama-3-8b", 4)):
    for length, chunk in ((2048, 128), (2048, 512), (4096, 1024), (2048, 64), (96, 24)):
        step = symroof.load_model(name).prefill(batch=2, seq_len=length).with_widths()
        found = {}
        for how in ("cache", "memory"):
            plain = step.apply(technique(f"flash-attention:rows=128,reread={how}"))
            steps = (plain, plain.apply(symroof.techniques.ChunkedPrefill(chunk=chunk)))
            old, new = (symroof.analyze(one, "a100-sxm-80gb")["fused_attention"].operator for one in steps)
            found[how] = (new.byte_count() - old.byte_count(), new.cache_bytes - old.cache_bytes)
        cached = 2 * symroof.load_model(name).cache.growth.xreplace({c: Integer(16)}) / 32 * length  # both sequences, one layer
        assert found["cache"][0] == Rational(length // chunk - 1, 2) * cached
        whole_blocks = chunk % (128 // group) == 0
        assert (found["cache"][1] == 0, found["memory"][0] == 0) == (whole_blocks, whole_blocks)
        print(f"{name}, {length} tokens in chunks of {chunk}: {found['cache'][0] / cached} of the cache more from memory;", end=" ")
        print(f"{found['memory'][0] / cached} where blocks read for themselves")

# %% [markdown]
# **Theorem 3 (when it is free).** A linear operator takes no longer in chunks if and only if $b s_k \ge b^*$, the token
# budget of a decode step; below, it is $b^* / (b s_k)$ times slower to first order. *Proof.* Its intensity is that of
# $b s_k$ tokens; compute-bound, both take $F / P$, and memory-bound in chunks, more than that. ∎
#
# FlashAttention takes no longer from the chunk on at which it is compute-bound. That chunk falls with the prompt, and tends to
# $\frac{P}{BW} \cdot \frac{c\,e}{4\,g\,(4 e + 5)}$: as many query rows, $g s_k$, as have to share a read (derivation 6), 152 on an
# A100 and 293 on an H100 at 16 bits. So with a group of heads per KV head the weights ask for the larger chunk.

# %%
budget = P * w * d * f / (16 * BW * d * f - P * a * (d + f))
edge = symroof.crossover(chunked, "up_proj", over="chunk").formula
assert simplify(edge - budget / b) == 0
for batch in (1, 4):
    step = model.prefill(batch=batch, seq_len=2048).with_widths()
    found = symroof.payoff(
        step, step.apply(symroof.techniques.ChunkedPrefill()), over="chunk", hardware="a100-sxm-80gb", operator="up_proj"
    )
    print(f"batch {batch}: up_proj {found.sentence}")
    for chunk in (2**power for power in range(12)):
        seconds = [
            symroof.analyze(one, "a100-sxm-80gb")["up_proj"].time_expr
            for one in (step, step.apply(symroof.techniques.ChunkedPrefill(chunk=chunk)))
        ]
        assert (seconds[0] == seconds[1]) == (chunk >= found.edges_expr[0])
least = symroof.crossover(fused.apply(symroof.techniques.ChunkedPrefill()), "fused_attention", over="chunk").formula
assert simplify(limit(least, s, oo) - P * c * e * k / (4 * BW * h * (4 * e + 5))) == 0
print("s_k* of FlashAttention =", least, "->", limit(least, s, oo))
for name in ("llama-2-7b", "llama-3-8b"):
    for on in ("a100-sxm-80gb", "h100-sxm"):
        step = symroof.load_model(name).prefill(batch=1, seq_len=16384, flash_attention=True).with_widths()
        asked = {"over": "chunk", "hardware": on, "ceilings": "classic"}
        first = {
            part: symroof.crossover(step.apply(symroof.techniques.ChunkedPrefill()), part, **asked).first_integer
            for part in ("fused_attention", "up_proj")
        }
        at_once = symroof.analyze(step, on, ceilings="classic")["fused_attention"].time_expr
        for chunk in (2**power for power in range(4, 15)):
            cut = symroof.analyze(step.apply(symroof.techniques.ChunkedPrefill(chunk=chunk)), on, ceilings="classic")[
                "fused_attention"
            ].time_expr
            assert (cut == at_once) == (chunk >= first["fused_attention"])
        print(f"{name}, 16384 tokens on {on}: chunks are free from", *(f"{least} tokens on for {part}" for part, least in first.items()))

# %% [markdown]
# **What it buys.** Activations of one chunk instead of the whole prompt, and a decode step between two chunks: the wait is
# $1 / n$ of the prompt's.

# %%
step = model.prefill(batch=1, seq_len=2048, flash_attention=True).with_widths()
part = step.apply(symroof.techniques.ChunkedPrefill(chunk=512)).graph.activation_memory() / step.graph.activation_memory()
assert part == Rational(1, 4)
print("activations of a quarter of the prompt:", part, "of", step.graph.activation_memory())
print("pairs, chunk by chunk:", expand(chunked["qk_matmul"].flop_count / (2 * b * h * e)))

# %% [markdown]
# **Windows.** In a layer with a window of W tokens a chunk reads its own rows and the W - 1 before it. The first
# $m = \lceil \min(s, W) / s_k \rceil$ chunks see their whole past, so all of them read $s_k m (m + 1) / 2 + (n - m)(s_k + W - 1)$ rows.
# Chunk by chunk, for GPT-OSS with W = 128:

# %%
window, length = 128, 1024
for chunk in (1024, 512, 64, 16):
    cut = (
        symroof.load_model("gpt-oss-20b").prefill(batch=1, seq_len=length, kv_bits=16).apply(symroof.techniques.ChunkedPrefill(chunk=chunk))
    )
    rows = sum(min(first + chunk, chunk + window - 1) for first in range(0, length, chunk))
    m, n = -(-window // chunk), length // chunk
    assert rows == chunk * m * (m + 1) // 2 + (n - m) * (chunk + window - 1)
    assert cut["sliding.qk_matmul"].byte_count(symroof.Storage.KV_CACHE) == rows * 8 * 64 * 2
    print(f"chunks of {chunk}: a window reads {rows / length:.2f} times the prompt's rows, full attention {(n + 1) / 2:.2f}")

# %% [markdown]
# Source: Agrawal et al. (2023), SARATHI, arXiv:2308.16369, section 4.2. Attention of all chunks is held against one roof.
