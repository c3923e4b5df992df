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
from typing import TYPE_CHECKING, Any

import numpy as np

from symroof.algebra.unions import untouched
from symroof.errors import InputError, member, quote
from symroof.files import installation

if TYPE_CHECKING:
    from symroof.sweeps.compile import Program

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
        raise InputError(f"engine 'numba': numba is not installed; {installation('fast')}, or take engine 'numpy'")
    if engine != "auto":
        return engine
    return "numba" if points >= WORTH_COMPILING and has_numba() else "numpy"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(program: Program, inputs: Mapping[str, Any], outputs: Arrays, engine: str, *, checked: bool = False, threads: int = 1) -> bool:
    """Run over broadcastable numbers and arrays by numpy or numba and fill the outputs; whether all results are finite.

    With *checked*, whether the inputs are positive and finite too; numba always looks. *threads* are numba's.
    """
    given = {letter: np.asarray(inputs[letter]) for letter in program.inputs}
    numbers = {letter: np.float64(array.item()) for letter, array in given.items() if array.size == 1}
    arrays = {letter: array for letter, array in given.items() if array.size != 1}
    if engine == "numba":
        loop = functools.partial(kernel(program, (*numbers,), (*arrays,)), *numbers.values())
        return _run_numba(loop, [*arrays.values()], outputs, threads)
    formulas = _compiled(program)
    finite = not checked or all(0 < number < math.inf for number in numbers.values())
    with np.errstate(all="ignore"):
        for piece in _pieces([*arrays.values()], outputs, BLOCK, ()):
            values, targets = piece[: len(arrays)], piece[len(arrays) :]
            if checked:
                finite = finite and all(array.min() > 0 and array.max() < math.inf for array in values)
            for target, result in zip(targets, formulas(**numbers, **dict(zip(arrays, values, strict=True))), strict=True):
                target[...] = result
                finite = finite and target.max() < math.inf
    return bool(finite)


def run_exact(program: Program, inputs: Mapping[str, Any]) -> tuple[Fraction, ...]:
    """The exact results at one point.

    >>> from symroof.sweeps.compile import program
    >>> from sympy import Max
    >>> from symroof.symbols import b, w, BW
    >>> run_exact(program([Max(b / 3, w / BW)]), {"b": 1, "w": 16, "BW": 7})
    (Fraction(16, 7),)
    """
    point = (inputs[letter] for letter in program.inputs)
    return _compiled(program, exact=True)(*(Fraction(value.item() if isinstance(value, np.generic) else value) for value in point))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if 0 <= base <= 1:  # of what tokens leave untouched
        return untouched(1 - base, exponent)
    if exponent.denominator != 1:
        raise InputError(f"{quote(str(base))} to the power of {exponent} is no fraction; give a whole number")
    return base ** int(exponent)


def power_of(base: Any, exponent: Any) -> Any:
    """A power of floats or of fractions."""
    return _power(base, exponent) if isinstance(base, Fraction) else np.power(base, exponent)


def select(value: Any, limit: Any, within: Any, beyond: Any) -> Any:
    """One of two, by a comparison."""
    return within if value <= limit else beyond


ON_FLOATS: dict[str, Any] = {"maximum": max, "minimum": min, "power": pow, "ceil": np.ceil, "floor": np.floor}
ON_ARRAYS = {name: getattr(np, name) for name in ON_FLOATS}
ON_ARRAYS["select"] = lambda value, limit, within, beyond: np.where(value <= limit, within, beyond)
ON_FRACTIONS = ON_FLOATS | {
    "select": select,
    "power": _power,
    "ceil": lambda value: Fraction(math.ceil(value)),
    "floor": lambda value: Fraction(math.floor(value)),
}
"""What the calls of a program are, by what it runs on."""


@functools.lru_cache(maxsize=512)
def _compiled(program: Program, *, exact: bool = False) -> Callable[..., tuple[Any, ...]]:
    """The lines as a function of the inputs: arrays and numbers, or fractions."""
    return function_of(program, Fraction, ON_FRACTIONS) if exact else function_of(program, float, ON_ARRAYS)


def function_of(program: Program, number: Callable[[Fraction], Any], calls: Mapping[str, Any]) -> Callable[..., tuple[Any, ...]]:
    """The lines as a function of the inputs, on numbers of a kind, with what their calls are on that kind."""
    scope = program.scope(number) | {**calls}
    body = "".join(f"    {line}\n" for line in program.lines)
    text = f"def formulas({', '.join(program.inputs)}):\n{body}    return ({', '.join(program.outputs)},)\n"
    exec(text, scope)  # noqa: S102 -- printed by `program`
    return scope["formulas"]


def _run_numba(loop: Callable[..., int], arrays: Arrays, outputs: Arrays, threads: int) -> bool:
    bad = 0
    with ThreadPoolExecutor(threads) as pool:
        for piece in _pieces(arrays, outputs, SLAB, ("contig", "aligned")):
            size = piece[-1].shape[0]
            parts = min(threads, 1 + size // SMALL)
            edges = [size * part // parts for part in range(parts + 1)]
            cuts = [[values[low:high] for values in piece] for low, high in itertools.pairwise(edges)]
            bad += sum(pool.map(lambda cut: loop(*cut), cuts)) if parts > 1 else loop(*cuts[0])
    return bad == 0


@functools.lru_cache(maxsize=256)
def kernel(program: Program, numbers: tuple[str, ...], arrays: tuple[str, ...]) -> Callable[..., int]:
    """The compiled loop: single numbers, contiguous inputs, outputs; how many points are not positive and finite."""
    engine_for("numba", 0)
    import numba

    scope: dict[str, Any] = program.scope(float) | ON_FLOATS | {"inf": math.inf, "range": range, "select": numba.njit(select)}
    exec(source(program, numbers, arrays), scope)  # noqa: S102 -- printed by `program` and `source`
    reading, writing = (numba.types.Array(numba.float64, 1, "C", readonly=readonly) for readonly in (True, False))
    signature = numba.int64(*[numba.float64] * len(numbers), *[reading] * len(arrays), *[writing] * len(program.outputs))
    return numba.njit(signature, nogil=True, error_model="numpy")(scope["loop"])


def source(program: Program, numbers: Sequence[str], arrays: Sequence[str]) -> str:
    """The loop over *arrays* as Python; *numbers* are the same at all points.

    >>> from symroof.symbols import b, d
    >>> from symroof.sweeps.compile import program
    >>> print(source(program([2 * b * d]), ["d"], ["b"]))
    def loop(d, _x0, _y0):
        bad = 0
        for _i in range(_y0.shape[0]):
            b = _x0[_i]
            _r0 = b*d*_c0
            _y0[_i] = _r0
            bad += 0 if (b > 0.0) & (b < inf) & (d > 0.0) & (d < inf) & (_r0 < inf) else 1
        return bad
    """
    outputs = range(len(program.outputs))
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
