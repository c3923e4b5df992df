"""FLOPs, traffic and peak of an operator or of the step, symbolic and numeric; and whether tiles fit on chip."""

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
from symroof.roof.ledger import Cost, amounts_of, machine_of
from symroof.symbols import Values, Variable, lookup, substitute

TOTAL, WEIGHTS_AND_KV = "total", "weights-and-kv"
WIDTHS = (symbols.w, symbols.a, symbols.c, symbols.q_w, symbols.q_a, symbols.q_c, symbols.q_f)


def named_variable(name: str | Symbol, techniques: Iterable[Any]) -> Variable:
    """The variable of a name: its own, or the one that a technique has for its parameter; of several, one without a number.

    >>> from symroof.techniques.registry import chain
    >>> named_variable("share", chain(["offload", "prefix-cache:share=1/2"])).name
    'offloaded_share'

    Raises
    ------
    InputError
        There is no variable with this name or symbol.
    """
    try:
        return lookup(name)
    except InputError:
        own = [
            (getattr(technique, parameter.name), parameter.metadata["symbol"])
            for technique in techniques
            for parameter in fields(technique)
            if parameter.name == str(name).replace("-", "_") and "symbol" in parameter.metadata
        ]
        if not own:
            raise
        return lookup(next((symbol for value, symbol in own if value == symbol), own[-1][1]))


def variable_of(step: Step, name: str | Symbol, *techniques: Any) -> Variable:
    """The variable that a user names, as `named_variable` finds it; ``seq_len`` is the context length in decode."""
    known = named_variable(name, (*step.symbolic.applied, *techniques))
    return lookup("context_len") if step.options.decode and known.symbol == symbols.s else known


def costs(step: Step, part: str, machine: Machine = SYMBOLIC) -> tuple[Cost, ...]:
    """The symbolic costs of an operator or of the whole step.

    Parameters
    ----------
    part : an operator's name; several joined by "+", taken as fused; "total", all of them; or
        "weights-and-kv", the contractions with only the traffic of weights and KV cache.
    machine : the machine whose resources count; its rates do not matter.

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
    """The costs of the whole step, or of an operator and those that techniques derived from it: ``up_proj``, ``up_proj.first``.

    Several operators joined by + are taken together, whether or not a technique has fused them; "attention" is all
    operators of attention, or the fused one.

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
        raise EinsumError(f"{quote(part)} is not an operator of this step, nor does one derive from it")
    return tuple(cost for cost in every if cost.operator.name in chosen)


def in_full(expression: Expr, definitions: Values) -> Expr:
    """The expression with symbols replaced by their definitions where these are single formulas, so that two steps can be compared.

    >>> from symroof.algebra.unions import union
    >>> from symroof.symbols import E, K, X, b, d
    >>> in_full(X * d, {X: E * union(K / E, b)})
    E*d*(1 - (1 - K/E)**b)
    """
    return substitute(expression, formulas(definitions))


def _cost(operator: Operator, count: Expr, ceilings: Ceilings, machine: Machine) -> Cost:
    return Cost(operator, {resource: count * amount for resource, amount in amounts_of(operator, machine, ceilings).items()}, count)


def _large(operator: Operator, count: Expr, ceilings: Ceilings) -> Cost:
    """The terms that dominate in a large model: FLOPs of contractions, reads of weights and KV cache."""
    read = operator.byte_count(Storage.WEIGHT, Direction.READ) + operator.byte_count(Storage.KV_CACHE, Direction.READ)
    amounts = {
        Resource.COMPUTE: count * operator.contraction_flop_count / ceilings.compute,
        Resource.MEMORY: count * read / ceilings.factor(Level.MEMORY),
    }
    return Cost(operator, {resource: amount for resource, amount in amounts.items() if amount != 0}, count)


def symbols_of(cost: Iterable[Cost]) -> set[Symbol]:
    """The symbols of the formulas."""
    return set().union(*[cast(set[Symbol], part.free_symbols) for part in parts_of(cost)])


def parts_of(cost: Iterable[Cost]) -> list[Expr]:
    """Every formula of the costs."""
    return [part for entry in cost for part in (*entry.amounts.values(), entry.count)]


def branches_of(step: Step, cost: Sequence[Cost], free: Iterable[Symbol], values: Values | None = None) -> tuple[Branch, ...]:
    """The branches of the formulas over the free symbols; a single one if nothing saturates over these."""
    definitions, parts = step.symbolic.definitions, [*parts_of(cost), *[entry.operator.latency for entry in cost]]
    branched = branches({**saturating(definitions, symbols_of(cost)), **minima(parts)}, free, values)
    positions = definitions.get(symbols.R)
    if not isinstance(positions, Piecewise) or not any(symbols.R in branch.active for branch in branched):
        return branched
    passes = {atom: Integer(1) for part in parts for atom in part.atoms(ceiling) if atom.has(symbols.R)}
    return tuple(
        replace(branch, active=passes | dict(branch.active)) if branch.active.get(symbols.R) == positions.args[0].args[0] else branch
        for branch in branched
    )


def on_branch(cost: Iterable[Cost], branch: Branch) -> tuple[Cost, ...]:
    """The costs on a branch, with the active argument of each minimum."""
    if not branch.active:
        return tuple(cost)
    return tuple([entry.changed(lambda part: substitute(part, branch.active)) for entry in cost])


def occurs(step: Step, cost: tuple[Cost, ...], x: Symbol) -> bool:
    """Whether the formulas contain the variable, or a symbol that depends on it."""
    rates = {RATE_SYMBOLS[resource] for entry in cost for resource in entry.amounts if resource in RATE_SYMBOLS}
    if x in symbols_of(cost) | {symbols.P, symbols.BW} | rates:
        return True
    branched = branches_of(step, cost, [x])
    return len(branched) > 1 or any(x in part.free_symbols for branch in branched for part in branch.active.values())


def require(step: Step, part: str, cost: tuple[Cost, ...], variable: Variable, typed: str | Symbol) -> None:
    """Raise an InputError if the variable does not occur; the message names the variables that do."""
    grouped = grouped_costs(cost, variable.symbol)
    if occurs(step, grouped, variable.symbol):
        return
    names = [symbols.VOCABULARY[letter].name for letter in sorted(symbols_of(cost), key=str)]
    hint = nearest("", [*names, "peak", "bandwidth"])
    raise InputError(f"{quote(str(typed))} ({variable.symbol}) does not occur in {part} of {step.model} in {step.options.phase}; {hint}")


def grouped_costs(cost: tuple[Cost, ...], x: Symbol) -> tuple[Cost, ...]:
    """The costs with ``h = g k`` query heads, if the group size is the variable.

    Raises
    ------
    InputError
        The model has one KV head per query head, so there are no groups.
    """
    if x != symbols.g:
        return cost
    used = symbols_of(cost)
    if symbols.h in used and symbols.k not in used and cost[0].operator.space.sizes.get("k") in (None, symbols.h):
        raise InputError("group_size does not occur: this family has one KV head per query head, h = k; ask a grouped family such as llama")
    heads = {symbols.h: symbols.g * symbols.k}
    return tuple(entry.changed(lambda part: substitute(part, heads)) for entry in cost)


def rate_values(step: Step, machine: Machine, free: Iterable[Symbol] = ()) -> dict[Symbol, Expr]:
    """The machine's rates, by symbol, for the levels that the step uses and for which no technique gives a rate.

    Includes the latencies of its collectives, zero if the machine states none.
    """
    left = {*free, *step.symbolic.definitions}
    used = (Level.MEMORY, *step.symbolic.levels)
    rates = {letter: machine.rate(Resource(level)) for level in used if (letter := RATE_SYMBOLS[Resource(level)]) not in left}
    late = (letter for letter in LATENCIES if letter in step.symbolic.free_symbols and letter not in left)
    return rates | {letter: machine.latencies.get(letter, S.Zero) for letter in late}


def capacity_values(step: Step, device: Device) -> dict[Symbol, Expr]:
    """The device's buffer, last-level cache and processors, which determine the traffic of FlashAttention.

    If the device does not state them, the least possible traffic applies: one pass over memory.
    """
    left = step.symbolic.definitions
    known: dict[Symbol, Expr] = {symbols.M: device.buffer_expr} if device.buffer_expr else {}
    if symbols.R in left and left[symbols.R].has(symbols.M_L):
        cache, processors = device.cache_capacity_expr, device.processors
        if cache is None or processors is None:
            cache, processors = cast(Expr, oo), 1
        known |= {symbols.M_L: cache, symbols.n_c: Integer(processors)}
    return {symbol: value for symbol, value in known.items() if symbol not in left}


def known_values(step: Step, device: Device | None, *free: Symbol) -> dict[Symbol, Expr]:
    """The known values, without the free variables and the symbols that saturate over them.

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
    formulas = saturating(step.symbolic.definitions, step.symbolic.definitions)
    definitions = {symbol: formulas.get(symbol, meant) for symbol, meant in step.symbolic.definitions.items()}
    values |= {symbol: meant for symbol, meant in definitions.items() if meant.is_number}
    for symbol, definition in definitions.items():
        if symbol in formulas:
            if symbols.g in free and {symbols.h, symbols.k} & definition.free_symbols:  # only the condition decides
                groups = {symbols.h: symbols.g * symbols.k, symbols.g: symbols.g}
                value = substitute(substitute(definition, groups), values | groups)
                values[symbol] = value if symbols.g not in value.free_symbols else _refuse_blocks(definition, symbols.g)
            elif not definition.free_symbols & set(free):
                values[symbol] = substitute(definition, values)
            continue
        heads = {symbols.g} if {symbols.h, symbols.k} & definition.free_symbols else set()
        for x in (definition.free_symbols | heads) & set(free):
            if symbol != symbols.R:
                raise InputError(f"{symbol} = {definition}: no closed form over {symbols.VOCABULARY[x].name}")
            _refuse_blocks(definition, cast(Symbol, x))
        values[symbol] = substitute(definition, values)
    check_tiles(step, device, {symbol: value for symbol, value in values.items() if symbol not in free})
    grouped = {symbols.h} if symbols.g in free else set()  # h = g k moves with the group size
    return {symbol: value for symbol, value in values.items() if value.is_number and symbol not in grouped.union(free)}


def _refuse_blocks(definition: Expr, x: Symbol) -> NoReturn:
    name = symbols.VOCABULARY[x].name
    raise InputError(f"fused_attention counts blocks of R rows, and R depends on {name}: R = {definition}; no closed form over {name}")


def require_two_ceilings(step: Step, what: str) -> None:
    """Raise an InputError if techniques add ceilings other than compute and memory of one device."""
    plain = all(operator.unit is None and operator.latency == 0 for operator, _ in step.symbolic)
    if not plain or {*step.symbolic.levels} - {Level.MEMORY} or step.symbolic.ceilings.launch != 0 or not step.symbolic.ceilings.overlap:
        raise InputError(f"{what} supports only compute and memory of one device; further ceilings come from {', '.join(step.techniques)}")


def needed(missing: Iterable[object]) -> str:
    """The beginning of an error message that lists the inputs to give as numbers.

    >>> needed([symbols.b, symbols.t])
    'batch and seq_len must be given as numbers'
    """
    names = sorted({symbols.option_name(cast(Symbol, symbol)) for symbol in missing})
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{listed} must be given as {'numbers' if len(names) > 1 else 'a number'}"


def counts_blocks(cost: Iterable[Cost], *variables: Symbol) -> bool:
    """Whether a formula rounds up a number of blocks that depends on one of the variables."""
    return any(not atom.free_symbols.isdisjoint(variables) for entry in cost for atom in (entry.flops + entry.traffic).atoms(ceiling))


def lowest(variable: Variable) -> Expr:
    """The lower end of a variable's range: 1 for integers, 0 (exclusive) for reals."""
    return Integer(1) if variable.domain == "integer" else Integer(0)


def on_chip(step: Step) -> dict[Operator, Expr]:
    """Bytes of on-chip memory that the tiles of every fused attention take, symbolic; empty if no tile is given.

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
    """Raise an InputError if the tiles exceed the device's on-chip memory; the message says by how much, and which rows fit."""
    if device is None or (buffer := device.buffer_expr) is None:
        return
    known = {symbols.B_c: Integer(1), **step.symbolic.definitions, **values}  # at least one row of keys
    for operator, formula in on_chip(step).items():
        need = substitute(formula, known)
        if need.is_number and need > buffer:
            sides = " x ".join(str(substitute(side, known)) for side in (symbols.B_r, symbols.B_c) if side in formula.free_symbols)
            raise InputError(
                f"{operator.name}: tiles of {sides} rows take {need} byte = {formula} on chip; {device.name} has {buffer}: expected "
                "fewer rows or keys"
            )
