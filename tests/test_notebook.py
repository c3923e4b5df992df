"""A notebook in which nothing but symroof is imported: what each cell shows."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sympy import Basic

import symroof

TOUR = Path(__file__).parent / "notebooks" / "tour.py"
CELLS = re.split(r"^# %%\n", TOUR.read_text(), flags=re.MULTILINE)[1:]
LONGEST = 400
FORMS = {"html": "_repr_html_", "markdown": "_repr_markdown_", "latex": "_repr_latex_", "png": "_repr_png_"}


@dataclass(frozen=True)
class Output:
    """What a cell ends with, its rich forms by kind, and its text form."""

    value: Any
    rich: dict[str, Any]
    text: str


def shown(value: Any) -> Output:
    """The forms in which a notebook takes a value: those that the object has and that are not None."""
    makers = {kind: getattr(value, method, None) for kind, method in FORMS.items()}
    rich = {kind: made for kind, maker in makers.items() if maker is not None and (made := maker()) is not None}
    if hasattr(value, "savefig"):  # a notebook draws figures of matplotlib itself
        rich["png"] = drawn(value)
    return Output(value, rich, repr(value))


def drawn(figure: Any) -> bytes:
    """A figure as the notebook's picture."""
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=50)
    return picture.getvalue()


@functools.cache
def outputs() -> tuple[Output | None, ...]:
    """What the cells show, run in order in one namespace; None for a cell that does not end in an expression."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    made: list[Output | None] = []
    for number, cell in enumerate(CELLS):
        body = ast.parse(cell, filename=f"cell {number}").body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), namespace)
        made.append(last and shown(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), namespace)))
    return tuple(made)


@pytest.mark.parametrize("place", range(25))
def test_every_cell_shows_something_short_or_typeset(place: int) -> None:
    output = outputs()[place]
    assert output is not None, f"does not end in an expression:\n{CELLS[place]}"
    assert output.value is not None
    assert 0 < len(output.text) < LONGEST
    assert " at 0x" not in output.text
    for kind, made in output.rich.items():
        assert made, kind
        assert isinstance(made, bytes if kind == "png" else str), kind
    html = output.rich.get("html", "")
    assert not re.search(r"(<|&lt;)[A-Z]| at 0x", html)
    assert "**" not in re.sub(r"</?\w+[^>]*>", "", html), "a formula as code"


@pytest.mark.parametrize("place", range(25))
def test_what_has_letters_is_typeset(place: int) -> None:
    output = outputs()[place]
    assert output is not None
    if letters(output.value):
        typeset = output.rich.get("html", "") or output.rich.get("latex", "")
        assert "$" in typeset, output.text
        assert "*" not in re.sub(r"\^\{?\*", "", typeset), output.text


def letters(value: Any) -> bool:
    """Whether it is a formula, or a whole answer whose fields hold one."""
    if isinstance(value, symroof.Quantity):
        return not value.is_number
    return (
        bool(value.free_symbols)
        if isinstance(value, Basic)
        else isinstance(value, symroof.ContextLimit | symroof.Certificate | symroof.Crossover)
    )


def test_a_tour_of_25_cells_with_nothing_imported_but_symroof() -> None:
    tree = ast.parse(TOUR.read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imported] == ["import symroof"]
    assert len(CELLS) == len(outputs()) == 25
    assert sum("$" in (output.rich.get("latex") or "") for output in outputs() if output) >= 6
    assert sum("<table>" in (output.rich.get("html") or "") for output in outputs() if output) >= 6
    assert outputs()[-1].rich["png"].startswith(b"\x89PNG")  # pyright: ignore[reportOptionalMemberAccess]


def test_numbers_of_a_table_stay_on_one_line_and_elasticities_are_numbers() -> None:
    on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=256).on("a100-sxm-80gb")
    assert '<td style="text-align:right;white-space:nowrap">6.553 m</td>' in on.table()._repr_html_()
    elasticities = on.sensitivity()
    assert "$" not in (elasticities._repr_html_() or "$")
    assert r"\frac" in elasticities.table().latex()
