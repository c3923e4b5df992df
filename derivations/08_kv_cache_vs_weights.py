# %% [markdown]
# # 8. The context at which the KV cache passes the weights
#
# Weights are read once per step for the whole batch; every sequence has a cache of its own. So the bytes of the
# cache pass the bytes of the weights on a hyperbola, `batch x context = constant`, in memory and, nearly at the
# same place, in the traffic of a decode step. GQA moves it out by the group.

# %%
from matplotlib.figure import Figure
from sympy import Integer, factor, floor, simplify

import symroof
from symroof import cache_passes_weights, hyperbola

L, a, b, c, d, e, g, h, k, t, v, w = symroof.symbols.named("L a b c d e g h k t v w")

MODELS = ("llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3.1-8b")
step = symroof.load_model("llama-2-7b").decode(symbolic=True)
weights, cache = step.graph.weight_memory(), step.graph.kv_memory()
print("weights:", factor(weights), "byte")
print("KV cache:", factor(cache), "byte")

# %% [markdown]
# **Theorem.** With $N$ parameters the cache takes more memory than the weights from
# $$b\,t^* = \frac{N w}{2 L k e c}$$
# on: a constant of the model and of the ratio $w / c$.
#
# *Proof.* The weights take $N w / 8$ bytes, whatever the batch. The cache takes $2 L k e c / 8$ for each of
# $b t$ tokens: keys and values, in every layer, of every KV head. Divide. ∎

# %%
N = step.graph.parameter_count()
assert simplify(weights - N * w / 8) == 0
assert simplify(cache - 2 * L * b * t * k * e * c / 8) == 0
memory_star = cache_passes_weights(step).exact
assert simplify(memory_star - N * w / (2 * L * b * k * e * c)) == 0
pairs = factor(memory_star * b)
assert not {b, t} & pairs.free_symbols
print("b t* =", pairs)

# %% [markdown]
# **In traffic.** A step reads all the weights but the embedding table, of which it reads `b` rows of `d`. With the
# table's $v d$ parameters taken off (where it is not tied to the LM head), the traffic crosses at
# $b t^* = ((N - v d) + b d)\,w / (2 L k e c)$, a little earlier than memory.

# %%
kv_read = step.graph.byte_count("kv_cache", "read")
read = step.graph.byte_count("weight", "read")
assert simplify(kv_read - cache) == 0, "the cache is read whole"
assert simplify(read - (weights - (v - b) * d * w / 8)) == 0
traffic_star = read / (kv_read / t)
assert simplify(traffic_star * b - (N - v * d + b * d) * w / (2 * L * k * e * c)) == 0

# %% [markdown]
# **GQA.** At the same parameters, $g$ query heads per KV head divide the cache by $g$ and multiply $b t^*$ by it.
# (Its smaller K and V projections take a little off $N$.)

# %%
grouped = (N.subs(k, h / g), (2 * L * k * e * c).subs(k, h / g))
assert simplify(grouped[1] * g - 2 * L * h * e * c) == 0
saved = simplify(N.subs(k, h) - grouped[0])
assert simplify(saved - 2 * L * d * h * e * (1 - 1 / g)) == 0
print("parameters GQA takes off:", factor(saved))

# %% [markdown]
# In numbers at 16 bits, and checked at the contexts around each crossover: the engine's memory and traffic, and a
# loop over tokens that adds up the cache.

# %%
for name in MODELS:
    model = symroof.load_model(name)
    here = model.dimensions | dict.fromkeys((w, a, c), Integer(16))
    total = pairs.xreplace(here)
    print(f"{name}: b t* = {total} = {float(total):.0f} tokens; by batch:", end=" ")
    for batch in (1, 8, 64):
        star, moved = (one.xreplace(here | {b: Integer(batch)}) for one in (memory_star, traffic_star))
        print(f"b = {batch}: {float(star):.1f} (traffic {float(moved):.1f})", end="; " if batch < 64 else "\n")
        assert star == total / batch > moved
        for length in {floor(star), floor(star) + 1, floor(moved), floor(moved) + 1} - {0}:
            at = model.decode(batch=batch, seq_len=int(length)).with_widths()
            assert (at.graph.kv_memory() > at.graph.weight_memory()) == (length > star)
            assert (at.graph.byte_count("kv_cache", "read") > at.graph.byte_count("weight", "read")) == (length > moved)
    per_token, weight_bytes, tokens = 2 * int((L * k * e).xreplace(here)) * 2, 2 * model.parameters, 0
    while tokens * per_token <= weight_bytes:
        tokens += 1
    assert tokens == floor(total) + 1

# %% [markdown]
# **On a device.** What fits is a hyperbola too, $b t = (C - W) / \kappa$ with $\kappa$ bytes of cache per token and
# activations left out. A user gets to see the cache pass the weights before memory is full if $C > 2 W$.

# %%
for name in MODELS:
    step = symroof.load_model(name).decode().with_widths()
    passes = cache_passes_weights(step).exact * b
    for device in map(symroof.load_hardware, ("a100-sxm-80gb", "h100-sxm", "h200-sxm")):
        fits = hyperbola(step, hardware=device).exact
        weight_bytes = step.graph.weight_memory()
        assert (fits > passes) == (device.usable.magnitude > 2 * weight_bytes)
        words = "the cache can pass the weights" if fits > passes else "memory is full before"
        room = f"{fits} = {float(fits):.0f} tokens fit beside the weights; {words}"
        print(f"{name} on {device.name}: {room if fits > 0 else 'the weights alone do not fit'}")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="batch (sequences)", ylabel="context length (tokens)", xscale="log", yscale="log")
batches = [2**power for power in range(9)]
looks = zip(MODELS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), "osD^", strict=True)
for name, colour, marker in looks:
    star = memory_star.xreplace(symroof.load_model(name).dimensions | {w: Integer(16), c: Integer(16)})
    axes.plot(batches, [float(star.subs(b, one)) for one in batches], marker=marker, color=colour, label=name)
axes.legend(title="cache = weights", fontsize=8, title_fontsize=8)
symroof.show(figure)

# %% [markdown]
# **What it means.** Below the line a decode step is spent on weights and more batch is nearly free; above it on the
# cache, and more batch brings as many more bytes. Llama-2-7b at batch 64 is past it at 402 tokens, Llama-3.1-8b, with a
# quarter of the KV heads, at 1915. That the two widths enter as $w / c$ is derivation 9.
#
# Pope et al. (2022), arXiv:2211.05102, set the two loads against each other; GQA is by Ainslie et al. (2023),
# arXiv:2305.13245.
