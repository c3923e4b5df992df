"""What the library knows of a symbol, and every symbol with what is known of it.

All symbols are positive. That some count whole things is kept beside the symbol, as ``domain``, and
not in sympy's assumptions: integer symbols make ``solve`` drop the roots between two integers.
"""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Integer, Symbol, oo


@dataclass(frozen=True)
class Variable:
    """A symbol and its meaning.

    Attributes
    ----------
    symbol : the sympy symbol, positive.
    name : the field's name for it, as options and files spell it.
    meaning : a phrase for tables and legends.
    unit : a unit of the registry.
    domain : "integer" or "real".
    highest : the largest value it can have; oo where there is none.

    >>> from symroof.symbols import lookup
    >>> lookup("head_dim").symbol
    e
    >>> lookup("P").unit
    'FLOP/second'
    """

    symbol: Symbol
    name: str
    meaning: str
    unit: str
    domain: str
    highest: Expr = oo


VOCABULARY: dict[Symbol, Variable] = {}
BY_NAME: dict[str, Variable] = {}


def variable(letter: str, name: str, meaning: str, unit: str = "dimensionless", domain: str = "integer", highest: Expr = oo) -> Symbol:
    """A new symbol of the library."""
    symbol = Symbol(letter, positive=True)
    new = Variable(symbol, name, meaning, unit, domain, highest)
    assert BY_NAME.get(letter, new) == BY_NAME.get(name, new) == new, f"{letter} or {name} means something else already"
    VOCABULARY[symbol] = BY_NAME[letter] = BY_NAME[name] = new
    return symbol


def share(letter: str, name: str, meaning: str) -> Symbol:
    """A part of a whole, above 0 and at most 1."""
    return variable(letter, name, meaning, domain="real", highest=Integer(1))


def factor(letter: str, name: str, meaning: str) -> Symbol:
    """A positive factor."""
    return variable(letter, name, meaning, domain="real")


def layers_with(kind: str, meaning: str) -> Symbol:
    """The number of layers of a kind."""
    return variable(f"L_{kind}", f"num_{kind}_layers", f"layers with {meaning}")


def numbered(symbol: Symbol, number: int) -> Symbol:
    """The symbol of a size in the layers with the first, the second, ... of several such sizes.

    >>> from symroof.symbols import f, lookup
    >>> numbered(f, 1), numbered(f, 3), lookup("intermediate_size_3").meaning
    (f, f_3, 'intermediate size of the MLP, number 3 of those that layers have')
    """
    known = VOCABULARY[symbol]
    meaning = f"{known.meaning}, number {number} of those that layers have"
    return symbol if number == 1 else variable(f"{symbol}_{number}", f"{known.name}_{number}", meaning, known.unit, known.domain)
