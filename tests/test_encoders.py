"""Encoders: windows on both sides against brute force, heads, and the one step they have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sympy import Integer

import symroof
from symroof.architectures.config import catalogue
from symroof.errors import InputError
from symroof.symbols import R, b, s, t, t_e, t_w
from tests.conftest import DATA

ENCODERS = ("bert-base-uncased", "roberta-large", "xlm-roberta-base", "modernbert-base")


@pytest.mark.parametrize("length", [1, 2, 64, 65, 66, 129, 300])
def test_a_window_on_both_sides(length: int) -> None:
    """ModernBERT's local attention of 128: 64 tokens before and 64 behind."""
    model = symroof.load_model("modernbert-base")
    step = model.prefill(batch=3, seq_len=length)
    pairs = sum(abs(query - key) <= 64 for query in range(length) for key in range(length))
    assert step["sliding.qk_matmul"].flop_count == 3 * 2 * 768 * pairs
    assert step["sliding.softmax"].flop_count == 3 * 5 * 12 * pairs
    assert step["full.qk_matmul"].flop_count == step["first.qk_matmul"].flop_count == 3 * 2 * 768 * length**2
    assert model.prefill(batch=3, seq_len=length, causal=False)["sliding.qk_matmul"].flop_count == 3 * 2 * 768 * length**2


@pytest.mark.parametrize("length", [512, 1000])
def test_blocks_read_their_window(length: int) -> None:
    """Every block of R queries reads its rows and those of the window beside it; at the ends there are none."""
    step = symroof.load_model("modernbert-base").prefill(batch=1, symbolic=True, flash_attention=True)
    repeats = step.symbolic["sliding.fused_attention"].reads[1].repeats
    rows, reach = 128, 65
    blocks = -(-length // rows)
    read = sum(min(length, (block + 1) * rows + reach - 1) - max(0, block * rows - reach + 1) for block in range(blocks))
    last = length - (blocks - 1) * rows
    counted = repeats.xreplace({s: Integer(length), t_w: Integer(reach), R: Integer(rows)}) * length
    assert counted == read if last >= reach - 1 else read < counted < read + reach


def test_what_an_encoder_is_asked() -> None:
    for name in ENCODERS:
        model = symroof.load_model(name)
        with pytest.raises(InputError, match="is an encoder, which reads all tokens at once and generates none: ask for phase prefill"):
            model.decode(batch=1, seq_len=64)
        assert model.cache.bytes == 0
        step = model.prefill(batch=8, seq_len=256)
        assert step.graph.kv_memory() == 0
        assert symroof.analyze(step, "h100-sxm").total.time_expr > 0
        assert symroof.crossover(
            step, "full.up_proj" if name.startswith("modern") else "up_proj", over="batch", hardware="a100-sxm-80gb"
        ).verdict
        texts = " ".join(step.statements)
        assert "an encoder has no causal mask" in texts


@pytest.mark.parametrize(
    ("head", "parameters"),
    # BertModel's are those of the paper, 110M; each head by hand
    [
        ("BertModel", 109482240),
        ("BertForMaskedLM", 109482240 - 768 * 769 + 768 * 769 + 2 * 768 + 30522),
        ("BertForSequenceClassification", 109482240 + 2 * 769),
        ("BertForTokenClassification", 109482240 - 768 * 769 + 2 * 769),
        ("BertForPreTraining", 109482240 + 768 * 769 + 2 * 768 + 30522 + 2 * 769),
    ],
)
def test_heads(tmp_path: Path, head: str, parameters: int) -> None:
    config = json.loads(catalogue()["bert-base-uncased"].read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": [head]}))
    assert symroof.load_model(tmp_path).parameters == parameters


def test_the_first_layer_has_no_norm() -> None:
    """ModernBERT: the norm of the embedding stands for it."""
    step = symroof.load_model("modernbert-base").prefill(symbolic=True)
    names = {operator.name for operator, _ in step.symbolic}
    assert "first.attn_norm" not in names
    assert {"full.attn_norm", "sliding.attn_norm", "first.mlp_norm"} <= names
    assert step.symbolic["first.q_proj"].reads[0].tensor.name == "hidden"


ROWS = [json.loads(line) for line in (DATA / "transformers_hybrids.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["t5", "whisper"])
def test_both_steps_against_transformers(tmp_path: Path, kind: str) -> None:
    """The encoder with the decoder's first token, and its second token alone; the source is 64 tokens, or what Whisper hears at once."""
    for row in (row for row in ROWS if row["model_type"] == kind):
        (tmp_path / "config.json").write_text(json.dumps(row["config"]))
        model = symroof.load_model(tmp_path)
        source = 64 if kind == "t5" else row["config"]["max_source_positions"]
        sizes = {**model.dimensions, b: Integer(2), t_e: Integer(source)}
        step = model.decode(symbolic=True).symbolic
        first, second = (step.bind({**sizes, t: Integer(context)}).contraction_flop_count for context in (1, 2))
        encoded = model.prefill(batch=2, seq_len=source).graph.contraction_flop_count
        assert encoded + first == row["first_token_matmul_flops"], row["config"]
        assert second == row["second_token_matmul_flops"], row["config"]


def test_whisper_by_hand() -> None:
    """Large v3: 32 layers of 20 heads of 64; 30 seconds are 1500 positions, whose keys and values every token reads."""
    model = symroof.load_model("whisper-large-v3")
    step = model.decode(batch=4, seq_len=100).with_widths()
    cross, own = 4 * 1500 * 1280 * 2, 4 * 100 * 1280 * 2
    assert step["decoder.cross.qk_matmul"].byte_count("kv_cache") == cross
    assert step["decoder.qk_matmul"].byte_count("kv_cache") == own
    assert step.graph.kv_memory() == 32 * 2 * (cross + own)
    assert step.graph.weight_memory() == 2 * model.parameters, "both halves are in memory"
    prompt = model.prefill(batch=4, seq_len=1500).with_widths()
    assert prompt.graph.kv_memory() == 32 * 2 * cross
    assert prompt.graph.weight_memory() == 2 * model.parameters
    assert prompt["encoder.conv1"].flop_count == 2 * 4 * 3000 * 128 * 3 * 1280
    assert prompt["encoder.conv2"].flop_count == 2 * 4 * 1500 * 1280 * 3 * 1280
    assert prompt["encoder.qk_matmul"].flop_count == 2 * 4 * 1500**2 * 1280
    assert {operator.name.split(".")[0] for operator, _ in step} == {
        *("decoder", "embedding", "position_embedding", "embedding_add", "final_norm", "lm_head")
    }


def test_the_source_is_a_variable() -> None:
    step = symroof.load_model("t5-base").decode(batch=4, seq_len=20)
    assert step.values[t_e] == 512
    times = symroof.regimes(step, over="source_len", hardware="a100-sxm-80gb")
    assert times.time_expr(1024) > times.time_expr(512)
    assert (
        symroof.prove(step, "memory-bound", "decoder.cross.qk_matmul", for_all=["source_len"], hardware="a100-sxm-80gb").verdict == "proved"
    )


def test_what_cannot_be_asked() -> None:
    for name, phase in (("whisper-large-v3", "decode"), ("t5-base", "prefill"), ("bert-base-uncased", "prefill")):
        step = getattr(symroof.load_model(name), phase)(batch=4, seq_len=128)
        with pytest.raises(InputError, match="or as an encoder does to all tokens, which is not supported"):
            step.apply("prefix-cache:share=1/2")
    with pytest.raises(InputError, match="has an encoder that reads the prompt, and its decoder begins with none"):
        symroof.generation(symroof.load_model("t5-base"), hardware="a100-sxm-80gb", prompt=10, tokens=10)


def test_an_untied_head_is_counted() -> None:
    """flan-t5-xl: the hub lists 2.85B, LM head apart from the embedding, as its config says."""
    assert symroof.load_model("flan-t5-xl").parameters == 2849757184


@pytest.mark.parametrize("technique", ["flash-attention", "fuse:preset=engine"])
def test_two_attentions_are_fused_apart(technique: str) -> None:
    """One over the decoder's positions and one over the source: the FLOPs stay, and each reads its own keys and values once."""
    step = symroof.load_model("whisper-large-v3").decode(batch=4, seq_len=100)
    fused = step.apply(technique)
    assert fused.graph.flop_count == step.graph.flop_count
    for name, length in (("decoder.fused_attention", 100), ("decoder.cross.fused_attention", 1500)):
        assert fused.with_widths()[name].byte_count("kv_cache") == 2 * 4 * length * 1280 * 2
    built = symroof.load_model("whisper-large-v3").decode(batch=4, seq_len=100, flash_attention=True)
    assert built.graph.byte_count() == step.apply("flash-attention").graph.byte_count()
