"""How load looks: batch and latency at a rate, percentiles of the model that has some, the curve over the rate."""

from __future__ import annotations

from typing import Any

from sympy import Expr

from symroof.errors import InputError
from symroof.present.crossover_views import LONG
from symroof.present.formats.sections import Lines, Section
from symroof.present.records import text_of
from symroof.present.report import Report
from symroof.present.serving.splits import of_step
from symroof.present.step_views import conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, Words, number
from symroof.serving.load import HERE, MEMORY, Load, LoadPiece
from symroof.serving.requests.sharing import Sharing

SHARES = ("0.5", "0.9", "0.99")


def load_report(load: Load) -> Report:
    """What a request sees, how far saturation is, and the laws in symbols."""
    step = load.step
    inputs = f"{load.prompt} tokens of prompt, {load.output} generated"
    spread = f" (variance {load.output_variance})" if load.variance_expr != 0 else ""
    by = f"memory holds batch {load.largest_batch}" if load.saturated_by == MEMORY else "no batch completes more tokens a second"
    lines: list[str | Words] = [
        f"at {load.rate:.4g} the batch is {load.batch:.4g}: {load.token_time:.4g} a token, {load.latency:.4g} from first to last token",
        f"saturation at {load.saturation:.4g}, {by}; this is {float(load.utilization_expr):.1%} of it",
    ]
    if load.prefill == HERE:
        lines.append(f"a prompt is read in {load.prompt_time:.4g}, while no sequence of the batch gets a token")
    law = Table(
        "where the step is a line",
        (Column("law"), Column("formula", fold=LONG)),
        tuple((name, Formula(formula)) for name, formula in load.formulas.items()),
    )
    title = f"{step.title} on {load.device.title}: load of {inputs}{spread}"
    sections: list[Section] = [Lines(tuple(lines), title), *_percentiles(load), law, letters_used(load.formulas.values())]
    return Report((*sections, conventions_of(step, load.statements)), record=lambda: load_record(load), data=lambda: curve_table(load))


def _percentiles(load: Load) -> list[Section]:
    try:
        return [sharing_table(load.sharing)]
    except InputError as error:
        return [Lines((str(error),), note=True)]


def sharing_table(shared: Sharing) -> Table:
    """Percentiles of the batch and of the time of a token."""
    columns = (
        Column("share", title="share of tokens"),
        Column("batch", title="batch at most"),
        Column("time", title="time of a token at most"),
    )
    rows = tuple((f"{float(share):.0%}", shared.batch_percentile(share), f"{shared.token_time_percentile(share):.4g}") for share in SHARES)
    notes = (
        f"{shared.mean:.4g} requests in the mean, {shared.waiting:.3g} of them waiting; none {float(shared.idle_expr):.2%} of the time",
    )
    return Table(f"percentiles of {shared.model}", columns, rows, notes)


def curve_table(load: Load) -> Table:
    """The curve over the rate."""
    columns = (
        *(Column(name, "1/s", numeric=True) for name in ("low", "high")),
        *(Column(name, numeric=True) for name in ("least_batch", "most_batch")),
        Column("latency", "s", fold=LONG),
        Column("compute_bound"),
    )
    return Table("", columns, tuple(_row(piece) for piece in load.curve))


def _row(piece: LoadPiece) -> tuple[object, ...]:
    latency = None if piece.latency_expr is None else Formula(piece.latency_expr)
    ends = (piece.low_expr, piece.high_expr, piece.least_batch_expr, piece.most_batch_expr)
    return *ends, latency, ", ".join(sorted(piece.label)) or "-"


def piece_record(piece: LoadPiece) -> dict[str, Any]:
    """The record of a piece of the curve."""
    return {
        "low": number(piece.low_expr),
        "high": number(piece.high_expr),
        "batch": text_of(piece.batch_expr),
        "latency": text_of(piece.latency_expr),
        "least_batch": number(piece.least_batch_expr),
        "most_batch": _finite(piece.most_batch_expr),
        "compute_bound": sorted(piece.label),
    }


def _finite(value: Expr) -> Any:
    return number(value) if value.is_finite else None


def sharing_record(shared: Sharing) -> dict[str, Any]:
    """The record of the random batch."""
    return {
        "model": shared.model,
        "mean": float(shared.mean_expr),
        "waiting": float(shared.waiting_expr),
        "idle": float(shared.idle_expr),
        "percentiles": [
            {
                "share": float(share),
                "batch": shared.batch_percentile(share),
                "token_time": float(shared.token_time_percentile(share).magnitude),
            }
            for share in SHARES
        ],
    }


def load_record(load: Load) -> dict[str, Any]:
    """The record of a load."""
    try:
        shared: dict[str, Any] | None = sharing_record(load.sharing)
    except InputError:
        shared = None
    return {
        **of_step(load.step, load.device),
        "rate": number(load.rate_expr),
        "prompt": load.prompt,
        "output": number(load.output_expr),
        "output_variance": number(load.variance_expr),
        "prefill": load.prefill,
        "prompt_time": number(load.prompt_time_expr),
        "context": number(load.context_expr),
        "batch": number(load.batch_expr),
        "token_time": number(load.token_time_expr),
        "latency": number(load.latency_expr),
        "saturation": number(load.saturation_expr),
        "saturated_by": load.saturated_by,
        "largest_batch": load.largest_batch,
        "sharing": shared,
        "curve": [piece_record(piece) for piece in load.curve],
        "formulas": {name: str(formula) for name, formula in load.formulas.items()},
        "units": {**dict.fromkeys(("prompt_time", "token_time", "latency"), "s"), **dict.fromkeys(("rate", "saturation"), "1/s")},
        "statements": list(load.statements),
    }


def _said(piece: LoadPiece) -> str:
    return f"batch {float(piece.least_batch_expr):.4g} to {float(piece.most_batch_expr):.4g}"


def register(report: Any, brief: Any) -> None:
    """Say how these answers look."""
    report.register(Load, load_report)
    report.register(Sharing, lambda shared: Report((sharing_table(shared),), record=lambda: sharing_record(shared)))
    report.register(LoadPiece, lambda piece: Report((Lines((_said(piece),)),), record=lambda: piece_record(piece)))
    brief.register(Load, lambda load: (f"of {load.step.title}", str(load.rate), f"batch {load.batch:.4g}", str(load.latency)))
    brief.register(Sharing, lambda shared: ("", shared.model, f"{shared.mean:.4g} requests"))
    brief.register(LoadPiece, lambda piece: ("of arrival_rate", f"{piece.low:.4g} to {piece.high:.4g}", _said(piece)))
