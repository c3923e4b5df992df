"""The base of all techniques that spread a step over devices: a degree, a link, and the spaces of one device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from math import gcd

from sympy import Expr, Min, S, Symbol, divisors

from symroof import symbols
from symroof.architectures.step import Step
from symroof.conventions import Convention, without
from symroof.operators import BlockRole, Graph, Operator, Space, Tensor
from symroof.operators.collective import RING, Group
from symroof.operators.select import routed
from symroof.symbols import substitute
from symroof.techniques.technique import Given, Number, Technique, number


@dataclass(frozen=True)
class Parallel(Technique):
    """A step on n devices; FLOPs, bytes, memory and time are those of one device. Degree 1 leaves the graph unchanged."""

    degree: Number = number(symbols.n_p)

    def on_graph(self, graph: Graph) -> Graph:
        if self.degree == 1:
            return graph
        if self.degree == symbols.n_p and symbols.n_p in graph.free_symbols:
            raise self.refused("n_p is the degree of an earlier technique; give a number here")
        degree = self.parameters(graph)[0]["degree"]
        spread = super().on_graph(graph)
        conventions = spread.conventions
        if graph.devices != 1:
            every = " x ".join(
                f"{technique.degree} of {technique.name}" for technique in (*graph.applied, self) if isinstance(technique, Parallel)
            )
            text = f"devices: {every}; all figures are per device"
            conventions = (*without(conventions, "devices"), Convention("devices", text))
        # numbers first, because definitions may depend on earlier ones
        definitions = dict(sorted(spread.definitions.items(), key=lambda pair: not pair[1].is_number))
        return replace(spread, devices=graph.devices * degree, conventions=conventions, definitions=definitions)

    def even(self, sizes: Mapping[str, Expr], instead: str = "") -> None:
        """Raise an InputError unless the degree divides every one of these sizes; it says what to give *instead* of another degree."""
        degree = self.degree
        known = {what: size for what, size in sizes.items() if size.is_Integer}
        for what, size in known.items():
            if degree.is_Integer and size % degree != 0:
                fits = [str(divisor) for divisor in divisors(gcd(*map(int, known.values()))) if divisor > 1]
                shown = ", ".join(fits if len(fits) < LISTED else [*fits[: LISTED - 1], "..."])
                right = f"one of {shown} does" if fits else "no degree above 1 does"
                raise self.refused(f"degree {degree} does not divide {size} {what}; {instead or right}")


LISTED = 12


@dataclass(frozen=True)
class Linked(Parallel):
    """A step on n devices that communicate over a link, and over a network if they span several nodes.

    Attributes
    ----------
    link : BW_l, bandwidth one way in byte/s; default the device's stated link.
    overhead, latency : seconds per collective and per step of it; default those stated for the device's link.
    node : n_d, how many of the n devices are in one node; default all.
    network : BW_n, bandwidth one way in byte/s of a device's network to other nodes; default the device's stated network.
    network_latency : seconds per step over the network.
    """

    link: Number = number(symbols.BW_l, optional=True)
    latency: Number = number(symbols.t_l, zero=True, optional=True)
    overhead: Number = number(symbols.l_0, zero=True, optional=True)
    node: Number = number(symbols.n_d, optional=True)
    network: Number = number(symbols.BW_n, optional=True)
    network_latency: Number = number(symbols.t_n, zero=True, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.node is None and (self.network is not None or self.network_latency not in (None, 0)):
            raise self.refused("a network connects nodes: give the devices per node, as node=8")

    @property
    def tiers(self) -> bool:
        """Whether some of the devices may be in another node."""
        within = self.node is None or (self.degree.is_Integer and self.node.is_Integer and self.degree <= self.node)
        return not within

    def even(self, sizes: Mapping[str, Expr], instead: str = "") -> None:
        if self.tiers and self.degree.is_Integer and self.node.is_Integer and self.degree % self.node != 0:
            raise self.refused(f"degree {self.degree} is not a multiple of node {self.node}: all nodes have equally many devices")
        super().even(sizes, instead)

    def on_graph(self, graph: Graph) -> Graph:
        before = graph.definitions.get(symbols.BW_l)
        if self.link is not None and before is not None and before != self.link:
            raise self.refused(f"link {self.link}: an earlier technique set {before} byte/s, and a step has one link")
        if any(block.role is BlockRole.STAGE for block in graph.blocks):
            raise self.refused("put it before pipeline-parallel, whose micro-batches repeat its communication")
        if self.degree == 1:
            return graph
        self.even({})
        spread, given = super().on_graph(graph), self.parameters(graph)[0]
        inside = self.inside(given)
        nodes = {symbols.n_i: Min(given["degree"], given["node"])} if inside == symbols.n_i else {}
        return replace(spread, linked=graph.linked * inside, definitions={**spread.definitions, **nodes})

    def inside(self, given: Given) -> Expr:
        """The number of devices in one node."""
        if not self.tiers:
            return given["degree"]
        sides = Min(given["degree"], given["node"])
        return symbols.n_i if {given["degree"], given["node"]} == {symbols.n_p, symbols.n_d} else sides

    def group(self, given: Given, algorithm: str = RING) -> Group:
        """The group of devices that collectives run on.

        If one of the latencies is given, the others do not default to the device's: no overhead, and equal steps between nodes.
        """
        defaults: dict[str, Expr] = {own.name: own.metadata["symbol"] for own in fields(self) if "symbol" in own.metadata}
        if self.overhead is not None or self.latency is not None:
            defaults |= {"overhead": S.Zero, "latency": S.Zero, "network_latency": given.get("latency", S.Zero)}
        overhead, step, between = (given.get(name, defaults[name]) for name in ("overhead", "latency", "network_latency"))
        return Group(given["degree"], self.inside(given) if self.tiers else None, overhead, step, between, algorithm)

    def crossing(self, given: Given) -> str:
        """The description of the link for statements."""
        group = self.group(given)
        terms = [f"{group.overhead} s per collective"] if group.overhead != 0 else []
        terms += [f"{group.step} s per step"] if group.step != 0 else []
        latency = f", {' and '.join(terms)}" if terms else ", no latency"
        between = ""
        if self.tiers:
            step = f", {group.network_step} s per step" if group.network_step != 0 else ""
            between = f", {group.inside} devices per node, and between nodes the network of BW_n{step}"
        return (
            f"the link of BW_l one way{latency}{between}; communication does not overlap with other operators, and its own memory "
            "traffic is not counted"
        )


def divided(axes: tuple[str, ...], by: Expr) -> Callable[[Space], Space]:
    """A function that divides these axes of a space."""
    return lambda space: space.resized({axis: space.sizes[axis] / by for axis in axes if axis in space.sizes})


def counted_per_device(definitions: Mapping[Symbol, Expr], sizes: Mapping[Symbol, Expr]) -> dict[Symbol, Expr]:
    """The definitions with R and U (positions of a pass, busy processors) computed from one device's heads and sequences."""
    return {symbol: substitute(meant, sizes) if symbol in (symbols.R, symbols.U) else meant for symbol, meant in definitions.items()}


def axis_sizes(step: Step) -> dict[str, Expr]:
    """The size of every axis of a step, numeric where known."""
    return {axis: size for operator, _ in step for axis, size in operator.space.sizes.items()}


def touched(operator: Operator) -> Iterator[Tensor]:
    """The tensors that an operator reads and writes."""
    return (access.tensor for access in (*operator.reads, *operator.writes))


def expert_tensors(graph: Graph) -> frozenset[Tensor]:
    """Weights of routed experts, and what experts compute: one row per token and expert."""
    operators = [operator for block in graph.blocks for operator in block.operators]
    reading = [operator for operator in operators if any(routed(access) for access in operator.reads)]
    made = {access.tensor for operator in reading for access in operator.writes}
    for operator in operators:  # activation functions between them
        if "K" in operator.result.axes and not made.isdisjoint(access.tensor for access in operator.reads):
            made |= {operator.result}
    return frozenset(made | {access.tensor for operator in reading for access in operator.reads if routed(access)})
