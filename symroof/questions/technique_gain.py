"""Symbolic costs of an operator or step before and after a technique, and the sign of the savings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sympy import Add, Basic, Dummy, Expr, Mul, S, Symbol, oo, sign
from sympy.logic.boolalg import Boolean

from symroof import symbols
from symroof.algebra.polynomial import open_factors, polynomial
from symroof.algebra.signs import greater
from symroof.algebra.unions import Untouched
from symroof.errors import InputError
from symroof.hardware.machine import SYMBOLIC, Machine
from symroof.operators import Graph, Resource
from symroof.roof.costs import in_full
from symroof.roof.ledger import Cost, charged, runs_on
from symroof.symbols import VOCABULARY


@dataclass(frozen=True)
class PartCost:
    """The symbolic demands per generated token before or after the technique."""

    cost: tuple[Cost, ...]
    graph: Graph

    def over(self, *resources: Resource) -> Expr:
        """The total demand on these resources: FLOPs, or the bytes of a level."""
        demands = (one.count * charged(one.operator.demands, SYMBOLIC).get(resource, S.Zero) for one in self.cost for resource in resources)
        return in_full(Add(*demands), self.graph.definitions) / self.graph.tokens

    def seconds(self, resource: Resource) -> Expr:
        """Seconds times the device's rate: demands divided by the factors on ceilings, those of a unit at the unit's own rate."""
        taken = (
            one.amounts.get(resource, S.Zero) * (_rate(SYMBOLIC, resource) / _rate(runs_on(one.operator, SYMBOLIC), resource))
            for one in self.cost
        )
        return in_full(Add(*taken), self.graph.definitions) / self.graph.tokens


def _rate(machine: Machine, resource: Resource) -> Expr:
    """The symbol of a machine's rate; for a unit with numeric rates the symbols of units."""
    if resource is not Resource.COMPUTE:
        rate = machine.rate(resource)
        return rate if isinstance(rate, Symbol) else symbols.BW_u
    return next((peak for peak in machine.peaks.values() if isinstance(peak, Symbol)), symbols.P_u)


def positive(gain: Expr) -> Boolean | bool | None:
    """Whether a gain is positive for all positive symbols, or the condition; untouched shares are known to be positive."""
    if unions := {one: 1 - Dummy("y", positive=True) for one in gain.atoms(Untouched)}:
        verdict = positive(cast(Expr, gain.xreplace(unions)))
        return None if isinstance(verdict, Basic) and verdict.has(Dummy) else verdict
    letters = sorted(gain.free_symbols, key=str)
    if not letters:
        return bool(gain > 0)
    x = letters[0]
    assert isinstance(x, Symbol)
    try:
        known, factors = open_factors(gain, x)
    except InputError:
        return None
    if not factors:
        return known > 0
    product = Mul(*(factor**power for factor, power in factors))
    if all(power == 1 for _, power in factors) and (within := _sign_within(product)):
        return bool(known * within > 0)
    return greater(known * product)


def _sign_within(product: Expr) -> Expr | None:
    """The sign for every value of its only symbol, which has an upper bound; None if it varies, or there are other symbols."""
    letters = product.free_symbols
    if len(letters) != 1:
        return None
    x = letters.pop()
    assert isinstance(x, Symbol)
    highest = VOCABULARY[x].highest
    if highest == oo:
        return None
    single = polynomial(product, x)
    if any(0 < root < highest for root in single.roots()):
        return None
    return sign(single(highest / 2))
