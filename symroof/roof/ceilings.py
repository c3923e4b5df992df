"""The times of an operator under its ceilings, and the bandwidth of every level its bytes cross."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from sympy import Add, Expr, Max, S, Symbol

from symroof import symbols
from symroof.errors import DeviceError
from symroof.hardware.device import Device
from symroof.operators.ceilings import Ceilings
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Level
from symroof.symbols import VOCABULARY, Values, substitute

COMPUTE, OVERHEAD = "compute", "overhead"

BANDWIDTH = {Level.MEMORY: symbols.BW, Level.HOST: symbols.BW_h, Level.LINK: symbols.BW_l, Level.CHIP: symbols.BW_c}
"""The letter of a level's bandwidth."""

HOST_LINKS = ("pcie", "nvlink-c2c")


def levels_of(graph: Graph) -> tuple[Level, ...]:
    """The levels that some operator moves bytes over."""
    touched = {level for operator, _ in graph for level in operator.levels}
    return tuple(level for level in Level if level in touched)


def bandwidths(graph: Graph, device: Device | None, free: Iterable[Symbol] = ()) -> dict[Symbol, Expr]:
    """The bandwidths of the levels a graph in letters uses, by letter: those that it does not define come from the device.

    Those that are *free* are left to the question.

    Raises
    ------
    DeviceError
        The device states no such link, and no technique gives its bandwidth.
    """
    if device is None:
        return {}
    found: dict[Symbol, Expr] = {symbols.BW: device.memory_bandwidth}
    known = {*graph.definitions, *free}
    for level in levels_of(graph):
        letter = BANDWIDTH[level]
        if level is not Level.MEMORY and letter not in known:
            found[letter] = _stated(device, level)
    return found


def stated(device: Device, letters: Iterable[str]) -> dict[str, Expr]:
    """What the device states for those of the letters that are bandwidths.

    Raises
    ------
    DeviceError
        It states no such link.
    """
    wanted = set(letters)
    return {str(letter): _stated(device, level) for level, letter in BANDWIDTH.items() if str(letter) in wanted}


def _stated(device: Device, level: Level) -> Expr:
    if level is Level.MEMORY:
        return device.memory_bandwidth
    if level is Level.HOST:
        return device.link_bandwidth(*HOST_LINKS)
    if level is Level.LINK:
        peers = [link.name.lower() for link in device.links if not link.name.lower().startswith(HOST_LINKS)]
        return device.link_bandwidth(*peers)
    name = VOCABULARY[BANDWIDTH[level]].name
    raise DeviceError(f"device {device.name!r} states no bandwidth of its on-chip memory; give {name}")


def bandwidth_of(operator: Operator, level: Level, values: Values) -> Expr:
    """The bandwidth that applies to an operator's bytes of a level, a letter where it is not known."""
    if level is Level.MEMORY and operator.unit is not None:
        return operator.unit.memory_bandwidth
    letter = BANDWIDTH[level]
    return substitute(letter, values)


def terms(operator: Operator, peak: Expr, values: Values, ceilings: Ceilings) -> dict[str, Expr]:
    """Seconds under every ceiling: compute, and each level that bytes cross.

    >>> import symroof
    >>> from symroof.operators.ceilings import IDEAL
    >>> up = symroof.load_model("llama-2-7b").decode(symbolic=True)["up_proj"]
    >>> terms(up, symbols.P, {}, IDEAL)["compute"]
    2*b*d*f/P
    """
    found = {}
    if operator.flop_count != 0:
        found[COMPUTE] = operator.flop_count / (ceilings.compute * operator.occupancy * peak)
    for level in operator.levels:
        moved = operator.byte_count(level=level)
        if moved != 0:
            found[str(level)] = moved / (reached(operator, level, ceilings) * bandwidth_of(operator, level, values))
    return found


def reached(operator: Operator, level: Level, ceilings: Ceilings) -> Expr:
    """The share of a level's bandwidth that an operator reaches; idle processors draw on memory as little as on the peak."""
    return ceilings.factor(level) * (operator.occupancy if level is Level.MEMORY else S.One)


def overhead(operator: Operator, ceilings: Ceilings) -> Expr:
    """Seconds besides the ceilings."""
    return ceilings.launch + operator.latency


def combined(found: Mapping[str, Expr], ceilings: Ceilings, beside: Expr) -> Expr:
    """The time of an operator from its times under the ceilings: the largest, or their sum."""
    return beside + (Max(*found.values()) if ceilings.overlap and found else Add(*found.values()))


def largest(found: Mapping[str, Expr], beside: Expr = S.Zero) -> str | None:
    """The ceiling that decides; None while that depends on a symbol. Of equals compute comes first."""
    if len(found) == 1 and beside == 0:
        return next(iter(found))
    every = [*found.values(), beside]
    if not all(value.is_number for value in every):
        return None
    if beside > max(found.values(), default=cast(Expr, S.Zero)):
        return OVERHEAD
    return max(found, key=lambda name: found[name])


def symbols_of(found: Iterable[Expr]) -> set[Symbol]:
    """The letters that some of the expressions have."""
    return set().union(*(cast(set[Symbol], one.free_symbols) for one in found))
