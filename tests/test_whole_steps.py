"""Whole steps that others measured: files, the kernels that engines launch, errors by kind, and the page that shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import symroof
from symroof.calibration.fit import errors
from symroof.calibration.steps import StepValidation, as_engines_fuse, classes, is_steps, read_points, validate_step, validate_steps
from symroof.errors import InputError
from tests.conftest import DATA, Run

STEPS = DATA / "end_to_end.csv"
HEADER = "model,device,devices,precision,engine,phase,batch,prompt,context_or_output,metric,value,unit,source\n"
ROW = "llama-2-7b,a100-sxm-80gb,1,16/16/16,gpt-fast,decode,1,5,200,output rate,104.9,token/s,paper\n"


@pytest.fixture(scope="module")
def told() -> list[StepValidation]:
    found, left = validate_steps(STEPS)
    assert not left, left[:3]
    return found


def test_rates_and_latencies_become_seconds(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    rows = (
        ROW,
        "m,d,2,8/8/16,e,decode,4,1024,1000,latency per token,17.4,ms,s\n",
        "m,d,1,16/16/16,e,prefill,2,512,0,prompt rate,1024,token/s,s\n",
        "m,d,1,16/16/16,e,generate,16,128,2048,output rate,1000,token/s,s\n",
        "m,d,1,16/16/16,e,decode,,,,latency,29,ms,s\n",
    )
    path.write_text(HEADER + "".join(rows))
    points = read_points(path)
    assert is_steps(path)
    assert [point.seconds for point in points] == pytest.approx([1 / 104.9, 0.0174, 1.0, 16 * 2048 / 1000])
    assert [point.context for point in points[:2]] == [105, 1524]
    assert points[1].bits == ("8", "8", "16")


@pytest.mark.parametrize(("text", "expected"), [
    (HEADER.replace(",unit", ""), "no column unit"),
    (HEADER + ROW.replace("104.9", "-1"), "numbers above 0"),
    (HEADER + ROW.replace("104.9", "many"), "line 2: devices, batch"),
    (HEADER + ROW.replace("token/s", "token/h"), "unit 'token/h': expected token/s, s, ms or us"),
    (HEADER + ROW.replace("16/16/16", "16"), "a precision such as 16/16/16"),
    (HEADER + ROW.replace(",decode,", ",decoding,"), "a phase of prefill, decode, generate"),
])  # fmt: skip
def test_bad_files_are_one_clear_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_points(path)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_engines_launch_fewer_kernels_with_the_same_work() -> None:
    for model in ("llama-2-7b", "gpt-j-6b", "qwen3-32b", "mixtral-8x7b-v0.1"):
        step = symroof.load_model(model).decode(batch=4, seq_len=300, weight_bits=16, activation_bits=16, kv_bits=16, flash_attention=True)
        fused = as_engines_fuse(step)
        assert fused.graph.flop_count == step.graph.flop_count
        assert fused.graph.weight_memory() == step.graph.weight_memory()
        assert fused.graph.byte_count() < step.graph.byte_count()
        names = {operator.name for operator, _ in fused.graph}
        assert "q_proj+k_proj+v_proj" in names
        assert not any("router" in name and "+" in name for name in names)


def test_a_step_is_judged_by_the_sum_of_its_kernels() -> None:
    (point,) = [one for one in read_points(STEPS) if one.engine == "gpt-fast" and one.sixteen and one.devices == 1 and "a100" in one.device]
    found = validate_step(point)
    step = symroof.load_model("llama-2-7b").decode(
        batch=1, seq_len=105, weight_bits=16, activation_bits=16, kv_bits=16, flash_attention=True
    )
    assert found.bound < float(symroof.analyze(step, "a100-sxm-80gb").total.time_expr)  # norms, activations, rotary embeddings are fused
    step = step.apply(symroof.technique("fuse:preset=engine"))
    assert found.bound == pytest.approx(float(symroof.analyze(step, "a100-sxm-80gb").total.time_expr))
    assert found.predicted is not None
    assert found.bound < found.predicted < 1.2 * found.bound / found.reached
    assert validate_step(replace(point, devices=2)).bound == pytest.approx(found.bound / 2)
    assert validate_step(replace(point, devices=2)).predicted is None
    assert "not calibrated" in validate_step(replace(point, bits=("5", "16", "16"))).missing
    assert "no kernels" in validate_step(replace(point, device="rtx-4090")).missing


def mean_error(found: list[StepValidation]) -> float:
    return errors(np.array([one.predicted for one in found]), np.array([one.point.seconds for one in found])).mape


def test_whole_steps_keep_their_promise(told: list[StepValidation]) -> None:
    """One A100, 16 bits, nothing fitted to a step: engines that fuse and graph their launches. llama.cpp does not."""
    known = [one for one in told if one.predicted is not None and one.point.sixteen]
    steps = [one for one in known if one.point.phase != "prefill" and one.point.engine != "llama.cpp"]
    assert len(steps) == 12
    assert mean_error(steps) <= 8
    assert all(abs(float(one.predicted or 0) / one.point.seconds - 1) < 0.15 for one in steps)
    prompts = [one for one in known if one.point.phase == "prefill"]
    assert len(prompts) == 4
    assert all(float(one.predicted or 0) < one.point.seconds for one in prompts)  # the host's time is missing


def test_steps_lie_above_their_bound(told: list[StepValidation]) -> None:
    assert len(told) == 156
    assert all(one.reached < 1 for one in told)
    for one in classes(told):
        assert 0 < one.reached.min() <= np.median(one.reached) <= one.reached.max() < 1
    assert sum(len(one.reached) for one in classes(told)) == len(told)


def test_the_command_shows_whole_steps(tmp_path: Path, run: Callable[..., Run]) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(HEADER + ROW + ROW.replace("llama-2-7b", "no-such-model"))
    found = run("validate", "--data", path, "--figures", tmp_path / "figures")
    assert found.status == 0
    assert "left out: no-such-model" in found.out
    assert (tmp_path / "figures" / "steps.png").stat().st_size > 10_000
    record = json.loads(run("validate", "--data", path, "--format", "json").out)
    assert len(record["steps"]) == 1
    assert record["steps"][0]["calibrated"] == pytest.approx(record["steps"][0]["seconds"], rel=0.1)
    stated = run("validate")
    assert stated.status == 0
    assert "attention-prefill" in stated.out


@pytest.mark.slow
def test_the_page_says_what_the_command_makes(told: list[StepValidation]) -> None:
    """Every line but numbers is as `python docs/make_validation.py` writes it, and numbers are near: else write the page anew."""
    import importlib.util

    place = Path(__file__).parent.parent / "docs"
    spec = importlib.util.spec_from_file_location("make_validation", place / "make_validation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    number = re.compile(r"[-+]?\d+(?:\.\d+)?")
    fresh, written = module.page(told).splitlines(), (place / "validation.md").read_text().splitlines()
    assert [number.sub("#", line) for line in fresh] == [number.sub("#", line) for line in written]
    for new, old in zip(fresh, written, strict=True):
        pairs = zip(map(float, number.findall(new)), map(float, number.findall(old)), strict=True)
        assert all(one == pytest.approx(other, rel=0.05, abs=0.5) for one, other in pairs), (new, old)
