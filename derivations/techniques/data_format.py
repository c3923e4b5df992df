# %% [markdown]
# # A new data format: narrow operands, shared scales, and a peak of their own
#
# Elements of $q_f$ bits with a scale of $q_s$ bits for every $G$ of them take $q = q_f + q_s / G$ bits. A contraction of
# operands that are all in the format runs at its peak $P_f$; one with a wider operand does not.

# %%
from sympy import Rational, limit, oo, simplify, solve

import symroof

BW, G, P, P_f, a, b, d, f, q_f, q_s, w = symroof.symbols.named("BW G P P_f a b d f q_f q_s w")

model = symroof.load_model("llama-2-7b")
plain = model.decode(symbolic=True)
narrow = plain.apply(symroof.techniques.DataFormat(group=G, scale=q_s))
q = q_f + q_s / G
F, B = narrow["up_proj"].flop_count, narrow["up_proj"].byte_count()
assert simplify(B - (b * d + b * f + d * f) * q / 8) == 0
assert plain["up_proj"].flop_count == F
mx = {q_f: 4, q_s: 8, G: 32}
assert q.subs(mx) == Rational(17, 4), "OCP MX, 4 bits: 4.25"
assert [q.subs({**mx, q_f: bits}) for bits in (6, 8)] == [Rational(25, 4), Rational(33, 4)]
print("bits per element:", q, "=", q.subs(mx), "in MXFP4")

# %% [markdown]
# **Theorem (speed-up and crossover).** From $w = a$ bits at peak $P$, a linear layer is $w / q$ times faster where it is
# memory-bound, $P_f / P$ times where it is compute-bound, and the critical batch moves by $(P_f / P) / (w / q)$ for a large
# layer: it stays where the peak grows as bits shrink, and moves down where scales take bits that the peak does not know.

# %%
before = plain["up_proj"].byte_count().subs(w, a)
assert simplify(before / B - a / q) == 0
critical = solve(F / P_f - B / BW, b)[0]
old = solve(F / P - before / BW, b)[0]
moves = limit((critical / old).subs(f, d), d, oo)
assert simplify(moves - (P_f / P) * (q / a)) == 0
print("critical batch, new over old:", moves)

# %% [markdown]
# **When it pays.** For $q < a$ and $P_f \ge P$ always. With a peak $P_f < P$ (an emulated format) as long as memory decides:
# up to the batch where $F / P_f$ meets the old bytes.

# %%
device = "a100-sxm-80gb"
step = model.decode(seq_len=1024)
for peak in (1248, 312, 100):
    after = step.apply(symroof.techniques.DataFormat(bits=4, group=32, peak=peak * 10**12))
    found = symroof.payoff(step, after, over="batch", hardware=device, operator="up_proj")
    print(f"P_f = {peak} TFLOP/s: {found.sentence}; at most {found.speedup_expr(1):.3f} times, in the end {found.speedup_expr(10**6):.3f}")
    assert found.speedup_expr(1) == 16 / Rational(17, 4)
    assert found.speedup_expr(10**6) == Rational(peak, 312)
    for batch in (1, 16, 64, 128, 256, 1024):
        times = [symroof.analyze(one, device)["up_proj"].time_expr for one in (
            model.decode(batch=batch, seq_len=1024),
            model.decode(batch=batch, seq_len=1024).apply(symroof.techniques.DataFormat(bits=4, group=32, peak=peak * 10**12)),
        )]  # fmt: skip
        assert times[0] / times[1] == found.speedup_expr(batch)

# %% [markdown]
# **What keeps the old roof.** Attention reads a cache of 16 bits; with `operands=all` it is narrowed too. Norms, softmax
# and sums run in 16 bits in any case. The LM head and the embedding stay.

# %%
for operands, own in (
    ("weights+activations", {"q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj", "down_proj"}),
    ("all", None),
):
    after = step.apply(symroof.techniques.DataFormat(bits=4, group=32, peak=1248 * 10**12, operands=operands))
    found = {one.name for one, _ in after.graph if one.unit is not None}
    print(operands, "->", len(found), "operators at the new peak")
    assert found == own or (operands == "all" and {"qk_matmul", "sv_matmul"} < found)
    assert after["lm_head"].unit is None

# %% [markdown]
# Source: Rouhani et al. (2023), Microscaling Data Formats for Deep Learning, arXiv:2310.10537, table 1.
