"""A formula as a straight-line program: every value computed once, in an order that never changes.

The engines run the same program, operation by operation in float64, so that they agree; a program is plain
data, so that it travels to another process and is the same there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sympy import (
    Add,
    Dummy,
    Expr,
    Integer,
    Max,
    Min,
    Mul,
    Pow,
    Rational,
    Symbol,
    ceiling,
    default_sort_key,
    floor,
    fraction,
    preorder_traversal,
    together,
)

from symroof.errors import InputError, quote
from symroof.symbols import Values, substitute

Operand = int
"""A value by its number: inputs first, then one per line; -1, -2, ... are the constants."""

Line = tuple[str, tuple[Operand, ...]]
"""An operation and what it is applied to."""

OPERATIONS = ("add", "mul", "div", "max", "min", "reciprocal", "ceil", "floor", "pow")
"""What a line can do. Two divisions: a reciprocal is shared by many products, a quotient is rounded once."""

_EXTREMES = {Max: "max", Min: "min"}
_ROUNDED = {ceiling: "ceil", floor: "floor"}
_OPAQUE = (*_EXTREMES, *_ROUNDED)


@dataclass(frozen=True)
class Program:
    """Inputs by letter, constants, lines in the order they run, and which values are the results.

    >>> from symroof.symbols import b, d, w
    >>> found = program([b * d + d * w / 8])
    >>> found.inputs, found.constants, found.outputs
    (('b', 'd', 'w'), (0.125,), (6,))
    >>> found.lines
    (('mul', (0, 1)), ('mul', (1, 2)), ('mul', (-1, 4)), ('add', (3, 5)))
    """

    inputs: tuple[str, ...]
    constants: tuple[float, ...]
    lines: tuple[Line, ...]
    outputs: tuple[Operand, ...]


def program(expressions: Sequence[Expr]) -> Program:
    """The program of several expressions at once; what they share is computed once.

    Raises
    ------
    InputError
        An expression has something other than numbers, symbols, sums, products, whole powers (a count of tokens is
        one), Max, Min, ceiling and floor in it.
    """
    letters = sorted(set().union(*(expression.free_symbols for expression in expressions)), key=str)
    builder = _Builder({letter: place for place, letter in enumerate(letters)})
    outputs = tuple(builder.value(arranged(expression)) for expression in expressions)
    return Program(tuple(str(letter) for letter in letters), tuple(builder.constants), tuple(builder.lines), outputs)


def arranged(expression: Expr) -> Expr:
    """An equal expression that takes fewer operations: sums multiplied out where no term is subtracted.

    With a subtraction the form is kept, since differences of large products lose digits.

    >>> from sympy import Max
    >>> from symroof.symbols import b, d, w, BW, P
    >>> arranged(32 * Max(b * d / P, (b + w) / BW))
    Max(32*b*d/P, 32*b/BW + 32*w/BW)
    """
    opaque = {node: Dummy(positive=True) for node in _outermost(expression)}
    bare: Any = substitute(expression, cast(Values, opaque))
    expanded = bare.expand()
    if all(term.as_coeff_Mul()[0] > 0 for term in Add.make_args(expanded)):
        bare = expanded
    behind = {dummy: node for node, dummy in opaque.items()}
    if not isinstance(bare, Add):
        return _term(bare, behind)
    terms: Any = [_term(term, behind) for term in Add.make_args(bare)]
    return Add(*terms, evaluate=False)


def _outermost(expression: Any) -> list[Any]:
    found: list[Any] = []
    walk = preorder_traversal(expression)
    for node in walk:
        if isinstance(node, _OPAQUE):
            found.append(node)
            walk.skip()
    return found


def _term(term: Any, behind: dict[Any, Any]) -> Expr:
    """A term with its functions back in place, a positive number in front of a maximum moved inside."""
    number, rest = term.as_coeff_Mul()
    if rest in behind and isinstance(behind[rest], Max | Min) and number > 0:
        inner = behind[rest]
        return inner.func(*(arranged(number * argument) for argument in inner.args), evaluate=False)
    return _restored(term, behind)


def _restored(expression: Any, behind: dict[Any, Any]) -> Expr:
    if expression in behind:
        node = behind[expression]
        if isinstance(node, ceiling | floor):
            return node
        return node.func(*(arranged(argument) for argument in node.args), evaluate=False)
    if not expression.args:
        return expression
    return expression.func(*(_restored(argument, behind) for argument in expression.args), evaluate=False)


@dataclass
class _Builder:
    places: Mapping[Any, int]
    lines: list[Line] = field(default_factory=list)
    known: dict[Line, int] = field(default_factory=dict)
    constants: list[float] = field(default_factory=list)

    def value(self, expression: Any) -> Operand:
        """The number of the value of an expression, computed if it is new."""
        if isinstance(expression, Symbol):
            return self.places[expression]
        if isinstance(expression, Rational):
            return self.constant(expression)
        if isinstance(expression, Add):
            return self._chain("add", sorted(expression.args, key=default_sort_key))
        if isinstance(expression, Mul):
            return self._product(expression)
        if isinstance(expression, Pow):
            return self._power(expression)
        if isinstance(expression, _OPAQUE):
            arguments = sorted(expression.args, key=default_sort_key)
            name = _EXTREMES.get(expression.func)
            return self._chain(name, arguments) if name else self._rounded(_ROUNDED[expression.func], arguments[0])
        kind = type(expression).__name__
        raise InputError(f"{quote(str(expression))}: {kind} is not compiled; formulas here are sums, products and maxima")

    def _rounded(self, operation: str, argument: Any) -> Operand:
        """Rounded after one division of whole numbers: that is exact where the quotient is whole, and never passes one."""
        above, below = fraction(together(argument))
        quotient = self.value(above) if below == 1 else self.line("div", self.value(above), self.value(below))
        return self.line(operation, quotient)

    def _chain(self, operation: str, arguments: Sequence[Any]) -> Operand:
        result = self.value(arguments[0])
        for argument in arguments[1:]:
            result = self.line(operation, result, self.value(argument))
        return result

    def _product(self, expression: Any) -> Operand:
        """The number in front is multiplied last: products of the same letters are shared."""
        number, rest = expression.as_coeff_Mul()
        factors = sorted(Mul.make_args(rest), key=lambda factor: (not _divides(factor), default_sort_key(factor)))
        product = self._chain("mul", factors)
        return product if number == 1 else self.line("mul", self.constant(number), product)

    def _power(self, expression: Any) -> Operand:
        base, exponent = expression.args
        whole = all(term.as_coeff_Mul()[0].is_Integer for term in Add.make_args(exponent.expand()))
        if exponent.free_symbols and whole:
            return self.line("pow", self.value(base), self.value(exponent))
        if not isinstance(exponent, Integer):
            raise InputError(f"{quote(str(expression))}: the exponent {exponent} is not a whole number")
        value = self.value(base)
        result = value
        for _ in range(abs(int(exponent)) - 1):
            result = self.line("mul", result, value)
        return self.line("reciprocal", result) if exponent < 0 else result

    def constant(self, number: Expr) -> Operand:
        """The number of a constant."""
        try:
            value = float(Rational(number))
        except OverflowError:
            raise InputError(f"{quote(str(number))} is larger than a float64 can be") from None
        if value not in self.constants:
            self.constants.append(value)
        return -1 - self.constants.index(value)

    def line(self, operation: str, *operands: Operand) -> Operand:
        """A line of the program, unless the same was computed before."""
        line = (operation, operands)
        if line not in self.known:
            self.known[line] = len(self.places) + len(self.lines)
            self.lines.append(line)
        return self.known[line]


def _divides(factor: Any) -> bool:
    return isinstance(factor, Pow) and bool(factor.args[1].is_negative)
