"""The sections of a report other than tables: lines of words, conventions, source text. Each is written in every format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from symroof.present.report import Layout
from symroof.present.tabular import Formula, Words, latex_text, markdown_text, spelled


class Section(Protocol):
    """What a report is made of."""

    def text(self, layout: Layout) -> Iterator[Any]:
        """As lines of text, and what rich draws."""
        ...

    def markdown(self) -> str:
        """As Markdown."""
        ...

    def latex(self, *, wide: bool = False) -> str:
        """As LaTeX."""
        ...

    def html(self, *, page: bool = False) -> str:
        """As HTML; with *page* with formulas in MathML."""
        ...


def _lines(lines: tuple[object, ...], layout: Layout, style: str = "", mark: str = "") -> Iterator[Any]:
    from rich.text import Text

    from symroof.present.formats.terminal import folded

    width = None if layout.width is None or layout.wide else layout.width - len(mark)
    for line in map(str, lines):
        parts = folded(line, width) if width else line.split("\n")
        yield from (Text(f"{' ' * len(mark) if place else mark}{part}", style=style) for place, part in enumerate(parts))


def _math(formula: Formula) -> str:
    return f"${formula.latex()}$"


@dataclass(frozen=True)
class Lines:
    """A title, and lines of words with formulas in them; a *note* stands back, and is left out where it is quiet."""

    lines: tuple[str | Words, ...]
    title: str = ""
    note: bool = False

    def text(self, layout: Layout) -> Iterator[Any]:
        """As lines of text."""
        yield from _lines((self.title,) if self.title else (), layout, style="bold")
        yield from _lines(("",) if self.title and self.lines else (), layout)
        yield from _lines(self.lines, layout, style="dim" if self.note else "")

    def _each(self, text: Callable[[str], str], math: Callable[[Formula], str]) -> list[str]:
        return [spelled(line, text, math) for line in self.lines]

    def markdown(self) -> str:
        """As Markdown."""
        return "\n\n".join([*([f"**{markdown_text(self.title)}**"] if self.title else []), *self._each(markdown_text, _math)])

    def latex(self, *, wide: bool = False) -> str:
        """As LaTeX, to be continued on the next line where a terminal would continue."""
        from symroof.present.formats.latex import breakable, inline

        title = [rf"\par\noindent\textbf{{{breakable(self.title)}}}\par"] if self.title else []
        lines = (rf"\noindent {line}\par" for line in self._each(breakable, inline))
        return "\n".join([r"{\raggedright", *title, *lines, "}"])

    def html(self, *, page: bool = False) -> str:
        """As HTML."""
        from symroof.present.formats.html import mathml

        heading = "h1" if page else "b"  # a notebook has headings of its own
        title = [f"<{heading}>{escape(self.title)}</{heading}>"] if self.title else []
        return "\n".join([*title, *(f"<p>{line}</p>" for line in self._each(escape, mathml if page else _math))])


@dataclass(frozen=True)
class Conventions:
    """What the numbers assume.

    Attributes
    ----------
    brief : the most important in a few words, for one line.
    texts : all of them; of several variants those of all.
    own : those of one variant only, by its name.
    """

    brief: str
    texts: tuple[str, ...]
    own: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def text(self, layout: Layout) -> Iterator[Any]:
        """In one line, or all of them."""
        if not layout.conventions:
            count = len(self.texts) + sum(len(texts) for _, texts in self.own)
            yield from _lines((f"{self.brief}; --conventions lists all {count}",), layout, style="dim")
            return
        for name, texts in (("conventions", self.texts), *((f"conventions of {name}", texts) for name, texts in self.own if texts)):
            yield from _lines((name,), layout, style="bold")
            yield from _lines(texts, layout, mark="· ")

    @property
    def _all(self) -> tuple[str, ...]:
        return (*self.texts, *(f"{name}: {text}" for name, texts in self.own for text in texts))

    def markdown(self) -> str:
        """As a list in Markdown."""
        return "\n".join(["**conventions**", "", *(f"- {markdown_text(text)}" for text in self._all)])

    def latex(self, *, wide: bool = False) -> str:
        """As a paragraph of LaTeX."""
        from symroof.present.formats.latex import breakable

        return "\\smallskip{\\footnotesize\\raggedright\\noindent Conventions: " + "; ".join(map(breakable, self._all)) + ".\\par}"

    def html(self, *, page: bool = False) -> str:
        """As a list that opens."""
        items = "".join(f"<li>{escape(text)}</li>" for text in self._all)
        return f"<details><summary>{escape(self.brief)}</summary>\n<ul>{items}</ul></details>"


@dataclass(frozen=True)
class Source:
    """LaTeX to be copied, under a line of words."""

    words: str
    source: str

    def text(self, layout: Layout) -> Iterator[Any]:
        """As it is, lines folded between words."""
        yield from _lines((self.words, "", self.source), layout)

    def markdown(self) -> str:
        """As a block of code."""
        return f"{markdown_text(self.words)}\n\n```latex\n{self.source}\n```"

    def latex(self, *, wide: bool = False) -> str:
        """As it is, over several pages where it is long."""
        return f"\\noindent {latex_text(self.words)}\n{{\\allowdisplaybreaks\n{self.source}}}"

    def html(self, *, page: bool = False) -> str:
        """As preformatted text."""
        return f"<p>{escape(self.words)}</p>\n<pre>{escape(self.source)}</pre>"
