"""A table as a value: columns with units, rows of cells, notes; written as text, Markdown, LaTeX, HTML or CSV.

What each of these would take for markup is escaped; here is the frame of a page, too.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from sympy import Add, Basic, Max

from symroof.notation import Brief, Sentence, compact, latex, prefixed

if TYPE_CHECKING:
    from symroof.present.report import Layout

_LATEX = str.maketrans(
    {"_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
    | {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "µ": r"$\mu$", "<": "$<$", ">": "$>$", "|": "$|$", "`": r"\textasciigrave{}"}
    | {"[": "{[}", "≤": r"$\le$", "≥": r"$\ge$", "→": r"$\to$", "×": r"$\times$", "·": r"$\cdot$", "ε": r"$\epsilon$"}
)


def markdown_text(value: str) -> str:
    r"""Text with what Markdown or HTML would take for markup escaped.

    >>> print(markdown_text("2*M/(a*e) | <i>"))
    2\*M/(a\*e) \| &lt;i>
    """
    return re.sub(r"([*|`\\])", r"\\\1", value).replace("<", "&lt;")


def latex_text(value: str) -> str:
    """Text with LaTeX's own characters escaped."""
    return value.replace("<=", "≤").replace(">=", "≥").translate(_LATEX)


def aligned_lines(lines: Iterable[str]) -> str:
    """Lines as a LaTeX align environment (package amsmath)."""
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


@dataclass(frozen=True)
class Formula:
    r"""A cell that holds an expression and is shown as one, an equation with a *name*: a symbol, or a text as LaTeX writes it.

    >>> from symroof.symbols import BW, T
    >>> print(Formula(1 / T, BW), Formula(1 / T, BW).latex())
    BW = 1/T \mathrm{BW} = \frac{1}{T}
    """

    expression: Basic
    name: str | Basic = ""

    def latex(self) -> str:
        """The expression as LaTeX, without dollar signs."""
        name = latex(self.name) if isinstance(self.name, Basic) else self.name
        return f"{name and f'{name} = '}{latex(compact(self.expression))}"

    def __str__(self) -> str:
        name = str(self.name).replace("^", "")
        return f"{name and f'{name} = '}{compact(self.expression)}"


@dataclass(frozen=True)
class Words:
    """A cell of text with formulas in it, each shown as one.

    >>> from symroof.symbols import n_p
    >>> cell = Words((Formula(n_p > 1), " (memory only)"))
    >>> print(cell, Table("", (Column("pays"),), ((cell,),)).markdown().splitlines()[-1])
    n_p > 1 (memory only) | $n_{p} > 1$ (memory only) |
    """

    parts: tuple[object, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


def words_of(sentence: str) -> Words:
    """A sentence as a cell, its formulas as formulas."""
    parts = sentence.parts if isinstance(sentence, Sentence) else (sentence,)
    return Words(tuple(Formula(part) if isinstance(part, Basic) else part for part in parts))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    key : its name in data files.
    unit, title : of its heading.
    numeric, prefixed : whether it holds numbers, and whether these have SI prefixes.
    form : how a number without a prefix is written.
    fixed : words that no line may break.
    rank : 0 where it is always shown; of the others the highest goes first where a terminal is too narrow.
    fold : characters of a formula above which a terminal shows what it is made of; 0 where it is always shown.
    """

    key: str
    unit: str = ""
    title: str = ""
    numeric: bool = False
    prefixed: bool = True
    form: str = "{:.4g}"
    fixed: bool = False
    rank: int = 0
    fold: int = 0

    @property
    def heading(self) -> str:
        """Title and unit, as in "time [s]"."""
        return f"{self.title or self.key} [{self.unit}]" if self.unit else self.title or self.key


FOLD = 24
"""Characters of a formula that a column of numbers shows in a terminal."""


def si(value: Any, digits: int = 4) -> str:
    """A number with an SI prefix and *digits* significant digits.

    >>> si(68719476736), si(0.0070078), si(1024), si(0), si(1.25)
    ('68.72 G', '7.008 m', '1.024 k', '0', '1.25')
    """
    text, prefix = prefixed(float(value), "", f".{digits}")
    return f"{text} {prefix}".rstrip()


def in_units(value: Any, unit: str, digits: int = 3) -> str:
    """A number with a prefix before its unit.

    >>> in_units(0.0425, "s"), in_units(1.1699, "s"), in_units(3.1354e10, "B/s", 4)
    ('42.5 ms', '1.17 s', '31.35 GB/s')
    """
    figure, _, prefix = si(value, digits).partition(" ")
    return f"{figure} {prefix}{unit}"


def amount(value: Any) -> str:
    """A number without a prefix, with commas between thousands.

    >>> amount(2279.4), amount(61.27), amount(1234567)
    ('2,279', '61.27', '1,234,567')
    """
    plain = float(value)
    return f"{plain:,.0f}" if plain >= 1000 else f"{plain:.4g}"


def times(value: Any) -> str:
    """A factor.

    >>> times(2.9799), times(1493.2)
    ('2.98x', '1,493x')
    """
    factor = float(value)
    return f"{factor:,.0f}x" if factor >= 1000 else f"{factor:.3g}x"


def listed(words: Sequence[str]) -> str:
    """Words in a row.

    >>> listed(["weights", "activations", "KV cache"])
    'weights, activations and KV cache'
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def number(value: Any) -> int | float:
    """A number as data files hold it: whole numbers whole, others as the nearest float."""
    if isinstance(value, int | float):
        return value
    return int(value) if value.is_Integer else float(value)


Rows = tuple[tuple[Any, ...], ...]


def spelled(value: Any, text: Callable[[str], str], math: Callable[[Formula], str]) -> str:
    """Words and formulas in one format."""
    if isinstance(value, Formula | Words):
        parts = value.parts if isinstance(value, Words) else (value,)
        return "".join(math(part) if isinstance(part, Formula) else text(str(part)) for part in parts)
    return text("" if value is None else str(value))


def folds_in(column: Column, value: Any) -> bool:
    """Whether a column shows of a formula what it is made of."""
    longest = column.fold or (FOLD if column.numeric else 0)
    return bool(longest) and isinstance(value, Formula) and len(str(value)) > longest


def kind_of(expression: Basic) -> str:
    """What a long formula is made of.

    >>> from symroof.symbols import b, d, f
    >>> kind_of(b + d + f), kind_of(b * d)
    ('sum of 3 terms', 'function of b, d')
    """
    if isinstance(expression, Add):
        return f"sum of {len(expression.args)} terms"
    if isinstance(expression, Max):
        return f"largest of {len(expression.args)}"
    return f"function of {', '.join(sorted(map(str, expression.free_symbols)))}"


@dataclass(frozen=True)
class Table(Brief):
    """Rows under headings, with a title above and notes below.

    >>> table = Table("sizes", (Column("name"), Column("bytes", "byte", numeric=True)), (("x", 4096),), ("a note",))
    >>> print(table.markdown())
    **sizes**
    <BLANKLINE>
    | name | bytes [byte] |
    | --- | ---: |
    | x | 4.096 k |
    <BLANKLINE>
    - a note
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()
    totals: tuple[tuple[Any, ...], ...] = field(default=())

    def cells(self, rows: Rows, text: Callable[[str], str], math: Callable[[Formula], str], *, fold: bool = False) -> list[list[str]]:
        """The cells of some rows as text of one format, formulas too long for their column abbreviated."""

        def cell(column: Column, value: Any) -> str:
            if fold and folds_in(column, value):
                return text(kind_of(value.expression))
            if column.numeric and value is not None and not isinstance(value, str | Formula | Words):
                return text(si(value) if column.prefixed else column.form.format(float(value)))
            return spelled(value, text, math)

        return [[cell(column, value) for column, value in zip(self.columns, row, strict=True)] for row in rows]

    @property
    def folds(self) -> bool:
        """Whether a formula is longer than its column folds."""
        return any(folds_in(column, value) for row in self.rows + self.totals for column, value in zip(self.columns, row, strict=True))

    def text(self, layout: Layout) -> Iterator[Any]:
        """As lines of text, and what rich draws."""
        from symroof.present.formats.terminal import rendered

        return rendered(self, layout)

    def __str__(self) -> str:
        """As plain text, of the width that COLUMNS says, if it is set."""
        from symroof.present.formats.terminal import printed
        from symroof.present.report import Layout

        width = os.environ.get("COLUMNS", "")
        layout = Layout(width=int(width) if width.isdecimal() else None)
        return printed([self], layout)

    def markdown(self) -> str:
        """As a Markdown table."""

        def line(cells: list[str]) -> str:
            return f"| {' | '.join(cells)} |"

        cells = self.cells(self.rows + self.totals, markdown_text, lambda formula: f"${formula.latex()}$")
        rule = ["---:" if column.numeric else "---" for column in self.columns]
        title = [f"**{markdown_text(self.title)}**", ""] if self.title else []
        lines = [line([column.heading for column in self.columns]), line(rule), *map(line, cells), ""]
        return "\n".join([*title, *lines, *(f"- {markdown_text(note)}" for note in self.notes)]).rstrip()

    def latex(self, *, wide: bool = False) -> str:
        """As LaTeX: the columns that fit the page; or all, and every formula in full."""
        from symroof.present.formats.latex import latex_table

        return latex_table(self, wide=wide)

    def html(self, *, page: bool = False) -> str:
        """As an HTML fragment whose formulas are LaTeX between dollar signs, which notebooks typeset.

        With *page*, as part of a page: formulas are MathML, which browsers typeset by themselves.
        """
        from symroof.present.formats.html import mathml

        math = mathml if page else lambda formula: f"${escape(formula.latex())}$"

        def line(cells: list[str], tag: str = "td") -> str:
            right = "right;white-space:nowrap" if tag == "td" else "right"
            sides = (right if column.numeric else "left" for column in self.columns)
            styled = (f'<{tag} style="text-align:{side}">{cell}</{tag}>' for side, cell in zip(sides, cells, strict=True))
            return f"<tr>{''.join(styled)}</tr>"

        body, totals = ("\n".join(map(line, self.cells(rows, escape, math))) for rows in (self.rows, self.totals))
        head = line([escape(column.heading) for column in self.columns], "th")
        foot = f"\n<tfoot>\n{totals}\n</tfoot>" if totals else ""
        caption = f"<caption>{escape(self.title)}</caption>\n" if self.title else ""
        notes = "".join(["<ul>", *(f"<li>{escape(note)}</li>" for note in self.notes), "</ul>"] if self.notes else [])
        return f"<div><table>\n{caption}<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>{foot}\n</table>\n{notes}</div>"

    _repr_html_ = html

    def csv(self, context: Mapping[str, Any] | None = None) -> str:
        """As CSV, values unrounded; *context* is repeated in front of every row."""
        context = context or {}

        def plain(value: Any) -> Any:
            return str(value) if isinstance(value, Formula | Words | str) or value is None else number(value)

        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*context, *(column.key for column in self.columns)])
        for row in self.rows + self.totals:
            writer.writerow([*context.values(), *("" if value is None else plain(value) for value in row)])
        return out.getvalue().rstrip("\n")

    def records(self) -> list[dict[str, Any]]:
        """The rows as records for JSON, values unrounded."""

        def plain(column: Column, value: Any) -> Any:
            if isinstance(value, Formula | Words):
                return str(value)
            return number(value) if column.numeric and value is not None else value

        return [{column.key: plain(column, value) for column, value in zip(self.columns, row, strict=True)} for row in self.rows]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from symroof.present.report import Layout

        yield from self.text(Layout(width=options.max_width))


@dataclass(frozen=True)
class Derivation(Table):
    """A derivation line by line; LaTeX has it as an *align* environment."""

    align: str = ""

    def latex(self, *, wide: bool = False) -> str:
        """The lines one below the other (package amsmath), over several pages where they are many."""
        return f"{{\\allowdisplaybreaks\n{self.align}}}"
