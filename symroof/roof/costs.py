"""FLOPs, traffic and peak of a part of a step, in letters and in numbers: what crossovers are solved from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from sympy import Expr, Integer, Max, Min, S, Symbol, ceiling, floor

from symroof import symbols
from symroof.algebra.saturation import Branch, branches, minima, saturating
from symroof.architectures.step import Step
from symroof.errors import InputError, nearest, quote
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.operators.ceilings import Ceilings
from symroof.operators.facts import Kind
from symroof.operators.fusion import fuse
from symroof.operators.operator import Direction, Operator
from symroof.operators.tensor import Level, Storage
from symroof.roof.ceilings import BANDWIDTH, bandwidths, reached
from symroof.roof.tiles import check_tiles
from symroof.symbols import Values, Variable, lookup, substitute

TOTAL, WEIGHTS_AND_KV = "total", "weights-and-kv"
WIDTHS = (symbols.w, symbols.a, symbols.c, symbols.q_w, symbols.q_a, symbols.q_c, symbols.q_f)


@dataclass(frozen=True)
class Cost:
    """FLOPs and bytes of one operator with the number of times it occurs; `operator` decides the peak.

    Both are as the ceilings see them: over the share of the roof that is reached.

    Attributes
    ----------
    further : the bytes of the levels other than memory.
    """

    operator: Operator
    flops: Expr
    traffic: Expr
    further: tuple[tuple[Level, Expr], ...] = ()
    count: Expr = S.One

    def changed(self, how: Callable[[Expr], Expr]) -> Cost:
        """The same with other formulas."""
        further = tuple((level, how(part)) for level, part in self.further)
        return replace(self, flops=how(self.flops), traffic=how(self.traffic), further=further, count=how(self.count))


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
    ceilings, formulas = step.symbolic.ceilings, inline_definitions(step.symbolic.definitions)
    if part == TOTAL:
        found = tuple(_times(operator, count, ceilings) for operator, count in step.symbolic)
    elif part == WEIGHTS_AND_KV:
        found = tuple(_large(operator, count, ceilings) for operator, count in step.symbolic if operator.kind is not Kind.EMBEDDING)
    else:
        operator, _ = fuse(step.symbolic, part.split("+"))
        found = (_times(operator, Integer(1), ceilings),)
    return tuple(one.changed(lambda formula: substitute(formula, formulas)) for one in found) if formulas else found


def inline_definitions(definitions: Values) -> dict[Symbol, Expr]:
    """The definitions that are one formula over their whole range: costs have it in the place of the symbol.

    >>> from sympy import Min
    >>> from symroof.symbols import E, K, X, b, alpha
    >>> inline_definitions({X: E * (1 - (1 - K / E) ** b), alpha: Integer(1) / 2})
    {X: E*(1 - (1 - K/E)**b)}
    >>> inline_definitions({X: Min(E, K * b)})
    {}
    """
    return {
        symbol: definition
        for symbol, definition in definitions.items()
        if definition.free_symbols and not definition.has(ceiling, floor, Min, Max)
    }


def _times(operator: Operator, count: Expr, ceilings: Ceilings) -> Cost:
    moved = {level: count * operator.byte_count(level=level) / reached(operator, level, ceilings) for level in operator.levels}
    traffic = moved.pop(Level.MEMORY, Integer(0))
    return Cost(operator, count * operator.flop_count / (ceilings.compute * operator.occupancy), traffic, tuple(moved.items()), count)


def _large(operator: Operator, count: Expr, ceilings: Ceilings) -> Cost:
    """What grows to the whole of a large model: contractions; weights and KV cache read."""
    flops = operator.contraction_flop_count
    read = operator.byte_count(Storage.WEIGHT, Direction.READ) + operator.byte_count(Storage.KV_CACHE, Direction.READ)
    return Cost(operator, count * flops / ceilings.compute, count * read / ceilings.factor(Level.MEMORY))


def letters_of(cost: Iterable[Cost]) -> set[Symbol]:
    """The letters of the formulas."""
    return set().union(*(cast(set[Symbol], part.free_symbols) for part in parts_of(cost)))


def parts_of(cost: Iterable[Cost]) -> list[Expr]:
    """Every formula of the costs."""
    return [part for one in cost for part in (one.flops, one.traffic, one.count, *(moved for _, moved in one.further))]


def branches_of(step: Step, cost: Sequence[Cost], free: Iterable[Symbol], values: Values | None = None) -> tuple[Branch, ...]:
    """The branches of the formulas over the free symbols: one, where none of their letters saturates over these."""
    return branches({**saturating(step.symbolic.definitions, letters_of(cost)), **minima(parts_of(cost))}, free, values)


def on_branch(cost: Iterable[Cost], branch: Branch) -> tuple[Cost, ...]:
    """The costs with what the saturating symbols stand for on a branch."""
    return tuple(one.changed(lambda part: substitute(part, branch.active)) for one in cost)


def occurs(step: Step, cost: tuple[Cost, ...], x: Symbol) -> bool:
    """Whether the formulas mention the variable, or a symbol that saturates over it."""
    further = {BANDWIDTH[level] for one in cost for level, _ in one.further}
    return x in letters_of(cost) | {symbols.P, symbols.BW} | further or len(branches_of(step, cost, [x])) > 1


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
    return tuple(one.changed(lambda part: substitute(part, heads)) for one in cost)


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
        values |= bandwidths(step.symbolic, device, free) | ({symbols.M: device.buffer} if device.buffer else {})
    formulas = inline_definitions(step.symbolic.definitions)
    definitions = {symbol: substitute(meant, formulas) for symbol, meant in step.symbolic.definitions.items() if symbol not in formulas}
    values |= {symbol: meant for symbol, meant in definitions.items() if meant.is_number}
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
    check_tiles(step, device, {symbol: value for symbol, value in values.items() if symbol not in free})
    return {symbol: value for symbol, value in values.items() if value.is_number and symbol not in free}


def require_two_ceilings(step: Step, what: str) -> None:
    """Raise where a technique gives the step other ceilings than compute and memory of one device.

    Raises
    ------
    InputError
        It does.
    """
    plain = all(operator.unit is None and operator.latency == 0 and set(operator.levels) <= {Level.MEMORY} for operator, _ in step.symbolic)
    if not plain or step.symbolic.ceilings.launch != 0 or not step.symbolic.ceilings.overlap:
        raise InputError(
            f"{what} is told for compute and memory of one device; with {' and '.join(step.techniques)} there are other ceilings"
        )


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


def lowest(variable: Variable) -> Expr:
    """Where the range of a variable starts: 1 where it counts, 0 (left out) where it measures."""
    return Integer(1) if variable.domain == "integer" else Integer(0)
