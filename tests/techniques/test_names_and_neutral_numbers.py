"""Every technique on a step whose operators have other names gives the same numbers, and with neutral numbers it changes none."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from symroof.architectures.step import Step
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.techniques.registry import names, technique
from tests.steps import step
from tests.techniques.pairs import INPUTS, MODELS, PHASES, after, applied, difference, made, numbers

NEUTRAL = {
    "quantize": "weights=16,activations=16,kv=16",
    "sparsify": "density=1,index=0",
    "prune-channels": "share=1",
    "early-exit": "depth=1",
    "skip-layers": "depth=1",
    "contextual-sparsity": "share=1",
    "offload": "share=0",
    "ragged-batch": "mean=1,variation=0",
    "chunked-prefill": "chunk=512",
    "tensor-parallel": "degree=1",
    "pipeline-parallel": "degree=1,micro_batches=1",
    "expert-parallel": "degree=1",
    "context-parallel": "degree=1",
    "data-parallel": "degree=1",
    "scale-hardware": "peak=1,bandwidth=1,buffer=1",
    "efficiency": "compute=1,memory=1",
    "launch-overhead": "launch=0",
    "energy": "flop=1pJ,byte=1pJ,power=1W",
}
"""Numbers with which a technique changes nothing."""

NEUTRAL_FITTING = {("contextual-sparsity", "mixtral-8x7b-v0.1"): "share=1,where=heads"}
"""The same where a model needs other words, as `pairs.FITTING` has them."""

ALWAYS_CHANGES = {
    "distill": "another model",
    "low-rank": "two matrices for one",
    "speculative": "at least one token is drafted",
    "medusa": "at least one head is added",
    "fuse": "what is fused is not written",
    "flash-attention": "scores are not written",
    "paged-cache": "pages have a table, and places that are reserved know of no window",
    "flash-decoding": "scores are not written",
    "expert-routing": "experts are touched in expectation, and not as many as tokens can touch",
    "mixed-batch": "at least one token of a prompt is added",
    "prefix-cache": "a share above 0 of the prompt is there",
    "data-format": "it has a peak of its own",
    "pim": "operators move to another unit",
    "resident-weights": "weights move to the chip",
    "memory-levels": "tiles are counted, and a level of its own",
    "no-overlap": "it has no number",
}
"""Techniques without such numbers, and why."""


def renamed(made: Step, draw: random.Random) -> Step:
    """The step under labels that say nothing: operators, tensors, blocks."""
    labels: dict[str, str] = {}

    def label(name: str) -> str:
        return labels.setdefault(name, f"n{draw.randrange(10**9):09d}") if name else name

    def operator(_: Operator, new: Operator, __: object) -> Operator:
        members = tuple(operator(member, member, None) for member in new.members)
        answers = frozenset(map(label, new.answers_to))
        return replace(new, name=label(new.name), prefix=label(new.prefix), answers_to=answers, members=members)

    graph: Graph = made.symbolic.map(tensor=lambda tensor: replace(tensor, name=label(tensor.name)), operator=operator)
    return replace(made, symbolic=replace(graph, blocks=tuple(replace(block, name=label(block.name)) for block in graph.blocks)))


def test_new_labels_are_labels() -> None:
    plain = step(seq_len=1024, batch=2)
    other = renamed(plain, random.Random(1))
    assert not {operator.name for operator, _ in plain.symbolic} & {operator.name for operator, _ in other.symbolic}
    assert len({operator.name for operator, _ in other.symbolic}) == len([*other.symbolic])
    assert numbers(plain) == numbers(other)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("model", MODELS)
def test_names_are_labels_to_every_technique(model: str, phase: str) -> None:
    other = renamed(step(model, phase, **INPUTS[phase]), random.Random(f"{model} {phase}"))
    wrong = {}
    for name in names():
        expected, found = after(model, phase, name), applied(other, made(name, model))
        if isinstance(expected, str):
            assert isinstance(found, str), name
        elif isinstance(found, str):
            wrong[name] = found
        elif differing := difference(expected, found):
            wrong[name] = differing
    assert not wrong


def test_every_technique_has_neutral_numbers_or_a_reason_to_have_none() -> None:
    assert NEUTRAL.keys() | ALWAYS_CHANGES.keys() == set(names())
    assert not NEUTRAL.keys() & ALWAYS_CHANGES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_numbers_change_nothing(name: str) -> None:
    taken = 0
    for model in MODELS:
        for phase in PHASES:
            before = step(model, phase, **INPUTS[phase])
            neutral = applied(before, technique(f"{name}:{NEUTRAL_FITTING.get((name, model), NEUTRAL[name])}"))
            if isinstance(neutral, str):
                assert isinstance(after(model, phase, name), str), neutral
                continue
            taken += 1
            assert numbers(before) == numbers(neutral), (model, phase)
    assert taken
