"""The roofline as an expression and as numbers: bounds, ridges, peaks, memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy import Integer, Max, Rational

import symroof
from symroof.architectures import llm_viewer
from symroof.roof.roofline import TRAFFIC, attainable, bound, time
from symroof.symbols import BW, P
from symroof.units import INTENSITY, RATE, SECOND
from tests.steps import one_of_each_type, phases

FULL = {"batch": 2, "seq_len": 48, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
positive = st.fractions(min_value=Rational(1, 1000), max_value=10**15).map(lambda value: Rational(value.numerator, value.denominator))


@pytest.mark.slow
@given(positive, positive, positive, positive)
def test_roofline_laws(flops: Rational, traffic: Rational, peak: Rational, bandwidth: Rational) -> None:
    seconds = time(flops, traffic, peak, bandwidth)
    performance = attainable(flops / traffic, peak, bandwidth)
    assert performance * seconds == flops
    assert performance <= peak
    verdict = bound(flops, traffic, peak, bandwidth)
    assert (verdict == "memory") == (flops / traffic < peak / bandwidth)
    assert seconds == (traffic / bandwidth if verdict == "memory" else flops / peak)
    # The same in other units: seconds per 1000, bytes as bits.
    assert time(flops, traffic * 8, peak, bandwidth * 8) == seconds
    assert time(flops, traffic, peak * 1000, bandwidth * 1000) * 1000 == seconds


def test_at_the_ridge_an_operator_is_compute_bound() -> None:
    assert bound(Integer(10), Integer(5), Integer(4), Integer(2)) == "compute"
    assert bound(Integer(10), Integer(5) + Rational(1, 10**9), Integer(4), Integer(2)) == "memory"
    assert bound(P, Integer(5), Integer(4), Integer(2)) is None


def test_time_is_an_expression_until_numbers_come() -> None:
    analysis = symroof.analyze(symroof.load_model("llama-2-7b").decode())
    placed = analysis["q_proj"]
    assert placed.time_expr.func is Max
    assert placed.time_expr.free_symbols >= {P, BW}
    assert placed.bound is None
    assert analysis.fits is None
    assert placed.time.units == SECOND
    assert placed.performance.units == RATE
    assert placed.intensity.units == INTENSITY


def catalogue_cases():
    for name in one_of_each_type():
        known = symroof.load_model(name).architecture.family in llm_viewer.FAMILIES
        for phase in phases(name):
            yield name, phase, "exact"
            if known:
                yield name, phase, "llm-viewer"
            if name in llm_viewer.SURVEY_MODELS:
                yield name, phase, "survey"


@pytest.mark.parametrize("flash", [False, True], ids=["unfused", "flash"])
@pytest.mark.parametrize(("name", "phase", "accounting"), tuple(catalogue_cases()))
def test_every_model_in_every_phase_and_accounting(name: str, phase: str, accounting: str, flash: bool) -> None:
    step = getattr(symroof.load_model(name), phase)(accounting=accounting, flash_attention=flash, **FULL)
    analysis = symroof.analyze(step, "survey/nvidia_A6000")
    for placed in analysis:
        parts = [placed.operator.byte_count(*kind) for kind in TRAFFIC.values()]
        assert placed.operator.byte_count() == sum(parts) > 0
        assert placed.time_expr > 0
        assert placed.bound in ("memory", "compute")
        # The formula in letters, at the numbers of this step, is the number.
        for formula, value in (
            (placed.symbolic.flop_count, placed.operator.flop_count),
            (placed.symbolic.byte_count(), placed.operator.byte_count()),
        ):
            assert formula.xreplace(dict(analysis.values)) == value
    total = analysis.total
    assert total.flop_count == sum(placed.count_expr * placed.operator.flop_count for placed in analysis)
    assert total.byte_count() == sum(total.byte_count(*kind) for kind in TRAFFIC.values())
    assert total.time_expr == sum(placed.count_expr * placed.time_expr for placed in analysis)
    assert analysis.memory_exprs["total"] == sum(value for key, value in analysis.memory_exprs.items() if key != "total")
    assert f"accounting {accounting}" in analysis.statements


@pytest.mark.parametrize(
    ("widths", "data_type"),
    [((16, 16, 16), "fp16"), ((4, 16, 16), "fp16"), ((8, 8, 16), "int8"), ((4, 8, 8), "int8"), ((4, 4, 4), "int4"), ((32, 32, 32), "fp32")],
)
def test_the_peak_follows_from_the_widest_operand(widths: tuple[int, int, int], data_type: str) -> None:
    names = dict(zip(("weight_bits", "activation_bits", "kv_bits"), widths, strict=True))
    analysis = symroof.analyze(symroof.load_model("llama-2-7b").decode(batch=1, seq_len=8, **names), "a100")
    assert analysis["q_proj"].data_type == data_type
    widest = max(widths[1:])
    assert analysis["qk_matmul"].data_type == {16: "fp16", 8: "int8", 4: "int4", 32: "fp32"}[widest]
    assert analysis["softmax"].data_type == ("fp32" if widths[1] == 32 else "fp16"), "what is no matmul runs in at least 16 bits"


def test_a_width_left_open_leaves_the_peak_open() -> None:
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=8).apply(symroof.technique("quantize:weights"))
    with pytest.raises(symroof.SymroofError, match=r"which peak applies depends on q_w; give the bits as numbers"):
        symroof.analyze(step, "a100")


@pytest.mark.slow
@given(st.integers(1, 512), st.integers(1, 4096))
def test_decode_time_grows_with_batch_and_context(batch: int, context: int) -> None:
    def seconds(**inputs: int) -> Rational:
        step = symroof.load_model("opt-125m").decode(weight_bits=16, activation_bits=16, kv_bits=16, **inputs)
        return symroof.analyze(step, "a100").total.time_expr

    here = seconds(batch=batch, seq_len=context)
    assert seconds(batch=batch + 1, seq_len=context) > here
    assert seconds(batch=batch, seq_len=context + 1) > here


def test_quantizing_weights_never_adds_time() -> None:
    def seconds(bits: int) -> Rational:
        step = symroof.load_model("llama-2-13b").decode(batch=1, seq_len=100, weight_bits=bits, activation_bits=16, kv_bits=16)
        return symroof.analyze(step, "a6000").total.time_expr

    times = [seconds(bits) for bits in (16, 8, 4, 2, 1)]
    assert times == sorted(times, reverse=True)


def test_decode_is_prefill_of_one_token() -> None:
    """With no context before it, the first generated token is a prompt of one."""
    for name in ("llama-2-70b", "opt-350m", "gpt-j-6b", "chatglm3-6b"):
        model = symroof.load_model(name)
        one, other = (getattr(model, phase)(**(FULL | {"seq_len": 1})).graph for phase in ("prefill", "decode"))
        assert (one.flop_count, one.byte_count()) == (other.flop_count, other.byte_count())


def test_prefill_flops_are_the_sum_of_decodes() -> None:
    """Under a causal mask, a prompt's attention costs what generating its tokens one by one would."""
    model = symroof.load_model("llama-2-7b")
    prompt = model.prefill(batch=1, seq_len=7)["qk_matmul"].flop_count
    assert prompt == sum(model.decode(batch=1, seq_len=length)["qk_matmul"].flop_count for length in range(1, 8))


def test_memory_fits_or_not() -> None:
    def fits(name: str) -> bool | None:
        return symroof.analyze(symroof.load_model(name).decode(**FULL), "a100-sxm-80gb").fits

    assert fits("llama-2-7b") is True
    assert fits("llama-2-70b") is False


def test_flash_attention_in_exact_accounting() -> None:
    """The output is s x e per head, KV is read per KV head, once: 512 kB of a head fit the cache of 40 MiB."""
    step = symroof.load_model("llama-2-70b").prefill(flash_attention=True, causal=False, **(FULL | {"seq_len": 1000}))
    analysis = symroof.analyze(step, "a100-sxm-80gb")
    fused = analysis["fused_attention"].operator
    assert fused.byte_count("activation", "write") == 2 * 1000 * 64 * 128 * 2
    assert fused.byte_count("activation", "read") == 2 * 1000 * 64 * 128 * 2
    assert fused.byte_count("kv_cache", "read") == 2 * (2 * 1000 * 8 * 128 * 2)
    assert fused.cache_bytes == 2 * 1000 * 64 * 128 * 2 + 63 * 2 * (2 * 1000 * 8 * 128 * 2)  # 128 / 8 = 16 positions, 63 blocks
    assert "R = s where c*e*s/4 <= M_L, else 128*k*n_c/h" in analysis.statements


@pytest.mark.slow
def test_tables_in_every_form() -> None:
    analysis = symroof.analyze(symroof.load_model("llama-2-7b").decode(**FULL), "a100")
    assert "q\\_\\allowbreak{}proj" in analysis.table(formulas=True).latex()
    assert "$2 b d e h$" in analysis._repr_html_()
    assert "<td" in analysis._repr_html_()
    assert analysis.table().markdown().count("\n") > 20
    symbolic = symroof.analyze(symroof.load_model("llama-2-7b").decode(symbolic=True))
    assert "\\max" in symbolic._repr_latex_().lower()
    assert "depends" in symbolic._repr_html_()
