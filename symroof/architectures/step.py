"""One step of one model: its symbolic graph, and the same graph with the given numbers."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sympy import Expr, Symbol

from symroof.answers import Answer
from symroof.architectures.options import WIDTHS, Options
from symroof.operators import Graph, Operator
from symroof.symbols import b, lookup, s, t
from symroof.units import BYTE, FLOP, Quantity, in_unit, quantity

if TYPE_CHECKING:
    from symroof.architectures.model import Model
    from symroof.deployment import Deployment
    from symroof.hardware.device import Device
INPUTS = {"batch": (b,), "seq_len": (s, t)} | {name: (symbol,) for name, symbol in WIDTHS.items()}
"""The symbols of every option that is a number."""


def _registry() -> Any:
    """The techniques by name, of a higher floor: loaded when a text names one."""
    return importlib.import_module("symroof.techniques.registry")


@dataclass(frozen=True)
class Step(Answer):
    """A step: ``step["q_proj"].flops`` is a Quantity, numeric where numbers are given.

    Attributes
    ----------
    model : the model's name.
    options : phase, inputs and conventions.
    symbolic : the graph with every dimension a symbol.
    values : the values of the symbols.
    notes : remarks on these inputs.
    published : the widths that the model's config states, by their names.
    unchanged : the step before the techniques; None where there are none.
    source : the model that takes the step.
    """

    model: str
    options: Options
    symbolic: Graph = field(repr=False)
    values: Mapping[Symbol, Expr] = field(repr=False)
    notes: tuple[str, ...] = field(default=())
    published: Mapping[str, int] = field(default_factory=dict, repr=False)
    unchanged: Step | None = field(default=None, repr=False, compare=False)
    source: Model | None = field(default=None, repr=False, compare=False)

    def apply(self, *techniques: str | Callable[[Step], Step]) -> Step:
        """The step after these techniques, one after the other: objects, or texts as the command line takes them.

        Raises
        ------
        InputError
            A text names no technique, or a technique does not fit this step.

        >>> import symroof
        >>> step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048)
        >>> step.apply("quantize:weights=4,group=128", symroof.technique("flash-attention")).techniques
        ('quantize:weights=4,group=128', 'flash-attention')
        """
        step = self
        for given in techniques:
            for technique in _registry().chain([given]) if isinstance(given, str) else (given,):
                step = technique(step)
        return step

    def without(self, *over: str | Symbol) -> Step:
        """The step with these variables free: without the numbers that it or a technique has for them; a note says so.

        >>> import symroof
        >>> step = symroof.load_model("llama-2-7b").decode(batch=8, seq_len=2048).without("batch")
        >>> step.options.batch, step.notes
        (None, ('over batch: the given batch 8 is ignored',))
        """
        step = self
        for variable in map(lookup, over):
            symbol = t if self.options.decode and variable.symbol == s else variable.symbol
            number = step.values.get(symbol, step.symbolic.definitions.get(symbol))
            option = next((name for name, known in INPUTS.items() if symbol in known), None)
            name = option or variable.name
            if number is None or not number.is_number or (symbol in step.values and option is None):
                continue
            step = replace(
                step,
                options=replace(step.options, **{option: None}) if option else step.options,
                symbolic=step.symbolic.without_values(symbol),
                unchanged=step.unchanged and step.unchanged.without(symbol),
                values={known: value for known, value in step.values.items() if known != symbol},
                notes=(*step.notes, f"over {name}: the given {name} {number} is ignored"),
            )
        return step

    def on(self, hardware: Device | str | Path | None = None, ceilings: str = "stated") -> Deployment:
        """The step on a device, with every question as a method; without a device, under a symbolic roof.

        Parameters
        ----------
        hardware : a `Device`, a name of `symroof devices`, or the path of a TOML file.
        ceilings : the ceiling set, as in `symroof.analyze`.

        Raises
        ------
        DeviceError
            There is no such device, or it has no calibration and is asked for it.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> on.fits, on.crossover("up_proj", over="batch").first_integer
        (True, 162)
        """
        return importlib.import_module("symroof.deployment").Deployment.of(self, hardware, ceilings)

    def with_widths(self, *free: Symbol) -> Step:
        """The step as a device runs it, with numbers for the widths left out (`Options.with_widths`); *free* ones stay symbols."""
        options = self.options.with_widths(self.published, *free)
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
    def given(self) -> tuple[str, ...]:
        """The model with its techniques, the phase, and the inputs that have a number, in words."""
        numbers = (f"{name} {value}" for name in INPUTS if (value := getattr(self.options, name)) is not None)
        return self.title, self.options.phase, *numbers

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions this step follows, one sentence each."""
        return (f"accounting {self.options.accounting}", *self.symbolic.statements, *self.notes)

    flops = in_unit(lambda step: step.graph.flop_count, FLOP, "FLOPs of the whole step, as a Quantity in FLOP.")
    traffic = in_unit(lambda step: step.graph.byte_count(), BYTE, "Memory traffic of the whole step, as a Quantity in bytes.")

    @property
    def memory(self) -> dict[str, Quantity]:
        """Weights, KV cache and peak activations, as Quantities in bytes."""
        return {name: quantity(size, BYTE) for name, size in self.graph.memory_exprs().items()}
