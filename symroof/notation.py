"""How formulas are written: as text and as LaTeX."""

from __future__ import annotations

import functools
import re
from typing import Any, cast

import sympy
from sympy import Basic, Expr, Piecewise, Symbol

from symroof.symbols import VOCABULARY


@functools.cache
def _latex_names() -> dict[Symbol, str]:
    """Every symbol in LaTeX: words and abbreviations upright, in the name and in its index."""
    plain = {symbol: sympy.latex(Symbol(symbol.name.replace("eps_", "epsilon_"))) for symbol in VOCABULARY}
    word = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?: [a-z]+)*")
    return {symbol: word.sub(lambda run: rf"\mathrm{{{run[0]}}}".replace(" ", r"\ "), name) for symbol, name in plain.items()}


def latex(expression: Basic) -> str:
    r"""A formula as LaTeX; a name of several letters is one name, not their product.

    >>> from symroof.symbols import BW, b, eps_B, eta_BW
    >>> print(latex(b / BW), latex(eps_B * eta_BW**2))
    \frac{b}{\mathrm{BW}} \epsilon_{B} \eta_{\mathrm{BW}}^{2}
    """
    return sympy.latex(expression, symbol_names=_latex_names())


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
