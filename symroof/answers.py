"""Answers show themselves: how they look is decided on the floor of `present`, which is loaded when someone first looks."""

from __future__ import annotations

import functools
import importlib
from typing import Any


@functools.cache
def view(name: str) -> Any:
    """A function of `symroof.present.views`: lower rooms name it, and never import it."""
    return getattr(importlib.import_module("symroof.present.views"), name)


class Answer:
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
