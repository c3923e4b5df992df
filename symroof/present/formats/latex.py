"""Tables as LaTeX that compiles in an article: words in text mode, long tables over several pages, wide cells folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from symroof.present.formats.terminal import fit, folded, pieces
from symroof.present.tabular import latex_text

if TYPE_CHECKING:
    from symroof.present.tabular import Column, Table

PACKAGES = r"% needs \usepackage{amsmath,array,booktabs,longtable}"
PAGE = 88
"""Characters of the small print that a page's width holds."""

EM = 0.55
"""Width of such a character in em."""

ONE_PAGE = 40
"""Lines of a table that does not go on over the next page."""


def latex_table(table: Table, width: int | None = None) -> str:
    """A table; of a *width* in characters with the columns that fit, their cells folded."""
    plain = table.cells(table.rows + table.totals, str, str, fold=width is not None)
    kept, widths = fit(table, plain, width) or ([*range(len(table.columns))], [PAGE // len(table.columns)] * len(table.columns))
    cells = table.cells(table.rows + table.totals, breakable, lambda formula: f"${formula.latex()}$", fold=width is not None)
    spec = "".join(
        "r" if table.columns[place].numeric else rf">{{\raggedright\arraybackslash}}p{{{wide * EM:.3g}em}}" if width is not None else "l"
        for place, wide in zip(kept, widths, strict=True)
    )
    heads = " & ".join(_head(table.columns[place], wide) for place, wide in zip(kept, widths, strict=True))
    body = [" & ".join(row[place] for place in kept) + r" \\" for row in cells]
    if table.totals:
        body.insert(len(table.rows), r"\midrule")
    lines_of = (max(len(folded(row[place], wide)) for place, wide in zip(kept, widths, strict=True)) for row in plain)
    long = sum(lines_of) > ONE_PAGE
    kind = "longtable" if long else "tabular"
    title = rf"\caption{{{latex_text(table.title)}}}" if table.title else ""
    hidden = [column.title or column.key for place, column in enumerate(table.columns) if place not in kept]
    notes = [f"not shown: {', '.join(hidden)}"] if hidden else []
    lines = [
        PACKAGES,
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}" if long else r"\begin{table}[htbp]\footnotesize\setlength{\tabcolsep}{3pt}",
        "" if long else title,
        rf"\begin{{{kind}}}{{@{{}}{spec}@{{}}}}",
        title + r"\\" if long and title else "",
        r"\toprule",
        heads + r" \\",
        r"\midrule",
        r"\endhead" if long else "",
        *body,
        r"\bottomrule",
        rf"\end{{{kind}}}",
        *(rf"\par {latex_text(note)}." for note in (*table.notes, *notes)),
        r"\par\endgroup" if long else r"\end{table}",
    ]
    return "\n".join(line for line in lines if line)


def breakable(text: str) -> str:
    """Words that may be continued on the next line where a terminal would continue them."""
    return r"\allowbreak{}".join(map(latex_text, pieces(text)))


def _head(column: Column, wide: int) -> str:
    """A heading, folded to its column, its unit on a line of its own."""
    side = "r" if column.numeric else "l"
    parts = column.heading.replace(" [", "\n[").split("\n")
    lines = r"\\".join(latex_text(line) for part in parts for line in folded(part, wide))
    return rf"\multicolumn{{1}}{{{side}}}{{\shortstack[{side}]{{{lines}}}}}"
