# %% [markdown]
# # Low rank: the largest rank that still helps
#
# $y = x W$ becomes $y = (x U) V$. Two thin matrices cost less than one thick one up to a rank, and that rank is lower the
# more rows share the weights while memory decides, as the vector between the two is written and read.

# %%
from sympy import cancel, diff, limit, oo, simplify

import symroof
from symroof import break_even, payoff

a, b, d, f, rho, s, w = symroof.symbols.named("a b d f rho s w")

DEVICE = "a100-sxm-80gb"
model = symroof.load_model("llama-2-7b")
step = model.decode(symbolic=True)
thin = step.apply(symroof.techniques.LowRank())
whole, parts = step["up_proj"], [thin[f"up_proj.{half}"] for half in ("first", "second")]
flops, moved = sum(one.flop_count for one in parts), sum(one.byte_count() for one in parts)
print("FLOPs:", flops, "; bytes:", simplify(moved))

# %% [markdown]
# **Theorem 1 (the largest rank).** Of a $d \times f$ matrix and $n = b s$ rows, the two factors do fewer FLOPs if and only if
# $\rho < \rho_F = d f / (d + f)$, and move fewer bytes if and only if
# $\rho < \rho_B = d f w / ((d + f) w + 2 n a) < \rho_F$. Where both sides are compute-bound $\rho_F$ decides, where both are
# memory-bound $\rho_B$; the speed-ups are $\rho_F / \rho$ and $B / B'$, which is below $\rho_F / \rho$.
#
# *Proof.* $F' - F = 2 n (\rho (d + f) - d f)$ and $B' - B = (\rho ((d + f) w + 2 n a) - d f w) / 8$. ∎

# %%
rho_f = d * f / (d + f)
rho_b = d * f * w / ((d + f) * w + 2 * b * a)
assert simplify(flops - whole.flop_count - 2 * b * (rho * (d + f) - d * f)) == 0
assert simplify(moved - whole.byte_count() - (rho * ((d + f) * w + 2 * b * a) - d * f * w) / 8) == 0
found = break_even(step, thin, over="rank", operator="up_proj")
assert simplify(found.flops_expr - rho_f) == 0 == simplify(found.traffic_expr - rho_b)
assert simplify(limit(rho_b, b, 0) - rho_f) == 0
prompt = model.prefill(symbolic=True)
prefill = break_even(prompt, prompt.apply(symroof.techniques.LowRank()), over="rank", operator="up_proj")
assert simplify(prefill.traffic_expr - rho_b.subs(b, b * s)) == 0
print("rho_F =", found.flops_expr, "; rho_B =", found.traffic_expr)

# %% [markdown]
# For a square matrix $\rho_F = d / 2$; for a wide one it tends to the narrower side.

# %%
assert cancel(rho_f.subs(f, d) - d / 2) == 0 == limit(rho_f, f, oo) - d

# %% [markdown]
# **Theorem 2 (intensity falls).** At a rank $\rho \le \rho_F$ the factors have a lower intensity than the matrix, each of them:
# $x U$ is a matrix of $d \times \rho$ and its crossover lies at a larger batch, or nowhere. So between the crossover of the
# matrix and those of the factors the gain is smaller than $\rho_F / \rho$.
#
# *Proof.* The intensity $2 n d f / ((d f w + n (d + f) a)/8)$ grows with $f$ for fixed $d$, so it falls from $f$ to $\rho < f$. ∎

# %%
intensity = whole.flop_count / whole.byte_count()
assert simplify(diff(intensity, f) * (d * f * w + b * (d + f) * a) ** 2 / (16 * b**2 * d**2 * a)) == 1
assert simplify(parts[0].flop_count / parts[0].byte_count() - intensity.subs(f, rho)) == 0

# %% [markdown]
# **On a device** the exact answer over the rank mixes the cases. Where both factors have one bound it lies between $\rho_B$
# and $\rho_F$; where one is memory-bound and the other compute-bound, the sum of their maxima can only lower it.

# %%
for phase, sizes in (("decode", {"batch": 1}), ("decode", {"batch": 128}), ("decode", {"batch": 1024}), ("prefill", {"batch": 1})):
    here = getattr(model, phase)(seq_len=2048, **sizes)
    over = payoff(here, here.apply(symroof.techniques.LowRank()), over="rank", hardware=DEVICE, operator="up_proj")
    assert [one.bound for one in over.intervals] == ["pays", "loses"]
    rows = sizes["batch"] * (2048 if phase == "prefill" else 1)
    least, most = (float(one.subs({b: rows, w: 16, a: 16}).subs({d: 4096, f: 11008})) for one in (rho_b, rho_f))
    print(f"{phase}, {rows} rows: largest rank {float(over.edges_expr[0]):.1f}; rho_B {least:.1f}, rho_F {most:.1f}")
    assert least - 1e-9 <= float(over.edges_expr[0]) <= most + 1e-9

# %% [markdown]
# Hsu et al. (2022), arXiv:2207.00112 (FWSVD). LoRD: Kaushal et al. (2023), arXiv:2309.14021. ASVD: Yuan et al. (2023), arXiv:2312.05821.
