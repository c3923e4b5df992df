"""Answers show themselves: how they look is decided on the floor of `present`, which is loaded when someone first looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sympy import Expr

from symroof.notation import Brief, view
from symroof.symbols import Variable
from symroof.units import in_unit, number_of, unit_of


class Answer(Brief):
    """What can be looked at: as a table, in a sentence, in LaTeX, in a notebook and in a terminal.

    Every class has those of these views that `symroof.present.views` registers for it.
    """

    def table(self, **layout: bool) -> Any:
        """A table, with ``markdown()``, ``latex()``, ``html()`` and ``csv()``; with *formulas*, the formulas too where there are some."""
        return view("table")(self, **layout)

    @property
    def sentence(self) -> str:
        """The answer in words."""
        return view("sentence")(self)

    def latex(self) -> str:
        """The answer as LaTeX, derivation or proof included."""
        return view("latex")(self)

    def _repr_html_(self) -> str | None:
        return view("notebook_html")(self)

    def _repr_latex_(self) -> str | None:
        return view("notebook_latex")(self)

    def __rich__(self) -> Any:
        return view("terminal")(self)


@dataclass(frozen=True)
class Interval(Answer):
    """An interval of a variable, ends included, with what holds on it.

    Attributes
    ----------
    over : the variable.
    low_expr, high_expr : where it begins and ends, bare; oo where it does not end.
    label : what holds on it: what binds, or whether a technique pays.
    """

    over: Variable
    low_expr: Expr
    high_expr: Expr
    label: Any

    low = in_unit(lambda interval: interval.low_expr, lambda interval: unit_of(interval.over), "Where it begins, as a Quantity.")
    high = in_unit(lambda interval: interval.high_expr, lambda interval: unit_of(interval.over), "Where it ends, as a Quantity.")

    def __contains__(self, value: object) -> bool:
        return bool(self.low_expr <= number_of(value, self.over) <= self.high_expr)

    @property
    def bound(self) -> Any:
        """The label, where that is what binds."""
        return self.label


def intervals(over: Variable, pieces: Any) -> tuple[Interval, ...]:
    """The pieces of a function of a variable, as a user sees them."""
    return tuple(Interval(over, piece.low, piece.high, piece.label) for piece in pieces)
