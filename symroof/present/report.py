"""A report: an answer laid out once, rendered to every format; `FORMATS` is the one place that knows them.

Only what a format needs is imported, and only when it is rendered: the command line reads the names for its help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symroof.present.formats.sections import Section
    from symroof.present.tabular import Table

TEXT = "table"


@dataclass(frozen=True)
class Layout:
    """How a report is laid out.

    Attributes
    ----------
    width : characters of a line of text; None where nothing is folded, as in pipes and files.
    wide : every column and every formula in full, however long the lines.
    conventions : all of them, one a line, where text has them in one line.
    quiet : no conventions and no notes.
    colours : with the codes of a terminal.
    """

    width: int | None = None
    wide: bool = False
    conventions: bool = False
    quiet: bool = False
    colours: bool = False


@dataclass(frozen=True)
class Report:
    """An answer for people and for scripts.

    Attributes
    ----------
    sections : tables, lines of words, conventions, in reading order, the answer first; or what lays them out, where only people
        read them.
    record : makes what JSON holds; without it, the records of the first table.
    data : what CSV holds; without it, the first table.
    context : columns that CSV repeats in front of every row.
    status : the exit status of the command.
    """

    sections: tuple[Section, ...] | Callable[[], tuple[Section, ...]]
    record: Callable[[], Any] | None = None
    data: Callable[[], Table] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0

    @cached_property
    def laid_out(self) -> tuple[Section, ...]:
        """The sections, laid out."""
        return self.sections() if callable(self.sections) else self.sections

    @property
    def tables(self) -> tuple[Table, ...]:
        """The sections that are tables."""
        from symroof.present.tabular import Table

        return tuple(section for section in self.laid_out if isinstance(section, Table))

    @property
    def title(self) -> str:
        """The first title of a section."""
        return next((title for section in self.laid_out if (title := getattr(section, "title", ""))), "")

    def shown(self, layout: Layout) -> tuple[Section, ...]:
        """The sections that a layout shows: without conventions and notes where it is quiet."""
        from symroof.present.formats.sections import Conventions, Lines
        from symroof.present.tabular import Table

        sections = [section for section in self.laid_out if not isinstance(section, Lines) or section.title or section.lines]
        if not layout.quiet:
            return tuple(sections)
        heard = (section for section in sections if not isinstance(section, Conventions) and not getattr(section, "note", False))
        return tuple(replace(section, notes=()) if isinstance(section, Table) else section for section in heard)

    @property
    def words(self) -> tuple[Any, ...]:
        """The answer in words: the lines that are no notes."""
        from symroof.present.formats.sections import Lines

        return tuple(line for section in self.laid_out if isinstance(section, Lines) and not section.note for line in section.lines)

    @property
    def table(self) -> Table:
        """The first table under the report's title; without one, its words line by line."""
        from symroof.present.tabular import Column, Table

        if not self.tables:
            return Table(self.title, (Column("answer"),), tuple((line,) for line in self.words))
        return replace(self.tables[0], title=self.tables[0].title or self.title)

    def plain(self) -> Any:
        """What JSON holds."""
        return self.record() if self.record else self.table.records()

    def __str__(self) -> str:
        return self.render(TEXT)

    def _repr_html_(self) -> str:
        return "\n".join(section.html() for section in self.shown(Layout()))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        for position, section in enumerate(self.shown(Layout())):
            yield from [""] * bool(position)
            yield from section.text(Layout(width=options.max_width))

    def render(self, form: str, layout: Layout | None = None) -> str:
        """The report in a format of `FORMATS`; without a layout unfolded."""
        return FORMATS[form].render(self, layout or Layout())


def _text(report: Report, layout: Layout) -> str:
    from symroof.present.formats.terminal import printed

    return printed(report.shown(layout), layout)


def _json(report: Report, layout: Layout) -> str:
    """Without NaN or infinities."""
    import json

    return json.dumps(report.plain(), indent=2, allow_nan=False, ensure_ascii=False)


def _csv(report: Report, layout: Layout) -> str:
    from symroof.present.tabular import Column, Table

    if report.data is None and not report.tables:
        lines = _text(report, Layout(quiet=True)).splitlines()
        return Table("", (Column("answer"),), tuple((line,) for line in lines if line)).csv()
    return (report.data() if report.data else report.tables[0]).csv(report.context)


def _latex(report: Report, layout: Layout) -> str:
    return "\n\n".join(section.latex(wide=layout.wide) for section in report.shown(layout))


def _markdown(report: Report, layout: Layout) -> str:
    return "\n\n".join(section.markdown() for section in report.shown(layout))


def _html(report: Report, layout: Layout) -> str:
    from symroof.present.formats.html import page

    return page(report.title or "symroof", (section.html(page=True) for section in report.shown(layout)))


@dataclass(frozen=True)
class Format:
    """How a report is written, and the endings of files that ask for it."""

    render: Callable[[Report, Layout], str]
    endings: tuple[str, ...]


FORMATS = {
    TEXT: Format(_text, ("", ".txt")),
    "json": Format(_json, (".json",)),
    "csv": Format(_csv, (".csv",)),
    "latex": Format(_latex, (".tex",)),
    "markdown": Format(_markdown, (".md",)),
    "html": Format(_html, (".html",)),
}
