"""A program run on arrays in blocks by numpy, as machine code by numba (extra ``fast``), or on fractions."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import numpy as np

from symroof.errors import InputError, member, quote
from symroof.sweeps.program import Program

BLOCK = 1 << 13
"""Points per block of numpy: the values alive at one time stay in the cache."""

SLAB = 1 << 16
"""Points per piece of numba where an input has to be repeated or cast."""

SMALL = 1 << 15
"""Points below which a second thread costs more than it saves."""

ENGINES = ("auto", "numpy", "numba", "exact")

WORTH_COMPILING = 4_000_000
"""Points from which "auto" takes numba: compiling costs about a second."""

Arrays = Sequence[np.ndarray]


def has_numba() -> bool:
    """Whether the extra ``fast`` is installed."""
    return find_spec("numba") is not None


def engine_for(engine: str, points: int) -> str:
    """The engine that *engine* means for so many points.

    >>> engine_for("auto", 1000), engine_for("numpy", 10**9)
    ('numpy', 'numpy')

    Raises
    ------
    InputError
        There is no such engine, or it is not installed.
    """
    member("engine", engine, ENGINES)
    if engine == "numba" and not has_numba():
        raise InputError("engine 'numba': numba is not installed; pip install 'symroof[fast]', or take engine 'numpy'")
    if engine != "auto":
        return engine
    return "numba" if points >= WORTH_COMPILING and has_numba() else "numpy"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(program: Program, inputs: Mapping[str, Any], outputs: Arrays, engine: str, *, checked: bool = False, threads: int = 1) -> bool:
    """Run over broadcastable numbers and arrays and fill the outputs.

    Parameters
    ----------
    engine : "numpy" or "numba".
    checked : whether inputs are looked at too; numba always does.
    threads : of numba.

    Returns
    -------
    bool
        Whether all results are finite and all inputs that were looked at positive and finite.
    """
    given = [np.asarray(inputs[letter]) for letter in program.inputs]
    single = tuple(array.size == 1 for array in given)
    arrays = [array for array, one in zip(given, single, strict=True) if not one]
    numbers = [np.float64(array.item()) for array, one in zip(given, single, strict=True) if one]
    if engine == "numba":
        return _run_numba(kernel(program, single), numbers, arrays, outputs, threads)
    block = _block(program, single)
    finite = not checked or all(0 < number < math.inf for number in numbers)
    with np.errstate(all="ignore"):
        for piece in _pieces(arrays, outputs, BLOCK, ()):
            if checked:
                finite = finite and all(values.min() > 0 and values.max() < math.inf for values in piece[: len(arrays)])
            results = block(*numbers, *piece[: len(arrays)])
            for target, result in zip(piece[len(arrays) :], results, strict=True):
                target[...] = result
                finite = finite and target.max() < math.inf
    return bool(finite)


def run_exact(program: Program, inputs: Mapping[str, Any]) -> tuple[Fraction, ...]:
    """The exact results at one point.

    >>> from symroof.sweeps.program import program
    >>> from sympy import Max
    >>> from symroof.symbols import b, w, BW
    >>> run_exact(program([Max(b / 3, w / BW)]), {"b": 1, "w": 16, "BW": 7})
    (Fraction(16, 7),)
    """
    point = (inputs[letter] for letter in program.inputs)
    return _exact(program)(*(Fraction(value.item() if isinstance(value, np.generic) else value) for value in point))


def _ordered(program: Program, single: Sequence[bool]) -> list[str]:
    """The inputs, single numbers first."""
    return sorted(program.inputs, key=lambda letter: not single[program.inputs.index(letter)])


def _whole_power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise InputError(f"{quote(str(base))} to the power of {exponent} is no fraction; give a whole number")
    return base ** int(exponent)


ON_FLOATS: dict[str, Any] = {"maximum": max, "minimum": min, "power": pow, "ceil": np.ceil, "floor": np.floor}
ON_ARRAYS = {name: getattr(np, name) for name in ON_FLOATS}
ON_FRACTIONS = ON_FLOATS | {
    "power": _whole_power,
    "ceil": lambda value: Fraction(math.ceil(value)),
    "floor": lambda value: Fraction(math.floor(value)),
}
"""What the calls of a program are, by what it runs on."""


def _function(program: Program, letters: Sequence[str], scope: dict[str, Any]) -> Callable[..., tuple[Any, ...]]:
    body = "".join(f"    {line}\n" for line in program.lines)
    exec(f"def formulas({', '.join(letters)}):\n{body}    return ({', '.join(program.outputs)},)\n", scope)  # noqa: S102 -- printed by `program`
    return scope["formulas"]


@functools.lru_cache(maxsize=256)
def _block(program: Program, single: tuple[bool, ...]) -> Callable[..., tuple[Any, ...]]:
    return _function(program, _ordered(program, single), program.scope(float) | ON_ARRAYS)


@functools.lru_cache(maxsize=256)
def _exact(program: Program) -> Callable[..., tuple[Fraction, ...]]:
    return _function(program, program.inputs, program.scope(Fraction) | ON_FRACTIONS)


def _run_numba(loop: Callable[..., int], numbers: Sequence[Any], arrays: Arrays, outputs: Arrays, threads: int) -> bool:
    bad = 0
    with ThreadPoolExecutor(threads) as pool:
        for piece in _pieces(arrays, outputs, SLAB, ("contig", "aligned")):
            size = piece[-1].shape[0]
            parts = min(threads, 1 + size // SMALL)
            edges = [size * part // parts for part in range(parts + 1)]
            cuts = [(*numbers, *(values[low:high] for values in piece)) for low, high in itertools.pairwise(edges)]
            bad += sum(pool.map(lambda cut: loop(*cut), cuts)) if parts > 1 else loop(*cuts[0])
    return bad == 0


@functools.lru_cache(maxsize=256)
def kernel(program: Program, single: tuple[bool, ...]) -> Callable[..., int]:
    """The compiled loop: single numbers, contiguous inputs, outputs; how many points are not positive and finite.

    Raises
    ------
    InputError
        numba is not installed.
    """
    engine_for("numba", 0)
    import numba

    scope: dict[str, Any] = program.scope(float) | ON_FLOATS | {"inf": math.inf, "range": range}
    exec(source(program, single), scope)  # noqa: S102 -- printed by `program` and `source`
    reading, writing = (numba.types.Array(numba.float64, 1, "C", readonly=readonly) for readonly in (True, False))
    count = sum(single)
    signature = numba.int64(*[numba.float64] * count, *[reading] * (len(single) - count), *[writing] * len(program.outputs))
    return numba.njit(signature, nogil=True, error_model="numpy")(scope["loop"])


def source(program: Program, single: tuple[bool, ...]) -> str:
    """The loop as Python.

    >>> from symroof.symbols import b, d
    >>> from symroof.sweeps.program import program
    >>> print(source(program([2 * b * d]), (False, True)))
    def loop(d, _x0, _y0):
        bad = 0
        for _i in range(_y0.shape[0]):
            b = _x0[_i]
            _r0 = b*d*_c0
            _y0[_i] = _r0
            bad += 0 if (b > 0.0) & (b < inf) & (d > 0.0) & (d < inf) & (_r0 < inf) else 1
        return bad
    """
    letters, outputs = _ordered(program, single), range(len(program.outputs))
    numbers, arrays = letters[: sum(single)], letters[sum(single) :]
    body = [f"{letter} = _x{place}[_i]" for place, letter in enumerate(arrays)]
    body += program.lines
    body += [f"_r{place} = {result}" for place, result in enumerate(program.outputs)]
    body += [f"_y{place}[_i] = _r{place}" for place in outputs]
    tests = [f"({letter} > 0.0) & ({letter} < inf)" for letter in program.inputs] + [f"(_r{place} < inf)" for place in outputs]
    body.append(f"bad += 0 if {' & '.join(tests)} else 1")
    indented = "\n".join(f"        {line}" for line in body)
    signature = ", ".join([*numbers, *(f"_x{place}" for place in range(len(arrays))), *(f"_y{place}" for place in outputs)])
    return f"def loop({signature}):\n    bad = 0\n    for _i in range(_y0.shape[0]):\n{indented}\n    return bad"


def _pieces(arrays: Arrays, outputs: Arrays, size: int, flags: tuple[str, ...]) -> Iterator[tuple[np.ndarray, ...]]:
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
