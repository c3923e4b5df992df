"""Work is bounded by calls of the library's functions, which a busy machine does not change. `benchmarks/calls.py` counts them."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import symroof
from symroof.operators.graph import Graph

COUNTED = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "calls.py"))
calls: Callable[[Callable[[], object]], int] = COUNTED["calls"]
warm: Callable[..., int] = COUNTED["warm"]


@pytest.mark.parametrize(
    ("question", "again", "most"),
    [
        ("analyze_command", False, 2500),
        ("analyze_loaded", False, 2700),
        ("analyze", False, 600),
        ("crossover", True, 300),
        ("crossovers", True, 4200),
    ],
)
def test_calls_of_a_question(question: str, again: bool, most: int) -> None:
    """Of another context than what was asked before, or, where bound graphs are what is kept, of the same."""
    assert most / 4 < warm(COUNTED[question], again=again) < most


def test_calls_are_counted() -> None:
    """FLOPs ask for what the work adds up to, which asks the space for its points; a second time all is known."""
    operator = symroof.load_model("llama-2-7b").decode(seq_len=1000)["up_proj"]
    fresh = replace(operator)
    assert operator.flop_count == 2 * 4096 * 11008 * symroof.symbols.b
    assert calls(lambda: fresh.flop_count) == 3
    assert calls(lambda: fresh.flop_count) == 0


@pytest.mark.parametrize("over", ["batch", "seq_len"])
def test_all_crossovers_bind_the_graph_once(monkeypatch: pytest.MonkeyPatch, over: str) -> None:
    device, sizes = symroof.load_hardware("a100-sxm-80gb"), {"batch": 16, "seq_len": 4096}
    step = symroof.load_model("llama-2-7b").decode(**{name: size for name, size in sizes.items() if name != over})
    bound: list[object] = []
    replaced = Graph.replaced
    monkeypatch.setattr(Graph, "replaced", lambda graph, values: bound.append(values) or replaced(graph, values))
    assert len(symroof.crossovers(step, over=over, hardware=device)) == 20
    assert len(bound) == 1
    symroof.crossovers(step, over=over, hardware=device)
    assert len(bound) == 1


def test_sizes_of_a_step_share_one_symbolic_graph() -> None:
    model = symroof.load_model("qwen3-32b")
    one, other = model.decode(batch=1, seq_len=100), model.decode(batch=2, seq_len=200, kv_bits=8)
    assert one.symbolic is other.symbolic
    assert one.graph is not other.graph
    prompts = model.prefill(), model.prefill(causal=False), model.prefill(lm_head="all"), model.prefill(flash_attention=True)
    narrow = model.decode(weight_bits=4)
    assert len({id(step.symbolic) for step in (one, *prompts, narrow)}) == 6
    assert narrow.statements != one.statements
