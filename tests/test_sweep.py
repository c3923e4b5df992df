"""Labelled sweeps against the exact analysis of every point; the same arrays wherever they are computed."""

from __future__ import annotations

import itertools
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import symroof

pytest.importorskip("xarray")
pytest.importorskip("dask")
import xarray

from symroof.architectures.config import catalogue
from symroof.sweeps import run as running
from symroof.sweeps.grid import Chunk
from symroof.sweeps.plan import Plan
from symroof.sweeps.sweep import sweep
from tests.steps import phases

SMALL = {"batch": [1, 7, 300], "seq_len": [1, 100, 5000], "weight_bits": [4, 8, 16]}
MODELS = ["llama-2-7b", "mixtral-8x7b-v0.1", "gemma-2-9b"]
DEVICES = ["a100-sxm-80gb", "h100-sxm"]


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so small that every sweep has many."""
    monkeypatch.setattr("symroof.sweeps.grid.CHUNK", 10)


@pytest.mark.slow
def test_every_point_is_that_of_the_analysis() -> None:
    found = sweep(MODELS, DEVICES, SMALL | {"kv_bits": [8, 16]}, phase=["prefill", "decode"], flash_attention=True, activation_bits=8)
    assert found.time.dims == ("model", "hardware", "phase", "batch", "seq_len", "weight_bits", "kv_bits")
    rng = np.random.default_rng(1)
    points = list(itertools.product(MODELS, DEVICES, ("prefill", "decode"), *SMALL.values(), [8, 16]))
    for place in rng.choice(len(points), 60, replace=False):
        model, device, phase, batch, length, bits, cache = points[place]
        options = {"batch": batch, "seq_len": length, "weight_bits": bits, "kv_bits": cache, "activation_bits": 8, "flash_attention": True}
        analysis = symroof.analyze(getattr(symroof.load_model(model), phase)(**options), device)
        at = found.sel(model=model, hardware=device, phase=phase, batch=batch, seq_len=length, weight_bits=bits, kv_bits=cache)
        total = analysis.total
        tokens = batch * (length if phase == "prefill" else 1)
        assert at.time.item() == pytest.approx(float(total.time_expr), rel=1e-12)
        assert at.memory.item() == pytest.approx(float(analysis.memory_exprs["total"]), rel=1e-12)
        assert at.intensity.item() == pytest.approx(float(total.flop_count / total.byte_count()), rel=1e-12)
        assert at.throughput.item() == pytest.approx(tokens / float(total.time_expr), rel=1e-12)
        assert at.fits.item() is analysis.fits
        seconds = {
            name: sum(one.count_expr * one.seconds_exprs.get(name, 0) for one in analysis)
            for name in found.bound.attrs["flag_meanings"].split()
        }
        assert [*seconds][int(at.bound.item())] == max(seconds, key=seconds.__getitem__)


CHIP = """
[processors]
count = 4
[peak.fp16]
dense = "100 TFLOP/s"
[memory]
bandwidth = "2 TB/s"
{further}
[[on_chip]]
name = "L2"
capacity = "1 MiB"
role = "cache"
{bandwidth}
"""
FURTHER = {
    "none": ("", ""),
    "vector": ('[vector]\npeak = "300 GFLOP/s"', ""),
    "exponential": ('[vector]\npeak = "9 TFLOP/s"\n[exponential]\nrate = "0.09 TOP/s"', ""),
    "cache": ("", 'bandwidth = "500 GB/s"'),
}


def test_every_rate_a_device_states_is_a_ceiling_of_a_sweep_too(tmp_path: Path) -> None:
    """Devices that state different rates in one sweep; the resource that takes longest is named."""
    devices = []
    for name, (further, bandwidth) in FURTHER.items():
        devices.append(tmp_path / f"{name}.toml")
        devices[-1].write_text(CHIP.format(further=further, bandwidth=bandwidth))
    lengths = [64, 3000]
    options = {"batch": 2, "flash_attention": True, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    model, resources = symroof.load_model("opt-125m"), set()
    for ceilings in ("stated", "classic"):
        found = sweep(model, devices, {"seq_len": lengths}, phase="prefill", per="operator", ceilings=ceilings, **options)
        whole = sweep(model, devices, {"seq_len": lengths}, phase="prefill", ceilings=ceilings, **options)
        named = found.bound.attrs["flag_meanings"].split()
        for (place, device), length in itertools.product(enumerate(devices), lengths):
            analysis = symroof.analyze(model.prefill(seq_len=length, **options), device, ceilings=ceilings)
            at = found.isel(hardware=place).sel(seq_len=length)
            time = whole.time.isel(hardware=place).sel(seq_len=length).item()
            assert time == pytest.approx(float(analysis.total.time_expr), rel=1e-12)
            for point in analysis:
                assert named[int(at.bound.sel(operator=point.name).item())] == point.bound, (device, length, point.name)
                resources.add((ceilings, point.bound))
    assert {bound for ceilings, bound in resources if ceilings == "classic"} == {"memory", "compute"}
    assert {bound for ceilings, bound in resources if ceilings == "stated"} == {"memory", "compute", "vector", "exponential", "cache"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "phase"), [(name, phase) for name in sorted(catalogue())[::9] for phase in phases(name)])
def test_any_published_model(name: str, phase: str) -> None:
    over = {"batch": [1, 37], "seq_len": [1, 5000], "weight_bits": [4, 16]}
    found = sweep(name, "h100-sxm", over, phase=phase, metrics=["time", "memory"])
    for batch, length, bits in ((1, 1, 16), (37, 5000, 4)):
        options = {"batch": batch, "seq_len": length, "weight_bits": bits, "activation_bits": 16, "kv_bits": 16}
        analysis = symroof.analyze(getattr(symroof.load_model(name), phase)(**options), "h100-sxm")
        at = found.sel(batch=batch, seq_len=length, weight_bits=bits)
        assert at.time.item() == pytest.approx(float(analysis.total.time_expr), rel=1e-13)
        assert at.memory.item() == pytest.approx(float(analysis.memory_exprs["total"]), rel=1e-13)


def test_operators_add_up_and_have_their_bounds() -> None:
    over = {"batch": [1, 161, 162, 1000], "weight_bits": [8, 16]}
    found = sweep(["llama-2-7b", "opt-125m"], "a100-sxm-80gb", over, per="operator", seq_len=1024)
    total = sweep(["llama-2-7b", "opt-125m"], "a100-sxm-80gb", over, seq_len=1024, metrics=["time"])
    assert np.allclose(found.time.sum("operator"), total.time, rtol=1e-13)
    assert found.bound.sel(model="llama-2-7b", operator="up_proj", weight_bits=16).values.ravel().tolist() == [0, 0, 1, 1]
    assert np.isnan(found.time.sel(model="opt-125m", operator="gate_proj")).all(), "a model without the operator has no time for it"
    for operator in symroof.analyze(
        symroof.load_model("opt-125m").decode(batch=161, seq_len=1024, weight_bits=8, activation_bits=16, kv_bits=16), "a100-sxm-80gb"
    ):
        at = found.sel(model="opt-125m", operator=operator.name, batch=161, weight_bits=8)
        assert at.time.item() == pytest.approx(float(operator.count * operator.time_expr), rel=1e-13)
        assert ("memory", "compute")[int(at.bound.item())] == operator.bound
        assert at.intensity.item() == pytest.approx(float(operator.intensity_expr), rel=1e-13)


@pytest.mark.slow
def test_a_tie_is_decided_exactly() -> None:
    """At the crossover itself F BW = B P: rounding must not tip it, and a boundary is compute-bound."""
    model = symroof.load_model("llama-2-7b")
    step = model.decode(batch=300, seq_len=1000, weight_bits=16, activation_bits=16, kv_bits=16)
    for name in ("up_proj", "q_proj", "qk_matmul", "softmax", "lm_head"):
        operator = step[name]
        flops, traffic = int(operator.flop_count), int(operator.byte_count())
        for scale in (1, 3, 7, 1003):
            over = {"peak": [flops * scale, flops * scale + 1, max(flops * scale - 1, 1)], "bandwidth": [float(traffic * scale)]}
            found = sweep(model, None, over, per="operator", metrics=["bound"], batch=300, seq_len=1000)
            assert found.bound.sel(operator=name).values.ravel().tolist() == [1, 0, 1]


def test_what_floats_cannot_tell_is_decided_in_fractions() -> None:
    """Peak and bandwidth rounded from thirds: quotients that differ by less than a float64 can say, on either side."""
    model = symroof.load_model("llama-2-7b")
    operator = model.decode(batch=300, seq_len=1000, weight_bits=16, activation_bits=16, kv_bits=16)["up_proj"]
    flops, traffic = int(operator.flop_count), int(operator.byte_count())
    peaks, bandwidths = ([amount * scale / 3 for scale in range(1, 300)] for amount in (flops, traffic))
    over = {"peak": peaks, "bandwidth": bandwidths}
    flags = sweep(model, None, over, points=True, per="operator", metrics=["bound"], batch=300, seq_len=1000)
    bounds = flags.bound.sel(operator="up_proj").values.ravel().tolist()
    pairs = list(zip(peaks, bandwidths, strict=True))
    assert bounds == [int(Fraction(flops) / Fraction(peak) >= Fraction(traffic) / Fraction(bandwidth)) for peak, bandwidth in pairs]
    assert bounds != [int(flops / peak >= traffic / bandwidth) for peak, bandwidth in pairs], "floats alone are wrong somewhere"


def test_points_are_the_grid_s() -> None:
    grid = sweep("llama-2-7b", DEVICES, SMALL)
    columns = dict(zip(SMALL, zip(*itertools.product(*SMALL.values()), strict=True), strict=True))
    listed = sweep("llama-2-7b", DEVICES, {name: list(values) for name, values in columns.items()}, points=True)
    assert listed.time.dims == ("model", "hardware", "phase", "point")
    for name in grid.data_vars:
        assert (grid[name].values.reshape(1, 2, 1, -1) == listed[name].values).all()


def test_a_sweep_over_nothing_is_one_point() -> None:
    point = {"batch": 3, "seq_len": 8}
    step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16, **point)
    seconds = float(symroof.analyze(step, "l4").total.time_expr)
    for options in ({}, {"per": "operator"}, {"lazy": True}):
        found = sweep("llama-2-7b", "l4", {}, **point, **options)
        assert found.time.sum().compute().item() == pytest.approx(seconds, rel=1e-13)
    assert symroof.best("llama-2-7b", "l4", {}, minimize="time", where="fits", **point).time.item() == pytest.approx(seconds, rel=1e-13)


def test_units_conventions_and_sources_travel_with_the_numbers() -> None:
    found = sweep("llama-2-7b", DEVICES, {"batch": [1, 2], "bandwidth": [1e12, 2e12]}, seq_len=10)
    units = {name: variable.attrs["units"] for name, variable in found.data_vars.items()}
    assert units == {"time": "s", "bound": "1", "intensity": "FLOP/byte", "throughput": "token/s", "memory": "byte", "fits": "1"}
    assert found.bandwidth.attrs == {"units": "byte/second", "long_name": "memory bandwidth"}
    assert found.bound.attrs["flag_meanings"].split()[:3] == ["memory", "compute", "vector"]
    assert "embedding: only the rows looked up are read" in found.attrs["conventions"]
    assert "bandwidth as given" in found.attrs["conventions"]
    assert "h100-sxm: fp16 peak: NVIDIA" in found.attrs["sources"]
    assert (
        found.attrs["inputs"] == "weight_bits = as published, else 16, activation_bits = 16, kv_bits = as published, else 16, seq_len = 10"
    )
    assert found.attrs["software"] == f"symroof {symroof.__version__}"
    short = sweep("llama-2-7b", "l4", {"batch": [1]}, seq_len=10, metrics=["flops", "traffic"])
    assert "b" in short.flops.attrs["formula"]


def test_dimensions_of_the_model_and_overrides() -> None:
    heads = sweep("llama-3-8b", "h100-sxm", {"group_size": [1, 2, 4, 8]}, seq_len=4096, metrics=["memory"])
    assert (np.diff(heads.memory.values.ravel()) != 0).all()
    wide = sweep("llama-2-7b", "h100-sxm", {"hidden_size": [4096, 8192]}, seq_len=1, metrics=["flops"], batch=3)
    step = symroof.load_model("llama-2-7b").decode(batch=3, seq_len=1, weight_bits=16, activation_bits=16, kv_bits=16)
    assert wide.flops.sel(hidden_size=4096).item() == int(step.graph.flop_count)
    free = sweep("llama-2-7b", None, {"bandwidth": [1e12, 2e12]}, peak=1e18, seq_len=100, metrics=["time"])
    assert free.time.values[..., 0] == pytest.approx(2 * free.time.values[..., 1])


@pytest.mark.slow
def test_a_width_never_meets_a_wrong_peak() -> None:
    """INT8 weights with 16-bit activations stay on the 16-bit roof; all at 8 bits take the 8-bit one."""
    over = {"weight_bits": [4, 8, 16], "activation_bits": [8, 16], "kv_bits": [8, 16]}
    found = sweep("llama-2-7b", "a100-sxm-80gb", over, phase="prefill", batch=64, seq_len=2048, per="operator", metrics=["performance"])
    for bits in itertools.product(*over.values()):
        step = symroof.load_model("llama-2-7b").prefill(batch=64, seq_len=2048, **dict(zip(over, bits, strict=True)))
        for one in symroof.analyze(step, "a100-sxm-80gb"):
            at = found.performance.sel(operator=one.name, **dict(zip(over, bits, strict=True))).item()
            assert at == pytest.approx(float(one.performance_expr), rel=1e-12, abs=0)


def same(left: xarray.Dataset, right: xarray.Dataset) -> None:
    xarray.testing.assert_identical(left, right.compute())


@pytest.mark.slow
@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("how", [{"scheduler": "threads"}, {"scheduler": "processes"}, {"lazy": True}])
@pytest.mark.parametrize("per", ["total", "operator"])
def test_the_same_arrays_wherever(how: dict[str, object], per: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == {"scheduler": "processes"} and per == "operator":
        pytest.skip("one start of processes is enough")
    arguments = (MODELS, DEVICES, SMALL)
    chunks = Plan(*arguments, per=per).sweep(None).chunk_count
    assert chunks >= 18
    there = sweep(*arguments, per=per, **how)
    monkeypatch.undo()
    same(sweep(*arguments, per=per), there)


@pytest.mark.slow
@pytest.mark.usefixtures("chunked")
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    arguments = ("llama-2-7b", DEVICES, {"batch": range(1, 41), "seq_len": range(1, 11)})
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = sweep(*arguments, scheduler=client)
        by_address = sweep(*arguments, scheduler=cluster.scheduler_address)
        lazy = sweep(*arguments, lazy=True).compute()
        pids = client.run(os.getpid)
        killed: list[int] = []
        evaluated = 0
        original = running.evaluated

        def counting(*arguments, **options):
            nonlocal evaluated
            for chunk, metrics in original(*arguments, **options):
                evaluated += 1
                if evaluated == 20:
                    killed.append(next(iter(pids.values())))
                    os.kill(killed[0], signal.SIGKILL)
                yield chunk, metrics

        with monkeypatch.context() as patch:
            patch.setattr(running, "evaluated", counting)
            survived = sweep(*arguments, scheduler=client)
        assert killed
        assert evaluated == Plan(*arguments).sweep(None).chunk_count == 80
    monkeypatch.undo()
    expected = sweep(*arguments)
    for one in (there, by_address, lazy, survived):
        same(expected, one)


@pytest.mark.slow
def test_numba_is_numpy() -> None:
    pytest.importorskip("numba")
    left, right = (sweep(MODELS[0], DEVICES, SMALL, engine=engine) for engine in ("numpy", "numba"))
    for name in left.data_vars:
        assert np.allclose(left[name], right[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"over": {"batch": [1, 0]}}, "batch 0 at position 1"),
        ({"over": {"batch": [1, -2]}}, "batch -2"),
        ({"over": {"batch": [float("nan")]}}, "batch nan"),
        ({"over": {"batch": []}}, "there are no values"),
        ({"over": {"batch": [1.5]}}, "whole number from 1 to 1e12"),
        ({"over": {"batch": [10**13]}}, "whole number from 1 to 1e12"),
        ({"over": {"weight_bits": [65]}}, "whole number from 1 to 64"),
        ({"over": {"batch": [2, 2]}}, "2 is given twice"),
        ({"over": {"batch": [1], "b": [2]}}, "given twice, under two names"),
        ({"over": {"bacth": [1]}}, "did you mean batch"),
        ({"over": {"num_experts": [1]}}, "does not occur in llama-2-7b in decode"),
        ({"over": {"target_time": [1]}}, "not something to sweep over"),
        ({"over": [1, 2]}, "expected values by name"),
        ({"over": {"batch": range(1, 10**9)}}, "more than 100000000"),
        (
            {"over": {"batch": range(1, 10**5), "kv_bits": range(1, 65), "weight_bits": range(1, 65)}},
            "more than the 4 GB allowed",
        ),
        (
            {"over": {"batch": [1], "seq_len": [1, 2]}, "points": True, "seq_len": None},
            "batch 1, seq_len 2",
        ),
        ({"seq_len": None}, "seq_len must be given"),
        ({"batch": 3}, "both fixed and swept over"),
        ({"seq_len": [1, 2]}, "give several values in over"),
        ({"models": []}, "name at least one"),
        ({"models": ["llama-2-7b", "meta-llama/Llama-2-7b-hf"]}, "given twice"),
        ({"models": "lama-2-7b"}, "did you mean llama-2-7b"),
        ({"hardware": None}, "both peak and bandwidth must be given"),
        ({"phase": "decod"}, "did you mean decode"),
        ({"metrics": ["tme"]}, "did you mean time"),
        ({"metrics": ["memory"], "per": "operator"}, "one of the whole step"),
        ({"engine": "exact"}, "a sweep is in float64"),
        ({"flash_atention": True}, "did you mean flash_attention"),
        ({"scheduler": "thread"}, "known: threads, processes"),
        ({"scheduler": 3}, "known: threads, processes"),
        ({"resume": True}, "nothing to resume"),
        ({"lazy": True, "scheduler": "threads"}, "neither output nor scheduler"),
        ({"over": {"batch": [10**400]}}, "larger than a float64"),
        ({"hardware": "apple-m1-max", "weight_bits": 64, "metrics": ["time"]}, "states no peak"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(change: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chunk, "evaluate", lambda *_: pytest.fail("work had started"))
    arguments = {"models": "llama-2-7b", "hardware": "a100-sxm-80gb", "over": {"batch": [1, 2]}, "seq_len": 100} | change
    with pytest.raises(symroof.SymroofError, match=message) as error:
        sweep(**arguments)
    assert "\n" not in str(error.value)


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symroof.sweeps.dataset.find_spec", lambda name: None)
    with pytest.raises(symroof.SymroofError, match=r"xarray is not installed; pip install -e '.*\[sweep\]'"):
        sweep("llama-2-7b", "l4", {"batch": [1]}, seq_len=1)


@pytest.mark.slow
def test_the_command(run, tmp_path) -> None:
    shared = ["sweep", "llama-2-7b", "--hardware", *DEVICES, "--over", "batch=1:16*4", "seq_len=512,2048", "--over", "weight_bits=4,8,16"]
    shown = run(*shared)
    assert shown.status == 0
    assert "the first 20 of 36 points" in shown.out
    best = run(*shared, "--maximize", "throughput", "--where", "latency < 5 ms and memory <= 80 GB", "-o", tmp_path / "best.csv")
    assert best.status == 0
    assert "h100-sxm" in (tmp_path / "best.csv").read_text()
    front = run(*shared, "--pareto", "latency", "throughput")
    assert front.status == 0
    assert front.out.startswith("llama-2-7b")
    assert run(*shared, "-o", tmp_path / "all.nc").status == 0
    there = sweep("llama-2-7b", DEVICES, {"batch": [1, 4, 16], "seq_len": [512, 2048], "weight_bits": [4, 8, 16]})
    with xarray.open_dataset(tmp_path / "all.nc") as written:
        same(written.drop_attrs().load(), there.drop_attrs())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over", "batch"], "expected VARIABLE=VALUES"),
        (["--over", "batch=5:1"], "ends before it starts"),
        (["--over", "batch=1:2:3:4"], "is not a range"),
        (["--over", "batch=1:8*1"], "a factor above 1"),
        (["--over", "batch=1:9:0"], "must be above 0"),
        (["--over", "batch=one"], "'one' is not a number"),
        (["--over", "batch=1", "--over", "batch=2"], "given twice"),
        (["--over", "batch=1:1e12"], "more than 100000000"),
        (["--over", "bandwidth=2TB"], "is not in byte / second"),
        (["--over", "batch=1", "--where", "batch > 1"], "none of 1 points satisfies 'batch > 1'"),
        (["--over", "batch=1", "--where", "batch > 1", "--per", "operator"], "--where is over whole steps"),
        (["--over", "batch=1", "--minimize", "time", "--maximize", "time"], "give one of them"),
        (["--over", "batch=1", "--resume"], "name the output"),
        (["--over", "batch=1", "-o", "x.xlsx"], "names no format"),
        (["--over", "batch=1", "--engine", "jax"], "known: auto, numpy, numba"),
        (["--over", "batch=1", "--minimize", "time", "--where", "batch > 1"], "none of 1 points satisfies"),
    ],
)
def test_bad_input_on_the_command_line(arguments: list[str], message: str, run) -> None:
    found = run("sweep", "llama-2-7b", "--hardware", "l4", "--seq-len", "8", *arguments)
    assert found.status == 2
    assert message in found.err
    assert found.err.count("\n") == 1
