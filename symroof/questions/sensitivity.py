"""Elasticities of a step's time: the percentage by which it changes if a variable changes by one percent.

On one regime ``time = sum over compute-bound (F / P) + sum over memory-bound (B / BW)``, so the elasticity to
the peak is minus the share of time spent compute-bound, that to the bandwidth minus the share spent
memory-bound, and the two sum to -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sympy import Add, Expr, S, Symbol, ceiling

from symroof import symbols
from symroof.algebra.saturation import branches, saturating
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.operators.ceilings import IDEAL
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import needed, require_two_ceilings
from symroof.roof.roofline import MEMORY, RooflinePoint
from symroof.symbols import VOCABULARY, Values, substitute
from symroof.units import COUNT, in_unit


@dataclass(frozen=True)
class Sensitivity(Answer):
    """The elasticities of a step on a device.

    Attributes
    ----------
    formulas : the symbolic elasticity to every variable, in the regime of the step. With several peaks, P is the peak
        of the respective operator.
    values_expr : the elasticities as exact numbers, bare.
    memory_boundness : the share of time that is memory-bound: minus the elasticity to the bandwidth.
    """

    analysis: Analysis
    formulas: Mapping[Symbol, Expr]
    values_expr: Mapping[Symbol, Expr]

    values = in_unit(lambda answer: answer.values_expr, COUNT, "The elasticities, as Quantities without a unit.")
    memory_boundness = in_unit(lambda answer: answer.memory_boundness_expr, COUNT, "The share of time spent memory-bound, as a Quantity.")

    @property
    def memory_boundness_expr(self) -> Expr:
        """The share of time spent memory-bound, exact and bare."""
        return -self.values_expr[symbols.BW]

    @property
    def buy(self) -> str:
        """The resource of which one percent more saves more time."""
        return "bandwidth" if 2 * self.memory_boundness_expr > 1 else "peak"

    @property
    def advice(self) -> str:
        """What to buy, in words."""
        return self.sentence


def sensitivity(step: Step, hardware: Device | str | Path, *, ceilings: str = STATED) -> Sensitivity:
    """Elasticities of the step's time to peak, bandwidth, widths and sizes.

    Raises
    ------
    InputError
        An input is still a symbol.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(
    ...     batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> found = symroof.sensitivity(step, "a100-sxm-80gb")
    >>> print(found.values[symbols.P] + found.values[symbols.BW], found.buy)
    -1 bandwidth
    """
    require_two_ceilings(step, "sensitivity")
    if step.symbolic.ceilings != IDEAL:
        raise InputError(f"sensitivity does not support factors on ceilings; {' and '.join(step.techniques)} adds some")
    analysis = analyze(step, hardware, ceilings=ceilings)
    if analysis.total.time_expr.free_symbols:
        raise InputError(f"{needed(analysis.total.time_expr.free_symbols)} for the elasticities")
    active, counts = _active(analysis), (count for _, count in analysis.step.symbolic)
    parts = [(placed, substitute(_seconds(placed, count), active)) for placed, count in zip(analysis, counts, strict=True)]
    time = Add(*(part for _, part in parts))
    stepped = set().union(*(atom.free_symbols for atom in time.atoms(ceiling)))
    letters = [x for x in sorted(time.free_symbols - stepped, key=str) if isinstance(x, Symbol) and x in VOCABULARY]
    formulas = {symbols.P: S.Zero, symbols.BW: S.Zero} | {x: x * time.diff(x) / time for x in letters}
    numbers = [{**analysis.values, symbols.P: placed.peak_expr, symbols.BW: placed.bandwidth_expr} for placed in analysis]
    values = {
        x: Add(*(substitute(x * part.diff(x), own) for (_, part), own in zip(parts, numbers, strict=True))) / analysis.total.time_expr
        for x in dict.fromkeys((*letters, symbols.P, symbols.BW))
    }
    return Sensitivity(analysis, formulas, values)


def _active(analysis: Analysis) -> Values:
    """The active argument of every saturating symbol at the given numbers; where both arguments are equal, its limit."""
    definitions = analysis.step.symbolic.definitions
    found = branches(saturating(definitions, definitions), [symbols.b, symbols.s, symbols.t])
    return next(one.active for one in reversed(found) if one.where.xreplace(dict(analysis.values)))


def _seconds(placed: RooflinePoint, count: Expr) -> Expr:
    """The symbolic time of an operator under its binding ceiling."""
    if placed.bound == MEMORY:
        return count * placed.symbolic.byte_count() / symbols.BW
    return count * placed.symbolic.flop_count / symbols.P
