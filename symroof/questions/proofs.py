"""Claims "memory-bound (or compute-bound) for all b >= 1, t >= 1, ..." about an operator of a step on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sympy import Expr, Ge, Gt, Integer, Rational, S, Symbol, ceiling

from symroof import symbols
from symroof.algebra.piecewise import COMPUTE, MEMORY
from symroof.algebra.tile_counting import without_ceilings
from symroof.architectures.step import Step
from symroof.errors import InputError, nearest, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED, Machine
from symroof.notation import Sentence
from symroof.operators.facts import Resource
from symroof.proof.bounds import in_lowest_terms
from symroof.proof.claims import Case, Certificate, merge_cases
from symroof.roof.costs import (
    WIDTHS,
    branches_of,
    costs,
    grouped_costs,
    known_values,
    lowest,
    needed,
    on_branch,
    require,
    require_two_ceilings,
    variable_of,
)
from symroof.roof.intervals import seconds
from symroof.roof.ledger import device_of, machine_of
from symroof.symbols import VOCABULARY, Variable, substitute

CLAIMS = {"memory-bound": MEMORY, "compute-bound": COMPUTE}


def prove(
    step: Step,
    claim: str,
    operator: str,
    *,
    for_all: str | Symbol | Sequence[str | Symbol],
    at_least: Mapping[str, int | Rational] | Mapping[Symbol, int | Rational] | None = None,
    hardware: Device | str | Path | None = None,
    ceilings: str = STATED,
) -> Certificate:
    """Decide whether an operator has one bound for all values of some variables.

    Parameters
    ----------
    claim : "memory-bound" or "compute-bound".
    operator : as for `crossover`.
    for_all : the variables that range; all others must be numbers.
    at_least : lower limits of variables; default 1 for integers, 0 (exclusive) for reals.
    hardware : the device; without one, peak and bandwidth are variables.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    InputError
        The claim or a variable is unknown, a variable does not occur, or another symbol is left.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16)
    >>> answer = symroof.prove(step, "memory-bound", "qk_matmul", for_all=["batch", "seq_len"], hardware="a100-sxm-80gb")
    >>> answer.verdict, answer.by
    ('proved', 'shift')
    >>> symroof.prove(step, "memory-bound", "up_proj", for_all=["batch"], hardware="a100-sxm-80gb").counterexample
    {b: 162}
    """
    if claim not in CLAIMS:
        raise InputError(f"claim {quote(claim)}: {nearest(claim, CLAIMS)}")
    for_all = [for_all] if isinstance(for_all, str | Symbol) else for_all
    if not for_all:
        raise InputError("name at least one variable to range over")
    variables = tuple(dict.fromkeys(variable_of(step, name) for name in for_all))
    if {symbols.h, symbols.g} <= {variable.symbol for variable in variables}:
        raise InputError("num_heads and group_size cannot range together: h = g k; let num_kv_heads and group_size do")
    lows = _lows(step, variables, at_least or {})
    device = device_of(hardware)
    machine = machine_of(step.symbolic, device, ceilings, [one.symbol for one in variables], step.options.accounting)
    cases = _cases(step, operator, variables, for_all, device, machine, Resource(CLAIMS[claim]), lows)
    if device is None:
        variables += tuple(VOCABULARY[symbol] for symbol in (symbols.P, symbols.BW) if VOCABULARY[symbol] not in variables)
        lows = {symbols.P: Integer(0), symbols.BW: Integer(0)} | lows
    ranges = Sentence.listed((Gt if lows[x] == 0 else Ge)(x, lows[x], evaluate=False) for x in (one.symbol for one in variables))
    words = Sentence(f"{operator} of {step.model} in {step.options.phase} is {claim} for all ", ranges)
    if device:
        words = Sentence(words, f" on {device.title}")
    answer = merge_cases(words, CLAIMS[claim], [one for one in cases if one.reached_from(lows)], lows)
    if answer.counterexample is None:
        return answer
    anywhere = {one.symbol: lows[one.symbol] or Integer(1) for one in variables}  # the bound does not depend on these
    return replace(answer, counterexample=anywhere | dict(answer.counterexample))


def _lows(step: Step, variables: Sequence[Variable], at_least: Mapping[Any, int | Rational]) -> dict[Symbol, Expr]:
    lows = {variable.symbol: lowest(variable) for variable in variables}
    for name, value in at_least.items():
        if isinstance(value, bool) or not isinstance(value, int | Rational):
            raise InputError(f"at least {name}={quote(value)}: expected a number")
        symbol = variable_of(step, name).symbol
        if symbol not in lows:
            raise InputError(f"at least {name}={value}: {quote(str(name))} is not among the variables that range over all")
        if value < lowest(VOCABULARY[symbol]):
            raise InputError(f"at least {name}={value}: expected {lowest(VOCABULARY[symbol])} or more")
        lows[symbol] = ceiling(Rational(value)) if VOCABULARY[symbol].domain == "integer" else Rational(value)
    return lows


def _cases(
    step: Step,
    operator: str,
    variables: Sequence[Variable],
    typed: Sequence[str | Symbol],
    device: Device | None,
    machine: Machine,
    bound: Resource,
    lows: dict[Symbol, Expr],
) -> list[Case]:
    require_two_ceilings(step, "a proof")
    cost = costs(step, operator, machine)
    ranging = {variable.symbol for variable in variables}
    for variable, name in zip(variables, typed, strict=False):
        require(step, operator, cost, variable, name)
        if device and variable.symbol in WIDTHS:
            raise InputError(
                f"{quote(str(name))} decides which peak of {device.name} applies: give it as a number, or leave the device out"
            )
        cost = grouped_costs(cost, variable.symbol)
    known = known_values(step, device, *ranging)
    graph = step.symbolic.bind(known)
    found: list[Case] = []
    for branch in branches_of(step, cost, ranging):
        total = seconds(graph, on_branch(cost, branch), known, machine)
        margins = tuple(substitute(margin, known) for margin in branch.margins)
        where = branch.where if margins else None
        ranges = {symbol: low for symbol, low in lows.items() if symbol in ranging}
        bounded = _bounded(operator, total, ranges, bound)
        slacks = _slacks(total, bound)
        for against, near in _slacks(bounded, bound).items():
            exact = None if near == slacks[against] else slacks[against]
            found.append(Case(where, in_lowest_terms(near), margins, exact, against, bound))
    allowed = ranging | ({symbols.P, symbols.BW} if device is None else set())
    left = set().union(*(case.free_symbols for case in found)) - allowed
    if left:
        raise InputError(f"{needed(left)}, or be among the variables that range over all")
    return found


def _slacks(total: Mapping[Resource, Expr], bound: Resource) -> dict[Resource, Expr]:
    """The slacks of every other resource against the claimed one: negative for memory, positive for compute."""
    bounding = total.get(bound, S.Zero)
    others = {resource: taken for resource, taken in total.items() if resource is not bound} or {Resource.COMPUTE: S.Zero}
    return {resource: bounding - other if bound is Resource.COMPUTE else other - bounding for resource, other in others.items()}


def _bounded(operator: str, total: dict[Resource, Expr], lows: Mapping[Symbol, Expr], bound: Resource) -> dict[Resource, Expr]:
    """The seconds with bounds instead of counted blocks: lower bounds for the claimed resource, upper bounds for the others."""
    bounded: dict[Resource, Expr] = {}
    for resource, taken in total.items():
        found = without_ceilings(taken, lows, above=resource is not bound) if taken.has(ceiling) else taken
        if found is None or found.has(ceiling):
            raise InputError(f"{operator} counts blocks of R rows of the prompt: no proof over these variables; omit FlashAttention")
        bounded[resource] = found
    return bounded
