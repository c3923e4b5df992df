"""The points of a sweep: a table of some, CSV and JSON of all as they come; the bar that a long sweep shows, and its time in words."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from symroof.present.formats.sections import Conventions
from symroof.present.report import Report
from symroof.present.tabular import Column, Table
from symroof.sweeps.dataset import plain, spelled

SHOWN = 20
"""Points of a table on the terminal."""

Columns = Mapping[str, np.ndarray]
Notes = Mapping[str, Mapping[str, Any]]
"""Unit, meaning and words of columns, as `symroof.sweeps.dataset.notes_of` has them."""


def points_report(
    columns: Columns, metrics: Sequence[str], notes: Notes, attributes: Mapping[str, str], size: int, asked: Any = ()
) -> Report:
    """A table of the first of *size* points; *metrics* are the columns that are no coordinates, *asked* those that leave it last.

    A model, device or phase that all of these points share is in the title.
    """
    cells: dict[Column, list[Any]] = {}
    shared = {name: str(columns[name][0]) for name in ("model", "hardware", "phase") if len({*columns[name].tolist()}) == 1}
    for name, values in ((name, values) for name, values in columns.items() if name not in shared):
        about, metric = notes.get(name, {}), name in metrics
        unit = about.get("units", "1")
        words = about.get("flag_meanings", "").split()
        shown: list[Any] = [None if value is None else words[int(value)] if words else value for value in plain(values)]
        rounded = not metric and values.dtype.kind in "iuf" and unit not in ("FLOP/second", "byte/second")
        shown = [f"{value:g}" for value in shown] if rounded else shown  # 2048, not 2.048 k
        settings: dict[str, Any] = {"numeric": values.dtype.kind in "iuf" and not words, "prefixed": unit != "FLOP/byte", "fixed": True}
        rank = 0 if not metric else 1 if name in asked else 2 if words else 2 + len(cells)
        cells[Column(name, "" if unit == "1" else unit, rank=rank, **settings)] = shown
    rows = tuple(zip(*cells.values(), strict=True))
    count = len(rows)
    more = (f"the first {count} of {size} points; --format csv or json, or -o FILE, write them all",) if size > count else ()
    more = (*more, f"inputs: {attributes.get('inputs', '')}", *filter(None, [attributes.get("search")]))
    texts = tuple(attributes.get("conventions", "").splitlines())
    techniques = attributes.get("title", "").partition(" + ")[2]
    title = " + ".join(filter(None, (shared.get("model", "sweep"), techniques)))
    title += f" on {shared['hardware']}" if "hardware" in shared else ""
    table = Table(", ".join(filter(None, (title, shared.get("phase")))), tuple(cells), rows, more)
    return Report((table, Conventions("conventions of every step", texts)))


def csv_pieces(blocks: Iterable[Columns], notes: Notes) -> Iterator[str]:
    """All points as CSV, a row each, in base units; the heading first."""
    heading = True
    for columns in blocks:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if heading:
            writer.writerow(columns)
            heading = False
        named = (spelled(values, notes.get(name, {})) for name, values in columns.items())
        cells = ([str(value).lower() if isinstance(value, bool) else value for value in values] for values in named)
        writer.writerows(zip(*cells, strict=True))
        yield text.getvalue()


def json_pieces(blocks: Iterable[Columns], notes: Notes, attributes: Mapping[str, str], size: int) -> Iterator[str]:
    """All points as JSON, a record and a line each, under what they follow from."""
    head = {
        "units": {name: about["units"] for name, about in notes.items()},
        **{name: text.splitlines() if name in ("conventions", "sources") else text for name, text in attributes.items()},
        "size": size,
    }
    yield json.dumps(head, indent=2, ensure_ascii=False)[:-2] + ',\n  "points": ['
    comma = "\n"
    for columns in blocks:
        named = [spelled(values, notes.get(name, {})) for name, values in columns.items()]
        records = (dict(zip(columns, row, strict=True)) for row in zip(*named, strict=True))
        yield comma + ",\n".join(f"    {json.dumps(record, allow_nan=False)}" for record in records)
        comma = ",\n"
    yield "\n  ]\n}\n"


def duration(seconds: float) -> str:
    """A time as one would say it.

    >>> duration(0.2), duration(42), duration(150), duration(9000), duration(400_000)
    ('1 s', '42 s', '2.5 min', '2.5 h', '4.6 days')
    """
    for length, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{max(seconds, 1):.0f} s"


@contextlib.contextmanager
def progress_bar(points: int) -> Iterator[Callable[[int], None]]:
    """A bar over so many points on standard error; what it yields moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    counted = TextColumn("{task.percentage:>3.0f}% of {task.total:.3g} points")
    columns = (BarColumn(), counted, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=points)
        yield lambda done: bar.advance(task, done)
