# %% [markdown]
# # 26. What the exchange between experts bounds
#
# Expert parallelism sends every token to its experts and their results back, in every layer. However fast the devices
# compute, a step takes as long as that takes.

# %%
from matplotlib.figure import Figure
from numpy import geomspace
from sympy import Integer, Rational, simplify

import symroof
from symroof import Level

BW_l, E, K, K_d, L_moe, a, b, d, n_p = symroof.symbols.named("BW_l E K K_d L_moe a b d n_p")

# %% [markdown]
# **Theorem 1.** Let T tokens of a device go to $K_d$ devices each, in $L$ layers of experts, with $b_d$ and $b_c$
# bytes an element on the way there and back. Whatever else it does, a step takes at least
# $$t \ge L\,\frac{n - 1}{n}\,\frac{(b_d + b_c)\,T K_d\,d}{W}, \qquad K_d \le K,$$
# also in two micro-batches that overlap with computation: each link is busy for that long. K is reached at one expert
# per device.
#
# *Proof.* Add up the bytes that a device sends, and divide by the bandwidth W that carries them. ∎

# %%
deepseek = symroof.load_model("deepseek-v3")
spread = deepseek.decode(symbolic=True).apply("expert-parallel")
bound = symroof.exchange_bound(spread)
sent = sum(count * operator.byte_count(level=Level.LINK) for operator, count in spread.symbolic)
assert simplify(bound.formula - sent / BW_l) == 0
T = b / n_p
assert simplify(bound.formula - L_moe * (n_p - 1) / n_p * (a / 8 + a / 8) * T * K_d * d / BW_l) == 0
assert spread.symbolic.definitions[K_d].subs({E: 256, K: 8, n_p: 256}).doit() == 8
print("t >=", bound.formula)

# %% [markdown]
# **The figures of DeepSeek-AI** (section 2.3.2 of their report): 32 tokens a micro-batch and device, one byte there
# and two back, 8 routed experts and a shared one, a width of "7K", 61 layers, two exchanges a layer since two
# micro-batches take turns. Their 67 tokens/s are 67.8, cut off, and their 1200 are 1219.8.


# %%
def printed(link, tokens=32, width=7000, copies=9, layers=61):
    """Seconds of an exchange and of a token by their formula."""
    exchange = Rational((1 + 2) * tokens * copies * width, link)
    return exchange, 2 * layers * exchange


for link, exchange, token, speed in ((50 * 10**9, "120.96", "14.76", 67), (900 * 10**9, "6.72", "0.82", 1200)):
    ours = printed(link)
    assert (f"{float(ours[0] * 10**6):.2f}", f"{float(ours[1] * 10**3):.2f}") == (exchange, token)
    assert int(1 / ours[1]) == speed or round(float(1 / ours[1]), -2) == speed
    print(f"{link / 10**9:.0f} GB/s: {exchange} us an exchange, {token} ms a token, {float(1 / ours[1]):.1f} tokens/s")

# %% [markdown]
# From the published config the same bound is lower: the width is 7168, the first three layers are dense, so 58
# exchange; the shared expert is on every device, so 8 copies of a token are sent, not 9; and 1 in 256 stays where it
# is. The quotient of the two is exactly the product of these four:

# %%
step = deepseek.decode(batch=64 * 256, seq_len=4096, flash_attention=True).apply("expert-parallel:degree=256")
exact = symroof.exchange_bound(step, "h800-sxm", dispatch_bits=8, combine_bits=16)
assert exact.layers_expr == 58
for link, shown in (("50 GB/s", "12.72 ms"), ("900 GB/s", "706.8 us")):
    assert str(exact.time(link)) == shown
    theirs = printed(int(link.split()[0]) * 10**9)[1]
    parts = Rational(7168, 7000) * Rational(8, 9) * Rational(58, 61) * Rational(255, 256)
    assert exact.time_expr(link) == theirs * parts
    print(f"{link}: {exact.time(link)} a token, {float(1 / exact.time_expr(link)):.1f} tokens/s; theirs times {float(parts):.4f}")

# %% [markdown]
# **Theorem 2.** Against the rest of the step, memory traffic $t_M$ and arithmetic $t_P$ in seconds, the link binds
# below $W^* = B_l / \max(t_M, t_P)$, and which of the other two binds beyond does not depend on W.
#
# *Proof.* $B_l / W$ falls in W, the others are constant. ∎

# %%
print("DeepSeek-V3 on 256 H800, 4096 tokens of context:")
balances = []
for tokens in (16, 64, 256):
    at = deepseek.decode(batch=tokens * 256, seq_len=4096, flash_attention=True).apply("expert-parallel:degree=256")
    found = symroof.exchange_bound(at, "h800-sxm", dispatch_bits=8, combine_bits=16)
    balances.append(found.balance_expr)
    for link in (found.balance_expr * Rational(99, 100), found.balance_expr * Rational(101, 100)):
        assert (found.time_expr(link) > max(found.other_exprs.values())) == (link < found.balance_expr)
    rest = ", ".join(f"{name} {float(taken) * 1000:.2f} ms" for name, taken in found.other_exprs.items())
    print(f"  {tokens} tokens a device: link-bound below {found.balance}; the rest: {rest}")
assert balances == sorted(balances), "the exchange grows with every token, the weights' read does not"

# %% [markdown]
# **Bytes of cache per token** in the same report, at two bytes an element: they fix how many sequences there can be.

# %%
published = {"deepseek-v3": 70.272, "qwen2.5-72b": 327.680, "llama-3.1-405b": 516.096}
for name, kilobytes in published.items():
    growth = symroof.load_model(name).cache.growth.subs({symroof.symbols.c: Integer(16)})
    assert growth == round(kilobytes * 1000)
    print(f"{name}: {growth} bytes a token; {float(growth / 70272):.2f} times DeepSeek-V3's")

# %%
figure = Figure(figsize=(6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="bandwidth of a device (GB/s)", ylabel="time of a step (ms)", xscale="log", yscale="log")
links = geomspace(10, 1000, 60)
axes.plot(links, [float(exact.time_expr(int(link * 10**9))) * 1000 for link in links], color="#0072B2", label="exchange")
for (name, taken), style, colour in zip(exact.other_exprs.items(), ("--", ":"), ("#D55E00", "#009E73"), strict=True):
    axes.axhline(float(taken) * 1000, linestyle=style, color=colour, label=name)
axes.plot([50, 900], [14.76, 0.82], "ko", markersize=4, label="printed")
axes.legend(frameon=False)
symroof.show(figure)

# %% [markdown]
# DeepSeek-V3, 64 tokens a device, context 4096; where the lines cross the exchange stops binding.
#
# **What it means.** At 64 tokens a device a link of 47 GB/s takes as long as the H800's memory does: their 50 GB/s
# network is just balanced, and the 67 tokens/s are a bound that memory sets almost as low. With more tokens the link
# is the narrower of the two, as every token adds to it and weights are read once. Links at NVLink's 900 GB/s would
# not bind at all.
#
# Caveats. One bandwidth for all of the exchange: within a node it is faster, and a token that goes to several devices
# of one node crosses the network once. Latencies of collectives come on top.
#
# Source: DeepSeek-AI (2025), Insights into DeepSeek-V3, arXiv:2505.09343.
