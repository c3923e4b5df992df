"""The bar that a long computation shows on the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress_bar(points: int) -> Iterator[Callable[[int], None]]:
    """A bar over so many points on standard error; what it yields moves it on."""
    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}% of {task.total:.3g} points"), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=points)
        yield lambda done: bar.advance(task, done)
