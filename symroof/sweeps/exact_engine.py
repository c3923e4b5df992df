"""A formula in exact rational arithmetic, for checks: straight from the expression, not from its program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

import numpy as np
from sympy import Add, Expr, Integer, Max, Min, Mul, Pow, Rational, Symbol, ceiling, floor

from symroof.errors import InputError, quote


def rational(expression: Expr, values: Mapping[str, Fraction]) -> Fraction:
    """The exact value at one point.

    >>> from sympy import Max
    >>> from symroof.symbols import b, w, BW
    >>> rational(Max(b / 3, w / BW), {"b": Fraction(1), "w": Fraction(16), "BW": Fraction(7)})
    Fraction(16, 7)
    """
    known: dict[Expr, Fraction] = {}

    def value(node: Expr) -> Fraction:
        if node not in known:
            known[node] = computed(node)
        return known[node]

    def computed(node: Expr) -> Fraction:  # noqa: PLR0911 -- one return per kind of node
        if isinstance(node, Symbol):
            return values[str(node)]
        if isinstance(node, Rational):
            return Fraction(int(node.p), int(node.q))
        if isinstance(node, Pow) and isinstance(node.args[1], Integer):
            return value(cast(Expr, node.args[0])) ** int(node.args[1])
        if isinstance(node, Pow) and (exponent := value(cast(Expr, node.args[1]))).denominator == 1:
            return value(cast(Expr, node.args[0])) ** int(exponent)
        arguments = [value(cast(Expr, argument)) for argument in node.args]
        if isinstance(node, Add):
            return sum(arguments, Fraction(0))
        if isinstance(node, Mul):
            return math.prod(arguments, start=Fraction(1))
        if isinstance(node, Max | Min):
            return max(arguments) if isinstance(node, Max) else min(arguments)
        if isinstance(node, ceiling | floor):
            return Fraction(math.ceil(arguments[0]) if isinstance(node, ceiling) else math.floor(arguments[0]))
        raise InputError(f"{quote(str(node))}: {type(node).__name__} is not evaluated; formulas here are sums, products and maxima")

    return value(expression)


def run_exact(expression: Expr, inputs: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """The exact value at every point: a Fraction, or an array of them."""
    arrays = {letter: np.broadcast_to(np.asarray(value, dtype=object), shape) for letter, value in inputs.items()}
    out = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        out[place] = rational(expression, {letter: _fraction(array[place]) for letter, array in arrays.items()})
    return out if shape else out.item()


def _fraction(value: Any) -> Fraction:
    return Fraction(value.item() if isinstance(value, np.generic) else value)
