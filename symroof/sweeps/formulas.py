"""The formulas of one step of one model that a sweep evaluates, with a letter for every peak that may apply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sympy import Add, Expr, Integer, Max, Symbol

from symroof import symbols
from symroof.architectures.model import Model
from symroof.architectures.options import Options
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import LETTERS, SYMBOLIC
from symroof.operators.ceilings import Ceilings
from symroof.operators.demands import Resource
from symroof.operators.facts import COMMUNICATION, CONTRACTIONS
from symroof.operators.graph import Block, Graph
from symroof.operators.operator import Operator
from symroof.roof.ledger import levels_of, overhead, roof_of, seconds_of
from symroof.sweeps.program import Program, program
from symroof.symbols import Values, lookup, substitute

TOTAL = "total"


@dataclass(frozen=True)
class Formulas:
    """What is computed for the whole step, or for one operator with all its occurrences.

    Attributes
    ----------
    outputs : what each output of the program is: time, flops, traffic, compute_time, memory_time, memory.
    expressions : the same as formulas, for what has to be decided exactly.
    """

    part: str
    outputs: tuple[str, ...]
    program: Program = field(repr=False)
    expressions: tuple[Expr, ...] = field(repr=False)


@dataclass(frozen=True)
class StepFormulas:
    """The formulas of a step, and the graph that tells which peaks apply.

    Attributes
    ----------
    parts : the whole step, or every operator.
    shares : one operator for each letter of a peak; those that share a letter read the same widths.
    statements : the conventions that are followed.
    """

    parts: tuple[Formulas, ...]
    shares: Mapping[str, str]
    graph: Graph = field(repr=False)
    statements: tuple[str, ...] = field(repr=False)

    def peaks(self, device: Device, widths: Values) -> dict[str, float]:
        """The peak behind every letter, for these bits per weight, activation and element of the cache.

        Raises
        ------
        DeviceError
            The device has no data type that is wide enough.
        """
        bound = self.graph.bind(widths)
        return {letter: float(self._peak(bound, bound[name], device)) for letter, name in self.shares.items()}

    @staticmethod
    def _peak(graph: Graph, operator: Operator, device: Device) -> Expr:
        return roof_of(graph, operator, device.machine)[1]


def step_formulas(
    model: Model,
    options: Options,
    open_letters: frozenset[Symbol],
    wanted: tuple[str, ...],
    each: bool,
    techniques: Sequence[Callable[[Step], Step]] = (),
) -> StepFormulas:
    """The formulas of a step in the letters that are left open; peaks and bandwidth always are.

    Parameters
    ----------
    open_letters : the symbols that are swept over.
    wanted : what to compute, of the names in `Formulas.outputs`.
    each : for every operator apart.
    techniques : applied to the step, in this order.

    Raises
    ------
    InputError
        A letter to be swept over does not occur in this model.
    """
    step = model.step(options).apply(*techniques)
    letters = step.symbolic.without_values(*open_letters)
    if symbols.g in open_letters:
        letters = letters.bind({symbols.h: symbols.g * symbols.k})
    values = {symbol: value for symbol, value in step.values.items() if symbol not in open_letters}
    graph = letters.bind(values)
    classes: dict[tuple[object, ...], str] = {}
    shares: dict[str, str] = {}
    groups: list[tuple[Operator, Expr, Symbol]] = []
    for operator, count in graph:
        key = (operator.operand_bits, operator.kind in CONTRACTIONS, operator.sparse, id(operator.unit))
        letter = classes.setdefault(key, f"P_{len(classes) + 1}")
        if operator.kind not in COMMUNICATION:
            shares.setdefault(letter, operator.name)
        peak = symbols.P if symbols.P in open_letters else Symbol(letter, positive=True)
        groups.append((operator, count, peak))
    _require(model, options, open_letters, graph)
    chosen = [[group] for group in groups] if each else [groups]
    parts = tuple(_formulas(group[0][0].name if each else TOTAL, group, graph, wanted) for group in chosen)
    named = set(shares.values())
    small = replace(graph, blocks=(Block("", tuple(operator for operator, _, _ in groups if operator.name in named)),))
    return StepFormulas(parts, {} if symbols.P in open_letters else shares, small, step.statements)


def _formulas(part: str, group: list[tuple[Operator, Expr, Symbol]], graph: Graph, wanted: tuple[str, ...]) -> Formulas:
    found: dict[str, Expr] = {}
    for name in wanted:
        if name == "memory":
            if part == TOTAL:
                found[name] = Add(graph.weight_memory(), graph.kv_memory(), graph.activation_memory())
        elif name == "tokens":
            found[name] = graph.tokens
        else:
            found[name] = _sum(name, group, graph.ceilings)
    expressions = tuple(_defined(expression, graph) for expression in found.values())
    return Formulas(part, tuple(found), program(expressions), expressions)


def _sum(name: str, group: Iterable[tuple[Operator, Expr, Symbol]], ceilings: Ceilings) -> Expr:
    found: list[Expr] = []
    for operator, count, peak in group:
        if name in ("flops", "traffic"):
            found.append(count * (operator.flop_count if name == "flops" else operator.byte_count()))
            continue
        times = seconds_of(operator, SYMBOLIC, peak, ceilings)
        compute = times.pop(Resource.COMPUTE, Integer(0))
        moved = [*times.values()]
        memory = _largest(moved)
        if name == "time":
            whole = _largest([compute, *moved] if compute != 0 else moved) if ceilings.overlap else Add(compute, *moved)
            found.append(count * (whole + overhead(operator, ceilings)))
        else:
            found.append(count * (compute if name == "compute_time" else memory))
    return Add(*found)


def _largest(times: list[Expr]) -> Expr:
    if len(times) < 2:
        return Add(*times)
    return Max(*times, evaluate=False)


def _defined(expression: Expr, graph: Graph) -> Expr:
    for symbol, definition in graph.definitions.items():
        if symbol in expression.free_symbols:
            expression = substitute(expression, {symbol: definition})
    return expression


def _require(model: Model, options: Options, open_letters: frozenset[Symbol], graph: Graph) -> None:
    parts = [part for operator, count in graph for part in (operator.flop_count, operator.byte_count(), count)]
    present = set().union(*(part.free_symbols for part in (*parts, *graph.definitions.values()))) | graph.free_symbols
    present |= {LETTERS[Resource(level)] for level in levels_of(graph)}
    always = {symbols.P, symbols.BW, symbols.b, symbols.s, symbols.t, symbols.w, symbols.a, symbols.c}
    for symbol in sorted(open_letters - present - always, key=str):
        name = lookup(str(symbol)).name
        raise InputError(f"{quote(name)} ({symbol}) does not occur in {model.name} in {options.phase}: there is nothing to sweep over")


def rate_constants(device: Device, letters: Iterable[str]) -> dict[str, float]:
    """The device's rates for those of the letters that are bandwidths.

    Raises
    ------
    DeviceError
        It states none.
    """
    wanted = set(letters)
    return {str(letter): float(device.machine.rate(resource)) for resource, letter in LETTERS.items() if str(letter) in wanted}


def buffer_of(device: Device, formulas: StepFormulas) -> dict[str, float]:
    """The on-chip buffer, where FlashAttention's blocks follow from it.

    Raises
    ------
    DeviceError
        The device states none.
    """
    if not any("M" in part.program.inputs for part in formulas.parts):
        return {}
    if device.buffer is None:
        raise DeviceError(f"device {quote(device.name)} states no on-chip buffer; FlashAttention's block rows follow from it")
    return {"M": float(device.buffer)}
