"""How a regime map looks: its cells and borders in tables, in words, in JSON."""

from __future__ import annotations

from typing import Any

from sympy import Expr, oo

from symroof.algebra.plane.curves import Section
from symroof.present.crossover_views import LONG, plain
from symroof.present.formats.sections import Lines
from symroof.present.report import Report
from symroof.present.step_views import conventions_of
from symroof.present.tabular import Column, Formula, Table, Words, in_units, listed, number, words_of
from symroof.roof.costs import TOTAL
from symroof.serving.maps.borders import Border
from symroof.serving.maps.regime_map import RegimeCell, RegimeMap
from symroof.symbols import option_name


def names_of(found: RegimeMap | RegimeCell | Border) -> tuple[str, str]:
    """The names of both variables, as options have them."""
    return option_name(found.over[0].symbol), option_name(found.over[1].symbol)


def title_of(found: RegimeMap) -> str:
    """What the map is of."""
    x, y = names_of(found)
    what = "the step" if found.operator == TOTAL else found.operator
    asked = f"what binds {what}"
    if found.limit_expr is not None:
        asked = f"where {found.promise} {in_units(found.limit_expr, 's', 4)} is met"
    return f"{found.step.title} on {found.device.title}, {found.step.options.phase}: {asked}, over {x} and {y}"


def regime_map_report(found: RegimeMap) -> Report:
    """The cells, then the borders."""
    cells, borders = cell_table(found), border_table(found)
    x, y = (f"{each.symbol}: {each.meaning}" for each in found.over)
    shown = (Lines((sentence_of(found),), title_of(found)), cells, *([borders] if borders.rows else []), Lines((f"{x}; {y}",), note=True))
    return Report((*shown, conventions_of(found.step, found.step.statements)), record=lambda: record_of(found), data=lambda: cells)


def cell_table(found: RegimeMap) -> Table:
    """Cell by cell, from where to where its label applies, and a point inside it."""
    x, y = names_of(found)
    columns = (
        Column("label"),
        Column("low", title=f"{x} from"),
        Column("high", title="to"),
        Column("below", title=f"{y} from", fold=LONG),
        Column("above", title="to", fold=LONG),
        Column("sample", title="such as", rank=1),
    )
    rows = (
        (
            cell.label,
            plain(cell.low_expr),
            plain(cell.high_expr),
            _edge(cell.below_expr),
            _edge(cell.above_expr),
            ", ".join(map(plain, cell.sample_exprs)),
        )
        for cell in found
    )
    return Table("", columns, tuple(rows))


def _edge(edge: Expr | Section) -> Any:
    if not isinstance(edge, Section):
        return plain(edge)
    return f"branch {edge.place + 1} of {edge.curve} = 0" if edge.formula is None else Formula(edge.formula)


def border_table(found: RegimeMap) -> Table:
    """Border by border: between what, its formula, where it applies, what changes there, the first whole numbers beyond."""
    x, y = names_of(found)
    columns = (
        Column("between"),
        Column("border", fold=LONG),
        Column("over", title="where"),
        Column("first", title="first beyond"),
        Column("symbols", title="in symbols", fold=LONG, rank=2),
        Column("causes", title="by", rank=1),
    )
    rows = tuple(
        (
            " | ".join(border.labels),
            _with_digits(border),
            f"{y if border.is_vertical else x} {plain(border.low_expr)} to {plain(border.high_expr)}",
            "" if border.first_exprs is None else f"{x} {border.first_exprs[0]}, {y} {border.first_exprs[1]}",
            _in_symbols(border),
            ", ".join(border.causes),
        )
        for border in found.borders
    )
    return Table("borders, left or below first", columns, rows)


def equation_of(border: Border) -> Formula:
    """The border as an equation for the variable that it gives, or as that of the curve."""
    symbol = border.over[0 if border.is_vertical else 1].symbol
    return Formula(border.equation_expr, "0") if border.formula is None else Formula(border.formula, symbol)


def _with_digits(border: Border) -> Any:
    """The equation; of a vertical border the number in digits too."""
    equation, value = equation_of(border), border.edge_expr
    return Words((equation, f" = {plain(value)}")) if isinstance(value, Expr) and value.is_Rational and not value.is_Integer else equation


def _in_symbols(border: Border) -> Any:
    if border.crossover is None or border.crossover.formula is None:
        return ""
    condition = border.crossover.condition
    formula = Formula(border.crossover.formula)
    return formula if condition is None else words_of(f"{formula}, if {condition}")


def sentence_of(found: RegimeMap) -> str:
    """Every label with the first cell that has it.

    >>> import symroof
    >>> step = symroof.load_model("llama-3-8b").decode()
    >>> print(symroof.regime_map(step, hardware="h100-sxm").sentence)
    over batch and seq_len: memory in 4 cells, such as batch 2, seq_len 2; compute in 3 cells, such as batch 326, seq_len 2
    """
    x, y = names_of(found)
    said = []
    for label in found.labels:
        cells = [cell for cell in found if cell.label == label]
        first = cells[0].sample_exprs
        count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        said.append(f"{label} in {count}, such as {x} {plain(first[0])}, {y} {plain(first[1])}")
    return f"over {x} and {y}: {'; '.join(said)}"


def cell_sentence(cell: RegimeCell) -> str:
    """From where to where, and what applies there."""
    x, y = names_of(cell)
    until = "on" if cell.high_expr == oo else f"to {plain(cell.high_expr)}"
    top = "on" if cell.above_expr == oo else f"to {_edge(cell.above_expr)}"
    return f"{x} from {plain(cell.low_expr)} {until}, {y} from {_edge(cell.below_expr)} {top}: {cell.label}"


def border_sentence(border: Border) -> str:
    """Between what, where, and why."""
    return f"{' | '.join(border.labels)} at {equation_of(border)}, by {listed(border.causes)}"


def map_brief(found: RegimeMap) -> tuple[str, ...]:
    """What a repr says."""
    return f"over {' and '.join(names_of(found))}", f"{len(found)} cells", ", ".join(found.labels)


def record_of(found: RegimeMap) -> dict[str, Any]:
    """The record of ``symroof regimes --format json``."""
    x, y = names_of(found)
    return {
        "model": found.step.model,
        "techniques": list(found.step.techniques),
        "phase": found.step.options.phase,
        "hardware": found.device.name,
        "operator": found.operator,
        "over": [x, y],
        "ranges": {name: [_number(end) for end in span] for name, span in zip((x, y), found.range_exprs, strict=True)},
        "promise": None if found.limit_expr is None else {"name": found.promise, "seconds": number(found.limit_expr)},
        "cells": [_cell_record(cell) for cell in found],
        "borders": [_border_record(border) for border in found.borders],
        "units": {name: each.unit for name, each in zip((x, y), found.over, strict=True)},
    }


def _number(value: Expr) -> int | float | None:
    return None if value == oo else number(value)


def _cell_record(cell: RegimeCell) -> dict[str, Any]:
    sample = {name: number(at) for name, at in zip(names_of(cell), cell.sample_exprs, strict=True)}
    return {
        "label": cell.label,
        "low": _number(cell.low_expr),
        "high": _number(cell.high_expr),
        "below": _edge_record(cell.below_expr),
        "above": _edge_record(cell.above_expr),
        "sample": sample,
    }


def _edge_record(edge: Expr | Section) -> Any:
    if not isinstance(edge, Section):
        return _number(edge)
    return {"equation": str(edge.curve), "branch": edge.place, "formula": None if edge.formula is None else str(edge.formula)}


def _border_record(border: Border) -> dict[str, Any]:
    return {
        "labels": [*border.labels],
        "vertical": border.is_vertical,
        "formula": None if border.formula is None else str(border.formula),
        "equation": str(border.equation_expr),
        "low": _number(border.low_expr),
        "high": _number(border.high_expr),
        "first": None if border.first_exprs is None else [int(at) for at in border.first_exprs],
        "causes": [*border.causes],
    }


def register(report: Any, sentence: Any, brief: Any) -> None:
    """Register the looks of a map, its cells and its borders."""
    report.register(RegimeMap, regime_map_report)
    sentence.register(RegimeMap, sentence_of)
    sentence.register(RegimeCell, cell_sentence)
    sentence.register(Border, border_sentence)
    brief.register(RegimeMap, map_brief)
    brief.register(RegimeCell, lambda cell: ("", cell_sentence(cell)))
    brief.register(Border, lambda border: ("", border_sentence(border)))
