"""How steps, analyses, their energy and their operators look: tables, the conventions in words, where figures come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import cast

from sympy import Add, Basic, Expr, Integer, nan, oo

from symroof import symbols
from symroof.architectures.step import Step
from symroof.hardware.device import Device, Figure
from symroof.hardware.machine import LATENCIES, RATE_SYMBOLS
from symroof.notation import compact, latex
from symroof.operators import Level, Operator, Resource, Role
from symroof.present.crossover_views import plain
from symroof.present.formats.sections import Conventions, Lines
from symroof.present.tabular import Column, Formula, Table, Words, amount, in_units, kind_of, listed, si
from symroof.roof.analysis import Analysis, Total
from symroof.roof.energy import OperatorEnergy, StepEnergy, energy_balance
from symroof.roof.roofline import RooflinePoint
from symroof.symbols import Values, substitute
from symroof.units import SHORT, typed


def provenance(device: Device, data_types: Sequence[str]) -> Iterator[str]:
    """Where the roof's figures come from, with what their files note."""
    figures = {f"{name} peak": device.peaks[name].dense for name in data_types} | {"bandwidth": device.bandwidth_figure}
    for what, figure in figures.items():
        source = f"{figure.source.title}, {figure.source.date}" if figure.source else "source not stated"
        yield f"{what}: {source}" + (f" ({figure.note})" if figure.note else "")


COLUMNS = (
    Column("name", title="operator"),
    Column("count", numeric=True, prefixed=False, rank=1),
    Column("flops", "FLOP", "FLOPs", numeric=True, rank=3),
    Column("bytes", "byte", "traffic", numeric=True),
    Column("intensity", "FLOP/B", numeric=True, prefixed=False, rank=2),
    Column("performance", "FLOP/s", numeric=True, rank=5),
    Column("bound", fixed=True),
    Column("time", "s", numeric=True),
    Column("share", "%", numeric=True, prefixed=False, form="{:.1f}"),
)


def row_of(placed: RooflinePoint, total: Total) -> tuple[object, ...]:
    """An operator's cells under COLUMNS."""
    values = (placed.operator.flop_count, placed.operator.byte_count(), placed.intensity_expr, placed.performance_expr)
    cells = (None if value in (oo, nan) else shown(value) for value in values)
    share = 100 * total.share(placed) if total.time_expr.is_number else None
    return (placed.name, shown(placed.count_expr), *cells, placed.bound or "depends", shown(placed.time_expr), share)


def levels_beside(placed: Iterable[RooflinePoint]) -> tuple[Level, ...]:
    """The levels other than memory that some operator moves bytes over."""
    touched = {level for one in placed for level in one.operator.bytes_by_level}
    return tuple(level for level in Level if level in touched and level is not Level.MEMORY)


def formulas_of(placed: RooflinePoint) -> tuple[Formula, Formula]:
    """An operator's symbolic FLOPs and bytes."""
    return Formula(placed.symbolic.flop_count), Formula(placed.symbolic.byte_count())


def shown(value: Expr) -> object:
    """A number as it is, an expression as a formula."""
    return value if value.is_number else Formula(value)


def operator_latex(operator: Operator) -> str:
    """An operator's FLOPs and bytes for a notebook."""
    name = operator.name.replace("_", r"\_")
    flops, traffic = latex(compact(operator.flop_count)), latex(compact(operator.byte_count()))
    return rf"$\displaystyle \text{{{name}}}:\quad F = {flops}\ \mathrm{{FLOP}},\quad B = {traffic}\ \mathrm{{byte}}$"


def step_table(step: Step) -> Table:
    """Every operator with its formulas."""
    columns = (Column("operator"), Column("kind"), Column("count", numeric=True), Column("FLOPs", "FLOP"), Column("traffic", "byte"))
    rows = tuple(
        (operator.name, str(operator.kind), Formula(count), Formula(operator.flop_count), Formula(operator.byte_count()))
        for operator, count in step.graph
    )
    return Table(f"{step.title}, {step.options.phase}", columns, rows, step.statements)


FURTHER = {Resource.VECTOR: "FLOP", Resource.EXPONENTIAL: "OP", Resource.CACHE: "B"}
"""Resources of a device that few devices state, and what they count."""


def analysis_statements(analysis: Analysis) -> tuple[str, ...]:
    """The conventions the numbers follow, one sentence each."""
    lines = list(analysis.step.statements)
    if analysis.device:
        roofs = dict.fromkeys(
            [(placed.data_type, placed.peak_expr) for placed in analysis.operators if placed.data_type and placed.operator.unit is None]
        )
        peaks = ", ".join(f"{name} {float(peak) / 1e12:g} TFLOP/s" for name, peak in roofs)
        bandwidth = float(analysis.device.bandwidth_figure.value) / 1e9
        ideal = ", no launch overhead" if analysis.graph.ceilings.launch == 0 and analysis.machine.calibration is None else ""
        lines.append(f"roof: {peaks} (dense), {bandwidth:g} GB/s; operators run one after the other{ideal}")
        lines += provenance(analysis.device, [name for name, _ in roofs])
    lines += _overheads(analysis)
    lines += [f"{symbol} = {typed(meant, symbols.VOCABULARY[symbol].unit)}" for symbol, meant in analysis.step.symbolic.definitions.items()]
    return tuple(lines)


def _overheads(analysis: Analysis) -> Iterator[str]:
    """What adds to the time of a plain roofline, and tokens per step if that is not one."""
    letters, ceilings = analysis.step.symbolic, analysis.graph.ceilings
    for level in levels_beside(analysis):
        bandwidth = substitute(RATE_SYMBOLS[Resource(level)], analysis.values)
        rate = f"{float(bandwidth) / 1e9:g} GB/s" if bandwidth.is_number else str(bandwidth)
        if level is Level.HOST and ceilings.fetches_ahead:
            step = "the step takes the longer of all work and all transfers"
            yield f"bytes over the host at {rate}, fetched ahead: an operator's time includes its own transfer, {step}"
            continue
        one = analysis.machine.rates.get(Resource.PEER) if level is Level.LINK else None
        peer = f", {float(one) / 1e9:g} GB/s to one device" if one is not None else ""
        yield f"bytes over the {level} at {rate}{peer}, overlapping with the operator's own work"
    stated = {letter: analysis.values[letter] for letter in LATENCIES if letter in letters.free_symbols and letter in analysis.values}
    if late := [f"{symbols.VOCABULARY[letter].name.replace('_', ' ')} {si(value)}s" for letter, value in stated.items() if value != 0]:
        yield "collectives, in addition to their bytes: " + ", ".join(late)
    rates = analysis.machine.rates
    if further := [f"{resource} {float(rates[resource]) / 1e12:g} T{unit}/s" for resource, unit in FURTHER.items() if resource in rates]:
        yield "further ceilings: " + ", ".join(further)
    yield from calibrated_statements(analysis)
    if analysis.machine.calibration and analysis.total.time_expr.is_number:
        yield band_statement(analysis.band_exprs)
    if ceilings.compute != 1 or ceilings.levels:
        factors = {"peak": ceilings.compute, **{str(level): factor for level, factor in ceilings.levels.items()}}
        yield "factors on the ceilings: " + ", ".join(f"{name} {typed(factor)}" for name, factor in factors.items())
    if letters.tokens != 1:
        tokens = analysis.graph.tokens
        seconds = analysis.total.time_expr / tokens
        numbers = f" = {float(tokens):.5g}; time per token {float(seconds) * 1e3:.5g} ms" if seconds.is_number else ""
        yield f"tokens of each sequence that a step completes: {letters.tokens}{numbers}"


def calibrated_statements(analysis: Analysis) -> Iterator[str]:
    """The measured kernels behind the times, their errors, and the operators without any."""
    if analysis.machine.calibration is None:
        return
    fitted = dict.fromkeys(placed.constants for placed in analysis if placed.constants and placed.constants.error)
    for one in fitted:
        found = one.error["all"]
        floor = f"; other collections of such rows differ by {one.floor:g} %" if one.floor else ""
        yield (
            f"calibrated {one.kernel} ({one.name}): mean error {found.mape:.1f} %, median {found.median:.1f} %, 90th percentile "
            f"{found.p90:.1f} % on {found.rows} of {one.rows} rows that were not fitted{floor}"
        )
    borrowed = [placed.name for placed in analysis if placed.constants and not placed.constants.error]
    alone = [placed.name for placed in analysis if placed.constants is None]
    if borrowed and analysis.device:
        yield f"not calibrated, at the overhead and memory share of a GEMM: {', '.join(dict.fromkeys(borrowed))}"
    if alone:
        yield f"not calibrated, at the stated ceilings: {', '.join(dict.fromkeys(alone))}"


def band_statement(band: tuple[Expr, Expr]) -> str:
    """The band of a calibrated time in words."""
    low, high = (in_units(end, "s", 4) for end in band)
    return f"band: {low} to {high}, from the mean errors of its kernels weighted by their times"


LONGEST_NUMBER = 16
"""Characters of a number up to which it is printed exactly."""


def legend(analysis: Analysis) -> tuple[str, ...]:
    """The meaning of every symbol, and its value here."""
    values = analysis.symbol_values
    return tuple(
        f"{symbol}: {symbols.VOCABULARY[symbol].meaning}" + (f" = {_short(values[symbol])}" if symbol in values else "")
        for symbol in analysis.used_symbols
    )


def letters_used(formulas: Iterable[Basic], values: Values = MappingProxyType({})) -> Lines:
    """The meaning and the value of every symbol in formulas, in one line."""
    free = set[Basic]().union(*(formula.free_symbols for formula in formulas))
    parts: list[object] = []
    for variable in sorted(
        (symbols.VOCABULARY[symbol] for symbol in symbols.VOCABULARY if symbol in free), key=lambda one: str(one.symbol).lower()
    ):
        value = f" = {_short(values[variable.symbol], variable.unit)}" if variable.symbol in values else ""
        parts += [*(["; "] if parts else []), Formula(variable.symbol), f": {variable.meaning}{value}"]
    return Lines((Words(tuple(parts)),) if parts else (), note=True)


def _short(value: Expr, unit: str = "") -> str:
    """A number as it is, if that is short; a rate or a time with its unit."""
    if unit in SHORT:
        return in_units(value, SHORT[unit], 6)
    return str(value) if len(str(value)) < LONGEST_NUMBER else f"{float(value):.6g}"


def analysis_table(analysis: Analysis, *, formulas: bool = False) -> Table:
    """Every operator of the step and the total, in numbers, or with the formulas too."""
    extra = (Column("formula_flops", "FLOP", "FLOPs"), Column("formula_bytes", "byte", "traffic")) if formulas else ()
    levels = levels_beside(analysis)
    beside = tuple(Column(f"{level}_bytes", "byte", f"over the {level}", numeric=True, rank=4) for level in levels)
    flops, traffic, seconds = analysis.total.flop_count, analysis.total.byte_count(), analysis.total.time_expr
    columns = COLUMNS if seconds.is_number else COLUMNS[:-1]  # without shares, which symbols do not have
    rows = tuple(
        row_of(placed, analysis.total)[: len(columns)]
        + tuple(shown(placed.operator.byte_count(level=level)) for level in levels)
        + (formulas_of(placed) if formulas else ())
        for placed in analysis
    )
    values = (flops, traffic, flops / traffic, flops / seconds)
    moved = (shown(Add(*(placed.count_expr * placed.operator.byte_count(level=level) for placed in analysis))) for level in levels)
    sums = ("total", None, *map(shown, values), analysis.total.bound or "depends", shown(seconds), Integer(100))
    total = (*sums[: len(columns)], *moved, *(None,) * len(extra))
    return Table(analysis_title(analysis), columns + beside + extra, rows, analysis.statements, (total,))


def analysis_title(analysis: Analysis, subject: str = "") -> str:
    """Step, or another *subject*, with device, phase and inputs."""
    options = analysis.step.options
    sizes = {"batch": options.batch, "context" if options.decode else "prompt": options.seq_len}
    given = "".join(f", {name} {size}" for name, size in sizes.items() if size is not None)
    return f"{subject or analysis.step.title} on {analysis.device.title if analysis.device else 'any device'}, {options.phase}{given}"


def headline(analysis: Analysis) -> Iterator[str | Words]:
    """The answer in a few lines: time per step and per token, throughput, what binds, whether it fits."""
    total, graph = analysis.total, analysis.graph
    if total.time_expr.is_number:
        each = "token" if graph.decode else "prompt"
        per_token = f", {in_units(total.time_expr / graph.tokens, 's', 4)} per {each}" if graph.decode else ""
        rate = total.throughput_expr
        share = f" ({amount(rate / graph.devices)} on each of {graph.devices} devices)" if graph.devices != 1 and rate.is_number else ""
        rates = f", {amount(rate)} token/s{share}" if rate.is_number else ""
        best = "" if analysis.machine.calibration else "at best: "
        yield f"{best}{in_units(total.time_expr, 's', 4)} per step{per_token}{rates}"
    else:
        free = ", ".join(sorted(map(str, total.time_expr.free_symbols)))
        yield f"the time depends on {free}, which --with can set; --formulas lists the symbols"
    if seconds := total.seconds_by_bound_exprs:
        parts = {name: 100 * float(taken / sum(seconds.values())) for name, taken in seconds.items()}
        first, *others = [(name, f"{part:.1f} %") for name, part in parts.items() if part >= LEAST or name == total.bound]
        yield f"{total.bound}-bound: {first[0]} takes {first[1]} of the time" + "".join(f", {name} {part}" for name, part in others)
    yield memory_line(analysis)
    yield from cautions(analysis.step, analysis.device, analysis.step.options.seq_len)


def cautions(step: Step, device: Device | None, length: int | None) -> Iterator[str]:
    """What to know before the numbers are used: lengths beyond those published, collectives without latency."""
    yield from step.source.beyond(length) if step.source else ()
    late = {*LATENCIES} & step.symbolic.free_symbols - {*step.symbolic.definitions}
    if device is not None and late and not late & {*device.machine.latencies}:
        yield f"{device.name} states no latency of its links: collectives take the time of their bytes alone; give it, as latency=5us"


LEAST = 0.05
"""The smallest share of the time that is listed, in percent."""

HELD = {"weight": "weights", "kv_cache": "KV cache", "activation": "activations"}


def memory_line(analysis: Analysis) -> str:
    """What the step takes in memory, part by part, and whether that fits."""
    *parts, (_, total) = analysis.memory_exprs.items()

    def size(value: Expr) -> str:
        return in_units(value, "B", 4) if value.is_number else kind_of(value)

    held = ", ".join(f"{HELD.get(name, name)} {size(value)}" for name, value in parts)
    each = " on each device" if analysis.graph.devices != 1 else ""
    capacity = analysis.device.usable_figure if analysis.device else None
    if analysis.device is None:
        verdict = ""
    elif capacity is None:
        verdict = "; the device's capacity is not stated"
    elif analysis.fits is None:
        verdict = f"; whether that fits depends on {', '.join(sorted(map(str, total.free_symbols)))}"
    else:
        share = analysis.graph.reserve.share
        used = "" if share == 1 else f"{typed(share)} of "
        verdict = f"; {'fits' if analysis.fits else 'does not fit'} {used}the {capacity_text(analysis.device)}"
    return f"memory{each}: {size(total)} ({held}){verdict}"


def conventions_of(step: Step, statements: Sequence[str], own: tuple[tuple[str, tuple[str, ...]], ...] = ()) -> Conventions:
    """The conventions of a step, and the most important of them in a line."""
    options = step.options
    widths = {"weights": options.weight_bits, "activations": options.activation_bits, "KV cache": options.kv_bits}
    bits = {value: [name for name, width in widths.items() if width == value] for value in widths.values() if value is not None}
    before = " before techniques" if step.techniques and bits else ""
    traced = bool(step.symbolic.unknown)
    brief = [
        "traced from PyTorch" if traced else f"{options.accounting} accounting",
        ", ".join(f"{value}-bit {listed(names)}" for value, names in bits.items()) + before,
        *([] if options.decode else ["causal" if options.causal else "no causal mask"]),
        "" if traced else f"logits of {'the last token' if options.lm_head == 'last' else 'all tokens'}",
        *(["attention scores through memory"] if any(operator.role is Role.SCORES for operator, _ in step.symbolic) else []),
        *([f"{options.experts.replace('-', ' ')} experts"] if symbols.E in step.symbolic.free_symbols else []),
    ]
    return Conventions(", ".join(filter(None, brief)), tuple(statements), own)


def formula_table(analysis: Analysis) -> Table:
    """Every operator's formulas, with the symbols they use."""
    columns = (Column("operator"), Column("count"), Column("FLOPs", "FLOP"), Column("traffic", "byte"))
    rows = tuple(
        (placed.name, Formula(count), *formulas_of(placed)) for placed, (_, count) in zip(analysis, analysis.step.symbolic, strict=True)
    )
    return Table("formulas of one occurrence", columns, rows, legend(analysis))


def capacity_text(device: Device) -> str:
    """The memory that a step has to fit, and whose figure that is.

    >>> from symroof.hardware.loader import load_hardware
    >>> print(capacity_text(load_hardware("h100-sxm")))
    85.52 GB that the driver reports of NVIDIA H100 SXM5 80 GB
    """
    figure = cast(Figure, device.usable_figure)
    origin = "that the driver reports of" if device.reported_figure else "of"
    return f"{si(figure.value)}B {origin} {device.title}" if device.reported_figure else f"{figure.printed} {origin} {device.title}"


def energy_table(energy: StepEnergy) -> Table:
    """Joules, FLOP per joule and watts of every operator and of the step, of one device and of all, per step and per token."""
    columns = (
        Column("name", title="operator"),
        Column("joules", "J", "energy", numeric=True),
        Column("efficiency", "FLOP/J", numeric=True),
        Column("power", "W", numeric=True),
    )

    def row(name: str, entry: OperatorEnergy) -> tuple[object, ...]:
        return name, shown(entry.joules_expr), shown(entry.flop_count / entry.joules_expr), shown(entry.joules_expr / entry.seconds_expr)

    token, made = ("generated token", "generate") if energy.analysis.graph.decode else ("token of the prompts", "are prompted with")
    several = energy.devices_expr != 1
    one, every = (", one device", f", all {plain(energy.devices_expr)} devices") if several else ("", "")
    totals = [(f"total of a step{one}", energy.total), (f"total of a {token}{one}", energy.token)]
    totals += [(f"total of a step{every}", energy.system), (f"total of a {token}{every}", energy.system_token)] if several else []
    notes = [
        f"energy balance: {energy_balance(energy.model).exact} FLOP/byte, where work and traffic cost as much",
        f"operators: all occurrences in one step{', of one device' if several else ''}; {plain(energy.tokens_expr)} tokens are what all "
        f"sequences {made} in a step",
    ]
    rows = tuple(row(entry.name, entry) for entry in energy.operators)
    return Table("energy", columns, rows, tuple(notes), tuple(row(*each) for each in totals))
