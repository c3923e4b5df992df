# %% [markdown]
# # Parts of the context side by side (FlashDecoding)
#
# In decode there is one tile of attention per sequence and KV head: `b k` of them. With `n_c` processors and fewer tiles
# the others idle. Cutting the context into `n_s` parts makes `b k n_s` tiles, at the price of partial outputs.

# %%
from sympy import Integer, floor, simplify, solve, sqrt

import symroof
from symroof import Cost, costs_of, payoff

L, U, a, b, c, e, h, k, n_c, n_s, t = symroof.symbols.named("L U a b c e h k n_c n_s t")

model = symroof.load_model("llama-3-8b")
split = model.decode(symbolic=True).apply(symroof.technique("flash-decoding:splits,processors"))
main, combine = split.symbolic["fused_attention"], split.symbolic["fused_attention.combine"]
A = b * h * e * a / 8 + 2 * b * t * k * e * c / 8  # queries, keys and values
part = 4 * b * h * (e + 2)  # bytes of one part's outputs, maxima and sums, in 32 bits
out = b * h * e * a / 8
assert simplify(main.byte_count() - (A + n_s * part)) == 0
assert simplify(combine.byte_count() - (n_s * part + out)) == 0
assert simplify(combine.flop_count - b * h * (n_s * (2 * e + 5) + e)) == 0
assert main.occupancy == U / n_c
assert str(split.symbolic.definitions[U]) == "Min(n_c, b*k*n_s)"

# %% [markdown]
# **The model.** `U = min(n_c, b k n_s)` busy processors reach `U / n_c` of peak and of bandwidth. That is
# pessimistic of one processor alone, which draws more than its share of bandwidth, so the gain is an upper bound.
#
# **Theorem.** Memory-bound, with idle processors (`b k n_s <= n_c`), in seconds x BW,
# $$T(n) = \frac{n_c}{b k}\Big(\frac{A}{n} + p\Big) + p\,n + o,\qquad T_1 = \frac{n_c}{b k}(A + o),$$
# for $n > 1$, with $p$ bytes per part and $o$ of the output. It is least at $n^* = \sqrt{A\,n_c / (b\,k\,p)}$. From
# $n = n_c / (b k)$ on all are busy, and $T = A + 2 p n + o$ only grows: the best is $\min(n^*, n_c / (b k))$. The
# gain is below $n_c / (b k)$, and there is none once $b\,k \ge n_c$.

# %%
costs = {one.operator.name: one for one in costs_of(split, "attention")}
assert all(isinstance(one, Cost) for one in costs.values())
total = sum(one.traffic for one in costs.values()) / L
T = simplify(total.subs(U, b * k * n_s))
assert simplify(T - (n_c / (b * k) * (A / n_s + part) + part * n_s + out)) == 0
best = [root for root in solve(T.diff(n_s), n_s) if root.is_positive is not False]
assert any(simplify(root**2 - A * n_c / (b * k * part)) == 0 for root in best)
assert simplify(total.subs(U, n_c) - (A + 2 * part * n_s + out)) == 0
assert simplify(total.subs({U: n_c, n_s: n_c / (b * k)}) - T.subs(n_s, n_c / (b * k))) == 0, "continuous"

# %% [markdown]
# Against brute force over every number of parts, on an A100 (108 processors):

# %%
PROCESSORS = 108
for context, batch in ((256, 1), (256, 4), (32768, 1), (32768, 13)):
    step = model.decode(batch=batch, seq_len=context).with_widths()
    known = dict(step.values) | {n_c: Integer(PROCESSORS), b: Integer(batch), t: Integer(context)}
    root, filled = sqrt(A * n_c / (b * k * part)).xreplace(known), (n_c / (b * k)).xreplace(known)
    least = min(root, filled)
    seconds = {}
    for parts in range(2, 30):
        tried = step.apply(symroof.technique(f"flash-decoding:splits={parts},processors={PROCESSORS}"))
        names = ("fused_attention", "fused_attention.combine")
        seconds[parts] = sum(symroof.analyze(tried, "a100-sxm-80gb")[name].time_expr for name in names)
    found = min(seconds, key=seconds.__getitem__)
    assert found in (max(2, floor(least)), max(2, floor(least) + 1)), (context, batch, found, least)
    print(f"context {context}, batch {batch}: {found} parts are best; n* = {float(root):.1f}, filled from {float(filled):.2f}")

# %%
one = model.decode(seq_len=32768).with_widths().apply(symroof.technique(f"flash-decoding:splits=1,processors={PROCESSORS}"))
many = one.apply(symroof.technique(f"flash-decoding:splits=16,processors={PROCESSORS}"))
told = payoff(one, many, over="batch", hardware="a100-sxm-80gb", operator="attention")
assert told.speedup_expr(1) < Integer(PROCESSORS) / 8
assert told.edges_expr[0] < Integer(PROCESSORS) / 8
print("16 parts of 32768 tokens:", told.sentence)

# %% [markdown]
# Not counted: whole waves of tiles, and the launch of a second kernel.
#
# Source: Dao, Haziza, Massa, Sizov (2023), https://crfm.stanford.edu/2023/10/12/flashdecoding.html.
