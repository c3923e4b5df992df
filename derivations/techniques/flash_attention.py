# %% [markdown]
# # FlashAttention: traffic against on-chip memory
#
# `N` queries on `N` keys of `e` components, one head, no mask. The three operators move `4 N e + 4 N^2` elements. In
# blocks of `B_r` query rows nothing of size `N^2` moves, and K and V are read `ceil(N / B_r)` times.

# %%
from sympy import Integer, Rational, Symbol, ceiling, limit, oo, simplify, solve

import symroof
from symroof.operators.attention import block_rows
from symroof.roof.costs import costs_of, on_chip
from symroof.symbols import B_c, B_r, M, R, a, b, c, e, h, k, s

plain = symroof.load_model("llama-2-7b").prefill(symbolic=True, causal=False)
flash = plain.apply(symroof.technique("flash-attention"))
ONE = {b: Integer(1), h: Integer(1), k: Integer(1), a: Integer(8), c: Integer(8)}  # one head, elements of a byte
apart = sum(one.traffic for one in costs_of(plain, "attention")) / Symbol("L", positive=True)
apart = simplify(apart.xreplace(ONE))
fused = flash.symbolic["fused_attention"].byte_count().xreplace(ONE)
assert simplify(apart - (4 * s * e + 4 * s**2)) == 0, "Theta(N d + N^2)"
assert simplify(fused - (2 * s * e + 2 * s * e * ceiling(s / R))) == 0
print("apart:", apart, " fused:", fused)

# %% [markdown]
# **Theorem.** (1) With Algorithm 1's `B_r = M / (4 e)` (M elements, at most `4 e^2`) the traffic over `N^2 e^2 / M` tends
# to 8 as N grows: Theta(N^2 d^2 / M). (2) Over all tiles with `2 (B_r + B_c) e <= M` the infimum of that constant is 4.
# (3) No exact algorithm moves `o(N^2 d^2 / M)` for all M from d to N d (Dao et al., Proposition 3); Saha and Ye have
# `Omega(N^2 d^2 / M)` for every `M >= d^2`. So blocks are optimal up to a constant. (4) A block of all N rows reads K and V once.

# %%
whole = fused.xreplace({ceiling(s / R): s / R})
assert limit(whole.subs(R, M / (4 * e)) * M / (s**2 * e**2), s, oo) == 8
need = sum(on_chip(plain.apply(symroof.technique("flash-attention:rows,keys"))).values()).xreplace(ONE)
assert simplify(need - 2 * (B_r + B_c) * e) == 0
widest = solve(need.subs(B_c, 1) - M, B_r)[0]
assert limit(limit(whole.subs(R, widest) * M / (s**2 * e**2), s, oo), M, oo) == 4
assert fused.subs(R, s) == 4 * s * e
capped = block_rows(e, Integer(1)).xreplace({a: Integer(8), e: Integer(128)})
assert [capped.subs(M, 4 * 128 * rows).doit() for rows in (1, 64, 128, 4096)] == [1, 64, 128, 128], "from 4 e^2 on it stays e"
print("constants: 8 (Algorithm 1), 4 (as B_c -> 1)")

# %% [markdown]
# **When it moves fewer bytes.** On whole blocks `4 h s^2 a > 2 (s / R - 1) s k e c`: at every length if
# `2 a g R >= c e`, that is if a tile has half a head's components as rows at equal widths; else below
# `s = R c e / (c e - 2 a g R)`. Against brute force, with tiles as small as that:

# %%
difference = sum(one.traffic for one in costs_of(plain, "attention")) / Symbol("L", positive=True)
difference = (difference - flash.symbolic["fused_attention"].byte_count()).xreplace({ceiling(s / R): s / R})
most = R * c * e / (c * e - 2 * a * (h / k) * R)
assert simplify(difference.subs(s, most)) == 0
WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
model = symroof.load_model("llama-2-7b")
exact = sum(one.traffic for one in costs_of(plain, "attention")) / Symbol("L", positive=True)
exact -= flash.symbolic["fused_attention"].byte_count()
HEAD = {h: Integer(1), k: Integer(1), a: Integer(16), c: Integer(16), e: Integer(128), b: Integer(1)}
STEPS = ("qk_matmul", "softmax", "sv_matmul")
for rows in (1, 16, 48):
    edge = most.xreplace(HEAD | {R: Integer(rows)})
    for blocks in range(1, 40):
        gain = exact.xreplace(HEAD | {R: Integer(rows), s: Integer(rows * blocks)})
        assert (gain > 0) == (rows * blocks < edge), (rows, blocks)
    for blocks in {1, max(1, int(edge) // rows), int(edge) // rows + 1}:
        step = model.prefill(batch=1, seq_len=rows * blocks, causal=False, **WIDTHS)
        after = step.apply(symroof.technique(f"flash-attention:rows={rows}"))
        before, fast = symroof.analyze(step, "a100-sxm-80gb"), symroof.analyze(after, "a100-sxm-80gb")
        saved = sum(before[name].time_expr for name in STEPS) - fast["fused_attention"].time_expr
        assert (saved > 0) == (rows * blocks < edge), (rows, blocks)
    print(f"B_r = {rows}: fewer bytes, and less time, up to {edge} = {float(edge):.2f} tokens")
assert Rational(48 * 128, 128 - 96) == 192

# %% [markdown]
# **How much at most, and where it stops.** While scores dominate, `apart / fused` tends to `2 a g R / (c e)` (derivation
# 6). In decode one block holds all queries, and exactly the scores' `4 b h t a / 8` bytes go. Compute-bound attention,
# with a large block on a low ridge, gains no more. Not counted: rescaling, partial tiles' idle lanes, reuse in a shared cache.
#
# Sources: Dao et al. (2022), arXiv:2205.14135; Saha and Ye (2024), arXiv:2402.07443; Dao (2023), arXiv:2307.08691.
