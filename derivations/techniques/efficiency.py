# %% [markdown]
# # Efficiency: factors on the ceilings move a crossover only by their ratio
#
# Kernels reach a share of each ceiling: $\eta_P$ of the peak, $\eta_{BW}$ of the bandwidth. FLOPs and bytes stay.
#
# **Theorem.** $t = \max(F / (\eta_P P),\, B / (\eta_{BW} BW))$. The ridge becomes $(\eta_P / \eta_{BW}) P / BW$, so a crossover
# of a formula in $P$ and $BW$ moves as if $P / BW$ had that factor; equal efficiencies move none. An operator is
# between $1$ and $1 / \min(\eta_P, \eta_{BW})$ times as slow.
#
# *Proof.* $F / (\eta_P P) = B / (\eta_{BW} BW)$ is $F / B = (\eta_P / \eta_{BW}) P / BW$. Both times grow by at least 1 and at
# most $1 / \min(\eta)$, and so does the larger. ∎

# %%
from sympy import Rational, simplify

import symroof
from symroof import payoff, technique

BW, P, eta_BW, eta_P = symroof.symbols.named("BW P eta_BW eta_P")

model = symroof.load_model("llama-2-7b")
step = model.decode(symbolic=True)
ideal = symroof.crossover(step, "up_proj", over="batch").formula
real = symroof.crossover(step.apply(technique("efficiency:compute,memory")), "up_proj", over="batch").formula
assert simplify(real - ideal.subs({P: eta_P * P, BW: eta_BW * BW}, simultaneous=True)) == 0
assert simplify(real.subs(eta_P, eta_BW) - ideal) == 0, "equal efficiencies cancel"
print("crossover in the batch:", real)

# %% [markdown]
# **In numbers.** On an A100 at 70 % of the peak and 90 % of the bandwidth, where and by how much decode slows down.

# %%
before = model.decode(seq_len=2048)
after = before.apply(technique("efficiency:compute=0.7,memory=0.9"))
found = payoff(before, after, over="batch", hardware="a100-sxm-80gb", operator="up_proj")
print("up_proj", found.sentence)
memory, compute = 1 / found.speedup_expr(1), 1 / found.speedup_expr(10**6)
assert (memory, compute) == (Rational(10, 9), Rational(10, 7))
print(f"{float(memory):.3f} times as slow while memory-bound, {float(compute):.3f} times when compute-bound")
for batch in (1, 40, 100, 160, 162, 200, 5000):
    assert memory <= 1 / found.speedup_expr(batch) <= compute

# %% [markdown]
# **Where it stops.** At shares of 1 nothing changes. It says nothing of why a share is lost; measured shares differ by
# operator and size, and one number for all is a coarse stand-in. Two of them in a chain multiply.
#
# Ceilings below the roof: Williams, Waterman and Patterson (2009), doi:10.1145/1498765.1498785.
