"""A report: an answer laid out once, rendered to every format; `FORMATS` is the one place that knows them.

Only what a format needs is imported, and only when it is rendered: the command line reads the names for its help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symroof.present.tabular import Table

TEXT = "table"
UNFOLDED = 2000
"""Width for files and pipes: nothing is wrapped there."""


@dataclass(frozen=True)
class Report:
    """An answer for people and for scripts.

    Attributes
    ----------
    sections : tables, and lines of text, in reading order; or what lays them out, where only people read them.
    record : makes what JSON holds; without it, the records of the first table.
    data : what CSV holds; without it, the first table.
    context : columns that CSV repeats in front of every row.
    derivation : what LaTeX holds; without it, the sections.
    status : the exit status of the command.
    """

    sections: tuple[Table | str, ...] | Callable[[], tuple[Table | str, ...]]
    record: Callable[[], Any] | None = None
    data: Callable[[], Table] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    derivation: Callable[[], str] | None = None
    status: int = 0

    @cached_property
    def laid_out(self) -> tuple[Table | str, ...]:
        """The sections, laid out."""
        return self.sections() if callable(self.sections) else self.sections

    @property
    def tables(self) -> tuple[Table, ...]:
        """The sections that are tables."""
        return tuple(section for section in self.laid_out if not isinstance(section, str))

    def render(self, form: str, terminal: bool = False) -> str:
        """The report in a format of `FORMATS`; with *terminal*, text for the terminal's width, with colours."""
        return _text(self, terminal) if form == TEXT else FORMATS[form].render(self)


def _text(report: Report, terminal: bool = False) -> str:
    import io

    from rich.console import Console
    from rich.measure import Measurement

    console = Console(file=io.StringIO(), force_terminal=terminal, width=None if terminal else UNFOLDED, highlight=False, markup=False)
    if terminal:
        wide = console.options.update(width=UNFOLDED)
        needed = (Measurement.get(console, wide, table).minimum for table in report.tables)
        console.width = max(Console().width, *needed)  # a terminal too narrow wraps lines; it never cuts a number
    for position, section in enumerate(report.laid_out):
        console.print(*([""] if position else []), section, sep="\n", soft_wrap=isinstance(section, str))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).rstrip()


def _json(report: Report) -> str:
    """Without NaN or infinities."""
    import json

    record = report.record() if report.record else report.tables[0].records()
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)


def _csv(report: Report) -> str:
    from symroof.present.tabular import Column, Table

    if report.data is None and not report.tables:
        return Table("", (Column("answer"),), tuple((line,) for section in report.laid_out for line in str(section).splitlines())).csv()
    return (report.data() if report.data else report.tables[0]).csv(report.context)


def _latex(report: Report) -> str:
    from symroof.present.tabular import latex_text

    if report.derivation:
        return report.derivation()
    return "\n\n".join(
        section.latex() if not isinstance(section, str) else section if section.startswith("\\begin") else latex_text(section)
        for section in report.laid_out
    )


def _markdown(report: Report) -> str:
    return "\n\n".join(section if isinstance(section, str) else section.markdown() for section in report.laid_out)


def _html(report: Report) -> str:
    from html import escape

    from symroof.present.tabular import PAGE

    parts = (f"<pre>{escape(section)}</pre>" if isinstance(section, str) else section.html(page=True) for section in report.laid_out)
    title = report.tables[0].title if report.tables else str(report.laid_out[0]).partition("\n")[0]
    return PAGE.format(title=escape(title), body="\n".join(parts))


@dataclass(frozen=True)
class Format:
    """How a report is written, and the endings of files that ask for it."""

    render: Callable[[Report], str]
    endings: tuple[str, ...]


FORMATS = {
    TEXT: Format(_text, ("", ".txt")),
    "json": Format(_json, (".json",)),
    "csv": Format(_csv, (".csv",)),
    "latex": Format(_latex, (".tex",)),
    "markdown": Format(_markdown, (".md",)),
    "html": Format(_html, (".html",)),
}
