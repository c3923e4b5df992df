# %% [markdown]
# # On-chip memory: from which tile on it no longer binds
#
# A product of $R \times K$ by $K \times N$ in square tiles of side $B_t$ keeps a tile of the result in registers. For every tile a strip of
# either operand is read from on-chip memory.
#
# **Theorem.** Every element of one operand is read once per tile of the other: the left one $N / B_t$ times, the right one
# $R / B_t$ times. With $a$ and $w$ bits the on-chip bytes are $R K N (a + w) / (8 B_t)$, an intensity of $16 B_t / (a + w)$ FLOP/byte,
# whatever the matrix. The chip ceiling lies below compute exactly for $B_t < B_t^* = P (a + w) / (16 BW_c)$. A matrix with
# fewer than $B_t$ rows is one tile high: its weights are read once, as often as from memory.
#
# *Proof.* There are $(R / B_t)(N / B_t)$ tiles, each reads $2 B_t K$ elements; $F = 2 R K N$. ∎

# %%
from sympy import Min, Rational, simplify

import symroof
from symroof import Level, payoff, technique

B_t, BW_c, P, a, b, s, w = symroof.symbols.named("B_t BW_c P a b s w")

step = symroof.load_model("llama-2-7b").prefill(symbolic=True).apply(technique("memory-levels"))
for name in ("q_proj", "up_proj"):
    operator = step[name]
    moved = operator.byte_count(level=Level.CHIP)
    whole = moved.xreplace(dict.fromkeys(moved.atoms(Min), B_t))
    assert simplify(operator.flop_count / whole - 16 * B_t / (a + w)) == 0
    answer = symroof.crossover(step, name, over="tile")
    formulas = {one.solution.formula for one in answer.others} | {answer.formula}
    assert any(one is not None and simplify(one - P * (a + w) / (16 * BW_c)) == 0 for one in formulas)
print("B_t* =", P * (a + w) / (16 * BW_c), "; on-chip bytes of up_proj:", step["up_proj"].byte_count(level=Level.CHIP))
thin = step["up_proj"].byte_count("weight", level=Level.CHIP).subs(B_t, b * s)
assert simplify(thin - step["up_proj"].byte_count("weight")) == 0, "one tile of rows: the weights are read once"

# %% [markdown]
# **In numbers.** An A100 reads 19.5 TB/s from shared memory (108 units of 128 byte per cycle at 1.41 GHz), a figure of this
# text and not of the device's file: $B_t^* = 32$ at 16 bits, and 4-bit weights lower it to 20. Held against the engine.

# %%
before = symroof.load_model("llama-2-7b").prefill(batch=1, seq_len=2048)
chip = technique("memory-levels:bandwidth=19.5TB/s")
for also, wanted in (((), 32), ((technique("quantize:weights=4"),), 20)):
    plain = before.apply(*also)
    found = payoff(plain, plain.apply(chip), over="tile", hardware="a100-sxm-80gb", operator="up_proj")
    print("with", *(one.text for one in (*also, chip)), ":", found.sentence)
    assert found.edges_expr == (wanted,)
    for side in (1, 8, wanted - 1, wanted, wanted + 1, 128, 5000):
        tiled = plain.apply(technique(f"memory-levels:tile={side},bandwidth=19.5TB/s"))
        times = [symroof.analyze(one, "a100-sxm-80gb")["up_proj"].time_expr for one in (plain, tiled)]
        assert times[0] / times[1] == found.speedup_expr(side)
        assert (times[1] > times[0]) == (side < wanted)
assert Rational(312 * 32 * 10, 16 * 195) == 32

# %% [markdown]
# **What it costs.** A tile below $B_t^*$ makes a compute-bound product $B_t^* / B_t$ times as slow; above it nothing is gained. Not
# counted: attention's products, tiles that overhang, the capacity that bounds $B_t$, and the writes of the result.
#
# Several levels: Ilic, Pratas and Sousa (2014), doi:10.1109/L-CA.2013.6; Yang, Kurth and Williams (2020), arXiv:2009.02449.
