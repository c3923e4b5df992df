"""The links of a machine that a graph uses: how many devices they join, and where trees take another step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import cast

from sympy import Expr, Min, S, Symbol, ceiling, log, oo

from symroof import symbols
from symroof.algebra.saturation import Branch
from symroof.errors import DeviceError
from symroof.hardware.machine import Machine
from symroof.operators import Graph, Resource
from symroof.operators.collective import LARGEST
from symroof.symbols import Values, substitute


def linked(graph: Graph, machine: Machine, free: Iterable[Symbol] = (), largest: Values | None = None) -> Machine:
    """The machine with the links that the graph uses, without figures that a technique replaces.

    Parameters
    ----------
    free : symbols that the question asks for.
    largest : the largest values of symbols, if known.

    Raises
    ------
    DeviceError
        More devices share the step's link than it joins.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(symroof.technique("tensor-parallel:degree=16"))
    >>> linked(step.symbolic, symroof.load_hardware("h100-sxm").machine)
    Traceback (most recent call last):
        ...
    symroof.errors.DeviceError: device 'h100-sxm' links 8 devices, and 16 share the step: give those of one node, as node=8
    """
    definitions = graph.definitions
    if symbols.BW_l in definitions:
        rates = {resource: rate for resource, rate in machine.rates.items() if resource is not Resource.PEER}
        machine = replace(machine, rates=rates, latencies={}, joined=None)
    elif symbols.BW_n in definitions and symbols.t_l in machine.latencies:
        machine = replace(machine, latencies={**machine.latencies, symbols.t_n: machine.latencies[symbols.t_l]})
    asked = sharing(graph.without_values(*free), largest)
    if machine.joined is not None and asked.is_number and asked > machine.joined:
        several = sum(hasattr(technique, "node") for technique in graph.applied) > 1
        what = f"each technique's devices of one node, node=..., whose product is at most {machine.joined}"
        how = what if several else f"those of one node, as node={machine.joined}"
        raise DeviceError(f"{machine.described} links {machine.joined} devices, and {asked} share the step: give {how}")
    return machine


def sharing(graph: Graph, values: Values | None = None) -> Expr:
    """The number of devices that share a link, numeric where known."""
    return _resolved(graph.linked, graph, values)


def _resolved(formula: Expr, graph: Graph, values: Values | None = None) -> Expr:
    """A formula with its symbols replaced by their definitions."""
    formula = substitute(formula, values or {})
    for _ in graph.definitions:
        resolved = substitute(formula, graph.definitions)
        if resolved == formula:
            break
        formula = substitute(resolved, values or {})
    return formula


def farthest(graph: Graph, machine: Machine, x: Symbol, latencies: Iterable[Expr]) -> Expr:
    """The upper end of a variable: the devices that the link joins, or the largest tree considered; oo if there is neither.

    >>> import symroof
    >>> from symroof.symbols import n_p
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(symroof.technique("tensor-parallel"))
    >>> farthest(step.symbolic, symroof.load_hardware("h100-sxm").machine, n_p, ())
    8
    """
    graph = graph.without_values(x)
    end = LARGEST if any(x in _resolved(tree, graph).free_symbols for tree in _trees(latencies)) else oo
    shared = sharing(graph)
    if machine.joined is None or x not in shared.free_symbols:
        return end
    most = substitute(shared, {x: oo})
    if most.is_number and most <= machine.joined:
        return end
    growing = shared.replace(Min, lambda *sides: next(side for side in sides if x in side.free_symbols))
    slope = cast(Expr, growing / x)
    return cast(Expr, min(end, machine.joined / slope)) if slope.is_number else end


def _trees(latencies: Iterable[Expr]) -> set[Expr]:
    """The steps of trees, ``ceil(log2 n)``, in formulas."""
    return {atom for formula in latencies for atom in formula.atoms(ceiling) if atom.has(log)}


def doublings(branch: Branch, latencies: Iterable[Expr], x: Symbol, end: Expr, values: Values) -> Iterator[Branch]:
    """A branch split where trees over the variable take another step: at every doubling of the devices.

    A single device, at the start of a range, takes no step: a point.

    >>> from sympy import Integer, true
    >>> from symroof.symbols import n_p
    >>> whole = Branch({}, true, Integer(1), oo)
    >>> [(part.low, part.high, *part.active.values()) for part in doublings(whole, [ceiling(log(n_p, 2))], n_p, Integer(8), {})]
    [(1, 1, 0), (1, 2, 1), (2, 4, 2), (4, 8, 3)]
    """
    trees = {tree: substitute(substitute(tree, branch.active), values) for tree in _trees(latencies)}
    moving = {tree: settled for tree, settled in trees.items() if x in settled.free_symbols}
    if not moving:
        yield branch
        return
    top = branch.high if branch.high != oo else end
    cuts = {branch.low, top}
    for settled in moving.values():
        scale = _devices(settled) / x
        cuts |= {at for doubling in range(int(log(LARGEST, 2)) + 1) if branch.low < (at := 2**doubling / scale) < top}
    ends = sorted(cuts)
    for low, high in [(ends[0], ends[0])] * (ends[0] == 1) + [*pairwise(ends)]:
        steps = {tree: substitute(settled, {x: high}) for tree, settled in moving.items()}
        yield replace(branch, active={**branch.active, **steps}, low=low, high=high)


def _devices(tree: Expr) -> Expr:
    """The number of devices of a tree: n of ``ceil(log2 n)``."""
    return cast(Expr, next(iter(tree.atoms(log) - {log(S(2))})).args[0])
