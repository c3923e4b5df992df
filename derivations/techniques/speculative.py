# %% [markdown]
# # Speculative decoding
#
# $\gamma$ tokens are drafted and one step of the target verifies them: $T(\gamma)$ seconds for $N = \sum_{i \le \gamma}
# \alpha^i$ tokens.

# %%
from itertools import pairwise

from sympy import Rational, cancel, simplify
from sympy import symbols as sympy_symbols

import symroof
from symroof import Storage, best_length, least_acceptance, pays_at_all

alpha, b, gamma, kappa_d = symroof.symbols.named("alpha b gamma kappa_d")

DEVICE = "a100-sxm-80gb"
model = symroof.load_model("llama-2-7b")
before = model.decode(symbolic=True)
after = before.apply(symroof.technique("speculative")).symbolic

# %% [markdown]
# **Theorem 1.** It pays where $N > T(\gamma)/T(0)$. Bound by weights alone $T(\gamma) = T(0)(1 + \kappa\gamma)$, and it is
# faster by Leviathan's $N / (1 + \kappa\gamma)$, at most $1/(1-\alpha)$; compute-bound it does $(\gamma + 1 + \kappa\gamma)
# / N \ge 1$ times the work: it never pays.

# %%
up = {name: [(n, op) for op, n in graph if op.name.endswith("up_proj")] for name, graph in (("old", before.symbolic), ("new", after))}
weights = {name: sum(n * op.byte_count(Storage.WEIGHT) for n, op in found) for name, found in up.items()}
flops = {name: sum(n * op.flop_count for n, op in found) for name, found in up.items()}
leviathan = (1 - alpha ** (gamma + 1)) / ((1 - alpha) * (gamma * kappa_d + 1))
assert simplify(weights["old"] / weights["new"] * after.tokens - leviathan) == 0
assert simplify(flops["new"] / flops["old"] - (gamma + 1 + gamma * kappa_d)) == 0
print("faster by at most", leviathan, "(Leviathan et al., theorem 3.8)")

# %% [markdown]
# **Theorem 2.** For a dense model $T$ is convex in $\gamma$ and $N$ concave, so $T/N$ falls, then rises: there is one best
# length, and some length pays if and only if one token does, $\alpha > T(1)/T(0) - 1$.
#
# *Proof.* FLOPs and bytes of every operator are polynomials in $\gamma$ with coefficients of zero or above, so convex; so
# are their maxima and sums. $N$ grows by $\alpha^{\gamma+1}$, less each time. Then $\{T \le c N\}$ is an interval for every
# $c$. If $T(1)/N(1) \ge T(0)$, no later value is below. ∎

# %%
for batch in (1, 96):
    step = model.decode(batch=batch, seq_len=64)
    told = best_length(step, symroof.technique("speculative:acceptance=0.8,draft_cost=0.05"), DEVICE)
    times = []
    for length in range(1, told.length + 4):
        one = step.apply(symroof.technique(f"speculative:acceptance=0.8,length={length},draft_cost=0.05"))
        times.append(symroof.analyze(one, DEVICE).total.time_expr / one.graph.tokens)
    assert min(times) == told.time_expr
    assert [left > right for left, right in pairwise(times)] == [n < told.length for n in range(1, len(times))]
    least = least_acceptance(step, symroof.technique("speculative:draft_cost=0.05"), DEVICE).exact
    print(f"batch {batch}: best length {told.length}, faster by {float(told.speedup):.3f}; pays from acceptance {float(least):.4f}")
found = pays_at_all(model.decode(seq_len=64), symroof.technique("speculative:acceptance=0.7,draft_cost=0.1"), DEVICE)
print("context 64, acceptance 0.7, draft cost 0.1: some length", found.sentence)

# %% [markdown]
# **Theorem 3.** At large batches each sequence takes $c + m t$: work of the linear layers under the peak, and its cache
# under the bandwidth, read once for $\gamma + 1$ tokens. There speculation pays beyond $t = (\gamma + 1 + \kappa\gamma -
# N)\,c / ((N - 1 - \kappa\gamma)\,m)$, whatever the batch.

# %%
tokens, cost = sum(Rational(4, 5) ** i for i in range(5)), Rational(1, 5)
linear, cached = Rational(2 * 6607077376, 312 * 10**12), Rational(524288, 2039 * 10**9)  # FLOPs of the layers; 2 L k e elements a token
border = (5 + cost - tokens) * linear / ((tokens - 1 - cost) * cached)
for context, ends in ((int(border / 2), "loses"), (int(border * 2), "pays")):
    step = model.decode(seq_len=context)
    payoff = symroof.payoff(
        step, step.apply(symroof.technique("speculative:acceptance=0.8,length=4,draft_cost=0.05")), over="batch", hardware=DEVICE
    )
    assert payoff.intervals[-1].bound == ends
print(f"length 4, acceptance 0.8: beyond a context of about {float(border):.0f} it pays at every batch")
assert cancel(after.tokens.subs(gamma, 2)) == alpha**2 + alpha + 1

# %% [markdown]
# **Recurrent layers** keep one state of $S$ bytes per sequence, read and written once per step. A rejected token must be undone:
# engines write a state per token (`rollback=snapshots`), copy the accepted one from a buffer (`buffer`), or keep the inputs and
# compute the accepted tokens again (`replay`).
#
# **Theorem 4.** Bound by weights $W$ and states, a plain step reads $W + 2 b S$, one that verifies $W + (\gamma + 2) b S$ with
# snapshots, $W + (\gamma + 4) b S$ with a buffer, $W + 2 b S$ and the inputs with replay. Snapshots pay at every batch if and only
# if $N \ge 1 + \gamma / 2$: on average at least half of the drafted tokens are accepted. Otherwise they pay below
# $$b^* = \frac{W (N - 1)}{S (\gamma + 2 - 2 N)}$$
# sequences, a buffer below the same with $\gamma + 4$; replay wherever a model without states would.

# %%
hybrid = symroof.load_model("mamba2-2.7b").decode(seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)


def moved(step):
    """Bytes of weights and scanned states, in the batch."""
    weights = sum(n * op.byte_count(Storage.WEIGHT) for op, n in step.graph if op.name != "embedding")
    return weights + sum(n * op.byte_count(Storage.KV_CACHE) for op, n in step.graph if op.kind == "scan")


plain = moved(hybrid)
state, weight = plain.coeff(b) / 2, plain.coeff(b, 0)
for rollback, states in (("snapshots", gamma + 2), ("buffer", gamma + 4)):
    rolled = hybrid.apply(symroof.technique(f"speculative:draft_cost=0,rollback={rollback}"))
    assert simplify(moved(rolled) - weight - states * b * state) == 0
    for accepted, length in ((Rational(1, 2), 4), (Rational(7, 10), 4), (Rational(4, 5), 4)):
        drafted = hybrid.apply(symroof.technique(f"speculative:acceptance={accepted},length={length},draft_cost=0,rollback={rollback}"))
        tokens, needed = drafted.graph.tokens, states.subs(gamma, length)
        less = plain - moved(drafted) / tokens  # linear in the batch
        if 2 * tokens >= needed:
            assert less.coeff(b) >= 0 < less.coeff(b, 0)
            print(f"{rollback}, acceptance {accepted}: fewer bytes at every batch")
        else:
            border = weight * (tokens - 1) / (state * (needed - 2 * tokens))
            assert less.subs(b, border) == 0
            print(f"{rollback}, acceptance {accepted}: fewer bytes below batch {float(border):.1f}")

# %% [markdown]
# On a device, with everything counted:

# %%
for rollback in ("snapshots", "buffer", "replay"):
    rolled = hybrid.apply(symroof.technique(f"speculative:acceptance=0.5,length=4,draft_cost=0,rollback={rollback}"))
    print(f"{rollback}: {symroof.payoff(hybrid, rolled, over='batch', hardware='h100-sxm').sentence}")

# %% [markdown]
# **Heads of the model's own** draft from its hidden states: a layer for multi-token prediction (`draft=mtp`), or EAGLE's. A pass
# reads the head's $H$ bytes and $V$ of an LM head; a step makes $\gamma$ passes, the first on all tokens that were verified.
#
# **Theorem 5.** Bound by weights $W$, such a head is a draft of cost $\kappa = (H + V) / W$: it pays if and only if
# $N > 1 + \gamma (H + V) / W$, one token if $\alpha > (H + V) / W$, and a further one where
# $\alpha^{\gamma + 1} > N (H + V) / (W + \gamma (H + V))$. EAGLE-3 projects the target's states in the first pass alone, $3 d^2$
# more. Compute-bound it never pays, by theorem 1.

# %%
H, V = sympy_symbols("H V", positive=True)
llama = symroof.load_model("llama-3.1-8b").decode(batch=1, seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)


def read(step):
    """Bytes of weights, of which an embedding's few rows are left out."""
    return sum(n * op.byte_count(Storage.WEIGHT) for op, n in step.graph if not op.name.endswith("embedding"))


W, d, v = read(llama), 4096, 128256
kv, mlp = 1024, 3 * d * 14336
eagle = 2 * d * d + (2 * d * d + 2 * d * kv) + mlp + 2 * d  # the projection, attention, the MLP, two norms
third = 2 * d * d + (2 * d * 2 * kv) + d * d + mlp + 4 * d  # attention reads embedding and state side by side; four norms
costs = {"draft=eagle": (2 * eagle, 2 * d * v, 0), "draft=eagle3,vocabulary=32000": (2 * third, 2 * d * 32000, 6 * d**2)}
for text, (own, logits, once) in costs.items():
    kappa = Rational(own + logits, W)
    for length in (1, 3, 5):
        after = llama.apply(symroof.technique(f"speculative:acceptance=0.7,length={length},{text}"))
        assert read(after) == W + length * (own + logits) + once
        tokens = after.graph.tokens
        assert (read(after) - once < W * tokens) == (tokens > 1 + length * kappa)
    print(f"{text}: a draft of cost {float(kappa):.4f}, of which the LM head {float(Rational(logits, W)):.4f}")
    least = least_acceptance(llama, symroof.technique(f"speculative:{text}"), DEVICE).exact
    assert kappa < least < kappa + Rational(3, 100)
    print(f"  one token pays from acceptance {float(least):.4f} on, with activations, cache and the first projection")
N = sum(alpha**i for i in range(4))
further = simplify((W + 4 * (H + V)) / (N + alpha**4) - (W + 3 * (H + V)) / N)
assert simplify(further * N * (N + alpha**4) - (N * (H + V) - alpha**4 * (W + 3 * (H + V)))) == 0

# %% [markdown]
# Sources: Leviathan et al. (2023), arXiv:2211.17192; on recurrent layers
# `symroof.techniques.decoding.rollback`, on heads `symroof.architectures.prediction`.
