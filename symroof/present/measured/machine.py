"""How a measured machine looks, and a step that ran on it beside what was predicted: tables and records."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from symroof.measure.machine import Measured, Rate, most_bandwidth
from symroof.measure.session import Session
from symroof.measure.step import FROM_CACHE, OperatorTime, StepTime
from symroof.measure.timing import NOISY, Spread
from symroof.operators.facts import Role
from symroof.present.formats.sections import Lines
from symroof.present.measured.tables import calibration_record, error_table
from symroof.present.report import Report
from symroof.present.tabular import Column, Table, in_units


def _number(key: str, unit: str = "", title: str = "", *, prefixed: bool = True, rank: int = 0) -> Column:
    return Column(key, unit, title, numeric=True, prefixed=prefixed, rank=rank)


BUSY = 0.5
"""Average number of processes, in addition to the measurement's threads, above which other work was running."""

RATES = (
    Column("what"),
    _number("best"),
    _number("median"),
    _number("lower_quartile", "", "lower quartile"),
    _number("upper_quartile", "", "upper quartile"),
    Column("unit"),
    Column("benchmark"),
)


def machine_report(session: Session) -> Report:
    """What a machine reached, by level and data type; bandwidth by working set; the errors of fitted constants."""
    sections = [machine_table(session.measured), stream_table(session.measured)]
    if session.calibration is not None:
        sections.append(error_table(session.calibration.kernels))
    missing = [Lines(tuple(f"no constants of {reason}" for reason in session.reasons))] if session.reasons else []
    return Report((*sections, *missing), record=lambda: session_record(session), data=lambda: benchmark_table(session.measured))


def _row(what: str, reached: Spread, unit: str, benchmark: str) -> tuple[Any, ...]:
    return (what, reached.best, reached.median, reached.lower, reached.upper, unit, benchmark)


def machine_table(measured: Measured) -> Table:
    """The rates that the device's file states, with their spread."""
    rows = [_row("memory", measured.memory.bandwidth, "B/s", benchmark(measured.memory))]
    for place, level in enumerate(measured.system.caches):
        rate = measured.cache(place)
        shared = "" if level.instances == 1 else ", each" if rate and rate.threads == 1 else f", all {level.instances}"
        if rate:
            rows.append(_row(f"{level.name}, {binary(level.capacity)}{shared}", rate.bandwidth, "B/s", benchmark(rate)))
    rows += [_row(f"products, {name}", rate.performance, "FLOP/s", benchmark(rate)) for name, rate in measured.peaks.items()]
    rows += [_row(f"without contraction, {name}", rate.performance, "FLOP/s", benchmark(rate)) for name, rate in measured.vectors.items()]
    rows.append(_row("least call", measured.launch, "s", "sum of two numbers"))
    return Table(machine_title(measured), RATES, tuple(rows), tuple(conditions(measured)))


def machine_title(measured: Measured) -> str:
    """The machine, and on how many of its cores what ran."""
    system = measured.system
    used = f", {measured.threads} of {system.processors} cores" if system.kind == "cpu" else f", {system.processors} {system.processor}s"
    return f"{system.title}{used}, {measured.software}"


def binary(size: int) -> str:
    """Bytes as capacities of caches are printed.

    >>> binary(32768), binary(1572864)
    ('32 KiB', '1.5 MiB')
    """
    return f"{size / 2**10:g} KiB" if size < 2**20 else f"{size / 2**20:g} MiB"


def benchmark(rate: Rate) -> str:
    """What reached a rate."""
    threads = f", {rate.threads} threads" if rate.threads > 1 else ""
    return f"{rate.name}, {in_units(rate.working_set, 'B')}{threads}"


def conditions(measured: Measured) -> Iterator[str]:
    """How far what was measured can be relied on."""
    yield f"best, median and quartiles of {measured.repeat} timings by {measured.timed_by}; a device's file states the best"
    if measured.busy is not None:
        yield f"products kept {measured.busy:.2f} cores busy"
    yield from _loads(measured.loads, measured.threads)
    if measured.noisy:
        yield f"quartiles differ by more than {100 * NOISY:.0f} % of the median: {', '.join(map(benchmark, measured.noisy))}"


def _loads(loads: tuple[float | None, float | None], threads: int) -> Iterator[str]:
    """What else was running; these threads may be in the first of the loads."""
    before, after = loads
    if before is None or after is None:
        return
    note = ": other work was running" if before > threads + BUSY else ""
    yield f"load average {before:.1f} before, {after:.1f} after{note}"


def stream_table(measured: Measured) -> Table:
    """Bandwidth by working set: the best of every stream, on as many threads as show most."""
    streams = [one for one in measured.streams if one.data_type == "fp32"]
    functions = list(dict.fromkeys(one.name for one in streams))
    rows = []
    for size in sorted({one.working_set for one in streams}):
        reached = [[one for one in streams if (one.working_set, one.name) == (size, name)] for name in functions]
        rows.append((size, *(most_bandwidth(some).bandwidth.best for some in reached)))
    columns = (_number("working_set", "B", "working set"), *(_number(name, "B/s") for name in functions))
    return Table("bandwidth by working set, best", columns, tuple(rows))


BENCHS = (
    Column("benchmark"),
    Column("data_type"),
    _number("threads", prefixed=False),
    _number("working_set", "byte"),
    _number("bytes", "byte"),
    _number("flops", "FLOP"),
    *(_number(f"seconds_{name}", "s") for name in ("best", "lower", "median", "upper")),
    Column("cold"),
)


def benchmark_table(measured: Measured) -> Table:
    """Every benchmark and every measured kernel."""
    rows = tuple(
        (one.name, one.data_type, one.threads, one.working_set, one.traffic, one.flops, *_times(one.seconds), str(one.cold).lower())
        for one in (*measured.streams, *measured.products, *measured.kernels)
    )
    return Table(machine_title(measured), BENCHS, rows)


def _times(seconds: Spread) -> tuple[float, ...]:
    return seconds.best, seconds.lower, seconds.median, seconds.upper


def session_record(session: Session) -> dict[str, Any]:
    """The record of `symroof measure --format json`: byte, FLOP, seconds, and rates per second."""
    measured = session.measured
    caches = [
        {**asdict(level), "bandwidth": _reached(rate, "bandwidth") if (rate := measured.cache(place)) else None}
        for place, level in enumerate(measured.system.caches)
    ]
    return {
        "system": asdict(measured.system),
        "software": measured.software,
        "backend": measured.backend,
        "threads": measured.threads,
        "date": measured.date,
        "repeat": measured.repeat,
        "timed_by": measured.timed_by,
        "busy_cores": measured.busy,
        "load_average": {"before": measured.loads[0], "after": measured.loads[1]},
        "memory": _reached(measured.memory, "bandwidth"),
        "caches": caches,
        "peaks": {name: _reached(rate, "performance") for name, rate in measured.peaks.items()},
        "vectors": {name: _reached(rate, "performance") for name, rate in measured.vectors.items()},
        "launch": asdict(measured.launch),
        "calibration": None if session.calibration is None else calibration_record(session.calibration),
        "not_calibrated": list(session.reasons),
        "benchmarks": benchmark_table(measured).records(),
    }


def _reached(rate: Rate, what: str) -> dict[str, Any]:
    return {**asdict(getattr(rate, what)), "benchmark": rate.name, "threads": rate.threads, "working_set": rate.working_set}


STEP = (
    Column("name", title="operator"),
    _number("count", prefixed=False, rank=2),
    Column("bound", fixed=True, rank=1),
    _number("roofline", "s"),
    _number("calibrated", "s", rank=3),
    _number("measured", "s"),
    _number("lower_quartile", "s", "lower quartile", rank=5),
    _number("upper_quartile", "s", "upper quartile", rank=5),
    _number("ratio", "", "measured/roofline", prefixed=False),
    _number("error", "%", "calibrated/measured - 1", prefixed=False, rank=4),
    Column("note"),
)


def step_report(steps: Sequence[StepTime], session: Session | None, command: str = "") -> Report:
    """Steps that ran here beside their predictions; with the machine, where it was measured just before."""
    machine = () if session is None else (machine_table(session.measured),)
    return Report(
        (*machine, *map(step_table, steps)),
        record=lambda: {
            "command": command,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": None if session is None else session_record(session),
            "steps": [step_record(one) for one in steps],
        },
        data=lambda: rows_table(steps),
    )


def step_table(one: StepTime) -> Table:
    """Every operator, measured and predicted; their sums; the noise."""
    total = one.times.total
    ratio, error = total.median / one.roofline, None if one.error is None else 100 * one.error
    sums = ("total", None, None, one.roofline, one.prediction, total.median, total.lower, total.upper, ratio, error, "")
    device = one.analysis.device
    title = f"{one.analysis.step.title}, {one.analysis.step.options.phase} on {device.title if device else ''}"
    return Table(title, STEP, tuple(map(_operator_row, one.operators)), tuple(step_notes(one)), totals=(sums,))


def _operator_row(one: OperatorTime) -> tuple[Any, ...]:
    count, predicted = one.point.count_expr, one.prediction
    if one.seconds is None:
        return (one.point.name, count, one.point.bound, one.roofline, predicted, None, None, None, None, None, f"not run: {one.reason}")
    error = None if predicted is None else 100 * (predicted / one.seconds.median - 1)
    times = (one.seconds.median, one.seconds.lower, one.seconds.upper)
    return (one.point.name, count, one.point.bound, one.roofline, predicted, *times, one.ratio, error, one.excess)


def step_notes(one: StepTime) -> Iterator[str]:
    """What ran, how often, and its spread."""
    total, passes = one.times.total, one.times.passes
    yield f"{one.data_type}, {one.backend} on {one.threads} thread{'s' if one.threads > 1 else ''}, {one.software}"
    yield f"measured: median and quartiles by {one.timed_by} over all occurrences in {total.runs} passes; total: sums of a pass"
    median, lower, upper = (in_units(one, "s") for one in (passes.median, passes.lower, passes.upper))
    yield f"a pass without timing of operators takes {median} (quartiles {lower} to {upper})"
    if total.noise > NOISY:
        yield f"noisy: the quartiles of a pass differ by {100 * total.noise:.0f} % of its median"
    if any(other.excess == FROM_CACHE for other in one.ran):
        yield "from the cache: its activations were just written and are read from the cache, not from memory as in the roofline"
    count = max(int(other.point.count_expr) for other in one.operators)
    if one.times.held < count:
        yield f"{one.times.held} of {count} layers' weights fit the memory and are reused in turn"
    if one.times.reasons:
        yield "totals are over the operators that ran"
    options = one.analysis.step.options
    if options.causal and not options.decode and any(other.point.operator.role is Role.SCORES for other in one.ran):
        yield "attention in steps computes all pairs of a prompt and masks some: those unmasked are predicted (--no-causal: all)"
    yield from _loads(one.times.loads, one.threads)


def rows_table(steps: Sequence[StepTime]) -> Table:
    """The rows of all steps for CSV, with FLOPs and bytes."""
    columns = (Column("model"), Column("phase"), Column("data_type"), _number("flops"), _number("bytes"), *STEP)
    rows = []
    for step in steps:
        options = step.analysis.step.options
        for one in step.operators:
            operator = one.point.operator
            facts = (step.analysis.step.title, options.phase, step.data_type, operator.flop_count, operator.byte_count())
            rows.append((*facts, *_operator_row(one)))
    return Table("measured steps", columns, tuple(rows))


def step_record(one: StepTime) -> dict[str, Any]:
    """The record of a measured step: byte, FLOP, seconds of one occurrence."""
    options = one.analysis.step.options
    return {
        "model": one.analysis.step.title,
        "phase": options.phase,
        "batch": options.batch,
        "seq_len": options.seq_len,
        "data_type": one.data_type,
        "flash_attention": options.flash_attention,
        "backend": one.backend,
        "software": one.software,
        "threads": one.threads,
        "timed_by": one.timed_by,
        "device": one.analysis.device.title if one.analysis.device else None,
        "total": {
            "roofline": one.roofline,
            "calibrated": one.prediction,
            "measured": asdict(one.times.total),
            "passes_without_marks": asdict(one.times.passes),
            "error": one.error,
        },
        "load_average": dict(zip(("before", "after"), one.times.loads, strict=True)),
        "operators": [_operator_record(other) for other in one.operators],
    }


def _operator_record(one: OperatorTime) -> dict[str, Any]:
    return {
        "name": one.point.name,
        "count": int(one.point.count_expr),
        "flops": int(one.point.operator.flop_count),
        "bytes": int(one.point.operator.byte_count()),
        "bound": one.point.bound,
        "roofline": one.roofline,
        "calibrated": one.prediction,
        "measured": None if one.seconds is None else asdict(one.seconds),
        "ratio": one.ratio,
        "note": one.reason or one.excess,
    }
