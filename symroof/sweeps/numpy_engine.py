"""A program over arrays by numpy, in blocks that stay in the cache, in float64 alone."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from symroof.sweeps.program import Operand, Program

BLOCK = 4096
"""Points per block: the values alive at one time stay in the fastest cache."""

Arrays = Sequence[np.ndarray]

_UFUNCS: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "reciprocal": np.reciprocal,
    "ceil": np.ceil,
    "floor": np.floor,
    "pow": np.power,
}
_SCALAR: dict[str, Callable[..., float]] = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "max": max,
    "min": min,
    "reciprocal": lambda x: 1.0 / x,
    "ceil": lambda x: float(math.ceil(x)),
    "floor": lambda x: float(math.floor(x)),
    "pow": math.pow,
}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_numpy(program: Program, inputs: Mapping[str, Any], outputs: Arrays, *, checked: bool = False) -> bool:
    """Run over broadcastable numbers and arrays, block by block, and fill the outputs.

    Returns
    -------
    bool
        Whether all results are finite and, if *checked*, all inputs positive and finite.
    """
    scalars, arrays = _parted(program, inputs)
    fine = not checked or all(0 < value < math.inf for value in scalars.values())
    scalars |= {-1 - place: value for place, value in enumerate(program.constants)}
    _fold(program, scalars)
    plan = _planned(program, frozenset(arrays))
    buffers = [np.empty(BLOCK) for _ in range(plan.buffers)]
    with np.errstate(all="ignore"):
        for block in pieces(list(arrays.values()), outputs, BLOCK, ()):
            values: dict[Operand, Any] = {**scalars, **dict(zip(arrays, block, strict=False))}
            size = block[-1].shape[0]
            if checked:
                fine = fine and all(piece.min() > 0 and piece.max() < math.inf for piece in block[: len(arrays)])
            for ufunc, operands, place, buffer in plan.lines:
                taken = [values[operand] for operand in operands]
                values[place] = ufunc(*taken, out=buffers[buffer][:size])
            for result, target in zip(program.outputs, block[len(arrays) :], strict=True):
                target[...] = values[result]
                fine = fine and target.max() < math.inf
    return bool(fine)


def _parted(program: Program, inputs: Mapping[str, Any]) -> tuple[dict[Operand, float], dict[int, np.ndarray]]:
    """The inputs that are single numbers, and those that vary, by their place in the program."""
    given = {place: np.asarray(inputs[letter]) for place, letter in enumerate(program.inputs)}
    scalars: dict[Operand, float] = {place: float(value.item()) for place, value in given.items() if value.size == 1}
    return scalars, {place: value for place, value in given.items() if value.size != 1}


def _fold(program: Program, values: dict[Operand, float]) -> None:
    """Compute once what depends on single numbers alone."""
    for place, (operation, operands) in enumerate(program.lines, len(program.inputs)):
        if all(operand in values for operand in operands):
            taken = [values[operand] for operand in operands]
            try:
                values[place] = _SCALAR[operation](*taken)
            except (OverflowError, ValueError, ZeroDivisionError):
                values[place] = math.inf


class _Plan(NamedTuple):
    """The lines that vary over a block, each with the buffer its result goes to."""

    lines: tuple[tuple[Any, tuple[Operand, ...], int, int], ...]
    buffers: int


@functools.lru_cache(maxsize=256)
def _planned(program: Program, arrays: frozenset[int]) -> _Plan:
    varying, last, lines = set(arrays), {}, []
    for place, (operation, operands) in enumerate(program.lines, len(program.inputs)):
        if varying.intersection(operands):
            varying.add(place)
            lines.append((operation, operands, place))
            last.update(dict.fromkeys(operands, place))
    kept, home, free, planned, buffers = set(program.outputs), {}, [], [], 0
    for operation, operands, place in lines:
        free += [home[operand] for operand in dict.fromkeys(operands) if operand in home and last[operand] == place and operand not in kept]
        if not free:
            free.append(buffers)
            buffers += 1
        home[place] = free.pop()
        planned.append((_UFUNCS[operation], operands, place, home[place]))
    return _Plan(tuple(planned), buffers)


def pieces(arrays: Arrays, outputs: Arrays, size: int, flags: tuple[str, ...]) -> Iterator[tuple[np.ndarray, ...]]:
    """Inputs and outputs side by side in one-dimensional pieces; what is smaller is repeated, what is no float64 cast."""
    reading: list[Any] = ["readonly", *flags]
    writing: list[Any] = ["writeonly", "no_broadcast", *flags]
    more: list[Any] = ["growinner"] if flags else []
    walk = np.nditer(
        [*arrays, *outputs],
        flags=["external_loop", "buffered", "zerosize_ok", *more],
        op_flags=[reading] * len(arrays) + [writing] * len(outputs),
        op_dtypes=[np.float64] * (len(arrays) + len(outputs)),
        order="C",
        casting="same_kind",
        buffersize=size,
    )
    with walk:
        for piece in walk:
            yield piece if isinstance(piece, tuple) else (piece,)
