"""Tables as LaTeX that compiles in an article: words in text mode, long tables over several pages, wide cells folded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from symroof.present.formats.breaking import em, loosened
from symroof.present.formats.terminal import fit, folded, pieces
from symroof.present.tabular import Formula, folds_in, kind_of, latex_text

if TYPE_CHECKING:
    from symroof.present.tabular import Column, Table

PACKAGES = r"% needs \usepackage{amsmath,array,booktabs,graphicx,longtable}"
PAGE = 73
"""Characters of the small print that the width of an article's page has."""

EM = 0.55
"""Width of such a character in em."""

TEXT_WIDTH = 34.5
"""Width of an article's text in em."""

ONE_PAGE = 40
"""Lines of a table that does not go on over the next page."""

LONGEST = 4
"""Lines of a formula in a cell; one that takes more is written below the table."""


def latex_table(table: Table, *, wide: bool = False) -> str:
    """A table with the columns that fit the page, or all; their cells folded, formulas too long for a cell below it."""
    rows = table.rows + table.totals
    plain = table.cells(rows, str, str, fold=True)
    every = [*range(len(table.columns))]
    kept, widths = fit(table, plain, None if wide else PAGE) or (every, [PAGE // len(every)] * len(every))
    most = PAGE // 2 if wide else PAGE
    widths = [width if table.columns[place].numeric else min(width, most) for place, width in zip(kept, widths, strict=True)]
    below: list[str] = []
    columns = [_cells(table, place, width, below, wide=wide) for place, width in zip(kept, widths, strict=True)]
    spec = "".join(
        "r" if table.columns[place].numeric else rf">{{\raggedright\arraybackslash}}p{{{width * EM:.3g}em}}"
        for place, width in zip(kept, widths, strict=True)
    )
    heads = " & ".join(_head(table.columns[place], width) for place, width in zip(kept, widths, strict=True))
    body = [" & ".join(row) + r" \\" for row in zip(*columns, strict=True)]
    if table.totals:
        body.insert(len(table.rows), r"\midrule")
    lines_of = (max(len(folded(row[place], width)) for place, width in zip(kept, widths, strict=True)) for row in plain)
    long = sum(lines_of) > ONE_PAGE
    scaled = wide and not long and sum(widths) + len(widths) > PAGE
    kind = "longtable" if long else "tabular"
    title = rf"\caption{{{breakable(table.title)}}}" if table.title else ""
    hidden = [column.title or column.key for place, column in enumerate(table.columns) if place not in kept]
    notes = [f"not shown: {', '.join(hidden)}"] if hidden else []
    lines = [
        PACKAGES,
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}" if long else r"\begin{table}[htbp]\footnotesize\setlength{\tabcolsep}{3pt}",
        "" if long else title,
        r"\resizebox{\textwidth}{!}{%" if scaled else "",
        rf"\begin{{{kind}}}{{@{{}}{spec}@{{}}}}",
        title + r"\\" if long and title else "",
        r"\toprule",
        heads + r" \\",
        r"\midrule",
        r"\endhead" if long else "",
        *body,
        r"\bottomrule",
        rf"\end{{{kind}}}{'}' * scaled}",
        r"\raggedright",
        *(rf"\par {breakable(note)}." for note in (*table.notes, *notes)),
        r"\par\endgroup" if long else r"\end{table}",
        *below,
    ]
    return "\n".join(line for line in lines if line)


def _cells(table: Table, place: int, width: int, below: list[str], *, wide: bool) -> list[str]:
    """The cells of one column; what is too long for one goes *below*."""
    column, rows = table.columns[place], table.rows + table.totals
    alone = replace(table, columns=(column,), rows=tuple((row[place],) for row in rows), totals=())
    room = width * EM

    def cell(row: tuple[object, ...], value: object) -> str:
        if isinstance(value, Formula) and (em(value.latex()) > LONGEST * room or (wide and column.numeric and folds_in(column, value))):
            name = breakable(f"{row[0]}, {column.title or column.key}: ")
            below.append(rf"{{\footnotesize\raggedright\noindent {name}{inline(value, TEXT_WIDTH / 0.85)}\par}}")
            return latex_text(kind_of(value.expression))
        one = replace(alone, rows=((value,),))
        return one.cells(one.rows, breakable, lambda formula: inline(formula, room), fold=not wide)[0][0]

    return [cell(row, row[place]) for row in rows]


def inline(formula: Formula, width: float = TEXT_WIDTH) -> str:
    """A formula in a text of a *width* in em, which may go on on the next line."""
    return f"${loosened(formula.latex(), width)}$"


def breakable(text: str) -> str:
    """Words that may be continued on the next line where a terminal would continue them."""
    return r"\allowbreak{}".join(map(latex_text, pieces(text)))


def _head(column: Column, wide: int) -> str:
    """A heading, folded to its column, its unit on a line of its own."""
    side = "r" if column.numeric else "l"
    parts = column.heading.replace(" [", "\n[").split("\n")
    lines = r"\\".join(latex_text(line) for part in parts for line in folded(part, wide))
    return rf"\multicolumn{{1}}{{{side}}}{{\shortstack[{side}]{{{lines}}}}}"
