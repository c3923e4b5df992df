"""How answers on mixtures of experts look: batch, exchange, micro-batches, speculation, and a dense model instead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sympy import Expr, oo

from symroof.answers import Intervals
from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.present.crossover_views import plain
from symroof.present.formats.sections import Lines, Section
from symroof.present.report import Report
from symroof.present.serving.splits import of_step, several
from symroof.present.step_views import conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, Words, number
from symroof.serving.experts.exchange_bound import ExchangeBound
from symroof.serving.experts.expert_batch import ExpertBatch
from symroof.serving.experts.ping_pong import PingPong
from symroof.serving.experts.sparse_against_dense import FullMemory, SparseAgainstDense
from symroof.serving.experts.speculation_peak import SpeculationPeak


def _report(
    title: str,
    lines: Iterable[str | Words],
    step: Step,
    record: dict[str, Any],
    device: Device | None = None,
    formulas: Iterable[Expr] = (),
) -> Report:
    """A title with its lines, the symbols of formulas, and the conventions."""
    used = [letters_used(list(formulas))] if formulas else []
    sections: tuple[Section, ...] = (Lines(tuple(lines), title), *used, conventions_of(step, step.statements))
    return Report(sections, record=lambda: {**of_step(step, device), **record, "statements": list(step.statements)})


def _pieces(found: Intervals | None) -> list[dict[str, Any]]:
    """The intervals of a record; an end at infinity is None."""
    return [
        {"low": number(one.low_expr), "high": None if one.high_expr == oo else number(one.high_expr), "label": str(one.label)}
        for one in found or ()
    ]


def _spread(found: Intervals) -> str:
    """The intervals in words: "falls up to 1.414, rises up to 32.22, falls beyond"."""
    if len(found) == 1:
        return f"{found[0].label} at every batch"
    parts = [f"{one.label} up to {float(one.high_expr):.4g}" if one.high_expr != oo else f"{one.label} beyond" for one in found]
    return ", ".join(parts)


def expert_batch_report(found: ExpertBatch) -> Report:
    """The exact batch, the rule beside it, and the replicas."""
    step, device = found.crossover.step, found.crossover.device
    assert step is not None
    lines: list[str | Words] = [
        Words(("all experts touched: ", Formula(found.formula))),
        Words(("weights alone: ", Formula(found.rule_formula))),
    ]
    if found.value_expr is not None and found.error_expr is not None:
        above = f"{float(found.error_expr):.1%} above the rule's {plain(found.rule_expr)}"
        lines.insert(0, f"experts are compute-bound from a batch of {found.first_integer} of all replicas on, {above}")
    if found.replicas is not None:
        lines.insert(1, f"{several(found.replicas, 'replica')} of {found.per_replica_expr} sequences supply it")
    record = {
        "operator": found.crossover.operator,
        "batch": found.first_integer,
        "value": None if found.value_expr is None else float(found.value_expr),
        "formula": str(found.formula),
        "rule_formula": str(found.rule_formula),
        "rule": number(found.rule_expr) if found.rule_expr.is_number else str(found.rule_expr),
        "error": None if found.error_expr is None or not found.error_expr.is_number else float(found.error_expr),
        "replicas": found.replicas,
    }
    title = f"{step.title} on {device.title if device else 'any device'}: the batch of compute-bound experts"
    return _report(title, lines, step, record, device, (found.formula, found.rule_formula))


def exchange_bound_report(bound: ExchangeBound) -> Report:
    """Bytes of a layer and of the step, and the bandwidth at which the exchange binds."""
    step = bound.step
    sent = bound.traffic_expr
    lines: list[str | Words] = [Words(("a step takes at least ", Formula(bound.formula)))]
    record: dict[str, Any] = {"formula": str(bound.formula), "layers": number(bound.layers_expr) if bound.layers_expr.is_number else None}
    if sent.is_number:
        per_layer = f"a device sends {bound.dispatch} to the experts of a layer and receives {bound.combine} from them"
        lines.insert(0, f"{per_layer}, {bound.traffic} in {bound.layers_expr} layers")
        record |= {"dispatch": number(bound.dispatch_expr), "combine": number(bound.combine_expr), "bytes": number(sent)}
    if bound.balance_expr is not None:
        others = " and ".join(f"{name} {float(taken):.4g} s" for name, taken in bound.other_exprs.items())
        lines.append(f"the exchange takes longest on links below {bound.balance}; the rest of the step takes {others}")
        record |= {"balance": float(bound.balance_expr), "regimes": _pieces(bound.regimes)}
    title = f"{step.title}: what the exchange of tokens bounds"
    return _report(title, lines, step, record, bound.device, (bound.formula,))


def ping_pong_report(answer: PingPong) -> Report:
    """The stages of a layer, and the micro-batches that hide the links."""
    rows = tuple((name, taken) for name, taken in answer.stages_exprs.items())
    table = Table("", (Column("stage"), Column("time", "s", numeric=True)), rows)
    count = several(answer.micro_batches, "micro-batch") if answer.micro_batches == 1 else f"{answer.micro_batches} micro-batches"
    hide = "hide the links" if answer.hidden else "keep the link busy, which takes longest"
    where = "devices of their own" if answer.apart else "the same devices"
    record = {
        **of_step(answer.step, answer.device),
        "apart": answer.apart,
        "stages": {name: float(taken) for name, taken in answer.stages_exprs.items()},
        "micro_batches": answer.micro_batches,
        "period": float(answer.period_expr),
        "binding": answer.binding,
        "hidden": answer.hidden,
        "statements": list(answer.step.statements),
    }
    title = f"{answer.step.title} on {answer.device.title}: attention and experts on {where}"
    line = f"{count} {hide}; a layer takes {answer.period} for each, bound by {answer.binding}"
    return Report((Lines((line,), title), table, conventions_of(answer.step, answer.step.statements)), record=lambda: record)


def _full_record(one: FullMemory) -> dict[str, Any]:
    return {"model": one.step.model, "batch": one.batch, "weights": number(one.weights_expr), "throughput": float(one.rate_expr)}


def against_dense_report(found: SparseAgainstDense) -> Report:
    """Both at full memory, the inequality, and whether it says what is so."""
    sparse, dense = found.sparse, found.dense
    columns = (
        Column("model"),
        Column("weights", "B", numeric=True),
        Column("batch", numeric=True, prefixed=False, form="{:,.0f}"),
        Column("throughput", "token/s", numeric=True),
    )
    rows = tuple((name, one.weights_expr, one.batch, one.rate_expr) for name, one in (("sparse", sparse), ("dense", dense)))
    says = f"the {found.rule} model has more throughput" if found.rule != "equal" else "both have the same throughput"
    is_so = (
        ", as it has"
        if found.rule == found.faster
        else f"; it is the {found.faster} one"
        if found.faster != "equal"
        else "; they are equal"
    )
    inequality = f"q s = {float(found.quality_expr):.4g} x {float(found.share_expr):.4g} = {float(found.qs_expr):.4g}"
    lines = [f"{inequality}: by the inequality {says}{is_so}"]
    if found.gain_expr is not None:
        limit = f"bound by memory alone, q s would decide at {float(found.threshold_expr):.4g}"
        lines.append(f"dense over sparse: {float(found.gain_expr):.4g}; {limit}, with {float(found.idle_expr):.1%} of the weights idle")
    record = {
        **of_step(sparse.step, found.device),
        "capacity": number(found.capacity_expr),
        "quality": float(found.quality_expr),
        "share": float(found.share_expr),
        "qs": float(found.qs_expr),
        "threshold": float(found.threshold_expr),
        "sparse": _full_record(sparse),
        "dense": _full_record(dense),
        "gain": None if found.gain_expr is None else float(found.gain_expr),
        "rule": found.rule,
        "faster": found.faster,
        "statements": list(sparse.step.statements),
    }
    title = f"{sparse.step.title} against a dense model in {found.capacity} of {found.device.title}"
    sections = (Lines(tuple(lines), title), Table("", columns, rows), conventions_of(sparse.step, sparse.step.statements))
    return Report(sections, record=lambda: record)


def peak_sentence(peak: SpeculationPeak) -> str:
    """Where the speedup is largest, and where it rises and falls."""
    most = f"{float(peak.gain_expr):.4g}x"
    return (f"tends to {most}" if peak.batch is None else f"fastest at batch {peak.batch}, {most}") + f"; {_spread(peak.trends)}"


def peak_report(peak: SpeculationPeak) -> Report:
    """The maximum, the intervals on which the speedup rises and falls, and those where it exceeds the dense model's."""
    lines = [peak_sentence(peak)]
    if peak.against_dense is not None:
        lines.append(f"speedup of the sparse model: {_spread(peak.against_dense)}")
    record = {
        "batch": peak.batch,
        "speedup": float(peak.gain_expr),
        "place": None if peak.place_expr == oo else float(peak.place_expr),
        "hump": peak.is_hump,
        "trends": _pieces(peak.trends),
        "against_dense": None if peak.against_dense is None else _pieces(peak.against_dense),
    }
    step = peak.step
    return _report(f"{step.title} with {peak.technique.text}: the speedup over batch", lines, step, record)


def register(report: Any, brief: Any) -> None:
    """Say how these answers look."""
    report.register(ExpertBatch, expert_batch_report)
    report.register(ExchangeBound, exchange_bound_report)
    report.register(PingPong, ping_pong_report)
    report.register(SparseAgainstDense, against_dense_report)
    report.register(SpeculationPeak, peak_report)
    brief.register(
        ExpertBatch, lambda found: ("", f"batch {found.first_integer}", f"rule {plain(found.rule_expr)}", f"replicas {found.replicas}")
    )
    brief.register(
        ExchangeBound,
        lambda bound: (f"of {bound.step.title}", plain(bound.formula), *([f"balance {bound.balance}"] if bound.balance else [])),
    )
    brief.register(
        PingPong, lambda answer: (f"of {answer.step.title}", f"{answer.micro_batches} micro-batches", f"bound by {answer.binding}")
    )
    brief.register(FullMemory, lambda one: (f"of {one.step.model}", f"batch {one.batch}", str(one.weights), str(one.rate)))
    brief.register(
        SparseAgainstDense, lambda found: (f"of {found.sparse.step.model}", f"q s {float(found.qs_expr):.4g}", f"{found.faster} is faster")
    )
    brief.register(SpeculationPeak, lambda peak: (f"of {peak.step.model}", peak_sentence(peak)))
