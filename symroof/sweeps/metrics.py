"""What a sweep says of every point: a table of metrics, each from formulas of the step. A metric of one's own is one more entry."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from sympy import Add, Expr, Max, Min, S, Symbol, floor

from symroof import symbols
from symroof.errors import InputError, member
from symroof.hardware.machine import SYMBOLIC, Machine
from symroof.operators import Graph, Operator, Resource
from symroof.questions.capacity import memory_parts
from symroof.roof.ledger import own, seconds_of, step_time, time_of
from symroof.sweeps.compile import inlined
from symroof.symbols import substitute
from symroof.techniques.registry import multiple_of

TOTAL = "total"
BINDING = (Resource.MEMORY, *(resource for resource in Resource if resource is not Resource.MEMORY))
"""The resources as the metric `bound` numbers them."""

CAPACITY = Symbol("capacity", positive=True)
"""Bytes of the device's memory."""


@dataclass(frozen=True)
class Part:
    """What a metric is of: the whole step, or one operator with all its occurrences.

    Attributes
    ----------
    name : "total", or the operator's.
    graph : of the step, which is that of one device; `prefill` says its phase.
    operators : each with its count and the symbol of its peak.
    machine : symbolic, with the resources that the device states, and the constants of its kernels where ceilings are calibrated.
    open_batch : makes the same graph with the batch a symbol.
    """

    name: str
    graph: Graph = field(repr=False)
    prefill: bool
    operators: tuple[tuple[Operator, Expr, Symbol], ...] = field(repr=False)
    machine: Machine = field(default=SYMBOLIC, repr=False)
    open_batch: Callable[[], Graph] | None = field(default=None, repr=False)

    def total(self, value: Callable[[Operator], Expr]) -> Expr:
        """The sum of count x value over the operators."""
        return Add(*(count * value(operator) for operator, count, _ in self.operators))

    def seconds(self, value: Callable[[dict[Resource, Expr], Operator], Expr]) -> Expr:
        """The sum of count x what follows from an operator's seconds for each resource."""
        ledger = (
            (seconds_of(operator, self.machine, peak, self.graph.ceilings), operator, count) for operator, count, peak in self.operators
        )
        return Add(*(count * value(seconds, operator) for seconds, operator, count in ledger))


def time(part: Part) -> Expr:
    """Seconds, operators one after the other; transfers under the work of others, where they are fetched ahead."""
    ceilings = part.graph.ceilings
    work = part.seconds(lambda seconds, operator: time_of(operator, own(operator, seconds, ceilings), ceilings, part.machine))
    return step_time(work, part.seconds(lambda seconds, _: seconds.get(Resource.HOST, S.Zero)), ceilings)


def seconds_for(resource: Resource, part: Part) -> Expr:
    """Seconds for a resource, operators one after the other."""
    return part.seconds(lambda seconds, _: seconds.get(resource, S.Zero))


SECONDS = tuple(functools.partial(seconds_for, resource) for resource in BINDING)
"""Seconds for every resource, in the order in which the metric `bound` counts them."""


def flops(part: Part) -> Expr:
    """Floating-point operations."""
    return part.total(lambda operator: operator.flop_count)


def traffic(part: Part) -> Expr:
    """Bytes of memory traffic."""
    return part.total(lambda operator: operator.byte_count())


def memory(part: Part) -> Expr:
    """Bytes of weights, KV cache and live activations."""
    return Add(part.graph.weight_memory(), part.graph.kv_memory(), part.graph.activation_memory())


def capacity(part: Part) -> Expr:
    """Bytes of the device's memory that the step may use."""
    return part.graph.room(CAPACITY)


def largest_batch(part: Part) -> Expr:
    """The most sequences that fit each device's memory: ``floor((capacity - what is kept) / what a sequence takes)``, 0 where none does.

    Raises
    ------
    InputError
        Memory is not linear in the batch.
    """
    graph = part.graph if part.open_batch is None else part.open_batch()
    weights, cache, activations = memory_parts(graph)
    states = activations.args if isinstance(activations, Max) else (activations,)
    limits = []
    for state in states:
        needed = inlined(cast(Expr, weights + cache + state), graph.definitions).expand()
        sequence, kept = needed.diff(symbols.b), substitute(needed, {symbols.b: S.Zero})
        if symbols.b in sequence.free_symbols:
            raise InputError("metric 'largest_batch': the memory of this step is not linear in the batch; `symroof largest` follows it")
        limits += [(capacity(part) - kept) / sequence] if sequence != 0 else []
    multiple = multiple_of(graph.applied, symbols.b)
    return multiple * floor(Max(S.Zero, Min(*limits)) / multiple)


def tokens(part: Part) -> Expr:
    """Tokens that all sequences generate in a step, or the tokens of their prompts."""
    return part.graph.token_count


def cached_tokens(part: Part) -> Expr:
    """Tokens whose keys and values the sequences hold: the context of each, or the prompt."""
    return symbols.b * (symbols.s if part.prefill else symbols.t)


def devices(part: Part) -> Expr:
    """Devices that share the step."""
    return part.graph.devices


def energy(part: Part) -> Expr:
    """Joules of one device: of work, of traffic and of the time.

    Raises
    ------
    InputError
        The step has no energy model.
    """
    if part.graph.energy is None:
        raise InputError("metric 'energy': apply the technique energy, as energy:flop=1pJ,byte=30pJ,power=100W")
    return part.graph.energy.joules(flops(part), traffic(part), time(part))


def largest(*seconds: Any) -> Any:
    """The place of the largest; of equals memory is last, and the others in order."""
    every = np.array([*seconds[1:], seconds[0]])
    return (np.argmax(every, axis=0) + 1) % len(seconds)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return above / below


@dataclass(frozen=True)
class Metric:
    """One variable of the result.

    Attributes
    ----------
    unit, meaning : as the result says them.
    formulas : functions from a `Part` to the exact formulas it follows from.
    value : a function from the arrays of these, in that order, to the metric; left out, it is the first of them. A comparison
        is decided in fractions where floats are too close to decide.
    better : "min" or "max", the direction that is wanted; empty where neither is.
    words : the meanings of False and True, for a comparison.
    by_operator : whether operators have one too; `adds_up` says whether theirs add up to the total.
    """

    name: str
    unit: str
    meaning: str
    formulas: tuple[Callable[[Part], Expr], ...]
    value: Callable[..., Any] = field(default=lambda first: first)
    better: str = ""
    words: tuple[str, ...] = ()
    by_operator: bool = True
    adds_up: bool = True

    @property
    def dtype(self) -> np.dtype:
        """The type of its values: a comparison whose words are no and yes is a truth value."""
        return np.dtype(np.float64 if not self.words else np.bool_ if self.words == ("no", "yes") else np.int8)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("time", "s", "time of one step, operators one after the other", (time,), better="min"),
        Metric(
            *("bound", "1", "the resource that takes longest: memory traffic at the bandwidth, FLOPs at the peak, ...", SECONDS),
            *(largest, "", tuple(map(str, BINDING))),
            adds_up=False,
        ),
        Metric("intensity", "FLOP/byte", "arithmetic intensity", (flops, traffic), _ratio, "max", adds_up=False),
        Metric(
            *("throughput", "token/s", "tokens per second of all devices: generated in decode, of the prompt read in prefill"),
            *((tokens, time), operator.truediv, "max"),
            by_operator=False,
        ),
        Metric(
            *("throughput_per_device", "token/s", "tokens per second of one device: throughput over the number of devices"),
            *((tokens, time, devices), lambda tokens, time, devices: tokens / time / devices, "max"),
            by_operator=False,
        ),
        Metric("memory", "byte", "weights, KV cache and live activations", (memory,), better="min", by_operator=False),
        Metric(
            *("fits", "1", "whether the memory is within the device's capacity", (capacity, memory), operator.ge, "", ("no", "yes")),
            by_operator=False,
        ),
        Metric(
            *("largest_batch", "1", "largest batch that fits the memory of each device, of all devices together", (largest_batch,)),
            better="max",
            by_operator=False,
        ),
        Metric(
            *("cached_tokens", "token", "tokens in the caches of all sequences: batch x context, or x prompt", (cached_tokens,)),
            better="max",
            by_operator=False,
        ),
        Metric("flops", "FLOP", "floating-point operations of one step", (flops,), better="min"),
        Metric("traffic", "byte", "memory traffic of one step", (traffic,), better="min"),
        Metric("performance", "FLOP/s", "FLOPs per second", (flops, time), operator.truediv, "max"),
        Metric("energy", "J", "energy of one step, of one device", (energy,), better="min"),
        Metric(*("system_energy", "J", "energy of one step, of all devices", (energy, devices), operator.mul, "min")),
        Metric(
            *("token_energy", "J", "energy of a generated token, or of one of a prompt, of all devices", (energy, devices, tokens)),
            *(lambda energy, devices, tokens: energy * devices / tokens, "min"),
        ),
    )
}

ALIASES = {"latency": "time"}
DEFAULT = ("time", "bound", "intensity", "throughput", "throughput_per_device", "memory", "fits")


def chosen(names: Sequence[str] | None, each: bool, capacities: bool, several: bool = False) -> tuple[str, ...]:
    """The requested metrics, or the usual ones that can be computed, of the whole step or of *each* operator, on *several* devices or one.

    Raises
    ------
    InputError
        There is no such metric, or it is not one of an operator, or a device states no capacity.

    >>> chosen(None, True, True)
    ('time', 'bound', 'intensity')
    """
    if names is None:
        names = [name for name in DEFAULT if (capacities or name != "fits") and (several or name != "throughput_per_device")]
        return tuple(name for name in names if METRICS[name].by_operator or not each)
    names = [ALIASES.get(name, name) for name in ([names] if isinstance(names, str) else names)]
    if not names:
        raise InputError("metrics []: name at least one")
    for name in names:
        member("metric", name, tuple(METRICS))
        if each and not METRICS[name].by_operator:
            raise InputError(f"metric {name!r} is one of the whole step, not of an operator")
    for name in names:
        if not capacities and {capacity, largest_batch} & {*METRICS[name].formulas}:
            raise InputError(f"metric {name!r}: a device here states no memory capacity; leave it out, or compare 'memory' yourself")
    return tuple(dict.fromkeys(names))


def needed(metrics: Sequence[str]) -> tuple[Callable[[Part], Expr], ...]:
    """The formulas that these metrics follow from, each once."""
    return tuple(dict.fromkeys(formula for name in metrics for formula in METRICS[name].formulas))
