# %% [markdown]
# # 6. FlashAttention: once through memory, block by block through the cache
#
# FlashAttention keeps the scores on chip. What is left to move are queries, output, and the keys and values, which
# every block of queries streams past itself. All depends on where these re-reads go. On a GPU they go to the last-level
# cache, so that memory is crossed once, and attention over a prompt is compute-bound from a few hundred tokens on. On
# the machine of Dao's theorems, one processor with nothing but memory behind it, they go to memory, and the same
# operator may be memory-bound at every length. One theorem has both cases, the cache's, and all that lie between.

# %%
from collections import OrderedDict

from matplotlib.figure import Figure
from sympy import Integer, Rational, Symbol, ceiling, expand, factor, floor, limit, oo, simplify, summation

import symroof
from symroof import Resource, crossover_of, intensity_supremum

BW, M_L, B_r, M, P, R, a, b, c, e, g, h, k, n_c, s = symroof.symbols.named("BW M_L B_r M P R a b c e g h k n_c s")

model = symroof.load_model("llama-3-8b")
letters = model.prefill(symbolic=True).apply(symroof.technique("flash-attention:rows"))  # B_r is a letter, 128 without it
flash = letters["fused_attention"]
F, B = flash.flop_count, flash.byte_count()
print("F =", factor(F), "FLOP")
print("B =", B, "byte")
print("R =", symroof.notation.written(letters.symbolic.definitions[R]))

# %% [markdown]
# ## Passes
#
# A *block* holds $B_r$ rows of queries, those of the $g$ heads that share keys counted each: $B_r / g$ positions. $n_c$
# processors work on $n_c$ blocks side by side. These stream the same rows of K and V at about the same time, so one read
# of memory serves them all: a *pass*, of $R = n_c B_r / g$ positions. Where K and V of one KV head stay in the
# last-level cache of $M_L$ bytes, $2\,t\,e\,c / 8 \le M_L$, the next pass finds them there: all $s$ positions are one pass.
#
# Under a causal mask pass $i$ sees the first $i R$ positions, the last one all $s$. With $m = \lceil s / R \rceil$ passes the
# rows of K (and as many of V) that cross memory are $\sum_{i=1}^{m-1} i R + s = R\,m (m - 1) / 2 + s$. What the blocks read
# from the cache is the same sum with their own positions in the place of $R$.

# %%
i, m = Symbol("i", positive=True), Symbol("m", positive=True)
rows = summation(i * R, (i, 1, m - 1)) + s
assert simplify(B.subs(ceiling(s / R), m) - (2 * b * s * h * e * a + 2 * b * k * e * c * rows) / 8) == 0
of_blocks = (B - b * s * h * e * a / 8).subs(R, B_r * k / h)  # the output is written to memory, not read from the cache
assert simplify(flash.cache_bytes - of_blocks) == 0
print("rows of K that cross memory:", rows)

# %% [markdown]
# **Against a machine.** A loop walks the blocks, wave by wave and row by row, under a cache that drops what was used
# longest ago. While the context fits, memory gives each row once. Beyond, without a mask, once per wave: such a cache
# has dropped a row just before the next wave asks for it. Under the mask the first waves see no more than fits, and find
# it; the formula counts them, so that just beyond the cache it counts from above.


# %%
def walk(length, positions, processors, capacity, causal):
    """Rows that cross memory, and rows that blocks read, with so many positions in a block and so many rows in the cache."""
    cache, crossed, read = OrderedDict(), 0, 0
    ends = [min(start + positions, length) if causal else length for start in range(0, length, positions)]
    for first in range(0, len(ends), processors):
        wave = ends[first : first + processors]
        for row in range(max(wave)):
            read += sum(row < end for end in wave)
            crossed += row not in cache
            cache[row] = True
            cache.move_to_end(row)
            if len(cache) > capacity:
                cache.popitem(last=False)
    return crossed, read


def rows_of(length, positions, causal):
    """What the formula has: rows read by groups of so many positions, one group after the other."""
    return sum(min(start + positions, length) if causal else length for start in range(0, length, positions))


for positions, processors, capacity in ((4, 1, 20), (4, 3, 50), (16, 4, 100), (16, 4, 300)):
    for length in (1, 17, 20, 50, 51, 100, 128, 129, 240, 300):
        for causal in (True, False):
            crossed, read = walk(length, positions, processors, capacity, causal)
            together = length if length <= capacity else positions * processors
            counted = rows_of(length, together, causal)
            fitting = [end for end in range(together, length, together) if causal and end <= capacity]
            assert (crossed, read) == (counted - sum(fitting), rows_of(length, positions, causal))
            whole = Integer(length), Integer(together)
            assert not causal or rows.subs(m, ceiling(s / R)).xreplace(dict(zip((s, R), whole, strict=True))) == counted
print("the loop and the sums agree")

# %% [markdown]
# ## One theorem for every level
#
# **Theorem.** Let $r$ rows of queries share each read of keys and values: $R = r / g$ positions. Then for every context the
# intensity is below
# $$\sup I = \lambda\,r, \qquad \lambda = \frac{4\,(4 e + 5)}{c\,e} = \frac{16 + 20 / e}{c},$$
# which it tends to. So a level of rate $\beta$ behind which $r$ rows share their reads binds at every context if
# $r \le r^* = P / (\lambda\,\beta)$; otherwise, on whole passes, it no longer does beyond some length.
#
# *Proof.* On whole passes, $s = m R$, the rows read are $s (s / R + 1) / 2$ and $I$ is $(s + 1)$ over a line in $s$. It
# increases (its slope has the sign of the first difference below), and tends to $\lambda r$. A context with $j < R$
# positions missing in the last pass reads $j (m - 1/2 - j / 2R) \ge 0$ more rows than whole passes would, and has the same
# FLOPs. ∎

# %%
whole = expand(B.subs(ceiling(s / R), s / R))
y = Symbol("y", positive=True)  # R = 1 + y: a read serves a position at least
parts = [part.subs({h: g * k, R: 1 + y}) for part in (F, whole)]
supremum = intensity_supremum(*parts, s).subs(y, R - 1)
assert simplify(supremum - 4 * g * R * (4 * e + 5) / (c * e)) == 0
line = expand(whole / s)
slope = simplify(line - (s + 1) * line.diff(s))
assert simplify(slope - (a * b * e * h / 4 + b * c * e * k / 8 * (1 - 1 / R))) == 0, "positive, as R >= 1"
j = Symbol("j", nonnegative=True)
more = simplify((R * m * (m - 1) / 2 + s - s * (s / R + 1) / 2).subs(s, R * m - j))
assert simplify(more - j * (m - Rational(1, 2) - j / (2 * R))) == 0
per_row = simplify(supremum / (g * R))
in_numbers = per_row.xreplace({e: Integer(128), c: Integer(16)})
print("FLOP per byte and row that shares the read:", factor(per_row), "=", in_numbers, "at head dimension 128 and 16 bits")

# %% [markdown]
# At 16 bits $\lambda$ is 1 (and one percent of softmax): **the intensity is the number of query rows that share a read.** A
# ridge of 295 FLOP/byte asks for 293 rows. What follows is only who shares:
#
# | level | rows that share a read | on an H100, 16 bits |
# |---|---|---|
# | memory, K and V of a head fit the cache | all, $g s$ | no limit |
# | memory, beyond the cache | those of a pass, $n_c B_r$ | 16,896 |
# | last-level cache | those of a block, $B_r$ | 128 |
# | memory behind one processor, no cache (Dao) | those of a block, $g \lfloor B_r / g \rfloor$ | 128 |
#
# ## While keys and values fit the cache
#
# **Theorem 1.** Where all rows share, FlashAttention is memory-bound below
# $$s^* = \frac{P}{BW} \cdot \frac{e\,(a + c / g)}{2\,(4 e + 5)} - 1$$
# tokens and compute-bound from there on; without a mask at half of $s^* + 1$. Batch and number of layers do not matter. At 16
# bits that is $2\,(1 + 1/g)$ times the ridge.
#
# *Proof.* One pass moves $(2\,b s h e a + 2\,b s k e c) / 8$ bytes: $I = (4 e + 5)\,h\,(s + 1)$ over a constant. ∎

# %%
fits = {ceiling(s / R): 1}
answer = symroof.crossover(letters, "fused_attention", over="seq_len")
star = P * e * (a + c / g) / (2 * BW * (4 * e + 5)) - 1
assert simplify(answer.formula - star.subs(g, h / k)) == 0
assert str(answer.where) == "c*e*s/4 <= M_L"
assert simplify((F / B.xreplace(fits)).diff(s, 2)) == 0, "a line in s"
open_mask = model.prefill(symbolic=True, causal=False).apply(symroof.technique("flash-attention:rows"))
assert simplify(2 * symroof.crossover(open_mask, "fused_attention", over="seq_len").formula - (star.subs(g, h / k) + 1)) == 0
print("s* =", answer.formula, "where", answer.where)
for name in ("llama-2-7b", "llama-3-8b", "llama-2-70b"):
    step = symroof.load_model(name).prefill(batch=1, flash_attention=True).with_widths()
    group = step.values[h] / step.values[k]
    for on in ("a100-sxm-80gb", "h100-sxm"):
        device = symroof.load_hardware(on)
        ridge = device.ridge("fp16").magnitude
        here = symroof.crossover(step, "fused_attention", over="seq_len", hardware=on, ceilings="classic")
        assert here.value_expr == star.xreplace(dict(step.values) | {g: group, P: ridge, BW: Integer(1)})
        for length in (here.first_integer - 1, here.first_integer):
            at = symroof.load_model(name).prefill(batch=3, seq_len=int(length), flash_attention=True).with_widths()
            assert symroof.analyze(at, on, ceilings="classic")["fused_attention"].bound == here.bound_at(length)
        rule = float(2 * (1 + 1 / group) * ridge)
        print(
            f"{name} ({group} heads per KV head) on {on}: s* = {float(here.value_expr):.1f}, by rule {rule:.0f}; from", here.first_integer
        )

# %% [markdown]
# ## Beyond the cache
#
# One token more, and K and V cross memory once per pass: at $e = 128$ and 16 bits a head's take 512 byte per token, so
# 50 MiB hold 102,400 tokens and 40 MiB hold 81,920; with an 8-bit cache twice as many.
#
# **Theorem 2.** There FlashAttention is compute-bound for all
# $$s \ge s^{**} = \frac{P\,e\,(a + 3 c / 2 g) / BW - 2\,(4 e + 5)}{2\,(4 e + 5) - P\,c\,e / (2\,BW\,n_c B_r)},$$
# if the denominator is positive, that is if $n_c B_r > r^*$.
#
# *Proof.* $m < s / R + 1$, so fewer than $s^2 / 2 R + 3 s / 2$ rows are read. Put that into $F\,BW \ge B\,P$ and divide by $s$. ∎

# %%
above = B.xreplace({ceiling(s / R): s / R + 1}).subs(R, n_c * B_r / g).subs(h, g * k)
beyond = (P * e * (a + 3 * c / (2 * g)) / BW - 2 * (4 * e + 5)) / (2 * (4 * e + 5) - P * c * e / (2 * BW * n_c * B_r))
slack = expand((F.subs(h, g * k) * BW - above * P) / (b * s))
assert simplify(slack.subs(s, beyond)) == 0
assert simplify(slack.diff(s) * 4 / (g * k * BW) - (2 * (4 * e + 5) - P * c * e / (2 * BW * n_c * B_r))) == 0
step = model.prefill(batch=1, flash_attention=True).with_widths()
sizes = dict(step.values) | {g: Integer(4), B_r: Integer(128)}


def moved(length, device):
    """Bytes through memory, and read from the cache, pass by pass and block by block in whole numbers."""
    heads, groups, width, block = 32, 8, 128, 128 // 4
    together = length if 2 * length * width * 2 <= device.cache_capacity_expr else device.processors * block
    once = 2 * length * heads * width
    return 2 * once + 4 * groups * width * rows_of(length, together, True), once + 4 * groups * width * rows_of(length, block, True)


for on in ("a100-sxm-80gb", "h100-sxm"):
    device = symroof.load_hardware(on)
    known = sizes | {P: device.peak("fp16").magnitude, BW: device.bandwidth.magnitude, n_c: Integer(device.processors)}
    needed = (P / (per_row * BW)).xreplace(known)
    edge = floor((M_L / (e * c / 4)).xreplace(known | {M_L: device.cache_capacity_expr}))
    from_there = beyond.xreplace(known)
    print(f"{on}: {edge} tokens fit; {float(needed):.1f} rows have to share, {known[n_c] * 128} do; s** = {float(from_there):.1f}")
    assert from_there < edge, "so the edge of the cache changes the bytes, and not the bound"
    for length in (int(edge), int(edge) + 1, 10**6):
        placed = symroof.analyze(model.prefill(batch=1, seq_len=length, flash_attention=True).with_widths(), on, ceilings="classic")
        operator = placed["fused_attention"].operator
        assert (operator.byte_count(), operator.cache_bytes) == moved(length, device)
        assert placed["fused_attention"].bound == "compute"
        intensity = operator.flop_count / operator.byte_count()
        print(f"  {length} tokens: {float(operator.byte_count()) / 1e9:.2f} GB, {float(intensity):.0f} FLOP/byte")

# %% [markdown]
# **The certificate.** Both sides together, for every prompt from $s^*$ on, passes counted: each polynomial has
# nonnegative coefficients in what lies beyond its low end, which a reader checks by eye. One token less is refuted.

# %%
for on in ("a100-sxm-80gb", "h100-sxm"):
    asked = {"for_all": "seq_len", "hardware": on, "ceilings": "classic"}
    first = symroof.crossover(step, "fused_attention", over="seq_len", hardware=on, ceilings="classic").first_integer
    proof = symroof.prove(step, "compute-bound", "fused_attention", at_least={"seq_len": first}, **asked)
    assert proof.verdict == "proved"
    assert symroof.prove(step, "compute-bound", "fused_attention", at_least={"seq_len": first - 1}, **asked).verdict == "refuted"
    print(f"{on}, s >= {first}: {proof.certificate}")

# %% [markdown]
# ## The cache has a ceiling of its own
#
# **Corollary 3.** Against the last-level cache the intensity is below $\lambda B_r = (16 + 20 / e)\,B_r / c$, 129 FLOP per byte of
# cache with 128 rows at 16 bits. So a cache of less than $P / (\lambda B_r)$ byte/s binds long prompts.
#
# The ceiling applies where a device states its cache's bandwidth. The A100's vendor does.

# %%
on_blocks = (F / flash.cache_bytes.replace(ceiling, lambda inner: inner)).subs(h, g * k)
assert simplify(limit(on_blocks, s, oo) - per_row * B_r) == 0
for on in ("a100-sxm-80gb", "h100-sxm"):
    device = symroof.load_hardware(on)
    least = device.peak("fp16").magnitude / (in_numbers * 128)
    stated = f"{float(device.cache.value) / 1e12:.2f} TB/s are stated" if device.cache else "none is stated"
    print(f"{on}: at its matrix peak attention reads {float(least) / 1e12:.2f} TB/s from the cache; {stated}")
    assert device.cache is None or device.cache.value > least
device = symroof.load_hardware("a100-sxm-80gb")
point = symroof.analyze(model.prefill(batch=1, seq_len=32768, flash_attention=True).with_widths(), device)["fused_attention"]
assert point.seconds_exprs[Resource.CACHE] == Integer(moved(32768, device)[1]) / device.cache.value
print(f"A100, 32768 tokens, one layer: {', '.join(f'{name} {float(taken) * 1e3:.2f} ms' for name, taken in point.seconds_exprs.items())}")

# %% [markdown]
# ## Dao's machine
#
# One processor, an on-chip memory of $M$ bytes, and main memory behind it: the model of the I/O-complexity theorems (Dao et
# al. 2022, Theorem 2 and Proposition 3). Nothing is shared, and every block reads for itself: $r = g R$ with
# $R = \max(1, \lfloor B_r / g \rfloor)$. Algorithm 1 takes $B_r = \min(\lceil 2 M / (a e) \rceil, e)$ rows, a quarter of
# the on-chip memory and never more than $e$. The technique is `flash-attention:reread=memory`.
#
# **Corollary 4.** There $\sup I = \frac{4\,g R\,(4 e + 5)}{c\,e}$, of which $16\,g R / c$ are the contractions:
# FlashAttention is memory-bound at every context if and only if $R \le R^* = \frac{P}{BW} \cdot \frac{c\,e}{4 g (4 e + 5)}$.
# With Algorithm 1's $g R \le e$ that is 129 FLOP/byte at most, at head dimension 128 and 16 bits.
#
# It is the count for a chip whose blocks do not share a cache, or read at different times. Against the three operators
# apart, which move $4\,b h s^2 a / 8$ bytes of scores under no mask, it gains at most $2 a g R / (c e)$: a factor of 2.

# %%
dao = model.prefill(symbolic=True).apply(symroof.technique("flash-attention:reread=memory"))
assert simplify(dao["fused_attention"].byte_count() - B) == 0, "the same formula"
print("R =", symroof.notation.written(dao.symbolic.definitions[R]))
assert dao["fused_attention"].cache_bytes == 0
apart = model.prefill(symbolic=True)
apart = sum(apart[name].byte_count() for name in ("qk_matmul", "softmax", "sv_matmul"))
gain = limit(simplify((apart / whole).subs(h, g * k)), s, oo)
assert simplify(gain - 2 * a * g * R / (c * e)) == 0
needed = crossover_of("flash", R, (supremum, Integer(1), P, BW))
print("R* =", needed.formula, "; apart over fused, at most", gain)

# %% [markdown]
# On the devices of the catalogue, one multiprocessor's memory being $M$; against a loop over the blocks.

# %%
big = symroof.load_model("llama-2-70b")
alone = big.prefill(batch=1).with_widths().apply(symroof.technique("flash-attention:reread=memory"))
known = dict(alone.values) | {g: alone.values[h] / alone.values[k]}
can = {}
for name in symroof.devices():
    device = symroof.load_hardware(name)
    if device.buffer_expr is None or device.kind == "pim":  # no tiles
        continue
    peak = device.machine.fastest(("fp16", "bf16", "fp32", "fp64"))[1]
    here = known | {P: peak, BW: device.bandwidth_figure.value}
    here[R] = alone.symbolic.definitions[R].xreplace(here | {M: device.buffer_expr})
    can[name] = (here[R], needed.formula.xreplace(here), supremum.xreplace(here), peak / here[BW])
    assert (can[name][2] > can[name][3]) == (can[name][0] > can[name][1])
able = [name for name, (block, least, *_) in can.items() if block > least]
print(f"compute-bound at some context: {len(able)} of {len(can)};", *able)


def bound(length, block, peak, bandwidth):
    """The bound of one layer, block by block, in whole numbers."""
    heads, groups, width = int(known[h]), int(known[k]), int(known[e])
    flops = (4 * width + 5) * heads * sum(range(1, length + 1))
    bytes_moved = 2 * (2 * length * heads * width + 2 * groups * width * rows_of(length, block, True))  # 2 bytes each
    return "memory" if flops * bandwidth < bytes_moved * peak else "compute"


for name in ("a100-sxm-80gb", "h100-sxm", "t4", "rtx-3090", "epyc-9654"):
    answer = symroof.crossover(alone, "fused_attention", over="seq_len", hardware=name, ceilings="classic")
    block, least, top, ridge = can[name]
    assert (answer.verdict == "always-memory") == (block <= least)
    print(f"{name}: R = {block}, sup I = {top} = {float(top):.1f}, ridge {float(ridge):.1f}; first R = {floor(least) + 1}:", answer.verdict)
    for length in [*range(1, 1000), 2**14, 2**14 + 1]:
        assert bound(length, int(block), int(ridge.p), int(ridge.q)) == answer.bound_at(length)
    if block > least:
        edges = [one.high for one in answer.intervals[:-1]]
        star = answer.formula.xreplace(known | {R: block, P: ridge, BW: Integer(1)})
        print(f"  s* = {float(star):.1f} on whole blocks; memory-bound up to {edges[0]}, compute-bound from {edges[-1] + 1}")
        assert all((answer.bound_at(block * count) == "compute") == (block * count >= star) for count in range(1, 100))

# %% [markdown]
# ## What measured kernels show
#
# A least time that a kernel undercuts is none. vLLM's FlashAttention-3 takes 3.3 ms for one layer of Llama-3-8B's attention
# over 16,384 tokens on an H100 (published by NVIDIA's aiconfigurator, rounded). Charging memory for the re-reads of every
# block, as this library once did, gives 5.2 ms.

# %%
MEASURED = Rational(33, 10**4)  # seconds, FlashAttention-3 in vLLM 0.24.0 on an H100 SXM


def seconds(length, technique, part=None):
    """Least time on an H100 with a technique, of the whole prompt or of one layer's attention."""
    after = model.prefill(batch=1, seq_len=length).with_widths().apply(symroof.technique(technique))
    placed = symroof.analyze(after, "h100-sxm", ceilings="classic")
    return placed[part].time_expr if part else placed.total.time_expr


once, again = (seconds(16384, f"flash-attention:reread={where}", "fused_attention") for where in ("cache", "memory"))
assert once < MEASURED < again
print(f"16384 tokens, one layer: {float(once) * 1e3:.2f} ms, measured {float(MEASURED) * 1e3:.1f}, blocks alone {float(again) * 1e3:.2f}")
print(f"  the kernel comes to {float(once / MEASURED):.0%} of the bound, and draws", end=" ")
print(f"{float(moved(16384, symroof.load_hardware('h100-sxm'))[1] / MEASURED) / 1e12:.1f} TB/s from the cache, in blocks of 128 rows")
whole_prompt = [float(seconds(32768, f"flash-attention:reread={where}")) for where in ("cache", "memory")]
prompt = model.prefill(batch=1, seq_len=32768, flash_attention=True).with_widths()
calibrated = symroof.analyze(prompt, "h100-sxm", ceilings="calibrated")
fitted = float(calibrated.total.time_expr)
products = float(sum(one.count * one.time_expr for one in calibrated if one.operator.kind in symroof.operators.CONTRACTIONS))
tool = model.prefill(batch=1, seq_len=32768, flash_attention=True, accounting="llm-viewer").with_widths()
tool = float(symroof.analyze(tool, "survey/nvidia_H100_SXM").total.time_expr)
print(
    f"32768 tokens, whole prompt: {whole_prompt[0]:.3f} s; calibrated {fitted:.2f}, {products:.2f} of it products and attention;", end=" "
)
print(f"blocks alone {whole_prompt[1]:.3f} s; LLM-Viewer {tool:.2f} s")
assert whole_prompt[0] < products < fitted
assert whole_prompt[1] < tool

# %% [markdown]
# For a whole prompt of 32,768 tokens the bound is 0.809 s, and kernels take about a second (the calibrated time is made from
# constants fitted to them, with an error of its own). Blocks that share nothing would take 1.184 s at least; LLM-Viewer, whose
# fused operator writes scores, and reads K and V for every block and query head, says 3.36 s.

# %%
figure = Figure(figsize=(6.6, 4.0), layout="constrained")
axes = figure.add_subplot(xlabel="prompt (tokens)", ylabel="intensity (FLOP/byte)", xscale="log", yscale="log")
device = symroof.load_hardware("h100-sxm")
ridge, pass_rows = float(device.ridge("fp16").magnitude), device.processors * 128
curve = (F / whole).xreplace(dict(step.values))
lengths = [2 ** (power / 4) for power in range(24, 85)]
edge = 102400


def drawn(positions, points):
    """Intensity with so many positions to a read, at least the prompt's own."""
    return [float(curve.xreplace({R: Integer(1) * min(positions, length), s: Integer(1) * length})) for length in points]


for rows_together, colour, style, words in (
    (None, "#0072B2", ":", "all rows share a read"),
    (pass_rows, "#009E73", "--", f"{pass_rows:,} rows: a pass of 132 blocks"),
    (128, "#D55E00", "-.", "128 rows: a block alone (the cache; Dao's machine)"),
):
    axes.plot(lengths, drawn(oo if rows_together is None else rows_together // 4, lengths), style, color=colour, linewidth=1.3, label=words)
inside, outside = [one for one in lengths if one < edge] + [edge], [edge + 1] + [one for one in lengths if one > edge]
path = inside + outside, drawn(oo, inside) + drawn(pass_rows // 4, outside)
axes.plot(*path, color="black", linewidth=2.6, alpha=0.45, label="against an H100's memory")
axes.axhline(ridge, color="black", linewidth=0.8)
axes.text(1.8e6, ridge * 1.1, f"ridge of the H100, {ridge:.0f}", fontsize=8, ha="right")
crossing = symroof.crossover(step, "fused_attention", over="seq_len", hardware=device, ceilings="classic").first_integer
axes.plot([int(crossing)], [ridge], "o", color="black", markersize=5)
axes.annotate(f"compute-bound from {crossing} tokens", (int(crossing), ridge), xytext=(8, -14), textcoords="offset points", fontsize=8)
axes.axvline(edge, color="0.6", linewidth=0.8)
axes.text(edge * 0.9, 22, "K and V of a head\nfill its cache", fontsize=8, ha="right", color="0.35")
axes.set_xlim(64, 2**21)
axes.legend(loc="upper left", fontsize=7.5)
symroof.show(figure)

# %% [markdown]
# **What it means.** Count who shares a read. At 16 bits the intensity against any level is the number of query rows that share
# what that level gives: a block's 128 against the cache, a head's whole prompt against memory. So FlashAttention has no
# business with memory bandwidth beyond some hundred tokens; what it needs is a cache that keeps up with $n_c$ blocks, and
# matrix units that are kept busy (softmax is what they wait for, Shah et al. 2024). Dao's theorems are about a machine
# whose cache is the memory: their count is right, one level up.
#
# Not counted: heads that run side by side and have to share the cache, the rescaling of partial sums, idle lanes of partial
# blocks. A cache that kept a part of what it cannot hold as a whole would do better beyond its edge.
#
# Sources: Dao et al. (2022), arXiv:2205.14135 (Algorithm 1; Theorem 2 has the traffic, Proposition 3 the lower bound); Dao
# (2023), arXiv:2307.08691 (blocks of 128 rows); Shah et al. (2024), arXiv:2407.08608; measured kernels:
# github.com/ai-dynamo/aiconfigurator at 095f58a51.
