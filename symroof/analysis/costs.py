"""FLOPs, traffic and peak of a part of a step, in letters and in numbers: what crossovers are solved from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sympy import Expr, Integer, Symbol, ceiling, oo

from symroof import symbols
from symroof.analysis.crossover import lowest
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError, nearest, quote
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.operators.data_types import BITS
from symroof.operators.fusion import fuse
from symroof.operators.graph import Graph
from symroof.operators.operator import Direction, Kind, Operator
from symroof.operators.tensor import Storage
from symroof.symbols import Variable, lookup, substitute

TOTAL, WEIGHTS_AND_KV = "total", "weights-and-kv"
WIDTHS = (symbols.w, symbols.a, symbols.c)


@dataclass(frozen=True)
class Cost:
    """FLOPs and bytes of one operator with the number of times it occurs; `operator` decides the peak."""

    operator: Operator
    flops: Expr
    traffic: Expr


def variable_of(step: Step, name: str) -> Variable:
    """The variable a user means: ``seq_len`` is the context length in decode.

    Raises
    ------
    InputError
        No symbol has that name or letter.
    """
    known = lookup(name)
    return lookup("context_len") if step.options.decode and known.symbol == symbols.s else known


def device_of(hardware: Device | str | Path | None) -> Device | None:
    """The device, loaded if it is given by name or path."""
    return hardware if isinstance(hardware, Device) or hardware is None else load_hardware(hardware)


def costs(step: Step, part: str) -> tuple[Cost, ...]:
    """The costs of a part of the step in letters.

    Parameters
    ----------
    part : an operator's name; several joined by "+", taken as fused; "total", all of them; or
        "weights-and-kv", the contractions with the traffic of weights and KV cache alone.

    Raises
    ------
    EinsumError
        There is no such operator.
    """
    if part == TOTAL:
        return tuple(_times(operator, count) for operator, count in step.letters)
    if part == WEIGHTS_AND_KV:
        return tuple(_large(operator, count) for operator, count in step.letters if operator.kind is not Kind.EMBEDDING)
    operator, _ = fuse(step.letters, part.split("+"))
    return (Cost(operator, operator.flop_count, operator.byte_count()),)


def _times(operator: Operator, count: Expr) -> Cost:
    return Cost(operator, count * operator.flop_count, count * operator.byte_count())


def _large(operator: Operator, count: Expr) -> Cost:
    """What grows to the whole of a large model: contractions; weights and KV cache read."""
    flops = operator.contraction_flop_count
    read = operator.byte_count(Storage.WEIGHT, Direction.READ) + operator.byte_count(Storage.KV_CACHE, Direction.READ)
    return Cost(operator, count * flops, count * read)


def occurs(cost: tuple[Cost, ...], x: Symbol) -> bool:
    """Whether the formulas mention the variable."""
    return any(x in one.flops.free_symbols | one.traffic.free_symbols for one in cost) or x in (symbols.P, symbols.BW)


def require(step: Step, part: str, cost: tuple[Cost, ...], variable: Variable, typed: str) -> None:
    """Raise unless the variable occurs.

    Raises
    ------
    InputError
        It does not; the message names those that do.
    """
    grouped = grouped_costs(cost, variable.symbol)
    if occurs(grouped, variable.symbol):
        return
    letters = sorted(set().union(*(one.flops.free_symbols | one.traffic.free_symbols for one in cost)), key=str)
    names = [symbols.VOCABULARY[letter].name for letter in letters if isinstance(letter, Symbol)]
    hint = nearest("", [*names, "peak", "bandwidth"])
    raise InputError(f"{quote(typed)} ({variable.symbol}) does not occur in {part} of {step.model} in {step.options.phase}; {hint}")


def grouped_costs(cost: tuple[Cost, ...], x: Symbol) -> tuple[Cost, ...]:
    """With ``h = g k`` in the place of the query heads, where the group size is the variable.

    Raises
    ------
    InputError
        The model has one KV head per query head: there are no groups to size.
    """
    if x != symbols.g:
        return cost
    letters = set().union(*(one.flops.free_symbols | one.traffic.free_symbols for one in cost))
    if symbols.h in letters and symbols.k not in letters and cost[0].operator.space.sizes.get("k") == symbols.h:
        raise InputError("group_size does not occur: this family has one KV head per query head, h = k; ask a grouped family such as llama")
    heads = {symbols.h: symbols.g * symbols.k}
    return tuple(Cost(one.operator, substitute(one.flops, heads), substitute(one.traffic, heads)) for one in cost)


def known_values(step: Step, device: Device | None, *free: Symbol) -> dict[Symbol, Expr]:
    """The numbers that are known, without those of the free variables.

    Raises
    ------
    InputError
        The block rows of FlashAttention depend on the variable.
    """
    values = dict(step.values)
    if symbols.h in values and symbols.k in values:
        values[symbols.g] = values[symbols.h] / values[symbols.k]
    if device:
        values |= {symbols.BW: device.bandwidth_figure.value} | ({symbols.M: device.buffer} if device.buffer else {})
    for symbol, definition in step.letters.definitions.items():
        heads = {symbols.g} if {symbols.h, symbols.k} & definition.free_symbols else set()
        for x in (definition.free_symbols | heads) & set(free):
            name = symbols.VOCABULARY[cast(Symbol, x)].name
            raise InputError(
                f"fused_attention counts blocks of R rows, and R depends on {name}: R = {definition}; no closed form over {name}"
            )
        values[symbol] = substitute(definition, values)
    return {symbol: value for symbol, value in values.items() if value.is_number and symbol not in free}


def needed(letters: Iterable[object]) -> str:
    """The start of an error: which inputs must be given as numbers.

    >>> needed([symbols.b, symbols.t])
    'batch and seq_len must be given as numbers'
    """
    names = sorted({symbols.option_name(cast(Symbol, one)) for one in letters})
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{listed} must be given as {'numbers' if len(names) > 1 else 'a number'}"


@dataclass(frozen=True)
class Stretch:
    """A stretch of the variable on which one graph, and so one peak per operator, applies."""

    low: Expr
    high: Expr
    graph: Graph


def stretches(step: Step, device: Device | None, variable: Variable, values: dict[Symbol, Expr], cost: Sequence[Cost]) -> Iterator[Stretch]:
    """The stretches of the variable's range: one, or for a width one per data type that the device has.

    A width on (4, 8] runs in the fastest type of at least 8 bits, and so on.
    """
    x, low = variable.symbol, lowest(variable)
    if device is None or x not in WIDTHS:
        yield Stretch(low, oo, step.letters.bind(values))
        return
    for width in sorted(set(BITS.values())):
        graph = step.letters.bind(values | {x: Integer(width)})
        if not _runs(graph, device, [one.operator.name for one in cost]):
            if low == lowest(variable):
                raise DeviceError(
                    f"device {quote(device.name)} has no data type as wide as the other operands: no {variable.name} to range over"
                )
            return
        yield Stretch(low, Integer(width), graph)
        low = Integer(width)


def _runs(graph: Graph, device: Device, names: Sequence[str]) -> bool:
    try:
        for name in names:
            peak_of(graph, bound_operator(graph, name), device)
    except DeviceError:
        return False
    return True


def peak_of(graph: Graph, operator: Operator, device: Device) -> Expr:
    """The peak that applies to an operator of a bound graph."""
    return device.fastest(graph.data_types(operator))[1]


def bound_operator(graph: Graph, name: str) -> Operator:
    """An operator, or a fused group of them, of a bound graph."""
    return fuse(graph, name.split("+"))[0]


def counts_blocks(cost: tuple[Cost, ...], x: Symbol) -> bool:
    """Whether a formula counts whole blocks of the variable."""
    return any(x in atom.free_symbols for one in cost for atom in (one.flops + one.traffic).atoms(ceiling))
