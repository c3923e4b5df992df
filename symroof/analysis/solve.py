"""The crossover of an operator, a fused group or a whole step in one variable, on a device or in letters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sympy import Add, Expr, Symbol, ceiling

from symroof import symbols
from symroof.analysis.blocks import counted_intervals
from symroof.analysis.costs import (
    TOTAL,
    WEIGHTS_AND_KV,
    Cost,
    bound_operator,
    costs,
    counts_blocks,
    device_of,
    grouped_costs,
    known_values,
    peak_of,
    require,
    stretches,
    variable_of,
)
from symroof.analysis.crossover import Crossover
from symroof.analysis.intervals import Interval, Piece
from symroof.analysis.polynomial import polynomial
from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.operators.graph import Graph
from symroof.symbols import Variable, replaced, substitute


def crossover(step: Step, operator: str, *, over: str, hardware: Device | str | Path | None = None) -> Crossover:
    """Where the bound of a part of the step changes in one variable.

    Parameters
    ----------
    step : from `Model.prefill` or `Model.decode`; its numbers bind the other variables.
    operator : a name; names joined by "+", taken as one fused operator; "total", the whole step's
        FLOPs against its bytes; "weights-and-kv", the contractions against weights and KV cache alone.
    over : the variable's name or letter; ``seq_len`` is the context length in decode.
    hardware : peak and bandwidth; None leaves them P and BW.

    Returns
    -------
    The formula in letters, and where all else is bound, exact numbers.

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
    variable = variable_of(step, over)
    cost = costs(step, operator)
    require(step, operator, cost, variable, over)
    return _crossover(step, operator, cost, variable, device_of(hardware))


def crossovers(step: Step, *, over: str, hardware: Device | str | Path | None = None) -> tuple[Crossover, ...]:
    """The crossover of every operator of the step; one whose bound does not depend on the variable is "always".

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
    require(step, TOTAL, costs(step, TOTAL), variable, over)
    return tuple(_crossover(step, name, costs(step, name), variable, device) for name in dict.fromkeys(op.name for op, _ in step.letters))


def _crossover(step: Step, name: str, cost: Sequence[Cost], variable: Variable, device: Device | None) -> Crossover:
    x = variable.symbol
    cost = grouped_costs(tuple(cost), x)
    values = known_values(step, device, x)
    if x == symbols.g:
        values.pop(symbols.h, None)
    blocks = counts_blocks(cost, x)
    sizes = {symbol: value for symbol, value in values.items() if symbol in MODEL_SIZES} if len(cost) > 1 else {}
    flops, traffic = (substitute(Add(*(_whole_blocks(part) if blocks else part for part in parts)), sizes) for parts in _columns(cost))
    pieces: tuple[Piece, ...] = ()
    counted: tuple[Interval, ...] = ()
    if blocks:
        counted = _counted(step, cost, variable, values, device)
    else:
        pieces = tuple(_pieces(step, name, cost, variable, values, device))
    statements = (*step.statements, *_said(name, blocks, device))
    return Crossover(name, variable, flops, traffic, symbols.P, symbols.BW, values, pieces, counted, statements)


INPUTS = (symbols.b, symbols.s, symbols.t, symbols.w, symbols.a, symbols.c, symbols.P, symbols.BW, symbols.M, symbols.R)
MODEL_SIZES = frozenset(symbols.VOCABULARY) - frozenset(INPUTS)
"""What a model fixes; in a whole step these are put in as numbers, or nobody could read the formula."""


def _columns(cost: Sequence[Cost]) -> tuple[list[Expr], list[Expr]]:
    return [one.flops for one in cost], [one.traffic for one in cost]


def _whole_blocks(expression: Expr) -> Expr:
    """The expression where blocks are full: ceil(s / R) = s / R."""
    return replaced(expression, ceiling, lambda inner: inner)


def _pieces(step: Step, name: str, cost: Sequence[Cost], variable: Variable, values: dict[Symbol, Expr], device: Device | None):
    x = variable.symbol
    for stretch in stretches(step, device, variable, values, cost):
        over_time = numeric_slack(stretch.graph, name, cost, values, device, x)
        slack = polynomial(over_time, x)
        if not slack.is_bound:
            return
        yield Piece(stretch.low, stretch.high, slack)


def numeric_slack(graph: Graph, name: str, cost: Sequence[Cost], values: dict[Symbol, Expr], device: Device | None, x: Symbol) -> Expr:
    """``sum(F / P) - sum(B) / BW`` with the numbers put in; every operator under its own peak."""
    terms: list[Expr] = []
    for one in cost:
        flops, traffic = (substitute(part, values) for part in (one.flops, one.traffic))
        peak: Expr = symbols.P
        if device and x != symbols.P:
            peak = peak_of(graph, bound_operator(graph, one.operator.name), device)
        terms.append(flops / peak - traffic / values.get(symbols.BW, symbols.BW))
    return Add(*terms)


def _counted(
    step: Step, cost: Sequence[Cost], variable: Variable, values: dict[Symbol, Expr], device: Device | None
) -> tuple[Interval, ...]:
    if device is None or symbols.R not in values:
        return ()
    graph = step.letters.bind(values)
    slack = numeric_slack(graph, "", cost, values, device, variable.symbol)
    if slack.free_symbols != {variable.symbol}:
        return ()
    return counted_intervals(slack, variable.symbol, values[symbols.R])


def _said(name: str, blocks: bool, device: Device | None) -> list[str]:
    lines = []
    if blocks:
        lines.append("the formula is for whole blocks, s a multiple of R; the numbers count blocks exactly, on whole s")
    if name == TOTAL:
        lines.append("total: the step's FLOPs at the peak against all its bytes, as if they overlapped; the formula has one peak P")
    if name == WEIGHTS_AND_KV:
        lines.append("weights and KV cache read, the embedding table left out, against the contractions")
    if device is None:
        lines.append("one peak P and bandwidth BW for all operators")
    return lines
