"""Machines: which peak applies to every device and width, what ceiling sets there are, and how a ledger combines."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from sympy import Integer, Rational, S

import symroof
from symroof import symbols
from symroof.cli.main import main
from symroof.errors import DeviceError, InputError
from symroof.hardware.calibration import Calibration, Kernel, KernelConstants
from symroof.hardware.loader import FOLDER, catalogue
from symroof.operators.facts import Resource, wide_enough

WIDTHS = {"fp64": 64, "fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "fp6": 6, "fp4": 4, "int4": 4}
"""Bits an operand takes; tf32 reads 32 bits and drops some, so that no operand of 32 bits may be put into it unasked."""

PREFIX = {"": 0, "G": 9, "T": 12, "P": 15}
SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}

OWN = """
name = "own"
vendor = "us"
kind = "gpu"
[source.paper]
title = "measured"
publisher = "us"
url = "https://example.org"
date = "2025"
[peak.fp16]
dense = "100 TFLOP/s"
[memory]
capacity = "80 GB"
bandwidth = "1 TB/s"
[vector]
peak = "2 TFLOP/s"
source = "paper"
[exponential]
rate = "1 TOP/s"
[cache]
bandwidth = "4 TB/s"
"""


def figure_of(text: str) -> Fraction:
    number, prefix = re.fullmatch(r"([\d.]+) ([GTP]?)(?:FL)?OP/s", text).groups()  # type: ignore[union-attr]
    return Fraction(number) * 10 ** PREFIX[prefix]


def peaks_of(path: Path) -> dict[str, Fraction]:
    content = tomllib.loads(path.read_text())
    if "same_as" in content:
        return peaks_of(FOLDER / f"{content['same_as']}.toml")
    return {name: figure_of(table["dense"]) for name, table in content["peak"].items()}


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_the_fastest_type_that_is_wide_enough_is_chosen_on_a_device_and_on_a_unit(name: str) -> None:
    device, peaks = symroof.load_hardware(name), peaks_of(catalogue()[name])
    for width in (1, 4, 5, 6, 8, 12, 16, 32, 64):
        able = {data_type: peak for data_type, peak in peaks.items() if WIDTHS.get(data_type, 0) >= width}
        for machine in (device, device.machine, device.machine.scaled()):
            if not able:
                with pytest.raises(DeviceError, match="states no peak"):
                    machine.fastest(wide_enough(width))
                continue
            data_type, peak = machine.fastest(wide_enough(width))
            bare = peak.exact if isinstance(peak, symroof.Quantity) else peak  # of a device with its unit, of a machine without
            assert bare == max(able.values()), (name, width)
            assert able[data_type] == bare
        if able:
            assert device.machine.scaled(Integer(3)).fastest(wide_enough(width))[1] == 3 * max(able.values())


@pytest.mark.parametrize("name", ["xeon-platinum-8480plus", "rtx-4090", "rtx-5090", "tpu-v5p", "tpu-v6e"])
def test_a_unit_beside_a_device_is_as_fast_as_the_device(name: str) -> None:
    """The same operator on the same silicon takes as long, however that comes to run it."""
    step = symroof.load_model("llama-2-7b").prefill(batch=1, seq_len=128, **SIXTEEN)
    alone = symroof.analyze(step, name)["up_proj"]
    moved = step.apply(symroof.technique(f"pim:unit={name},operators=up_proj"))
    beside = symroof.analyze(moved, "a100-sxm-80gb")["up_proj"]
    assert (beside.data_type, beside.peak, beside.time_expr) == (alone.data_type, alone.peak, alone.time_expr)


@pytest.fixture
def own(tmp_path: Path) -> symroof.Device:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return symroof.load_hardware(path)


def decode(**inputs: int) -> symroof.Step:
    return symroof.load_model("opt-125m").decode(**{"batch": 4, "seq_len": 512, **SIXTEEN, **inputs})


def test_ceilings_that_a_device_states_bind(own: symroof.Device) -> None:
    """With vector units apart, elementwise work runs on them and no longer on the matrix units."""
    softmax = symroof.analyze(decode(), own)["softmax"]
    operator = softmax.operator
    assert softmax.seconds_exprs[Resource.VECTOR] == operator.flop_count / (2 * 10**12)
    assert Resource.COMPUTE not in softmax.seconds_exprs
    assert softmax.seconds_exprs[Resource.EXPONENTIAL] == operator.demands[Resource.EXPONENTIAL] / 10**12
    assert softmax.time_expr == max(softmax.seconds_exprs.values())
    classic = symroof.analyze(decode(), own, ceilings="classic")["softmax"]
    assert classic.seconds_exprs == {
        Resource.COMPUTE: operator.flop_count / 10**14,
        Resource.MEMORY: operator.byte_count() / 10**12,
    }
    told = [line for line in symroof.analyze(decode(), own).statements if line.startswith("further ceilings")]
    assert told == ["further ceilings: vector 2 TFLOP/s, exponential 1 TOP/s, cache 4 TB/s"]
    product = symroof.analyze(decode(), own)["up_proj"]
    assert set(product.seconds_exprs) == {Resource.COMPUTE, Resource.MEMORY}


def test_other_accountings_are_classic(own: symroof.Device) -> None:
    step = symroof.load_model("llama-2-7b").decode(batch=4, seq_len=512, accounting="llm-viewer", **SIXTEEN)
    assert {resource for point in symroof.analyze(step, own) for resource in point.seconds_exprs} == {Resource.COMPUTE, Resource.MEMORY}


@pytest.mark.parametrize("ceilings", ["classic", "stated"])
def test_regimes_and_analysis_read_one_ledger(own: symroof.Device, ceilings: str) -> None:
    step = symroof.load_model("opt-125m").decode(seq_len=512, **SIXTEEN)
    whole = symroof.regimes(step, over="batch", hardware=own, ceilings=ceilings)
    for batch in (1, 7, 100, 4000):
        at = symroof.load_model("opt-125m").decode(seq_len=512, batch=batch, **SIXTEEN)
        assert symroof.analyze(at, own, ceilings=ceilings).total.time_expr == whole.time_expr(batch)


def test_a_calibration_takes_its_shares_and_its_norm(own: symroof.Device) -> None:
    with pytest.raises(DeviceError, match="has no calibration"):
        symroof.analyze(decode(), own, ceilings="calibrated")
    values = {symbols.t_0g: Rational(1, 10**6), symbols.e_1g: Rational(1, 2), symbols.e_2g: Rational(4, 5), symbols.p_g: Integer(2)}
    gemm = KernelConstants(Kernel.GEMM, frozenset({16}), {**values, symbols.tau_g: S.Zero})
    fitted = replace(own, calibration=Calibration((gemm,)))
    ideal, reached = (symroof.analyze(decode(), fitted, ceilings=ceilings)["up_proj"] for ceilings in ("stated", "calibrated"))
    shares = {Resource.COMPUTE: Rational(1, 2), Resource.MEMORY: Rational(4, 5)}
    assert reached.seconds_exprs == {resource: taken / shares[resource] for resource, taken in ideal.seconds_exprs.items()}
    norm = sum(float(taken) ** 2 for taken in reached.seconds_exprs.values()) ** 0.5
    assert float(reached.time_expr) == pytest.approx(norm + 1e-6, rel=1e-12)
    assert ideal.time_expr == max(ideal.seconds_exprs.values())
    softmax = symroof.analyze(decode(), fitted, ceilings="calibrated")["softmax"]
    assert softmax.time_expr == symroof.analyze(decode(), fitted)["softmax"].time_expr
    free = symroof.load_model("opt-125m").decode(seq_len=512, **SIXTEEN)
    with pytest.raises(InputError, match="no closed form in pieces over batch"):
        symroof.regimes(free, over="batch", hardware=fitted, ceilings="calibrated")


def test_names_of_ceiling_sets_are_checked() -> None:
    with pytest.raises(InputError, match="did you mean classic"):
        symroof.analyze(decode(), "a100-sxm-80gb", ceilings="clasic")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('peak = "2 TFLOP/s"', 'rate = "2 TFLOP/s"', "unknown key 'rate'"),
        ('bandwidth = "4 TB/s"', 'bandwidth = "4 TFLOP/s"', "cache.bandwidth"),
        ("[exponential]", "[exponentials]", "unknown key 'exponentials'"),
        ('rate = "1 TOP/s"', 'rate = "0 TOP/s"', "expected more than 0"),
    ],
)
def test_tables_of_further_rates_are_checked(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(DeviceError, match=message):
        symroof.load_hardware(path)


@pytest.mark.parametrize(
    "command",
    [
        "analyze opt-125m --phase decode --batch 4 --seq-len 512 --format json",
        "crossover opt-125m --phase decode --operator softmax --over batch --seq-len 512 --format json",
        "solve opt-125m --phase decode --seq-len 512 --for batch --target-time 2ms --format json",
        "generate opt-125m --prompt 512 --tokens 8 --batch 64 --format json",
        "compare opt-125m --phase decode --batch 64 --seq-len 512 --with quantize:weights=4 --format json",
    ],
)
def test_commands_take_a_ceiling_set(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace('peak = "2 TFLOP/s"', 'peak = "2 GFLOP/s"'))
    printed = {}
    for ceilings in ("stated", "classic", "calibrated"):
        with pytest.raises(SystemExit) as stop:
            main([*command.split(), "--hardware", str(path), "--ceilings", ceilings])
        told = capsys.readouterr()
        assert (stop.value.code in (0, None)) is (ceilings != "calibrated"), told.err
        printed[ceilings] = told.out
        assert ("has no calibration" in told.err) is (ceilings == "calibrated")
    assert printed["stated"] != printed["classic"]
