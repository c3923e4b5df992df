"""Formulas as functions of arrays: compiled once, then nanoseconds a point."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from sympy import Expr, Integer

from symroof.errors import InputError, member, quote
from symroof.sweeps.engines import ENGINES, cores, engine_for, run, run_exact
from symroof.sweeps.inputs import by_letter, numeric, refuse_impossible
from symroof.sweeps.program import Program, inlined, program
from symroof.symbols import VOCABULARY, Values, lookup
from symroof.units import Quantity


@dataclass(frozen=True)
class Compiled:
    """One formula or several as a function of arrays, by name or letter; made by `compiled`.

    Attributes
    ----------
    program : the operations, as data; it pickles, and is the same in every process.
    engine : "auto", "numpy", "numba" or "exact".
    """

    program: Program = field(repr=False)
    engine: str
    single: bool

    @property
    def names(self) -> tuple[str, ...]:
        """What the formulas depend on, by name."""
        return tuple(lookup(letter).name for letter in self.program.inputs)

    def __call__(self, **values: Any) -> Any:
        """The formulas at the values, which broadcast against one another; float64, or fractions if exact.

        A variable that no formula mentions only takes part in the shape.

        Raises
        ------
        InputError
            A value is missing, misspelt, empty, not a number, zero, negative or infinite; the shapes do not
            fit; or a result is larger than a float64.
        """
        given = by_letter(values, self.program.inputs)
        arrays = {letter: numeric(lookup(letter).name, value) for letter, value in given.items()}
        try:
            shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
        except ValueError:
            shapes = ", ".join(f"{lookup(letter).name} {array.shape}" for letter, array in arrays.items())
            raise InputError(f"the shapes do not broadcast: {shapes}") from None
        exact = self.engine == "exact"
        inputs = {letter: arrays.pop(letter) for letter in self.program.inputs}
        outputs = [np.empty(shape, dtype=object if exact else np.float64) for _ in self.program.outputs]
        engine = engine_for(self.engine, int(np.prod(shape)))
        fine = not exact and run(self.program, inputs, outputs, engine, checked=True, threads=cores())
        for letter, array in (arrays if fine else {**inputs, **arrays}).items():
            refuse_impossible(lookup(letter).name, array)
        if exact:
            points = {letter: np.broadcast_to(np.asarray(given[letter], dtype=object), shape) for letter in inputs}
            for place in np.ndindex(shape):
                results = run_exact(self.program, {letter: array[place] for letter, array in points.items()})
                for output, result in zip(outputs, results, strict=True):
                    output[place] = result
        elif not fine:
            raise InputError("a result is larger than a float64 can be; are the values in base units?")
        return outputs[0][()] if self.single else tuple(output[()] for output in outputs)


def compiled(expressions: Any, *, engine: str = "auto", definitions: Values | None = None) -> Compiled:
    """One formula of the library, or several, as a function of arrays.

    Parameters
    ----------
    expressions : a Quantity such as ``operator.traffic`` or ``analysis.total.time``, an expression such as
        ``graph.weight_memory()``, or a sequence of them, computed in one pass. Results are in the units of
        the expressions, which are the library's base units.
    engine : "numpy", in blocks; "numba", machine code (extra ``fast``); "auto", numba where it is installed
        and there are points enough to be worth compiling; "exact", rationals at every point, for checks.
    definitions : what defined letters stand for, as ``graph.definitions``.

    Returns
    -------
    Compiled
        A function of keywords: ``f(batch=..., seq_len=...)``. The same formulas are compiled once.

    Raises
    ------
    InputError
        There is no such engine, or an expression holds something else than sums, products and maxima.

    >>> import symroof, numpy
    >>> step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16)
    >>> traffic = compiled(step["qk_matmul"].traffic)
    >>> traffic(batch=[1, 256], seq_len=numpy.array([[2048], [131072]])).tolist()
    [[16916480.0, 4330618880.0], [1082138624.0, 277027487744.0]]
    >>> compiled(step["qk_matmul"].intensity, engine="exact")(batch=1, seq_len=3)
    Fraction(384, 515)
    >>> traffic(batch=0, seq_len=1)
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: batch 0: expected positive, finite numbers
    """
    member("engine", engine, ENGINES)
    single = not isinstance(expressions, Sequence)
    bare = tuple(_bare(one, definitions or {}) for one in ([expressions] if single else expressions))
    if not bare:
        raise InputError("compiled []: there are no expressions")
    return _compiled(bare, engine, single)


@functools.lru_cache(maxsize=1024)
def _compiled(expressions: tuple[Expr, ...], engine: str, single: bool) -> Compiled:
    return Compiled(program(expressions), engine, single)


def _bare(expression: Any, definitions: Values) -> Expr:
    """The expression without its unit, definitions put in, every letter one of the library's."""
    value = expression.magnitude if isinstance(expression, Quantity) else expression
    if isinstance(value, int) and not isinstance(value, bool):
        value = Integer(value)
    if not isinstance(value, Expr):
        raise InputError(f"{quote(value)}: expected an expression or a Quantity of the library; text is not evaluated")
    value = inlined(cast(Expr, value), definitions)
    for letter in value.free_symbols:
        if letter not in VOCABULARY:
            raise InputError(f"{quote(str(letter))} is a symbol of another making; take those of symroof.symbols")
    return value
