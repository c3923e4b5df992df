"""The crossover of an operator, a fused group or a whole step in one variable, on a device or symbolic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from sympy import Add, And, Expr, Ge, Integer, S, Symbol, ceiling, true
from sympy.logic.boolalg import Boolean

from symroof import symbols
from symroof.algebra.envelope import envelope
from symroof.algebra.piecewise import Piece, Piecewise
from symroof.algebra.saturation import Branch
from symroof.algebra.tile_counting import counted_intervals
from symroof.architectures.step import Step
from symroof.errors import EinsumError, InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import RATE_SYMBOLS, STATED, Machine
from symroof.operators import Kind, Level, Resource, Storage
from symroof.questions.crossover import Crossover, CrossoverBranch, Crossovers, crossover_of, slack_of
from symroof.roof.costs import (
    TOTAL,
    WEIGHTS_AND_KV,
    WIDTHS,
    branches_of,
    costs,
    counts_blocks,
    grouped_costs,
    known_values,
    on_branch,
    require,
    variable_of,
)
from symroof.roof.intervals import CostInterval, branches_over, cost_intervals, numeric_operator, seconds, without_counts
from symroof.roof.kernel_forms import SHARES, constants_of
from symroof.roof.ledger import WORK, Cost, device_of, machine_of, roof_of
from symroof.symbolic import replaced
from symroof.symbols import VOCABULARY, Variable, substitute
from symroof.units import typed


def crossover(
    step: Step, operator: str, *, over: str | Symbol, hardware: Device | str | Path | None = None, ceilings: str = STATED
) -> Crossover:
    """Where the bound of an operator, a group or the step changes in one variable.

    Parameters
    ----------
    step : from `Model.prefill` or `Model.decode`, with the values of the other variables.
    operator : a name; names joined by "+", taken as one fused operator; "total", the whole step's
        FLOPs against its bytes; "weights-and-kv", the contractions against only weights and KV cache.
    over : the variable, by name or symbol; ``seq_len`` is the context length in decode.
    hardware : the device; None leaves the peak P and the bandwidth BW symbolic.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Returns
    -------
    The symbolic formula, and exact numbers if all other variables have values.

    Raises
    ------
    InputError
        The variable is unknown or does not occur, or there is no closed form in it.
    EinsumError
        There is no such operator.

    >>> import symroof
    >>> answer = symroof.crossover(symroof.load_model("llama-2-7b").decode(), "qk_matmul", over="batch")
    >>> answer.verdict, answer.condition, answer.solution.otherwise
    ('always-memory', 16*BW*e*h*t < P*a*e*h + P*a*h*t + P*c*e*k*t, 'always-compute')
    """
    variable, device = variable_of(step, over), device_of(hardware)
    step = step.without(variable.symbol)
    machine = machine_of(step.symbolic, device, ceilings, [variable.symbol], step.options.accounting)
    cost = costs(step, operator, machine)
    if all(one.flops == 0 and one.traffic == 0 for one in cost):
        raise InputError(f"{operator} only moves bytes over the {cost[0].further[0]}: it has one ceiling, and no crossover")
    require(step, operator, cost, variable, over)
    return _crossover(step, operator, cost, variable, known_values(step, device, variable.symbol), device, machine)


def crossovers(step: Step, *, over: str | Symbol, hardware: Device | str | Path | None = None, ceilings: str = STATED) -> Crossovers:
    """The crossover of every operator of the step; "always" for operators whose bound does not depend on the variable.

    >>> import symroof
    >>> answers = symroof.crossovers(symroof.load_model("llama-2-7b").decode(), over="batch")
    >>> [answer.operator for answer in answers if answer.verdict == "crosses"][:3]
    ['attn_norm', 'q_proj', 'k_proj']

    Raises
    ------
    InputError
        The variable occurs in no operator.
    """
    variable, device = variable_of(step, over), device_of(hardware)
    step = step.without(variable.symbol)
    machine = machine_of(step.symbolic, device, ceilings, [variable.symbol], step.options.accounting)
    require(step, TOTAL, costs(step, TOTAL, machine), variable, over)
    values = known_values(step, device, variable.symbol)
    names = dict.fromkeys(op.name for op, _ in step.symbolic if op.flop_count != 0 or op.byte_count() != 0)
    return Crossovers(tuple(_crossover(step, name, costs(step, name, machine), variable, values, device, machine) for name in names))


def _crossover(
    step: Step, name: str, cost: Sequence[Cost], variable: Variable, values: dict[Symbol, Expr], device: Device | None, machine: Machine
) -> Crossover:
    x = variable.symbol
    cost = grouped_costs(tuple(cost), x)
    found = branches_over(step, cost, variable, values)
    blocks = [counts_blocks(on_branch(cost, span), x) for span in found]
    sizes = {symbol: value for symbol, value in values.items() if symbol in MODEL_SIZES} if len(cost) > 1 else {}
    divided = [*cost_intervals(step, machine, variable, values, cost, found)]
    slack, intervals, resources = _intervals(divided, x, values, machine)
    chosen = _decisive(found, intervals)
    level = _level(cost)
    letters = [_symbolic(on_branch(cost, span), level, counted, sizes) for span, counted in zip(found, blocks, strict=True)]
    shares = _shares(cost, values, machine)
    known = {letter: value for letter, value in shares.values() if letter != x}
    known |= _peak(step, cost, x, values, machine, intervals)
    reached = {resource: letter for resource, (letter, _) in shares.items()}
    peak = symbols.P * reached.get(Resource.COMPUTE, S.One)
    (flops, traffic), bandwidth = letters[chosen], RATE_SYMBOLS[Resource(level)] * reached.get(Resource(level), S.One)
    others = tuple(_others(found, [flops * bandwidth - traffic * peak for flops, traffic in letters], x, chosen))
    where = None if found[chosen].where == true else found[chosen].where
    beside = next(iter(cost)).traffic
    if level is not Level.MEMORY and beside != 0:
        slower = Ge(traffic * symbols.BW, beside * bandwidth)
        where = cast(Boolean, slower if where is None else And(where, slower))
    defined = [f"{x} = {typed(meant, VOCABULARY[x].unit)}" for x, meant in step.symbolic.definitions.items() if (flops + traffic).has(x)]
    statements = (*step.statements, *defined, *_said(name, blocks[chosen], device, level))
    numbers = {"seconds": slack, "pieces": intervals, "resource_pieces": resources}
    branch = {"where": where, "others": others}
    asked = {"statements": statements, "step": step, "device": device}
    return Crossover(name, variable, flops, traffic, peak, bandwidth, {**values, **known}, **asked, **numbers, **branch)


def _peak(
    step: Step, cost: Sequence[Cost], x: Symbol, values: dict[Symbol, Expr], machine: Machine, pieces: Sequence[Piece]
) -> dict[Symbol, Expr]:
    """The peak that applies, of matrix work if there is some, at the crossover; none where operators run in several data types."""
    if x == symbols.P or not machine.name or (x in WIDTHS and not pieces):
        return {}
    at = {x: pieces[0].high if len(pieces) > 1 else pieces[0].low} if x in WIDTHS else {}
    graph = step.symbolic.without_values(x).bind({**values, **at})
    matrix = [entry for entry in cost if entry.operator.contraction_flop_count != 0]
    peaks = {machine.rates[Resource.VECTOR]} if not matrix and Resource.VECTOR in machine.rates else set[Expr]()
    with suppress(EinsumError):  # a width is a symbol
        peaks = peaks or {roof_of(graph, numeric_operator(graph, entry.operator.name), machine)[1] for entry in matrix or cost}
    return {symbols.P: peaks.pop()} if len(peaks) == 1 else {}


def _shares(cost: Sequence[Cost], values: dict[Symbol, Expr], machine: Machine) -> dict[Resource, tuple[Symbol, Expr]]:
    """The symbols and values of the shares of rates that a calibrated kernel reaches; for a single operator.

    How its times combine does not matter: ceilings cross at the same point under a maximum or a norm.
    """
    constants = constants_of(cost[0].operator.bind(values), machine) if len(cost) == 1 and machine.calibration else None
    return {} if constants is None else {resource: (letter, constants[letter]) for resource, letter in SHARES[constants.kernel].items()}


def _others(found: Sequence[Branch], slacks: Sequence[Expr], x: Symbol, chosen: int) -> Iterator[CrossoverBranch]:
    """The branches other than the chosen one that have a symbolic answer."""
    for place, (branch, slack) in enumerate(zip(found, slacks, strict=True)):
        if place != chosen:
            with suppress(InputError):
                yield CrossoverBranch(branch.where, slack_of(slack, x))


def _decisive(found: Sequence[Branch], intervals: Sequence[Piece]) -> int:
    """The branch that contains the last numeric crossover.

    Without a crossover, the branch of large values; for FlashAttention the branch on which keys and values fit the cache.
    """
    if len(intervals) < 2:
        return 0 if symbols.R in found[0].active else len(found) - 1
    return max(place for place, span in enumerate(found) if span.low <= intervals[-1].low)


def _level(cost: Sequence[Cost]) -> Level:
    """The level of the formula: one that only this operator crosses, otherwise memory."""
    further = [level for one in cost for level in one.further]
    return further[0] if len(cost) == 1 and further else Level.MEMORY


def _symbolic(cost: Sequence[Cost], level: Level, blocks: bool, sizes: dict[Symbol, Expr]) -> tuple[Expr, Expr]:
    """FLOPs and bytes of a level for the formula, with whole blocks: ``ceil(s / R) = s / R``."""
    flops, traffic = Add(*[one.flops for one in cost]), Add(*[one.amounts.get(Resource(level), S.Zero) for one in cost])
    if blocks:
        flops, traffic = (replaced(part, ceiling, lambda inner: inner) for part in (flops, traffic))
    return substitute(flops, sizes), substitute(traffic, sizes)


INPUTS = {symbols.b, symbols.s, symbols.t, symbols.t_w, symbols.t_i, symbols.t_j, symbols.X, symbols.w, symbols.a, symbols.c}
MODEL_SIZES = frozenset(symbols.VOCABULARY) - INPUTS - {symbols.P, symbols.BW, symbols.M, symbols.R}
"""Dimensions fixed by the model; in a formula of the whole step these are numbers, to keep it readable."""


def _intervals(
    divided: Sequence[CostInterval], x: Symbol, values: dict[Symbol, Expr], machine: Machine
) -> tuple[Piecewise | None, tuple[Piece, ...], tuple[Piece, ...]]:
    """Seconds of the slowest unit minus those of the slowest level, the intervals by bound, and the intervals by resource.

    There is no formula if blocks are counted, and nothing if a symbol is left on an interval.
    """
    slack: list[Piece] | None = []
    bounds: list[Piece] = []
    resources: list[Piece] = []
    for interval in divided:
        if not (interval.low.is_number and interval.high.is_number):
            return None, (), ()
        total = without_counts(seconds(interval.graph, interval.cost, values, machine), x, interval.low, interval.high)
        if any(x in atom.free_symbols for taken in total.values() for atom in taken.atoms(ceiling)):
            counted = _counted(interval, total, x)
            if counted is None:
                return None, (), ()
            slack, bounds, resources = None, [*bounds, *counted], [*resources, *counted]
            continue
        pieces = _slack(interval, total, x)
        if pieces is None:
            return None, (), ()
        signs = Piecewise(x, tuple(pieces)).signs().pieces
        bounds += signs
        several = len(total) > 2 and all(taken.free_symbols <= {x} for taken in total.values())
        resources += envelope(x, interval.low, interval.high, total).pieces if several else signs
        slack = None if slack is None else [*slack, *pieces]
    binding = Piecewise(x, tuple(resources)).merged().pieces
    if slack is None:
        return None, Piecewise(x, tuple(bounds)).merged().pieces, binding
    whole = Piecewise(x, tuple(slack))
    return whole, tuple(bounds) if len(divided) == 1 else whole.signs().pieces, binding


def _slack(interval: CostInterval, total: dict[Resource, Expr], x: Symbol) -> Sequence[Piece] | None:
    """Seconds of the slowest unit minus those of the slowest level, on an interval; None if it depends on a symbol."""
    work, moved = ({resource: taken for resource, taken in total.items() if (resource in WORK) is side} for side in (True, False))
    if {symbol for value in total.values() for symbol in value.free_symbols} - {x}:
        if len(work) > 1 or len(moved) > 1:
            return None
        sign = slack_of(Add(*work.values()) - Add(*moved.values()), x)  # common symbols cancel
        return [Piece(interval.low, interval.high, sign.as_expr(), None)] if sign.is_bound else None
    slowest, level = (envelope(x, interval.low, interval.high, entries) for entries in (work, moved))
    return (slowest - level).pieces


def _counted(interval: CostInterval, total: dict[Resource, Expr], x: Symbol) -> Sequence[Piece] | None:
    """The intervals of whole numbers with one bound each; None if a symbol is left."""
    if set().union(*(taken.free_symbols for taken in total.values())) != {x}:
        return None
    work, moved = ([taken for resource, taken in total.items() if (resource in WORK) is side] for side in (True, False))
    return counted_intervals(x, interval.low, interval.high, work, moved)


def _said(name: str, blocks: bool, device: Device | None, level: Level) -> list[str]:
    lines = []
    if level is not Level.MEMORY:
        lines.append(
            f"the formula compares FLOPs with the bytes over the {level} ({RATE_SYMBOLS[Resource(level)]}); "
            "the numbers use the slower of it and memory"
        )
    if blocks:
        lines.append("the formula is for whole blocks, s a multiple of R; the numbers count blocks exactly, for whole s")
    if name == TOTAL:
        lines.append("total: the step's FLOPs at the peak against all its bytes, with perfect overlap; the formula has a single peak P")
    if name == WEIGHTS_AND_KV:
        lines.append("weights-and-kv: reads of weights and KV cache, without the embedding table, against the contractions")
    if device is None:
        lines.append("one peak P and bandwidth BW for all operators")
    return lines


def token_budget(step: Step, operator: str = "total", *, hardware: Device | str | Path | None = None, ceilings: str = STATED) -> Crossover:
    """The number of tokens per step b* at which linear layers become compute-bound, regardless of which sequences they come from.

    A decode step of b sequences has b tokens, a mixed step ``b + b_p s_k``. Linear operators do not distinguish them, so a
    chunk of ``(b* - b) / b_p`` tokens makes a step of b sequences compute-bound.

    Parameters
    ----------
    step : a decode step; its batch is ignored.
    operator : a linear operator; "total" takes all contractions with weights together, with the model's dimensions.

    Raises
    ------
    InputError
        The step is not a decode step, or the operator reads no weights.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> token_budget(step, "up_proj", hardware="a100-sxm-80gb").first_integer
    162
    >>> token_budget(step, hardware="a100-sxm-80gb").first_integer
    163
    """
    if not step.options.decode:
        raise InputError("token budget: expected a decode step, whose tokens are its batch")
    linear = [one for one in costs(step, "total") if _linear(one) and operator in ("total", one.operator.name)]
    if not linear:
        raise InputError(f"token budget: {operator} is not a contraction with a weight")
    found = branches_of(step, linear, [symbols.b])
    linear = [*on_branch(linear, found[0])] if len(found) == 1 else linear  # experts that are expected follow from the tokens
    device = device_of(hardware)
    values = known_values(step, device, symbols.b)
    sizes = {symbol: value for symbol, value in values.items() if symbol not in (symbols.BW, symbols.w, symbols.a, symbols.c)}
    if operator == "total":
        linear = [one.changed(lambda formula: substitute(formula, sizes)) for one in linear]
    flops, traffic = Add(*(one.flops for one in linear)), Add(*(one.traffic for one in linear))
    peak: Expr = symbols.P
    if device:
        graph = step.symbolic.bind(values)
        machine = machine_of(step.symbolic, device, ceilings)
        peaks = {roof_of(graph, numeric_operator(graph, one.operator.name), machine)[1] for one in linear}
        if len(peaks) > 1:
            raise InputError("token budget: linear operators run under several peaks; choose one operator")
        values[symbols.P] = peaks.pop()
    answer = crossover_of(operator, symbols.b, (flops, traffic, peak, symbols.BW), values, low=Integer(1))
    return replace(answer, statements=step.statements, step=step, device=device)


def _linear(one: Cost) -> bool:
    reads = one.operator.reads
    return one.operator.kind is Kind.MATMUL and any(access.tensor.storage is Storage.WEIGHT for access in reads)
