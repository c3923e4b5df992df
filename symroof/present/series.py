"""Labelled numbers behind a figure: every series with its names and units, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from sympy import Expr

Number = Expr | int | float


@dataclass(frozen=True)
class Series:
    """One curve, or one group of bars.

    Attributes
    ----------
    panel : the part of the figure it belongs to.
    name : its label.
    x_name, x_unit : what runs along it; the unit is empty where x counts or names something.
    quantity, unit : what is drawn.
    x, y : points; x may be text, y is a number or an exact expression.
    side : in a figure of before and after, which of them it belongs to.
    roof : whether it is a roof, its ridge as x, peak and slope as y.

    >>> Series("decode", "W4", "batch", "", "time", "s", (1, 2), (0.5, 0.75)).points
    ((1, 0.5), (2, 0.75))
    """

    panel: str
    name: str
    x_name: str
    x_unit: str
    quantity: str
    unit: str
    x: tuple[Number | str, ...]
    y: tuple[Number, ...]
    side: str = ""
    roof: bool = False

    @property
    def points(self) -> tuple[tuple[Number | str, Number], ...]:
        """Pairs of x and y."""
        return tuple(zip(self.x, self.y, strict=True))

    @property
    def values(self) -> list[float]:
        """Y as floats, for drawing."""
        return [float(value) for value in self.y]

    @property
    def places(self) -> list[float]:
        """X as floats, for drawing."""
        return [float(cast(Number, value)) for value in self.x]


def named(series: Iterable[Series], panel: str, name: str, quantity: str | None = None) -> Series:
    """The series of that panel and name (and quantity).

    >>> one = Series("decode", "W4", "batch", "", "time", "s", (1,), (0.5,))
    >>> named([one], "decode", "W4") is one
    True
    """
    return next(one for one in series if (one.panel, one.name) == (panel, name) and quantity in (None, one.quantity))


def as_csv(series: Sequence[Series], accounting: str) -> str:
    """Every point of every series, one a row; floats with all their digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["accounting", "panel", "series", "x_name", "x_unit", "x", "quantity", "unit", "value"])
    for one in series:
        for x, y in one.points:
            shown = x if isinstance(x, str | int) else int(x) if float(x).is_integer() else float(x)
            writer.writerow([accounting, one.panel, one.name, one.x_name, one.x_unit, shown, one.quantity, one.unit, float(y)])
    return out.getvalue().rstrip("\n")
