"""Finding a symbol by its text or its name, substituting values, and declaring a symbol of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from sympy import Atom, Expr, Integer, Symbol, oo

from symroof.errors import InputError, member, nearest, quote
from symroof.symbols.models import s, t
from symroof.vocabulary import BY_NAME, VOCABULARY, Variable, variable

Values = Mapping[Symbol, Expr]
"""Numbers (or other expressions) to substitute for symbols."""


def substitute(expression: Expr, values: Values) -> Expr:
    """The expression with the values in place of their symbols, evaluated exactly.

    >>> from sympy import Integer
    >>> from symroof.symbols import b, d
    >>> substitute(b * d / 8, {b: Integer(16)})
    2*d
    """
    if isinstance(expression, Atom):
        return values.get(expression, expression)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return cast(Expr, expression.xreplace(dict(values)))


def option_name(symbol: Symbol) -> str:
    """The name that options and records use: ``seq_len`` is the prompt in prefill and the context in decode.

    >>> from symroof.symbols import b, t
    >>> option_name(t), option_name(b)
    ('seq_len', 'batch')
    """
    return VOCABULARY[s if symbol == t else symbol].name


_LENGTHS = ("context", "context_length", "ctx", "seq", "seqlen", "sequence_length")
"""Other names of the length that options call ``seq_len`` in both phases."""


def lookup(name: str | Symbol) -> Variable:
    """The variable of that symbol or name, or of a symbol object of this module; a name is looked up, never parsed.

    >>> from symroof.symbols import b
    >>> lookup("batch").meaning
    'sequences in the batch'
    >>> lookup(b) is lookup("batch") is lookup("b")
    True
    >>> lookup("bacth")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: 'bacth' is not a symbol of the library: did you mean batch?
    >>> lookup("context")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: 'context' is not a symbol of the library: did you mean seq_len?
    """
    if isinstance(name, Symbol) and name in VOCABULARY:
        return VOCABULARY[name]
    name = str(name) if isinstance(name, str | Symbol) else repr(name)
    if name in BY_NAME:
        return BY_NAME[name]
    hint = "did you mean seq_len?" if name in _LENGTHS else nearest(name, [known.name for known in VOCABULARY.values()])
    raise InputError(f"{quote(name)} is not a symbol of the library: {hint}")


def named(names: str) -> tuple[Symbol, ...]:
    """The symbols with these texts or names, in order, as ``sympy.symbols`` makes new ones.

    >>> P, BW, batch = named("P BW batch")
    >>> P / BW * batch
    P*b/BW
    """
    return tuple(lookup(name).symbol for name in names.replace(",", " ").split())


_LETTER, _NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}"), re.compile(r"[a-z][a-z0-9_]{1,39}")


def declare(letter: str, name: str, meaning: str, unit: str = "dimensionless", domain: str = "real", highest: Expr | int = oo) -> Symbol:
    """A symbol of one's own, for the parameter of a technique: from now on every table, legend and question knows it.

    Parameters
    ----------
    letter : as formulas write it; no other symbol may have it.
    name : as options and ``over=`` spell it.
    meaning : a phrase for tables and legends.
    unit : a unit of another symbol: "dimensionless", "bit", "byte", "second", "byte/second", ...
    domain : "integer" or "real".
    highest : the largest value it can have.

    Raises
    ------
    InputError
        The letter or the name is taken, or an argument is not one of these.

    >>> xi = declare("xi", "reuse", "times that a weight is read from on-chip memory")
    >>> lookup("reuse").symbol is xi is declare("xi", "reuse", "times that a weight is read from on-chip memory")
    True
    >>> declare("b", "beam", "beams of a search")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: symbol 'b' is taken: batch, sequences in the batch
    """
    for what, text, pattern in (("letter", letter, _LETTER), ("name", name, _NAME)):
        if not pattern.fullmatch(text):
            expected = "letters, digits and _" if what == "letter" else "a name such as hidden_size"
            raise InputError(f"{what} {quote(text)}: expected {expected}")
    member("unit", unit, tuple(dict.fromkeys(variable.unit for variable in VOCABULARY.values())))
    member("domain", domain, ("integer", "real"))
    wanted = Variable(Symbol(letter, positive=True), name, meaning, unit, domain, Integer(highest) if isinstance(highest, int) else highest)
    for key in (letter, name):
        taken = BY_NAME.get(key, wanted)
        if taken != wanted:
            raise InputError(f"symbol {quote(key)} is taken: {taken.name}, {taken.meaning}")
    return variable(letter, name, meaning, unit, domain, wanted.highest)
