"""Several ways to run a step side by side, as tables and as a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sympy import Expr

from symroof.present.report import Report
from symroof.present.tabular import Column, Table, number
from symroof.questions.comparison import Variant


def comparison_report(variants: Sequence[Variant], over: str) -> Report:
    """Times, bytes, memory and payoff of every variant; then the crossovers of all operators."""
    base = variants[0]
    columns = (
        Column("variant"),
        Column("time", "s", "step", numeric=True),
        Column("time_per_token", "s", "per token", numeric=True),
        Column("speedup", title="speed-up", numeric=True, prefixed=False),
        Column("flops", "FLOP", "FLOPs", numeric=True),
        Column("bytes", "byte", "traffic", numeric=True),
        Column("memory", "byte", "memory", numeric=True),
        Column("fits"),
        Column("payoff", title=f"over {over}"),
    )
    rows = []
    for one in variants:
        time, per_token, *sizes = _numbers(one).values()
        speedup = base.time_per_token / per_token if base.time_per_token and per_token else None
        cells = (value if value is not None and value.is_number else "-" for value in (time, per_token, speedup, *sizes))
        fits = {True: "yes", False: "no", None: "-"}[one.analysis.fits]
        rows.append((one.name, *cells, fits, one.payoff.sentence if one.payoff else "-"))
    step, device = base.analysis.step, base.analysis.device
    options = step.options
    given = ", ".join(f"{name} {value}" for name in ("batch", "seq_len") if (value := getattr(options, name)) is not None)
    reasons = [f"{one.name}: {reason}" for one in variants for reason in one.reasons]
    said = [one.analysis.statements for one in variants]
    shared = [line for line in said[0] if all(line in lines for lines in said)]
    own = [f"{one.name}: {line}" for one, lines in zip(variants, said, strict=True) for line in lines if line not in shared]
    title = f"{step.model} on {device.title if device else 'any device'}, {options.phase}, {given}"
    several = any(one.analysis.graph.devices != 1 for one in variants)
    share = ("FLOPs, traffic and memory are those of one device",) if several else ()
    whole = Table(title, columns, tuple(rows), (*reasons, *share, *shared, *own))
    return Report((whole, *_crossover_table(variants, over)), record=lambda: comparison_record(variants, over))


def _numbers(one: Variant) -> dict[str, Expr | None]:
    """What a variant takes, by the names in the record."""
    total = one.analysis.total
    sizes = {"flops": total.flop_count, "bytes": total.byte_count(), "memory": one.analysis.memory_exprs["total"]}
    return {"time": one.time, "time_per_token": one.time_per_token, **sizes}


def _crossover_table(variants: Sequence[Variant], over: str) -> list[Table]:
    cells = [{answer.operator: answer.verdict if answer.value is None else answer.value for answer in one.crossovers} for one in variants]
    answers = [answer for one in variants for answer in one.crossovers]
    operators = dict.fromkeys(answer.operator for answer in answers if answer.verdict.startswith(("crosses", "intervals")))
    if not operators:
        return []
    headings = (Column(f"variant_{place}", title=one.name, numeric=True, prefixed=False) for place, one in enumerate(variants))
    rows = tuple((name, *(one.get(name, "-") for one in cells)) for name in operators)
    return [Table(f"where operators change their bound, over {over}", (Column("operator"), *headings), rows)]


def comparison_record(variants: Sequence[Variant], over: str) -> dict[str, Any]:
    """The record of `symroof compare --format json`."""
    return {
        "over": over,
        "variants": [
            {
                "techniques": list(variant.analysis.step.techniques),
                **{name: number(value) if value is not None and value.is_number else None for name, value in _numbers(variant).items()},
                "fits": variant.analysis.fits,
                "payoff": [
                    {"low": float(one.low), "high": float(one.high) if one.high.is_finite else None, "verdict": one.bound}
                    for one in (variant.payoff.intervals if variant.payoff else ())
                ],
                "crossovers": {answer.operator: None if answer.value is None else float(answer.value) for answer in variant.crossovers},
                "statements": list(variant.analysis.statements),
                "reasons": list(variant.reasons),
            }
            for variant in variants
        ],
        "units": {"time": "s", "time_per_token": "s", "flops": "FLOP", "bytes": "byte", "memory": "byte"},
    }
