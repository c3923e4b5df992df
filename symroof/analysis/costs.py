"""FLOPs, traffic and peak of a part of a step, in letters and in numbers: what crossovers are solved from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from sympy import Expr, Symbol, ceiling

from symroof import symbols
from symroof.analysis.saturation import Branch, branches, saturating
from symroof.architectures.step import Step
from symroof.errors import InputError, nearest, quote
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.operators.fusion import fuse
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


def letters_of(cost: Iterable[Cost]) -> set[Symbol]:
    """The letters of the formulas."""
    return set().union(*(cast(set[Symbol], part.free_symbols) for one in cost for part in (one.flops, one.traffic)))


def branches_of(step: Step, cost: Sequence[Cost], free: Iterable[Symbol]) -> tuple[Branch, ...]:
    """The branches of the formulas over the free symbols: one, where none of their letters saturates over these."""
    return branches(saturating(step.letters.definitions, letters_of(cost)), free)


def on_branch(cost: Iterable[Cost], branch: Branch) -> tuple[Cost, ...]:
    """The costs with what the saturating symbols stand for on a branch."""
    return tuple(replace(one, flops=substitute(one.flops, branch.active), traffic=substitute(one.traffic, branch.active)) for one in cost)


def occurs(step: Step, cost: tuple[Cost, ...], x: Symbol) -> bool:
    """Whether the formulas mention the variable, or a symbol that saturates over it."""
    return x in letters_of(cost) | {symbols.P, symbols.BW} or len(branches_of(step, cost, [x])) > 1


def require(step: Step, part: str, cost: tuple[Cost, ...], variable: Variable, typed: str) -> None:
    """Raise unless the variable occurs.

    Raises
    ------
    InputError
        It does not; the message names those that do.
    """
    grouped = grouped_costs(cost, variable.symbol)
    if occurs(step, grouped, variable.symbol):
        return
    names = [symbols.VOCABULARY[letter].name for letter in sorted(letters_of(cost), key=str)]
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
    letters = letters_of(cost)
    if symbols.h in letters and symbols.k not in letters and cost[0].operator.space.sizes.get("k") in (None, symbols.h):
        raise InputError("group_size does not occur: this family has one KV head per query head, h = k; ask a grouped family such as llama")
    heads = {symbols.h: symbols.g * symbols.k}
    return tuple(Cost(one.operator, substitute(one.flops, heads), substitute(one.traffic, heads)) for one in cost)


def known_values(step: Step, device: Device | None, *free: Symbol) -> dict[Symbol, Expr]:
    """The numbers that are known, without those of the free variables and of what saturates over them.

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
    definitions = step.letters.definitions
    for symbol, definition in definitions.items():
        if symbol in saturating(definitions, definitions):
            if not definition.free_symbols & set(free):
                values[symbol] = substitute(definition, values)
            continue
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


def counts_blocks(cost: Iterable[Cost], *variables: Symbol) -> bool:
    """Whether a formula counts whole blocks of one of the variables."""
    return any(not atom.free_symbols.isdisjoint(variables) for one in cost for atom in (one.flops + one.traffic).atoms(ceiling))
