"""A table as a value: columns with units, rows of cells, notes; written as text, Markdown, LaTeX, HTML or CSV.

What each of these would take for markup is escaped; here is the frame of a page, too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from math import floor, log10
from typing import Any

from sympy import Add, Basic, Mul

from symroof.notation import latex

PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"/><title>{title}</title>
<style>body{{font:15px/1.4 system-ui,sans-serif;margin:2em;color:#222}} table{{border-collapse:collapse;margin:1em 0}}
caption{{text-align:left;font-weight:600;padding:.4em 0}} th{{border-bottom:1px solid #888}} td,th{{padding:.25em .8em}}
tfoot td{{border-top:1px solid #888;font-weight:600}} ul{{color:#555;font-size:.9em}}</style></head>
<body>
{body}
</body>
</html>"""

_LATEX = str.maketrans(
    {"_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
    | {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "µ": r"$\mu$", "<": "$<$", ">": "$>$", "|": "$|$", "`": r"\textasciigrave{}"}
)


def markdown_text(value: str) -> str:
    r"""Text with what Markdown or HTML would take for markup escaped.

    >>> print(markdown_text("2*M/(a*e) | <i>"))
    2\*M/(a\*e) \| &lt;i>
    """
    return re.sub(r"([*|`\\])", r"\\\1", value).replace("<", "&lt;")


def latex_text(value: str) -> str:
    """Text with LaTeX's own characters escaped."""
    return value.translate(_LATEX)


def aligned_lines(lines: Iterable[str]) -> str:
    """Lines as a LaTeX align environment (package amsmath)."""
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


@dataclass(frozen=True)
class Formula:
    """A cell that holds an expression and is shown as one."""

    expression: Basic

    def latex(self) -> str:
        """The expression as LaTeX, without dollar signs."""
        return latex(compact(self.expression))

    def __str__(self) -> str:
        return str(compact(self.expression))


@dataclass(frozen=True)
class Words:
    """A cell of text with formulas in it, each shown as one.

    >>> from symroof.symbols import n_p
    >>> cell = Words((Formula(n_p > 1), " (memory alone)"))
    >>> print(cell, Table("", (Column("pays"),), ((cell,),)).markdown().splitlines()[-1])
    n_p > 1 (memory alone) | $n_{p} > 1$ (memory alone) |
    """

    parts: tuple[object, ...]

    def __str__(self) -> str:
        return "".join(map(str, self.parts))


def compact(expression: Basic) -> Basic:
    """A sum with its common number in front: ``(b + d)/8`` rather than ``b/8 + d/8``.

    >>> from symroof.symbols import b, d
    >>> compact(b / 8 + d / 8)
    (b + d)/8
    """
    if not isinstance(expression, Add):
        return expression
    content, primitive = expression.primitive()
    return primitive if content == 1 else Mul(content, primitive, evaluate=False)


@dataclass(frozen=True)
class Column:
    """A column: its key in data files, its unit, whether it holds numbers (with SI prefixes or plain), whether it may wrap."""

    key: str
    unit: str = ""
    title: str = ""
    numeric: bool = False
    prefixed: bool = True
    fixed: bool = False

    @property
    def heading(self) -> str:
        """Title and unit, as in "time [s]"."""
        return f"{self.title or self.key} [{self.unit}]" if self.unit else self.title or self.key


def si(value: Any, digits: int = 4) -> str:
    """A number with an SI prefix and *digits* significant digits.

    >>> si(68719476736), si(0.0070078), si(1024), si(0), si(1.25)
    ('68.72 G', '7.008 m', '1.024 k', '0', '1.25')
    """
    number = float(value)
    rounded = float(f"{number:.{digits - 1}e}")
    power = min(floor(log10(abs(rounded)) / 3), 5) if rounded else 0
    if power < -4:
        return f"{number:.{digits}g}"
    return f"{number / 1000.0**power:.{digits}g} {'pnµm kMGTP'[power + 4]}".rstrip()


def number(value: Any) -> int | float:
    """A number as data files hold it: whole numbers whole, others as the nearest float."""
    if isinstance(value, int | float):
        return value
    return int(value) if value.is_Integer else float(value)


@dataclass(frozen=True)
class Table:
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

    def _cells(self, rows: tuple[tuple[Any, ...], ...], text: Callable[[str], str], math: Callable[[Formula], str]) -> list[list[str]]:
        def cell(column: Column, value: Any) -> str:
            if isinstance(value, Formula | Words):
                parts = value.parts if isinstance(value, Words) else (value,)
                return "".join(math(part) if isinstance(part, Formula) else text(str(part)) for part in parts)
            if column.numeric and value is not None and not isinstance(value, str):
                return text(si(value) if column.prefixed else f"{float(value):.4g}")
            return text("" if value is None else str(value))

        return [[cell(column, value) for column, value in zip(self.columns, row, strict=True)] for row in rows]

    def markdown(self) -> str:
        """As a Markdown table."""

        def line(cells: list[str]) -> str:
            return f"| {' | '.join(cells)} |"

        cells = self._cells(self.rows + self.totals, markdown_text, lambda formula: f"${formula.latex()}$")
        rule = ["---:" if column.numeric else "---" for column in self.columns]
        parts = [f"**{markdown_text(self.title)}**", "", line([column.heading for column in self.columns]), line(rule), *map(line, cells)]
        return "\n".join([*parts, "", *(f"- {markdown_text(note)}" for note in self.notes)]).rstrip()

    def latex(self) -> str:
        """As a LaTeX table (package booktabs)."""
        cells = self._cells(self.rows + self.totals, latex_text, lambda formula: f"${formula.latex()}$")
        spec = "".join("r" if column.numeric else "l" for column in self.columns)
        body = [" & ".join(row) + r" \\" for row in cells]
        if self.totals:
            body.insert(len(self.rows), r"\midrule")
        lines = [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{latex_text(self.title)}}}",
            rf"\begin{{tabular}}{{{spec}}}",
            r"\toprule",
            " & ".join(latex_text(column.heading) for column in self.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *([r"\par\footnotesize " + " ".join(latex_text(note) + "." for note in self.notes)] if self.notes else []),
            r"\end{table}",
        ]
        return "\n".join(lines)

    def html(self, *, page: bool = False) -> str:
        """As an HTML fragment whose formulas are LaTeX between dollar signs, which notebooks typeset.

        With *page*, as part of a page: formulas are MathML, which browsers typeset by themselves.
        """
        math = mathml if page else lambda formula: f"${escape(formula.latex())}$"

        def line(cells: list[str], tag: str = "td") -> str:
            aligned = (
                f'<{tag} style="text-align:{"right" if column.numeric else "left"}">{cell}</{tag}>'
                for column, cell in zip(self.columns, cells, strict=True)
            )
            return f"<tr>{''.join(aligned)}</tr>"

        def rendered(rows: tuple[tuple[Any, ...], ...]) -> str:
            return "\n".join(map(line, self._cells(rows, escape, math)))

        foot = f"\n<tfoot>\n{rendered(self.totals)}\n</tfoot>" if self.totals else ""
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f"<div><table>\n<caption>{escape(self.title)}</caption>\n"
            f"<thead>{line([escape(column.heading) for column in self.columns], 'th')}</thead>\n"
            f"<tbody>\n{rendered(self.rows)}\n</tbody>{foot}\n</table>\n" + (f"<ul>{notes}</ul>" if notes else "") + "</div>"
        )

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

    def __rich__(self):
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=self.title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, title_style="bold", collapse_padding=True
        )
        body, totals = (self._cells(rows, str, str) for rows in (self.rows, self.totals))
        for place, column in enumerate(self.columns):
            fixed = column.numeric or column.fixed or place == 0  # names and numbers are never broken or cut
            heading = column.heading.replace(" [", "\n[") if column.numeric else column.heading
            longest = max((len(row[place]) for row in body + totals), default=0)
            width = longest if fixed else min(longest, 14)
            justify = "right" if column.numeric else "left"
            table.add_column(heading, justify=justify, overflow="fold", no_wrap=fixed, min_width=width)
        for position, row in enumerate(body):
            table.add_row(*map(Text, row), end_section=bool(totals) and position == len(body) - 1)
        for row in totals:
            table.add_row(*(Text(cell, style="bold") for cell in row))
        return Group(table, *(Text(f"· {note}", style="dim") for note in self.notes))


def mathml(formula: Formula) -> str:
    """A formula as MathML."""
    from sympy.printing.mathml import mathml as printed

    body = printed(compact(formula.expression), printer="presentation")
    body = body.replace("<mi>eps</mi>", "<mi>ε</mi>").replace("&InvisibleTimes;", "\u2062").replace("&ApplyFunction;", "\u2061")
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" displaystyle="true">{body}</math>'
