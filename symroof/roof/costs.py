"""FLOPs, traffic and peak of a part of a step, in letters and in numbers; and whether its tiles fit on chip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, NoReturn, cast

from sympy import Expr, Integer, Piecewise, S, Symbol, ceiling, oo

from symroof import symbols
from symroof.algebra.saturation import Branch, branches, formulas, minima, saturating
from symroof.architectures.step import Step
from symroof.errors import EinsumError, InputError, nearest, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import LATENCIES, RATE_SYMBOLS, SYMBOLIC, Machine
from symroof.operators import Ceilings, Direction, Kind, Level, Operator, Resource, Role, Storage
from symroof.operators.fusion import fuse
from symroof.operators.query_blocks import tile_bytes
from symroof.operators.select import attention as of_attention
from symroof.operators.select import by_name, select
from symroof.roof.ledger import Cost, amounts_of, levels_of, machine_of
from symroof.symbols import Values, Variable, lookup, substitute

TOTAL, WEIGHTS_AND_KV = "total", "weights-and-kv"
WIDTHS = (symbols.w, symbols.a, symbols.c, symbols.q_w, symbols.q_a, symbols.q_c, symbols.q_f)


def variable_of(step: Step, name: str | Symbol, *techniques: Any) -> Variable:
    """The variable a user means: ``seq_len`` is the context length in decode; a technique's own name for its parameter is its symbol.

    Raises
    ------
    InputError
        No symbol has that name or letter.
    """
    own = {
        each.name: each.metadata["symbol"]
        for one in (*step.symbolic.applied, *techniques)
        for each in fields(one)
        if "symbol" in each.metadata
    }
    try:
        known = lookup(name)
    except InputError:
        if str(name) not in own:
            raise
        known = lookup(own[str(name)])
    return lookup("context_len") if step.options.decode and known.symbol == symbols.s else known


def costs(step: Step, part: str, machine: Machine = SYMBOLIC) -> tuple[Cost, ...]:
    """The costs of a part of the step in letters.

    Parameters
    ----------
    part : an operator's name; several joined by "+", taken as fused; "total", all of them; or
        "weights-and-kv", the contractions with the traffic of weights and KV cache alone.
    machine : which resources there are; its rates do not matter.

    Raises
    ------
    EinsumError
        There is no such operator.
    """
    ceilings = step.symbolic.ceilings
    if part == TOTAL:
        return tuple(_cost(operator, count, ceilings, machine) for operator, count in step.symbolic)
    if part == WEIGHTS_AND_KV:
        return tuple(_large(operator, count, ceilings) for operator, count in step.symbolic if operator.kind is not Kind.EMBEDDING)
    operator, _ = fuse(step.symbolic, part.split("+"))
    return (_cost(operator, Integer(1), ceilings, machine),)


def costs_of(step: Step, part: str, machine: Machine = SYMBOLIC) -> tuple[Cost, ...]:
    """The costs of the whole step, or of an operator and of those a technique made of it: ``up_proj``, ``up_proj.first``.

    Several joined by + are told together, before a technique fuses them and after; "attention" is its steps, or the
    one operator in their place.

    Raises
    ------
    EinsumError
        There is no such operator.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> [cost.operator.name for cost in costs_of(step.apply("low-rank"), "up_proj")]
    ['up_proj.first', 'up_proj.second']
    """
    every = costs(step, TOTAL, machine)
    if part == TOTAL:
        return every
    chosen = {operator.name for operator in select(step.symbolic, of_attention if part == "attention" else by_name(part))}
    if not chosen:
        raise EinsumError(f"{quote(part)} is no operator of this step, nor made from one of that name")
    return tuple(cost for cost in every if cost.operator.name in chosen)


def in_full(expression: Expr, definitions: Values) -> Expr:
    """With formulas in the place of the symbols that stand for one over its whole range, so that two steps can be held against each other.

    >>> from symroof.algebra.unions import union
    >>> from symroof.symbols import E, K, X, b, d
    >>> in_full(X * d, {X: E * union(K / E, b)})
    E*d*(1 - (1 - K/E)**b)
    """
    return substitute(expression, formulas(definitions))


def _cost(operator: Operator, count: Expr, ceilings: Ceilings, machine: Machine) -> Cost:
    return Cost(operator, {resource: count * amount for resource, amount in amounts_of(operator, machine, ceilings).items()}, count)


def _large(operator: Operator, count: Expr, ceilings: Ceilings) -> Cost:
    """What grows to the whole of a large model: contractions; weights and KV cache read."""
    read = operator.byte_count(Storage.WEIGHT, Direction.READ) + operator.byte_count(Storage.KV_CACHE, Direction.READ)
    amounts = {
        Resource.COMPUTE: count * operator.contraction_flop_count / ceilings.compute,
        Resource.MEMORY: count * read / ceilings.factor(Level.MEMORY),
    }
    return Cost(operator, {resource: amount for resource, amount in amounts.items() if amount != 0}, count)


def symbols_of(cost: Iterable[Cost]) -> set[Symbol]:
    """The letters of the formulas."""
    return set().union(*(cast(set[Symbol], part.free_symbols) for part in parts_of(cost)))


def parts_of(cost: Iterable[Cost]) -> list[Expr]:
    """Every formula of the costs."""
    return [part for one in cost for part in (*one.amounts.values(), one.count)]


def branches_of(step: Step, cost: Sequence[Cost], free: Iterable[Symbol], values: Values | None = None) -> tuple[Branch, ...]:
    """The branches of the formulas over the free symbols: one, where none of their letters saturates over these."""
    definitions, parts = step.symbolic.definitions, [*parts_of(cost), *(one.operator.latency for one in cost)]
    found = branches({**saturating(definitions, symbols_of(cost)), **minima(parts)}, free, values)
    together = definitions.get(symbols.R)
    if not isinstance(together, Piecewise) or not any(symbols.R in one.active for one in found):
        return found
    passes = {atom: Integer(1) for part in parts for atom in part.atoms(ceiling) if atom.has(symbols.R)}
    return tuple(
        replace(one, active=passes | dict(one.active)) if one.active.get(symbols.R) == together.args[0].args[0] else one for one in found
    )


def on_branch(cost: Iterable[Cost], branch: Branch) -> tuple[Cost, ...]:
    """The costs with what the saturating symbols stand for on a branch."""
    return tuple(one.changed(lambda part: substitute(part, branch.active)) for one in cost)


def occurs(step: Step, cost: tuple[Cost, ...], x: Symbol) -> bool:
    """Whether the formulas mention the variable, or a symbol that follows from it."""
    rates = {RATE_SYMBOLS[resource] for one in cost for resource in one.amounts if resource in RATE_SYMBOLS}
    if x in symbols_of(cost) | {symbols.P, symbols.BW} | rates:
        return True
    found = branches_of(step, cost, [x])
    return len(found) > 1 or any(x in part.free_symbols for one in found for part in one.active.values())


def require(step: Step, part: str, cost: tuple[Cost, ...], variable: Variable, typed: str | Symbol) -> None:
    """Raise unless the variable occurs.

    Raises
    ------
    InputError
        It does not; the message names those that do.
    """
    grouped = grouped_costs(cost, variable.symbol)
    if occurs(step, grouped, variable.symbol):
        return
    names = [symbols.VOCABULARY[letter].name for letter in sorted(symbols_of(cost), key=str)]
    hint = nearest("", [*names, "peak", "bandwidth"])
    raise InputError(f"{quote(str(typed))} ({variable.symbol}) does not occur in {part} of {step.model} in {step.options.phase}; {hint}")


def grouped_costs(cost: tuple[Cost, ...], x: Symbol) -> tuple[Cost, ...]:
    """With ``h = g k`` in the place of the query heads, where the group size is the variable.

    Raises
    ------
    InputError
        The model has one KV head per query head: there are no groups to size.
    """
    if x != symbols.g:
        return cost
    letters = symbols_of(cost)
    if symbols.h in letters and symbols.k not in letters and cost[0].operator.space.sizes.get("k") in (None, symbols.h):
        raise InputError("group_size does not occur: this family has one KV head per query head, h = k; ask a grouped family such as llama")
    heads = {symbols.h: symbols.g * symbols.k}
    return tuple(one.changed(lambda part: substitute(part, heads)) for one in cost)


def rate_values(step: Step, machine: Machine, free: Iterable[Symbol] = ()) -> dict[Symbol, Expr]:
    """The numbers of the rates' letters, of the levels that the step moves bytes over and no technique gives a rate for.

    And those of the latencies of its collectives: none where the machine states none.
    """
    left = {*free, *step.symbolic.definitions}
    used = (Level.MEMORY, *levels_of(step.symbolic))
    rates = {letter: machine.rate(Resource(level)) for level in used if (letter := RATE_SYMBOLS[Resource(level)]) not in left}
    late = (letter for letter in LATENCIES if letter in step.symbolic.free_symbols and letter not in left)
    return rates | {letter: machine.latencies.get(letter, S.Zero) for letter in late}


def capacity_values(step: Step, device: Device) -> dict[Symbol, Expr]:
    """What the device states of the memories that FlashAttention's blocks follow from, and how many processors share the last.

    A device that states no cache shared by so many processors leaves the least traffic there can be: one pass over memory.
    """
    left = step.symbolic.definitions
    known: dict[Symbol, Expr] = {symbols.M: device.buffer} if device.buffer else {}
    if symbols.R in left and left[symbols.R].has(symbols.M_L):
        cache, processors = device.cache_capacity, device.processors
        if cache is None or processors is None:
            cache, processors = cast(Expr, oo), 1
        known |= {symbols.M_L: cache, symbols.n_c: Integer(processors)}
    return {symbol: value for symbol, value in known.items() if symbol not in left}


def known_values(step: Step, device: Device | None, *free: Symbol) -> dict[Symbol, Expr]:
    """The numbers that are known, without those of the free variables and of what saturates over them.

    Raises
    ------
    InputError
        The block rows of FlashAttention depend on the variable.
    """
    values = dict((step.with_widths(*free) if device else step).values)
    if symbols.h in values and symbols.k in values:
        values[symbols.g] = values[symbols.h] / values[symbols.k]
    if device:
        values |= rate_values(step, machine_of(step.symbolic, device, free=free), free) | capacity_values(step, device)
    told = saturating(step.symbolic.definitions, step.symbolic.definitions)
    definitions = {symbol: told.get(symbol, meant) for symbol, meant in step.symbolic.definitions.items()}
    values |= {symbol: meant for symbol, meant in definitions.items() if meant.is_number}
    for symbol, definition in definitions.items():
        if symbol in told:
            if symbols.g in free and {symbols.h, symbols.k} & definition.free_symbols:  # decided by the condition alone
                groups = {symbols.h: symbols.g * symbols.k, symbols.g: symbols.g}
                value = substitute(substitute(definition, groups), values | groups)
                values[symbol] = value if symbols.g not in value.free_symbols else _refuse_blocks(definition, symbols.g)
            elif not definition.free_symbols & set(free):
                values[symbol] = substitute(definition, values)
            continue
        heads = {symbols.g} if {symbols.h, symbols.k} & definition.free_symbols else set()
        for x in (definition.free_symbols | heads) & set(free):
            _refuse_blocks(definition, cast(Symbol, x))
        values[symbol] = substitute(definition, values)
    check_tiles(step, device, {symbol: value for symbol, value in values.items() if symbol not in free})
    grouped = {symbols.h} if symbols.g in free else set()  # h = g k moves with the group size
    return {symbol: value for symbol, value in values.items() if value.is_number and symbol not in grouped.union(free)}


def _refuse_blocks(definition: Expr, x: Symbol) -> NoReturn:
    name = symbols.VOCABULARY[x].name
    raise InputError(f"fused_attention counts blocks of R rows, and R depends on {name}: R = {definition}; no closed form over {name}")


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


def on_chip(step: Step) -> dict[Operator, Expr]:
    """Bytes of on-chip memory that the tiles of every fused attention take, in letters; none where no tile was given.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True).apply(symroof.technique("flash-attention:rows=128,keys=64"))
    >>> [str(need) for need in on_chip(step).values()]
    ['B_c*c*e/4 + B_r*a*e/4']
    """
    definitions = step.symbolic.definitions
    used = set(definitions).union(*(definition.free_symbols for definition in definitions.values()))
    if symbols.B_r not in used:
        return {}
    attention = (operator for operator, _ in step.symbolic if operator.role is Role.ATTENTION)
    return {operator: tile_bytes(operator, symbols.B_r, symbols.B_c).expand() for operator in attention}


def check_tiles(step: Step, device: Device | None, values: Values) -> None:
    """Raise where the tiles take more than the device's on-chip memory, as far as the numbers are known.

    Raises
    ------
    InputError
        They do; the message says how much, and the most rows that fit.
    """
    if device is None or device.buffer is None:
        return
    known = {symbols.B_c: Integer(1), **step.symbolic.definitions, **values}  # a row of keys is the least there can be
    for operator, formula in on_chip(step).items():
        need = substitute(formula, known)
        if need.is_number and need > device.buffer:
            sides = " x ".join(str(substitute(side, known)) for side in (symbols.B_r, symbols.B_c) if side in formula.free_symbols)
            raise InputError(
                f"{operator.name}: tiles of {sides} rows take {need} byte = {formula} on chip; {device.name} has {device.buffer}: expected "
                "fewer rows or keys"
            )
