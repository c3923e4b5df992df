"""Points per second of compiled formulas, beside other tools and a plain memory copy, as ratios within one run.

Run: ``python benchmarks/speed.py`` (extras ``fast`` and ``sweep``; ``pip install llm-flops mlsysim genz-llm`` for
the other tools; ``--llm-viewer PATH`` for a checkout of LLM-Viewer). ``--skip-pareto`` leaves out the last part.

Every point is the time of one decode step of the whole of Llama-2-7b, with its own batch, context, three
widths, peak and bandwidth: seven full arrays. The other tools take one point per call, are called in the
fastest way they offer, with the model and the device looked up before; each counts what it counts.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import os
import platform
import resource
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import symroof
from symroof.sweeps.compile import compiled

BUDGET = 3.0
"""Seconds that each contestant runs."""

Point = tuple[int, int]


def full_arrays(points: int) -> dict[str, np.ndarray]:
    """Seven arrays of that length, no two points alike."""
    rng = np.random.default_rng(0)
    widths = {name: rng.choice([4.0, 8.0, 16.0], points) for name in ("weight_bits", "activation_bits", "kv_bits")}
    sizes = {"batch": rng.integers(1, 257, points).astype(float), "seq_len": rng.integers(1, 131073, points).astype(float)}
    return sizes | widths | {"peak": rng.uniform(1e13, 1e15, points), "bandwidth": rng.uniform(1e11, 4e12, points)}


def best_rate(run: Callable[[], Any], points: int) -> float:
    """Points per second of the fastest of the runs that fit the budget, at least three."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < BUDGET:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return points / min(times)


def own(engine: str, points: int) -> float:
    """One of our engines."""
    time_of = compiled(symroof.analyze(symroof.load_model("llama-2-7b").decode()).total.time, engine=engine)
    arrays = full_arrays(points)
    time_of(**{name: array[:10] for name, array in arrays.items()})
    return best_rate(lambda: time_of(**arrays), points)


def copy(points: int) -> float:
    """Reading seven arrays and writing one, and nothing else: what memory allows."""
    arrays, out = list(full_arrays(points).values()), np.empty(points)

    def run() -> None:
        for array in arrays:
            np.copyto(out, array)

    return best_rate(run, points) * len(arrays) * 2 / (len(arrays) + 1)


def one_by_one(call: Callable[[int, int], Any]) -> float:
    """A tool that takes one point per call; no point is larger than the device, which some refuse."""
    rng = np.random.default_rng(0)
    call(1, 2048)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < BUDGET:
        call(int(rng.integers(1, 17)), int(rng.integers(1, 4097)))
        count += 1
    return count / (time.perf_counter() - begun)


def exact_analysis() -> Callable[[int, int], Any]:
    """Our own exact analysis of one point: what a compiled formula saves."""
    model, device = symroof.load_model("llama-2-7b"), symroof.load_hardware("a100-sxm-80gb")
    bits = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    return lambda batch, length: symroof.analyze(model.decode(batch=batch, seq_len=length, **bits), device).total.time_expr


def llm_flops() -> Callable[[int, int], Any]:
    """llm-flops: `estimate` with config and device looked up, without backward pass and generation."""
    import llmflops  # pyright: ignore[reportMissingImports]

    config, gpu = llmflops.get_config("meta-llama/Llama-2-7b-hf"), llmflops.get_gpu("A100-80GB-SXM")
    options = {"include_backward": False, "num_generated_tokens": 0, "allow_hf_fetch": False}
    return lambda batch, length: llmflops.estimate(config, batch, length, "fp16", gpu, **options)


def mlsysim() -> Callable[[int, int], Any]:
    """mlsysim: `ServingModel.solve`, whose inter-token latency is the decode step."""
    from mlsysim import Hardware, Models, solvers  # pyright: ignore[reportMissingImports]

    model, device, solver = Models.Language.Llama2_7B, Hardware.Cloud.A100, solvers.ServingModel()
    return lambda batch, length: solver.solve(model, device, seq_len=length, batch_size=batch, precision="fp16")


def genz() -> Callable[[int, int], Any]:
    """GenZ: `decode_moddeling`, beam 1."""
    from GenZ import decode_moddeling  # pyright: ignore[reportMissingImports]

    fixed = {"model": "llama2_7b", "output_tokens": 0, "Bb": 1, "system_name": "A100_80GB_GPU", "bits": "bf16"}
    return lambda batch, length: decode_moddeling(batch_size=batch, input_tokens=length, **fixed)


def llm_viewer(path: Path) -> Callable[[int, int], Any]:
    """LLM-Viewer at a checkout: `ModelAnalyzer.analyze`, which computes prefill and decode together."""
    if not (path / "model_analyzer.py").is_file():
        raise FileNotFoundError(f"{path} is no checkout of LLM-Viewer")
    sys.path.insert(0, str(path))
    with contextlib.suppress(ImportError):
        importlib.import_module("transformers")
    if "transformers" not in sys.modules:  # it only fetches configs, and ours is at hand
        stub: Any = types.ModuleType("transformers")
        stub.AutoTokenizer = stub.AutoConfig = stub.AutoModelForCausalLM = object
        sys.modules["transformers"] = stub
    analyzer_class = importlib.import_module("model_analyzer").ModelAnalyzer
    import json

    from symroof.architectures.config import catalogue

    analyzer = analyzer_class.__new__(analyzer_class)
    analyzer.hardware, analyzer.model_id = "nvidia_A100_80G", "meta-llama/Llama-2-7b-hf"
    analyzer.model_params = SimpleNamespace(**json.loads(catalogue()["llama-2-7b"].read_text()))
    analyzer.config = importlib.import_module("configs.Llama")
    return lambda batch, length: analyzer.analyze(seqlen=length, batchsize=batch, w_bit=16, a_bit=16, kv_bit=16)


def contestants(viewer: Path | None) -> Iterator[tuple[str, Callable[[], float]]]:
    """Everything that is measured, in the order of the table."""
    yield "memory copy, 10M points", lambda: copy(10**7)
    for points in (10**6, 10**7):
        yield f"symroof numba, {points // 10**6}M points", lambda points=points: own("numba", points)
        yield f"symroof numpy, {points // 10**6}M points", lambda points=points: own("numpy", points)
    yield "symroof, exact analysis", lambda: one_by_one(exact_analysis())
    for name, tool in (("llm-flops", llm_flops), ("mlsysim", mlsysim), ("genz_llm", genz)):
        yield _versioned(name), lambda tool=tool: one_by_one(tool())
    if viewer:
        yield f"LLM-Viewer at {viewer}", lambda: one_by_one(llm_viewer(viewer))


def _versioned(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def measure(viewer: Path | None) -> list[tuple[str, float | str]]:
    """The rate of each, or why it has none."""
    rates: list[tuple[str, float | str]] = []
    for name, run in contestants(viewer):
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                rates.append((name, run()))
            except (ImportError, OSError, symroof.SymroofError) as error:
                rates.append((name, f"not measured: {error}"))
    return rates


def table(rates: list[tuple[str, float | str]]) -> str:
    """Points per second, and how many times each is numpy's and the memory copy's."""
    known = {name: rate for name, rate in rates if isinstance(rate, float)}
    numpy, limit = known["symroof numpy, 10M points"], known["memory copy, 10M points"]
    width = max(len(name) for name, _ in rates)
    lines = [f"{'':{width}}  {'points/s':>12}  {'of numpy':>12}  {'of a memory copy':>16}"]
    for name, rate in rates:
        shown = f"{rate:12.4g}  {rate / numpy:12.3g}  {rate / limit:16.3g}" if isinstance(rate, float) else f"  {rate}"
        lines.append(f"{name:{width}}  {shown}")
    return "\n".join(lines)


def peak_memory() -> int:
    """Bytes of memory that this process had at most; Linux's ru_maxrss would count what its parent had when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


OVER = {"weight_bits": [4, 8, 16], "kv_bits": [4, 8, 16], "activation_bits": [8, 16], "batch": range(1, 1025)}
LENGTHS = range(16, 16 * 14_400 + 1, 16)
DEVICES = ["a100-sxm-80gb", "h100-sxm", "h200-sxm", "l4"]


ROUNDS = 3
"""How often one pass and arrays take turns."""


def reduced_a_billion(engine: str) -> str:
    """The best throughput, and the Pareto front of latency and throughput, over 1.06e9 configurations.

    Machine code does formulas, condition and comparison in one pass; beside it in the same process and in turn with it, the same engine
    writing arrays that numpy compares, on a sixteenth of the contexts; and branch and bound on all. Seconds are the processor's, on one
    thread, which other processes on the machine disturb least.
    """
    from symroof.sweeps.reduce import Objectives, best, pareto

    def rate(what: str, lengths: range, search: str) -> tuple[float, str]:
        over = OVER | {"seq_len": lengths}
        points = 18 * 1024 * len(lengths) * len(DEVICES)
        asked: dict[str, Any] = {"engine": engine, "search": search, "where": "memory <= 141 GB"}
        begun = time.process_time()
        if what == "front":
            found = pareto("llama-2-7b", DEVICES, over, **asked)
        else:
            found = best("llama-2-7b", DEVICES, over, maximize="throughput", **asked)
        seconds = time.process_time() - begun
        return (
            points / seconds,
            f"{what} of {points:.4g} configurations ({engine}, {search}): {found.sizes['point']} points, {seconds:.1f} s",
        )

    in_one_pass = Objectives._in_one_pass  # pyright: ignore[reportPrivateUsage]

    def by_arrays(what: str) -> float:
        Objectives._in_one_pass = lambda *_: None  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        try:
            return rate(what, LENGTHS[: len(LENGTHS) // 16], "enumerate")[0]
        finally:
            Objectives._in_one_pass = in_one_pass  # pyright: ignore[reportPrivateUsage]

    lines: list[str] = []
    for what in ("best", "front"):
        rate(what, LENGTHS[:16], "enumerate")  # compiles
        whole, line = rate(what, LENGTHS, "enumerate")
        lines.append(f"{line}, {whole:.3g} points/s")
        if engine == "numba":
            by_arrays(what)
            pairs = [(rate(what, LENGTHS, "enumerate")[0], by_arrays(what)) for _ in range(ROUNDS)]
            ratios = sorted(one / other for one, other in pairs)
            wholes, arrays = (sorted(rates)[ROUNDS // 2] for rates in zip(*pairs, strict=True))
            lines[-1] = f"{line.rpartition(', ')[0]}, {wholes:.3g} points/s, {ratios[ROUNDS // 2]:.1f} times the rate of arrays "
            lines[-1] += f"({ratios[0]:.1f} to {ratios[-1]:.1f}), {arrays:.3g} points/s"
            lines.append(rate(what, LENGTHS, "branch-and-bound")[1])
    lines.append(f"peak memory of the process {peak_memory() / 1e6:.0f} MB")
    if engine == "numba":
        lines.append(f"the engine alone, writing arrays of ten million points that share nothing: {own(engine, 10**7):.3g} points/s")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--llm-viewer", type=Path, metavar="PATH", help="a checkout of LLM-Viewer to measure beside")
    parser.add_argument("--against", metavar="FILE", help="refused: numbers of another run are no measure of this one")
    parser.add_argument("--skip-pareto", action="store_true", help="leave out the best and the front of 1e9 configurations")
    parser.add_argument("--pareto-only", metavar="ENGINE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.against:
        sys.exit(
            f"speed.py: --against {given.against}: refused. Machines and their neighbours change from run to run, so rates of two runs "
            "do not compare; put both versions into one run and read the ratios."
        )
    if given.pareto_only:
        print(reduced_a_billion(given.pareto_only))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, {_versioned('numba')}"
    print(f"one decode step of Llama-2-7b; {cores} cores, {versions}")
    print(table(measure(given.llm_viewer)))
    if not given.skip_pareto:
        import subprocess

        for engine in ("numpy", "numba"):  # each in a process of its own, whose peak memory is then its own
            sys.stdout.flush()
            subprocess.run([sys.executable, __file__, "--pareto-only", engine], check=False)


if __name__ == "__main__":
    main()
