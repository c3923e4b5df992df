# %% [markdown]
# # Launch overhead: below a batch, a step waits for its launches
#
# Every occurrence of an operator takes $t_0$ besides its work. FLOPs and bytes stay.
#
# **Theorem.** With $N$ occurrences a step takes $T_w + N t_0$. An operator's work takes longer than its launch for
# $F > t_0 P$ or $B > t_0 BW$. For a linear layer in decode ($F = 2 b d f$, $B = (b d a + d f w + b f a) / 8$) that is from the batch
# $b_0 = \min(t_0 P / (2 d f),\; (8 t_0 BW - d f w) / (a (d + f)))$ on, and always if $d f w / 8 > t_0 BW$: a large weight hides a launch
# at any batch. The slowdown is at most $1 + N t_0 / T_w$, and no step is faster than $N t_0$.
#
# *Proof.* $\max(x, y) > t_0$ where $x > t_0$ or $y > t_0$; both grow with $b$. ∎

# %%
from sympy import Integer, Rational, solve

import symroof
from symroof import technique, work_exceeds

BW, P, a, b, d, f, t_0, w = symroof.symbols.named("BW P a b d f t_0 w")

up = symroof.load_model("llama-2-7b").decode(symbolic=True)["up_proj"]
(by_work,), (by_bytes,) = solve(up.flop_count / P - t_0, b), solve(up.byte_count() / BW - t_0, b)
print("b_0 is the smaller of", by_work, "and", by_bytes)
assert (by_work, (by_bytes - (8 * t_0 * BW - d * f * w) / (a * (d + f))).simplify()) == (t_0 * P / (2 * d * f), 0)

# %% [markdown]
# **In numbers**, with 5 µs per launch on an A100: the operator alone, and whole steps, exactly.

# %%
launch = technique("launch-overhead:launch=5us")
for name in ("opt-125m", "llama-2-7b"):
    step = symroof.load_model(name).decode(seq_len=512).apply(launch)
    found = work_exceeds(step, over="batch", hardware="a100-sxm-80gb")
    print(name, *(f"{one.bound} from batch {float(one.low):.4g}" for one in found), sep="; ")
    for one in found[:-1]:
        for batch, wanted in ((int(one.high), one.bound), (int(one.high) + 1, found[1].bound)):
            at = symroof.load_model(name).decode(batch=batch, seq_len=512)
            spent = symroof.analyze(at, "a100-sxm-80gb").total.time_expr
            count = sum(count for _, count in at.graph)
            assert (wanted == "work") == (spent > count * Rational(5, 10**6))
small = symroof.load_model("opt-125m").decode(seq_len=512).apply(launch)
(edge,) = {one.high for one in work_exceeds(small, over="batch", hardware="a100-sxm-80gb", operator="up_proj")[:-1]}
numbers = {d: 768, f: 3072, w: 16, a: 16, t_0: Rational(5, 10**6), P: 312 * 10**12, BW: 2039 * 10**9}
print("up_proj of opt-125m: work takes longer from batch", float(edge))
assert abs(edge / min(by_work.subs(numbers), by_bytes.subs(numbers)) - 1) < Rational(1, 100)

# %% [markdown]
# **Fewer launches.** FlashAttention is one operator for three: two launches less per layer. A CUDA graph launches all
# operators at once and is a smaller $t_0$; at $t_0 = 0$ the step is as before.

# %%
counts = [sum(n for _, n in symroof.load_model("opt-125m").prefill(seq_len=512, flash_attention=on).graph) for on in (False, True)]
assert counts[0] - counts[1] == 2 * Integer(12)
print("launches of a prefill of opt-125m:", *counts)

# %% [markdown]
# Not counted: launches that the host issues while earlier work runs (then $\max$ and not a sum), and the host's own time.
# Measured against frameworks: Fernandez et al. (2023), The Framework Tax, arXiv:2302.06117.
