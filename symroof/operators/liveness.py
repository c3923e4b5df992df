"""Liveness: the activations alive while each operator runs, from the data dependencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

from sympy import Add, Expr, Integer, Max, Poly, Pow, fraction, together
from sympy.core.function import Application

from symroof.operators.operator import Operator
from symroof.operators.tensor import Tensor


def _lives(operators: Sequence[Operator], inputs: set[Tensor], outputs: set[Tensor]) -> list[tuple[Tensor, int, int]]:
    """The lifetime of every value of an activation, from the operator that writes it to the last that reads it.

    A tensor that is written again, such as the residual stream, has several lifetimes. Inputs are alive at the start; the
    last value of an output outlives the sequence.
    """
    open_lives: dict[Tensor, tuple[int, int]] = dict.fromkeys(inputs, (0, 0))
    ended: list[tuple[Tensor, int, int]] = []
    for position, operator in enumerate(operators):
        for access in operator.reads:
            if access.tensor.takes_memory:
                open_lives[access.tensor] = open_lives.get(access.tensor, (0, 0))[0], position
        for access in operator.writes:
            if access.tensor.takes_memory:
                if access.tensor in open_lives:
                    ended.append((access.tensor, *open_lives[access.tensor]))
                open_lives[access.tensor] = position, position
    end = len(operators) - 1
    return ended + [(tensor, first, end if tensor in outputs else last) for tensor, (first, last) in open_lives.items()]


def sizes_alive(blocks: Sequence[tuple[Sequence[Operator], bool]]) -> list[Expr]:
    """Bytes of activations alive at each operator of a step, operands and result included.

    Parameters
    ----------
    blocks : the operators of each block, and whether the block is repeated.
    """
    reads = [_needed(operators) for operators, _ in blocks]
    writes = [{access.tensor for operator in operators for access in operator.writes} for operators, _ in blocks]
    given = set().union(*reads) - set().union(*writes)
    sizes: list[Expr] = []
    for place, (operators, repeated) in enumerate(blocks):
        before = given.union(*writes[: place + repeated])
        after = given.union(*reads[place + (not repeated) :])
        inputs, outputs = before & (reads[place] | after), after & (before | writes[place])
        lives = _lives(operators, inputs, outputs)
        sizes += [Add(*[tensor.byte_count for tensor, first, last in lives if first <= at <= last]) for at in range(len(operators))]
    return sizes


def _needed(operators: Sequence[Operator]) -> set[Tensor]:
    """The activations that the operators read before writing."""
    written: set[Tensor] = set()
    needed: set[Tensor] = set()
    for operator in operators:
        for access in operator.reads:
            if access.tensor.takes_memory and access.tensor not in written:
                needed.add(access.tensor)
        for access in operator.writes:
            written.add(access.tensor)
    return needed


def largest(candidates: Sequence[Expr]) -> Expr:
    """The maximum of positive expressions, without candidates that another exceeds in every coefficient."""
    distinct = list(dict.fromkeys(candidates))
    if not distinct:
        return Integer(0)
    if all(map(attrgetter("is_number"), distinct)):
        return max(distinct)
    terms = {candidate: _terms(candidate) for candidate in distinct}
    kept: list[Expr] = []
    for candidate in distinct:
        if not any(_dominates(other, candidate, terms) for other in kept):
            kept = [other for other in kept if not _dominates(candidate, other, terms)] + [candidate]
    return kept[0] if len(kept) == 1 else Max(*kept, evaluate=False)


def _terms(candidate: Expr) -> Mapping[Expr, Expr] | None:
    """The monomials and their coefficients; None if the expression is not a polynomial, for example a minimum."""
    parts = cast(set[Any], candidate.atoms(Pow, Application))
    plain = all(part.is_Pow and part.base.is_Symbol and part.exp.is_Integer for part in parts)
    return cast(Mapping[Expr, Expr], candidate.expand().as_coefficients_dict()) if plain else None


def _dominates(larger: Expr, smaller: Expr, terms: Mapping[Expr, Mapping[Expr, Expr] | None]) -> bool:
    """Whether every coefficient of the difference is positive, so that it is positive for all positive symbols."""
    more, less = terms[larger], terms[smaller]
    if more is not None and less is not None:
        return all(more.get(term, 0) >= less.get(term, 0) for term in {*more, *less})
    numerator = fraction(together(larger - smaller))[0].expand()
    if numerator.is_number:
        return bool(numerator >= 0)
    symbols = sorted(numerator.free_symbols, key=str)
    if not numerator.is_polynomial(*symbols):
        return False
    return all(coefficient >= 0 for coefficient in Poly(numerator, *symbols).coeffs())
