"""Two techniques in both orders: what the step demands after each, in exact numbers."""

from __future__ import annotations

import csv
import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from sympy import Expr

import symroof
from symroof.architectures.step import Step
from symroof.operators.operator import Operator
from symroof.operators.tensor import Level
from symroof.techniques.registry import names, technique
from symroof.techniques.technique import Technique
from tests.steps import A100, step

MODELS = ("llama-2-7b", "mixtral-8x7b-v0.1", "gemma-2-9b", "deepseek-v2-lite")
PHASES = ("prefill", "decode")
TABLE = Path(__file__).parent.parent / "data" / "orders_that_matter.csv"
"""Pairs whose orders give different numbers: two techniques in the order of the alphabet, the steps on which they do
(patterns of ``model/phase`` with spaces between them), and the reason."""

SETTINGS = {
    "quantize": "weights=4,group=64,scale=16",
    "sparsify": "density=1/2",
    "prune-channels": "share=1/2",
    "distill": "model=llama-3.2-1b",
    "low-rank": "rank=64",
    "early-exit": "depth=1/2,exits=independent",
    "skip-layers": "layers=2",
    "contextual-sparsity": "share=1/10",
    "expert-routing": "skew=1/2",
    "speculative": "acceptance=4/5,length=4,draft_cost=1/20",
    "medusa": "heads=4,nodes=20,acceptance=3/5",
    "fuse": "preset=engine",
    "flash-decoding": "splits=16,processors=108",
    "paged-cache": "page=48",
    "offload": "share=1/2,link=89600MB/s",
    "mixed-batch": "chunk=128,prompt=1024",
    "chunked-prefill": "chunk=128",
    "ragged-batch": "mean=1/2,variation=1/2",
    "prefix-cache": "share=3/4",
    "tensor-parallel": "degree=2",
    "pipeline-parallel": "degree=2,micro_batches=2",
    "expert-parallel": "degree=4",
    "context-parallel": "degree=8",
    "data-parallel": "degree=8",
    "scale-hardware": "bandwidth=3",
    "data-format": "bits=4,peak=1248TFLOP/s,group=32",
    "pim": "units=5",
    "resident-weights": "bandwidth=80TB/s",
    "efficiency": "compute=0.7,memory=0.9",
    "launch-overhead": "launch=5us",
    "memory-levels": "tile=128,bandwidth=19TB/s",
    "energy": "flop=1pJ,byte=30pJ,power=100W",
}
"""Numbers that fit the models; a technique that is not named has none to give."""

FORMS = (
    "quantize:weights=8,activations=8",
    "quantize:weights=8,activations=8,kv=8,scope=all",
    "medusa:heads=4,nodes=20,acceptance=3/5,rows=last",
    "early-exit:depth=1/2,exits=independent,skipped_kv=none",
    "early-exit:depth=1/2",
    "offload:share=1/2,link=89600MB/s,overlap=operator",
    "tensor-parallel:degree=2,sequence_parallel=yes",
)
"""Other forms of techniques, spelled out, that stand in a chain differently."""

FITTING = {
    ("pipeline-parallel", "deepseek-v2-lite"): "degree=3,micro_batches=2",
    ("contextual-sparsity", "mixtral-8x7b-v0.1"): "share=1/4,where=heads",
    ("ragged-batch", "gemma-2-9b"): "lengths=1+1/2+1/4",
}
"""Where a model needs others: 27 layers are no multiple of two, experts are no neurons to leave out, and windows ask for lengths."""

INPUTS = {"prefill": {"batch": 8, "seq_len": 512}, "decode": {"batch": 16, "seq_len": 2048}}


def made(name: str, model: str) -> Technique:
    """The technique with numbers that fit the model, or as it is spelled out."""
    if ":" in name:
        return technique(name)
    settings = FITTING.get((name, model), SETTINGS.get(name, ""))
    return technique(f"{name}:{settings}" if settings else name)


@functools.lru_cache(128)
def after(model: str, phase: str, name: str) -> Step | str:
    """The step after one technique, or the line that refuses it."""
    return applied(step(model, phase, **INPUTS[phase]), made(name, model))


def applied(before: Step, by: Technique) -> Step | str:
    """The step after it, or the line that refuses it."""
    try:
        return before.apply(by)
    except symroof.SymroofError as error:
        return str(error)


def signature(operator: Operator) -> tuple[object, ...]:
    """All of an operator that its numbers follow from, in symbols."""
    unit = operator.unit.title if operator.unit else ""
    moved = tuple(operator.byte_count(level=level) for level in Level)
    how = (operator.sparse, unit, operator.latency, operator.occupancy, operator.operand_bits)
    return (operator.flop_count, operator.contraction_flop_count, moved, *how)


def symbolic(made: Step) -> tuple[object, ...]:
    """All of a step that its numbers follow from, in symbols; where two are equal, their numbers are."""
    graph = made.symbolic
    operators = Counter((signature(operator), count) for operator, count in graph)
    resident = Counter(
        (tensor.elements, tensor.stored_bits, tensor.level, tensor.storage, block.resident)
        for block in graph.blocks
        for tensor in {*block.tensors()}
        if tensor.storage != "activation"
    )
    ceilings, energy = graph.ceilings, graph.energy
    roofs = (ceilings.compute, frozenset(ceilings.levels.items()), ceilings.launch, ceilings.overlap, ceilings.ahead)
    joules = (energy.flop, energy.byte, energy.constant) if energy else ()
    sizes = (graph.tokens, graph.prompt_tokens, graph.pass_tokens, graph.devices)
    return operators, resident, roofs, joules, sizes, frozenset(graph.definitions.items())


def numbers(made: Step) -> dict[str, Expr] | str:
    """FLOPs, bytes over every level, memory and time per token; or the line that says why there are none."""
    try:
        analysis = symroof.analyze(made, A100)
        seconds = analysis.total.time_expr
    except symroof.SymroofError as error:
        return str(error)
    graph = analysis.graph
    found = {"FLOPs": graph.flop_count, "contractions": graph.contraction_flop_count, "seconds per token": seconds / graph.tokens}
    found |= {f"bytes of {level}": graph.byte_count(level=level) for level in Level}
    found |= {"weights": graph.weight_memory(), "cache": graph.kv_memory(), "at the host": graph.host_memory()}
    return found | {"tokens": graph.tokens, "devices": graph.devices}


def difference(one: Step | str, other: Step | str) -> dict[str, tuple[Expr, Expr]]:
    """Numbers in which the steps differ; none where a line refuses one of them."""
    if isinstance(one, str) or isinstance(other, str) or symbolic(one) == symbolic(other):
        return {}
    first, second = numbers(one), numbers(other)
    if isinstance(first, str) or isinstance(second, str):
        return {}
    return {name: (first[name], second[name]) for name in first if first[name] != second[name]}


@dataclass(frozen=True)
class Pair:
    """Two techniques on a step, the first applied first and the other way round."""

    model: str
    phase: str
    first: str
    second: str

    @property
    def steps(self) -> tuple[Step | str, Step | str]:
        """The step after both, in both orders; a line where one is refused."""
        return self._then(self.first, self.second), self._then(self.second, self.first)

    def _then(self, name: str, then: str) -> Step | str:
        before = after(self.model, self.phase, name)
        return before if isinstance(before, str) else applied(before, made(then, self.model))

    @property
    def expected(self) -> bool:
        """Whether the table says that the order matters here."""
        where, names = f"{self.model}/{self.phase}", (self.first.partition(":")[0], self.second.partition(":")[0])
        return any(fnmatch(where, pattern) for row in table().get(names, ()) for pattern in row["steps"].split())


def pairs(model: str, phase: str) -> Iterator[Pair]:
    """Every two techniques, each pair once."""
    known = sorted(names())
    return (Pair(model, phase, first, second) for place, first in enumerate(known) for second in known[place + 1 :])


@functools.cache
def table() -> Mapping[tuple[str, str], list[dict[str, str]]]:
    """The rows of the committed table, by pair."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with TABLE.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault((row["first"], row["second"]), []).append(row)
    return found
