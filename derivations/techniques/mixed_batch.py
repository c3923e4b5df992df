# %% [markdown]
# # Mixed batches: a chunk of a prompt rides along with a decode step
#
# Linear operators do not know whose tokens they multiply. A step of $b$ decoding sequences and $b_p$ prompts with
# $s_k$ tokens each reads its weights once for $b + b_p s_k$ tokens; attention runs apart for the two parts.

# %%
from sympy import simplify

import symroof
from symroof import token_budget

BW, P, S, a, b, b_p, d, f, s_k, w = symroof.symbols.named("BW P S a b b_p d f s_k w")

model = symroof.load_model("llama-2-7b")
plain = model.decode(symbolic=True)
mixed = plain.apply(symroof.techniques.MixedBatch(prompts=b_p, prompt=S))
F, B = mixed["up_proj"].flop_count, mixed["up_proj"].byte_count()
tokens = b + b_p * s_k
assert simplify(F - 2 * tokens * d * f) == 0
assert simplify(B - (tokens * (d + f) * a + d * f * w) / 8) == 0

# %% [markdown]
# **Theorem 1 (token budget).** A linear operator turns compute-bound at $b^* = P w d f / (16 BW d f - P a (d + f))$ tokens,
# the critical batch of decode, whoever they belong to. The largest chunk that rides in the shadow of the weights is
# $s_k^* = (b^* - b) / b_p$.
#
# *Proof.* $F$ and $B$ are those of decode with $b + b_p s_k$ in the place of $b$. ∎

# %%
budget = token_budget(plain, "up_proj").formula
assert simplify(budget - P * w * d * f / (16 * BW * d * f - P * a * (d + f))) == 0
ride = symroof.crossover(mixed, "up_proj", over="chunk").formula
assert simplify(ride - (budget - b) / b_p) == 0
print("token budget:", budget)
for device in ("a100-sxm-80gb", "h100-sxm"):
    step = model.decode(seq_len=1024)
    print(device, {part: token_budget(step, part, hardware=device).first_integer for part in ("q_proj", "up_proj", "lm_head", "total")})

# %% [markdown]
# **Theorem 2 (what it saves).** Against the two parts run apart, a mixed step does the same FLOPs and moves the weights
# once less: it is never slower, at most twice as fast in its linear operators, and gains nothing where both parts alone
# are compute-bound. *Proof.* Apart, $\max(F_1/P, (W + A_1)/BW) + \max(F_2/P, (W + A_2)/BW)$; together
# $\max((F_1 + F_2)/P, (W + A_1 + A_2)/BW)$, which is at most the sum and at least half of it. ∎


# %%
def seconds(step, names):
    """Time of some operators on an A100."""
    analysis = symroof.analyze(step, "a100-sxm-80gb")
    return sum(analysis[name].time_expr for name in names)


LINEAR = ("q_proj", "up_proj", "down_proj")
for batch in (1, 16, 100, 300):
    for chunk in (1, 32, 128, 512):
        decode = model.decode(batch=batch, seq_len=1024)
        prefill = model.prefill(batch=1, seq_len=chunk)
        both = decode.apply(symroof.techniques.MixedBatch(chunk=chunk))
        apart, together = seconds(decode, LINEAR) + seconds(prefill, LINEAR), seconds(both, LINEAR)
        assert both.graph.flop_count == decode.graph.flop_count + prefill.graph.flop_count
        assert together <= apart <= 2 * together
        assert (together == apart) == (min(batch, chunk) > 166)
        if batch == 16:
            print(f"16 sequences, chunk {chunk}: {float(apart / together):.2f} times as fast as apart,", end=" ")
            print(f"decode waits {float(together / seconds(decode, LINEAR)):.2f} times as long")

# %% [markdown]
# Beyond the budget every token of a chunk costs its $2 d f / P$ and stretches the step for those that decode. A later
# chunk of the same prompt attends to more: pairs $s_k (2 S - s_k + 1) / 2$ at a prompt of $S$ tokens so far.

# %%
pairs = mixed["qk_matmul.chunk"].flop_count / (2 * mixed["qk_matmul.chunk"].space.sizes["k"] * mixed["qk_matmul.chunk"].space.sizes["g"])
assert simplify(pairs / mixed["qk_matmul.chunk"].space.sizes["e"] - b_p * s_k * (2 * S - s_k + 1) / 2) == 0
print("attention of the chunk, pairs:", b_p * s_k * (2 * S - s_k + 1) / 2)

# %% [markdown]
# Source: Agrawal et al. (2023), SARATHI, arXiv:2308.16369, sections 3 and 4.
