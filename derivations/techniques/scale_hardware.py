# %% [markdown]
# # Scaled hardware: how crossovers move with peak, bandwidth and buffer
#
# Factors $f_P$ on the peaks, $f_{BW}$ on the memory bandwidth, $f_M$ on the buffer.

# %%
from sympy import Rational, limit, oo, simplify

import symroof
from symroof import technique

BW, M, P, R, d, f, f_BW, f_M, f_P = symroof.symbols.named("BW M P R d f f_BW f_M f_P")

model = symroof.load_model("llama-2-13b")
plain = model.decode(symbolic=True)
scaled = plain.apply(symroof.techniques.ScaleHardware(peak=f_P, bandwidth=f_BW, buffer=f_M))

# %% [markdown]
# **Theorem 1 (crossovers).** Every crossover is that of the ridge $(f_P / f_{BW}) P / BW$ in the place of $P / BW$. The critical
# batch of a large layer is proportional to it; that of a finite one moves a little more, and there is none where
# activations alone are beyond the ridge.

# %%
before, after = (symroof.crossover(step, "up_proj", over="batch").formula for step in (plain, scaled))
assert simplify(after - before.subs({P: f_P * P, BW: f_BW * BW}, simultaneous=True)) == 0
large = [limit(one.subs(f, d), d, oo) for one in (before, after)]
assert simplify(large[1] / large[0] - f_P / f_BW) == 0
print("b* =", after, "->", large[1])

# %% [markdown]
# **Theorem 2 (bandwidth).** An operator of intensity $I$ below the ridge is $f_{BW}$ times faster up to $f_{BW} = P / (I\,BW)$,
# and $P / (I\,BW)$ times beyond; one above it gains nothing. *Proof.* $T = \max(F / P, B / (f_{BW} BW))$. ∎
# A peak of $f_P$ gains the like above the ridge. So a step gains at most what its memory-bound operators take.

# %%
step = model.decode(batch=16, seq_len=1024)
A6000 = "survey/nvidia_A6000"
base = symroof.analyze(step, A6000)["up_proj"]
ridge = base.peak_expr / base.bandwidth_expr
edge = ridge / base.intensity_expr
for factor in (1, 2, 3, 8, 12, 13, 20, 100):
    faster = symroof.analyze(step.apply(symroof.techniques.ScaleHardware(bandwidth=factor)), A6000)["up_proj"]
    assert base.time_expr / faster.time_expr == min(factor, edge)
    assert symroof.analyze(step.apply(symroof.techniques.ScaleHardware(peak=factor)), A6000)["up_proj"].time_expr == base.time_expr
print(f"up_proj at batch 16: bandwidth pays up to {float(edge):.2f} times")

# %% [markdown]
# **The survey's Figure 20** draws three times the bandwidth of the A6000: the knee moves from 201.6 to 67.2 FLOP/byte, and an
# operator of intensity 50 gains all of the three.

# %%
assert [f"{float(one):.1f}" for one in (ridge, ridge / 3)] == ["201.6", "67.2"]
assert 3 * 50 * base.bandwidth_expr <= base.peak_expr
over = symroof.payoff(step, step.apply(symroof.techniques.ScaleHardware(bandwidth=f_BW)), over="bandwidth_factor", hardware=A6000)
print("the whole step:", over.sentence, "; three times:", round(float(over.speedup_expr(Rational(3))), 3))
batch = model.decode(seq_len=1024)
moved = {
    factor: symroof.crossover(batch.apply(symroof.techniques.ScaleHardware(bandwidth=factor)), "up_proj", over="batch", hardware=A6000)
    for factor in (1, 3)
}
print("critical batch of up_proj:", {factor: one.first_integer for factor, one in moved.items()})
assert moved[1].value_expr / moved[3].value_expr > 3

# %% [markdown]
# **Theorem 3 (buffer).** The buffer is in one place alone: the rows of Algorithm 1's blocks, $R \propto M$ up to $e$ rows, where
# FlashAttention reads keys and values from memory for every block, $\lceil s / R \rceil$ times. Blocks that share a cache have
# 128 rows, whatever the buffer, and share what they read; decode and all other operators do not see it either.

# %%
prompt = model.prefill(symbolic=True).apply(technique("flash-attention:reread=memory"))
assert {M, f_M} <= prompt.apply(symroof.techniques.ScaleHardware(buffer=f_M)).symbolic.definitions[R].free_symbols
shared = model.prefill(flash_attention=True, symbolic=True).apply(symroof.techniques.ScaleHardware(buffer=f_M)).symbolic
assert not {M, f_M} & (shared.free_symbols | shared.definitions[R].free_symbols)
at = model.prefill(batch=1, seq_len=4096).apply(technique("flash-attention:reread=memory"))
moves = []
for factor in ("1/16", "1/4", "1", "4"):
    small = symroof.analyze(at.apply(symroof.techniques.ScaleHardware(buffer=Rational(factor) * Rational(1, 100))), A6000)
    moves.append(small["fused_attention"].operator.byte_count())
    print(f"{factor} of 215 kB: {small.values[R]} rows, {float(moves[-1]) / 1e9:.2f} GB")
assert moves == sorted(moves, reverse=True)

# %% [markdown]
# Sources: Williams, Waterman, Patterson (2009), doi:10.1145/1498765.1498785; the survey, arXiv:2402.16363, Figure 20.
