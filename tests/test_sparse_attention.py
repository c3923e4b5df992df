"""Attention to keys that an indexer selects: counts by hand, and the two contexts against scans of whole numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from sympy import Integer, Rational

import symroof
from symroof.errors import InputError
from symroof.questions.context_limit import positive_from
from symroof.symbols import c, t, t_i

V32 = {"h": 128, "r_kv": 512, "r": 64, "h_i": 64, "e_i": 128, "k": 2048, "r_q": 1536, "d": 7168}
"""deepseek-ai/DeepSeek-V3.2, config.json."""


def numbers(step: symroof.Step, *names: str) -> int:
    """FLOPs of the operators of one layer with experts."""
    return sum(int(step[f"moe.{name}"].flop_count) for name in names)


@pytest.mark.parametrize("context", [1, 2047, 2048, 2049, 100_000])
def test_decode_by_hand(context: int) -> None:
    step = symroof.load_model("deepseek-v3.2").decode(batch=3, seq_len=context)
    kept = min(context, V32["k"])
    pairs = 3 * V32["h"] * kept
    assert numbers(step, "qk_matmul", "softmax", "sv_matmul") == pairs * (2 * (V32["r_kv"] + V32["r"]) + 5 + 2 * V32["r_kv"])
    assert numbers(step, "index_scores") == 3 * V32["h_i"] * context * (2 * V32["e_i"] + 1 + 2)
    assert numbers(step, "index_topk") == 3 * context
    wide = step.with_widths()
    read = 3 * kept * (V32["r_kv"] + V32["r"]) * 2
    assert wide["moe.qk_matmul"].byte_count("kv_cache") == read
    assert wide["moe.index_scores"].byte_count("kv_cache") == 3 * context * V32["e_i"] * 2
    assert wide["moe.index_topk"].byte_count("activation") == 3 * context * 2 + 3 * kept * 4
    fused = symroof.load_model("deepseek-v3.2").decode(batch=3, seq_len=context, flash_attention=True).with_widths()
    assert fused["moe.fused_attention"].byte_count("kv_cache") == read
    assert wide.graph.kv_memory() == 61 * 3 * context * (V32["r_kv"] + V32["r"] + V32["e_i"]) * 2


@pytest.mark.parametrize("prompt", [1, 100, 2048, 2049, 5000])
def test_prefill_by_hand(prompt: int) -> None:
    """Query i of a prompt has min(i, k) keys of its own, and the indexer i."""
    model = symroof.load_model("deepseek-v3.2")
    step = model.prefill(batch=1, seq_len=prompt).with_widths()
    kept, scored = sum(min(i, V32["k"]) for i in range(1, prompt + 1)), prompt * (prompt + 1) // 2
    assert numbers(step, "qk_matmul") == 2 * V32["h"] * kept * (V32["r_kv"] + V32["r"])
    assert numbers(step, "index_scores") == V32["h_i"] * scored * (2 * V32["e_i"] + 3)
    assert step["moe.qk_matmul"].byte_count("kv_cache") == kept * (V32["r_kv"] + V32["r"]) * 2
    every = model.prefill(batch=1, seq_len=prompt, causal=False)
    assert numbers(every, "qk_matmul") == 2 * V32["h"] * prompt * min(prompt, V32["k"]) * (V32["r_kv"] + V32["r"])


def test_what_a_token_keeps() -> None:
    """At 16 bits 704 elements per layer of V3.2; GLM-5 likewise. Nothing is freed beyond the selection."""
    for name, layers in (("deepseek-v3.2", 61), ("glm-5", 78)):
        cache = symroof.load_model(name).cache
        assert cache.growth.xreplace({c: Integer(16)}) == cache.beyond.xreplace({c: Integer(16)}) == layers * (512 + 64 + 128) * 2
        assert (cache.window, cache.state) == (0, 0)
    assert not symroof.load_model("glm-5").cache.bytes.has(t_i)


def every_key(step: symroof.Step, **options: Any) -> symroof.Step:
    """The same step of DeepSeek-V3, which has the same sizes and attends to all keys."""
    assert step.source is not None
    return symroof.load_model("deepseek-v3").step(symroof.Options(step.options.phase, **options))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("phase", "batch", "device"), [("decode", 8, "h200-sxm"), ("decode", 64, "b200-sxm"), ("prefill", 1, "h200-sxm")])
def test_the_two_contexts_against_scans(phase: str, batch: int, device: str, fused: bool) -> None:
    """Whole numbers on both sides of each edge, and a scan in between; the dense step is another model's."""
    model = symroof.load_model("deepseek-v3.2")
    options = {"batch": batch, "flash_attention": fused, "weight_bits": 8}
    found = symroof.sparse_contexts(getattr(model, phase)(**options), device)
    assert [proof.verdict for proof in found.proofs] == ["proved", "proved"]
    edges = [int(piece.low) for pieces in (found.pays.pieces, found.larger.pieces) for piece in pieces]
    tried = {number + off for number in edges for off in (0, 1)} | {4**power for power in range(1, 10)}
    for context in sorted(number for number in tried if 1 <= number <= 10**6):
        sparse = symroof.analyze(getattr(model, phase)(seq_len=context, **options), device)
        dense = symroof.analyze(every_key(sparse.step, seq_len=context, **options), device)
        saved = dense.total.time_expr - sparse.total.time_expr
        side = found.pays.sides.at(context).label
        assert side == ("pays" if saved > 0 else "loses" if saved < 0 else "the same")
        times = {"indexer": Integer(0), "attention": Integer(0)}
        for point in sparse:
            part = "indexer" if "indexer" in point.operator.answers_to else "attention" if is_attention(point.operator) else ""
            if part:
                times[part] += point.time_expr * point.count
        longer = found.larger.at(context).label
        assert longer == ("indexer" if times["indexer"] > times["attention"] else "attention") or times["indexer"] == times["attention"]


def is_attention(operator: symroof.Operator) -> bool:
    return operator.name.rsplit(".", 1)[-1] in ("qk_matmul", "softmax", "sv_matmul", "fused_attention")


def test_equal_flops_by_hand() -> None:
    """Counted by whole contexts, without the library's formulas: the first at which fewer, or more, FLOPs are done."""
    found = symroof.sparse_contexts(symroof.load_model("deepseek-v3.2").decode(batch=1), "h200-sxm")
    h, r_kv, r, h_i, e_i, k, r_q, d = V32.values()
    per_key = h * (4 * r_kv + 2 * r + 5)
    projections = 2 * r_q * h_i * e_i + 2 * d * e_i + 2 * d * h_i + 3 * r * (h_i + 1) + 7 * e_i

    def indexer(context: int) -> int:
        return context * (h_i * (2 * e_i + 3) + 1) + projections

    fewer = next(n for n in range(1, 10**5) if min(n, k) * per_key + indexer(n) < n * per_key)
    more = next(n for n in range(k, 10**5) if indexer(n) > k * per_key)
    assert found.flops_expr is not None
    assert found.indexer_flops_expr is not None
    assert fewer - 1 <= found.flops_expr < fewer
    assert more - 1 <= found.indexer_flops_expr < more


def test_a_context_too_small_is_refuted() -> None:
    found = symroof.sparse_contexts(symroof.load_model("glm-5").decode(batch=16), "h200-sxm")
    gain, first = found.pays.before - found.pays.after, Integer(int(found.first_faster))
    assert positive_from(first, gain, "faster").verdict == "proved"
    early = positive_from(first - 1, gain, "faster")
    assert (early.verdict, early.counterexample) == ("refuted", {t: first - 1})
    assert "takes longer than attention for all t >= " in found.proofs[1].sentence


def test_what_has_no_indexer_is_refused() -> None:
    for name in ("llama-2-7b", "deepseek-v3", "gemma-3-27b-pt"):
        with pytest.raises(InputError, match="has no sparse attention with an indexer"):
            symroof.sparse_contexts(symroof.load_model(name).decode(batch=1), "h200-sxm")


def test_every_question_takes_it() -> None:
    model = symroof.load_model("glm-5")
    step = model.decode(batch=32)
    crossing = symroof.crossover(step, "moe.index_scores", over="seq_len", hardware="h200-sxm")
    assert crossing.verdict == "always-memory"
    assert symroof.prove(step, "memory-bound", "moe.index_scores", for_all=["seq_len"], hardware="h200-sxm").verdict == "proved"
    times = symroof.regimes(step, over="seq_len", hardware="h200-sxm")
    assert Integer(2048) in times.times.edges
    contexts = [2047, 2048, 2049, 50_000]
    swept = symroof.sweep("glm-5", "h200-sxm", {"seq_len": contexts}, batch=32, phase="decode")
    for context, value in zip(contexts, swept.time.values.ravel(), strict=True):
        exact = symroof.analyze(model.decode(batch=32, seq_len=context), "h200-sxm").total.time_expr
        assert value == pytest.approx(float(exact), rel=1e-12)
        assert times.time_expr(context) == exact
    assert all(left <= right for left, right in pairwise(swept.time.values.ravel()))


V4 = {"h": 64, "e": 512, "h_i": 64, "e_i": 128, "k": 512, "m": 4, "heavy": 128, "window": 128}
"""deepseek-ai/DeepSeek-V4-Flash, config.json."""


@pytest.mark.parametrize("context", [128, 2048, 2052, 100_000])
def test_compressed_entries_by_hand(context: int) -> None:
    """A window of 128 beside t / 4 entries, of which 512 are selected, or beside t / 128 entries; keys are the values too."""
    step = symroof.load_model("deepseek-v4-flash").decode(batch=3, seq_len=context).with_widths()
    per_entry = 2 * V4["h"] * V4["e"]
    window, selected = min(context, V4["window"]), min(context // V4["m"], V4["k"])
    for kind, entries in (("compressed", Integer(selected)), ("heavy", Integer(context) / V4["heavy"])):
        assert step[f"{kind}.window.qk_matmul"].flop_count == 3 * per_entry * window
        assert step[f"{kind}.qk_matmul"].flop_count == 3 * per_entry * entries
        assert step[f"{kind}.qk_matmul"].byte_count("kv_cache") == 3 * entries * V4["e"] * 2
    assert step["compressed.index_scores"].flop_count == 3 * Integer(context) / V4["m"] * V4["h_i"] * (2 * V4["e_i"] + 3)
    kept = (
        3
        * 2
        * (43 * window * V4["e"] + Integer(context) * (21 * Integer(V4["e"] + V4["e_i"]) / V4["m"] + 20 * Integer(V4["e"]) / V4["heavy"]))
    )
    assert step.graph.kv_memory() == kept


@pytest.mark.parametrize("prompt", [100, 2048, 4100])
def test_compressed_prompts_by_hand(prompt: int) -> None:
    """Query i has i / 4 entries behind it, of which it selects 512 at most."""
    step = symroof.load_model("deepseek-v4-flash").prefill(batch=1, seq_len=prompt)
    per_entry = 2 * V4["h"] * V4["e"]
    selected = sum(Integer(min(query, V4["k"] * V4["m"])) / V4["m"] for query in range(1, prompt + 1))
    every = sum(Integer(query) / V4["heavy"] for query in range(1, prompt + 1))
    assert step["compressed.qk_matmul"].flop_count == per_entry * selected
    assert step["heavy.qk_matmul"].flop_count == per_entry * every
    window = sum(min(query, V4["window"]) for query in range(1, prompt + 1))
    assert step["sliding.window.qk_matmul"].flop_count == step["heavy.window.qk_matmul"].flop_count == per_entry * window


def test_contexts_of_compressed_attention() -> None:
    model = symroof.load_model("deepseek-v4-flash")
    found = symroof.sparse_contexts(model.decode(batch=64), "h200-sxm")
    assert [proof.verdict for proof in found.proofs] == ["proved", "proved"]
    first = int(found.first_faster)
    dense = replace(model, architecture=model.architecture.attending_to_all)
    for context, faster in ((first - 1, False), (first, True), (20 * first, True)):
        times = [symroof.analyze(one.decode(batch=64, seq_len=context), "h200-sxm").total.time_expr for one in (model, dense)]
        assert (times[0] < times[1]) == faster
    fused = model.decode(batch=2, seq_len=9000)
    assert fused.apply("flash-attention").graph.flop_count == fused.graph.flop_count


def test_experts_of_four_bits_beside_eight() -> None:
    """DeepSeek V4 Flash: MXFP4 experts, FP8 in blocks elsewhere, as vLLM's DeepseekV4FP8Config reads ``expert_dtype``."""
    step = symroof.load_model("deepseek-v4-flash").decode(batch=1, seq_len=1).with_widths()
    widths = {name: step[f"compressed.{name}"].reads[1].tensor.stored_bits for name in ("expert_up_proj", "shared_up_proj", "q_proj")}
    assert widths == {"expert_up_proj": Rational(17, 4), "shared_up_proj": 8 + Rational(32, 2**14), "q_proj": 8 + Rational(32, 2**14)}
