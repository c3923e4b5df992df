"""`symroof measure`: planted machines recovered, programs against a second typing of the models, files, errors; nothing is timed."""

from __future__ import annotations

import json
import math
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sympy import Integer

import symroof
from symroof import symbols
from symroof.errors import DeviceError, InputError
from symroof.hardware.calibration import Kernel
from symroof.hardware.loader import constants_beside, load_hardware, read_device
from symroof.measure import machine, system, torch_backend
from symroof.measure.backend import open_backend
from symroof.measure.compiler import Contraction, NotRun
from symroof.measure.device_file import device_of, device_text
from symroof.measure.machine import QUICK, Effort, measure, working_sets
from symroof.measure.numpy_backend import NumpyBackend
from symroof.measure.program import compiled
from symroof.measure.session import measure_machine
from symroof.measure.step import Times, gathered, measure_step
from symroof.measure.streams import ARRAYS, stream
from symroof.measure.system import CacheLevel, System
from symroof.measure.timing import Spread, calls_for, timed
from symroof.operators import Operator
from symroof.roof.analysis import analyze
from tests.conftest import Run
from tests.planted import ADDED, CACHES, MOVED, SYSTEM, Planted

EFFORT = Effort(5, 1e-3, 0.5)
THIRTY_TWO = {"weight_bits": 32, "activation_bits": 32, "kv_bits": 32}


# --- planted machines ---------------------------------------------------------------------------------------------------------------------


def test_a_planted_machine_is_recovered_exactly() -> None:
    found = measure(Planted(), EFFORT, ("fp32", "fp64", "bf16"))
    assert found.memory.bandwidth.best == pytest.approx(40e9, rel=1e-9)
    assert [found.cache(place).bandwidth.median for place in range(3)] == pytest.approx([200e9, 100e9, 80e9], rel=1e-9)  # type: ignore[union-attr]
    assert {name: one.performance.best for name, one in found.peaks.items()} == pytest.approx({"fp32": 150e9, "fp64": 75e9, "bf16": 300e9})
    assert found.launch.median == pytest.approx(1e-6)
    assert found.memory.seconds.noise == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("slower", [(1.0,), (1.0, 1.3), (1.0, 1.05, 4.0, 1.2, 1.0, 1.7, 2.5)])
@pytest.mark.parametrize("overhead", [0.0, 2e-6])
def test_no_recovered_rate_exceeds_the_planted_one(slower: tuple[float, ...], overhead: float) -> None:
    """Repeats differ, calls cost: the best comes near, and never above, within a float's last digits."""
    backend = Planted(overhead=overhead, slower=slower)
    found = measure(backend, EFFORT, ("fp32", "bf16"))
    above = 1 + 1e-9
    for one in found.streams:
        size = (
            MOVED[one.name]
            * {"fp32": 4, "bf16": 2}[one.data_type]
            * (one.working_set // (MOVED[one.name] * {"fp32": 4, "bf16": 2}[one.data_type]))
        )
        assert one.bandwidth.best <= above * backend.rate(size, one.threads)
        assert one.bandwidth.lower <= one.bandwidth.median <= one.bandwidth.upper <= one.bandwidth.best
    for name, one in found.peaks.items():
        assert 0.9 * backend.peaks[name] <= one.performance.best <= above * backend.peaks[name]
    assert 0.95 * 40e9 <= found.memory.bandwidth.best <= above * 40e9
    assert (overhead + 1e-6) / above <= found.launch.best <= max(slower) * (overhead + 1e-6) * above


def test_streams_move_what_stream_counts() -> None:
    """Bytes and FLOPs by hand: STREAM's table."""
    for name in ARRAYS:
        one = stream(name, 1000, 32, passes=7)
        written = 4 if name == "read" else 0
        assert one.byte_count() == 7 * MOVED[name] * 4000 + written
        assert one.flop_count == 7 * ADDED[name] * 1000


def test_noise_is_told() -> None:
    slower = (1.0, 3.0, 1.0, 2.0, 5.0, 1.0, 1.0)
    assert measure(Planted(slower=slower), EFFORT, ("fp32",)).noisy
    assert not measure(Planted(), EFFORT, ("fp32",)).noisy


def test_calls_are_repeated_until_a_timing_is_long_enough() -> None:
    """A call of 1 us is timed in bunches of at least 1 ms, and one of 1 s alone."""
    for seconds, least, most in ((1e-6, 1000, 10_000), (1.0, 1, 1)):
        now = [0.0]

        def call(seconds: float = seconds, now: list[float] = now) -> None:
            now[0] += seconds

        assert least <= calls_for(call, lambda now=now: now[0], 1e-3) <= most
        spread = timed({"": call}, lambda now=now: now[0], 4, 1e-3)[""]
        assert spread.median == pytest.approx(seconds)
        assert spread.runs == 4


def test_working_sets_reach_every_level() -> None:
    sizes = working_sets(SYSTEM, 2**27)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 2**27
    for place in range(3):
        _, low, high = machine.window(SYSTEM, place, 2)
        assert any(low <= size <= high for size in sizes)


def test_without_known_caches_memory_is_measured_still() -> None:
    found = measure(Planted(system=replace(SYSTEM, caches=())), EFFORT, ("fp32",))
    assert found.memory.bandwidth.best == pytest.approx(40e9, rel=1e-9)
    assert found.memory.working_set >= 4 * 32 * 2**20
    assert "on_chip" not in device_text(found, "")


# --- the device's file --------------------------------------------------------------------------------------------------------------------


def test_the_file_states_the_best_with_its_spread() -> None:
    found = measure(Planted(overhead=1e-6, slower=(1.0, 1.2, 1.1)), EFFORT, ("fp32", "fp64"))
    text = device_text(found, "symroof measure --backend 'planted' -o \"mine\".toml")
    content, device = tomllib.loads(text), read_device("mine", text)
    best, spread = found.memory.bandwidth.best, found.memory.bandwidth
    assert float(device.bandwidth_expr) == pytest.approx(best, rel=1e-5)
    assert f"median {spread.median / 1e9:.4g}" in device.bandwidth_figure.note
    assert "best of 5" in device.bandwidth_figure.note
    assert float(device.machine.fastest(("fp64",))[1]) == pytest.approx(found.peaks["fp64"].performance.best, rel=1e-5)
    assert device.vector is not None
    assert float(device.vector.value) == pytest.approx(found.vectors["fp32"].performance.best, rel=1e-5)
    assert device.cache is not None
    assert float(device.cache.value) == pytest.approx(found.cache(2).bandwidth.best, rel=1e-5)
    assert (device.processors, device.buffer_expr, device.cache_capacity_expr) == (2, 2**20, 2**25)
    assert float(device.capacity.magnitude) == pytest.approx(2**36, rel=1e-5)
    assert [level.instances for level in device.on_chip] == [2, 2, 1]
    assert content["source"]["measured"]["date"] == found.date
    assert "planted 1.0" in content["source"]["measured"]["title"]
    assert all(figure.source is not None for figure in (device.bandwidth_figure, device.vector, device.clock))


def test_a_device_is_the_cores_that_were_used() -> None:
    """On one core of two there is one core, with its own caches and the last one whole."""
    backend = Planted()
    backend.limited(1, cpu_time=False)
    device = device_of(measure(backend, EFFORT, ("fp32",)))
    assert device.title == "Planted, 1 of 2 cores, measured with planted"
    assert device.processors == 1
    assert [level.instances for level in device.on_chip] == [1, 1, 1]
    assert float(device.bandwidth_expr) == pytest.approx(20e9, rel=1e-5)


def test_processor_time_is_another_clock() -> None:
    backend = Planted()
    assert backend.timed_by == "wall clock"
    backend.limited(1, cpu_time=True)
    assert backend.timed_by == "processor time"
    assert backend.clock is time.process_time


def test_several_last_caches_state_what_one_has() -> None:
    """Two clusters of one core each with a cache of their own would be private; four cores on two caches share them."""
    caches = (CacheLevel("L1 data cache", 2**15, 4), CacheLevel("L3 cache", 2**25, 2))
    backend = Planted(system=replace(SYSTEM, processors=4, caches=caches))
    found = measure(backend, EFFORT, ("fp32",))
    device, both = device_of(found), found.cache(1)
    (last,) = [level for level in device.on_chip if level.role == "cache"]
    assert last.instances == 2
    assert last.bandwidth is not None
    assert device.cache is not None
    assert device.cache.value == 2 * last.bandwidth.value
    assert both is not None
    assert float(device.cache.value) == pytest.approx(both.bandwidth.best, rel=1e-5)


# --- constants ----------------------------------------------------------------------------------------------------------------------------


def planted_timer(peak: float, bandwidth: float) -> Callable[[Operator, int], Spread]:
    """Kernels that take t0 and a norm of both roofs at known shares of planted rates."""

    def timer(operator: Operator, copies: int) -> Spread:
        assert copies >= 1
        flops, moved = float(operator.contraction_flop_count), float(operator.byte_count())
        if flops == 0:
            return Spread.of([3e-6 + moved / (0.5 * bandwidth)])
        return Spread.of([5e-6 + math.hypot(flops / (0.8 * peak), moved / (0.7 * bandwidth))])

    return timer


def test_planted_constants_are_fitted() -> None:
    pytest.importorskip("scipy")
    classes = (Kernel.GEMM, Kernel.VECTOR)
    session = measure_machine(Planted(), EFFORT, ("fp32",), "fp32", classes=classes, timer=planted_timer(150e9, 40e9))
    assert session.calibration is not None
    assert session.reasons == ()
    product, other = session.calibration.kernels
    near = {symbols.t_0g: 5e-6, symbols.e_1g: 0.8, symbols.e_2g: 0.7, symbols.p_g: 2, symbols.tau_g: 0}
    assert {letter: float(product[letter]) for letter in near} == pytest.approx(near, rel=0.03, abs=1e-9)
    assert {letter: float(other[letter]) for letter in (symbols.t_0v, symbols.e_2v)} == pytest.approx(
        {symbols.t_0v: 3e-6, symbols.e_2v: 0.5}, rel=0.02
    )
    assert product.widths == {32}
    assert product.error["all"].mape < 0.5
    assert other.error["all"].mape < 1
    step = symroof.load_model("gpt2").decode(batch=1, seq_len=64, **THIRTY_TWO)
    assert analyze(step, session.device, ceilings="calibrated")["up_proj"].constants is product


def test_attention_is_measured_and_fitted_too() -> None:
    """Bytes at a planted share of memory, in prefill products behind them at one of the peak: their forms' own simplest case."""
    pytest.importorskip("scipy")
    classes = (Kernel.DECODE, Kernel.PREFILL)

    def timer(operator: Operator, _: int) -> Spread:
        products = float(operator.contraction_flop_count) / (0.8 * 150e9) if operator.space.sizes["s"] != 1 else 0.0
        return Spread.of([5e-6 + float(operator.byte_count()) / (0.7 * 40e9) + products])

    session = measure_machine(Planted(), EFFORT, ("fp32",), "fp32", classes=classes, timer=timer)
    assert session.calibration is not None
    decode, prefill = session.calibration.kernels
    assert session.reasons == ()
    assert decode.error["all"].mape < 1
    assert prefill.error["all"].median < 1  # of short prompts the form has a tile that runs alone, which is not planted
    assert float(decode[symbols.e_2d]) == pytest.approx(0.7, rel=0.02)
    assert float(prefill[symbols.e_1p]) == pytest.approx(0.8, rel=0.02)
    assert float(prefill[symbols.e_2p]) == pytest.approx(0.7, rel=0.02)
    step = symroof.load_model("gpt2").decode(batch=1, seq_len=64, flash_attention=True, **THIRTY_TWO)
    assert analyze(step, session.device, ceilings="calibrated")["fused_attention"].constants is decode


def test_a_kernel_that_is_faster_than_the_streams_raises_the_ceiling() -> None:
    """A product that reads 50 GB/s shows that memory gives 50, whatever streams reached."""
    session = measure_machine(Planted(), EFFORT, ("fp32",), "fp32", classes=(Kernel.GEMM,), timer=planted_timer(300e9, 100e9))
    reached = float(session.device.bandwidth_expr)
    assert 40e9 < reached <= 0.7 * 100e9 * 1.0001
    assert float(session.device.machine.fastest(("fp32",))[1]) > 150e9
    assert session.measured.memory.name == "gemm"


def test_what_has_no_form_has_no_constants() -> None:
    pytest.importorskip("scipy")
    chance = np.random.default_rng(1)

    def random(operator: Operator, _: int) -> Spread:
        return Spread.of([float(10 ** chance.uniform(-1, 1))])

    session = measure_machine(Planted(), EFFORT, ("fp32",), "fp32", classes=(Kernel.GEMM,), timer=random)
    assert session.calibration is None
    assert "misses these rows" in session.reasons[0]


# --- programs -----------------------------------------------------------------------------------------------------------------------------

TINY = {
    "gpt2": {
        "model_type": "gpt2", "n_embd": 24, "n_head": 3, "n_layer": 2, "n_positions": 32, "vocab_size": 50,
        "activation_function": "gelu_new",
    },
    "llama": {
        "model_type": "llama", "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 6, "num_key_value_heads": 2,
        "num_hidden_layers": 2, "vocab_size": 50, "max_position_embeddings": 32, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
}  # fmt: skip


def config(tmp_path: Path, name: str) -> Path:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(TINY[name]))
    return path


def weights_of(program: Any) -> dict[str, list[np.ndarray]]:
    """Arrays by name, one per layer."""
    return {tensor.name: [np.asarray(one, float) for one in arrays] for tensor, arrays in program.cells.arrays.items()}


def attend(q: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Causal attention of the last queries, head by head; heads of a group share keys."""
    b, s, k, g, e = q.shape
    t = keys.shape[1]
    out = np.empty_like(q)
    for batch in range(b):
        for head in range(k):
            for member in range(g):
                for row in range(s):
                    seen = t - s + row + 1
                    scores = keys[batch, :seen, head] @ q[batch, row, head, member] / math.sqrt(e)
                    share = np.exp(scores - scores.max())
                    out[batch, row, head, member] = share / share.sum() @ values[batch, :seen, head]
    return out


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def rms_norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def rotate(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    half = x.shape[-1] // 2
    angles = table.reshape(1, table.shape[0], *(1,) * (x.ndim - 3), 2 * half)
    cos, sin, low, high = angles[..., :half], angles[..., half:], x[..., :half], x[..., half:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)


def gpt2_logits(w: dict[str, list[np.ndarray]], embedded: np.ndarray, cached: int) -> np.ndarray:
    """Radford et al. (2019), as OpenAI's and Hugging Face's code has it, from the sum of embeddings on."""
    x = embedded
    for n in range(2):
        h = layer_norm(x, w["attn_norm.weight"][n], w["attn_norm.bias"][n])
        q = np.einsum("bsd,dkge->bskge", h, w["q_proj.weight"][n]) + w["q_proj.bias"][n]
        keys, values = w["k_cache"][n].copy(), w["v_cache"][n].copy()
        for cache, name in ((keys, "k_proj"), (values, "v_proj")):
            cache[:, cached:] = np.einsum("bsd,dke->bske", h, w[f"{name}.weight"][n]) + w[f"{name}.bias"][n]
        x = x + np.einsum("bskge,kged->bsd", attend(q, keys, values), w["out_proj.weight"][n]) + w["out_proj.bias"][n]
        h = layer_norm(x, w["mlp_norm.weight"][n], w["mlp_norm.bias"][n]) @ w["up_proj.weight"][n] + w["up_proj.bias"][n]
        h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + h @ w["down_proj.weight"][n] + w["down_proj.bias"][n]
    return layer_norm(x, w["final_norm.weight"][0], w["final_norm.bias"][0])[:, -1:] @ w["embedding.weight"][0].T


def llama_logits(w: dict[str, list[np.ndarray]], embedded: np.ndarray, cached: int) -> np.ndarray:
    """Touvron et al. (2023), from the embeddings on."""
    x = embedded
    for n in range(2):
        h = rms_norm(x, w["attn_norm.weight"][n])
        table = w["cos_sin"][0]
        q = rotate(np.einsum("bsd,dkge->bskge", h, w["q_proj.weight"][n]), table)
        keys, values = w["k_cache"][n].copy(), w["v_cache"][n].copy()
        keys[:, cached:] = rotate(np.einsum("bsd,dke->bske", h, w["k_proj.weight"][n]), table)
        values[:, cached:] = np.einsum("bsd,dke->bske", h, w["v_proj.weight"][n])
        x = x + np.einsum("bskge,kged->bsd", attend(q, keys, values), w["out_proj.weight"][n])
        h = rms_norm(x, w["mlp_norm.weight"][n])
        gate = h @ w["gate_proj.weight"][n]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["up_proj.weight"][n])) @ w["down_proj.weight"][n]
    return rms_norm(x, w["final_norm.weight"][0])[:, -1:] @ w["lm_head.weight"][0].T


LOGITS = {"gpt2": gpt2_logits, "llama": llama_logits}


def backends() -> list[Any]:
    return ["numpy", pytest.param("torch", marks=pytest.mark.skipif(not _has_torch(), reason="torch is not installed"))]


def _has_torch() -> bool:
    import importlib.util

    return importlib.util.find_spec("torch") is not None


@pytest.mark.parametrize("library", backends())
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_program_computes_the_model(tmp_path: Path, library: str, phase: str, name: str, fused: bool) -> None:
    """What is timed is the model: its logits are those of a second typing, in 64 bits."""
    if fused and library == "numpy":
        pytest.skip("numpy has no fused attention")
    model = symroof.load_model(config(tmp_path, name))
    step = getattr(model, phase)(batch=2, seq_len=9, weight_bits=64, activation_bits=64, kv_bits=64, flash_attention=fused)
    program = compiled(step.graph, open_backend(library, "cpu"), "fp64")
    assert [one.operator.name for one in program if one.run is None] == []
    before = {key: [one.copy() for one in arrays] for key, arrays in weights_of_caches(program).items()}
    program.run()
    arrays = weights_of(program) | before
    first = _embedded(program)
    expected = LOGITS[name](arrays, first, 9 - first.shape[1])
    logits = next(np.asarray(one[0], float) for tensor, one in program.cells.arrays.items() if tensor.name == "lm_head")
    assert logits.shape == (2, 1, 50)
    assert logits == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(np.abs(logits).max()) > 1e-4


def weights_of_caches(program: Any) -> dict[str, list[np.ndarray]]:
    """The caches before the step: what it does not write stays."""
    return {name: arrays for name, arrays in weights_of(program).items() if name.endswith("_cache")}


def _embedded(program: Any) -> np.ndarray:
    """What the embedding block hands to the first layer, run anew."""
    program.blocks[0][0][-1].run(0)
    tensor = program.blocks[0][0][-1].operator.result
    return np.asarray(program.cells.arrays[tensor][0], float)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("function", ["copy", "scale", "add"])
def test_numpy_s_streams_pass_over_all_they_are_counted_for(function: str, passes: int, threads: int) -> None:
    backend = NumpyBackend()
    call = backend.stream(function, "fp64", 1001, passes, threads)
    x, y, into = (backend._memory[place, "fp64"][:1001] for place in ("x", "y", "into"))
    into[:] = -1
    before = x.copy()
    call()
    assert into.tolist() == {"copy": x, "scale": x, "add": x + y}[function].tolist()
    assert x.tolist() == before.tolist()


@pytest.mark.parametrize("passes", [1, 3])
def test_a_stream_that_reads_finds_the_largest_every_time(passes: int) -> None:
    backend = NumpyBackend()
    call = backend.stream("read", "fp32", 1000, passes, 1)
    backend._memory["x", "fp32"][777] = 5.0
    assert call().tolist() == [5.0] * passes  # type: ignore[attr-defined]


def test_copies_are_made_as_often_as_they_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = np.copyto
    call = NumpyBackend().stream("copy", "fp32", 100, 7, 2)
    monkeypatch.setattr(np, "copyto", lambda into, x: (made.append(len(x)), real(into, x)))
    call()
    assert sorted(made) == [50] * 14


@pytest.mark.skipif(not _has_torch(), reason="torch is not installed")
@pytest.mark.parametrize("function", ["copy", "triad", "read"])
def test_torch_s_streams_and_products(function: str) -> None:
    backend = open_backend("torch", "cpu")
    backend.stream(function, "fp32", 1000, 3, 1)()
    memory = {place: array.numpy() for (place, _), array in backend._memory.items()}  # type: ignore[attr-defined]
    if function != "read":
        expected = memory["x"] + (1.5 * memory["y"] if function == "triad" else 0)
        assert memory["into"] == pytest.approx(expected, rel=1e-6, abs=1e-8)
    backend.product("bf16", 64)()
    backend.launch()()


@pytest.mark.parametrize(
    "spec", ["bsd,df->bsf", "bsd,dkge->bskge", "bskge,kged->bsd", "bskge,btke->bkgst", "bkgst,btke->bskge", "bud,vd->buv", "bhsl,hle->bshe"]
)
def test_contractions_are_einsums(spec: str) -> None:
    """Every order of axes, against numpy's einsum."""
    inputs, result = spec.split("->")
    x, y = inputs.split(",")
    size = dict(zip("bsdfkgetuvhl", (2, 3, 5, 7, 2, 3, 4, 6, 1, 9, 3, 5), strict=True))
    chance = np.random.default_rng(0)
    one, other = (chance.standard_normal([size[axis] for axis in axes]) for axes in (x, y))
    how = Contraction.of(tuple(x), tuple(y), tuple(result))
    left = one.transpose([x.index(axis) for axis in (*how.batch, *how.left, *how.summed)])
    right = other.transpose([y.index(axis) for axis in (*how.batch, *how.summed, *how.right)])
    batch = [size[axis] for axis in how.batch]
    product = left.reshape(*batch, -1, math.prod(size[axis] for axis in how.summed)) @ right.reshape(
        *batch, math.prod(size[axis] for axis in how.summed), -1
    )
    flat = "".join((*how.batch, *how.left, *how.right))
    made = product.reshape([size[axis] for axis in flat]).transpose([flat.index(axis) for axis in result])
    assert made == pytest.approx(np.einsum(spec, one, other))


def test_a_sum_over_one_operand_alone_is_not_run() -> None:
    with pytest.raises(NotRun):
        Contraction.of(tuple("bsd"), tuple("bd"), tuple("b"))


def test_layers_take_turns_where_memory_is_short(tmp_path: Path) -> None:
    step = symroof.load_model(config(tmp_path, "gpt2")).decode(batch=1, seq_len=9, **THIRTY_TWO)
    whole = compiled(step.graph, NumpyBackend(), "fp32")
    needed = sum(array.nbytes for arrays in whole.cells.arrays.values() for array in arrays if hasattr(array, "nbytes"))
    one = compiled(step.graph, NumpyBackend(), "fp32", most_bytes=0.8 * needed)
    one.run()
    assert (whole.held, one.held) == (2, 1)
    assert len([*one.order()]) == len([*whole.order()])
    with pytest.raises(InputError, match=r"too little memory: one layer, embeddings and activations take 0\.00 GB"):
        compiled(step.graph, NumpyBackend(), "fp32", most_bytes=0.1 * needed)


def test_what_is_not_run_says_why() -> None:
    step = symroof.load_model("mixtral-8x7b-v0.1").decode(batch=1, seq_len=4, **THIRTY_TWO)
    tiny = {symbols.d: 16, symbols.f: 16, symbols.v: 16, symbols.k: 1, symbols.g: 2, symbols.e: 8, symbols.r: 8, symbols.L: 2}
    graph = step.symbolic.bind({**step.values, **{letter: Integer(size) for letter, size in tiny.items()}})
    program = compiled(graph, NumpyBackend(), "fp32")
    reasons = {one.operator.name: one.reason for one in program if one.run is None}
    assert {"expert_gate_proj", "expert_up_proj", "expert_down_proj"} <= set(reasons)
    program.run()


# --- steps --------------------------------------------------------------------------------------------------------------------------------


def planted_device(**changes: Any) -> Any:
    return replace(device_of(measure(Planted(), EFFORT, ("fp32",))), **changes)


def planted_times(factors: dict[str, float], reasons: dict[str, str] | None = None) -> Callable[[Any], Times]:
    """Operators that take so many times their roofline, and all others just that."""

    def runner(graph: Any) -> Times:
        step = symroof.load_model("gpt2").decode(batch=1, seq_len=512, **THIRTY_TWO)
        points = {point.name: point for point in analyze(step, planted_device()) if point.name not in (reasons or {})}
        taken = {name: factors.get(name, 1.0) * float(point.time_expr) for name, point in points.items()}
        total = sum(float(points[name].count_expr) * one for name, one in taken.items())
        return Times({name: Spread.of([one]) for name, one in taken.items()}, Spread.of([total]), Spread.of([total]), reasons or {})

    return runner


def gpt2_step() -> Any:
    return symroof.load_model("gpt2").decode(batch=1, seq_len=512, **THIRTY_TWO)


def test_a_step_is_set_beside_its_prediction() -> None:
    found = measure_step(gpt2_step(), planted_device(), Planted(), "fp32", 1, planted_times({"up_proj": 2.5, "lm_head": 1.5}))
    ratios = {one.point.name: one.ratio for one in found.operators}
    assert ratios["up_proj"] == pytest.approx(2.5)
    assert ratios["q_proj"] == pytest.approx(1)
    assert ratios["lm_head"] == pytest.approx(1.5)
    up, head = 12 * 768 * 3072 * 4 / 40e9, 50257 * 768 * 4 / 40e9  # nearly all of their bytes
    added = found.times.total.median - found.roofline
    assert added == pytest.approx(1.5 * up + 0.5 * head, rel=0.01)
    assert found.roofline == pytest.approx(float(analyze(gpt2_step(), planted_device()).total.time_expr))
    assert found.prediction is None
    assert found.error is None


def test_sums_are_over_what_ran() -> None:
    reasons = {"lm_head": "no reason"}
    found = measure_step(gpt2_step(), planted_device(), Planted(), "fp32", 1, planted_times({}, reasons))
    assert len(found.ran) == len(found.operators) - 1
    assert found.times.total.median == pytest.approx(found.roofline)
    from symroof.present.measured.machine import step_record, step_table

    row = next(row for row in step_table(found).rows if row[0] == "lm_head")
    assert row[-1] == "not run: no reason"
    assert row[5] is None
    assert step_record(found)["operators"][-1]["measured"] is None
    json.dumps(step_record(found), allow_nan=False)


def test_faster_than_the_roofline_is_from_the_cache_or_told() -> None:
    from symroof.present.measured.machine import step_table

    factors = {"mlp_act": 0.5, "up_proj": 0.5}
    device = planted_device()
    found = measure_step(gpt2_step(), device, Planted(), "fp32", 1, planted_times(factors))
    notes = {row[0]: row[-1] for row in step_table(found).rows}
    assert notes["mlp_act"] == "from the cache"
    assert notes["q_proj"] == ""
    small = measure_step(gpt2_step(), replace(device, on_chip=()), Planted(), "fp32", 1, planted_times(factors))
    assert {row[-1] for row in step_table(small).rows if row[0] in factors} == {"beyond the measured rates"}


def test_a_product_beyond_its_peak_is_not_put_down_to_the_cache() -> None:
    """Faster than its FLOPs allow: no cache explains that, even where its activations would fit one."""
    step = symroof.load_model("gpt2").prefill(batch=1, seq_len=256, **THIRTY_TWO)
    device = planted_device()
    point = analyze(step, device)["up_proj"]
    assert point.bound == "compute"
    taken = Spread.of([0.97 * float(point.time_expr)])
    found = measure_step(step, device, Planted(), "fp32", 1, lambda _: Times({"up_proj": taken}, taken, taken))
    assert [one.excess for one in found.ran] == ["beyond the measured rates"]


def test_calibrated_steps_say_their_error() -> None:
    pytest.importorskip("scipy")
    classes = (Kernel.GEMM, Kernel.VECTOR)
    session = measure_machine(Planted(), EFFORT, ("fp32",), "fp32", classes=classes, timer=planted_timer(150e9, 40e9))

    def runner(graph: Any) -> Times:
        timer = planted_timer(150e9, 40e9)
        taken = {operator.name: timer(operator, 1) for operator, _ in graph}
        total = Spread.of([2 * sum(int(count) * taken[operator.name].median for operator, count in graph)])
        return Times(taken, total, total)

    found = measure_step(gpt2_step(), session.device, Planted(), "fp32", 1, runner)
    products = [one for one in found.operators if one.point.name.endswith("_proj")]
    assert [one.prediction for one in products] == pytest.approx([one.seconds.median for one in products], rel=0.02)  # type: ignore[union-attr]
    assert found.error is not None
    assert found.error == pytest.approx(-0.5, abs=0.05)  # the pass takes twice its operators
    assert all(one.calibrated is None for one in found.operators if one.point.name in ("qk_matmul", "sv_matmul"))


def test_marks_belong_to_operators(tmp_path: Path) -> None:
    """Two layers of operators: the times between marks are gathered by name, whatever the layer."""
    step = symroof.load_model(config(tmp_path, "gpt2")).decode(batch=1, seq_len=9, **THIRTY_TWO)
    program = compiled(step.graph, NumpyBackend(), "fp32")
    names = [one.operator.name for one in program]
    order = [names[place] for place in program.order()]
    lap = [float(1 + names.index(name)) for name in order]
    times = gathered(program, [lap, lap], [sum(lap)])
    assert {name: one.median for name, one in times.operators.items()} == {name: 1.0 + place for place, name in enumerate(names)}
    assert times.operators["q_proj"].runs == 4
    assert times.operators["lm_head"].runs == 2
    assert times.total.median == sum(lap)


def test_a_device_without_the_type_is_refused() -> None:
    with pytest.raises(DeviceError, match="states no peak for fp64; measure it with --type fp64"):
        measure_step(gpt2_step(), planted_device(), Planted(), "fp64", 1, planted_times({}))


# --- errors -------------------------------------------------------------------------------------------------------------------------------


def test_errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="type 'bf16': numpy on this cpu measures fp32, fp64"):
        measure(NumpyBackend(), QUICK, ("bf16",))
    with pytest.raises(
        InputError, match=r"too little memory: arrays of 4 times the last-level cache .34 MB. take 537 MB, and 100 MB are free"
    ):
        measure(Planted(system=replace(SYSTEM, available=100_000_000)), QUICK, ("fp32",))
    with pytest.raises(InputError, match="numpy runs on the CPU"):
        open_backend("numpy", "gpu")
    with pytest.raises(InputError, match="did you mean torch"):
        open_backend("toch")
    with pytest.raises(InputError, match="expected 1 to 2, the cores that this process may use"):
        Planted().limited(3, cpu_time=False)
    with pytest.raises(InputError, match="processor time covers one thread, not 2"):
        Planted().limited(None, cpu_time=True)
    monkeypatch.setattr(torch_backend.importlib, "import_module", _missing)
    with pytest.raises(InputError, match=r"torch is not installed; pip install -e '.*\[measure\]'"):
        open_backend("torch")


def _missing(name: str) -> Any:
    raise ImportError(name)


def test_letters_are_not_run() -> None:
    with pytest.raises(InputError, match="give L as a number"):
        compiled(symroof.load_model("gpt2").decode(symbolic=True).symbolic, NumpyBackend(), "fp32")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["measure", "--device-file", "mine.toml"], "name the MODEL"),
        (["measure", "gpt2", "--device-file", "x.toml", "-o", "y.toml"], "leave --device-file out"),
        (["measure", "--backend", "numpy", "--type", "bf16"], "measures fp32, fp64"),
        (["measure", "gpt2", "--device-file", "none.toml"], "there is no such file"),
        (["measure", "-o", "nowhere/mine.toml"], "there is no folder"),
        (["measure", "--threads", "4000"], "the cores that this process may use"),
        (["measure", "-o", "mine.xyz"], "names no format here"),
    ],
)
def test_bad_options_are_one_line(run: Callable[..., Run], arguments: list[str], told: str) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert told in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


# --- what the system says -----------------------------------------------------------------------------------------------------------------


def test_caches_are_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, two to an L2, one L3; instruction caches do not count."""
    for core in range(4):
        entries = [
            ("1", "Data", "48K", str(core)),
            ("1", "Instruction", "32K", str(core)),
            ("2", "Unified", "2M", "0-1" if core < 2 else "2-3"),
            ("3", "Unified", "12M", "0-3"),
        ]
        for index, values in enumerate(entries):
            folder = tmp_path / f"cpu{core}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for name, text in zip(("level", "type", "size", "shared_cpu_list"), values, strict=True):
                (folder / name).write_text(text + "\n")
    monkeypatch.setattr(system, "CPU", tmp_path)
    found = system._linux_caches([0, 1, 2, 3])
    assert found == (CacheLevel("L1 data cache", 48 * 1024, 4), CacheLevel("L2 cache", 2**21, 2), CacheLevel("L3 cache", 12 * 2**20, 1))
    assert system._linux_caches([0]) == tuple(replace(one, instances=1) for one in found)


def test_this_cpu_has_cores() -> None:
    found = system.this_cpu()
    assert found.processors >= 1
    assert found.kind == "cpu"
    assert found.title
    assert found.last_cache > 0


# --- torch on a GPU, without one ----------------------------------------------------------------------------------------------------------


class Event:
    """A mark in a stream whose time is when it was recorded."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.now += 2.0
        self.at = Event.now

    def elapsed_time(self, other: Event) -> float:
        return other.at - self.at


def gpu_module(waited: list[int]) -> Any:
    """What of torch a GPU needs."""
    facts = SimpleNamespace(name="Some GPU", multi_processor_count=108, L2_cache_size=40 * 2**20, clock_rate=1_410_000)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        synchronize=lambda: waited.append(1),
        Event=Event,
        get_device_properties=lambda _: facts,
        mem_get_info=lambda: (70 * 10**9, 80 * 10**9),
    )
    function = lambda *_: None  # noqa: E731
    functional = SimpleNamespace(relu=function, silu=function, gelu=function)
    return SimpleNamespace(
        cuda=cuda, nn=SimpleNamespace(functional=functional), sigmoid=function, version=SimpleNamespace(cuda="12.9"), __version__="2.13.0"
    )


def test_a_gpu_is_timed_by_events_and_waited_for() -> None:
    waited: list[int] = []
    backend = torch_backend.TorchBackend(module=gpu_module(waited))
    assert backend.system == System(
        "Some GPU",
        "gpu",
        108,
        "multiprocessor",
        (CacheLevel("L2 cache", 40 * 2**20),),
        80 * 10**9,
        70 * 10**9,
        1.41e9,
        backend.system.load,
        "CUDA 12.9",
    )
    stopwatch = backend.stopwatch()
    for _ in range(3):
        stopwatch.mark()
    assert waited == []
    assert stopwatch.seconds() == [2e-3, 2e-3]
    assert waited == [1]
    backend.clock()
    assert waited == [1, 1]
    with pytest.raises(InputError, match="threads and processor time apply to a CPU"):
        backend.limited(2, cpu_time=False)


# --- the command --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def planted_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command on a planted machine, whose kernels are planted too."""
    from symroof.measure import backend, kernels

    monkeypatch.setattr(backend, "open_backend", lambda *_, **__: Planted(overhead=1e-7, slower=(1.0, 1.2)))
    monkeypatch.setattr(kernels, "Stand", lambda *_: planted_timer(150e9, 40e9))


@pytest.mark.usefixtures("planted_command")
def test_the_command_writes_a_device_that_commands_take(run: Callable[..., Run], tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    path = tmp_path / "mine.toml"
    result = run("measure", "--quick", "-o", path, "--figures", tmp_path / "figures")
    assert result.status == 0
    assert "Planted" in result.out
    assert f"wrote {path}" in result.err
    device = load_hardware(path)
    assert device.calibration is not None
    assert constants_beside(path).is_file()
    assert float(device.bandwidth_expr) == pytest.approx(40e9, rel=0.01)
    assert (tmp_path / "figures" / "bandwidth.png").stat().st_size > 10_000
    analyzed = run("analyze", "gpt2", "--hardware", path, "--ceilings", "calibrated", "--phase", "decode", "--batch", 1, "--seq-len", 64,
                   "--weight-bits", 32, "--activation-bits", 32, "--kv-bits", 32)  # fmt: skip
    assert analyzed.status == 0
    assert "Planted" in analyzed.out


@pytest.mark.usefixtures("planted_command")
def test_the_command_answers_in_json_and_csv(run: Callable[..., Run], tmp_path: Path) -> None:
    assert run("measure", "--quick", "-o", tmp_path / "mine.json").status == 0
    record = json.loads((tmp_path / "mine.json").read_text())
    assert record["memory"]["best"] == pytest.approx(40e9, rel=0.01)
    assert record["repeat"] == 3
    assert record["threads"] == 2
    assert [one["name"] for one in record["caches"]] == [level.name for level in CACHES]
    lines = run("measure", "--quick", "--format", "csv").out.splitlines()
    assert lines[0].startswith("benchmark,data_type,threads,working_set,bytes,flops,seconds_best")
    assert len(lines) > 100


def test_the_lab_is_what_its_data_say() -> None:
    """docs/lab.md is as `python docs/make_lab.py` writes it from docs/data/lab, whose device is the one that was measured."""
    import importlib.util

    root = Path(__file__).parent.parent
    spec = importlib.util.spec_from_file_location("make_lab", root / "docs" / "make_lab.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == (root / "docs" / "lab.md").read_text()
    assert "{{" not in module.page()
    record = json.loads((root / "docs" / "data" / "lab" / "gpt2.json").read_text())["machine"]
    device = load_hardware(root / "docs" / "data" / "lab" / "machine.toml")
    assert float(device.bandwidth_expr) == pytest.approx(record["memory"]["best"], rel=1e-5)
    assert device.calibration is not None
    step = json.loads((root / "docs" / "data" / "lab" / "gpt2.json").read_text())["steps"][0]
    fused = symroof.load_model("gpt2").decode(batch=1, seq_len=512, flash_attention=True, **THIRTY_TWO)
    again = analyze(fused, replace(device, peaks={"fp32": device.peaks["fp32"]}))
    assert step["total"]["roofline"] == pytest.approx(float(again.total.time_expr))
    assert [one["name"] for one in step["operators"] if one["measured"] is None] == []


@pytest.mark.slow
def test_a_real_machine_and_a_tiny_model(run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way with numpy, on sizes of no account: a device file, and a step beside its prediction."""
    small = replace(system.this_cpu(), caches=(CacheLevel("L1 data cache", 2**15), CacheLevel("L2 cache", 2**17)))
    from symroof.measure import kernels, numpy_backend

    monkeypatch.setattr(numpy_backend, "this_cpu", lambda: small)
    monkeypatch.setattr(machine, "FIRST_PRODUCT", 64)
    monkeypatch.setattr(machine, "LARGEST_PRODUCT", {"cpu": 64})
    monkeypatch.setattr(machine, "QUICK", Effort(2, 1e-5, 0.5))
    monkeypatch.setattr(kernels, "SIDES", {"cpu": ((32, 32), (64, 32))})
    monkeypatch.setattr(kernels, "ELEMENTS", {"cpu": 2**12})
    path = tmp_path / "mine.toml"
    first = run("measure", "--quick", "-o", path)
    assert first.status == 0, first.err
    assert load_hardware(path).bandwidth_expr > 1e6
    options = ("--quick", "--device-file", path, "--seq-len", 8, "-o", tmp_path / "step.json", "--figures", tmp_path)
    second = run("measure", config(tmp_path, "gpt2"), *options)
    assert second.status == 0, second.err
    steps = json.loads((tmp_path / "step.json").read_text())["steps"]
    assert [one["phase"] for one in steps] == ["decode", "prefill"]
    assert all(other["measured"]["median"] > 0 for one in steps for other in one["operators"])
    assert (tmp_path / "roofline.png").stat().st_size > 10_000
