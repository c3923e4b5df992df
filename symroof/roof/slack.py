"""The slack of some costs in numbers: seconds of FLOPs against seconds of bytes, over one variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sympy import Add, Expr, S, Symbol

from symroof.hardware.machine import Machine
from symroof.operators.facts import Resource
from symroof.operators.graph import Graph
from symroof.roof.ledger import WORK, Cost, roof_of
from symroof.roof.stretches import bound_operator
from symroof.symbols import substitute


def numeric_slack(graph: Graph, cost: Sequence[Cost], values: dict[Symbol, Expr], machine: Machine) -> Expr:
    """``sum(F / P) - sum(B) / BW`` with the numbers put in; every operator under its own peak, memory traffic alone."""
    total = seconds(graph, cost, values, machine)
    return Add(*(total[resource] for resource in WORK if resource in total)) - total.get(Resource.MEMORY, S.Zero)


def seconds(graph: Graph, cost: Sequence[Cost], values: dict[Symbol, Expr], machine: Machine) -> dict[Resource, Expr]:
    """Seconds of all costs for every resource, with the numbers put in."""
    total: dict[Resource, list[Expr]] = {}
    for one in cost:
        operator = bound_operator(graph, one.operator.name)
        numeric = replace(one.changed(lambda amount: substitute(amount, values)), operator=operator)
        for resource, taken in numeric.seconds(machine, roof_of(graph, operator, machine)[1]).items():
            total.setdefault(resource, []).append(taken)
    return {resource: Add(*taken) for resource, taken in total.items()}
