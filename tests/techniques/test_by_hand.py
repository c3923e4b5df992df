"""Steps as engines run them, each against a count of its own: plain arithmetic from the config, kernel by kernel.

Rates are those of the device's file, matrix peak and memory bandwidth alone (`ceilings="classic"`); no formula of the library is used.
"""

from __future__ import annotations

import pytest

import symroof
from symroof.roof.analysis import Analysis
from symroof.roof.energy import energy_of
from tests.steps import step

H100 = symroof.load_hardware("h100-sxm")
PEAK = {name: float(H100.peaks[name].dense.value) for name in ("fp16", "fp8")}
BANDWIDTH = float(H100.bandwidth_expr)
LLAMA_3_8B = {"d": 4096, "f": 14336, "heads": 32, "kv": 1024, "layers": 32, "vocabulary": 128256}
LLAMA_2_7B = {"d": 4096, "f": 11008, "heads": 32, "kv": 4096, "layers": 32, "vocabulary": 32000}


def longest(flops: float, traffic: float, peak: str = "fp16") -> float:
    """Seconds of one kernel."""
    return max(flops / PEAK[peak], traffic / BANDWIDTH)


def on_h100(model: str, techniques: str = "", phase: str = "decode", **inputs: object) -> Analysis:
    return symroof.analyze(step(model, phase, techniques, **inputs), H100, ceilings="classic")


def seconds(analysis: Analysis) -> dict[str, float]:
    """Seconds of every operator with all its occurrences."""
    return {one.name: float(one.count * one.time_expr) for one in analysis}


def product(tokens: int, inputs: int, outputs: int, read: int = 2, written: int = 2, weight: float = 2) -> float:
    """A linear layer; bytes per element of what it reads, writes and multiplies by."""
    traffic = tokens * (inputs * read + outputs * written) + inputs * outputs * weight
    return longest(2 * tokens * inputs * outputs, traffic, "fp16" if 2 in (read, weight) else "fp8")


def ends(tokens: int, sequences: int, rows: int, d: int, vocabulary: int) -> dict[str, float]:
    """Embedding, final norm, and an LM head of 16 bits on some rows."""
    head = longest(2 * rows * d * vocabulary, 2 * (rows * (d + vocabulary) + d * vocabulary))
    return {"embedding": longest(0, 4 * tokens * d), "final_norm": longest(4 * tokens * d, 2 * (2 * tokens * d + d)), "lm_head": head}


def test_w8a8_of_a_prompt() -> None:
    """llama-3-8b, 8192 tokens: products multiply 8-bit inputs and weights and write 16, a kernel of its own converts inputs."""
    d, f, kv, layers, s = LLAMA_3_8B["d"], LLAMA_3_8B["f"], LLAMA_3_8B["kv"], LLAMA_3_8B["layers"], 8192

    def norm() -> float:
        return longest(4 * s * d, 2 * (2 * s * d + d))

    def conversion(width: int) -> float:
        return longest(2 * s * width, s * width * (2 + 1))

    def narrow(inputs: int, outputs: int) -> float:
        return product(s, inputs, outputs, read=1, weight=1)

    layer = {
        "attn_norm": norm(),
        "attn_norm.quantize": conversion(d),
        "q_proj": narrow(d, d),
        "k_proj": narrow(d, kv),
        "v_proj": narrow(d, kv),
        "q_rotary": longest(3 * s * d, 2 * (2 * s * d + s * 128)),
        "k_rotary": longest(3 * s * kv, 2 * (2 * s * kv + s * 128)),
        "fused_attention.quantize": conversion(d),
        "out_proj": narrow(d, d),
        "attn_add": longest(s * d, 3 * 2 * s * d),
        "mlp_norm": norm(),
        "mlp_norm.quantize": conversion(d),
        "gate_proj": narrow(d, f),
        "up_proj": narrow(d, f),
        "mlp_act": longest(5 * s * f, 3 * 2 * s * f),
        "mlp_act.quantize": conversion(f),
        "down_proj": narrow(f, d),
        "mlp_add": longest(s * d, 3 * 2 * s * d),
    }
    by_hand = {name: layers * time for name, time in layer.items()} | ends(s, 1, 1, d, LLAMA_3_8B["vocabulary"])
    prompt = {"phase": "prefill", "batch": 1, "seq_len": s, "flash_attention": True}
    told = seconds(on_h100("llama-3-8b", "quantize:weights=8,activations=8", **prompt))
    attention = told.pop("fused_attention")
    assert told == pytest.approx(by_hand, rel=1e-12)
    # Algorithm 1 of FlashAttention: blocks of 32 queries of the four heads that share keys, each past every key up to its last
    keys = sum(32 * (block + 1) for block in range(s // 32))
    algorithm_1 = layers * longest(4 * d * s * (s + 1) / 2 + 5 * 32 * s * (s + 1) / 2, 2 * (2 * keys * kv + 2 * s * d))
    assert sum(by_hand.values()) + algorithm_1 == pytest.approx(121.7e-3, rel=1e-3)
    every = seconds(on_h100("llama-3-8b", "quantize:weights=8,activations=8,scope=all", **prompt))
    assert sum(every.values()) < sum(by_hand.values()) + attention, "every activation in 8 bits bounds it"


def unfused_attention(sequences: int, queries: int, context: int, d: int, heads: int, kv: int) -> dict[str, float]:
    """Scores, softmax and weighted sum; every query sees the whole context, scores go through memory."""
    scores, rows, keys = sequences * heads * queries * context, sequences * queries * d, sequences * context * kv
    each = longest(2 * scores * 128, 2 * (rows + keys + scores))
    return {"qk_matmul": each, "softmax": longest(5 * scores, 2 * 2 * scores), "sv_matmul": each}


def decode_layer(sequences: int, queries: int, context: int, d: int, f: int, heads: int, kv: int) -> dict[str, float]:
    """A Llama layer at 16 bits on so many tokens of every sequence."""
    n = sequences * queries
    norm, added = longest(4 * n * d, 2 * (2 * n * d + d)), longest(n * d, 3 * 2 * n * d)
    return {
        "attn_norm": norm,
        "q_proj": product(n, d, d),
        "k_proj": product(n, d, kv),
        "v_proj": product(n, d, kv),
        "q_rotary": longest(3 * n * d, 2 * (2 * n * d + queries * 128)),
        "k_rotary": longest(3 * n * kv, 2 * (2 * n * kv + queries * 128)),
        **unfused_attention(sequences, queries, context, d, heads, kv),
        "out_proj": product(n, d, d),
        "attn_add": added,
        "mlp_norm": norm,
        "gate_proj": product(n, d, f),
        "up_proj": product(n, d, f),
        "mlp_act": longest(5 * n * f, 3 * 2 * n * f),
        "down_proj": product(n, f, d),
        "mlp_add": added,
    }


@pytest.mark.parametrize(("rows", "milliseconds"), [("all", 44.7), ("last", 42.5)])
def test_medusa_heads_on_the_whole_tree_or_on_one_token(rows: str, milliseconds: float) -> None:
    """llama-2-7b, 32 sequences of 1024 tokens, four heads and a tree of 63 nodes and the certain token."""
    d, layers, v = LLAMA_2_7B["d"], LLAMA_2_7B["layers"], LLAMA_2_7B["vocabulary"]
    sizes = {name: LLAMA_2_7B[name] for name in ("d", "f", "heads", "kv")}
    n, guessed = 32 * 64, 32 * 64 if rows == "all" else 32
    by_hand = {name: layers * time for name, time in decode_layer(32, 64, 1024 + 63, **sizes).items()} | ends(n, 32, n, d, v)
    by_hand |= {
        "medusa.linear": 4 * product(guessed, d, d),
        "medusa.act": 4 * longest(4 * guessed * d, 2 * 2 * guessed * d),
        "medusa.add": 4 * longest(guessed * d, 3 * 2 * guessed * d),
        "medusa.lm_head": 4 * product(guessed, d, v),
    }
    told = seconds(on_h100("llama-2-7b", f"medusa:heads=4,nodes=63,acceptance=3/5,rows={rows}", batch=32, seq_len=1024))
    assert told == pytest.approx(by_hand, rel=1e-12)
    assert sum(by_hand.values()) == pytest.approx(milliseconds * 1e-3, rel=1e-3)


@pytest.mark.parametrize(("skipped_kv", "faster"), [("computed", 1.71), ("none", 1.96)])
def test_early_exit_with_the_keys_and_values_of_skipped_layers(skipped_kv: str, faster: float) -> None:
    """llama-2-7b, one sequence of 2048 tokens that leaves behind half of the layers."""
    sizes = {name: LLAMA_2_7B[name] for name in ("d", "f", "heads", "kv")}
    layer, both_ends = decode_layer(1, 1, 2048, **sizes), ends(1, 1, 1, sizes["d"], LLAMA_2_7B["vocabulary"])
    by_hand = {name: 16 * time for name, time in layer.items()} | both_ends
    if skipped_kv == "computed":
        by_hand |= {f"{name}.skipped": 16 * layer[name] for name in ("attn_norm", "k_proj", "v_proj", "k_rotary")}
    told = seconds(on_h100("llama-2-7b", f"early-exit:depth=1/2,skipped_kv={skipped_kv}", batch=1, seq_len=2048))
    assert told == pytest.approx(by_hand, rel=1e-12)
    whole = 32 * sum(layer.values()) + sum(both_ends.values())
    assert whole / sum(by_hand.values()) == pytest.approx(faster, abs=5e-3)


def test_published_group_scales() -> None:
    """gpt-oss-120b: 65.2 GB with a byte of scale for every 32 weights of the experts, 61.7 without; Qwen2.5-7B in AWQ: 5.571 GB, 5.443.

    65.1 GB is what is left of it without the experts' biases and the routers.
    """
    d, layers, experts, vocabulary = 2880, 36, 128, 201088
    matrices = layers * experts * (d * 2 * d + d * d)
    biases = layers * (experts * (2 * d + d) + experts + 64 * 64 + 2 * 8 * 64 + d)
    attention = layers * (2 * d * 64 * 64 + 2 * d * 8 * 64 + 64)
    others = 2 * vocabulary * d + attention + layers * experts * d + biases + (2 * layers + 1) * d
    told = float(on_h100("gpt-oss-120b", weight_bits=None, batch=1, seq_len=1).graph.weight_memory())
    assert told == matrices * (4 + 8 / 32) / 8 + 2 * others
    assert told / 1e9 == pytest.approx(65.25, abs=5e-3)
    assert (matrices * 4 / 8 + 2 * others) / 1e9 == pytest.approx(61.7, abs=5e-2)
    assert (told - 2 * layers * experts * (3 * d + d + 1)) / 1e9 == pytest.approx(65.1, abs=5e-2)

    d, f, kv, layers, vocabulary = 3584, 18944, 512, 28, 152064
    matrices = layers * (2 * d * d + 2 * d * kv + 3 * d * f)
    others = 2 * vocabulary * d + layers * (d + 2 * kv) + (2 * layers + 1) * d
    told = float(on_h100("qwen2.5-7b-instruct-awq", weight_bits=None, batch=1, seq_len=1).graph.weight_memory())
    assert told == matrices * (4 + (16 + 4) / 128) / 8 + 2 * others
    assert told / 1e9 == pytest.approx(5.571, abs=5e-4)
    assert (matrices * 4 / 8 + 2 * others) / 1e9 == pytest.approx(5.443, abs=5e-4)


@pytest.mark.parametrize(("overlap", "milliseconds"), [("layers", 109.1), ("operator", 120.4)])
def test_offload_under_the_work_of_the_next_layer_or_of_its_own_operator(overlap: str, milliseconds: float) -> None:
    """llama-3-8b, half of the weights of every layer at the host, 64 sequences of 4096 tokens, a link of 64 GB/s."""
    sizes = {name: LLAMA_3_8B[name] for name in ("d", "f", "heads", "kv")}
    d, f, kv, n, link = sizes["d"], sizes["f"], sizes["kv"], 64, 64e9
    matrices = {"q_proj": d * d, "k_proj": d * kv, "v_proj": d * kv, "out_proj": d * d}
    matrices |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), d * f)
    widths = {name: weights // d + d for name, weights in matrices.items()}  # of input and output together
    work = decode_layer(n, 1, 4096, **sizes) | {
        name: longest(2 * n * weights, 2 * (n * widths[name] + weights / 2)) for name, weights in matrices.items()
    }
    transfers = {name: 2 * weights / 2 / link for name, weights in matrices.items()}
    both_ends = sum(ends(n, n, n, d, LLAMA_3_8B["vocabulary"]).values())
    if overlap == "operator":
        by_hand = both_ends + 32 * sum(max(time, transfers.get(name, 0.0)) for name, time in work.items())
    else:
        by_hand = max(both_ends + 32 * sum(work.values()), 32 * sum(transfers.values()))
    told = on_h100("llama-3-8b", f"offload:share=1/2,link=64GB/s,overlap={overlap}", batch=n, seq_len=4096)
    assert float(told.total.time_expr) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(milliseconds * 1e-3, rel=1e-3)


def test_energy_of_one_device_and_of_eight() -> None:
    """llama-3-8b on eight devices, 8 sequences of 2048 tokens: 0.150 J of each in a step, 1.20 J of all; a token 0.150 J."""
    d, f, kv, n, context, vocabulary, link = 4096, 14336, 1024, 8, 2048, 128256, 450e9
    flops, traffic, time = 0.0, 0.0, 0.0

    def kernel(times: int, work: float, moved: float) -> None:
        nonlocal flops, traffic, time
        flops, traffic, time = flops + times * work, traffic + times * moved, time + times * longest(work, moved)

    def matrix(times: int, inputs: float, outputs: float) -> None:
        kernel(times, 2 * n * inputs * outputs, 2 * (n * (inputs + outputs) + inputs * outputs))

    kernel(1, 0, 2 * n * (d / 8 + d))  # an eighth of the rows that are looked up, and sums of all
    kernel(65, 4 * n * d, 2 * (2 * n * d + d))  # norms
    kernel(64, n * d, 2 * 3 * n * d)  # residual additions
    for outputs in (d, kv, kv, f, f):
        matrix(32, d, outputs / 8)
    for inputs in (d, f):
        matrix(32, inputs / 8, d)
    for width in (d, kv):
        kernel(32, 3 * n * width / 8, 2 * (2 * n * width / 8 + 128))
    scores = n * 32 / 8 * context
    for _ in ("scores", "weighted sum"):
        kernel(32, 2 * scores * 128, 2 * (n * d / 8 + n * context * kv / 8 + scores))
    kernel(32, 5 * scores, 2 * 2 * scores)
    kernel(32, 5 * n * f / 8, 2 * 3 * n * f / 8)
    matrix(1, d, vocabulary / 8)
    time += 65 * 2 * 7 / 8 * 2 * n * d / link + 7 / 8 * 2 * n * vocabulary / link  # all-reduces, and the logits gathered
    joules = 1e-12 * flops + 30e-12 * traffic + 100 * time

    texts = "tensor-parallel:degree=8,link=450GB/s,latency=0s energy:flop=1pJ,byte=30pJ,power=100W"
    told = energy_of(on_h100("llama-3-8b", texts, batch=n, seq_len=context))
    assert float(told.total.joules_expr) == pytest.approx(joules, rel=1e-12)
    assert float(told.total.joules_expr) == pytest.approx(0.150, abs=5e-4)
    assert float(told.system.joules_expr) == pytest.approx(1.20, abs=5e-3)
    assert float(told.system_token.joules_expr) == pytest.approx(8 * joules / n, rel=1e-12)
