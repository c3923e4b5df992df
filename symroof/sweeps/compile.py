"""Formulas as functions of arrays: compiled once, then nanoseconds a point.

A formula becomes a straight-line program: what is shared is computed once, in an order that never changes. The engines run the
same lines on arrays, on floats or on fractions, so that they agree. A program is plain text and numbers: it travels to another
process and is the same there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import numpy as np
from sympy import (
    Add,
    Expr,
    Float,
    Function,
    Integer,
    Max,
    Min,
    Mul,
    Piecewise,
    Pow,
    Rational,
    Symbol,
    ceiling,
    cse,
    floor,
    fraction,
    together,
)
from sympy.printing.str import StrPrinter
from sympy.utilities import numbered_symbols

from symroof.algebra.unions import Untouched
from symroof.errors import InputError, member, quote
from symroof.notation import Brief
from symroof.sweeps.engines import ENGINES, cores, engine_for, run, run_exact
from symroof.sweeps.inputs import by_letter, numeric, refuse_impossible
from symroof.symbols import VOCABULARY, Values, lookup, substitute
from symroof.units import Quantity

FUNCTIONS: dict[type, Any] = {
    kind: Function(name) for kind, name in ((Max, "maximum"), (Min, "minimum"), (ceiling, "ceil"), (floor, "floor"), (Pow, "power"))
}
"""What a program calls in addition to + * and /. A quotient is rounded up or down after one division of whole numbers, whose two sides are
the arguments: exact where it is whole."""


SELECT: Any = Function("select", positive=True)
"""``select(x, y, value, otherwise)``: the value where x <= y."""


@dataclass(frozen=True, repr=False)
class Program(Brief):
    """Inputs by symbol, exact constants, assignments in the order they run, and the results in terms of them.

    >>> from symroof.symbols import b, d, w
    >>> compiled = program([b * d + d * w / 8, b * d])
    >>> compiled.inputs, compiled.constants
    (('b', 'd', 'w'), (Fraction(1, 8),))
    >>> compiled.lines, compiled.outputs
    (('_0 = b*d',), ('_0 + d*w*_c0', '_0'))
    """

    inputs: tuple[str, ...]
    constants: tuple[Fraction, ...] = field(hash=False)  # lines and outputs tell programs apart well enough
    lines: tuple[str, ...]
    outputs: tuple[str, ...]

    def scope(self, number: Callable[[Fraction], Any]) -> dict[str, Any]:
        """The constants by their names in the lines; nothing else is in reach of them, not even Python's own functions."""
        return {"__builtins__": {}} | {f"_c{place}": number(value) for place, value in enumerate(self.constants)}


def program(expressions: Sequence[Expr]) -> Program:
    """The program of several expressions at once; what they share is computed once.

    Raises
    ------
    InputError
        An expression has something other than numbers, symbols, sums, products, whole powers (a count of tokens is
        one), Max, Min, ceiling and floor in it, or a number that a float64 cannot hold.
    """
    letters = sorted(str(symbol) for symbol in set().union(*(expression.free_symbols for expression in expressions)))
    shared, results = cse([arranged(expression) for expression in expressions], symbols=numbered_symbols("_"), order="canonical")
    printer = _Printer()
    lines = tuple(f"{name} = {printer.doprint(expression)}" for name, expression in shared)
    outputs = tuple(map(printer.doprint, results))
    return _one(Program(tuple(letters), tuple(printer.constants), lines, outputs))


@functools.lru_cache(maxsize=512)
def _one(program: Program) -> Program:
    """Of equal programs the first: what is compiled for it is found without comparing fractions."""
    return program


def inlined(expression: Expr, definitions: Values) -> Expr:
    """An expression with defined symbols replaced by their definitions."""
    for symbol, definition in definitions.items():
        expression = substitute(expression, {symbol: _choice(definition) if isinstance(definition, Piecewise) else definition})
    return expression


def _choice(definition: Expr) -> Expr:
    """One of two formulas by a condition, as a call that sympy does not divide inside."""
    (value, condition), (otherwise, _) = cast(Any, definition).args
    return SELECT(condition.lts, condition.gts, value, otherwise)


def arranged(expression: Expr) -> Expr:
    """An equal expression that takes fewer operations: sums multiplied out where no term is subtracted.

    With a subtraction the form is kept, since differences of large products lose digits.

    >>> from sympy import Max
    >>> from symroof.symbols import b, d, w, BW, P
    >>> arranged(32 * Max(b * d / P, (b + w) / BW))
    maximum(32*b*d/P, 32*b/BW + 32*w/BW)
    """
    if isinstance(expression, Symbol | Rational | Float):  # a float is a fitted constant
        return Rational(Fraction(float(expression))) if isinstance(expression, Float) else expression
    number, rest = expression.as_coeff_Mul()
    if number > 0 and isinstance(rest, Max | Min):  # a number in front goes inside, where it meets others
        return _call(rest, [number * argument for argument in rest.args])
    if isinstance(expression, ceiling | floor | SELECT | Untouched):
        return _called(expression)
    if isinstance(expression, Pow) and not isinstance(expression.exp, Integer):  # a float is that of a calibrated kernel's norm
        if not expression.exp.is_Float and not all(term.as_coeff_Mul()[0].is_Integer for term in Add.make_args(expression.exp.expand())):
            raise InputError(f"{quote(str(expression))}: the exponent {expression.exp} is not a whole number")
        return _call(expression, expression.args)
    if not isinstance(expression, Add | Mul | Pow):
        name = type(expression).__name__
        raise InputError(f"{quote(str(expression))}: {name} is not compiled; formulas here are sums, products and maxima")
    kept = cast(Any, expression.func(*map(arranged, cast(Any, expression.args))))
    multiplied = kept.expand(deep=False)
    return multiplied if all(term.as_coeff_Mul()[0] > 0 for term in Add.make_args(multiplied)) else kept


def _called(expression: Any) -> Expr:
    """What is a function already."""
    if isinstance(expression, SELECT):
        return SELECT(*map(arranged, cast(Any, expression).args))
    if isinstance(expression, Untouched):
        return FUNCTIONS[Pow](arranged(1 - expression.share), arranged(expression.tokens))
    return _call(expression, fraction(together(expression.args[0])))


def _call(expression: Any, arguments: Sequence[Any]) -> Expr:
    return FUNCTIONS[expression.func](*map(arranged, arguments))


class _Printer(StrPrinter):
    """Python with + * / and calls alone; numbers are collected and stand by name, so that fractions stay exact."""

    def __init__(self) -> None:
        super().__init__()
        self.constants: list[Fraction] = []

    def _print_Rational(self, expr: Any) -> str:  # noqa: N802
        value = Fraction(int(expr.p), int(expr.q))
        if value not in self.constants:
            try:
                float(value)
            except OverflowError:
                raise InputError(f"{quote(str(expr))} is larger than a float64 can be") from None
            self.constants.append(value)
        return f"_c{self.constants.index(value)}"

    _print_Integer = _print_Rational

    def _print_Add(self, expr: Any, order: Any = None) -> str:  # noqa: N802
        return " + ".join(map(self._print, expr.args))

    def _print_Mul(self, expr: Any, rational: bool = False) -> str:  # noqa: N802
        """Numbers last: products of the same symbols come first; powers as products, one division."""
        above, below = [], []
        for factor in sorted(expr.args if isinstance(expr, Mul) else [expr], key=lambda factor: factor.is_Rational):
            base, exponent = factor.as_base_exp() if isinstance(factor, Pow) else (factor, Integer(1))
            printed = f"({self._print(base)})" if isinstance(base, Add | Mul) else self._print(base)
            (above if exponent > 0 else below).extend([printed] * abs(int(exponent)))
        return "*".join(above or ["1"]) + (f"/({'*'.join(below)})" if below else "")

    _print_Pow = _print_Mul

    def _print_Function(self, expr: Any) -> str:  # noqa: N802
        """Of two arguments at a time, or of their quotient."""
        if expr.func == SELECT:
            return f"{SELECT}({', '.join(map(self._print, expr.args))})"
        form = "{2}(({0})/({1}))" if str(expr.func) in ("ceil", "floor") else "{2}({0}, {1})"
        return functools.reduce(lambda first, second: form.format(first, second, expr.func), map(self._print, expr.args))


@dataclass(frozen=True)
class Compiled:
    """One formula or several as a function of arrays, by name or symbol; made by `compiled`.

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
    definitions : of defined symbols, as ``graph.definitions``.

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
    """The expression without its unit, definitions put in, every symbol one of the library's."""
    value = expression.magnitude if isinstance(expression, Quantity) else expression
    if isinstance(value, int) and not isinstance(value, bool):
        value = Integer(value)
    if not isinstance(value, Expr):
        raise InputError(f"{quote(value)}: expected an expression or a Quantity of the library; text is not evaluated")
    value = inlined(cast(Expr, value), definitions)
    for letter in value.free_symbols:
        if letter not in VOCABULARY:
            raise InputError(f"symbol {quote(str(letter))} is not one of symroof.symbols; take it from there")
    return value
