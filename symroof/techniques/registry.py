"""The techniques by name, and the texts that describe them: ``quantize:weights=4,group=128``."""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from importlib import import_module

from sympy import Expr, Mul, Rational, Symbol, ceiling, floor

from symroof.errors import InputError, nearest, quote
from symroof.symbols import VOCABULARY, lookup
from symroof.techniques import ceilings, compression, decoding, hardware, system
from symroof.techniques.technique import Technique
from symroof.units import EXAMPLES, figure, parsed, ureg

FAMILIES = (compression, decoding, system, hardware, ceilings)
"""The packages of techniques; a module is imported on first use of its technique."""

JOULES = {"joule/FLOP": "joule", "joule/byte": "joule"}
"""Energies that a text gives without what they are of: it is of one FLOP, or of one byte."""
LONGEST, DIGITS = 2000, 60
RENAMED = {"sequence-parallel": "ring attention is context-parallel; for Megatron's, tensor-parallel:sequence_parallel=yes"}
"""Former names, with what they are now."""


@functools.cache
def families() -> Mapping[str, tuple[str, ...]]:
    """The names of all techniques by family: one per module of the family's folder, helper modules excluded.

    >>> families()["decoding"][:3]
    ('early-exit', 'skip-layers', 'contextual-sparsity')
    """
    by_family: dict[str, tuple[str, ...]] = {}
    for package in FAMILIES:
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)} - {*package.HELPERS}
        further = {module.replace("_", "-") for module in modules} - {*package.ORDER}
        by_family[package.__name__.rpartition(".")[2]] = (*package.ORDER, *sorted(further))
    return by_family


@functools.cache
def names() -> tuple[str, ...]:
    """Every technique of the library."""
    return tuple(name for members in families().values() for name in members)


def family_of(name: str) -> str:
    """The family that a technique belongs to."""
    return next(family for family, members in families().items() if name in members)


def technique_class(name: str) -> type[Technique]:
    """The class of a technique by its name.

    Raises
    ------
    InputError
        No technique has this name.

    >>> technique_class("quantise")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: technique 'quantise': did you mean quantize?
    """
    if name not in names():
        raise InputError(f"technique {quote(name)}: {RENAMED.get(name) or nearest(name, names())}")
    module = import_module(f"symroof.techniques.{family_of(name)}.{name.replace('-', '_')}")
    kinds = (kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Technique))
    return next(kind for kind in kinds if getattr(kind, "name", "") == name)


def technique(text: str) -> Technique:
    """The technique that a text describes: its name, then its parameters. A parameter without a value stays a symbol.

    Raises
    ------
    InputError
        The name or a parameter is unknown, or a value is no number, out of range, or in the wrong unit.

    >>> technique("quantize:weights=4,group=128").text
    'quantize:weights=4,group=128'
    >>> technique("quantize:wieghts=4")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: 'quantize:wieghts=4': quantize has no parameter 'wieghts': did you mean weights?
    """
    if len(text) > LONGEST:
        raise InputError(f"technique {quote(text)}: longer than {LONGEST} characters")
    name, _, rest = text.partition(":")
    kind = technique_class(name.strip())
    known = {parameter.name: parameter for parameter in fields(kind)}
    given: dict[str, object] = {}
    for part in rest.split(",") if rest.strip() else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key = key.replace("-", "_")
        if key not in known:
            hint = nearest(key, known) if known else "it has none"
            raise InputError(f"{quote(text)}: {kind.name} has no parameter {quote(key)}: {hint}")
        if key in given:
            raise InputError(f"{quote(text)}: {key} is given twice")
        given[key] = _value(text, key, value, known[key].metadata) if equals else _own(text, key, known[key].metadata)
    return kind(**given)


def _own(text: str, key: str, metadata) -> object:
    """The symbol of a parameter that is named without a value, and so stays a symbol."""
    if "symbol" not in metadata:
        raise InputError(f"{quote(text)}: {key} is a text parameter and needs a value: {key}=...")
    return metadata["symbol"]


def _value(text: str, key: str, value: str, metadata) -> object:
    if "symbol" not in metadata:
        return value
    unit = VOCABULARY[metadata["symbol"]].unit
    typed = parsed(value)
    try:
        number = None if typed is None else figure(value, ureg.Unit(JOULES.get(unit, unit))) if typed[1] else Rational(typed[0])
    except InputError:
        number = None
    if typed and typed[1] and unit == "bit" and typed[1] not in ("bit", "bits"):
        number = None  # a width in bytes, or in gigabytes, is a slip
    if number is None:
        also = f" or one such as {EXAMPLES[unit].replace(' ', '')}" if unit in EXAMPLES else ""
        raise InputError(f"{quote(text)}: {key} {quote(value)}: expected a number{also}")
    if max(abs(part) for part in number.as_numer_denom()) >= 10**DIGITS:
        raise InputError(f"{quote(text)}: {key} {quote(value)}: a number of more than {DIGITS} digits")
    return int(number) if number.is_integer else number


def chain(texts: Iterable[str]) -> tuple[Technique, ...]:
    """The techniques of several texts; one text may name several, separated by spaces.

    >>> [applied.name for applied in chain(["quantize:weights=4", "quantize:kv=8 quantize:activations=8"])]
    ['quantize', 'quantize', 'quantize']
    """
    return tuple(technique(part) for text in texts for part in text.split())


def with_number(techniques: Iterable[Technique], symbol: Symbol, value: Expr | int) -> tuple[Technique, ...]:
    """The chain with a number for every parameter that is this symbol.

    >>> from symroof.symbols import rho
    >>> [applied.text for applied in with_number(chain(["low-rank"]), rho, 64)]
    ['low-rank:rank=64']
    """
    changed = []
    for applied in techniques:
        names = [parameter.name for parameter in fields(applied) if getattr(applied, parameter.name) == symbol]
        changed.append(replace(applied, **dict.fromkeys(names, value)) if names else applied)
    return tuple(changed)


def multiple_of(techniques: Iterable[Technique], symbol: Symbol) -> Expr:
    """What an input must be a multiple of, because the techniques of a chain split it evenly.

    >>> from symroof.symbols import b
    >>> multiple_of(chain(["expert-parallel:degree=8", "data-parallel:degree=2"]), b)
    16
    """
    return Mul(*(applied.multiple(symbol) for applied in techniques))


def whole_multiple(techniques: Iterable[Technique], symbol: Symbol) -> int:
    """`multiple_of` as a whole number.

    Raises
    ------
    InputError
        A technique leaves the number of parts a symbol.

    >>> from symroof.symbols import b
    >>> whole_multiple(chain(["pipeline-parallel:degree=2"]), b)
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: micro_batches must be given as a number: the batch is split into so many parts
    """
    multiple = multiple_of(techniques, symbol)
    if not multiple.is_Integer:
        names = " and ".join(sorted(lookup(str(letter)).name for letter in multiple.free_symbols))
        raise InputError(f"{names} must be given as a number: the {VOCABULARY[symbol].name} is split into so many parts")
    return int(multiple)


def rounded(value: Expr, relation: str, multiple: Expr | int = 1) -> int:
    """The whole multiple next to a limit, on the side that *relation* allows.

    >>> rounded(Rational(13), "<=", 8), rounded(Rational(13), ">=", 8)
    (8, 16)
    """
    whole = floor(value / multiple) if relation == "<=" else ceiling(value / multiple)
    return int(whole * multiple)


def techniques_of(*given: str | Technique | Iterable[str | Technique]) -> tuple[Technique, ...]:
    """Techniques given as texts, as objects, or as several of these, in order.

    >>> [technique.name for technique in techniques_of("quantize:weights=4 flash-attention", technique_class("no-overlap")())]
    ['quantize', 'flash-attention', 'no-overlap']

    Raises
    ------
    InputError
        A text names no technique, or something is neither.
    """
    techniques: list[Technique] = []
    for applied in given:
        if isinstance(applied, str):
            techniques += chain([applied])
        elif isinstance(applied, Technique):
            techniques.append(applied)
        elif isinstance(applied, Iterable):
            techniques += techniques_of(*applied)
        else:
            raise InputError(
                f"technique {quote(applied)}: expected one such as 'quantize:weights=4', or an object that symroof.technique makes"
            )
    return tuple(techniques)
