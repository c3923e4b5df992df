"""A sweep on the terminal: its points as a table, all of a few or the first of many, and the bar that a long one shows."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from symroof.present.tabular import Column, Table

SHOWN = 20


def points_table(dataset: Any) -> Table:
    """The table of a Dataset that `symroof.sweeps` made."""
    dims = list(next(iter(dataset.data_vars.values())).dims)
    shape = [dataset.sizes[name] for name in dims]
    size = int(np.prod(shape))
    places = np.unravel_index(np.arange(min(size, SHOWN)), shape)
    at = dict(zip(dims, places, strict=True))
    cells: dict[Column, list[Any]] = {}
    for name, coordinate in dataset.coords.items():
        values = coordinate.values[at[coordinate.dims[0]]].tolist()
        unit = coordinate.attrs.get("units", "1")
        large = unit in ("FLOP/second", "byte/second")
        column = Column(name, "" if unit == "1" else unit, numeric=not isinstance(values[0], str), prefixed=large, fixed=True)
        cells[column] = [value if large else f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    for name, variable in dataset.data_vars.items():
        values = variable.values[tuple(places)].tolist()
        unit = variable.attrs.get("units", "1")
        words = variable.attrs.get("flag_meanings", "").split()
        if words:
            cells[Column(name, fixed=True, rank=len(cells))] = ["-" if value != value else words[int(value)] for value in values]  # noqa: PLR0124
        else:
            numbers = [None if value != value else value for value in values]  # noqa: PLR0124
            cells[Column(name, unit, numeric=True, prefixed=unit != "FLOP/byte", rank=len(cells))] = numbers
    rows = tuple(zip(*cells.values(), strict=True))
    more = (f"the first {SHOWN} of {size} points; -o FILE writes them all",) if size > SHOWN else ()
    conventions = dataset.attrs.get("conventions", "").splitlines()
    return Table("sweep", tuple(cells), rows, (*more, *conventions, f"inputs: {dataset.attrs.get('inputs', '')}"))


@contextlib.contextmanager
def progress_bar(points: int) -> Iterator[Callable[[int], None]]:
    """A bar over so many points on standard error; what it yields moves it on."""
    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}% of {task.total:.3g} points"), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=points)
        yield lambda done: bar.advance(task, done)
