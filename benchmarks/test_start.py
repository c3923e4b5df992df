"""How long a command takes to start, and the long ones to end: ratios within one run, beside bare Python and the bare imports.

Run: ``pytest benchmarks --benchmark-columns=min,median,rounds`` (extra ``bench``). With ``BEFORE=PATH``, a checkout of an
earlier state, the long commands run in turn on both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ANALYZE = "analyze llama-2-7b --hardware a100-sxm-80gb --phase decode --seq-len 2048"

START = {"bare Python": ["-c", "pass"], "symroof --help": ["-m", "symroof", "--help"]}
WORK = {
    "import sympy, pint": ["-c", "import sympy, pint"],
    "analyze, table": ["-m", "symroof", *ANALYZE.split()],
    "analyze, json": ["-m", "symroof", *ANALYZE.split(), "--format", "json"],
    "analyze, prefill, FlashAttention": ["-m", "symroof", *ANALYZE.replace("decode", "prefill").split(), "--flash-attention"],
}
LONG = {
    "techniques": "techniques --effects",
    "compare": "compare llama-2-7b --hardware a100-sxm-80gb --phase decode --batch 16 --seq-len 512 --over degree "
    "--with tensor-parallel:latency=5us",
}
TREES = {"before": os.environ.get("BEFORE"), "now": str(Path(__file__).parent.parent)}
"""Checkouts that the long commands run on."""

REPEATED = """
import contextlib, io, sys
from symroof.cli.main import main
for _ in range({times}):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
"""
"""A command several times in one process: from the second time on without imports."""


def _command(benchmark, arguments: list[str], rounds: int, tree: str | None = None) -> None:
    options = {"check": True, "capture_output": True}
    if tree:
        options |= {"cwd": tree, "env": {**os.environ, "PYTHONPATH": tree}}
    benchmark.pedantic(subprocess.run, ([sys.executable, *arguments],), options, rounds=rounds, warmup_rounds=1)


@pytest.mark.benchmark(group="start")
@pytest.mark.parametrize("arguments", START.values(), ids=START.keys())
def test_help(benchmark, arguments: list[str]) -> None:
    _command(benchmark, arguments, 30)


@pytest.mark.benchmark(group="analyze")
@pytest.mark.parametrize("arguments", WORK.values(), ids=WORK.keys())
def test_analyze(benchmark, arguments: list[str]) -> None:
    _command(benchmark, arguments, 20)


@pytest.mark.parametrize("times", [1, 21])
@pytest.mark.parametrize("tree", [tree for tree, path in TREES.items() if path])
@pytest.mark.parametrize("name", LONG)
def test_long(benchmark, name: str, tree: str, times: int) -> None:
    if name == "techniques" and times > 1:
        pytest.skip("what it derives is kept")
    benchmark.group = f"{name}, {times} times in a process"
    _command(benchmark, ["-c", REPEATED.format(times=times), *LONG[name].split()], 3, TREES[tree])
