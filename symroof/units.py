"""The exact unit registry: information and computation are dimensions of their own, numbers stay exact.

pint's default registry takes bit and byte for dimensionless, so ``1 byte + 3`` passes there; here it
raises. Decimal (kB, MB, GB) and binary (KiB, MiB, GiB) prefixes are both known and never confused,
and figures are read as fractions: a ridge point is ``19780/67 FLOP/byte``, not 295.2238...
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from numbers import Rational as RationalNumber
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast, overload

import pint
from sympy import Expr, Float, Rational, multiplicity, nsimplify

from symroof.errors import InputError, quote
from symroof.notation import PREFIXES, written
from symroof.quantities import Registry
from symroof.symbols import Variable

_defined = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
ureg: Any = Registry(cast(Any, _defined), non_int_type=cast(Any, Fraction))
"""The registry every Quantity of the library belongs to."""

if TYPE_CHECKING:
    from symroof.quantities import Quantity
else:
    Quantity = ureg.Quantity

COUNT = ureg.Unit("dimensionless")
FLOP = ureg.Unit("FLOP")
BYTE = ureg.Unit("byte")
BIT = ureg.Unit("bit")
SECOND = ureg.Unit("second")
PER_SECOND = ureg.Unit("1/second")
TOKEN_RATE = ureg.Unit("token/second")
INTENSITY = ureg.Unit("FLOP/byte")
RATE = ureg.Unit("FLOP/second")
BANDWIDTH = ureg.Unit("byte/second")
HERTZ = ureg.Unit("hertz")
WATT = ureg.Unit("watt")
JOULE = ureg.Unit("joule")
DOLLAR = ureg.Unit("dollar")
PRICE = ureg.Unit("dollar/hour")
CARBON = ureg.Unit("gram/kilowatt_hour")


_DIGITS = r"[0-9]{1,60}(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,2})?"
_TYPED = re.compile(rf"\s*({_DIGITS})(?:/([1-9][0-9]{{0,59}}))?\s*([A-Za-zµ]{{0,12}}(?:/[A-Za-z]{{1,12}})?)\s*", re.ASCII)


def parsed(text: object) -> tuple[Fraction, str] | None:
    """A number as it was typed, a decimal or a fraction, and the unit behind it, if any; None if it is none.

    >>> parsed("2.5"), parsed("1/3"), parsed("20 ms"), parsed("3/s"), parsed("1e3x y")
    ((Fraction(5, 2), ''), (Fraction(1, 3), ''), (Fraction(20, 1), 'ms'), (Fraction(3, 1), '1/s'), None)
    """
    match = _TYPED.fullmatch(text) if isinstance(text, str) else None
    return None if match is None else (Fraction(match[1]) / int(match[2] or 1), re.sub("^/", "1/", match[3]))


SHORT = {"byte/second": "B/s", "FLOP/second": "FLOP/s", "second": "s", "joule/FLOP": "J", "joule/byte": "J", "watt": "W", "byte": "B"}
"""Units as people and the command line write them, behind a prefix."""
SCALES = {prefix: Rational(1000) ** power for power, prefix in PREFIXES.items()} | {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def typed(value: Expr, unit: str = "") -> str:
    """A number as people type it, and exactly what `parsed` reads: a decimal where it ends, with a prefix where its unit has a short form.

    >>> typed(Rational(7, 10)), typed(Rational(1, 3)), typed(Rational(1, 200000), "second"), typed(Rational(25 * 2**30), "byte/second")
    ('0.7', '1/3', '5us', '25GiB/s')
    """
    if not isinstance(value, Rational) or value <= 0 or unit not in SHORT:
        return _decimal(value) if isinstance(value, Rational) and value > 0 else written(value)
    prefixes = [prefix for prefix in SCALES if not prefix.endswith("i") or "B" in SHORT[unit]]
    texts = [(not 1 <= value / SCALES[prefix] < 1024, f"{_decimal(value / SCALES[prefix])}{prefix}{SHORT[unit]}") for prefix in prefixes]
    return min(texts, key=lambda text: (text[0], len(text[1])))[1]


def _decimal(value: Rational) -> str:
    places = max(multiplicity(prime, value.q) or 0 for prime in (2, 5))
    if 10**places % value.q or places > 30:  # `parsed` reads no more than 60
        return str(value)
    whole, part = divmod(value.p * 10**places // value.q, 10**places)
    return f"{whole}.{part:0{places}}" if places else str(whole)


EXAMPLES = {"FLOP/second": "312 TFLOP/s", "byte": "80 GB", "byte/second": "25 GB/s", "watt": "400 W", "hertz": "1410 MHz", "second": "5 us"}
EXAMPLES |= {"joule/FLOP": "0.5 pJ", "joule/byte": "30 pJ", "dollar/hour": "2 USD/h", "gram/kilowatt_hour": "400 g/kWh", "1/second": "2/s"}
"""What a figure in a unit looks like, for messages."""


def figure(text: object, unit: pint.Unit) -> Rational:
    """Read ``"3.35 TB/s"`` as an exact number of *unit*.

    Nothing is evaluated: one number, one unit, looked up in the registry.

    >>> figure("3.35 TB/s", BANDWIDTH)
    3350000000000
    >>> figure("80 GiB", BYTE) - figure("80 GB", BYTE)
    5899345920

    Raises
    ------
    InputError
        The text is not a number and a unit, or the unit measures something else.
    """
    example = quote(next((text for name, text in EXAMPLES.items() if ureg.Unit(name) == unit), f"1 {unit}"))
    read = parsed(text)
    if unit == COUNT and read is None:
        raise InputError(f"{quote(text)} is not a number")
    if read is None or not read[1]:
        raise InputError(f"{quote(text)} is not a number and a unit such as {example}")
    try:
        scale = ureg.Quantity(Fraction(1), ureg.parse_units(read[1])).to(unit).magnitude
    except (pint.UndefinedUnitError, ValueError):  # pint reads "nan" as a number
        raise InputError(f"{quote(text)}: {read[1]!r} is not a unit known here; write it like {example}") from None
    except pint.DimensionalityError:
        raise InputError(f"{quote(text)} is not in {unit}; write it like {example}") from None
    return cast(Rational, Rational(read[0] * scale))


def number(value: object, unit: pint.Unit, what: str, *, zero: bool = False) -> Expr:
    """An input as an exact number of *unit*: a number of it (numpy's too), a Quantity, or text with a unit; a float as it is written.

    >>> number("5 ms", SECOND, "target"), number(2, SECOND, "target"), number(Quantity(80, "GB"), BYTE, "capacity")
    (1/200, 2, 80000000000)

    Raises
    ------
    InputError
        It is none of these, measures something else, or is not above 0, nor 0 where *zero* says that it may be.
    """
    if isinstance(value, str):
        read = parsed(value)
        exact: Expr = Rational(read[0]) if read and not read[1] and unit == COUNT else figure(value, unit)
    elif isinstance(value, Quantity):
        try:
            exact = number(cast(Any, value).to(unit).magnitude, unit, what, zero=zero)
        except pint.DimensionalityError:
            raise InputError(f"{what} {quote(str(value))}: expected a quantity in {unit}") from None
    elif isinstance(value, bool) or not isinstance(value, Real | Expr):
        raise InputError(f"{what} {quote(value)}: expected a number, in {unit}, a quantity or text with a unit")
    else:
        exact = value if isinstance(value, Expr) else _number(value)
    if exact.has(Float):
        exact = nsimplify(exact, rational=True)
    if exact.is_number and exact.is_positive is not True and not (zero and exact == 0):
        raise InputError(f"{what} {quote(str(exact))}: expected a number above 0" + (", or 0" if zero else ""))
    return cast(Expr, exact)


def number_of(value: object, variable: Variable) -> Expr:
    """A value of a variable as `number` reads it, 0 included.

    >>> from symroof.symbols import lookup
    >>> number_of("2 TB/s", lookup("bandwidth")), number_of(0, lookup("batch"))
    (2000000000000, 0)
    """
    return number(value, unit_of(variable), variable.name, zero=True)


def quantity(value: Any, unit: pint.Unit) -> Quantity:
    """A bare expression or number in canonical units, as the Quantity that a user sees.

    >>> print(quantity(Rational(19780, 67), INTENSITY))
    295.2 FLOP/byte
    >>> from symroof.symbols import b, w
    >>> print(quantity(b * w / 8, BYTE).subs({b: 16, w: 4}))
    8 B
    >>> 1 * BYTE + 1 * FLOP
    Traceback (most recent call last):
        ...
    pint.errors.DimensionalityError: Cannot convert from 'byte' ([information]) to 'flop' ([computation])
    """
    return ureg.Quantity(value if isinstance(value, Expr) else _number(value), unit)


class InUnit(property):
    """A property that is a Quantity."""

    if TYPE_CHECKING:  # what type checkers make of it: the properties they know hand out what their getter does

        @overload
        def __get__(self, instance: None, owner: type, /) -> Self: ...
        @overload
        def __get__(self, instance: Any, owner: type | None = None, /) -> Quantity: ...
        def __get__(self, instance: Any, owner: type | None = None, /) -> Self | Quantity: ...


def measured(value: Any, unit: pint.Unit | None) -> Any:
    """Bare expressions as Quantities: one, several, or by name; None stays None, and everything without a unit as it is.

    >>> measured((Rational(1, 1000), None), SECOND)
    (<Quantity 1 ms>, None)
    """
    if isinstance(value, Mapping):
        return {name: measured(part, unit) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(measured(part, unit) for part in value)
    return value if value is None or unit is None else quantity(value, unit)


@functools.cache
def unit_of(variable: Variable) -> pint.Unit:
    """The unit of a variable."""
    return ureg.Unit(variable.unit)


def in_unit(bare: Callable[[Any], Any], unit: Any, meaning: str) -> InUnit:
    """A property that hands out what is bare in its object as Quantities: an expression, several, or None.

    The unit may be a function of the object: a crossover has that of its variable.

    >>> class Wire:
    ...     length = in_unit(lambda wire: 3, BYTE, "How much fits, as a Quantity in bytes.")
    >>> print(Wire().length)
    3 B
    """
    made = InUnit(lambda self: measured(bare(self), unit if isinstance(unit, pint.Unit) else unit(self)))
    made.__doc__ = meaning
    return made


def _number(value: Real) -> Expr:
    """A number as sympy's, exact where it is; numpy's too."""
    if isinstance(value, RationalNumber):
        return Rational(int(value.numerator), int(value.denominator))
    return Float(float(value))


def counted(bare: Callable[[Any], Expr], meaning: str) -> Any:
    """A property that hands out a count of its object: an int where it is a whole number, else a Quantity without a unit.

    >>> class Wire:
    ...     devices = counted(lambda wire: Rational(8), "How many there are.")
    >>> Wire().devices
    8
    """

    def count(self: Any) -> Any:
        value = bare(self)
        return int(value) if value.is_Integer else quantity(value, COUNT)

    return property(count, doc=meaning)
