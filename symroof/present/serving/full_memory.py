"""How a full memory looks: the batch and the step by their laws, what the step adds to them, who gains by shrinking what."""

from __future__ import annotations

from typing import Any

from symroof.present.crossover_views import LONG
from symroof.present.formats.sections import Lines
from symroof.present.report import Report
from symroof.present.serving.splits import of_step
from symroof.present.step_views import conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, number
from symroof.serving.requests.full_memory import AtFullMemory

BREAKS = {
    "unread": "memory that the step does not read",
    "activations": "traffic of activations and writes of the cache",
    "other": "other resources where they bind, and overheads",
}


def full_memory_report(full: AtFullMemory) -> Report:
    """The laws and the step."""
    step = full.analysis.step
    lines = (
        f"batch {full.batch:.6g} fills {full.capacity:.4g}; without activations {full.law_batch:.6g}, weights {full.weights:.4g} "
        f"and {full.sequence:.4g} a sequence",
        f"the step takes {full.step_time:.4g}; reading all of the memory once, {full.period:.4g}",
        f"halved alone, the {full.gains_more} {'gain' if full.gains_more == 'weights' else 'gains'} more",
    )
    rows = tuple((BREAKS[name], value) for name, value in full.breaks_exprs.items())
    difference = full.step_time_expr - full.period_expr
    breaks = Table("from the period to the step", (Column("what"), Column("time", "s", numeric=True)), rows, totals=(("step", difference),))
    laws = Table("", (Column("law"), Column("formula", fold=LONG)), tuple((name, Formula(law)) for name, law in full.formulas.items()))
    device = full.largest.device
    where = device.title if device is not None else "a device with this memory"
    sections = (
        Lines(lines, f"{step.title} on {where}, decode: full memory"),
        breaks,
        laws,
        letters_used(full.formulas.values()),
        conventions_of(step, full.statements),
    )
    return Report(sections, record=lambda: full_memory_record(full), data=lambda: breaks)


def full_memory_record(full: AtFullMemory) -> dict[str, Any]:
    """The record of a full memory."""
    return {
        **of_step(full.analysis.step, full.largest.device),
        "batch": number(full.batch_expr),
        "law_batch": number(full.law_batch_expr),
        "capacity": number(full.capacity_expr),
        "weights": number(full.weights_expr),
        "sequence": number(full.sequence_expr),
        "bandwidth": number(full.bandwidth_expr),
        "period": number(full.period_expr),
        "step_time": number(full.step_time_expr),
        "breaks": {name: number(value) for name, value in full.breaks_exprs.items()},
        "throughput": number(full.throughput_expr),
        "gains_more": full.gains_more,
        "formulas": {name: str(law) for name, law in full.formulas.items()},
        "units": {**dict.fromkeys(("capacity", "weights", "sequence"), "byte"), **dict.fromkeys(("period", "step_time", "breaks"), "s")},
        "statements": list(full.statements),
    }


def register(report: Any, brief: Any) -> None:
    """Say how these answers look."""
    report.register(AtFullMemory, full_memory_report)
    brief.register(
        AtFullMemory,
        lambda full: (f"of {full.analysis.step.model}", f"batch {full.batch:.4g}", str(full.step_time), f"period {full.period}"),
    )
