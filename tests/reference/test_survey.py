"""Table 1 and Figure 1 of arXiv 2402.16363."""

from __future__ import annotations

import pytest

import symroof
from symroof.present.records import analysis_record
from symroof.roof.analysis import Analysis
from tests.conftest import rows

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}

# Table 1 as printed: OPs, memory access, intensity, attainable performance, bound.
PRINTED = {
    "prefill": {
        "q_proj k_proj v_proj out_proj": ("69G", "67M", "1024", "155T", "compute"),
        "gate_proj up_proj down_proj": ("185G", "152M", "1215", "155T", "compute"),
        "qk_matmul sv_matmul": ("34G", "302M", "114", "87T", "memory"),
        "softmax": ("671M", "537M", "1.25", "960G", "memory"),
        "attn_norm mlp_norm": ("59M", "34M", "1.75", "1T", "memory"),
        "attn_add mlp_add": ("8M", "34M", "0.25", "192G", "memory"),
    },
    "decode": {
        "q_proj k_proj v_proj out_proj": ("34M", "34M", "1", "768G", "memory"),
        "gate_proj up_proj down_proj": ("90M", "90M", "1", "768G", "memory"),
        "qk_matmul sv_matmul": ("17M", "17M", "0.99", "762G", "memory"),
        "softmax": ("328K", "262K", "1.25", "960G", "memory"),
        "attn_norm mlp_norm": ("29K", "16K", "1.75", "1T", "memory"),
        "attn_add mlp_add": ("4K", "16K", "0.25", "192G", "memory"),
    },
}
SCALE = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def analysis(phase: str, device: str = "nvidia_A6000", seq_len: int = 2048, model: str = "llama-2-7b", **options: object) -> Analysis:
    step = getattr(symroof.load_model(model), phase)(batch=1, seq_len=seq_len, accounting="survey", **WIDTHS, **options)
    return symroof.analyze(step, f"survey/{device}")


def as_printed(value: float, printed: str) -> str:
    """The value in the style of the printed one: the same suffix, the same number of decimals."""
    suffix = printed[-1] if printed[-1] in SCALE else ""
    decimals = len(printed.partition(".")[2])
    return f"{value / SCALE.get(suffix, 1):.{decimals}f}{suffix}"


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_printed_row_of_table_1(phase: str) -> None:
    found = analysis(phase)
    names = []
    for group, (flops, traffic, intensity, performance, bound) in PRINTED[phase].items():
        for name in group.split():
            placed = found[name]
            names.append(name)
            assert as_printed(float(placed.operator.flop_count), flops) == flops
            assert as_printed(float(placed.operator.byte_count()), traffic) == traffic
            assert as_printed(float(placed.intensity_expr), intensity) == intensity
            assert as_printed(float(placed.performance_expr), performance) == performance
            assert placed.bound == bound
    assert len(names) == 14


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_table_1_unrounded(phase: str) -> None:
    found = {operator["name"]: operator for operator in analysis_record(analysis(phase))["operators"]}
    reference = [row for row in rows("survey_table1.csv") if row["phase"] == phase]
    assert {row["operator"] for row in reference} == set(found)
    for row in reference:
        operator = found[row["operator"]]
        assert operator["flops"] == float(row["flops"])
        assert operator["bytes"] == float(row["bytes"])
        assert operator["intensity"] == pytest.approx(float(row["intensity_flop_per_byte"]), rel=1e-12, abs=0)
        assert operator["performance"] == pytest.approx(float(row["performance_flop_per_s"]), rel=1e-12, abs=0)
        assert operator["bound"] == row["bound"]


def test_network_totals_of_figure_1() -> None:
    """The screenshot: Llama-2-7b, decode, V100, batch 1, sequence length 1024."""
    record = analysis_record(analysis("decode", "nvidia_V100", 1024))
    assert record["total"]["flops"] == 13627555840
    assert record["total"]["bytes"] == 13636819456
    assert record["total"]["weight_read"] == 13083082752
    assert record["total"]["kv_read"] == 536870912
    assert record["total"]["activation_read"] == 8314880
    assert record["memory"]["total"] == 13489130496


def test_the_survey_reads_the_cache_once_when_attention_is_fused() -> None:
    """Erratum 1: half of what K and V hold, which LLM-Viewer's later revision mends."""
    sic = analysis("decode", flash_attention=True)["fused_attention"].operator
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048, accounting="llm-viewer", flash_attention=True, **WIDTHS)
    mended = symroof.analyze(step, "survey/nvidia_A6000")["fused_attention"].operator
    sizes = [sum(access.byte_count for access in op.reads if access.tensor.storage == "kv_cache") for op in (sic, mended)]
    assert sizes == [2048 * 4096 * 2, 2 * 2048 * 4096 * 2]


def test_other_models_are_refused_by_name() -> None:
    with pytest.raises(symroof.SymroofError, match=r"'survey' covers llama-2-7b and llama-2-13b, not 'opt-125m'"):
        analysis("decode", model="opt-125m")


def test_the_same_config_under_another_name_is_accepted(tmp_path) -> None:
    from symroof.architectures.config import catalogue

    path = tmp_path / "my.json"
    path.write_text(catalogue()["llama-2-7b"].read_text())
    assert analysis("decode", model=str(path)).total.flop_count == analysis("decode").total.flop_count
