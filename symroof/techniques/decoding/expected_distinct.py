"""What several tokens touch together, when each of them touches a share by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from sympy import Expr, Pow, fraction

from symroof import symbols
from symroof.errors import InputError
from symroof.operators.facts import BlockRole
from symroof.operators.graph import Block, Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Space, Tensor
from symroof.symbols import substitute

MOST_DIGITS = 1 << 17
"""Bits of an exact power beyond which it is refused: exact arithmetic on it would take minutes."""


def tokens_of(name: str, space: Space) -> Expr:
    """Tokens that the layers of a step run on.

    Raises
    ------
    InputError
        An earlier technique left no whole number of them.
    """
    tokens = space.sizes["b"] * space.sizes["s"]
    if exponents(tokens) or not tokens.is_polynomial():
        raise InputError(f"{name}: a layer runs on {tokens} tokens, on average: a union over tokens needs a whole number of them")
    return tokens


def exponents(expression: Expr) -> set[Pow]:
    """The powers with the batch in their exponents: unions over tokens."""
    return {power for power in expression.atoms(Pow) if symbols.b in power.exp.free_symbols}


def more_tokens(expression: Expr, factor: Expr) -> Expr:
    """The formula with so many times the tokens in every union over tokens.

    >>> from symroof.operators.routing import union
    >>> from symroof.symbols import b, delta, gamma
    >>> more_tokens(b * union(delta, b), gamma + 1)
    b*(1 - (1 - delta)**(b*(gamma + 1)))
    """

    def grown(power: Expr) -> Expr:
        base, exponent = power.as_base_exp()
        return base ** substitute(exponent, {symbols.b: symbols.b * factor})

    return cast(Expr, expression.xreplace({power: grown(power) for power in exponents(expression)}))


def refuse_digits(name: str, share: Expr, tokens: Expr) -> None:
    """Raise where the exact power of a number has more digits than arithmetic on it can carry."""
    if share.is_number and tokens.is_number:
        bits = int(fraction(share)[1]).bit_length()
        if tokens * bits > MOST_DIGITS:
            raise InputError(
                f"{name}: (1 - {share})^{tokens} is exact to more than {MOST_DIGITS} bits; "
                f"ask for at most {MOST_DIGITS // bits} tokens: beyond, every part is touched for all that matters"
            )


def layers(graph: Graph) -> tuple[Block, ...]:
    """The blocks that are layers; a draft model's are none."""
    return tuple(block for block in graph.blocks if block.role is BlockRole.LAYER)


def reshaped(operator: Operator, spaces: Callable[[Space], Space], accesses: Callable[[Access], Access]) -> Operator:
    """The operator over another space, with every operand changed."""
    reads, writes = (tuple(accesses(one) for one in side) for side in (operator.reads, operator.writes))
    return replace(operator, space=spaces(operator.space), reads=reads, writes=writes)


class Resized:
    """Spaces and tensors with other sizes of some axes, each made once, so that what was shared stays shared."""

    def __init__(self, change: Callable[[Space], Space]) -> None:
        self.change = change
        self.spaces: dict[int, tuple[Space, Space]] = {}
        self.tensors: dict[int, tuple[Tensor, Tensor]] = {}

    def space(self, space: Space) -> Space:
        """The changed space."""
        return self.spaces.setdefault(id(space), (space, self.change(space)))[1]

    def tensor(self, tensor: Tensor) -> Tensor:
        """The same tensor over the changed space."""
        if id(tensor) not in self.tensors:
            self.tensors[id(tensor)] = (tensor, replace(tensor, space=self.space(tensor.space)))
        return self.tensors[id(tensor)][1]
