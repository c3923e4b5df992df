"""One part of a step before and after a technique, in letters, and the sign of what it saves."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Add, Expr, Mul, Symbol, cancel, factor_list, oo
from sympy.logic.boolalg import Boolean

from symroof import symbols
from symroof.algebra.intervals import roots
from symroof.algebra.polynomial import polynomial, sign
from symroof.algebra.signs import greater
from symroof.errors import InputError
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Level
from symroof.roof.costs import Cost
from symroof.symbols import VOCABULARY


@dataclass(frozen=True)
class Side:
    """FLOPs and bytes per completed token of the part, on one side of the technique, in letters."""

    cost: tuple[Cost, ...]
    graph: Graph

    @property
    def flops(self) -> Expr:
        """FLOPs."""
        return Add(*(one.flops * one.operator.occupancy for one in self.cost)) * self.graph.ceilings.compute / self.graph.tokens

    @property
    def traffic(self) -> Expr:
        """Bytes of memory traffic."""
        return (
            Add(*(one.traffic * one.operator.occupancy for one in self.cost)) * self.graph.ceilings.factor(Level.MEMORY) / self.graph.tokens
        )

    @property
    def compute(self) -> Expr:
        """Seconds of all FLOPs times the device's peak P: FLOPs as the ceilings see them, a unit's under its own peak P_u."""
        return Add(*(one.flops * (symbols.P / _peak_of(one.operator) if one.operator.unit else 1) for one in self.cost)) / self.graph.tokens

    @property
    def memory(self) -> Expr:
        """Seconds of all bytes times the device's bandwidth BW."""
        return (
            Add(*(one.traffic * (symbols.BW / symbols.BW_u if _has_own_memory(one.operator) else 1) for one in self.cost))
            / self.graph.tokens
        )

    def over(self, level: Level) -> Expr:
        """Bytes over another level."""
        return Add(*(moved for one in self.cost for which, moved in one.further if which is level)) / self.graph.tokens


def _peak_of(operator: Operator) -> Expr:
    """The letter of the peak of the unit it runs on."""
    letters = [peak for peak in getattr(operator.unit, "peaks", {}).values() if isinstance(peak, Symbol)]
    return letters[0] if letters else symbols.P_u


def _has_own_memory(operator: Operator) -> bool:
    """Whether it runs on a unit whose bandwidth is not the device's."""
    return operator.unit is not None and operator.unit.memory_bandwidth != symbols.BW


def positive(gain: Expr) -> Boolean | bool | None:
    """Whether a gain is above zero for all positive letters, or when."""
    letters = sorted(gain.free_symbols, key=str)
    if not letters:
        return bool(gain > 0)
    x = letters[0]
    assert isinstance(x, Symbol)
    try:
        whole = polynomial(gain, x).as_expr()
    except InputError:
        return None
    known = sign(whole)
    if known is not None:
        return known > 0
    within = _sign_within(whole)
    if within is not None:
        return within
    shorter = factor_list(whole)[1]
    open_ = [part for part, _ in shorter if sign(part) is None]
    if len(open_) == 1 and all(sign(part) is not None for part, _ in shorter if part is not open_[0]):
        return greater(open_[0] if _same_sign(whole, open_[0]) else -open_[0])
    return greater(whole)


def _sign_within(whole: Expr) -> bool | None:
    """Whether it is positive for every value of its one letter that has a highest; None where that depends, or there are others."""
    factors = [part for part, _ in factor_list(whole)[1] if sign(part) is None]
    letters = set().union(*(part.free_symbols for part in factors))
    if len(letters) != 1:
        return None
    x = letters.pop()
    assert isinstance(x, Symbol)
    highest = VOCABULARY[x].highest
    rest = cancel(whole / Mul(*factors))
    if highest == oo or sign(rest) is None:
        return None
    single = polynomial(Mul(*factors), x)
    if any(0 < root < highest for root in roots(single)):
        return None
    return bool(single(highest / 2) * sign(rest) > 0)


def _same_sign(whole: Expr, part: Expr) -> bool:
    """Whether the rest of a product is positive."""
    return sign(cancel(whole / part)) == 1
