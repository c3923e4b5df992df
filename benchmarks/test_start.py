"""How long a command takes to start: ratios within one run, beside bare Python and the bare imports.

Run: ``pytest benchmarks --benchmark-columns=min,median,rounds`` (extra ``bench``).
"""

from __future__ import annotations

import subprocess
import sys

import pytest

ANALYZE = "analyze llama-2-7b --hardware a100-sxm-80gb --phase decode --seq-len 2048"

START = {"bare Python": ["-c", "pass"], "symroof --help": ["-m", "symroof", "--help"]}
WORK = {
    "import sympy, pint": ["-c", "import sympy, pint"],
    "analyze, table": ["-m", "symroof", *ANALYZE.split()],
    "analyze, json": ["-m", "symroof", *ANALYZE.split(), "--format", "json"],
    "analyze, prefill, FlashAttention": ["-m", "symroof", *ANALYZE.replace("decode", "prefill").split(), "--flash-attention"],
}


def _command(benchmark, arguments: list[str], rounds: int) -> None:
    benchmark.pedantic(
        subprocess.run, ([sys.executable, *arguments],), {"check": True, "capture_output": True}, rounds=rounds, warmup_rounds=2
    )


@pytest.mark.benchmark(group="start")
@pytest.mark.parametrize("arguments", START.values(), ids=START.keys())
def test_help(benchmark, arguments: list[str]) -> None:
    _command(benchmark, arguments, 30)


@pytest.mark.benchmark(group="analyze")
@pytest.mark.parametrize("arguments", WORK.values(), ids=WORK.keys())
def test_analyze(benchmark, arguments: list[str]) -> None:
    _command(benchmark, arguments, 20)
