"""The slack of some costs in numbers: seconds of FLOPs against seconds of bytes, over one variable."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

from sympy import Add, Expr, Integer, Symbol

from symroof import symbols
from symroof.algebra.intervals import Piece, between, roots
from symroof.algebra.polynomial import Polynomial, polynomial
from symroof.hardware.device import Device
from symroof.operators.graph import Graph
from symroof.operators.tensor import Level
from symroof.roof.ceilings import BANDWIDTH, bandwidth_of
from symroof.roof.costs import Cost
from symroof.roof.stretches import bound_operator, peak_of
from symroof.symbols import substitute


def numeric_slack(graph: Graph, cost: Sequence[Cost], values: dict[Symbol, Expr], device: Device | None, x: Symbol) -> Expr:
    """``sum(F / P) - sum(B) / BW`` with the numbers put in; every operator under its own peak, memory traffic alone."""
    compute, moved = seconds(graph, cost, values, device, x)
    return compute - moved.get(Level.MEMORY, Integer(0))


def seconds(
    graph: Graph, cost: Sequence[Cost], values: dict[Symbol, Expr], device: Device | None, x: Symbol
) -> tuple[Expr, dict[Level, Expr]]:
    """Seconds of all FLOPs, and of all bytes of each level."""
    compute: list[Expr] = []
    moved: dict[Level, list[Expr]] = {}
    for one in cost:
        operator = bound_operator(graph, one.operator.name)
        peak: Expr = symbols.P
        if device and x != symbols.P:
            peak = peak_of(graph, operator, device)
        compute.append(substitute(one.flops, values) / peak)
        for level, traffic in ((Level.MEMORY, one.traffic), *one.further):
            if traffic != 0 or not one.further:
                bandwidth = BANDWIDTH[level] if x == BANDWIDTH[level] else bandwidth_of(operator, level, values)
                moved.setdefault(level, []).append(substitute(traffic, values) / bandwidth)
    return Add(*compute), {level: Add(*parts) for level, parts in moved.items()}


def lowest_pieces(slacks: Sequence[Polynomial], moved: Sequence[Expr], low: Expr, high: Expr) -> list[Piece]:
    """The slack against the level that takes longest, on every part of a stretch."""
    if len(slacks) == 1:
        return [Piece(low, high, slacks[0])]
    x = slacks[0].x
    between_levels = [polynomial(one - other, x) for one, other in combinations(moved, 2)]
    edges = sorted({low, high} | {root for slack in between_levels for root in roots(slack) if low < root < high})
    found: list[Piece] = []
    for left, right in pairwise(edges):
        at = between(left, right)
        longest = max(range(len(moved)), key=lambda place: substitute(moved[place], {x: at}))
        found.append(Piece(left, right, slacks[longest]))
    return found
