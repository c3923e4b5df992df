"""Tables as text of a given width: whole columns are left out in a stated order, long cells go on below, nothing is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from symroof.present.report import Layout
    from symroof.present.tabular import Column, Table

BREAK = re.compile(r"(?<=[^\s+:,;/_&|*.(-])(?:[+:,;_&|]|\*+|[/.](?=\D)|-(?=[^\s\d]))(?=\S)")
"""Where a word that is longer than its line may be continued on the next: after these."""

COMFORTABLE = 22
"""Characters of a line that words of a cell have before columns are left out to make room."""

GAP = 2
"""Blanks between columns."""

ADDRESS = "://"
"""What a word has that is an address."""

INDENT = 2
"""Blanks before the further lines of a row's name."""


ENDS = re.compile(r"(?<=[^\s+:,;/|*.(-])(?:[+:,;|]|/(?=\D))(?=\S)")
DOTS = re.compile(r"(?<=[^\s.])\.(?=\D)")
"""Those of them that end a setting, and those that end a block of a name: the next only where such a part is longer than its line."""


PATHS = re.compile(r"(?<=[^/:])/(?!/)|[#?&_-](?=.)")
"""What ends a part of an address that is longer than its line."""


def pieces(word: str, marks: re.Pattern[str] = BREAK) -> list[str]:
    """A word in pieces that a line may end with.

    >>> pieces("speculative:acceptance=0.8,length=4"), pieces("moe.shared_add"), pieces("0.9846")
    (['speculative:', 'acceptance=0.8,', 'length=4'], ['moe.', 'shared_', 'add'], ['0.9846'])
    """
    ends = [match.end() for match in marks.finditer(word)]
    return [word[low:high] for low, high in zip([0, *ends], [*ends, len(word)], strict=True)]


def folded(text: str, width: int) -> list[str]:
    """Lines of at most *width*, broken between words; within a word only where that is longer, at its marks.

    >>> folded("deepseek-v3 + quantize:weights=4,group=128 on NVIDIA H100", 24)
    ['deepseek-v3 + quantize:', 'weights=4,group=128 on', 'NVIDIA H100']
    >>> folded("data sheet, https://github.com/NVIDIA/nccl", 30), folded("https://github.com/NVIDIA/nccl", 24)
    (['data sheet,', 'https://github.com/NVIDIA/nccl'], ['https://github.com/', 'NVIDIA/nccl'])
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            gap = " " if line else ""
            if len(line) + len(gap) + len(word) <= width:
                line += gap + word
                continue
            if len(word) > width and len(pieces(word)) > 1:
                for piece in _parts(word, width, (PATHS,)) if ADDRESS in word else _parts(word, width):
                    if len(line) + len(gap) + len(piece) > width and line:
                        lines.append(line)
                        line, gap = "", ""
                    line, gap = line + gap + piece, ""
                continue
            if line:
                lines.append(line)
            line = word
        lines.append(line)
    return lines


def hanging(text: str, width: int) -> list[str]:
    """The same with its further lines indented, where their parts leave room for that.

    >>> hanging("quantize:weights=4,group=128 flash-attention", 20)
    ['quantize:weights=4,', '  group=128', '  flash-attention']
    """
    first, *further = folded(text, width)
    narrower = folded(text[len(first) :].lstrip(), width - INDENT) if further else []
    return [first, *(further if any(len(line) > width - INDENT for line in narrower) else (f"{' ' * INDENT}{line}" for line in narrower))]


def _parts(word: str, width: int, marks: tuple[re.Pattern[str], ...] = (ENDS, DOTS, BREAK)) -> list[str]:
    """A word in parts of at most *width*, as large as its marks allow.

    >>> _parts("draft.dense.q_down_proj", 16), _parts("draft.dense.q_down_proj", 8)
    (['draft.', 'dense.', 'q_down_proj'], ['draft.', 'dense.', 'q_', 'down_', 'proj'])
    """
    if len(word) <= width or not marks:
        return [word]
    return [part for piece in pieces(word, marks[0]) for part in _parts(piece, width, marks[1:])]


def longest(text: str) -> int:
    """Characters of the longest piece that no line may break."""
    return max((len(piece) for word in text.split() for piece in pieces(word, PATHS if ADDRESS in word else BREAK)), default=0)


def fit(table: Table, cells: Sequence[Sequence[str]], width: int | None) -> tuple[list[int], list[int]] | None:
    """Which columns are shown, and how wide each is; None where no choice of columns fits.

    Columns go in descending order of their rank, the rightmost of equal rank first; those of rank 0 stay.
    """
    kept = [*range(len(table.columns))]
    amounts = [sum(len(row[place]) for row in cells) for place in kept]
    heads = [_heading(column) for column in table.columns]
    most = [max(*map(len, heads[place].split("\n")), *(len(row[place]) for row in cells), 0) for place in kept]
    if width is None:
        return kept, most
    whole = [column.numeric or column.fixed for column in table.columns]
    least = [max(longest(heads[place]), *(len(row[place]) if whole[place] else longest(row[place]) for row in cells), 0) for place in kept]
    wanted = [low if whole[place] else max(low, min(most[place], COMFORTABLE)) for place, low in enumerate(least)]

    def room(widths: list[int]) -> int:
        return width - sum(widths[place] for place in kept) - GAP * (len(kept) - 1)

    def order_of_going(place: int) -> tuple[int, int]:
        return table.columns[place].rank, place

    while room(wanted) < 0 and (ranked := [place for place in kept if table.columns[place].rank]):
        kept.remove(max(ranked, key=order_of_going))
    if room(least) < 0:
        return None
    for place in sorted({*range(len(heads))} - {*kept}, key=order_of_going):  # a narrow one may fit where a wide one went
        if room(wanted) >= wanted[place] + GAP:
            kept = sorted([*kept, place])
    widths = least if room(wanted) < 0 else wanted
    for _ in range(room(widths)):
        if not (narrow := [place for place in kept if widths[place] < most[place]]):
            break
        widths[max(narrow, key=lambda place: amounts[place] / widths[place] ** 2)] += 1  # where it saves most lines
    return kept, [widths[place] for place in kept]


def _heading(column: Column) -> str:
    return column.heading.replace(" [", "\n[") if column.numeric else column.heading


def rendered(table: Table, layout: Layout) -> Iterator[Any]:
    """A table as lines and what rich draws: its title, its columns, what is not shown, its notes."""
    width = None if layout.wide else layout.width
    body, totals = (table.cells(rows, str, str, fold=not layout.wide) for rows in (table.rows, table.totals))
    if table.title:
        yield from (Text(line, style="bold") for line in folded(table.title, width or len(table.title)))
        yield Text("")
    fitted = fit(table, body + totals, width)
    if fitted is None:
        assert width is not None
        yield from _blocks(table, body + totals, width)
        hidden = []
    else:
        kept, widths = fitted
        yield _grid(table, body, totals, kept, widths)
        hidden = [column.title or column.key for place, column in enumerate(table.columns) if place not in kept]
    if hidden or (table.folds and not layout.wide) or (table.notes and not layout.quiet):
        yield Text("")
    if hidden:
        several = f"{len(hidden)} columns" if len(hidden) > 1 else "1 column"
        yield from _notes([f"{several} not shown: {', '.join(hidden)}; --wide shows all"], width, mark="")
    if table.folds and not layout.wide:
        yield from _notes(["long formulas are abbreviated; --wide shows them in full"], width, mark="")
    if table.notes and not layout.quiet:
        yield from _notes(table.notes, width)


def _notes(notes: Sequence[str], width: int | None, mark: str = "· ") -> Iterator[Text]:
    for note in notes:
        lines = folded(note, width - len(mark)) if width else note.split("\n")
        yield from (Text(f"{' ' * len(mark) if place else mark}{line}", style="dim") for place, line in enumerate(lines))


def _grid(table: Table, body: list[list[str]], totals: list[list[str]], kept: list[int], widths: list[int]) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, padding=(0, GAP - 1, 0, 0))
    columns = [table.columns[place] for place in kept]
    heads = [
        [line for part in _heading(column).split("\n") for line in folded(part, width)]
        for column, width in zip(columns, widths, strict=True)
    ]
    for column, width, head in zip(columns, widths, heads, strict=True):
        above = [""] * (max(map(len, heads)) - len(head))
        grid.add_column(Text("\n".join([*above, *head])), justify="right" if column.numeric else "left", no_wrap=True, width=width)

    def cells(row: list[str], style: str = "") -> list[Text]:
        folds = ((hanging if place == 0 else folded)(row[place], width) for place, width in zip(kept, widths, strict=True))
        return [Text("\n".join(lines), style=style) for lines in folds]

    for position, row in enumerate(body):
        grid.add_row(*cells(row), end_section=bool(totals) and position == len(body) - 1)
    for row in totals:
        grid.add_row(*cells(row, "bold"))
    return grid


def _blocks(table: Table, rows: list[list[str]], width: int) -> Iterator[Text]:
    """Rows as blocks of headings and values, where the columns side by side are wider than the terminal."""

    def labelled(column: Column, cell: str) -> str:
        number, _, prefix = cell.partition(" ")
        amount = f"{number} {prefix}{column.unit}".rstrip() if column.numeric and column.unit else cell
        return f"{column.title or column.key}: {amount}"

    for row in rows:
        yield from (Text(line, style="bold") for line in folded(row[0], width))
        for column, cell in zip(table.columns[1:], row[1:], strict=True):
            lines = folded(labelled(column, cell), width - 4) if cell not in ("", "-") else []
            yield from (Text(f"{' ' * (4 if place else 2)}{line}") for place, line in enumerate(lines))


def printed(sections: Sequence[Any], layout: Layout) -> str:
    """Sections as text, one below the other."""
    import io

    out = io.StringIO()
    console = Console(file=out, force_terminal=layout.colours, width=UNBOUNDED, highlight=False, markup=False, emoji=False)
    for position, section in enumerate(sections):
        console.print(*([""] if position else []), *section.text(layout), sep="\n", soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).rstrip()


UNBOUNDED = 10_000
"""Characters that rich may put on a line; what fits is decided here."""
