"""Steps that the tests of fast decoding share."""

from __future__ import annotations

import functools
from typing import Any

from sympy import Expr

import symroof
from symroof.architectures.step import Step
from symroof.operators.graph import Graph

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
DENSE = ("llama-2-7b", "llama-3-8b", "opt-125m")
FAMILIES = (*DENSE, "mixtral-8x7b-v0.1", "gemma-2-2b", "deepseek-v2-lite")
DEVICE = "a100-sxm-80gb"


@functools.lru_cache
def _decode(model: str, inputs: tuple[tuple[str, Any], ...]) -> Step:
    return symroof.load_model(model).decode(**{**WIDTHS, **dict(inputs)})


def decode(model: str, **inputs: Any) -> Step:
    return _decode(model, tuple(sorted(inputs.items())))


def apply(step: Step, *texts: str) -> Step:
    return step.apply(*map(symroof.technique, texts))


def costs(graph: Graph) -> dict[str, tuple[Expr, Expr, Expr]]:
    """FLOPs, bytes and count by operator."""
    return {operator.name: (operator.flop_count, operator.byte_count(), count) for operator, count in graph}


def seconds(step: Step, part: str = "") -> Expr:
    """Seconds per completed token, operator by operator."""
    analysis = symroof.analyze(step, DEVICE)
    chosen = (placed for placed in analysis if placed.name.startswith(part))
    return sum(placed.count_expr * placed.time_expr for placed in chosen) / analysis.graph.tokens


def memory(step: Step) -> tuple[Expr, Expr, Expr]:
    return step.graph.weight_memory(), step.graph.kv_memory(), step.graph.activation_memory()
