"""What `symroof crossover`, `prove`, `solve` and `generate` print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.present.answers import answer_record
from symroof.present.tabular import Column, Formula, Table, number, si
from symroof.questions.context_limit import context_limit
from symroof.questions.crossover import Crossover
from symroof.questions.generation import Generation
from symroof.questions.proofs import Certificate
from symroof.questions.required import required, required_capacity
from symroof.roof.costs import WEIGHTS_AND_KV
from symroof.symbols import option_name


def crossover_parts(step: Step, answers: Sequence[Crossover], hardware: str | Path | None) -> list[Any]:
    """A table of all, and the reasoning line by line where there is one."""
    over = answers[0].over
    branched = any(answer.where is not None for answer in answers)
    columns = (
        *(Column("operator"), Column("verdict"), Column("formula", title=f"{over.symbol}* ({over.name})"), Column("condition")),
        *((Column("where", title="formula holds where"),) if branched else ()),
        *(Column("value", over.unit if over.unit != "dimensionless" else "", numeric=True, prefixed=over.unit.endswith("second")),),
        Column("first", title="first whole number"),
    )
    rows = tuple(
        (
            *(answer.operator, answer.verdict, Formula(answer.formula) if answer.formula is not None else "-"),
            Formula(answer.condition) if answer.condition is not None else "-",
            *((Formula(answer.where) if answer.where is not None else "-",) if branched else ()),
            *(answer.value, answer.first_integer),
        )
        for answer in answers
    )
    notes = tuple(answer.sentence for answer in answers) if len(answers) == 1 else ()
    table = Table(
        f"{step.title}, {step.options.phase}: where the bound changes over {over.name}", columns, rows, (*notes, *answers[0].statements)
    )
    if len(answers) > 1:
        return [table]
    steps = tuple((line.words, line.plain) for line in answers[0].reasoning())
    return [table, Table("why", (Column("step"), Column("formula")), steps), *_limit(step, answers[0], hardware)]


def _limit(step: Step, answer: Crossover, hardware: str | Path | None) -> list[Any]:
    if answer.operator != WEIGHTS_AND_KV or not step.options.decode:
        return []
    found = context_limit(step, hardware)
    value = "" if found.value is None else f" = {float(found.value):.1f} tokens"
    return [f"any batch is compute-bound only below a context of S_max = {found.formula}{value}, if {found.condition}"]


def certificate_lines(answer: Certificate) -> list[str]:
    """The claim, the verdict, and the proof or the counterexample."""
    lines = [f"claim: {answer.claim}", f"verdict: {answer.verdict}" + (f", by {answer.by}" if answer.by else "")]
    if answer.counterexample is not None:
        point = ", ".join(f"{option_name(symbol)} = {value}" for symbol, value in answer.counterexample.items())
        lines.append(f"counterexample: {point}")
    if answer.certificate:
        lines.append(f"certificate: {answer.certificate}")
    return [*lines, f"slack: F BW - B P has the sign of {answer.slack}; below zero is memory-bound"]


def design(step: Step, over: str, device: Device, target_time: Any, target_rate: Any) -> tuple[dict[str, Any], list[str]]:
    """The record and the lines of an inverse design."""
    if over == "capacity":
        needed = required_capacity(step)
        capacity = device.capacity_figure
        record = {
            "model": step.model,
            "hardware": device.name,
            "for": "capacity",
            "relation": ">=",
            "value": number(needed),
            "unit": "byte",
        }
        record["fits"] = None if capacity is None else bool(needed <= capacity.value)
        return record, [f"capacity >= {si(needed)}B ({number(needed)} bytes)", *(f"· {line}" for line in step.statements)]
    answer = required(step, over=over, hardware=device, target_time=target_time, target_rate=target_rate)
    unit = "" if answer.variable.unit == "dimensionless" else f" {answer.variable.unit}"
    whole = "" if answer.integer is None else f"; as a whole number {answer.integer}"
    least = "" if answer.least is None else f"{float(answer.least):.6g}{unit} <= "
    lines = [
        f"{least}{answer.variable.name} {answer.relation} {float(answer.value):.6g}{unit}{whole}",
        f"exactly {answer.value}, where {'a token' if step.symbolic.tokens != 1 else 'the step'} takes {si(answer.time)}s",
        *(
            [f"in this regime {answer.variable.symbol} = {answer.formula}, T the target time in seconds"]
            if answer.formula is not None
            else []
        ),
        *(f"· {line}" for line in step.statements),
    ]
    return answer_record(answer, step, device.name), lines


def generation_parts(found: Generation, model: str, device: Device) -> list[Any]:
    """A table of prefill and decode, and the regimes of decode."""
    columns = (Column("part"), Column("time", "s", numeric=True), Column("traffic", "byte", numeric=True))
    rows = (("prefill", found.prefill_time, found.prefill_traffic), ("decode", found.decode_time, found.decode_traffic))
    notes = (f"decode traffic = {found.traffic_formula}, S tokens of prompt, n generated", *found.statements)
    title = f"{model} on {device.title}: {found.prompt} tokens of prompt, {found.tokens} generated"
    total = (("total", found.time, found.traffic),)
    parts = (Column("contexts"), Column("step_time", "s", "time of a step, t the context"), Column("time", "s", numeric=True))
    regimes = tuple((f"{part.first} to {part.last}", Formula(part.step_time), part.time) for part in found.parts)
    return [Table(title, columns, rows, notes, total), Table("decode by regime", parts, regimes)]
