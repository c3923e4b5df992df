# %% [markdown]
# # 36. Attention over a shared prefix
#
# Sequences that share a prefix can look at it together: their queries are the rows of one matrix product. When is it
# compute-bound, when is the rest, and what does a longer prefix cost? (What is read and stored:
# derivations/techniques/prefix_cache.py.)

# %%
from dataclasses import replace

from matplotlib.figure import Figure
from sympy import Integer, Rational, diff, limit, oo, simplify

import symroof

BW, P, a, b, c, e, g, h, k, t, v, x_p = symroof.symbols.named("BW P a b c e g h k t v x_p")
DEVICE = "a100-sxm-40gb"
bits = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}

# %% [markdown]
# **Theorem 1.** In decode, attention over the prefix has the intensity of a product with $b g$ rows: it rises in the
# batch b without bound of the batch's own, and turns compute-bound once, at $b \to 2 P c / (8\,BW\,g\,(4 + 5/e))$ for
# long prefixes. Attention over the rest has an intensity that the batch does not enter, at most
# $8 g (4 + 5 / e) / 2 c$: it is memory-bound at every batch if that is below the ridge.
#
# *Proof.* The prefix is read once, the rest by every sequence; FLOPs are in proportion to b in both. ∎

# %%
letters = symroof.load_model("llama-2-13b").decode(symbolic=True, flash_attention=True).apply(symroof.techniques.PrefixCache())
prefix, suffix = (letters[f"fused_attention.{part}"] for part in ("prefix", "suffix"))
intensities = [operator.flop_count / operator.byte_count() for operator in (prefix, suffix)]
keys = prefix.byte_count().expand().coeff(b, 0)
assert simplify(keys - 2 * x_p * t * k * e * c / 8) == 0, "read once"
assert simplify(diff(intensities[0], b) - prefix.flop_count / b * keys / prefix.byte_count() ** 2) == 0, "above 0"
assert b not in simplify(intensities[1]).free_symbols
critical = symroof.crossover(letters, "fused_attention.prefix", over="batch")
assert simplify(limit(critical.formula, t, oo).subs(h, g * k) - P * c / (4 * BW * g * (4 + 5 / e))) == 0
assert simplify(limit(intensities[1], t, oo) - 8 * (h / k) * (4 + 5 / e) / (2 * c)) == 0

# %% [markdown]
# On the published setting, CodeLlama-13B (Llama-2-13B with a vocabulary of 32016) on eight A100 of 40 GB, 1024
# sequences, over batches, each bound scanned:


# %%
def at(batch, shared, own, read="once", split="tensor-parallel:degree=8"):
    """A step of all sequences on one of eight devices."""
    step = symroof.load_model("llama-2-13b").decode(batch=batch, seq_len=shared + own, flash_attention=True, **bits)
    step = replace(step, values={**step.values, v: Integer(32016)})
    share = Rational(shared, shared + own)
    return step.apply(symroof.techniques.PrefixCache(share=share, read=read), *([split] if split else []))


turns = symroof.crossover(at(1, 16384, 128).without("batch"), "fused_attention.prefix", over="batch", hardware=DEVICE, ceilings="classic")
for batch, bound in ((turns.first_integer - 1, "memory"), (turns.first_integer, "compute"), (1024, "compute")):
    analysis = symroof.analyze(at(batch, 16384, 128), DEVICE, ceilings="classic")
    assert analysis["fused_attention.prefix"].bound == bound
    assert analysis["fused_attention.suffix"].bound == "memory"
never = (
    at(1, 16384, 128, split="")
    .without("batch")
    .on(DEVICE, ceilings="classic")
    .prove("memory-bound", "fused_attention.suffix", for_all="batch")
)
assert never.verdict == "proved"
print(f"over the prefix compute-bound from batch {turns.first_integer}; over the rest memory-bound at every batch: {never.verdict}")

# %% [markdown]
# **Theorem 2 (a longer prefix).** Compute-bound, each further token of prefix adds $b h (4 e + 5) / (n P)$ seconds
# per layer, whatever the rest takes. From 1k to 16k the step takes $\Delta = 15\,360$ times that longer, and
# throughput loses $\Delta / (T_{1k} + \Delta)$.

# %%
print(f"{'own tokens':>10}{'1k':>11}{'16k':>11}{'loss':>8}{'loss, read by each':>20}{'gain at 1k':>12}{'at 16k':>8}")
losses = {}
for own in (64, 128, 256):
    times = {}
    for read in ("once", "each"):
        for shared in (1024, 16384):
            times[read, shared] = symroof.analyze(at(1024, shared, own, read), DEVICE, ceilings="classic").total.time_expr
    loss = {read: 1 - times[read, 1024] / times[read, 16384] for read in ("once", "each")}
    longer = times["once", 16384] - times["once", 1024]
    scores = 40 * 15360 * 1024 * 40 * (4 * 128 + 5) / Rational(8 * 312 * 10**12)
    assert longer == scores
    gains = [float(times["each", shared] / times["once", shared]) for shared in (1024, 16384)]
    losses[own] = (loss["once"], times["once", 1024], longer)
    seconds = "".join(f"{float(times['once', shared]) * 1000:8.2f} ms" for shared in (1024, 16384))
    print(f"{own:10}{seconds}{float(loss['once']):8.1%}{float(loss['each']):20.1%}{gains[0]:12.2f}{gains[1]:8.1f}")
    assert loss["each"] > Rational(9, 10), "published: over 90 % for what reads it by sequence"
    assert loss["once"] == longer / (times["once", 1024] + longer)

# %% [markdown]
# Published: less than 15 % from 1k to 16k, over 90 % for others; up to 32 times the throughput at 16k and over 3
# times at 1k. The roofline has 91 to 92 % for the others, and 3.5 and 34 times with 128 tokens of their own; measured
# gains are below. The loss is 15.7 % there, more than 15: the longer prefix costs $\Delta = 5.2$ ms of arithmetic on
# any implementation, at the least, and a measured step at 1k takes longer than the roofline's, by launches and
# all-reduces that no prefix changes. It takes 6 % more for the loss to be below 15 %:

# %%
loss, start, longer = losses[128]
enough = longer * Rational(85, 15)
assert loss > Rational(15, 100)
assert longer / (enough + longer) == Rational(15, 100)
print(f"loss below 15 % if a step at 1k takes more than {float(enough) * 1000:.2f} ms: {float(enough / start - 1):.1%} over the roofline's")
assert losses[64][0] > losses[128][0] > Rational(15, 100) > losses[256][0]

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="tokens of shared prefix", ylabel="tokens per second", xscale="log", yscale="log")
shared = [2**place for place in range(10, 15)]
for read, style, colour in (("once", "-o", "#0072B2"), ("each", "--s", "#D55E00")):
    rates = [1024 / float(symroof.analyze(at(1024, length, 128, read), DEVICE, ceilings="classic").total.time_expr) for length in shared]
    axes.plot(shared, rates, style, color=colour, markersize=4, label=f"prefix read {'once' if read == 'once' else 'by each sequence'}")
axes.legend(frameon=False)
symroof.show(figure)

# %% [markdown]
# 1024 sequences with 128 tokens of their own, on eight A100.
#
# **What it means.** A prefix read once costs arithmetic, not bytes, and arithmetic is what a decode step has to
# spare. What is left to pay for is the sequences' own cache.
#
# Caveats. Links, launches and the rescaling of partial outputs are not counted in these times (ceilings classic, no
# link latency); the all-reduces' bytes are.
#
# Source: Juravsky et al. (2024), Hydragen, arXiv:2402.05099.
