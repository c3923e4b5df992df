"""A program as machine code, by numba (extra ``fast``): one loop, all cores, the same operations in the same order."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np

from symroof.errors import InputError
from symroof.sweeps.numpy_engine import Arrays, cores, pieces
from symroof.sweeps.program import Operand, Program

SLAB = 1 << 16
"""Points per piece where an input has to be repeated or cast."""

SMALL = 1 << 15
"""Points below which a second thread costs more than it saves."""

_SOURCE = {
    "add": "{} + {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "max": "larger({}, {})",
    "min": "smaller({}, {})",
    "reciprocal": "1.0 / {}",
    "ceil": "ceil({})",
    "floor": "floor({})",
    "pow": "{} ** {}",
}


def has_numba() -> bool:
    """Whether the extra ``fast`` is installed."""
    return find_spec("numba") is not None


def run_numba(program: Program, inputs: Mapping[str, Any], outputs: Arrays, *, threads: int | None = None) -> bool:
    """Run over broadcastable numbers and arrays on all cores and fill the outputs; see `run_numpy`."""
    given = [np.asarray(inputs[letter]) for letter in program.inputs]
    scalars = [None if array.size > 1 else float(array.item()) for array in given]
    run = kernel(program, tuple(scalar is not None for scalar in scalars))
    arrays = [array for array in given if array.size > 1]
    workers = threads or cores()
    bad = 0
    with ThreadPoolExecutor(workers) as pool:
        for piece in pieces(arrays, outputs, SLAB, ("contig", "aligned")):
            size = piece[-1].shape[0]
            parts = min(workers, 1 + size // SMALL)
            edges = [size * part // parts for part in range(parts + 1)]
            cuts = [_arguments(scalars, [one[low:high] for one in piece]) for low, high in itertools.pairwise(edges)]
            bad += sum(pool.map(lambda cut: run(*cut), cuts)) if parts > 1 else run(*cuts[0])
    return bad == 0


def _arguments(scalars: Sequence[float | None], arrays: Arrays) -> list[Any]:
    rest = iter(arrays)
    return [next(rest) if scalar is None else scalar for scalar in scalars] + list(rest)


@functools.lru_cache(maxsize=256)
def kernel(program: Program, single: tuple[bool, ...]) -> Callable[..., int]:
    """The compiled loop: inputs (single numbers or contiguous arrays) and outputs; how many points are not positive and finite.

    Raises
    ------
    InputError
        numba is not installed.
    """
    if not has_numba():
        raise InputError("engine 'numba': numba is not installed; pip install 'symroof[fast]', or take engine 'numpy'")
    import numba

    larger, smaller = (numba.njit(inline="always")(one) for one in (_larger, _smaller))
    scope: dict[str, Any] = {"ceil": np.ceil, "floor": np.floor, "larger": larger, "smaller": smaller, "inf": math.inf}
    exec(source(program, single), scope)  # noqa: S102 -- written by `source`, from numbers and the words of _SOURCE alone
    reading = numba.types.Array(numba.float64, 1, "C", readonly=True)
    writing = numba.types.Array(numba.float64, 1, "C")
    inputs = [numba.float64 if one else reading for one in single]
    signature = numba.int64(*inputs, *[writing] * len(program.outputs))
    return numba.njit(signature, nogil=True, error_model="numpy")(scope["kernel"])


def source(program: Program, single: tuple[bool, ...]) -> str:
    """The loop as Python source.

    >>> from symroof.symbols import b, d
    >>> from symroof.sweeps.program import program
    >>> print(source(program([2 * b * d]), (False, True)))
    def kernel(x0, x1, y0):
        bad = 0
        for i in range(y0.shape[0]):
            v0 = x0[i]
            v1 = x1
            v2 = v0 * v1
            v3 = 2.0 * v2
            y0[i] = v3
            bad += 0 if (v0 > 0.0) & (v0 < inf) & (v1 > 0.0) & (v1 < inf) & (v3 < inf) else 1
        return bad
    """

    def shown(operand: Operand) -> str:
        return f"v{operand}" if operand >= 0 else repr(program.constants[-1 - operand])

    count = len(program.inputs)
    arguments = [f"x{place}" for place in range(count)] + [f"y{place}" for place in range(len(program.outputs))]
    body = [f"v{place} = x{place}" + ("" if single[place] else "[i]") for place in range(count)]
    for place, (operation, operands) in enumerate(program.lines, count):
        body.append(f"v{place} = {_SOURCE[operation].format(*map(shown, operands))}")
    body += [f"y{place}[i] = {shown(result)}" for place, result in enumerate(program.outputs)]
    tests = [f"(v{place} > 0.0) & (v{place} < inf)" for place in range(count)]
    tests += [f"({shown(result)} < inf)" for result in program.outputs]
    body.append(f"bad += 0 if {' & '.join(tests)} else 1")
    indented = "\n".join(f"        {line}" for line in body)
    return f"def kernel({', '.join(arguments)}):\n    bad = 0\n    for i in range(y0.shape[0]):\n{indented}\n    return bad"


def _larger(x: float, y: float) -> float:
    return x if x > y else y


def _smaller(x: float, y: float) -> float:
    return x if x < y else y
