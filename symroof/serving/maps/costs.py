"""What a step costs over two variables: seconds of every operator per resource, and bytes of memory, branch by branch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import cast

from sympy import Add, Expr, Integer, Max, Min, S, Symbol, ceiling, oo, true

from symroof.algebra.saturation import Branch, branches, saturating
from symroof.algebra.tile_counting import without_ceilings
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import EVERY, Machine
from symroof.operators import Graph, Resource
from symroof.operators.facts import BITS
from symroof.questions.capacity import memory_parts, usable_capacity
from symroof.roof.costs import WIDTHS, branches_of, costs_of, known_values, lowest, needed, on_branch
from symroof.roof.intervals import numeric_operator
from symroof.roof.ledger import OVERHEAD, Cost, machine_of, overhead, own, roof_of
from symroof.roof.links import doublings, farthest
from symroof.symbols import Values, Variable, substitute

Sign = Callable[[Expr, str], int]
"""The sign of an expression on a region or at a point, and what asks for it: an operator, a promise, "capacity"."""
Range = tuple[Expr, Expr]
SATURATION, CAPACITY = "saturation", "capacity"
"""What asks where a window is full or every expert is touched, and where memory is."""


@dataclass(frozen=True)
class Part:
    """An operator with all its occurrences on a branch: seconds per generated token.

    Attributes
    ----------
    seconds : by resource, without what is fetched ahead.
    beside : launches and latencies.
    fetched : transfers from and to the host.
    counted : resources whose seconds are an upper bound, because they count blocks; none of them may bind.
    """

    name: str
    seconds: Mapping[Resource, Expr]
    beside: Expr
    fetched: Expr
    counted: frozenset[Resource] = frozenset()

    def binding(self, sign: Sign) -> tuple[str, Expr]:
        """What binds, the first of equals, and the time.

        Raises
        ------
        InputError
            A bound of what counts blocks is the largest.
        """
        entries = [*self.seconds.items()]
        if not entries:
            return OVERHEAD, S.Zero
        resource, longest = entries[0]
        for other, taken in entries[1:]:
            if sign(taken - longest, self.name) > 0:
                resource, longest = other, taken
        if resource in self.counted:
            raise InputError(f"{self.name} counts blocks of rows: no exact map; omit FlashAttention")
        label = OVERHEAD if self.beside != 0 and sign(self.beside - longest, self.name) > 0 else str(resource)
        return label, longest


@dataclass(frozen=True)
class Costs:
    """A step, or one operator, over a rectangle of two variables on which every operator has one peak.

    Attributes
    ----------
    ranges : the rectangle, in the order of the variables.
    graph : with numbers for all but the variables.
    steps : the number of steps of each tree of a collective.
    """

    step: Step
    variables: tuple[Variable, Variable]
    ranges: tuple[Range, Range]
    graph: Graph
    steps: Values
    cost: tuple[Cost, ...]
    machine: Machine
    values: Mapping[Symbol, Expr]
    _parts: dict[int, tuple[Part, ...]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def branches(self) -> tuple[tuple[Branch, tuple[tuple[Expr, bool], ...]], ...]:
        """The branches of all formulas, with expressions that are at least 0 on them, or above 0."""
        found = branches_of(self.step, self.cost, self.symbols)
        return tuple((branch, _margins(branch, {**self.values, **self.steps}, self.symbols)) for branch in found)

    @property
    def symbols(self) -> tuple[Symbol, Symbol]:
        """The symbols of the variables."""
        return self.variables[0].symbol, self.variables[1].symbol

    def parts(self, sign: Sign) -> tuple[Part, ...]:
        """The operators on the branch that applies."""
        place = next(place for place, (_, margins) in enumerate(self.branches) if _applies(margins, sign))
        if place not in self._parts:
            branch = self.branches[place][0]
            active = {**branch.active, **self.steps}
            every = on_branch(self.cost, replace(branch, active=active))
            self._parts[place] = tuple(self._part(one, active) for one in every)
        return self._parts[place]

    def _part(self, one: Cost, active: Values) -> Part:
        tokens, x = substitute(self.graph.tokens, self.values), self.symbols
        operator = numeric_operator(self.graph, one.operator.name)
        numeric = replace(one.changed(lambda amount: substitute(amount, self.values)), operator=operator)
        seconds = numeric.seconds(self.machine, roof_of(self.graph, operator, self.machine)[1])
        late = substitute(one.count * overhead(one.operator, self.graph.ceilings, self.machine), active)
        beside = substitute(late, self.values) / tokens
        entries = {resource: taken / tokens for resource, taken in seconds.items()}
        if left := {symbol for value in (*entries.values(), beside) for symbol in value.free_symbols} - {*x}:
            raise InputError(f"{needed(left)} to map what binds over {self.variables[0].name} and {self.variables[1].name}")
        counted = {resource for resource, taken in entries.items() if taken.has(ceiling)}
        lows = {variable.symbol: lowest(variable) for variable in self.variables}
        for resource in counted:
            above = without_ceilings(entries[resource], lows, above=True)
            if above is None or above.has(ceiling):
                raise InputError(f"{one.operator.name} counts blocks of rows: no exact map; omit FlashAttention")
            entries[resource] = above
        work = own(one.operator, entries, self.graph.ceilings)
        return Part(one.operator.name, work, beside, entries.get(Resource.HOST, S.Zero), frozenset(counted))

    def _booked(self, sign: Sign) -> tuple[dict[str, Expr], Expr]:
        """Seconds by what binds the operators that take them, and those of transfers that are fetched ahead."""
        ceilings = self.graph.ceilings
        booked: dict[str, list[Expr]] = {}
        every = [part for part in self.parts(sign) if part.seconds or part.beside != 0]
        for part in every:
            label, longest = part.binding(sign)
            work = longest if ceilings.overlap else Add(*part.seconds.values())
            booked.setdefault(label, []).append(work + part.beside)
        fetched = Add(*(part.fetched for part in every)) if ceilings.fetches_ahead else S.Zero
        return {label: Add(*times) for label, times in booked.items()}, fetched

    def time(self, sign: Sign, asked: str) -> Expr:
        """Seconds per generated token; as `Total.time`."""
        booked, fetched = self._booked(sign)
        work = Add(*booked.values())
        return fetched if fetched != 0 and sign(fetched - work, asked) > 0 else work

    def bound(self, sign: Sign, asked: str) -> str:
        """What most of the time goes to, of equals the first; as `Total.bound`."""
        booked, fetched = self._booked(sign)
        if fetched != 0 and sign(fetched - Add(*booked.values()), asked) > 0:
            return str(Resource.HOST)
        (label, longest), *others = booked.items()
        for other, taken in others:
            if sign(taken - longest, asked) > 0:
                label, longest = other, taken
        return label


@dataclass(frozen=True)
class Memory:
    """Bytes of one device over two variables, against its capacity."""

    needs: tuple[Expr, ...]
    capacity: Expr
    branches: tuple[tuple[Branch, tuple[tuple[Expr, bool], ...]], ...]

    def fits(self, sign: Sign) -> bool:
        """Whether weights, cache and activations fit."""
        branch = next(branch for branch, margins in self.branches if _applies(margins, sign))
        return all(sign(substitute(need, branch.active) - self.capacity, CAPACITY) <= 0 for need in self.needs)


def _applies(margins: tuple[tuple[Expr, bool], ...], sign: Sign) -> bool:
    known = {oo: 1, -oo: -1}  # a device that states no cache has one without end
    signs = ((known.get(margin) or sign(margin, SATURATION), strict) for margin, strict in margins)
    return all(one > 0 or (one == 0 and not strict) for one, strict in signs)


def _margins(branch: Branch, values: Values, free: Sequence[Symbol]) -> tuple[tuple[Expr, bool], ...]:
    known = {symbol: value for symbol, value in values.items() if symbol not in free}
    return tuple((substitute(margin, known), strict) for margin, strict in branch._margins)


def memory(step: Step, device: Device, variables: tuple[Variable, Variable]) -> Memory:
    """The memory that a step needs over two variables.

    Raises
    ------
    InputError
        Another input is a symbol, or memory counts blocks of a variable.
    """
    free = tuple(variable.symbol for variable in variables)
    step = step.with_widths(*free)
    graph = step.symbolic.without_values(*free).bind({symbol: value for symbol, value in step.values.items() if symbol not in free})
    weights, cache, activations = memory_parts(graph)
    needs = tuple(cast(Expr, weights + cache + state) for state in (activations.args if isinstance(activations, Max) else (activations,)))
    if left := Add(*needs).free_symbols - {*free, *graph.definitions}:
        raise InputError(f"{needed(left)} to compute what fits")
    found = branches(saturating(graph.definitions, Add(*needs).free_symbols), free)
    return Memory(needs, usable_capacity(device, step), tuple((branch, _margins(branch, {}, free)) for branch in found))


def costs_over(
    step: Step, variables: tuple[Variable, Variable], device: Device, operator: str, ceilings: str, ranges: tuple[Range, Range]
) -> Iterator[Costs]:
    """The costs over the rectangles that cover a range: one for each data type of a width, and each doubling of a tree.

    Raises
    ------
    InputError
        Another input is a symbol, or the ceilings are calibrated.
    """
    free = tuple(variable.symbol for variable in variables)
    machine = machine_of(step.symbolic, device, ceilings, free, step.options.accounting)
    if machine.calibration is not None:
        raise InputError("times of calibrated kernels are norms of ceilings and count work items: use ceilings stated or classic")
    values, cost = known_values(step, device, *free), costs_of(step, operator, machine)
    latencies = [entry.operator.latency for entry in cost]
    typed = EVERY not in machine.peaks
    sides = [
        [*(_widths(x, span) if typed and x in WIDTHS else _doubled(step, machine, variable, latencies, span, values))]
        for variable, x, span in zip(variables, free, ranges, strict=True)
    ]
    for first, second in product(*sides):
        graph = step.symbolic.without_values(*free).bind({**values, **first[1], **second[1]})
        try:
            for entry in cost:
                roof_of(graph, numeric_operator(graph, entry.operator.name), machine)
        except DeviceError:
            if {*first[1], *second[1]}:
                continue  # no data type of the device is as wide
            raise
        yield Costs(step, variables, (first[0], second[0]), graph, {**first[2], **second[2]}, cost, machine, values)


Side = tuple[Range, Values, Values]
"""An interval of a variable, the width that decides the peak there, and the steps of trees."""


def _widths(x: Symbol, span: Range) -> Iterator[Side]:
    """A width in (4, 8] runs in the fastest type of at least 8 bits, and so on."""
    low = Integer(0)
    for width in map(Integer, sorted(set(BITS.values()))):
        first, last = Max(low, span[0]), Min(width, span[1])
        if first < last:
            yield (first, last), {x: width}, {}
        low = width


def _doubled(
    step: Step, machine: Machine, variable: Variable, latencies: Sequence[Expr], span: Range, values: Mapping[Symbol, Expr]
) -> Iterator[Side]:
    x = variable.symbol
    last = Min(span[1], variable.highest, farthest(step.symbolic, machine, x, latencies))
    trees = doublings(Branch({}, true, Integer(1) if variable.domain == "integer" else S.Zero, last), latencies, x, last, dict(values))
    for part in trees:
        first, end = Max(span[0], part.low), Min(part.high, last)
        if first < end or part.low == part.high == span[0]:
            yield (first, end), {}, part.active
    if span[0] > last:
        raise InputError(f"{variable.name} from {span[0]} on: at most {last}")
