"""Steps and analyses that the tests share, each made once, and what is read off them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sympy import Add, Expr

import symroof
from symroof.architectures.config import catalogue
from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.operators.graph import Graph
from symroof.operators.tensor import Level
from symroof.roof.analysis import Analysis
from symroof.techniques.registry import chain

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
A100 = "a100-sxm-80gb"


EVERYTHING = bool(os.environ.get("SYMROOF_ALL"))
"""Whether long tests run on all that they could run on, and not on a sample of it."""


def sampled(values: Iterable[Any], every: int) -> list[Any]:
    """One in so many of them, or all."""
    return [*values][:: 1 if EVERYTHING else every]


@functools.cache
def one_of_each_type() -> tuple[str, ...]:
    """The first model of the catalogue of every `model_type`, or all models."""
    types = {name: json.loads(path.read_text()).get("model_type", name) for name, path in catalogue().items()}
    first = {kind: name for name, kind in reversed(types.items())}
    return tuple(name for name, kind in types.items() if EVERYTHING or first[kind] == name)


ENCODERS = {"bert", "roberta", "xlm-roberta", "modernbert"}
"""Families that have no decode step."""


def phases(model: str) -> tuple[str, ...]:
    """The phases of a model of the catalogue."""
    return ("prefill",) if symroof.load_model(model).architecture.family in ENCODERS else ("prefill", "decode")


def two_roofs(name: str) -> Device:
    """A device without the units and the cache that it states beside matrix peak and memory bandwidth."""
    return replace(load_hardware(name), vector=None, exponential=None, cache=None)


Inputs = tuple[tuple[str, Any], ...]


def step(model: str = "llama-2-7b", phase: str = "decode", techniques: str = "", **inputs: Any) -> Step:
    """The step, 16 bits wide where nothing else is said; an input that is None stays a symbol.

    Techniques are spelled as on the command line, with spaces between them.
    """
    return _step(model, phase, techniques, _given(inputs))


def analysis(model: str = "llama-2-7b", phase: str = "decode", techniques: str = "", device: str = A100, **inputs: Any) -> Analysis:
    """The step on a device."""
    return _analysis(model, phase, techniques, device, _given(inputs))


def _given(inputs: dict[str, Any]) -> Inputs:
    return tuple(sorted((name, value) for name, value in (WIDTHS | inputs).items() if value is not None))


@functools.lru_cache(512)
def _step(model: str, phase: str, techniques: str, inputs: Inputs) -> Step:
    if techniques:
        return _step(model, phase, "", inputs).apply(*chain([techniques]))
    return getattr(symroof.load_model(model), phase)(**dict(inputs))


@functools.lru_cache(512)
def _analysis(model: str, phase: str, techniques: str, device: str, inputs: Inputs) -> Analysis:
    return symroof.analyze(_step(model, phase, techniques, inputs), device)


def apply(made: Step, *techniques: str) -> Step:
    """The step after techniques as the command line spells them."""
    return made.apply(*chain(techniques))


def costs(graph: Graph) -> dict[str, tuple[Expr, Expr, Expr]]:
    """FLOPs, bytes of memory traffic, and count by operator."""
    return {operator.name: (operator.flop_count, operator.byte_count(), count) for operator, count in graph}


def traffic(graph: Graph) -> dict[Level, Expr]:
    """Bytes of the step over every level."""
    return {level: graph.byte_count(level=level) for level in Level}


def seconds(made: Step, prefix: str = "", device: str = A100) -> Expr:
    """Seconds per completed token, of the operators whose names begin so."""
    found = symroof.analyze(made, device)
    return Add(*(point.count_expr * point.time_expr for point in found if point.name.startswith(prefix))) / found.graph.tokens


def memory(made: Step) -> tuple[Expr, Expr, Expr]:
    """Bytes of weights, of the KV cache and of activations."""
    return made.graph.weight_memory(), made.graph.kv_memory(), made.graph.activation_memory()
