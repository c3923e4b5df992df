"""How a step looks as a line: its three terms, what each operator adds to them, and the pieces over one variable."""

from __future__ import annotations

from typing import Any

from sympy import Add, Expr

from symroof import symbols
from symroof.present.crossover_views import LONG, plain
from symroof.present.formats.sections import Lines, Section
from symroof.present.records import text_of
from symroof.present.report import Report
from symroof.present.serving.splits import of_step
from symroof.present.step_views import conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, Words, number
from symroof.serving.step_line import LinePart, LinePiece, LinePieces, StepLine, collected
from symroof.symbols import option_name

TERMS = (symbols.tau_w, symbols.tau_b, symbols.tau_t)


def line_report(line: StepLine) -> Report:
    """The three terms, as numbers and in symbols, and who adds what to them."""
    step = line.step
    where = f"batch {line.batch}, context {line.context}"
    shape = symbols.tau_w + symbols.b * (symbols.tau_b + symbols.tau_t * symbols.t)
    words = Words((f"{line.kind} at {where}: ", Formula(shape + line.rest_expr, "time")))
    columns = (
        *(Column("term"), Column("meaning", rank=2), Column("time", "s", numeric=True)),
        Column("formula", title="in symbols", fold=LONG, rank=1),
    )
    rows = tuple(
        (Formula(symbol), symbols.VOCABULARY[symbol].meaning, value, Formula(line.formulas[symbol]) if symbol in line.formulas else None)
        for symbol, value in zip(TERMS, line.taus_exprs, strict=False)
    )
    resources = sorted({part.resource for part in line.parts})
    shares = Table(
        "what adds to them, by what binds",
        (
            Column("resource"),
            *(Column(str(symbol), "s", numeric=True) for symbol in TERMS),
            Column("operators", numeric=True, prefixed=False),
        ),
        tuple((name, *_sums(line, name), len({*_names(line, name)})) for name in resources),
    )
    title = f"{step.title} on {line.device.title}, decode: the step as a line, {line.time} here"
    sections: list[Section] = [Lines((words,), title), Table("", columns, rows), shares]
    if line.formulas:
        sections.append(letters_used(line.formulas.values()))
    return Report((*sections, conventions_of(step, line.statements)), record=lambda: line_record(line), data=lambda: parts_table(line))


def _names(line: StepLine, resource: str) -> list[str]:
    return [part.operator for part in line.parts if part.resource == resource]


def _sums(line: StepLine, resource: str) -> tuple[Expr, ...]:
    return collected(Add(*(part.seconds_expr for part in line.parts if part.resource == resource)))[:3]


def parts_table(line: StepLine) -> Table:
    """What every operator adds."""
    columns = (Column("operator"), Column("resource"), *(Column(name, "s", numeric=True) for name in ("weights", "sequence", "token")))
    return Table("", columns, tuple((part.operator, part.resource, *part.taus_exprs[:3]) for part in line.parts))


def line_record(line: StepLine) -> dict[str, Any]:
    """The record of a step as a line."""
    weights, sequence, token, rest = line.taus_exprs
    return {
        **of_step(line.step, line.device),
        "batch": line.batch,
        "context": line.context,
        "kind": line.kind,
        "weight_time": number(weights),
        "sequence_time": number(sequence),
        "context_token_time": number(token),
        "rest": text_of(rest) if rest != 0 else None,
        "time": number(line.time_at_expr(line.batch, line.context)),
        "formulas": {str(symbol): str(formula) for symbol, formula in line.formulas.items()},
        "parts": [part_record(part) for part in line.parts],
        "units": dict.fromkeys(("weight_time", "sequence_time", "context_token_time", "time"), "s"),
        "statements": list(line.statements),
    }


def part_record(part: LinePart) -> dict[str, Any]:
    """The record of what an operator adds."""
    names = ("weight_time", "sequence_time", "context_token_time")
    times = {name: number(value) for name, value in zip(names, part.taus_exprs, strict=False)}
    return {"operator": part.operator, "resource": part.resource, **times, "formula": text_of(part.formula)}


def piece_record(piece: LinePiece) -> dict[str, Any]:
    """The record of a piece."""
    return {
        "over": option_name(piece.over.symbol),
        "low": number(piece.low_expr),
        "high": number(piece.high_expr) if piece.high_expr.is_finite else None,
        "kind": piece.kind,
        "intercept": number(piece.intercept_expr),
        "slope": number(piece.slope_expr),
        "time": str(piece.time_expr),
        "compute_bound": sorted(piece.label),
    }


def pieces_report(pieces: LinePieces) -> Report:
    """The pieces in order."""
    name = option_name(pieces.over.symbol)
    columns = (
        *(Column("low", title=f"{name} from"), Column("high", title="to"), Column("kind")),
        *(Column("intercept", "s", numeric=True), Column("slope", "s", f"per {name}", numeric=True)),
        Column("compute_bound", title="compute-bound", rank=1),
    )
    rows = tuple(
        (plain(one.low_expr), plain(one.high_expr), one.kind, one.intercept_expr, one.slope_expr, ", ".join(sorted(one.label)) or "-")
        for one in pieces
    )
    title = f"{pieces.step.title} on {pieces.device.title}, decode: the step over {name}"
    table = Table("", columns, rows)
    words = "; ".join(f"from {name} {plain(piece.low_expr)} on a {_said(piece)}" for piece in pieces)
    sections = (Lines((words,), title), table, conventions_of(pieces.step, pieces.step.statements))
    return Report(sections, record=lambda: [piece_record(one) for one in pieces], data=lambda: table)


def _said(piece: LinePiece) -> str:
    return f"{piece.kind}: {piece.intercept} and {piece.slope} for each"


def register(report: Any, brief: Any) -> None:
    """Say how these answers look."""
    report.register(StepLine, line_report)
    report.register(LinePieces, pieces_report)
    report.register(LinePart, lambda part: Report((Lines((f"{part.operator}, {part.resource}",)),), record=lambda: part_record(part)))
    report.register(LinePiece, lambda piece: Report((Lines((_said(piece),)),), record=lambda: piece_record(piece)))
    brief.register(StepLine, lambda line: (f"of {line.step.title}", line.kind, *map(str, _times(line))))
    brief.register(LinePart, lambda part: (part.operator, part.resource, *map(str, _times(part))))
    brief.register(LinePiece, lambda piece: (f"of {piece.over.name}", f"{piece.low} to {piece.high}", _said(piece)))
    brief.register(LinePieces, lambda made: (f"over {made.over.name}", f"{len(made)} pieces"))


def _times(line: StepLine | LinePart) -> tuple[Any, ...]:
    return line.weight_time, line.sequence_time, line.context_token_time
