"""PyTorch's own counts, and the published sizes of what PyTorch was not asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sympy import Rational

import symroof
from symroof.architectures.families import MODEL_TYPES, multimodal
from tests.conftest import DATA, rows

REFERENCE = rows("torch_counts.csv")


def contraction_flops(step) -> int:
    return int(step.graph.contraction_flop_count)


@pytest.mark.parametrize("source", ["name", "file"])
@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: row["model"])
def test_parameters_and_contraction_flops(row: dict[str, str], source: str) -> None:
    model = symroof.load_model(row["model"] if source == "name" else DATA / "configs" / row["config"])
    convention = {"batch": 2, "causal": False, "lm_head": "all"}
    assert set(model.unread) <= {"expert_dtype"}, "of DeepSeek V4: told, and no part of these counts"
    assert model.parameters == int(row["parameters"])
    assert sum(model.parameters_per_part.values()) == model.parameters
    steps = {
        "prefill_matmul_flops_batch2_prompt64": model.prefill(seq_len=64, **convention),
        "decode_matmul_flops_batch2_context65": model.decode(seq_len=65, **convention),
    }
    for column, step in steps.items():
        if row[column]:
            assert contraction_flops(step) == int(row[column])


OF_DEFAULTS = "stepfun-ai--Step-3.7-Flash"
"""Transformers 5.24 does not read this file's fields, which stand outside a `text_config`: what was counted is its default config."""
REFUSED = {"nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8"}
KNOWN = {*MODEL_TYPES, *multimodal.FAMILIES}
OF_2026 = [
    row for row in rows("torch_counts_2026.csv") if row["parameters"] and row["model_type"] in KNOWN and row["config"] not in REFUSED
]


@pytest.mark.parametrize("row", OF_2026, ids=lambda row: row["config"])
def test_models_of_2026(row: dict[str, str]) -> None:
    """The text decoder's parameters, and contraction FLOPs of a prefill where Transformers computes what the model defines."""
    model = symroof.load_model(DATA / "configs_2026" / f"{row['config']}.json")
    assert set(model.unread) <= {"expert_dtype"}, "of DeepSeek V4: told, and no part of these counts"
    counted = int(row["parameters"])
    if row["config"] == OF_DEFAULTS:
        counted += 2 * (128896 - 128815) * 4096  # two tables of the file's vocabulary, not the default one
    assert model.parameters == sum(model.parameters_per_part.values()) == counted
    prefill = model.prefill(batch=2, seq_len=64, causal=False, lm_head="all", mla="decompressed")
    if row["prefill_matmul_flops_batch2_prompt64"]:
        assert contraction_flops(prefill) == int(row["prefill_matmul_flops_batch2_prompt64"])


FURTHER = [json.loads(line) for line in (DATA / "further_counts.jsonl").read_text().splitlines()]
SAID = {"index_share_for_mtp_iteration", "moe_router_dtype", "text_config.output_gate_type", "expert_dtype"}
"""Fields that published files have beside the ones that are counted: of a draft, of arithmetic, of a gate's function."""


@pytest.mark.parametrize("row", FURTHER, ids=lambda row: row["name"])
def test_further_sizes(row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(row["config"]))
    model = symroof.load_model(tmp_path)
    assert set(model.unread) <= SAID
    assert model.parameters == sum(model.parameters_per_part.values()) == row["parameters"]


@pytest.mark.parametrize("row", rows("transformers_counts.csv"), ids=lambda row: row["model"])
def test_every_size_against_its_implementation(row: dict[str, str]) -> None:
    """All sizes in models/, opt-350m with its norms behind and its narrower embedding among them."""
    model = symroof.load_model(row["model"])
    assert model.parameters == int(row["parameters"])
    prefill = model.prefill(batch=2, seq_len=64, causal=False, lm_head="all")
    assert contraction_flops(prefill) == int(row["prefill_matmul_flops_batch2_prompt64"])


def test_all_families_of_the_reference_are_here() -> None:
    assert len(REFERENCE) == 25
    assert sum(bool(row["prefill_matmul_flops_batch2_prompt64"]) for row in REFERENCE) == 18


@pytest.mark.parametrize(
    ("model", "millions"),
    # Peebles and Xie (2022), arXiv 2212.09748, Table 4, "Params (M)": the model at 256 x 256.
    [
        *[("dit-s-2", 33), ("dit-b-2", 130), ("dit-b-4", 130), ("dit-b-8", 131)],
        *[("dit-l-2", 458), ("dit-l-4", 458), ("dit-l-8", 459), ("dit-xl-2", 675), ("dit-xl-4", 675), ("dit-xl-8", 676)],
        *[("dit-s-4", 33), ("dit-s-8", 33)],
    ],
)
def test_dit_sizes_as_published(model: str, millions: int) -> None:
    found = symroof.load_model(model)
    trained = found.parameters - found.parameters_per_part["position_embedding"]  # a fixed sinusoid
    assert round(trained / 1e6) == millions


def test_reference_point() -> None:
    """Llama-2-7b decode, A100 80 GB, FP16, batch 1, context 2048: 14.288 GB, 7.007 ms at 2039 GB/s."""
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    analysis = symroof.analyze(step, "a100-sxm-80gb")
    rows_looked_up = analysis["embedding"].operator.byte_count("weight")
    weights = analysis.total.byte_count("weight") - rows_looked_up
    cache = analysis.total.byte_count("kv_cache", "read")
    assert rows_looked_up == 4096 * 2
    assert weights == (6738415616 - 32000 * 4096) * 2 == 13_214_687_232
    assert cache == 2 * 32 * 4096 * 2 * 2048 == 1_073_741_824
    seconds = (weights + cache) / analysis.device.bandwidth.magnitude
    assert seconds == Rational(14_288_429_056, 2039 * 10**9)
    assert 0.007007 < seconds < 0.007008
    # The whole step adds the activations that unfused operators hand through memory.
    assert analysis.total.time_expr > seconds
    assert float(analysis.total.time_expr / seconds) < 1.01
