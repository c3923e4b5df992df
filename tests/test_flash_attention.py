"""FlashAttention's traffic against loops over its blocks, and what follows from it: bounds, crossovers, regimes, proofs.

A device of 3 processors and a small cache is a chip on which every case is reached within a few hundred tokens.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from sympy import Integer, Rational

import symroof
from symroof.operators.facts import Resource

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
SMALL = {"head_dim": 16, "heads": 4, "kv_heads": 2}
CHIP = """
[processors]
count = {processors}
[peak.fp16]
dense = "{peak}"
[memory]
bandwidth = "1 TB/s"
[[on_chip]]
name = "L2"
capacity = "{cache}"
role = "cache"
{bandwidth}
"""


def chip(folder: Path, processors: int = 3, cache: str = "8 KiB", peak: str = "40 TFLOP/s", bandwidth: str = "") -> Path:
    path = folder / "chip.toml"
    path.write_text(CHIP.format(processors=processors, cache=cache, peak=peak, bandwidth=bandwidth and f'bandwidth = "{bandwidth}"'))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> symroof.Model:
    """A Llama of one layer with 4 query heads of 16 components on 2 KV heads."""
    path = tmp_path_factory.mktemp("model") / "config.json"
    path.write_text(
        '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,'
        ' "num_key_value_heads": 2, "vocab_size": 100}'
    )
    return symroof.load_model(path)


def prefill(model: symroof.Model, length: int | None, **options: object) -> symroof.Step:
    return model.prefill(batch=1, seq_len=length, flash_attention=True, **WIDTHS, **options)


def rows_read(length: int, positions: int, causal: bool) -> int:
    """Rows of keys that groups of so many query positions, one after the other, stream: each up to its own last one."""
    return sum(min(start + positions, length) if causal else length for start in range(0, length, positions))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("processors", [1, 3])
def test_memory_is_crossed_once_for_the_blocks_side_by_side(model: symroof.Model, tmp_path: Path, processors: int, causal: bool) -> None:
    """Blocks of 128 rows hold 64 positions of 2 heads; 8 KiB of cache hold keys and values of 128 positions, 64 bytes each."""
    device = chip(tmp_path, processors)
    for length in (1, 63, 64, 65, 127, 128, 129, 192, 193, 384, 385, 1000):
        fused = symroof.analyze(prefill(model, length, causal=causal), device)["fused_attention"].operator
        passes = rows_read(length, length if length <= 128 else 64 * processors, causal)
        assert fused.byte_count("kv_cache", "read") == 2 * 2 * 16 * 2 * passes
        assert fused.byte_count("activation", "read") == fused.byte_count("activation", "write") == length * 64 * 2
        assert fused.cache_bytes == 2 * 2 * 16 * 2 * rows_read(length, 64, causal) + length * 64 * 2


def test_one_processor_without_a_cache_is_the_machine_of_dao_s_theorems(model: symroof.Model, tmp_path: Path) -> None:
    device = chip(tmp_path, 1, "1 B")
    for rows, length in itertools.product((2, 128, 256), (1, 130, 999)):
        step = model.prefill(batch=1, seq_len=length, **WIDTHS)
        shared, alone = (step.apply(symroof.technique(f"flash-attention:rows={rows}{more}")) for more in ("", ",reread=memory"))
        one, other = (symroof.analyze(step, device)["fused_attention"].operator for step in (shared, alone))
        assert one.byte_count() == other.byte_count() == length * 64 * 2 * 2 + 2 * 2 * 16 * 2 * rows_read(length, rows // 2, True)
        assert (one.cache_bytes > 0, other.cache_bytes) == (True, 0)


def test_a_device_without_a_shared_cache_leaves_the_least_traffic(model: symroof.Model, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[peak.fp16]\ndense = "1 TFLOP/s"\n[memory]\nbandwidth = "1 TB/s"\n')
    fused = symroof.analyze(prefill(model, 10**5), path)["fused_attention"].operator
    assert fused.byte_count() == 10**5 * (2 * 64 + 2 * 32) * 2
    with pytest.raises(symroof.SymroofError, match=r"device '.*mine\.toml' states no on-chip buffer"):
        symroof.analyze(model.prefill(batch=1, seq_len=9, **WIDTHS).apply(symroof.technique("flash-attention:reread=memory")), path)


@pytest.mark.parametrize(("bandwidth", "bound"), [("", "memory"), ("100 GB/s", "cache")])
def test_re_reads_are_demand_on_the_cache_where_its_rate_is_stated(
    model: symroof.Model, tmp_path: Path, bandwidth: str, bound: str
) -> None:
    device = chip(tmp_path, peak="1000 TFLOP/s", bandwidth=bandwidth)
    point = symroof.analyze(prefill(model, 1000), device)["fused_attention"]
    assert point.bound == bound
    if bandwidth:
        assert point.seconds_exprs[Resource.CACHE] == point.operator.cache_bytes / Integer(10**11) == point.time_expr


def test_llama_3_8b_reads_32768_tokens_on_an_h100_at_its_matrix_peak() -> None:
    """Measured kernels take about a second for the step; keys and values of a head are 16 MiB, the cache is 50 MiB."""
    step = symroof.load_model("llama-3-8b").prefill(batch=1, seq_len=32768, flash_attention=True, **WIDTHS)
    answer = symroof.analyze(step, "h100-sxm")
    assert answer["fused_attention"].bound == "compute"
    pairs = 32768 * 32769 // 2 * 32 * 32
    by_hand = Rational(4 * 128 * pairs, 9894 * 10**11)
    assert answer["fused_attention"].time_expr * 32 == by_hand
    assert Rational(80, 100) < answer.total.time_expr < Rational(95, 100)


@pytest.mark.parametrize("peak", ["40 TFLOP/s", "20 TFLOP/s", "6 TFLOP/s"])
@pytest.mark.parametrize("bandwidth", ["", "4 TB/s"])
def test_crossovers_over_the_prompt_against_every_length(model: symroof.Model, tmp_path: Path, peak: str, bandwidth: str) -> None:
    """On both sides of the 128 tokens whose keys and values fit the cache, and across them."""
    device = chip(tmp_path, peak=peak, bandwidth=bandwidth)
    answer = symroof.crossover(prefill(model, None), "fused_attention", over="seq_len", hardware=device)
    for length in (*range(1, 200), *range(380, 390), 1000, 5000):
        point = symroof.analyze(prefill(model, length), device)["fused_attention"]
        assert answer.bound_at(length) == ("compute" if point.bound == "compute" else "memory"), length


def test_the_resource_that_binds_is_named_at_every_length(model: symroof.Model, tmp_path: Path) -> None:
    """A cache slower than memory for re-reads, and few vector units: four resources bind one after the other."""
    device = chip(tmp_path, cache="64 KiB", peak="10 TFLOP/s", bandwidth="4 TB/s")
    device.write_text(device.read_text() + '[vector]\npeak = "9 TFLOP/s"\n[exponential]\nrate = "0.1 TOP/s"\n')
    named = set()
    for operator in ("fused_attention", "attn_norm", "up_proj"):
        answer = symroof.crossover(prefill(model, None), operator, over="seq_len", hardware=device)
        for length in (*range(1, 40), 127, 128, 129, 500, 1000):
            bound = symroof.analyze(prefill(model, length), device)[operator].bound
            if answer.seconds is not None:
                assert answer.resource_at(length) == bound, (operator, length)
                named.add(bound)
    assert {"memory", "compute", "exponential"} <= named


def test_a_whole_step_over_the_prompt_against_every_length(model: symroof.Model, tmp_path: Path) -> None:
    device = chip(tmp_path, peak="30 TFLOP/s")
    answer = symroof.crossover(prefill(model, None), "total", over="seq_len", hardware=device)
    for length in (*range(1, 140), 300, 2000):
        parts = symroof.analyze(prefill(model, length), device)
        slack = sum(
            one.count_expr * (one.operator.flop_count / one.peak_expr - one.operator.byte_count() / one.bandwidth_expr) for one in parts
        )
        assert answer.bound_at(length) == ("memory" if slack < 0 else "compute"), length


def test_regimes_over_the_prompt_are_the_time_at_every_length() -> None:
    """Beyond the cache passes are counted, and do not matter: compute takes longer, which is proved before it is used."""
    over = symroof.regimes(prefill(symroof.load_model("llama-3-8b"), None), over="seq_len", hardware="h100-sxm")
    for length in (1, 730, 731, 102400, 102401, 131072):
        assert over.time_expr(length) == symroof.analyze(prefill(symroof.load_model("llama-3-8b"), length), "h100-sxm").total.time_expr


def test_regimes_refuse_passes_that_bind(model: symroof.Model, tmp_path: Path) -> None:
    with pytest.raises(symroof.SymroofError, match="fused_attention counts blocks of rows over seq_len: no partition in closed form"):
        symroof.regimes(prefill(model, None), over="seq_len", hardware=chip(tmp_path, peak="1000 TFLOP/s"))


def test_compute_bound_from_a_length_on_is_proved_beyond_the_cache_too() -> None:
    step = prefill(symroof.load_model("llama-3-8b"), None)
    first = symroof.crossover(step, "fused_attention", over="seq_len", hardware="h100-sxm").first_integer
    for low, verdict in ((first, "proved"), (first - 1, "refuted")):
        answer = symroof.prove(step, "compute-bound", "fused_attention", for_all="seq_len", at_least={"seq_len": low}, hardware="h100-sxm")
        assert answer.verdict == verdict
        assert "c*e*s/4 > M_L" in answer.certificate or verdict == "refuted"


def test_a_bound_that_is_crossed_is_no_counterexample(model: symroof.Model, tmp_path: Path) -> None:
    """Of 3 processors R is 192: at multiples the passes are as many as s / R, and one more is an upper bound alone: at 40 it is crossed."""
    step, claims = prefill(model, None), []
    for peak in (4, 20, 40, 60, 80):
        device = chip(tmp_path, peak=f"{peak} TFLOP/s")
        lengths = range(129, 400)
        bounds = {length: symroof.analyze(prefill(model, length), device)["fused_attention"].bound for length in lengths}
        answer = symroof.prove(step, "compute-bound", "fused_attention", for_all="seq_len", at_least={"seq_len": 129}, hardware=device)
        claims.append(answer.verdict)
        if answer.verdict == "refuted":
            (point,) = answer.counterexample.values()
            assert symroof.analyze(prefill(model, int(point)), device)["fused_attention"].bound == "memory"
        elif answer.verdict == "proved":
            assert set(bounds.values()) == {"compute"}
    assert claims == ["proved", "proved", "unknown", "refuted", "refuted"]


def test_a_window_fills_where_a_scan_says() -> None:
    step = symroof.load_model("gemma-2-9b").prefill(batch=1, flash_attention=True, **WIDTHS)
    answer = symroof.crossover(step, "sliding.fused_attention", over="seq_len", hardware="a100-sxm-80gb")
    for length in (1, 100, 300, 390, 400, 500, 4095, 4096, 4097, 50_000, 163_840, 163_841):
        here = symroof.load_model("gemma-2-9b").prefill(batch=1, seq_len=length, flash_attention=True, **WIDTHS)
        assert answer.bound_at(length) == symroof.analyze(here, "a100-sxm-80gb")["sliding.fused_attention"].bound, length


def test_quantized_keys_fit_at_twice_the_length() -> None:
    """The blocks follow the operator as techniques left it: at 8 bits a head's keys and values are half as large."""
    step = symroof.load_model("llama-3-8b").prefill(batch=1, seq_len=150_000, flash_attention=True, **WIDTHS)
    narrow = step.apply(symroof.technique("quantize:kv=8"))
    once = 2 * 150_000 * 8 * 128
    assert symroof.analyze(narrow, "h100-sxm")["fused_attention"].operator.byte_count("kv_cache", "read") == once
    assert symroof.analyze(step, "h100-sxm")["fused_attention"].operator.byte_count("kv_cache", "read") > 2 * once


@pytest.mark.parametrize("degree", [2, 4])
def test_keys_on_their_way_over_a_link_are_read_from_no_cache(degree: int) -> None:
    """On a ring a device has ``s / n`` keys at hand: 102,400 of each device's fit an H100's cache, and its blocks read their share."""
    for length, passes in ((102_400 * degree, 1), (102_400 * degree + degree, None)):
        whole = symroof.load_model("llama-3-8b").prefill(batch=1, seq_len=length, flash_attention=True, **WIDTHS)
        alone, cut = (symroof.analyze(step, "h100-sxm")["fused_attention"].operator for step in (whole, _on_a_ring(whole, degree)))
        read = cut.byte_count("kv_cache", "read") / (2 * length * 8 * 128 * 2)
        assert read == passes if passes else read > 2
        assert cut.cache_bytes == alone.cache_bytes / degree


def _on_a_ring(step: symroof.Step, degree: int) -> symroof.Step:
    return step.apply(symroof.technique(f"context-parallel:degree={degree}"))


def test_a_record_has_the_whole_ledger() -> None:
    """Seconds of every resource, of which the largest is the time, and the bytes of the cache that are no part of the traffic."""
    from symroof.present.records import analysis_record

    step = symroof.load_model("llama-3-8b").prefill(batch=1, seq_len=8192, flash_attention=True, **WIDTHS)
    record = analysis_record(symroof.analyze(step, "a100-sxm-80gb"))
    for one in record["operators"]:
        assert one["time"] == max(one["seconds"].values())
        assert one["seconds"][one["bound"]] == one["time"]
        assert one["seconds"]["memory"] == pytest.approx(one["bytes"] / 2.039e12)
    (fused,) = (one for one in record["operators"] if one["name"] == "fused_attention")
    assert fused["seconds"]["cache"] == pytest.approx(fused["cache_bytes"] / 7.2192e12)
    assert fused["cache_bytes"] > 100 * fused["kv_read"], "8192 / 32 positions of a block: 256 blocks, half of them behind a row"
