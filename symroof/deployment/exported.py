"""A step as formulas for other languages: one straight-line program of its operators and totals, with named inputs and their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sympy import Expr

from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.notation import Brief
from symroof.roof.ledger import require_device
from symroof.sweeps.compile import Program, inlined, program
from symroof.sweeps.engines import run
from symroof.sweeps.metrics import BINDING, CAPACITY, TOTAL, Part, flops, memory, seconds_for, time, tokens, traffic
from symroof.sweeps.plan import CONVENTIONS, INPUTS, Plan
from symroof.symbols import lookup
from symroof.units import in_unit, ureg

SIZES = ("batch", "seq_len")
OF_OPERATOR: Mapping[str, tuple[str, Callable[[Part], Expr]]] = {"flops": ("FLOP", flops), "bytes": ("B", traffic), "time": ("s", time)}
OF_STEP: Mapping[str, tuple[str, Callable[[Part], Expr]]] = {**OF_OPERATOR, "memory": ("B", memory), "tokens": ("token", tokens)}


@dataclass(frozen=True)
class Input(Brief):
    """An input of the formulas.

    Attributes
    ----------
    symbol : its text in the formulas.
    name : as options and files write it.
    meaning, unit : for tables and legends.
    value_expr : its number where the formulas were made, bare.
    """

    symbol: str
    name: str
    meaning: str
    unit: str
    value_expr: float

    value = in_unit(lambda known: known.value_expr, lambda known: ureg.Unit(known.unit), "Its number, as a Quantity.")


@dataclass(frozen=True)
class Output(Brief):
    """A result of the formulas: a metric of an operator, all its occurrences together, or of the whole step, "total".

    Attributes
    ----------
    operator, metric, unit : what it is.
    resource : for seconds of a single resource, which; empty otherwise.
    formula : in the symbols of the inputs.
    """

    operator: str
    metric: str
    unit: str
    formula: Expr = field(repr=False)
    resource: str = ""


@dataclass(frozen=True)
class Exported(Answer):
    """The formulas of a step on a device, as one program.

    Attributes
    ----------
    step, device, ceilings : what they are of.
    inputs : in the order of the program.
    outputs : in the order of the program.
    program : the lines.
    statements : the conventions.
    """

    step: Step = field(repr=False)
    device: Device = field(repr=False)
    ceilings: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    program: Program = field(repr=False)
    statements: tuple[str, ...] = field(repr=False)

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators, in order."""
        return tuple(name for name in dict.fromkeys(output.operator for output in self.outputs) if name != TOTAL)

    def __call__(self, **values: float) -> dict[str, dict[str, float]]:
        """The metrics of every operator and of the step, at other values of some inputs, by the library's own engine.

        Raises
        ------
        InputError
            There is no such input.
        """
        if unknown := sorted(values.keys() - {known.name for known in self.inputs}):
            raise InputError(f"{unknown[0]!r} is not an input: expected one of {', '.join(known.name for known in self.inputs)}")
        given = {known.symbol: np.float64(values.get(known.name, known.value_expr)) for known in self.inputs}
        results = [np.empty(()) for _ in self.outputs]
        if not run(self.program, given, results, "numpy"):
            raise InputError("a result is larger than a float64 can be")
        found: dict[str, dict[str, float]] = {}
        for output, result in zip(self.outputs, results, strict=True):
            key = f"seconds_{output.resource}" if output.resource else output.metric
            found.setdefault(output.operator, {})[key] = float(result)
        return found


def exported(step: Step, hardware: Any, *, free: Mapping[str, Any] | None = None, ceilings: str = STATED) -> Exported:
    """The formulas of a step: FLOPs, bytes and seconds of every operator, and of the whole step with its memory.

    Parameters
    ----------
    step : a step with numbers for batch and length, which are inputs with these defaults; parameters of techniques are symbols or numbers.
    hardware : the device; its rates are inputs too, with their figures as defaults.
    free : further inputs by name, with their defaults: parameters that techniques leave symbols, as {"degree": 4}.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    InputError
        The step was not made by a model, a number is missing, or an input is one of the widths, by which a peak is looked up.

    >>> import symroof
    >>> found = symroof.exported(symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048), "a100-sxm-80gb")
    >>> [known.name for known in found.inputs], f"{found()['total']['time']:.4g}"
    (['bandwidth', 'peak_2', 'vector_peak', 'exponential_rate', 'batch', 'context_len'], '0.007021')
    >>> found(batch=8)["up_proj"]["flops"] / found()["up_proj"]["flops"]
    8.0
    """
    device = require_device(hardware, "an export has the device's rates as defaults")
    if step.source is None:
        raise InputError(f"the step of {step.model} was not made by a model: export one from model.decode(...) or model.prefill(...)")
    options = step.options
    values = {name: getattr(options, name) for name in INPUTS}
    if missing := [name for name in SIZES if values[name] is None]:
        raise InputError(f"{missing[0]} must be given as a number: it is the default of an input")
    if fixed_ones := [name for name in free or {} if name in INPUTS]:
        raise InputError(
            f"{quote(fixed_ones[0])} is no further input: batch and seq_len are inputs already, and peaks are looked up by the widths"
        )
    over = {name: [value] for name, value in {**{name: values[name] for name in SIZES}, **(free or {})}.items()}
    fixed = {name: value for name, value in values.items() if name not in over and value is not None}
    kept = {name: getattr(options, name) for name in CONVENTIONS}
    asked = {"phase": options.phase, "techniques": step.symbolic.applied, "ceilings": ceilings, **fixed, **kept}
    plan = Plan(step.source, device, over, per="operator", **asked)
    scenario = plan.sweep(["flops", "traffic", "time"]).scenarios[0]
    formulas = next(iter(plan.steps.values()))
    machine = plan.machines[0]
    definitions = formulas.graph.definitions
    outputs: list[Output] = []

    def add(part: Part, name: str, metrics: Mapping[str, tuple[str, Callable[[Part], Expr]]]) -> None:
        for metric, (unit, formula) in metrics.items():
            outputs.append(Output(name, metric, unit, inlined(formula(part), definitions)))

    for part in formulas.parts:
        add(part, part.name, OF_OPERATOR)
        for resource in BINDING:
            seconds = inlined(seconds_for(resource, part), definitions)
            if seconds != 0:
                outputs.append(Output(part.name, "seconds", "s", seconds, str(resource)))
    every = tuple(operator for part in formulas.parts for operator in part.operators)
    add(Part(TOTAL, formulas.graph, not options.decode, every, machine, formulas.parts[0].open_batch), TOTAL, OF_STEP)
    made = program([output.formula for output in outputs])
    known = {letter: float(np.asarray(table).ravel()[0]) for letter, table in scenario.peaks.items()} | dict(scenario.constants)
    known |= {letter: float(over[name][0]) for name, letter in scenario.letters.items()}
    if CAPACITY.name in made.inputs and device.usable_figure is not None:
        known[CAPACITY.name] = float(device.usable_figure.value)
    inputs = tuple(_input(letter, known[letter], formulas.shares) for letter in made.inputs)
    return Exported(step, device, plan.ceilings, inputs, tuple(outputs), made, step.statements)


def _input(letter: str, value: float, shares: Mapping[str, str]) -> Input:
    """An input by its symbol; a peak is named by its number, and says of which operator it is."""
    if letter in shares:
        return Input(letter, f"peak{letter.removeprefix('P')}", f"peak that applies to {shares[letter]} and its like", "FLOP/second", value)
    if letter == CAPACITY.name:
        return Input(letter, letter, "memory of the device", "byte", value)
    variable = lookup(letter)
    return Input(letter, variable.name, variable.meaning, variable.unit, value)
