# %% [markdown]
# # 33. Two numbers set attention's intensity in decode
#
# Multi-head, grouped-query, multi-query, latent, tied, grouped latent: in decode they differ in how many query heads
# meet one cached state, $g_q$, and in how many states a token leaves per group, $m_{kv}$: two where keys and
# values are separate, one where they are the same numbers. Nothing else enters.

# %%
from itertools import product

from matplotlib.figure import Figure
from sympy import Integer, Max, Rational, Symbol, expand, factor, simplify

import symroof
from symroof import Direction, Storage, operator, own_model, tensor

a, b, c, e, g, h, k, n_p, r, r_kv, t = symroof.symbols.named("a b c e g h k n_p r r_kv t")
m = Symbol("m_kv", positive=True)

# %% [markdown]
# ## One family
#
# Einsums with keys and values apart, with one cache for both, and with a latent and a rotary key beside it. The library's own
# FlashAttention fuses each: no score leaves the chip, and every cached number is read once.


# %%
def attention(*caches, scores="b s k g e, b t k e -> b k g s t", weighted_sum="b k g s t, b t k e -> b s k g e"):
    """Scores, softmax and weighted sum: over keys and values, or over one cache that is both."""
    qk = operator(scores, "query", caches[0], name="qk", role="scores")
    softmax = operator("b k g s t -> b k g s t", qk, name="softmax", role="softmax", flops=5, exponentials=1)
    return qk, softmax, operator(weighted_sum, softmax, caches[-1], name="sv", role="weighted_sum")


def cached(name):
    """A cache with a head dimension."""
    return tensor(name, "b t k e", "kv_cache")


LATENT = {"scores": "b s k g r_kv, b t k r_kv -> b k g s t", "weighted_sum": "b k g s t, b t k r_kv -> b s k g r_kv"}
latent, rotary = tensor("latent", "b t k r_kv", "kv_cache"), tensor("rotary", "b t r", "kv_cache")
content, _, mixed = attention(latent, **LATENT)
position = operator("b s k g r, b t r -> b k g s t", "rotary_query", rotary, name="position", role="scores")
both = operator("b k g s t, b k g s t -> b k g s t", content, position, name="softmax", role="softmax", flops=6, exponentials=1)
FAMILY = {
    "separate": (attention(cached("keys"), cached("values")), {"k": 8, "g": 4, "e": 128}, 2),
    "tied": (attention(cached("cache")), {"k": 8, "g": 4, "e": 128}, 1),
    "latent": (attention(latent, **LATENT), {"k": 1, "g": 32, "r_kv": 256}, 1),
    "latent, rotary": (
        (content, position, both, operator(LATENT["weighted_sum"], both, latent, name="sv", role="weighted_sum")),
        {"k": 2, "g": 16, "r_kv": 256, "r": 64},
        1,
    ),
}
MODELS = {name: own_model("own", parts, layers=1, sizes=sizes) for name, (parts, sizes, _) in FAMILY.items()}
cores = {name: own.decode(symbolic=True).apply("flash-attention").symbolic["fused_attention"] for name, own in MODELS.items()}

# %% [markdown]
# **Theorem.** Let $g_q$ query heads meet each state and let a token leave $m_{kv}$ states per group. As the context grows, the
# intensity of decode's two contractions tends to
# $$I = \frac{32}{c}\,\frac{g_q}{m_{kv}}, \qquad 2\,\frac{g_q}{m_{kv}}\;\text{at two bytes per element},$$
# and stays below it; batch, head dimension and number of groups do not enter.
#
# *Proof.* Each group's $g_q$ queries meet a state of $e$ numbers in two products, the scores and the weighted sum:
# $4 g_q e$ FLOPs a token of context. It leaves $m_{kv} e$ numbers of $c / 8$ bytes. Queries and results do not grow with the
# context. So $F = N t$ and $B = A + C t$ with $N / C = 32 g_q / (c\, m_{kv})$. ∎

# %%
theorem = 32 * g / (c * m)
for name, (_, _, states) in FAMILY.items():
    flops, moved = cores[name].contraction_flop_count, cores[name].byte_count()
    limit = simplify(symroof.limit(flops / moved, t))
    assert simplify(expand(flops / b / t).diff(t)) == 0, "F = N t, with b a factor"
    assert factor(limit - flops / moved).is_positive, "and below the limit at every context"
    if "rotary" not in name:
        assert simplify(limit - theorem.subs(m, states)) == 0
    print(f"{name:15} {limit}")

# %% [markdown]
# A rotary key beside the latent, one for all groups, belongs to the scores alone. It is the whole difference between
# $2 h$ and what latent attention with positions reaches:
# $$\frac{16 g_q}{c} \cdot \frac{k\,(2 r_{kv} + r)}{k\,r_{kv} + r}.$$

# %%
placed = simplify(symroof.limit(cores["latent, rotary"].contraction_flop_count / cores["latent, rotary"].byte_count(), t))
assert simplify(placed - 16 * g * k * (2 * r_kv + r) / (c * (k * r_kv + r))) == 0
assert simplify(placed.subs(r, 0) - theorem.subs(m, 1)) == 0

# %% [markdown]
# ## The variants
#
# The paper's table, and the published models: sharing raises the intensity, tying doubles it and halves the cache, and latent
# attention has every head on one state.

# %%
SIXTEEN = {a: Integer(16), c: Integer(16)}
print(f"{'attention':26}{'g_q':>5}{'m_kv':>6}{'2 g_q/m_kv':>12}{'bytes per token and layer':>27}")
rows = (("MHA, 32 heads", 1, 2, 32), ("GQA, 8 groups", 4, 2, 8), ("GTA, 8 groups", 4, 1, 8), ("MQA", 32, 2, 1), ("tied MQA", 32, 1, 1))
found = {}
for name, shared, states, groups in rows:
    own = MODELS["separate" if states == 2 else "tied"]
    core = own.decode(symbolic=True).apply("flash-attention").symbolic["fused_attention"]
    here = {g: Integer(shared), k: Integer(groups), e: Integer(128)} | SIXTEEN
    reached = symroof.limit(core.contraction_flop_count / core.byte_count(), t).xreplace(here)
    per_token = (core.byte_count(Storage.KV_CACHE) / b / t).xreplace(here)
    found[name] = (reached, per_token)
    assert reached == Rational(2 * shared, states)
    print(f"{name:26}{shared:>5}{states:>6}{reached!s:>12}{per_token!s:>27}")
assert found["MHA, 32 heads"][0] == 1, "published: about 1"
assert found["GTA, 8 groups"][0] == 2 * found["GQA, 8 groups"][0]
assert 2 * found["GTA, 8 groups"][1] == found["GQA, 8 groups"][1], "published: doubled, with half the cache"
for name, core in (("llama-2-7b", "fused_attention"), ("llama-3-8b", "fused_attention"), ("deepseek-v3", "moe.fused_attention")):
    published = symroof.load_model(name).decode(symbolic=True, flash_attention=True).symbolic[core]
    reached = symroof.limit(published.contraction_flop_count / published.byte_count(), t)
    print(f"{name:26}{'':23}{float(reached.xreplace(symroof.load_model(name).dimensions | SIXTEEN)):.5g}")

# %% [markdown]
# ## Two latents instead of one
#
# Grouped latent attention halves the heads per latent, and with them the intensity. Why is its kernel "up to 2x" faster than
# that of one latent? Not on one device: there it reads the rotary key once and two latents of half the rank, as many bytes. On two
# devices one latent has to lie on both, and two latents share out.
#
# **Proposition (duplication).** Over $n$ devices the cache of a device is that of the whole times
# $\max(1 / n, 1 / k)$ for $k$ states, however many devices there are: nothing less than one state is stored.

# %%
for groups, degree in product((1, 2, 4, 8), (1, 2, 4, 8, 16)):
    sizes = {"k": groups, "g": 16 // min(groups, 16), "e": 128}
    own = own_model("own", attention(cached("cache")), layers=1, sizes={**sizes, "g": max(degree // groups, 1) * 4})
    whole = own.decode(batch=1, seq_len=4096, kv_bits=16, activation_bits=16)
    parts = whole.apply(f"tensor-parallel:degree={degree}") if degree > 1 else whole
    kept = [step.graph.kv_memory() for step in (whole, parts)]
    assert kept[1] == kept[0] * Max(Rational(1, degree), Rational(1, groups)), (groups, degree)
    moved = [step.graph["qk"].byte_count(Storage.KV_CACHE, Direction.READ) for step in (whole, parts)]
    assert moved[1] == moved[0] * Max(Rational(1, degree), Rational(1, groups))

# %% [markdown]
# With 128 heads and the same 512 numbers in the latents, on two devices at 16 bits, read per token of context and layer:

# %%
per_device = {}
for name, groups in (("one latent of 512", 1), ("two latents of 256", 2)):
    sizes = {"k": groups, "g": 128 // groups, "r_kv": 512 // groups, "r": 64}
    own = own_model("own", FAMILY["latent, rotary"][0], layers=1, sizes=sizes)
    halves = own.decode(batch=1, seq_len=2**20, kv_bits=16, activation_bits=16).apply("tensor-parallel:degree=2", "flash-attention")
    per_device[name] = halves.graph["fused_attention"].byte_count(Storage.KV_CACHE) / 2**20
    print(f"{name:20}{float(per_device[name]):.5g} byte")
ratio = per_device["one latent of 512"] / per_device["two latents of 256"]
assert ratio == Rational(576, 320)
print(f"{float(ratio)} times fewer; 2 without the rotary key, which both devices read")

# %% [markdown]
# That is a bound of 1.8 where both read at the full bandwidth, and the published "up to 2x" is of kernels: what is above 1.8 is not
# fewer bytes.

# %%
figure = Figure(figsize=(6.4, 3.8), layout="constrained")
axes = figure.add_subplot(xlabel="query heads per state, $g_q$", ylabel="intensity (FLOP/byte, 16 bits)", xscale="log", yscale="log")
axes.set_ylim(0.7, 1000)
heads = [2**power for power in range(8)]
for states, label in ((2, "keys and values apart"), (1, "one state for both")):
    axes.plot(heads, [2 * each / states for each in heads], "o-", label=label)
for name, style in (("a100-sxm-80gb", ":"), ("h100-sxm", "--")):
    device = symroof.load_hardware(name)
    axes.axhline(float(device.peak("bf16").exact / device.bandwidth_expr), color="black", linewidth=0.8, linestyle=style)
    axes.text(1, 1.06 * float(device.peak("bf16").exact / device.bandwidth_expr), f"ridge of {name}", fontsize="small")
axes.grid(visible=True, which="major", linewidth=0.3)
axes.legend(frameon=False)
symroof.show(figure)

# %% [markdown]
# **What it means.** To raise attention's intensity there are two levers: more queries per state, and states that serve twice. Neither
# asks for a larger batch. What is saved in bytes is only saved on many devices if there are as many states as devices.
#
# Caveats. Contractions only. Tied keys and values need positions elsewhere: the paper's GTA keeps a
# rotary half of the keys apart, which costs a little of the factor of two.
#
# Sources: Zadouri, Strauss and Dao (2025), arXiv:2505.21487, section 3 and table 1; Shazeer (2019), arXiv:1911.02150; Ainslie et al.
# (2023), arXiv:2305.13245.
