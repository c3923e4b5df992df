"""The stretches of a range on which one polynomial decides: one branch of the costs, one peak per operator, one slack."""

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


def spans_of(step: Step, cost: Sequence[Cost], variable: Variable, values: Values) -> tuple[Branch, ...]:
    """The branches that the range of the variable goes through."""
    return spans(branches_of(step, cost, [variable.symbol], values), variable.symbol, lowest(variable), values)


@dataclass(frozen=True)
class Stretch:
    """A stretch of the variable on which one graph, and so one peak per operator, and one branch of the costs apply.

    Attributes
    ----------
    active : what the branch has in the place of minima, and of the steps of trees.
    """

    low: Expr
    high: Expr
    graph: Graph
    cost: tuple[Cost, ...]
    active: Values = field(default_factory=dict)


def stretches(step: Step, machine: Machine, variable: Variable, values: dict[Symbol, Expr], cost: Sequence[Cost]) -> Iterator[Stretch]:
    """The stretches of the variable's range: one per branch, or for a width one per data type that the device has.

    A width on (4, 8] runs in the fastest type of at least 8 bits, and so on.
    """
    x, low = variable.symbol, lowest(variable)
    if EVERY in machine.peaks or x not in WIDTHS:
        graph = step.symbolic.without_values(x).bind(values)
        latencies = [one.operator.latency for one in cost]
        highest = Min(variable.highest, farthest(step.symbolic, machine, x, latencies))
        for whole in spans_of(step, cost, variable, values):
            for span in doublings(whole, latencies, x, highest, values):
                if span.low == span.high or (span.low < highest) != False:  # noqa: E712 - with letters left it is neither
                    high = span.high if highest == oo else Min(span.high, highest)
                    yield Stretch(span.low, high, graph, on_branch(cost, span), span.active)
        return
    divided = [*spans_of(step, cost, variable, values)]
    for width in sorted(set(BITS.values())):
        graph = step.symbolic.bind(values | {x: Integer(width)})
        if not _runs(graph, machine, [one.operator.name for one in cost]):
            if low == lowest(variable):
                raise DeviceError(f"{machine.described} has no data type as wide as the other operands: no {variable.name} to range over")
            return
        for span in divided:
            first, last = Max(low, span.low), Min(Integer(width), span.high)
            if (first < last) != False:  # noqa: E712 - with letters left it is neither
                yield Stretch(first, last, graph, on_branch(cost, span))
        low = Integer(width)


def _runs(graph: Graph, machine: Machine, names: Sequence[str]) -> bool:
    try:
        for name in names:
            roof_of(graph, bound_operator(graph, name), machine)
    except DeviceError:
        return False
    return True


def bound_operator(graph: Graph, name: str) -> Operator:
    """An operator, or a fused group of them, of a bound graph."""
    return fuse(graph, name.split("+"))[0]


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


def without_counts(entries: dict[Resource, Expr], x: Symbol, low: Expr, high: Expr) -> dict[Resource, Expr]:
    """The seconds with polynomials in the place of those that count blocks of *x*, as far as these are proved not to bind.

    Where an upper bound of an entry is nowhere above the largest of the others, it stands for the entry: neither the time nor
    what binds depends on it.
    """
    counting = [resource for resource, taken in entries.items() if any(x in atom.free_symbols for atom in taken.atoms(ceiling))]
    found = dict(entries)
    for resource in counting:
        others = {other: taken for other, taken in found.items() if other is not resource and not taken.has(ceiling)}
        above = without_ceilings(found[resource], {x: low}, above=True)
        if above is None or not others or (above.free_symbols | set().union(*(taken.free_symbols for taken in others.values()))) - {x}:
            continue
        spare = envelope(x, low, high, others) - Piecewise(x, (Piece(low, high, above, None),))
        if all(piece.label for piece in spare.signs(below=False, above=True).pieces):
            found[resource] = above
    return found
