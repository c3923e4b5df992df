"""How formulas are written, as text and as LaTeX, and numbers, with SI prefixes."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable
from math import floor, isfinite, log10
from typing import Any, cast

import sympy
from sympy import Add, Basic, Expr, Mul, Piecewise, Symbol

from symroof.symbols import VOCABULARY


@functools.cache
def _latex_names(symbols: int) -> dict[Symbol, str]:
    """Every symbol in LaTeX, of so many that there are: words and abbreviations upright, in the name and in its index."""
    plain = {symbol: sympy.latex(Symbol(symbol.name.replace("eps_", "epsilon_"))) for symbol in VOCABULARY}
    word = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?: [a-z]+)*")
    return {symbol: word.sub(lambda run: rf"\mathrm{{{run[0]}}}".replace(" ", r"\ "), name) for symbol, name in plain.items()}


def latex(expression: Basic) -> str:
    r"""A formula as LaTeX; a name of several characters is one name, not their product.

    >>> from symroof.symbols import BW, b, eps_B, eta_BW, v
    >>> print(latex(b / BW), latex(eps_B * eta_BW**2))
    \frac{b}{\mathrm{BW}} \epsilon_{B} \eta_{\mathrm{BW}}^{2}
    >>> print(latex(16 * b * BW * v), latex(b * BW**2 >= BW))
    16\, \mathrm{BW}\, b v \mathrm{BW}^{2}\, b \geq \mathrm{BW}
    """
    return re.sub(BESIDE_WORDS, r"\1\, ", sympy.latex(expression, symbol_names=_latex_names(len(VOCABULARY))))


WORD = r"\\mathrm\{[^{}]*\}"
BESIDE_WORDS = rf"({WORD}(?:[_^]\{{[^{{}}]*\}})*(?= (?:[A-Za-z]|{WORD}))|(?<![\\A-Za-z])[0-9A-Za-z](?= {WORD})|\}}(?= {WORD})) "
"""Blanks between factors beside an upright name, where a thin space keeps them apart."""


def written(formula: Expr) -> str:
    """A formula as text; one of two by a condition in words.

    >>> from sympy import Le, Piecewise
    >>> from symroof.symbols import b, d, v
    >>> written(Piecewise((b, Le(b * d, v)), (v / d, True)))
    'b where b*d <= v, else v/d'
    """
    if not isinstance(formula, Piecewise):
        return str(formula)
    (value, condition), (otherwise, _) = cast(Any, formula).args
    return f"{value} where {condition.lts} <= {condition.gts}, else {otherwise}"


def compact(expression: Basic) -> Basic:
    """A sum with its common number in front: ``(b + d)/8`` rather than ``b/8 + d/8``.

    >>> from symroof.symbols import b, d
    >>> compact(b / 8 + d / 8)
    (b + d)/8
    """
    if not isinstance(expression, Add):
        return expression
    content, primitive = expression.primitive()
    return primitive if content == 1 else Mul(content, primitive, evaluate=False)


def shortened(text: str, longest: int) -> str:
    """A text with what is too long for a line left out, and how long it is.

    >>> shortened("b + d + f + h", 7)
    'b + d +... (13 characters)'
    """
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


PREFIXES = {-4: "p", -3: "n", -2: "u", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P", 6: "E"}
"""SI prefixes by the power of 1000."""


def rounded(number: float, flags: str = "", precision: str = ".4", kind: str = "g") -> str:
    """A number by Python's format; significant digits without an exponent where its digits fit a line.

    >>> rounded(138134.7, precision=".3"), rounded(0.5), rounded(2.0, precision=".2", kind="f")
    ('138000', '0.5', '2.00')
    """
    text = format(number, f"{flags}{precision}{kind}")
    if kind in ("g", "") and "e" in text and 1 <= abs(number) < 1e15:
        digits = int(precision[1:] or 6)
        return format(round(number, digits - 1 - floor(log10(abs(number)))), f"{flags}.0f")
    return text


def prefixed(number: float, *style: str, powers: tuple[int, int] = (-4, 6)) -> tuple[str, str]:
    """A number rounded in that style, and its SI prefix, of the powers of 1000 from the first to the last.

    >>> prefixed(68719476736.0), prefixed(999.96e-6), prefixed(0.0), prefixed(3600.0, powers=(-4, 0)), prefixed(2e-20)
    (('68.72', 'G'), ('1', 'm'), ('0', ''), ('3600', ''), ('2e-20', ''))
    """
    lowest, highest = powers
    power = min(floor(log10(abs(number)) / 3), highest) if number and isfinite(number) else 0
    if power < lowest:
        return rounded(number, *style), ""
    text = rounded(number / 1000.0**power, *style)
    if power < highest and isfinite(number) and abs(float(re.sub("[_,]", "", text))) >= 1000:
        power += 1
        text = rounded(number / 1000.0**power, *style)
    return text, PREFIXES[power]


@functools.cache
def view(name: str) -> Any:
    """A function of `symroof.present.views`: lower rooms name it, and never import it."""
    return getattr(importlib.import_module("symroof.present.views"), name)


LINE, FIELD = 200, 48
"""Characters of a repr, and of a field in it."""


class Brief:
    """A dataclass whose repr is one line, made by `symroof.present.views.brief`.

    >>> from symroof.hardware.loader import load_hardware
    >>> device = load_hardware("a100-sxm-80gb")
    >>> device, device.on_chip[0]
    (<Device a100-sxm-80gb: 312 TFLOP/s fp16, 2.039 TB/s, 85.9 GB>, <OnChip register file: capacity 256 KiB, instances 108>)
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = Brief.__repr__  # in the class itself, where a dataclass would write its own

    def __repr__(self) -> str:
        about, *said = view("brief")(self)
        return shortened(f"<{type(self).__name__}{about and f' {about}'}{': ' if said else ''}{', '.join(said)}", LINE) + ">"


class Sentence(str):
    """Words with formulas in them: text as it is, and parts for who typesets it.

    Attributes
    ----------
    parts : words and expressions, in order; a sentence within it by its own parts.

    >>> from symroof.symbols import b
    >>> said = Sentence("at ", b >= 2, " and above")
    >>> said, said.parts, Sentence("so ", said).parts
    ('at b >= 2 and above', ('at ', b >= 2, ' and above'), ('so ', 'at ', b >= 2, ' and above'))
    """

    parts: tuple[str | Basic, ...]

    def __new__(cls, *parts: str | Basic) -> Sentence:
        """The words and formulas joined."""
        sentence = super().__new__(cls, "".join(map(str, parts)))
        sentence.parts = tuple(inner for part in parts for inner in (part.parts if isinstance(part, Sentence) else (part,)))
        return sentence

    @classmethod
    def listed(cls, parts: Iterable[str | Basic], between: str = ", ") -> Sentence:
        """Parts with something between them.

        >>> from symroof.symbols import b, t
        >>> Sentence.listed([b >= 1, t >= 2])
        'b >= 1, t >= 2'
        """
        return cls(*[part for each in parts for part in (between, each)][1:])
