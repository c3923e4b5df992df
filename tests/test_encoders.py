"""Encoders: windows on both sides against brute force, heads, and the one step they have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sympy import Integer

import symroof
from symroof.architectures.config import catalogue
from symroof.errors import InputError
from symroof.symbols import R, s, t_w

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
