"""How long the symbolic graph of a model takes to build, every dimension a letter, formulas included."""

from __future__ import annotations

from dataclasses import replace

import pytest

import symroof
from symroof.architectures.config import catalogue
from symroof.architectures.options import Options


@pytest.mark.benchmark(group="symbolic graph, FLOPs and bytes of every operator")
@pytest.mark.parametrize("name", catalogue())
def test_symbolic_graph(benchmark, name: str) -> None:
    loaded = symroof.load_model(name)

    def build() -> int:
        graph = replace(loaded).step(Options("prefill"), symbolic=True).graph
        return sum(1 for operator, _ in graph if operator.flop_count is not None and operator.byte_count() is not None)

    assert benchmark(build) > 10
