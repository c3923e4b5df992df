"""LLM-Viewer at 472f71f: 60 random configurations, every operator and every total."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

import symroof
from symroof.present.records import analysis_record
from tests.conftest import rows

KEYS = ("model", "hardware", "batch", "seqlen", "w_bit", "a_bit", "kv_bit", "flash", "phase")
OPERATOR = {
    "flops": "flops",
    "load_weight": "weight_read",
    "load_act": "activation_read",
    "store_act": "activation_write",
    "load_kv_cache": "kv_read",
    "store_kv_cache": "kv_write",
    "intensity": "intensity",
    "performance": "performance",
    "time_s": "time",
}
TOTAL = {key: value for key, value in OPERATOR.items() if "_" in key and key != "time_s"}
TOTAL |= {"OPs": "flops", "memory_access": "bytes", "inference_time": "time"}
MEMORY = {"": "total", "_tmp_act": "activation", "_weight": "weight", "_kv_cache": "kv_cache"}


@cache
def record(*key: str) -> dict[str, Any]:
    row = dict(zip(KEYS, key, strict=True))
    step = getattr(symroof.load_model(row["model"]), row["phase"])(
        batch=int(row["batch"]),
        seq_len=int(row["seqlen"]),
        weight_bits=int(row["w_bit"]),
        activation_bits=int(row["a_bit"]),
        kv_bits=int(row["kv_bit"]),
        flash_attention={"True": True, "False": False}[row["flash"]],
        accounting="llm-viewer",
    )
    return analysis_record(symroof.analyze(step, f"survey/{row['hardware']}"))


def record_of(row: dict[str, str]) -> dict[str, Any]:
    return record(*(row[key] for key in KEYS))


def same(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=0)


@pytest.mark.slow
def test_every_operator() -> None:
    seen: dict[int, set[str]] = {}
    for row in rows("llm_viewer_operators.csv"):
        found = record_of(row)
        operator = next(operator for operator in found["operators"] if operator["name"] == row["operator"])
        assert {key: operator[ours] for key, ours in OPERATOR.items()} == {key: same(float(row[key])) for key in OPERATOR}, row
        assert operator["bound"] == row["bound"], row
        seen.setdefault(id(found), set()).add(row["operator"])
    assert len(seen) == 120
    # Nothing of ours is without a row there: the sums below would not notice a cancelling pair.
    for row in rows("llm_viewer_totals.csv"):
        found = record_of(row)
        assert {operator["name"] for operator in found["operators"]} == seen[id(found)]


def test_every_total() -> None:
    reference = rows("llm_viewer_totals.csv")
    assert len(reference) == 120
    for row in reference:
        found = record_of(row)
        assert {key: found["total"][ours] for key, ours in TOTAL.items()} == {key: same(float(row[key])) for key in TOTAL}, row
        for suffix, ours in MEMORY.items():
            assert found["memory"][ours] == same(float(row[f"memory_consumption{suffix}"])), row


def test_int8_on_a_device_without_it_is_refused() -> None:
    """LLM-Viewer stops with a KeyError here; a 16-bit operand gives the FP16 peak."""
    model = symroof.load_model("opt-125m")
    widths = {"weight_bits": 8, "activation_bits": 8}
    with pytest.raises(symroof.SymroofError, match="device 'survey/intel_13900k' states no peak for 'int8'; it has fp16"):
        symroof.analyze(model.decode(batch=1, seq_len=8, accounting="llm-viewer", kv_bits=8, **widths), "survey/intel_13900k")
    mixed = model.decode(batch=1, seq_len=8, accounting="llm-viewer", kv_bits=16, **widths)
    assert {placed.data_type for placed in symroof.analyze(mixed, "survey/intel_13900k")} == {"fp16"}
