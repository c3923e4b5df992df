"""Techniques on the command line: every command that takes them, and what it says where they make no sense."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path

import pytest
from sympy import Expr

import symroof
from symroof.techniques.registry import names, technique

DECODE = ("--hardware", "a100-sxm-80gb", "--phase", "decode", "--seq-len", "2048")
W4 = "quantize:weights=4,group=128"


def decode(**inputs: int) -> symroof.roof.analysis.Analysis:  # type: ignore[name-defined]
    step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16, **inputs)
    return symroof.analyze(step.apply(technique(W4)), "a100-sxm-80gb")


def time_per_token(*texts: str) -> Expr:
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    found = symroof.analyze(step.apply(*map(technique, texts)), "a100-sxm-80gb")
    return found.total.time_expr / found.graph.tokens


def test_analyze_says_what_was_applied(run) -> None:
    record = json.loads(run("analyze", "llama-2-7b", *DECODE, "--with", W4, "--format", "json").out)
    assert record["techniques"] == [W4]
    wanted = decode(batch=1, seq_len=2048)
    assert record["total"]["time"] == pytest.approx(float(wanted.total.time_expr), rel=1e-15)
    up = next(one for one in record["operators"] if one["name"] == "up_proj")
    assert up["bytes"] == int(wanted["up_proj"].operator.byte_count()) == 2 * 4096 + 2 * 11008 + 4096 * 11008 * (4 + 16 / 128) / 8
    assert up["data_type"] == "fp16", "weight-only quantization keeps the 16-bit roof"
    assert any(line.startswith("quantize:") for line in record["conventions"]["statements"])
    table = run("analyze", "llama-2-7b", *DECODE, "--with", W4, "--conventions").out
    assert W4 in table
    assert "q_w = 4" in table


def test_techniques_in_a_chain_are_applied_in_order(run) -> None:
    twice = ("--with", "quantize:weights=4", "--with", "quantize:kv=8")
    record = json.loads(run("analyze", "llama-2-7b", *DECODE, *twice, "--format", "json").out)
    assert [text.partition(",")[0] for text in record["techniques"]] == ["quantize:weights=4", "quantize:kv=8"]
    alone = json.loads(run("analyze", "llama-2-7b", *DECODE, "--with", "quantize:weights=4", "--format", "json").out)
    assert record["total"]["kv_read"] * 2 == alone["total"]["kv_read"]
    assert record["total"]["weight_read"] == alone["total"]["weight_read"]


def test_a_parameter_left_out_is_solved_for(run) -> None:
    out = run(
        *("crossover", "llama-2-7b", "--phase", "decode", "--operator", "up_proj", "--over", "quantized_weight_bits"),
        *("--hardware", "a100-sxm-80gb", "--batch", "60", "--seq-len", "2048", "--with", "quantize:weights,group=128"),
    ).out
    step = symroof.load_model("llama-2-7b").decode(batch=60, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    answer = symroof.crossover(
        step.apply(technique("quantize:weights,group=128")), "up_proj", over="quantized_weight_bits", hardware="a100-sxm-80gb"
    )
    assert answer.sentence in out
    assert [one.bound for one in answer.intervals] == ["compute", "memory", "compute"], "beyond 16 bits the FP32 roof applies"
    edge = int(answer.intervals[0].high_expr)
    for bits, bound in ((edge, "compute"), (edge + 1, "memory"), (17, "compute")):
        placed = symroof.analyze(step.apply(technique(f"quantize:weights={bits},group=128")), "a100-sxm-80gb")["up_proj"]
        assert placed.bound == bound


@pytest.mark.parametrize("command", ["crossover", "solve"])
def test_a_number_and_a_question_over_it_exclude_one_another(run, command: str) -> None:
    what = ("--operator", "up_proj", "--over") if command == "crossover" else ("--target-time", "5ms", "--for")
    result = run(command, "llama-2-7b", *DECODE, *what, "quantized_weight_bits", "--with", "quantize:weights=4")
    assert result.status == 2
    assert "quantized_weight_bits: --with gives it the number 4" in result.err


@pytest.mark.slow
def test_solve_and_generate_and_sweep_take_techniques(run, tmp_path: Path) -> None:
    solved = json.loads(
        run(
            *("solve", "llama-2-7b", *DECODE, "--batch", "1", "--for", "quantized_weight_bits", "--target-time", "5ms"),
            *("--with", "quantize:weights,group=64", "--format", "json"),
        ).out
    )
    bits = solved["integer"]
    slow = [
        float(symroof.analyze(_llama().apply(technique(f"quantize:weights={width},group=64")), "a100-sxm-80gb").total.time_expr)
        for width in (bits, bits + 1)
    ]
    assert slow[0] <= 5e-3 < slow[1]
    plain, quick = (
        json.loads(run("generate", "llama-2-7b", "--hardware", "a100", "--prompt", 64, "--tokens", 8, *extra, "--format", "json").out)
        for extra in ((), ("--with", W4))
    )
    assert quick["decode"]["time"] < plain["decode"]["time"] / 2
    swept = run(
        *("sweep", "llama-2-7b", "--hardware", "a100", "--over", "quantized_weight_bits=3,4,8", "--seq-len", "2048", "--metric", "time"),
        *("--with", "quantize:weights,group=64", "-o", tmp_path / "out.csv"),
    )
    assert swept.status == 0
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert float(rows[2].split(",")[-1]) == pytest.approx(
        float(symroof.analyze(_llama().apply(technique("quantize:weights=4,group=64")), "a100-sxm-80gb").total.time_expr), rel=1e-12
    )


def _llama():
    return symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)


@pytest.mark.slow
def test_compare_puts_variants_side_by_side(run) -> None:
    record = json.loads(run("compare", "llama-2-7b", *DECODE, "--with", W4, "--with", f"{W4} quantize:kv=4", "--format", "json").out)
    plain, quick, both = record["variants"]
    assert plain["techniques"] == []
    assert quick["techniques"] == [W4]
    assert plain["time"] > quick["time"] > both["time"]
    stretch = quick["payoff"][0]
    assert (stretch["low"], stretch["verdict"]) == (1.0, "pays")
    assert quick["crossovers"]["up_proj"] < plain["crossovers"]["up_proj"]
    table = run("compare", "llama-2-7b", *DECODE, "--with", W4).out
    assert "unchanged" in table
    assert "faster for batch < " in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("over", "text"), [("acceptance", "speculative:length=4,draft_cost=0.1"), ("degree", "tensor-parallel"), ("rank", "low-rank")]
)
def test_compare_tells_where_a_parameter_that_stays_a_letter_pays(run, over: str, text: str) -> None:
    asked = ("compare", "llama-2-7b", *DECODE, "--batch", "16", "--over", over, "--with", text)
    record = json.loads(run(*asked, "--format", "json").out)["variants"][1]
    assert record["time_per_token"] is None
    assert {stretch["verdict"] for stretch in record["payoff"]} >= {"pays"}
    for form in ("table", "markdown"):
        out = html.unescape(run(*asked, "--format", form).out).replace("\n", " ")
        assert re.search(rf"(faster at every {over}|for {over} < \S+; faster above|faster for {over})", out)


PARALLEL = ("--batch", "16", "--with", "tensor-parallel:degree=4,latency=1us", "--with", "mixed-batch:chunk=128")


@pytest.mark.slow
def test_compare_tells_latency_and_throughput_per_device(run) -> None:
    asked = ("compare", "llama-2-7b", *DECODE, *PARALLEL)
    record = json.loads(run(*asked, "--format", "json").out)
    plain, four, mixed = record["variants"]
    assert (plain["devices"], four["devices"], mixed["devices"]) == (1, 4, 1)
    for one in (plain, four, mixed):
        assert one["throughput"] == pytest.approx(16 / one["time"], rel=1e-12)
        assert one["device_throughput"] == pytest.approx(one["throughput"] / one["devices"], rel=1e-12)
    assert four["time"] < plain["time"]
    assert four["device_throughput"] < plain["device_throughput"]
    assert (four["payoff"][0]["verdict"], [one["verdict"] for one in four["payoff_per_device"]]) == ("pays", ["loses"])
    assert plain["payoff_per_device"] is mixed["payoff_per_device"] is None
    assert record["units"]["device_throughput"] == "token/s"
    for form in ("table", "markdown", "html", "latex"):
        out = run(*asked, "--format", form).out
        for heading in ("speed-up per device", "faster at every batch", "per device: slower at every batch"):
            assert heading in out.replace(r"-\\", "-").replace(r"\\", " ").replace("\n", " "), (
                form,
                heading,
            )  # LaTeX breaks the lines of headings
        assert "per device: tokens that all sequences generate in a second over the devices" in out


def test_compare_says_what_the_speed_up_of_a_mixed_batch_is_of(run) -> None:
    """The decode step is slower by the chunk it carries; its prompt tokens are told beside, and no gain is made of them."""
    asked = ("compare", "llama-2-7b", *DECODE, "--batch", "8", "--with", "mixed-batch:chunk=128")
    plain, mixed = json.loads(run(*asked, "--format", "json").out)["variants"]
    assert (plain["prompt_tokens"], mixed["prompt_tokens"]) == (0, 128)
    assert 1 < mixed["time_per_token"] / plain["time_per_token"] < 1.2
    assert {stretch["verdict"] for stretch in mixed["payoff"]} == {"loses"}
    out = run(*asked).out
    assert "speed-up: by latency, the time per generated token of the unchanged step divided by the variant's" in out
    assert "prompt tokens: those of prompts in the same step; time per token and speed-up are those of generated tokens" in out
    assert "per device" not in out


def test_compare_of_prompts_is_of_prompts(run) -> None:
    asked = ("compare", "llama-2-7b", "--hardware", "a100-sxm-80gb", "--phase", "prefill", "--batch", "2", "--seq-len", "64")
    out = run(*asked, "--with", "data-parallel:degree=2").out
    assert "speed-up: by latency, the time per prompt of the unchanged step divided by the variant's" in out
    assert "per device: tokens of all prompts in a second over the devices" in out
    told = json.loads(run(*asked, "--with", "data-parallel:degree=2", "--format", "json").out)["variants"]
    assert told[1]["throughput"] == pytest.approx(2 * 64 / told[1]["time"], rel=1e-12)


def test_compare_refuses_what_does_not_fit(run) -> None:
    result = run("compare", "llama-2-7b", *DECODE, "--with", "quantise:weights=4")
    assert (result.status, result.out) == (2, "")
    assert "did you mean quantize?" in result.err


def test_techniques_are_listed_with_their_parameters(run) -> None:
    out = run("techniques").out
    for name in names():
        assert name in out
    one = run("techniques", "quantize").out
    assert "arXiv:2306.00978" in one
    assert "G*w > G*q_w + q_s" in one, "the condition is derived from the rewrite"
    assert json.loads(run("techniques", "--format", "json").out)[0]["technique"] == names()[0]
    assert json.loads(run("techniques", "quantize", "--format", "json").out)[0]["memory"] == "G*w > G*q_w + q_s"
    assert run("techniques", "quantise").status == 2


def test_energy_is_told_where_it_is_asked_for(run) -> None:
    text = "energy:flop=1pJ,byte=30pJ,power=100W"
    record = json.loads(run("analyze", "llama-2-7b", *DECODE, "--with", text, "--format", "json").out)
    total = record["total"]
    by_hand = total["flops"] * 1e-12 + total["bytes"] * 30e-12 + total["time"] * 100
    assert record["energy"]["joules"]["total"] == pytest.approx(by_hand, rel=1e-12)
    assert record["energy"]["power"] == pytest.approx(by_hand / total["time"], rel=1e-12)
    assert "energy" not in json.loads(run("analyze", "llama-2-7b", *DECODE, "--format", "json").out)
    assert "energy balance: 30 FLOP/byte" in run("analyze", "llama-2-7b", *DECODE, "--with", text).out


@pytest.mark.slow
def test_a_length_in_an_exponent_is_decided_over_its_whole_range(run) -> None:
    text = "speculative:acceptance=0.8,draft_cost=1/20"
    asked = ("compare", "llama-2-7b", *DECODE, "--with", text, "--over", "draft_length")
    record = json.loads(run(*asked, "--format", "json").out)
    gain, loss = record["variants"][1]["payoff"]
    assert (gain["verdict"], gain["low"], loss["verdict"], loss["high"]) == ("pays", 1, "loses", None)
    assert gain["high"] == loss["low"]
    plain = time_per_token()
    for length in (1, 2, 8, 64, 76, 77, 128, 1000):
        assert (time_per_token(f"{text},length={length}") < plain) == (length < gain["high"])
    assert f"faster for draft_length < {gain['high']:.4g}; slower above" in run(*asked).out


def test_a_petaflop_is_a_unit_too() -> None:
    assert technique("data-format:bits=4,peak=1.248PFLOP/s") == technique("data-format:bits=4,peak=1248TFLOP/s")


@pytest.mark.parametrize(
    "text",
    ["tensor-parallel:degree=8", "pipeline-parallel:degree=4,micro_batches=4", "offload:share=1,compute=cpu,unit=survey/intel_13900k"],
)
def test_data_files_hold_operators_that_only_move_bytes(run, text) -> None:
    asked = ("analyze", "llama-2-7b", *DECODE, "--batch", "16", "--with", text, "--format")
    moves = [one for one in json.loads(run(*asked, "json").out)["operators"] if one["peak"] is None]
    assert moves
    assert all(one["flops"] == 0 and one["time"] > 0 for one in moves)
    assert run(*asked, "csv").status == 0


def test_the_csv_of_a_comparison_leaves_open_what_has_no_number(run) -> None:
    asked = ("compare", "llama-2-7b", *DECODE, "--with", "offload", "--with", "quantize:weights=4", "--format", "csv")
    rows = list(csv.DictReader(run(*asked).out.splitlines()))
    assert "traffic" in rows[0]
    numbers = ("time", "time_per_token", "speedup", "flops", "traffic", "memory", "largest_batch")
    assert [[bool(row[name]) for name in numbers].count(False) > 0 for row in rows] == [False, True, False]
    assert all(float(row[name]) > 0 for row in rows for name in numbers if row[name])


def test_payoffs_end_at_numbers_as_people_write_them() -> None:
    """A length, not a power of ten; a rate with its unit."""
    model = symroof.load_model("llama-2-7b")
    prompt, token = model.prefill(batch=1), model.decode(batch=64, seq_len=512)
    slow, counted = (
        symroof.technique(text) for text in ("tensor-parallel:degree=8,latency=500us", "quantize:weights=4,dequantize=counted")
    )
    over_length = symroof.payoff(prompt, prompt.apply(slow), over="seq_len", hardware="h100-sxm").sentence
    assert re.fullmatch(r"slower for seq_len < [0-9]{5}\.[0-9]; faster above", over_length)
    over_rate = symroof.payoff(token, token.apply(counted), over="bandwidth", hardware="h100-sxm").sentence
    assert re.fullmatch(r"faster for bandwidth < [0-9.]{4,5} TB/s; no effect above", over_rate)


def test_a_baseline_is_first_and_named(run) -> None:
    given = ("compare", "llama-2-7b", "--hardware", "l4", "--phase", "decode", "--seq-len", "64", "--with", "quantize:weights=4")
    record = json.loads(run(*given, "--baseline", "quantize:weights=8", "--format", "json").out)
    assert [one["techniques"] for one in record["variants"]] == [["quantize:weights=8"], ["quantize:weights=4"]]
    out = run(*given, "--baseline", "quantize:weights=8").out
    assert "time per generated token of quantize:weights=8 divided by the variant's" in out
    assert out.startswith("llama-2-7b on NVIDIA L4"), "the title is of the step, not of the baseline"
    assert "variants beside the baseline quantize:weights=8, not on top of it" in out
    assert "baseline" not in run(*given).out
    assert "unchanged" not in out
    assert "did you mean quantize" in run(*given, "--baseline", "quantze").err
