"""Answers show themselves: how they look is decided on the floor of `present`, which is loaded when someone first looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, overload

from sympy import Expr

from symroof.errors import InputError, SymroofError, nearest, quote
from symroof.notation import Brief, view
from symroof.symbols import Variable
from symroof.units import in_unit, number_of, unit_of


class Answer(Brief):
    """What can be looked at: as a table, in a sentence, in LaTeX, in a notebook and in a terminal; `report` is all of it in every format.

    `symroof.present.views` says how each class looks.
    """

    def report(self) -> Any:
        """What the command prints: ``print`` it, or ``render`` it as "json", "csv", "latex", "markdown" or "html"."""
        return view("report")(self)

    def to_dict(self) -> Any:
        """The answer as plain numbers and texts, as ``--format json`` has it: a dict, or a list of them."""
        return view("report")(self).plain()

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


Each_co = TypeVar("Each_co", covariant=True)


@dataclass(frozen=True)
class Answers(Answer, Sequence[Each_co]):
    """Answers of one kind, in order: an immutable sequence whose members have names too.

    Attributes
    ----------
    members : the answers.
    """

    _NAME: ClassVar[str] = "name"
    _AMONG: ClassVar[str] = "one of the answers"
    _REFUSED: ClassVar[type[SymroofError]] = InputError

    members: tuple[Each_co, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the members, in order."""
        return tuple(getattr(member, self._NAME) for member in self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Each_co]:
        return iter(self.members)

    def __contains__(self, value: object) -> bool:
        return value in self.names if isinstance(value, str) else value in self.members

    @overload
    def __getitem__(self, index: int | str) -> Each_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Each_co, ...]: ...
    def __getitem__(self, index: int | str | slice) -> Each_co | tuple[Each_co, ...]:
        if not isinstance(index, str):
            return self.members[index]
        if index not in self.names:
            raise self._REFUSED(f"{quote(index)} is not {self._AMONG}: {nearest(index, self.names)}")
        return self.members[self.names.index(index)]


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


@dataclass(frozen=True)
class Intervals(Answers[Interval]):
    """Intervals of a variable in order: an immutable sequence, of several with one label the first by that name."""

    _NAME = "label"
    _AMONG = "the label of an interval"


def intervals(over: Variable, pieces: Any) -> Intervals:
    """The pieces of a function of a variable, as a user sees them."""
    return Intervals(tuple(Interval(over, piece.low, piece.high, piece.label) for piece in pieces))
