# %% [markdown]
# # FlashAttention: traffic against on-chip memory, and against a shared cache
#
# `N` queries on `N` keys of `e` components, one head, no mask. The three operators move `4 N e + 4 N^2` elements. In
# blocks of `B_r` query rows nothing of size `N^2` moves; K and V are read `ceil(N / B_r)` times, from wherever they are.

# %%
from sympy import Integer, Rational, Symbol, ceiling, limit, oo, simplify, solve

import symroof
from symroof import costs_of, on_chip

B_c, B_r, M, R, a, b, c, e, h, k, n_c, s = symroof.symbols.named("B_c B_r M R a b c e h k n_c s")

plain = symroof.load_model("llama-2-7b").prefill(symbolic=True, causal=False)
shared, alone, tiled = (plain.apply(symroof.technique(f"flash-attention:{how}")) for how in ("rows", "reread=memory", "rows,reread=memory"))
ONE = {b: Integer(1), h: Integer(1), k: Integer(1), a: Integer(8), c: Integer(8)}  # one head, elements of a byte
apart = sum(one.traffic for one in costs_of(plain, "attention")) / Symbol("L", positive=True)
fused = alone.symbolic["fused_attention"].byte_count()
assert simplify(apart.xreplace(ONE) - (4 * s * e + 4 * s**2)) == 0, "Theta(N d + N^2)"
assert simplify(fused.xreplace(ONE) - (2 * s * e + 2 * s * e * ceiling(s / R))) == 0
print("apart:", simplify(apart.xreplace(ONE)), " fused:", fused.xreplace(ONE))

# %% [markdown]
# ## Where another block's reads are in the cache
#
# `n_c` processors work on a block each, side by side, and share what they read of memory. While `2 N e` elements fit the cache
# of `M_L` bytes, K and V cross memory once. So fused moves `4 N e` elements for the `4 N e + 4 N^2` apart: **fewer at every
# length, by `1 + N / e`** (at equal widths, one head per KV head). Beyond, one read serves `n_c B_r` rows.

# %%
R_meant = shared.symbolic.definitions[R]
assert R_meant.args[1].args[0] == n_c * B_r * k / h
once = shared.symbolic["fused_attention"].byte_count().xreplace({R: s})
assert once.xreplace(ONE) == 4 * s * e
assert simplify(apart.xreplace(ONE) / once.xreplace(ONE) - (1 + s / e)) == 0
STEPS = ("qk_matmul", "softmax", "sv_matmul")
model = symroof.load_model("llama-2-7b")
for length in (1, 128, 4096, 32768):
    step = model.prefill(batch=1, seq_len=length, causal=False)
    after = step.apply(symroof.technique("flash-attention"))
    before, fast = (symroof.analyze(one, "a100-sxm-80gb", ceilings="classic") for one in (step, after))
    moved = sum(before[name].operator.byte_count() for name in STEPS) / fast["fused_attention"].operator.byte_count()
    gain = sum(before[name].time_expr for name in STEPS) / fast["fused_attention"].time_expr
    assert moved == 1 + Rational(length, 128)
    assert fast["fused_attention"].operator.cache_bytes == 2 * 32 * 128 * length * (1 + 2 * -(-length // 128)), "Q once, K and V per block"
    print(f"{length} tokens: {float(moved):.2f} times fewer bytes of memory, {float(gain):.2f} times faster on an A100")

# %% [markdown]
# ## Dao's machine: one processor, no cache
#
# **Theorem.** (1) With Algorithm 1's `B_r = M / (4 e)` (M elements, at most `4 e^2`) the traffic over `N^2 e^2 / M` tends
# to 8 as N grows: Theta(N^2 d^2 / M). (2) Over all tiles with `2 (B_r + B_c) e <= M` the infimum of that constant is 4.
# (3) No exact algorithm moves `o(N^2 d^2 / M)` for all M from d to N d (Dao et al., Proposition 3); Saha and Ye have
# `Omega(N^2 d^2 / M)` for every `M >= d^2`. So blocks are optimal up to a constant. (4) A block of all N rows reads K and V once.

# %%
whole = fused.xreplace(ONE).xreplace({ceiling(s / R): s / R})
assert limit(whole.subs(R, M / (4 * e)) * M / (s**2 * e**2), s, oo) == 8
need = sum(on_chip(plain.apply(symroof.technique("flash-attention:rows,keys"))).values()).xreplace(ONE)
assert simplify(need - 2 * (B_r + B_c) * e) == 0
widest = solve(need.subs(B_c, 1) - M, B_r)[0]
assert limit(limit(whole.subs(R, widest) * M / (s**2 * e**2), s, oo), M, oo) == 4
assert fused.xreplace(ONE).subs(R, s) == 4 * s * e
capped = alone.symbolic.definitions[R].xreplace(ONE | {e: Integer(128)})
assert [capped.subs(M, 4 * 128 * rows).doit() for rows in (1, 64, 128, 4096)] == [1, 64, 128, 128], "from 4 e^2 on it stays e"
print("constants: 8 (Algorithm 1), 4 (as B_c -> 1)")

# %% [markdown]
# A cache behind the chip takes the place of `M` in (3): from `M_L = 2 N e` elements on that bound is below what has to be moved
# anyway, and the `4 N e` above are the least there is.
#
# **When it moves fewer bytes than the operators apart.** On whole blocks `4 h s^2 a > 2 (s / R - 1) s k e c`: at every length if
# `2 a g R >= c e`, that is if a tile has half a head's components as rows at equal widths; else below
# `s = R c e / (c e - 2 a g R)`. Against brute force, with tiles as small as that:

# %%
difference = (apart - fused).xreplace({ceiling(s / R): s / R})
most = R * c * e / (c * e - 2 * a * (h / k) * R)
assert simplify(difference.subs(s, most)) == 0
HEAD = {h: Integer(1), k: Integer(1), a: Integer(16), c: Integer(16), e: Integer(128), b: Integer(1)}
for rows in (1, 16, 48):
    edge = most.xreplace(HEAD | {R: Integer(rows)})
    for blocks in range(1, 40):
        gain = (apart - fused).xreplace(HEAD | {R: Integer(rows), s: Integer(rows * blocks)})
        assert (gain > 0) == (rows * blocks < edge), (rows, blocks)
    for blocks in {1, max(1, int(edge) // rows), int(edge) // rows + 1}:
        step = model.prefill(batch=1, seq_len=rows * blocks, causal=False)
        after = step.apply(symroof.technique(f"flash-attention:rows={rows},reread=memory"))
        before, fast = (symroof.analyze(one, "a100-sxm-80gb", ceilings="classic") for one in (step, after))
        saved = sum(before[name].time_expr for name in STEPS) - fast["fused_attention"].time_expr
        assert (saved > 0) == (rows * blocks < edge), (rows, blocks)
    print(f"B_r = {rows}: fewer bytes, and less time, up to {edge} = {float(edge):.2f} tokens")
assert Rational(48 * 128, 128 - 96) == 192

# %% [markdown]
# **How much at most, and where it stops.** While scores dominate, `apart / fused` tends to `2 a g R / (c e)` on Dao's machine,
# a factor of 2 with Algorithm 1's rows; with a shared cache it grows with the prompt, until attention is compute-bound
# (derivation 6). In decode one block holds all queries, and exactly the scores' `4 b h t a / 8` bytes go. Not counted:
# rescaling, partial tiles' idle lanes.
#
# Sources: Dao et al. (2022), arXiv:2205.14135; Saha and Ye (2024), arXiv:2402.07443; Dao (2023), arXiv:2307.08691.
