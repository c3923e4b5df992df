"""How a plan looks: the best deployment of every number of devices, what decided, and what is missed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sympy import Expr

from symroof.architectures.step import Step
from symroof.hardware.machine import STATED
from symroof.operators import Role
from symroof.present.formats.sections import Lines
from symroof.present.records import exact_text, text_of
from symroof.present.report import Report
from symroof.present.step_views import conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, Words, amount, in_units, listed, number
from symroof.serving.plan import Plan
from symroof.serving.planned import Miss, Planned
from symroof.symbols import VOCABULARY, substitute

PROMISES = {"ttft": "time to first token", "tpot": "time per output token", "memory": "memory", "rate": "rate"}
SHORT = {"ttft": "s", "tpot": "s", "memory": "B", "rate": "requests/s"}
MILLION = 10**6
UNFUSED = "Attention scores go through memory, in prefill too; engines keep them on chip: --flash-attention."
COLUMNS = (
    Column("hardware", fixed=True),
    Column("devices", numeric=True, prefixed=False),
    Column("parallelism", rank=2),
    Column("replicas", numeric=True, prefixed=False, rank=1),
    Column("batch", numeric=True, prefixed=False),
    Column("batch_by_time", title="by time", numeric=True, prefixed=False, rank=5),
    Column("batch_by_memory", title="by memory", numeric=True, prefixed=False, rank=5),
    Column("binding", title="limit"),
    Column("ttft", "s", title="TTFT", numeric=True, rank=3),
    Column("tpot", "s", title="TPOT", numeric=True),
    Column("throughput", "token/s", numeric=True, rank=6),
    Column("throughput_per_device", "token/s", title="per device", numeric=True),
    Column("max_rate", "1/s", title="requests", numeric=True, rank=4),
)
PRICED = Column("cost_per_million_tokens", "USD", title="per million", numeric=True, prefixed=False)


def plan_report(plan: Plan) -> Report:
    """The plan as a table: those that keep the promises, and a line for each that does not."""
    priced = any(planned.cost_expr is not None for planned in plan.members)
    rows = tuple(tuple(_row(planned, priced=priced)) for planned in plan.kept)
    table = Table("", (*COLUMNS, *[PRICED] * priced), rows)
    formulas = {planned.formula: None for planned in plan.kept if planned.formula is not None}
    missed = tuple(miss_sentence(planned, plan) for planned in plan.members if planned.miss)
    sections = (
        Lines(tuple(_headlines(plan)), _title(plan)),
        *([table] if rows else []),
        *([Lines(missed, "left out")] if missed else []),
        *([Lines(tuple(_decided(plan)), "what decided"), letters_used(formulas)] if formulas else []),
        *([Lines((UNFUSED,), note=True)] if any(operator.role is Role.SCORES for operator, _ in _step(plan).symbolic) else []),
        conventions_of(_step(plan), statements(plan)),
    )
    return Report(sections, record=lambda: [planned_record(planned, plan) for planned in plan.members], data=lambda: _all(plan))


def _title(plan: Plan) -> str:
    request = plan.request
    how = [technique.text for technique in plan.techniques]
    return f"{' + '.join((request.model.name, *how))}: {request.prompt} tokens of prompt, {request.output} of output"


def _headlines(plan: Plan) -> Iterator[str]:
    best = plan.best()
    if best is None:
        yield "no deployment keeps the promises"
        return
    each = amount(best.throughput_expr / best.devices)
    yield f"best: {best.name}, {_way(best)}, batch {best.batch}: {each} token/s per device"
    if best.steady_expr is not None and plan.rate_expr is not None:
        seconds = in_units(best.tpot_at_rate_expr, "s")
        sequences = f"{float(best.steady_expr):.4g} sequences in the batch of a replica"
        yield f"at {amount(plan.rate_expr)} requests/s: {sequences}, {seconds} per output token"


def _way(planned: Planned) -> str:
    """How the devices are used, in words."""
    how = " ".join(technique.text for technique in planned.parallelism)
    decode, prefill = (_replicas(count) for count in (planned.replicas, planned.prefill_replicas))
    roles = f"{decode} for decode and {prefill} for prefill" if planned.prefill_replicas else decode
    return f"{roles}{f' of {how}' if how else ''}"


def _replicas(count: int) -> str:
    return f"{count} replicas" if count > 1 else "one replica"


def _row(planned: Planned, *, priced: bool) -> Iterator[Any]:
    yield from (planned.hardware.name, planned.devices, " ".join(technique.text for technique in planned.parallelism) or "-")
    several = f"{planned.replicas}+{planned.prefill_replicas}" if planned.prefill_replicas else planned.replicas
    yield from (several, planned.batch, planned.batch_by_time, planned.batch_by_memory, planned.binding, planned.ttft_expr)
    yield from (planned.tpot_expr, planned.throughput_expr, planned.throughput_expr / planned.devices, planned.max_rate_expr)
    if priced:
        yield None if planned.cost_expr is None else float(planned.cost_expr * MILLION)


def _all(plan: Plan) -> Table:
    """Every deployment as a row of a data file, those that are left out too."""
    records = [planned_record(planned, plan) for planned in plan.members]
    names = [name for name, value in records[0].items() if not isinstance(value, dict | list)]
    return Table("", tuple(Column(name) for name in names), tuple(tuple(record[name] for name in names) for record in records))


def _decided(plan: Plan) -> Iterator[Words]:
    """The limit of the best deployment of each device: its formula, and the numbers of its symbols."""
    for name in dict.fromkeys(planned.hardware.name for planned in plan.kept):
        best = plan.best(name)
        if best is not None and best.formula is not None:
            used = [symbol for symbol in best.formula_values if best.formula.has(symbol)]
            numbers = (f"{symbol} = {_valued(symbol, best.formula_values[symbol])}" for symbol in used)
            yield Words((f"{best.name}: batch <= ", Formula(best.formula), f" = {float(_limit(best)):.5g}, with {', '.join(numbers)}"))


def _limit(planned: Planned) -> Expr:
    assert planned.formula is not None
    return substitute(planned.formula, planned.formula_values)


def _valued(symbol: Any, value: Expr) -> str:
    units = {"second": "s", "byte": "B", "dimensionless": ""}
    unit = units[VOCABULARY[symbol].unit]
    return in_units(value, unit, 4) if unit else str(value)


def miss_sentence(planned: Planned, plan: Plan) -> str:
    """Why a deployment is left out: what misses by how much, what binds, and what would do."""
    miss = planned.miss
    assert miss is not None
    if miss.promise == "technique":
        return f"{planned.name}: {miss.why}"
    value, limit = (in_units(part, SHORT[miss.promise], 4) for part in (miss.value_expr, miss.limit_expr))
    allowed = "are there" if miss.promise == "memory" else "is promised" if miss.promise != "rate" else "is the most"
    bound = f", {miss.resource}-bound" if miss.resource else ""
    how = f" as {_way(planned)}" if planned.parallelism else ""
    said = f"{planned.name}{how}: {PROMISES[miss.promise]} {value}, {float(miss.factor_expr):.4g} times the {limit} that {allowed}{bound}"
    remedies = list(_remedies(planned, miss, plan))
    return f"{said}; {listed(remedies)} would do" if remedies else said


def _remedies(planned: Planned, miss: Miss, plan: Plan) -> Iterator[str]:
    fewest = min((one.devices for one in plan.kept if one.hardware == planned.hardware), default=None)
    if fewest is not None and fewest > planned.devices:
        yield f"{fewest} devices"
    elif "devices" in miss.meets_exprs:
        yield f"{miss.meets_exprs['devices']} devices"
    for name, unit in (("bandwidth", "B/s"), ("peak", "FLOP/s")):
        if name in miss.meets_exprs:
            yield f"a {'memory bandwidth' if name == 'bandwidth' else name} of {in_units(miss.meets_exprs[name], unit, 4)}"


def statements(plan: Plan) -> tuple[str, ...]:
    """The conventions of a plan."""
    own = [
        "batch is that of one replica; throughput, rates and prices are of all devices; tokens are generated tokens",
        "a decode step is that of a full batch at its mean context, S + n/2; memory holds every sequence's longest context, S + n - 1",
        "time to first token is that of prefill on an idle replica, without waiting",
    ]
    if plan.split:
        own += ["prompts are read on replicas of their own, and their cache moves over a device's link; nothing delays a decode step"]
    else:
        own += ["prompts are read between decode steps, one at a time; each delays a token of all sequences of its replica"]
    if plan.ceilings != STATED:
        own += [f"ceilings {plan.ceilings}"]
    return (*own, *_step(plan).statements)


def _step(plan: Plan) -> Step:
    """A decode step as it is before the work is shared."""
    return plan.request.step("decode", plan.request.prompt + plan.request.output - 1, plan.techniques)


def planned_record(planned: Planned, plan: Plan) -> dict[str, Any]:
    """The record of one deployment, as `symroof plan --format json` has it."""
    miss = planned.miss

    def plain(value: Expr | None) -> int | float | None:
        return None if value is None else number(value)

    kept = miss is None
    return {
        "model": plan.request.model.name,
        "hardware": planned.hardware.name,
        "devices": planned.devices,
        "parallelism": " ".join(technique.text for technique in planned.parallelism) or None,
        "degree": planned.degree,
        "replicas": planned.replicas,
        "prefill_replicas": planned.prefill_replicas,
        "batch": planned.batch,
        "batch_by_time": planned.batch_by_time,
        "batch_by_memory": planned.batch_by_memory,
        "binding": planned.binding,
        "formula": text_of(planned.formula),
        "formula_values": {VOCABULARY[symbol].name: number(value) for symbol, value in planned.formula_values.items()},
        "ttft": plain(planned.ttft_expr),
        "tpot": plain(planned.tpot_expr),
        "tpot_exact": exact_text(planned.tpot_expr),
        "throughput": plain(planned.throughput_expr) if kept else None,
        "throughput_per_device": plain(planned.throughput_expr / planned.devices) if kept else None,
        "max_rate": plain(planned.max_rate_expr) if planned.batch else None,
        "cost_per_million_tokens": None if planned.cost_expr is None else float(planned.cost_expr * MILLION),
        "rate": plain(planned.rate_expr),
        "batch_at_rate": plain(planned.steady_expr),
        "tpot_at_rate": plain(planned.tpot_at_rate_expr),
        "kv_transfer": plain(planned.transfer_expr),
        "memory": {use: number(size) for use, size in planned.memory_exprs.items()},
        "headroom": dict(planned.headroom),
        "fits": planned.fits,
        "meets": kept,
        "reason": None if kept else miss_sentence(planned, plan),
        "best": kept and planned == plan.best(planned.hardware.name),
        "statements": list(statements(plan)),
    }


def planned_table(planned: Planned) -> Table:
    """One deployment, a figure a row."""
    priced = planned.cost_expr is not None
    columns = (*COLUMNS, *[PRICED] * priced)
    return Table(planned.name, columns, (tuple(_row(planned, priced=priced)),))
