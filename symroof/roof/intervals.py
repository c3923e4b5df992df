"""The intervals of a variable on which costs are single formulas: one branch of each, one peak per operator, one slack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from sympy import Add, Expr, Integer, Max, Min, S, Symbol, ceiling, oo

from symroof.algebra.envelope import envelope
from symroof.algebra.piecewise import Piece, Piecewise
from symroof.algebra.saturation import Branch, spans
from symroof.algebra.tile_counting import without_ceilings
from symroof.architectures.step import Step
from symroof.errors import DeviceError
from symroof.hardware.machine import EVERY, Machine
from symroof.operators import Graph, Operator, Resource
from symroof.operators.facts import BITS
from symroof.operators.fusion import fuse
from symroof.roof.costs import WIDTHS, branches_of, lowest, on_branch
from symroof.roof.ledger import WORK, Cost, roof_of
from symroof.roof.links import doublings, farthest
from symroof.symbols import Values, Variable, substitute


def branches_over(step: Step, cost: Sequence[Cost], variable: Variable, values: Values) -> tuple[Branch, ...]:
    """The branches of the costs over the range of the variable."""
    return spans(branches_of(step, cost, [variable.symbol], values), variable.symbol, lowest(variable), values)


@dataclass(frozen=True)
class CostInterval:
    """An interval of the variable with one graph, and so one peak per operator, and one branch of the costs.

    Attributes
    ----------
    low, high : the ends.
    graph : the numeric graph, apart from the variable.
    cost : the costs on the branch.
    active : the active argument of each minimum on the branch, and the number of steps of each tree.
    """

    low: Expr
    high: Expr
    graph: Graph
    cost: tuple[Cost, ...]
    active: Values = field(default_factory=dict)


def cost_intervals(
    step: Step, machine: Machine, variable: Variable, values: dict[Symbol, Expr], cost: Sequence[Cost], divided: Sequence[Branch]
) -> Iterator[CostInterval]:
    """The intervals of the variable's range: one per branch of the costs (`branches_over`), or for a width one per data type of the device.

    A width in (4, 8] runs in the fastest type of at least 8 bits, and so on.

    Raises
    ------
    DeviceError
        The variable is a width, and no data type of the device is wide enough for the other operands.
    """
    x, low = variable.symbol, lowest(variable)
    if EVERY in machine.peaks or x not in WIDTHS:
        graph = step.symbolic.without_values(x).bind(values)
        latencies = [entry.operator.latency for entry in cost]
        highest = Min(variable.highest, farthest(step.symbolic, machine, x, latencies))
        for whole in divided:
            for span in doublings(whole, latencies, x, highest, values):
                if span.low == span.high or (span.low < highest) != False:  # noqa: E712 - with symbols left it is neither
                    high = span.high if highest == oo else Min(span.high, highest)
                    yield CostInterval(span.low, high, graph, on_branch(cost, span), span.active)
        return
    for width in sorted(set(BITS.values())):
        graph = step.symbolic.bind(values | {x: Integer(width)})
        if not _runs(graph, machine, [entry.operator.name for entry in cost]):
            if low == lowest(variable):
                raise DeviceError(f"{machine.described} has no data type as wide as the other operands: no {variable.name} to range over")
            return
        for span in divided:
            first, last = Max(low, span.low), Min(Integer(width), span.high)
            if (first < last) != False:  # noqa: E712 - with symbols left it is neither
                yield CostInterval(first, last, graph, on_branch(cost, span))
        low = Integer(width)


def _runs(graph: Graph, machine: Machine, names: Sequence[str]) -> bool:
    try:
        for name in names:
            roof_of(graph, numeric_operator(graph, name), machine)
    except DeviceError:
        return False
    return True


def numeric_operator(graph: Graph, name: str) -> Operator:
    """An operator, or a fused group of operators, of a numeric graph."""
    return fuse(graph, name.split("+"))[0]


def numeric_slack(graph: Graph, cost: Sequence[Cost], values: dict[Symbol, Expr], machine: Machine) -> Expr:
    """``sum(F / P) - sum(B) / BW`` in seconds with numbers substituted; every operator under its own peak, memory traffic only."""
    total = seconds(graph, cost, values, machine)
    return Add(*(total[resource] for resource in WORK if resource in total)) - total.get(Resource.MEMORY, S.Zero)


def seconds(graph: Graph, cost: Sequence[Cost], values: dict[Symbol, Expr], machine: Machine) -> dict[Resource, Expr]:
    """Seconds of all costs for every resource, with numbers substituted."""
    total: dict[Resource, list[Expr]] = {}
    for entry in cost:
        operator = numeric_operator(graph, entry.operator.name)
        numeric = replace(entry.changed(lambda amount: substitute(amount, values)), operator=operator)
        for resource, taken in numeric.seconds(machine, roof_of(graph, operator, machine)[1]).items():
            total.setdefault(resource, []).append(taken)
    return {resource: Add(*taken) for resource, taken in total.items()}


def without_counts(entries: dict[Resource, Expr], x: Symbol, low: Expr, high: Expr) -> dict[Resource, Expr]:
    """The seconds with entries that count blocks of *x* replaced by polynomials, where these are proved not to bind.

    If an upper bound of an entry never exceeds the largest of the others, the bound replaces the entry: neither the time nor
    the binding resource depends on it.
    """
    counting = [resource for resource, taken in entries.items() if any(x in atom.free_symbols for atom in taken.atoms(ceiling))]
    replaced = dict(entries)
    for resource in counting:
        others = {other: taken for other, taken in replaced.items() if other is not resource and not taken.has(ceiling)}
        above = without_ceilings(replaced[resource], {x: low}, above=True)
        if above is None or not others or (above.free_symbols | set().union(*(taken.free_symbols for taken in others.values()))) - {x}:
            continue
        spare = envelope(x, low, high, others) - Piecewise(x, (Piece(low, high, above, None),))
        if all(piece.label for piece in spare.signs(below=False, above=True).pieces):
            replaced[resource] = above
    return replaced
