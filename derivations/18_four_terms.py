# %% [markdown]
# # 18. Four limits of a user's speed
#
# How fast can one user be served, whatever it costs? The model has to fit, its bytes have to be read, its FLOPs done, and the devices
# that share it have to wait for each other in every layer. Only the last does not shrink with more devices.

# %%
from matplotlib.figure import Figure
from sympy import Add, Integer, Rational, limit, oo, simplify, solve, symbols

import symroof
from symroof import Level

B, F, C, n, l, c, BW, P = symbols("B F C n l c BW P", positive=True)

# %% [markdown]
# **Theorem 1.** Let n devices share a step of F FLOPs and B bytes, with c collectives, each of which exposes a latency of l. Then
# $$T \ge \max\left(\frac{B}{n BW}, \frac{F}{n P}\right) + c\, l,$$
# if n devices hold the model, $n \ge C / M$. A user's speed 1 / T is below $1 / (c l)$ at any bandwidth, any peak and any n. The
# latencies take longer than the bytes beyond the bandwidth $BW^* = B / (n c l)$; a speed s needs $l < 1 / (c s)$.
#
# *Proof.* As $BW, P \to \infty$ only $c l$ is left. $B / (n BW) = c l$ gives $BW^*$. ∎

# %%
speed = 1 / (B / (n * BW) + c * l)
assert limit(speed, BW, oo) == 1 / (c * l) == limit(speed, n, oo)
(star,) = solve(B / (n * BW) - c * l, BW)
assert simplify(star - B / (n * c * l)) == 0

# %% [markdown]
# **Llama-3.1-405B** in 8 bits, one user at context 8192, on n H100s that share every layer. The library's step has every one of the four
# terms, from its own operators; collectives are counted in its graph.


# %%
def step_of(devices, latency):
    """The step of one user over these devices, each collective with this exposed latency."""
    model = symroof.load_model("llama-3.1-405b")
    bits = {"weight_bits": 8, "activation_bits": 8, "kv_bits": 8}
    split = f"tensor-parallel:degree={devices},link=450GB/s,latency={latency}"
    return model.decode(batch=1, seq_len=8192, flash_attention=True, **bits).apply(split)


def terms(devices, latency):
    """Seconds of memory, arithmetic and latencies, and whether it fits, as the analysis has them."""
    there = step_of(devices, latency).on("h100-sxm").analysis
    seconds = {"memory": there.total.byte_count() / there.device.bandwidth.magnitude}
    seconds["compute"] = Add(*(point.count_expr * point.seconds_exprs.get("compute", 0) for point in there))
    seconds["latency"] = Add(*(point.count_expr * point.overhead_expr for point in there))
    return there, seconds


print(f"{'devices':>8}{'fits':>7}{'memory':>10}{'compute':>10}{'latencies':>11}{'speed':>9}{'at any bandwidth':>18}")
for devices in (1, 2, 4, 8):
    there, seconds = terms(devices, "1us")
    whole = there.total.time_expr
    assert whole >= max(seconds["memory"], seconds["compute"]) + seconds["latency"]
    bound = "-" if seconds["latency"] == 0 else f"{float(1 / seconds['latency']):.0f}/s"
    shown = "".join(f"{1000 * float(value):{width}.3f}" for value, width in zip(seconds.values(), (10, 10, 11), strict=True))
    print(f"{devices:8}{there.fits!s:>7}{shown}{float(1 / whole):9.1f}{bound:>18}")

# %% [markdown]
# The library's collectives are rings here, with 2 (n - 1) steps of that latency: the last column falls with n.
#
# **The published figures.** 2000 tokens a second and user are reachable with synchronisation of about 1 us; 10000 need other
# algorithms. A layer has two all-reduces, so c = 252 for 126 layers.

# %%
graph = step_of(8, "1us").graph
collectives = Add(*(count for one, count in graph if one.latency != 0 and one.byte_count(level=Level.LINK) != 0))
layers = symroof.load_model("llama-3.1-405b").layers
print(f"{collectives} collectives in {layers} layers")
once = Integer(2 * layers)  # two a layer, one latency each, as the paper's one synchronisation
for latency in (Rational(5, 2), Rational(1), Rational(1, 2)):
    print(f"latency {float(latency):g} us: at most {float(10**6 / (once * latency)):.0f} tokens/s of a user, at any bandwidth")
most = 10**6 / once
assert 2000 < most < 10000, "about 4000 at 1 us: both statements of the paper"
needs = Rational(10**6, 10000) / once
print(f"10000 tokens/s need less than {float(needs):.3f} us, and all bytes in no time")
assert 2000 * once * Rational(1, 10**6) < 1 < 10000 * once * Rational(1, 10**6)
assert 10**6 / (once * Rational(5, 2)) < 2000, "at 2.5 us not even 2000"

# %% [markdown]
# With 1 us, 2000 tokens a second leave 248 us for the bytes: a bandwidth, of all devices together, of

# %%
there, seconds = terms(8, "1us")
bytes_of_all = 8 * there.total.byte_count()
left = Rational(1, 2000) - once / 10**6
print(f"{float(bytes_of_all / left) / 1e12:.0f} TB/s, {float(bytes_of_all / left / there.device.bandwidth.magnitude):.0f} H100s' worth")
border = bytes_of_all / (once * Rational(1, 10**6))
print(f"beyond {float(border) / 1e12:.0f} TB/s in all, latencies take longer than the bytes")

# %%
figure = Figure(figsize=(6.4, 3.2), layout="constrained")
axes = figure.add_subplot(xlabel="bandwidth of all devices (TB/s)", ylabel="tokens/s of a user", xscale="log", yscale="log")
rates = [10 ** (12.5 + place / 20) for place in range(91)]
for latency, style, colour in ((2.5, ":", "#D55E00"), (1, "-", "#0072B2"), (0.25, "--", "#009E73")):
    axes.plot([rate / 1e12 for rate in rates], [1 / (float(bytes_of_all) / rate + float(once) * latency * 1e-6) for rate in rates], style,
              color=colour, label=f"{latency:g} us a collective")  # fmt: skip
for wanted in (2000, 10000):
    axes.axhline(wanted, color="black", linewidth=0.6)
axes.legend(frameon=False, fontsize="small")
symroof.show(figure)

# %% [markdown]
# **What it means.** Bandwidth, arithmetic and capacity can be bought by the device; the latency of a collective cannot. Beyond
# the border more of anything else is wasted on one user. Fewer collectives, layers or tokens one after the other are what is left:
# that is what "other algorithms" means, and speculation is one of them.
#
# Caveats. The paper's mean error of 7.6 % is of its model against measurements that are not printed to be redone here; it is not
# checked. One latency a collective is its convention; on a real ring or tree each has several steps, which `tensor-parallel` counts.
#
# Source: Davies et al. (2025), LIMINAL, arXiv:2507.14397.
