"""How a Quantity is written: ``44.24 us``, ``312 TFLOP/s``, ``295.2 FLOP/byte``; exact on request."""

from __future__ import annotations

import importlib
import re
from fractions import Fraction
from typing import Any, cast

import pint
from pint.registry import Quantity as PintQuantity
from sympy import Add, Expr, Rational, Symbol, SympifyError
from sympy.logic.boolalg import BooleanAtom

from symroof.errors import InputError, quote
from symroof.notation import compact, latex, prefixed, rounded, shortened
from symroof.symbols import VOCABULARY

POWERS = {"second": (-4, 0), "byte": (0, 6), "flop": (0, 6), "bit": (0, 6), "hertz": (0, 6), "joule": (-4, 6), "watt": (-4, 6)}
"""The units that take an SI prefix, with the powers of 1000 that are usual: no kiloseconds and no millibytes."""
MICRO = r"\mu "
LONGEST = 300
"""Characters of a formula that a repr shows."""

_SPEC = re.compile(r"((?:.?[<>^])?)([-+ ]?)([0-9]*)([_,]?)((?:\.[0-9]+)?)([eEfFgGd%]?)")
_OF_PINT = re.compile(r"[~#]|[PLHCD]x?$")


class Quantity(PintQuantity):
    """A magnitude and its unit.

    It prints with four significant digits, a count with a decimal at least, and the unit with an SI prefix; it formats as a float
    does: ``f"{time:.3g}"``. One with symbols prints as its formula and the unit. `exact` is the magnitude as it is, a rational or a
    formula, in `units`; ``to("ms")`` converts exactly, and prints in that unit. A count is dimensionless, and prints as a number.

    >>> from symroof.units import Quantity
    >>> time = Quantity(Rational(176187, 3982421875), "second")
    >>> print(time, f"{time:.3g}", f"{time:.1f}", time.to("ms"), time.exact, sep=", ")
    44.24 us, 44.2 us, 44.2 us, 0.04424 ms, 176187/3982421875
    >>> Quantity(312 * 10**12, "FLOP/s"), Quantity(Rational(19780, 67), "FLOP/byte"), Quantity(Rational(500, 3))
    (<Quantity 312 TFLOP/s>, <Quantity 295.2 FLOP/byte>, <Quantity 166.7>)
    """

    # A Quantity passes attribute look-ups on to its magnitude, so sympy takes one for an expression of its
    # own and loses the unit without a word. Answering the question sympy asks first makes that loud.
    @property
    def __sympy__(self) -> bool:
        raise SympifyError(f"the quantity {quote(str(self))}: sympy would drop its unit; use .exact, or do the arithmetic on quantities")

    @property
    def exact(self) -> Expr:
        """The magnitude in `units`, exactly: a rational, a formula, or a root: in closed form, else one that refines its enclosure."""
        magnitude = cast(Any, self.magnitude)
        if isinstance(magnitude, Expr):
            return getattr(magnitude, "closed_form", None) or magnitude
        return Rational(str(magnitude)) if isinstance(magnitude, float) else Rational(magnitude)

    @property
    def is_number(self) -> bool:
        """Whether no symbol is left in it."""
        return not isinstance(self.magnitude, Expr) or bool(self.magnitude.is_number)

    def subs(self, *arguments: Any) -> Quantity:
        """``q.subs({b: 16})`` or ``q.subs(b, 16)``: symbols of the library by numbers, quantities or expressions, exactly."""
        # Without this, the look-up would reach the magnitude's own subs and come back without the unit.
        pairs = dict(arguments[0]) if len(arguments) == 1 else {arguments[0]: arguments[1]}
        for old, new in pairs.items():
            if not isinstance(old, Symbol) or old not in VOCABULARY:
                raise InputError(f"subs of {quote(old)}: expected a symbol of symroof.symbols, not text or a symbol made elsewhere")
            if isinstance(new, Quantity):
                pairs[old] = new.to(VOCABULARY[old].unit).exact
            elif not isinstance(new, int | float | Fraction | Expr):
                raise InputError(f"subs of {old} by {quote(new)}: expected a number, a quantity or an expression; text is not evaluated")
        return type(self)(self.exact.subs(pairs), self.units)

    def compare(self, other: Any, op: Any) -> Any:
        """What pint compares; as a bool where sympy decides it."""
        outcome = super().compare(other, op)
        return bool(outcome) if isinstance(outcome, BooleanAtom) else outcome

    def __round__(self, ndigits: int | None = None) -> Quantity:
        exact = cast(Any, self.exact)
        number = Fraction(exact.p, exact.q) if exact.is_Rational else Fraction(float(exact))
        return type(self)(Rational(round(number, ndigits or 0)), self.units)  # sympy's round is one of few binary digits

    def __reduce__(self) -> Any:
        return _restored, (self.magnitude, str(self.units))

    def __str__(self) -> str:
        return self.__format__("")

    def __repr__(self) -> str:
        return f"<Quantity {shortened(str(self), LONGEST)}>"

    def __format__(self, spec: str) -> str:
        if _OF_PINT.search(spec):
            plain = type(self)(float(cast(Any, self.magnitude)), self.units) if self.is_number and re.search(r"\.[0-9]", spec) else self
            return PintQuantity.__format__(plain, spec)
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise ValueError(f"format {quote(spec)} of a quantity: expected that of a number, such as .3g or .2f, or pint's, such as ~P")
        align, sign, width, comma, precision, kind = match.groups()
        number, unit = self._written(f"{sign}{comma}", precision, kind)
        apart = " " if unit and not unit.startswith("/") else ""
        return format(f"{number}{apart}{unit}", f"{align or '>'}{width}")

    def _written(self, flags: str, precision: str, kind: str) -> tuple[str, str]:
        """The number, or formula, and the unit."""
        magnitude = cast(Any, self.magnitude)
        if not self.is_number:
            formula = magnitude if isinstance(magnitude, Add) and magnitude.primitive()[0].is_Integer else compact(magnitude)
            return (f"({formula})" if isinstance(formula, Add) and self._units else str(formula)), self._unit()
        if kind == "%" and self._units:
            raise ValueError(f"{self} as a percentage: expected a plain number")
        value, powers = float(magnitude), self._powers
        whole = abs(value) < 10**15 and magnitude == int(magnitude)  # false of what is no number
        if (kind == "d" and whole) or (not precision and not kind and whole and powers is None):
            return format(int(magnitude), f"{flags}d"), self._unit(short=True)
        if kind == "d":
            raise ValueError(f"{self} as a whole number: it is none")
        style = (flags, precision or ("" if kind else ".4"), kind or "g")
        if powers is None or kind in ("e", "E", "%"):
            many, decimals = not precision and not kind and 10**3 <= abs(value) < 10**15, 0 if self._units else 1
            return format(value, f"{flags}.{decimals}f") if many else rounded(value, *style), self._unit(short=True)
        number, prefix = prefixed(value, *style, powers=powers)
        return number, self._unit(prefix, short=True)

    @property
    def _powers(self) -> tuple[int, int] | None:
        """The powers of 1000 that its prefix may have; None where its unit takes none, or has one: a ratio of FLOPs to bytes, GiB."""
        over = [name for name, power in cast(Any, self._units).items() if power > 0]
        if not over:
            return (0, 6) if self._units else None
        plain = len(over) == 1 and self._units[over[0]] == 1 and not (over[0] == "flop" and "byte" in self._units)
        return POWERS.get(over[0]) if plain else None

    def _unit(self, prefix: str = "", *, short: bool = False) -> str:
        """The unit: bytes are B after a number, and spelled out after a formula and below a line."""

        def factor(name: str, power: Any, spelled: bool) -> str:
            symbol = "byte" if name == "byte" and spelled else self._REGISTRY.get_symbol(name).replace("µ", "u")
            return symbol if power == 1 else f"{symbol}^{power}"

        over = "*".join(factor(name, power, not short) for name, power in cast(Any, self._units).items() if power > 0)
        under = [factor(name, -power, True) for name, power in cast(Any, self._units).items() if power < 0]
        below = f"({'*'.join(under)})" if len(under) > 1 else "".join(under)
        return f"{prefix}{over}" + (f"/{below}" if below else "")

    def _repr_latex_(self) -> str:
        """What a notebook shows, typeset."""
        number, unit = self._written("", "", "")
        if not self.is_number:
            number = rf"\displaystyle {latex(compact(cast(Any, self.magnitude)))}"
        number = re.sub(r"e([-+]\d+)$", lambda power: rf"\times 10^{{{int(power[1])}}}", number).replace("inf", r"\infty")
        return f"${number}$" if not unit else rf"${number}\ \mathrm{{{re.sub('^u(?=.)', lambda _: MICRO, unit)}}}$"

    _repr_html_: Any = None  # pint's would win over LaTeX, and shows formulas as code

    def _repr_pretty_(self, p: Any, cycle: bool) -> None:
        """What a terminal of IPython shows."""
        p.text("..." if cycle else repr(self))


class Registry(pint.UnitRegistry):
    """A registry of such quantities."""

    Quantity = Quantity


def _restored(magnitude: object, unit: str) -> Any:
    """A quantity from a pickle, in the library's registry."""
    return importlib.import_module("symroof.units").Quantity(magnitude, unit)  # of the floor above, loaded by now
