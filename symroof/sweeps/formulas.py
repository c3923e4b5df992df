"""The formulas of one step of one model that a sweep evaluates, with a symbol for every peak that may apply."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.architectures.model import Model
from symroof.architectures.options import WIDTHS, Options
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import RATE_SYMBOLS, SYMBOLIC, Machine
from symroof.operators import Block, Operator
from symroof.operators.facts import COMMUNICATION, CONTRACTIONS, Resource
from symroof.roof.ledger import roof_of
from symroof.sweeps.compile import Program, inlined, program
from symroof.sweeps.metrics import METRICS, TOTAL, Part, needed
from symroof.sweeps.optimum.intervals import divided
from symroof.symbols import lookup

LONGEST = 200
"""Characters of a formula up to which it is quoted with the numbers."""


class StepFormulas:
    """The formulas of a step in the swept symbols; peaks and bandwidth always stay symbols.

    Parameters
    ----------
    open_letters : the symbols that are swept over.
    each : for every operator separately.
    techniques : applied to the step, in this order.
    machine : symbolic, with the ceilings requested of a device.

    Attributes
    ----------
    parts : the whole step, or every operator; what metrics are formulas of.
    graph : of the step.
    shares : one operator per symbol of a peak; operators with the same symbol read the same widths.
    statements : the conventions that are followed.

    Raises
    ------
    InputError
        A symbol to sweep over does not occur in this model.
    """

    def __init__(
        self,
        model: Model,
        options: Options,
        open_letters: frozenset[Symbol],
        each: bool,
        techniques: Sequence[Any],
        machine: Machine = SYMBOLIC,
    ) -> None:
        step = model.step(options, swept=symbols.w in open_letters).apply(*techniques)
        letters = step.symbolic.without_values(*open_letters)
        if symbols.g in open_letters:
            letters = letters.bind({symbols.h: symbols.g * symbols.k})
        graph = letters.bind({symbol: value for symbol, value in step.values.items() if symbol not in open_letters})
        bandwidths = {RATE_SYMBOLS[Resource(level)] for level in graph.levels}
        always = {symbols.P, symbols.BW, *options.inputs(), *WIDTHS.values()} | bandwidths
        for symbol in sorted(open_letters - graph.free_symbols - always, key=str):
            name = lookup(str(symbol)).name
            raise InputError(f"{quote(name)} ({symbol}) does not occur in {model.name} in {options.phase}: there is nothing to sweep over")
        one_peak = symbols.P in open_letters
        classes: dict[tuple[object, ...], str] = {}
        self.shares: dict[str, str] = {}
        groups: list[tuple[Operator, Expr, Symbol]] = []
        for operator, count in graph:
            key = (operator.operand_bits, operator.kind in CONTRACTIONS, operator.sparse, id(operator.unit))
            letter = classes.setdefault(key, f"P_{len(classes) + 1}")
            if operator.kind not in COMMUNICATION and not one_peak:
                self.shares.setdefault(letter, operator.name)
            groups.append((operator, count, symbols.P if one_peak else Symbol(letter, positive=True)))
        named = [(one[0].name, (one,)) for one in groups] if each else [(TOTAL, tuple(groups))]
        known = {symbol: value for symbol, value in step.values.items() if symbol not in (*open_letters, symbols.b)}
        open_batch = functools.cache(lambda: letters.bind(known))
        self.parts = tuple(Part(name, graph, not options.decode, several, machine, open_batch) for name, several in named)
        self.graph = graph
        sharing = replace(graph, blocks=(Block("", tuple(graph[name] for name in dict.fromkeys(self.shares.values()))),))
        self._of_widths = functools.cache(lambda *bits: sharing.bind(dict(bits)))  # devices ask for the same widths
        self.statements = step.statements

    def peaks(self, device: Device, widths: Mapping[Symbol, np.ndarray]) -> dict[str, np.ndarray]:
        """The peak of every symbol at every combination of widths: a step function, looked up and never interpolated.

        Raises
        ------
        DeviceError
            The device has no data type that is wide enough.
        """
        shape = tuple(map(len, widths.values()))
        tables = {letter: np.empty(shape) for letter in self.shares}
        for place in np.ndindex(shape):
            bits = [Integer(int(values[at])) for values, at in zip(widths.values(), place, strict=True)]
            graph = self._of_widths(*zip(widths, bits, strict=True))
            for letter, name in self.shares.items():
                tables[letter][place] = roof_of(graph, graph[name], device.machine)[1]
        return tables

    def expressions(self, part: Part, metrics: Sequence[str]) -> tuple[Expr, ...]:
        """The formulas that metrics of a part follow from, in the order of `needed`."""
        return tuple(inlined(formula(part), part.graph.definitions) for formula in needed(metrics))

    def programs(self, metrics: Sequence[str]) -> dict[str, Program]:
        """A program for the whole step, or for every operator."""
        return {part.name: program(self.expressions(part, metrics)) for part in self.parts}

    def bounding(self, metrics: Sequence[str]) -> dict[str, Program]:
        """A program of the metrics themselves, in the form whose bounds over boxes are tight; of a comparison, of its sides."""
        part = self.parts[0]
        known = dict(zip(needed(metrics), self.expressions(part, metrics), strict=True))
        results: list[Expr] = []
        for metric in (METRICS[name] for name in metrics):
            sides = [known[formula] for formula in metric.formulas]
            results += sides if metric.words else [divided(metric.value(*sides))]
        return {part.name: program(results)}

    def texts(self, metrics: Sequence[str]) -> dict[str, str]:
        """The formulas of metrics that are one formula of the whole step, where they are short."""
        single = [name for name in metrics if len(METRICS[name].formulas) == 1 and self.parts[0].name == TOTAL]
        texts = {name: str(self.expressions(self.parts[0], [name])[0]) for name in single}
        return {name: text for name, text in texts.items() if len(text) <= LONGEST}
