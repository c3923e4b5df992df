"""Where two steps do as many FLOPs, or move as many bytes: in letters, for any variable that both are linear in."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Add, Expr, factor_terms

from symroof.algebra.polynomial import polynomial
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.roof.costs import TOTAL, costs_of, variable_of
from symroof.symbols import Variable


@dataclass(frozen=True)
class BreakEven:
    """The value of a variable at which two steps cost the same per completed token; None where it does not decide.

    Attributes
    ----------
    flops : where FLOPs are equal: what decides where both are compute-bound under one peak.
    traffic : where bytes of memory traffic are: what decides where both are memory-bound.
    """

    over: Variable
    flops: Expr | None
    traffic: Expr | None


def break_even(before: Step, after: Step, *, over: str, part: str = TOTAL) -> BreakEven:
    """Where *after* costs as much as *before*, in letters: the largest rank that helps, the density, the context.

    Parameters
    ----------
    before, after : a step and the same after techniques, or after two different ones.
    over : a variable.
    part : the whole step, or an operator with what techniques made of it.

    Raises
    ------
    InputError
        The difference is of a higher degree in the variable.

    >>> import symroof
    >>> from symroof.techniques.registry import technique
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> found = break_even(step, step.apply(technique("low-rank")), over="rank", part="up_proj")
    >>> print(found.flops, "and", found.traffic)
    d*f/(d + f) and d*f*w/(2*a*b + d*w + f*w)
    """
    variable = variable_of(before, over)
    flops, traffic = [], []
    for step in (before, after):
        cost = costs_of(step, part)
        flops.append(Add(*(one.flops for one in cost)) / step.symbolic.tokens)
        traffic.append(Add(*(one.traffic for one in cost)) / step.symbolic.tokens)
    return BreakEven(variable, _equal(flops[0], flops[1], variable), _equal(traffic[0], traffic[1], variable))


def _equal(before: Expr, after: Expr, variable: Variable) -> Expr | None:
    gain = polynomial(after - before, variable.symbol) if before != after else None
    if gain is None or gain.degree < 1:
        return None
    if gain.degree > 1:
        raise InputError(f"{variable.name}: the difference is of degree {gain.degree} in it, no one value breaks even")
    rest, slope = gain.coefficients
    return factor_terms(-rest / slope)
