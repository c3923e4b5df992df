"""One step of one model: its graph in letters, and the same graph with the numbers it was given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sympy import Expr, Symbol

from symroof.answers import Answer
from symroof.architectures.options import WIDTHS, Options
from symroof.conventions import BITS
from symroof.operators import Graph, Operator
from symroof.units import BYTE, FLOP, in_unit, quantity


@dataclass(frozen=True)
class Step(Answer):
    """A step: ``step["q_proj"].flops`` is a Quantity, in numbers as far as they were given.

    Attributes
    ----------
    model : the model's name.
    options : phase, inputs and conventions.
    symbolic : the graph with every dimension a symbol.
    values : what the symbols stand for.
    notes : what a reader should know about these inputs.
    weight_bits : of the weights as published.
    unchanged : the step before the techniques; None where there are none.
    """

    model: str
    options: Options
    symbolic: Graph = field(repr=False)
    values: Mapping[Symbol, Expr] = field(repr=False)
    notes: tuple[str, ...] = field(default=())
    weight_bits: int = field(default=BITS, repr=False)
    unchanged: Step | None = field(default=None, repr=False, compare=False)

    def apply(self, *techniques: Callable[[Step], Step]) -> Step:
        """The step after these techniques, one after the other; see `symroof techniques`.

        Raises
        ------
        InputError
            A technique does not fit this step.
        """
        return functools.reduce(lambda step, technique: technique(step), techniques, self)

    def with_widths(self, *free: Symbol) -> Step:
        """The step as a device runs it, with numbers for the widths left out (`Options.with_widths`); *free* ones stay symbols."""
        options = self.options.with_widths(self.weight_bits, *free)
        if options is self.options:
            return self
        widths = {symbol: value for symbol, value in options.inputs().items() if symbol in WIDTHS.values()}
        return replace(self, options=options, values={**widths, **self.values})

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph with numbers for the symbols that have one."""
        return self.symbolic.bind(self.values)

    def __getitem__(self, name: str) -> Operator:
        return self.graph[name]

    def __iter__(self) -> Iterator[tuple[Operator, Expr]]:
        return iter(self.graph)

    @property
    def techniques(self) -> tuple[str, ...]:
        """The techniques applied, as the command line spells them."""
        return tuple(technique.text for technique in self.symbolic.applied)

    @property
    def title(self) -> str:
        """The model's name, and the techniques."""
        return " + ".join((self.model, *self.techniques))

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions this step follows, one sentence each."""
        return (f"accounting {self.options.accounting}", *self.symbolic.statements, *self.notes)

    flops = in_unit(lambda step: step.graph.flop_count, FLOP, "FLOPs of the whole step, as a Quantity in FLOP.")
    traffic = in_unit(lambda step: step.graph.byte_count(), BYTE, "Memory traffic of the whole step, as a Quantity in bytes.")

    @property
    def memory(self) -> dict[str, object]:
        """Weights, KV cache and peak activations, as Quantities in bytes."""
        return {name: quantity(size, BYTE) for name, size in self.graph.memory().items()}
