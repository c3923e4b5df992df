"""What the ways to spread a step over devices have in common: a degree, a link, and the spaces of one device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import gcd

from sympy import Expr, Symbol, divisors

from symroof import symbols
from symroof.architectures.step import Step
from symroof.conventions import Convention, without
from symroof.operators import BlockRole, Graph, Space
from symroof.symbols import substitute
from symroof.techniques.technique import Given, Number, Technique, number


@dataclass(frozen=True)
class Parallel(Technique):
    """A step on n devices; its FLOPs, bytes, memory and time are those of one of them. One device leaves the graph as it is."""

    degree: Number = number(symbols.n_p)

    def on_graph(self, graph: Graph) -> Graph:
        if self.degree == 1:
            return graph
        if self.degree == symbols.n_p and symbols.n_p in graph.free_symbols:
            raise self.refused("n_p is the degree of an earlier technique; give this one a number")
        degree = self.parameters(graph)[0]["degree"]
        spread = super().on_graph(graph)
        conventions = spread.conventions
        if graph.devices != 1:
            every = " x ".join(
                f"{technique.degree} of {technique.name}" for technique in (*graph.applied, self) if isinstance(technique, Parallel)
            )
            text = f"devices: {every}; what is told is one device's"
            conventions = (*without(conventions, "devices"), Convention("devices", text))
        # numbers first: each definition finds those of the letters in it
        definitions = dict(sorted(spread.definitions.items(), key=lambda pair: not pair[1].is_number))
        return replace(spread, devices=graph.devices * degree, conventions=conventions, definitions=definitions)

    def even(self, sizes: Mapping[str, Expr]) -> None:
        """Raise unless the degree divides every number of these."""
        degree = self.degree
        known = {what: size for what, size in sizes.items() if size.is_Integer}
        for what, size in known.items():
            if degree.is_Integer and size % degree != 0:
                fits = [str(one) for one in divisors(gcd(*(int(one) for one in known.values()))) if one > 1]
                shown = ", ".join(fits if len(fits) < LISTED else [*fits[: LISTED - 1], "..."])
                right = f"one of {shown} does" if fits else "no degree above 1 does"
                raise self.refused(f"degree {degree} does not divide {size} {what}; {right}")


LISTED = 12


@dataclass(frozen=True)
class Linked(Parallel):
    """A step on n devices that send one another data over a link.

    Attributes
    ----------
    link : its bandwidth one way, where it is not the device's own.
    latency : seconds of every step of a collective.
    """

    link: Number = number(symbols.BW_l, optional=True)
    latency: Number = number(symbols.t_l, 0, zero=True)

    def on_graph(self, graph: Graph) -> Graph:
        before = graph.definitions.get(symbols.BW_l)
        if self.link is not None and before is not None and before != self.link:
            raise self.refused(f"link {self.link}: an earlier technique said {before} byte/s, and there is one link")
        if any(block.role is BlockRole.STAGE for block in graph.blocks):
            raise self.refused("put it before pipeline-parallel, whose micro-batches send what it sends once each")
        return super().on_graph(graph)

    def crossing(self, given: Given) -> str:
        """What is said of the link in every statement."""
        late = f", {given['latency']} s a step" if given["latency"] != 0 else ", no latency"
        return f"the link of BW_l one way{late}; it does not overlap with other operators, a collective's own memory traffic is not counted"


def divided(axes: tuple[str, ...], by: Expr) -> Callable[[Space], Space]:
    """How a space changes where these of its axes are divided."""
    return lambda space: space.resized({axis: space.sizes[axis] / by for axis in axes if axis in space.sizes})


def counted_per_device(definitions: Mapping[Symbol, Expr], sizes: Mapping[Symbol, Expr]) -> dict[Symbol, Expr]:
    """The definitions with what follows from a device's own heads or sequences: positions of a pass, processors that have work."""
    return {symbol: substitute(meant, sizes) if symbol in (symbols.R, symbols.U) else meant for symbol, meant in definitions.items()}


def axis_sizes(step: Step) -> dict[str, Expr]:
    """The size of every axis of a step, in numbers as far as it has them."""
    return {axis: size for operator, _ in step for axis, size in operator.space.sizes.items()}
