"""Elasticities of a step's time: by how many percent it changes when something changes by one percent.

On one regime ``time = sum over compute-bound (F / P) + sum over memory-bound (B / BW)``, so the elasticity to
the peak is minus the share of time spent compute-bound, that to the bandwidth minus the share spent
memory-bound, and the two sum to -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sympy import Add, Expr, Symbol, ceiling

from symroof import symbols
from symroof.algebra.saturation import branches, saturating
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.operators.ceilings import IDEAL
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import needed, require_two_ceilings
from symroof.roof.roofline import MEMORY, RooflinePoint
from symroof.symbols import VOCABULARY, Values, substitute


@dataclass(frozen=True)
class Sensitivity(Answer):
    """The elasticities of a step on a device.

    Attributes
    ----------
    formulas : the elasticity to every variable, in letters, on the regime the step is in. With several
        peaks, P is the peak of the operators it stands for in turn.
    values : the same as exact numbers.
    memory_boundness : the share of time that is memory-bound: minus the elasticity to the bandwidth.
    """

    analysis: Analysis
    formulas: Mapping[Symbol, Expr]
    values: Mapping[Symbol, Expr]

    @property
    def memory_boundness(self) -> Expr:
        """The share of time spent memory-bound, exactly."""
        return -self.values[symbols.BW]

    @property
    def buy(self) -> str:
        """The resource of which one percent more saves more time."""
        return "bandwidth" if 2 * self.memory_boundness > 1 else "peak"

    @property
    def advice(self) -> str:
        """What to buy, in words."""
        return self.sentence


def sensitivity(step: Step, hardware: Device | str | Path) -> Sensitivity:
    """Elasticities of the step's time to peak, bandwidth, widths and sizes.

    Raises
    ------
    InputError
        An input is still a symbol.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(
    ...     batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> found = symroof.sensitivity(step, "a100-sxm-80gb")
    >>> found.values[symbols.P] + found.values[symbols.BW], found.buy
    (-1, 'bandwidth')
    """
    require_two_ceilings(step, "an elasticity")
    if step.symbolic.ceilings != IDEAL:
        raise InputError(f"an elasticity is told for whole roofs; {' and '.join(step.techniques)} puts factors on them")
    analysis = analyze(step, hardware)
    if analysis.total.time_expr.free_symbols:
        raise InputError(f"{needed(analysis.total.time_expr.free_symbols)} to tell the elasticities")
    numbers = dict(analysis.values)
    active = _active(analysis, numbers)
    compute, memory = _times(analysis, active)
    letters = sorted((compute + memory).free_symbols, key=str)
    formulas = {
        x: _elasticity(compute + memory, x) for x in letters if isinstance(x, Symbol) and x in VOCABULARY and _smooth(compute + memory, x)
    }
    total = analysis.total.time_expr
    shares = {
        bound: Add(*(placed.count * placed.time_expr for placed in analysis if placed.bound == bound)) / total
        for bound in (MEMORY, "compute")
    }
    values = {x: _value(analysis, x, numbers, active) for x in formulas}
    values |= {symbols.P: -shares["compute"], symbols.BW: -shares[MEMORY]}
    formulas = {symbols.P: -compute / (compute + memory), symbols.BW: -memory / (compute + memory)} | formulas
    return Sensitivity(analysis, formulas, values)


def _active(analysis: Analysis, numbers: Values) -> Values:
    """What every symbol that saturates with batch or length stands for at the numbers; where both sides hold, its limit."""
    definitions = analysis.step.symbolic.definitions
    found = branches(saturating(definitions, definitions), [symbols.b, symbols.s, symbols.t])
    return next(one.active for one in reversed(found) if one.where.xreplace(dict(numbers)))


def _times(analysis: Analysis, active: Values) -> tuple[Expr, Expr]:
    """Compute-bound and memory-bound time in letters, on the regime the numbers are in."""
    pairs = list(zip(analysis, (count for _, count in analysis.step.symbolic), strict=True))
    compute = [count * placed.symbolic.flop_count / symbols.P for placed, count in pairs if placed.bound != MEMORY]
    memory = [count * placed.symbolic.byte_count() / symbols.BW for placed, count in pairs if placed.bound == MEMORY]
    return substitute(Add(*compute), active), substitute(Add(*memory), active)


def _smooth(time: Expr, x: Symbol) -> bool:
    return not any(x in atom.free_symbols for atom in time.atoms(ceiling))


def _elasticity(time: Expr, x: Symbol) -> Expr:
    return x * time.diff(x) / time


def _value(analysis: Analysis, x: Symbol, numbers: Values, active: Values) -> Expr:
    """The elasticity in numbers, every operator under its own peak."""
    change = Add(
        *(
            substitute(count, numbers) * substitute(_part(placed, x, active), numbers)
            + substitute(x * count.diff(x), numbers) * placed.time_expr
            for placed, count in zip(analysis, (count for _, count in analysis.step.symbolic), strict=True)
        )
    )
    return change / analysis.total.time_expr


def _part(placed: RooflinePoint, x: Symbol, active: Values) -> Expr:
    if placed.bound == MEMORY:
        return x * substitute(placed.symbolic.byte_count(), active).diff(x) / placed.bandwidth
    return x * substitute(placed.symbolic.flop_count, active).diff(x) / placed.peak
