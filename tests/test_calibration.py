"""Calibration: forms against a second typing of them, fits against planted constants, bad files, measured rows where they are at hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sympy import Integer, Rational, Symbol

import symroof
from symroof import symbols
from symroof.calibration import rows as reading
from symroof.calibration.fit import calibrate, fit, halves
from symroof.calibration.prediction import Prediction, least, operator_of, surviving
from symroof.calibration.rows import read_rows
from symroof.calibration.validate import spread, validate
from symroof.errors import DeviceError, InputError
from symroof.hardware.calibration import CONSTANTS, Calibration, Kernel, KernelConstants, Trait, load_calibration, shipped, written
from symroof.hardware.device import Device
from symroof.operators.facts import Resource
from symroof.roof.kernel_forms import kernel_of
from tests import calibration_forms as plain
from tests.conftest import Run

SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
LETTERS = {
    "gemm": {"t0": symbols.t_0g, "e1": symbols.e_1g, "e2": symbols.e_2g, "tau": symbols.tau_g, "p": symbols.p_g},
    "decode": {"t0": symbols.t_0d, "e2": symbols.e_2d, "t1": symbols.t_1d, "tc": symbols.t_cd, "p": symbols.p_d},
    "prefill": {"t0": symbols.t_0p, "e1": symbols.e_1p, "e2": symbols.e_2p, "t1": symbols.t_1p, "tc": symbols.t_cp},
}


def device() -> Device:
    """An A100 without rates of exponentials and vectors, as the second typing has it."""
    known = symroof.load_hardware("a100-sxm-80gb")
    return replace(known, vector=None, exponential=None, cache=None)


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return path


def constants_of(kernel: str, known: dict[str, float]) -> dict[Symbol, Rational]:
    values = {letter: Rational(str(known[name])) for name, letter in LETTERS[kernel].items()}
    return values | ({symbols.x_e: Rational(3, 4)} if kernel == "prefill" else {})


CLASSES = {"gemm": Kernel.GEMM, "decode": Kernel.DECODE, "prefill": Kernel.PREFILL}


@pytest.mark.parametrize("kernel", ["gemm", "decode", "prefill"])
@pytest.mark.parametrize("traits", ["", "grouped", "packed"])
def test_forms_are_those_of_a_second_typing(tmp_path: Path, kernel: str, traits: str) -> None:
    if (kernel == "gemm" and traits) or (kernel == "decode" and traits == "packed"):
        pytest.skip("no such kernel")
    told = {"decode": {"grouped": bool(traits)}, "prefill": {"traits": traits}}.get(kernel, {})
    (rows,) = read_rows(file(tmp_path, plain.csv_of(kernel, 60, noise=0.0, **told)))
    known = KernelConstants(
        CLASSES[kernel], frozenset({16}), constants_of(kernel, plain.PLANTED[kernel]), frozenset({Trait(traits)} if traits else ())
    )
    predicted = Prediction(rows, device(), known.traits).of(known)
    assert predicted == pytest.approx(rows.seconds, rel=1e-5)


def test_a_step_is_the_sum_of_the_forms() -> None:
    """Every kernel of a real step, typed a second time; element-wise operators at their own overhead and memory share."""
    own = device()
    kernels = [KernelConstants(CLASSES[name], frozenset({16}), constants_of(name, plain.PLANTED[name])) for name in CLASSES]
    vector = KernelConstants(Kernel.VECTOR, frozenset(), {symbols.t_0v: Rational(2, 10**6), symbols.e_2v: Rational(4, 5)})
    own = replace(own, calibration=Calibration((*kernels, vector)))
    for batch, length in ((1, 2048), (48, 777)):
        step = symroof.load_model("llama-3-8b").decode(batch=batch, seq_len=length, flash_attention=True, **SIXTEEN)
        found = symroof.analyze(step, own, ceilings="calibrated")
        wanted = {
            "q_proj": plain.gemm(batch, 4096, 4096, plain.PLANTED["gemm"]),
            "k_proj": plain.gemm(batch, 1024, 4096, plain.PLANTED["gemm"]),
            "down_proj": plain.gemm(batch, 4096, 14336, plain.PLANTED["gemm"]),
            "lm_head": plain.gemm(batch, 128256, 4096, plain.PLANTED["gemm"]),
            "fused_attention": plain.decode(batch, length, 32, 8, 128, plain.PLANTED["decode"]),
            "mlp_add": 2e-6 + 3 * 2 * batch * 4096 / (0.8 * 2039e9),
        }
        assert {name: float(found[name].time_expr) for name in wanted} == pytest.approx(wanted, rel=1e-6)
        assert float(found.total.time_expr) == pytest.approx(sum(float(one.count * one.time_expr) for one in found))
    step = symroof.load_model("llama-3-8b").prefill(batch=2, seq_len=3000, flash_attention=True, **SIXTEEN)
    point = symroof.analyze(step, own, ceilings="calibrated")["fused_attention"]
    moved = float(point.operator.byte_count())  # a step's own projections write the cache
    assert float(point.time_expr) == pytest.approx(plain.prefill(2, 3000, 32, 8, 128, plain.PLANTED["prefill"], moved=moved), rel=1e-6)


@pytest.mark.parametrize("kernel", ["gemm", "decode", "prefill"])
def test_a_fit_finds_planted_constants(tmp_path: Path, kernel: str) -> None:
    told = {"decode": {"grouped": True}, "prefill": {"traits": "packed"}}.get(kernel, {})
    (rows,) = read_rows(file(tmp_path, plain.csv_of(kernel, **told)), "a100-sxm-80gb")
    found = fit(rows, device())
    assert found.traits == frozenset({"decode": {Trait.GROUPED}, "prefill": {Trait.PACKED}}.get(kernel, set()))
    assert found.loop is None
    near = {"tau": 0.5, "p": 0.3, "tc": 0.5}
    for name, letter in LETTERS[kernel].items():
        if plain.PLANTED[kernel][name]:
            assert float(found[letter]) == pytest.approx(plain.PLANTED[kernel][name], rel=near.get(name, 0.08)), name
    assert found.error["all"].mape < 2.5  # noise of 3 % either way is 1.5 % on average
    assert found.error["all"].rows == len(rows) - halves(len(rows), 0).sum()


def test_exponentials_are_told_from_matrix_products_by_rows_of_several_head_dimensions(tmp_path: Path) -> None:
    """A kernel of another generation, on another device: exponentials beside matrix products, heads apart."""
    planted = {"t0": 6e-6, "e1": 0.8, "e2": 0.9, "t1": 2e-6, "tc": 0.0, "x": 0.9}
    told = {"planted": planted, "heads": (64, 128, 256), "name": "b200_sxm", "gpu": plain.B200, "traits": "overlapped"}
    own = symroof.load_hardware("b200")
    (rows,) = read_rows(file(tmp_path, plain.csv_of("prefill", 500, **told)), own.name)
    found = fit(rows, own)
    assert Trait.OVERLAPPED in found.traits
    assert Trait.PACKED not in found.traits
    assert float(found[symbols.x_e]) == pytest.approx(0.9, rel=0.1)
    assert float(found[symbols.e_1p]) == pytest.approx(0.8, rel=0.05)
    assert found.error["all"].mape < 3


def test_a_loop_that_stays_in_the_cache_is_found(tmp_path: Path) -> None:
    planted = {**plain.PLANTED["decode"], "e2": 0.85, "p": 1.0, "phi": 0.8, "l": 12.0}
    own = symroof.load_hardware("l40s")
    told = {"planted": planted, "name": "l40s", "gpu": plain.L40S}
    (rows,) = read_rows(file(tmp_path, plain.csv_of("decode", 500, **told)), own.name)
    bound = least(rows, own)
    assert (bound.seconds > rows.seconds).any()
    found = fit(rows, own)
    assert found.loop is not None
    assert found.loop[0] == pytest.approx(0.8, rel=0.15)
    assert float(found[symbols.e_2d]) == pytest.approx(0.85, rel=0.06)
    assert found.error["all"].mape < 3
    (judged,) = validate([rows], replace(own, calibration=Calibration((found,))))
    assert judged.beyond_resident == judged.beyond.sum() > 0


def test_no_calibrated_time_is_below_the_least_time() -> None:
    for name in ("a100-sxm-80gb", "h100-sxm"):
        for model in ("opt-125m", "llama-3-8b", "mixtral-8x7b-v0.1", "gemma-2-9b", "deepseek-v3"):
            for phase, batch, length in (("decode", 1, 100), ("decode", 64, 8000), ("prefill", 1, 64), ("prefill", 4, 4096)):
                make = getattr(symroof.load_model(model), phase)
                step = make(batch=batch, seq_len=length, flash_attention=True, **SIXTEEN)
                bound, told = (symroof.analyze(step, name, ceilings=ceilings) for ceilings in ("stated", "calibrated"))
                for least_, one in zip(bound, told, strict=True):
                    assert float(one.time_expr) >= float(least_.time_expr) * (1 - 1e-9), (model, phase, batch, one.name)
                assert any(one.constants for one in told)


def test_what_no_kernel_stands_behind_is_said() -> None:
    step = symroof.load_model("mixtral-8x7b-v0.1").decode(batch=4, seq_len=500, **SIXTEEN)
    found = symroof.analyze(step, "h100-sxm", ceilings="calibrated")
    assert {"qk_matmul", "softmax", "expert_up_proj", "attn_norm"} <= {*found.uncalibrated}
    assert not {"q_proj", "lm_head"} & {*found.uncalibrated}
    bound = symroof.analyze(step, "h100-sxm")
    assert all(found[name].time_expr == bound[name].time_expr for name in ("qk_matmul", "expert_up_proj"))
    fused = symroof.load_model("llama-3-8b").decode(batch=4, seq_len=500, flash_attention=True, **SIXTEEN)
    assert "fused_attention" not in symroof.analyze(fused, "h100-sxm", ceilings="calibrated").uncalibrated
    narrow = symroof.load_model("llama-3-8b").decode(batch=4, seq_len=500, flash_attention=True, weight_bits=4)
    assert "up_proj" in symroof.analyze(narrow, "h100-sxm", ceilings="calibrated").uncalibrated
    low, high = found.band.values()
    errors = {one.name: (one.constants.error["all"].mape / 100 if one.constants and one.constants.error else 0) for one in found}
    width = sum(float(one.count * one.time_expr) * errors[one.name] for one in found)
    assert float((high - low).magnitude) == pytest.approx(2 * width)
    assert len(bound.uncalibrated) == len(bound.operators)


def test_letters_of_constants_tell_when_a_launch_decides() -> None:
    step = symroof.load_model("llama-2-7b").decode(batch=1, symbolic=True)
    point = symroof.analyze(step, ceilings="calibrated")["up_proj"]
    assert {symbols.t_0g, symbols.e_1g, symbols.e_2g, symbols.tau_g, symbols.p_g, symbols.f_c} <= point.time_expr.free_symbols
    assert point.seconds_exprs[Resource.MEMORY] == point.operator.byte_count() / (symbols.e_2g * symbols.BW)
    assert point.overhead_expr == symbols.t_0g
    assert point.overhead_limit_expr.has(point.seconds_exprs[Resource.MEMORY])


def test_a_launch_decides_above_its_limit() -> None:
    """The bound is the overhead just above the limit, and a resource just below it; a step's limit is the mean of its operators'."""
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=500, flash_attention=True, **SIXTEEN)
    found = symroof.analyze(step, "a100-sxm-80gb", ceilings="calibrated")
    limit = found["up_proj"].overhead_limit_expr
    assert limit == found["up_proj"].seconds_exprs[Resource.MEMORY]
    known = shipped("a100-sxm-80gb")
    assert known is not None
    for factor, wanted in ((Rational(99, 100), "memory"), (Rational(101, 100), "overhead")):
        changed = [
            replace(one, values={**one.values, symbols.t_0g: limit * factor}) if one.kernel is Kernel.GEMM else one for one in known.kernels
        ]
        own = replace(symroof.load_hardware("a100-sxm-80gb"), calibration=replace(known, kernels=tuple(changed)))
        assert symroof.analyze(step, own, ceilings="calibrated")["up_proj"].bound == wanted
    work = sum(float(one.count_expr) * max(map(float, one.seconds_exprs.values())) for one in found)
    assert float(found.total.overhead_limit.magnitude) == pytest.approx(work / sum(float(one.count_expr) for one in found))
    letters = symroof.analyze(symroof.load_model("llama-2-7b").decode(symbolic=True))["up_proj"]
    assert str(letters.overhead_limit.units) == "second"


@pytest.mark.parametrize(("model", "options", "name", "wanted"), [
    ("llama-3-8b", {}, "qk_matmul", None),
    ("llama-3-8b", {"flash_attention": True}, "fused_attention", Kernel.DECODE),
    ("mistral-7b-v0.1", {"flash_attention": True}, "fused_attention", Kernel.DECODE),
    ("deepseek-v3", {"flash_attention": True}, "moe.fused_attention", None),
    ("deepseek-v3", {}, "moe.k_up_proj", None),
    ("deepseek-v3", {}, "moe.kv_down_proj", Kernel.GEMM),
    ("deepseek-v3", {}, "moe.shared_up_proj", Kernel.GEMM),
    ("mixtral-8x7b-v0.1", {}, "router", Kernel.GEMM),
    ("mixtral-8x7b-v0.1", {}, "expert_down_proj", None),
    ("llama-3-8b", {}, "mlp_act", Kernel.VECTOR),
])  # fmt: skip
def test_classes_follow_from_facts(model: str, options: dict[str, bool], name: str, wanted: Kernel | None) -> None:
    step = symroof.load_model(model).decode(symbolic=True, **options)
    assert kernel_of(step.symbolic[name]) is wanted


def test_windows_and_parts_of_prompts_are_no_measured_kernels() -> None:
    prompt = symroof.load_model("mistral-7b-v0.1").prefill(symbolic=True, flash_attention=True)
    assert kernel_of(prompt.symbolic["fused_attention"]) is None
    whole = symroof.load_model("llama-3-8b").prefill(symbolic=True, flash_attention=True)
    assert kernel_of(whole.symbolic["fused_attention"]) is Kernel.PREFILL
    ahead = symroof.load_model("llama-3-8b").prefill(symbolic=True, flash_attention=True, causal=False)
    assert kernel_of(ahead.symbolic["fused_attention"]) is None
    chunked = whole.apply(symroof.technique("chunked-prefill:chunk=256"))
    assert {kernel_of(one) for one, _ in chunked.symbolic if "fused_attention" in one.answers_to} == {None}
    beside = whole.apply(symroof.technique("pim:operators=up_proj,peak=1e12,bandwidth=1e12"))
    assert kernel_of(beside.symbolic["up_proj"]) is None


GEMM_HEADER = "m,n,k,dtype,gpu,latency_us\n"


@pytest.mark.parametrize(("text", "told"), [
    ("", "no column"),
    ("m,n,dtype,latency_us\n1,2,bfloat16,3\n", "no column k; a file of gemm has m, n, k"),
    ("batch,kv_len,heads,kv_heads,latency_us\n", "no column head_dim; a file of attention-decode"),
    ("m,n,k,dtype,latency\n1,1024,1024,bfloat16,5\n", "states no unit known here"),
    ("m,n,k,dtype,latency_min\n1,1024,1024,bfloat16,5\n", "states no unit known here"),
    ("m,n,k,dtype\n1,1024,1024,bfloat16\n", "expected one column of times"),
    ("m,n,k,dtype,latency_us,latency_ms\n1,1,1,bfloat16,5,5\n", "expected one column of times"),
    (GEMM_HEADER + "1,1024,1024,bfloat16,a100_sxm,-4\n", "line 2: latency_us '-4': expected a time above 0"),
    (GEMM_HEADER + "1,1024,1024,bfloat16,a100_sxm,0\n", "expected a time above 0"),
    (GEMM_HEADER + "1,1024,1024,bfloat16,a100_sxm,nan\n", "expected a time above 0"),
    (GEMM_HEADER + "1,1024,1024,bfloat16,a100_sxm,4e9\n", "expected a time below an hour"),
    (GEMM_HEADER + "1,1024,1024,bfloat16,a100_sxm,4 us\n", "latency_us '4 us' is not a number"),
    (GEMM_HEADER + "1,0,1024,bfloat16,a100_sxm,4\n", "n '0': expected a whole number from 1 to 1e9"),
    (GEMM_HEADER + "1,1.5,1024,bfloat16,a100_sxm,4\n", "n '1.5': expected a whole number"),
    (GEMM_HEADER + "1,1024,1024,bfloat61,a100_sxm,4\n", "dtype 'bfloat61' is not known here; did you mean bfloat16 or float16?"),
    (GEMM_HEADER + "1,1024,1024,bfloat16,a100_sxm\n", "line 2: 5 fields, where the header names 6"),
    (GEMM_HEADER + "1,1024,1024,bfloat16,mi300x,4\n", "no rows of device a100-sxm-80gb; its gpu is mi300x: choose with --where gpu=..."),
    (GEMM_HEADER, "has no rows"),
])  # fmt: skip
def test_bad_files_are_one_clear_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        read_rows(file(tmp_path, text), "a100-sxm-80gb")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_one_clear_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path, Path("/dev/zero")):
        with pytest.raises(InputError, match="cannot be read"):
            read_rows(path)
    binary = tmp_path / "rows.csv"
    binary.write_bytes(b"m,n,k,latency_us\n\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_rows(binary)


def test_times_in_another_unit_are_refused(tmp_path: Path) -> None:
    for scale, told in ((1e3, "faster than a100-sxm-80gb can be"), (1e8, "so nothing is fitted"), (1e13, "expected a time below an hour")):
        with pytest.raises(InputError) as error:
            fit(read_rows(file(tmp_path, plain.csv_of("gemm", 200, scale=scale)))[0], device())
        assert told in str(error.value), scale


def test_rows_of_another_device_or_too_few_are_refused(tmp_path: Path) -> None:
    (rows,) = read_rows(file(tmp_path, plain.csv_of("gemm", 40)))
    with pytest.raises(InputError, match="40 rows are too few"):
        fit(rows, device())
    (rows,) = read_rows(file(tmp_path, plain.csv_of("decode", 200)))
    slower = symroof.load_hardware("t4")
    with pytest.raises((InputError, DeviceError), match=r"faster than t4 can be|states no"):
        fit(rows, slower)
    with pytest.raises(InputError, match="did you mean gemm_overhead"):
        calibrate([rows], device(), held={"gem_overhead": 1.0})


def test_a_long_file_is_streamed_and_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_ROWS", 300)
    path = file(tmp_path, GEMM_HEADER + "".join(f"{1 + line},1024,1024,bfloat16,a100_sxm,{10 + line}\n" for line in range(3000)))
    (rows,) = read_rows(path)
    assert (len(rows), rows.total) == (300, 3000)
    assert 1300 < np.mean(rows.columns["m"]) < 1700  # uniform, not the first
    (again,) = read_rows(path)
    assert np.array_equal(again.seconds, rows.seconds)


def test_units_and_where_are_followed(tmp_path: Path) -> None:
    text = "m,n,k,dtype,framework,latency_ms\n8,1024,1024,bfloat16,one,0.005\n8,1024,1024,fp8,two,0.004\n"
    path = file(tmp_path, text)
    first, second = read_rows(path)
    assert (first.seconds.tolist(), sorted(first.widths), first.name) == ([5e-6], [16], "one")
    assert (second.seconds.tolist(), sorted(second.widths)) == ([4e-6], [8])
    assert len(read_rows(path, where={"framework": "two"})) == 1
    with pytest.raises(InputError, match="there is no column 'frame'; did you mean framework"):
        read_rows(path, where={"frame": "two"})
    with pytest.raises(InputError, match="has no rows with framework=three"):
        read_rows(path, where={"framework": "three"})


def test_a_constant_that_rows_cannot_tell_is_held_and_said(tmp_path: Path) -> None:
    """Rows of one head dimension do not tell exponentials from the share of the matrix peak."""
    own = replace(symroof.load_hardware("a100-sxm-80gb"))
    rate = own.machine.rates.get(Resource.EXPONENTIAL, Integer(16 * 108 * 1410 * 10**6))
    own.__dict__["machine"] = replace(own.machine, rates={**own.machine.rates, Resource.EXPONENTIAL: rate})
    (rows,) = read_rows(file(tmp_path, plain.csv_of("prefill", traits="packed")))
    found = fit(rows, own)
    assert float(found[symbols.x_e]) == 0.75
    assert "exposed_exponentials fixed at 0.75: not determined by these rows" in found.notes
    held = fit(rows, own, held={"exposed_exponentials": 0.5})
    assert float(held[symbols.x_e]) == 0.5
    assert held[symbols.e_1p] < found[symbols.e_1p]  # what exponentials no longer take, the matrix unit does
    with pytest.raises(InputError, match="expected 0 to 2"):
        fit(rows, own, held={"exposed_exponentials": 3.0})


def test_a_constant_at_the_end_of_its_range_is_said(tmp_path: Path) -> None:
    """Kernels that move fewer bytes than the operator says reach more than the bandwidth: the share stays at 1, and it is told."""
    fast = {**plain.PLANTED["gemm"], "e2": 0.999, "e1": 0.999}
    lines = [
        f"{m},{n},{k},bfloat16,a100_sxm,{(plain.gemm(m, n, k, fast) - 4e-6) * 1e6}"
        for m in (1, 4, 16, 64, 256, 1024)
        for n in (2048, 4096, 8192, 16384)
        for k in (4096, 8192, 16384)
    ]
    (rows,) = read_rows(file(tmp_path, GEMM_HEADER + "\n".join(lines) + "\n"))
    found = fit(rows, device())
    assert any("end of its range" in note for note in found.notes)
    assert all(one.low <= float(found[one.symbol]) <= one.high for one in CONSTANTS[Kernel.GEMM])


def test_what_survives_in_a_cache_is_lambert_w() -> None:
    lambertw = pytest.importorskip("scipy.special").lambertw
    ratio = np.linspace(1.05, 6, 40)
    assert surviving(ratio, 1.0) == pytest.approx(np.real(-lambertw(-ratio * np.exp(-ratio)) / ratio), rel=1e-6)
    assert surviving(np.array([0.2, 1.0]), 1.0).tolist() == [1.0, 1.0]


def test_rows_served_by_a_cache_are_marked(tmp_path: Path) -> None:
    """A loop over 4 MB is faster than memory allows, and no error; one over 400 MB is none that a cache explains."""
    text = "batch,kv_len,heads,kv_heads,head_dim,kv_dtype,latency_us\n"
    small, large = 8 * 1024, 8 * 102400
    ideal = [4 * length * 128 / 2039e9 * 1e6 for length in (small, large)]
    rows_text = text + f"1,{small},1,1,128,bfloat16,{ideal[0] / 3}\n1,{large},1,1,128,bfloat16,{ideal[1] * 1.2}\n"
    (rows,) = read_rows(file(tmp_path, rows_text))
    bound = least(rows, device())
    assert bound.seconds * 1e6 == pytest.approx(np.array(ideal), rel=1e-3)
    assert bound.resident.tolist() == [True, False]
    (found,) = validate([rows], device())
    assert (int(found.beyond.sum()), found.beyond_resident) == (1, 1)


def test_collections_of_rows_differ_by_the_floor(tmp_path: Path) -> None:
    text = "m,n,k,dtype,framework,latency_us\n" + "".join(
        f"{m},1024,1024,bfloat16,{name},{time}\n" for m in (1, 2, 4) for name, time in (("a", 10), ("b", 12))
    )
    measured = read_rows(file(tmp_path, text))
    assert spread(measured) == pytest.approx((20 + 100 / 6) / 2)
    assert spread(measured[:1]) is None


def test_a_file_of_constants_comes_back(tmp_path: Path) -> None:
    known = shipped("a100-sxm-80gb")
    assert known is not None
    path = tmp_path / "constants.toml"
    path.write_text(written(known, "symroof"))
    again = load_calibration(path)
    assert [vars(one) for one in again.kernels] == [vars(one) for one in known.kernels]
    assert (again.device, again.date) == (known.device, known.date)


@pytest.mark.parametrize(("old", "new", "told"), [
    ("gemm_compute_share = 0.", "gemm_compute_share = 1.", "gemm_compute_share is '1."),
    ('gemm_overhead = "', 'gemm_overhead = "-', "is not a number and a unit"),
    ('gemm_overhead = "5', 'gemm_overhead = "500000', "expected 0 to 0.001 s"),
    ("gemm_exponent", "gemm_exponents", "unknown key 'gemm_exponents'; did you mean gemm_exponent"),
    ('class = "gemm"', 'class = "gem"', "kernel.class is 'gem'; did you mean gemm?"),
    ("widths = [16]", "widths = [0]", "expected a list of bits"),
    ('traits = []', 'traits = ["fast"]', "kernel.traits is ['fast']"),
    ("rows = 1029", "rows = -1", "kernel.rows is -1"),
    ("software = ", "sofware = ", "unknown key 'sofware'; did you mean software"),
    ("device = ", "device == ", "is not TOML"),
])  # fmt: skip
def test_bad_constants_are_one_clear_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = written(shipped("a100-sxm-80gb"), "symroof")  # type: ignore[arg-type]
    assert old in text
    path = tmp_path / "constants.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DeviceError) as error:
        load_calibration(path)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_commands_fit_and_validate(tmp_path: Path, run: Callable[..., Run]) -> None:
    data, constants = file(tmp_path, plain.csv_of("gemm")), tmp_path / "constants.toml"
    told = run(
        "calibrate",
        "--data",
        data,
        "--device",
        "a100",
        "-o",
        constants,
        "--source",
        "planted",
        "--floor",
        "gemm:16=5.4",
        "--format",
        "json",
    )
    assert (told.status, told.err) == (0, "")
    record = json.loads(told.out)
    assert record["kernels"][0]["constants"]["gemm_compute_share"] == pytest.approx(0.8, rel=0.05)
    assert load_calibration(constants).kernels[0].source == "planted"
    judged = run("validate", "--data", data, "--device", "a100", "--calibration", constants, "--unseen", "0", "--format", "json")
    (one,) = json.loads(judged.out)["kernels"]
    assert one["errors"]["all"]["mape"] == pytest.approx(record["kernels"][0]["errors"]["all"]["mape"], abs=0.05)
    assert (one["beyond_bound"], one["floor"]) == (0, 5.4)
    assert "errors of calibrated times" in run("validate", "--data", data, "--device", "a100").out


@pytest.mark.parametrize("arguments", [
    ["calibrate", "--data", "none.csv", "--device", "a100"],
    ["calibrate", "--data", "rows.csv", "--device", "a1000"],
    ["calibrate", "--data", "rows.csv", "--device", "a100", "--hold", "gemm_overhead"],
    ["calibrate", "--data", "rows.csv", "--device", "a100", "--floor", "gem:16=3"],
    ["calibrate", "--data", "rows.csv", "--device", "a100", "-o", "none/constants.toml"],
    ["validate", "--data", "rows.csv", "--device", "a100", "--where", "gpu"],
    ["validate", "--data", "rows.csv", "--device", "a100", "--calibration", "none.toml"],
    ["validate", "--data", "rows.csv", "--device", "h100"],
])  # fmt: skip
def test_commands_refuse_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Run], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file(tmp_path, plain.csv_of("gemm", 80))
    told = run(*arguments)
    assert told.status == 2
    assert told.err.count("\n") == 1


MEASURED = os.environ.get("SYMROOF_MEASURED", "")
"""A folder with gemm.csv, attention_decode.csv and attention_prefill.csv: see docs/validation.md."""

GOALS = {
    "a100-sxm-80gb": {Kernel.GEMM: 8.0, Kernel.DECODE: 8.5, Kernel.PREFILL: 8.5},
    "h100-sxm": {Kernel.GEMM: 6.0, Kernel.DECODE: 7.0, Kernel.PREFILL: 6.5},
}


@pytest.mark.slow
@pytest.mark.skipif(not MEASURED, reason="measured kernels are not at hand: SYMROOF_MEASURED names their folder")
@pytest.mark.parametrize("name", sorted(GOALS))
def test_measured_kernels(name: str) -> None:
    """No row is faster than the least time; fitted on one half, the forms keep their promise on the other."""
    known = symroof.load_hardware(name)
    for file_ in ("gemm", "attention_decode", "attention_prefill"):
        for rows in read_rows(Path(MEASURED) / f"{file_}.csv", name):
            bound = least(rows, known)
            assert not (rows.seconds < bound.seconds).any(), (file_, rows.widths)
            if rows.widths == {16}:
                found = fit(rows, known, seed=1)
                assert found.error["all"].mape <= GOALS[name][rows.kernel], (name, rows.kernel)
                assert all(one.low <= float(found[one.symbol]) <= one.high for one in CONSTANTS[rows.kernel])


def test_operators_of_rows_are_the_librarys_own() -> None:
    assert kernel_of(operator_of(Kernel.GEMM, frozenset({16}))) is Kernel.GEMM
    assert kernel_of(operator_of(Kernel.DECODE, frozenset({8, 16}))) is Kernel.DECODE
    assert kernel_of(operator_of(Kernel.PREFILL, frozenset({16}))) is Kernel.PREFILL


def test_fused_products_of_one_activation_are_one_product() -> None:
    own = replace(device(), calibration=shipped("a100-sxm-80gb"))
    gemm = next(one for one in own.calibration.kernels if one.kernel is Kernel.GEMM and one.widths == {16})  # type: ignore[union-attr]
    known = {name: float(gemm[letter]) for name, letter in LETTERS["gemm"].items()}
    step = symroof.load_model("llama-2-7b").decode(batch=32, seq_len=500, flash_attention=True, **SIXTEEN)
    step = step.apply(symroof.technique("fuse:operators=q_proj+k_proj+v_proj"), symroof.technique("fuse:operators=q_rotary+k_rotary"))
    found = symroof.analyze(step, own, ceilings="calibrated")
    assert float(found["q_proj+k_proj+v_proj"].time_expr) == pytest.approx(plain.gemm(32, 3 * 4096, 4096, known), rel=1e-6)
    assert kernel_of(found["q_rotary+k_rotary"].operator) is Kernel.VECTOR
    gated = (
        symroof.load_model("llama-2-7b")
        .decode(batch=32, seq_len=500, **SIXTEEN)
        .apply(symroof.technique("fuse:operators=mlp_act+down_proj"))
    )
    assert kernel_of(gated.symbolic["mlp_act+down_proj"]) is Kernel.GEMM
    whole = symroof.load_model("llama-2-7b").decode(batch=32, seq_len=500, **SIXTEEN)
    chained = whole.apply(symroof.technique("fuse:operators=gate_proj+up_proj+mlp_act+down_proj"))
    assert kernel_of(chained.symbolic["gate_proj+up_proj+mlp_act+down_proj"]) is None


def test_a_generation_of_calibrated_kernels_is_the_sum_of_its_steps() -> None:
    model, options = symroof.load_model("llama-3-8b"), {"batch": 5, "flash_attention": True, **SIXTEEN}
    found = symroof.generation(model, prompt=250, tokens=12, hardware="h100-sxm", ceilings="calibrated", **options)
    steps = [model.decode(seq_len=length, **options) for length in range(251, 262)]
    wanted = sum(float(symroof.analyze(step, "h100-sxm", ceilings="calibrated").total.time_expr) for step in steps)
    assert float(found.decode_time_expr) == pytest.approx(wanted, rel=1e-9)
    before = symroof.analyze(model.prefill(seq_len=250, **options), "h100-sxm", ceilings="calibrated")
    assert float(found.prefill_time_expr) == pytest.approx(float(before.total.time_expr), rel=1e-9)
    assert found.traffic_expr == symroof.generation(model, prompt=250, tokens=12, hardware="h100-sxm", **options).traffic_expr
    low, high = map(float, found.band_exprs)  # type: ignore[arg-type]
    assert low < float(found.time_expr) < high
    assert (low + high) / 2 == pytest.approx(float(found.time_expr))
    drafted = symroof.technique("speculative:acceptance=0.8,length=3,draft=tinyllama-1.1b-chat-v1.0")
    seven = symroof.load_model("llama-2-7b")
    with_draft = symroof.generation(
        seven, prompt=250, tokens=12, hardware="h100-sxm", ceilings="calibrated", techniques=[drafted], **options
    )
    assert sum(map(float, with_draft.band_exprs)) / 2 == pytest.approx(float(with_draft.time_expr))  # type: ignore[arg-type]
    once = symroof.generation(model, prompt=250, tokens=1, hardware="h100-sxm", ceilings="calibrated", **options)
    assert once.decode_time_expr == 0


@pytest.mark.parametrize(
    ("phase", "name", "over"), [("decode", "up_proj", "batch"), ("prefill", "down_proj", "seq_len"), ("decode", "mlp_act", "batch")]
)
def test_crossovers_lie_where_the_reached_roofs_meet(phase: str, name: str, over: str) -> None:
    """A norm moves no crossover: the shares do, by their ratio; letters and numbers agree."""
    sizes = {"seq_len": 512} if over == "batch" else {"batch": 4}
    step = getattr(symroof.load_model("llama-3-8b"), phase)(flash_attention=True, **sizes, **SIXTEEN)
    known = symroof.load_hardware("a100-sxm-80gb")
    answer = symroof.crossover(step, name, over=over, hardware=known, ceilings="calibrated")
    if answer.value_expr is None:
        assert answer.verdict in ("always-memory", "always-compute")
        return
    at = {"seq_len": 512, "batch": 4} | {over: 1}
    sides = []
    for place in (int(answer.value_expr), int(answer.value_expr) + 1):
        numbers = getattr(symroof.load_model("llama-3-8b"), phase)(flash_attention=True, **{**at, over: place}, **SIXTEEN)
        seconds = symroof.analyze(numbers, known, ceilings="calibrated")[name].seconds_exprs
        work = max(value for resource, value in seconds.items() if resource in (Resource.COMPUTE, Resource.VECTOR, Resource.EXPONENTIAL))
        moved = max(value for resource, value in seconds.items() if resource in (Resource.MEMORY, Resource.CACHE))
        sides.append(work >= moved)
    assert sides == [False, True]
    if name != "mlp_act":
        formula = answer.formula.subs(dict(answer.values)).subs(symbols.P, 312 * 10**12)
        assert formula.subs(symbols.BW, 2039 * 10**9) == answer.value_expr
        assert {symbols.e_1g, symbols.e_2g} <= answer.formula.free_symbols
        plain_ = symroof.crossover(step, name, over=over, hardware=known)
        assert answer.value_expr > plain_.value


def test_times_that_follow_no_form_are_not_fitted(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    lines = [
        f"{m},1024,{k},bfloat16,a100_sxm,{60 + 200 * chance.random():.2f}"
        for m in (1, 16, 64, 512, 2048)
        for k in (1024, 4096)
        for _ in range(20)
    ]
    (rows,) = read_rows(file(tmp_path, GEMM_HEADER + "\n".join(lines) + "\n"))
    with pytest.raises(InputError, match="nothing is fitted"):
        fit(rows, device())


def test_the_roofline_of_a_calibrated_step_has_what_kernels_reach() -> None:
    from symroof.present.roofline_plot import roofline_figure

    step = symroof.load_model("llama-3-8b").decode(batch=64, seq_len=2048, flash_attention=True, **SIXTEEN)
    found = symroof.analyze(step, "h100-sxm", ceilings="calibrated")
    (axes,) = roofline_figure(found).axes
    drawn = {line.get_label(): line for line in axes.lines}
    constants = found["gate_proj"].constants
    assert constants is not None
    _, ys = drawn["reached by gemm"].get_data()
    assert max(ys) == pytest.approx(989.4e12 * float(constants[symbols.e_1g]), rel=1e-4)
    placed = {str(cloud.get_label()): len(cloud.get_offsets()) for cloud in axes.collections}  # type: ignore[arg-type]
    assert {"memory-bound", "overhead-bound", "latency-bound"} <= placed.keys()
    assert sum(placed.values()) == sum(one.operator.flop_count != 0 for one in found)


@pytest.mark.parametrize(
    ("model", "phase"), [("llama-3-8b", "decode"), ("llama-2-7b", "decode"), ("llama-3-8b", "prefill"), ("mixtral-8x7b-v0.1", "decode")]
)
def test_a_sweep_of_calibrated_steps_is_their_analyses(model: str, phase: str) -> None:
    sizes = {"batch": [1, 7, 64], "seq_len": [100, 3000]}
    found = symroof.sweep(
        model, ["a100-sxm-80gb", "h100-sxm"], sizes, phase=phase, ceilings="calibrated", flash_attention=True, metrics=["time", "bound"]
    )
    for name in ("a100-sxm-80gb", "h100-sxm"):
        for batch in sizes["batch"]:
            for length in sizes["seq_len"]:
                step = getattr(symroof.load_model(model), phase)(batch=batch, seq_len=length, flash_attention=True, **SIXTEEN)
                wanted = float(symroof.analyze(step, name, ceilings="calibrated").total.time_expr)
                point = found.time.sel(hardware=name, batch=batch, seq_len=length) if "hardware" in found.dims else found.time
                assert float(point.item()) == pytest.approx(wanted, rel=1e-9), (name, batch, length)


def test_sweeps_refuse_what_constants_do_not_say() -> None:
    with pytest.raises(InputError, match="weight_bits cannot be swept over"):
        symroof.sweep("opt-125m", "h100-sxm", {"weight_bits": [4, 16]}, seq_len=64, ceilings="calibrated")
    with pytest.raises(InputError, match="give hardware"):
        symroof.sweep("opt-125m", None, {"batch": [1, 2]}, seq_len=64, ceilings="calibrated", peak=1e14, bandwidth=1e12)
    with pytest.raises(DeviceError, match="has no calibration"):
        symroof.sweep("opt-125m", "t4", {"batch": [1, 2]}, seq_len=64, ceilings="calibrated")
