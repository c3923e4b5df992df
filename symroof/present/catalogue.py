"""The tables of `symroof models`, `symroof devices` and `symroof describe`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from symroof import symbols
from symroof.architectures.config import catalogue as model_names
from symroof.architectures.config import parse, variants
from symroof.architectures.model import Model, load_model
from symroof.architectures.options import Options
from symroof.conventions import BITS
from symroof.errors import DeviceError, InputError, nearest, quote
from symroof.hardware.device import BUFFER, CACHE, Device, Figure, Target
from symroof.hardware.loader import catalogue as device_names
from symroof.hardware.loader import load_hardware
from symroof.notation import compact, latex
from symroof.present.formats.breaking import LINE, em
from symroof.present.formats.sections import Lines, Source
from symroof.present.records import model_record
from symroof.present.report import Report
from symroof.present.tabular import Column, Formula, Table, aligned_lines, latex_text

SIXTEEN = ("fp16", "bf16")


def model_table(part: str = "") -> Table:
    """Every model in models/ whose name, hub name or family contains *part*; with a part also variants with such a name.

    Raises
    ------
    InputError
        There is none.
    """
    columns = (
        Column("name", fixed=True),
        Column("hub_name", title="hub name", rank=5),
        Column("family", rank=1),
        Column("layers", rank=2),
        Column("hidden", rank=3),
        Column("parameters", numeric=True),
        Column("active", numeric=True),
        Column("kv_bytes_per_token", "byte", "KV per token", numeric=True),
        Column("window_bytes", "byte", "in windows", numeric=True, rank=6),
        Column("state_bytes", "byte", "state", numeric=True, rank=6),
        Column("licence", title="licence of the weights", rank=7),
    )
    rows = []
    named = {name: path for name, path in variants().items() if part and part.lower() in parse(path)["_name_or_path"].lower()}
    for name, path in (model_names() | named).items():
        model, content = load_model(name), parse(path)
        family = model.architecture.family
        if not any(part.lower() in text.lower() for text in (name, content["_name_or_path"], family)):
            continue
        record = model_record(model, BITS, BITS)
        sizes = model.architecture.dimensions
        counts = (record["parameters"]["total"], record["active_parameters"])
        kept = (record["kv_bytes_per_token"], record["window_bytes"] or None, record["state_bytes"] or None)
        rows.append((name, content["_name_or_path"], family, model.layers, sizes[symbols.d], *counts, *kept, content["_license"]))
    if not rows:
        raise InputError(f"no model's name or family contains {quote(part)}: {nearest(part, model_names())}")
    notes = (
        "parameters: a tied tensor once; active: those that one token meets, the embedding table in full",
        f"KV per token: growth of the cache per token of one sequence at {BITS} bits, while the context is within every window",
        "in windows: the most that layers with a sliding window keep; state: what recurrent layers keep, whatever the context",
        "NAME@vision: the vision encoder of a model that has one",
        f"{len(variants())} variants of them, instruct and quantized, have names too: a part of a name lists those that contain it",
    )
    return Table("models", columns, tuple(rows), notes)


def device_report(name: str | None) -> Report:
    """What `symroof devices` prints: one device, or those whose name contains *name*; narrow for people, all there is in data files.

    Raises
    ------
    DeviceError
        There is no such device, none whose name contains that, or a file is malformed.
    """
    if name is None:
        return _listing(tuple(device_names()), "/")
    part = name.lower()
    found = [one for one in device_names() if part in one.lower()]
    if len(found) > 1 and name not in found:  # a short form means one of them elsewhere; here all that have it in their names
        return _listing(found)
    try:
        return _figures(load_hardware(name))
    except DeviceError:
        titled = [one for one in device_names() if part in one.lower() or part in load_hardware(one).title.lower()]
        if not titled:
            raise
        return _listing(titled)


def _listing(names: Iterable[str], left_out: str | None = None) -> Report:
    """The devices; for people without those in whose name a text stands, and in columns that fit a terminal."""
    table = device_table(names)
    short = {"dense_16_bit": "16 bits", "dense_8_bit": "8 bits", "ridge_16_bit": "ridge"}
    places = [place for place, column in enumerate(table.columns) if column.key not in ("device", "source")]
    columns = tuple(
        replace(table.columns[place], title=short.get(table.columns[place].key, table.columns[place].title)) for place in places
    )
    columns = tuple(replace(column, unit="") if column.title == "ridge" else column for column in columns)
    rows = tuple(tuple(row[place] for place in places) for row in table.rows if left_out is None or left_out not in row[0])
    notes = (*table.notes, "ridge: 16-bit peak over bandwidth, in FLOP/byte")
    if len(rows) < len(table.rows):
        notes = (*notes, "`symroof devices PART` lists those whose name contains PART: `symroof devices survey` the survey's twelve")
    return Report((Table(table.title, columns, rows, notes),), record=table.records, data=lambda: table)


def device_table(names: Iterable[str] | None = None) -> Table:
    """Every device of the catalogue, or these."""
    columns = (
        Column("name", fixed=True),
        Column("device"),
        Column("dense_16_bit", "FLOP/s", "16-bit peak, dense", numeric=True),
        Column("dense_8_bit", "FLOP/s", "8-bit peak, dense", numeric=True),
        Column("bandwidth", "byte/s", numeric=True),
        Column("ridge_16_bit", "FLOP/byte", "ridge at 16 bits", numeric=True),
        Column("capacity", "byte", "memory", numeric=True),
        Column("power", "W", numeric=True),
        Column("source"),
    )
    rows = tuple(_device_row(name, load_hardware(name)) for name in names or device_names())
    notes = (
        "dense matrix peaks, FP32 accumulation; structured sparsity doubles some of them and is never assumed",
        "memory as the vendor prints it, GB of 1e9 bytes; `symroof devices NAME` shows every figure of one device with its source",
    )
    return Table("devices", columns, rows, notes)


def _device_row(name: str, device: Device) -> tuple[Any, ...]:
    known = [kind for kind in (*SIXTEEN, "fp32") if kind in device.peaks]
    sixteen = device.machine.fastest(known)[1] if known else None
    eight = [device.peaks[kind].dense.value for kind in ("fp8", "int8") if kind in device.peaks]
    bandwidth = device.bandwidth_figure
    capacity = device.capacity_figure.value if device.capacity_figure else None
    power = device.tdp.value if device.tdp else None
    source = f"{bandwidth.source.publisher}, {bandwidth.source.date}" if bandwidth.source else "not stated"
    if any("derived" in peak.dense.note.lower() or " x " in peak.dense.note for peak in device.peaks.values()):
        source += "; peaks derived"
    ridge = sixteen and sixteen / bandwidth.value
    return name, device.title, sixteen, max(eight, default=None), bandwidth.value, ridge, capacity, power, source


def figures_of(device: Device) -> tuple[tuple[str, Figure, str], ...]:
    """Every figure that a device's file states: its name, its value, and what there is to know in addition to its note."""
    figures: list[tuple[str, Figure | None, str]] = [("processors", device.processors_figure, ""), ("clock", device.clock, "")]
    for kind, peak in device.peaks.items():
        clock = f"at {peak.clock.printed}" if peak.clock else ""
        figures += [(f"{kind} peak, dense", peak.dense, clock), (f"{kind} peak, sparse", peak.sparse, clock)]
        figures.append((f"{kind} peak, dense", peak.half_accumulation, "FP16 accumulation"))
        figures.append((f"{kind} peak, sparse", peak.half_accumulation_sparse, "FP16 accumulation"))
    figures += [("vector units", device.vector, ""), ("exponentials per second", device.exponential, "")]
    printed = "what fits follows the one that the driver reports" if device.reported_figure else ""
    figures += [("memory bandwidth", device.bandwidth_figure, ""), ("memory capacity", device.capacity_figure, printed)]
    figures.append(("memory capacity reported", device.reported_figure, ""))
    roles = {BUFFER: "holds a kernel's tiles", CACHE: "last cache before memory"}
    for level in device.on_chip:
        times = f" x {level.instances}" if level.instances > 1 else ""
        figures.append((f"{level.name}{times}", level.capacity, roles.get(level.role, "")))
        figures.append((f"{level.name}, bandwidth", level.bandwidth, "of one" if times else ""))
    for link in device.links:
        ways = "both ways together" if link.direction == "total" else "each way"
        reached = f", {link.peers} reached{' and others through them' if link.passes_on else ''}" if link.peers else ""
        figures.append((link.name, link.bandwidth, f"to {TARGETS[link.to]}{reached}, {ways}"))
        figures.append((f"{link.name}, one peer", link.per_peer, ways))
        figures += [
            (f"{link.name}, collective overhead", link.overhead, ""),
            (f"{link.name}, latency per collective step", link.latency, ""),
        ]
        figures.append((f"{link.name}, send and all-to-all overhead", link.exchange_overhead, ""))
        figures.append((f"{link.name}, send and all-to-all latency per peer", link.exchange_latency, ""))
    figures.append(("thermal design power", device.tdp, ""))
    return tuple((what, figure, remark) for what, figure, remark in figures if figure)


TARGETS = {Target.HOST: "the host", Target.DEVICE: "other devices", Target.NETWORK: "the network"}


def _figures(device: Device) -> Report:
    title, notes = f"{device.name}: {device.title}", (device.note,) if device.note else ()
    columns = (Column("figure"), Column("value", title="as printed"), Column("source"), Column("note"))
    figures = [
        (what, figure.printed, _cited(figure), "; ".join(filter(None, (remark, figure.note))))
        for what, figure, remark in figures_of(device)
    ]
    whole = Table(title, columns, tuple(figures), notes)
    places = {cited: place for place, cited in enumerate(dict.fromkeys(row[2] for row in figures), 1)}
    rows = tuple((what, printed, f"[{places[cited]}]", note) for what, printed, cited, note in figures)
    sources = tuple(f"[{place}] {cited}" for cited, place in places.items())
    return Report((Table(title, columns, rows, notes), Lines(sources)), record=whole.records, data=lambda: whole)


def _cited(figure: Figure) -> str:
    source = figure.source
    return f"{source.publisher}: {source.title}, {source.date}, {source.url}" if source else "not stated"


def model_report(model: Model, weight_bits: int | None, kv_bits: int) -> Report:
    """What `symroof describe` prints: dimensions, parameters, bytes, the block in LaTeX."""
    record = model_record(model, weight_bits, kv_bits)
    letters = {variable.name: variable for variable in symbols.VOCABULARY.values()}
    sizes = tuple((str(letters[name].symbol), letters[name].meaning, str(value)) for name, value in record["dimensions"].items())
    parameters = tuple((name, f"{value:,}", f"{value / record['parameters']['total']:.2%}") for name, value in record["parameters"].items())
    record_bits = f"at {record['kv_bits']} bits"
    more = (
        ("KV cache per token beyond the window", "kv_bytes_per_token_beyond_window", record["window_bytes"]),
        ("kept by layers with a window, at most", "window_bytes", record["window_bytes"]),
        ("state of recurrent layers", "state_bytes", record["state_bytes"]),
    )
    scales = f" and {record['scale_bits']:.4g} of scales" if record["scale_bits"] else ""
    memory = (
        (f"weights at {record['weight_bits']} bits{scales}", f"{record['weight_bytes']:,}", record["formulas"]["weight_bytes"]),
        (f"KV cache per token at {record['kv_bits']} bits", f"{record['kv_bytes_per_token']:,}", record["formulas"]["kv_bytes_per_token"]),
        *((f"{what} {record_bits}", f"{record[key]:,}", "") for what, key, there in more if there),
    )
    active = (record["active_parameters"], record["active_parameters_without_embedding"])
    routed = active[0] != record["parameters"]["total"]
    said = f"active per token: {active[0]:,} parameters, {active[1]:,} without the token embedding"
    notes = (f"config: {model.origin}", *([said] if routed else []), *record["notes"])
    phase = "decode" if model.architecture.generative else "prefill"
    counted = Column("value", numeric=True)
    inputs = ("b", "t" if phase == "decode" else "s", "w", "a", "c")
    legend = ", ".join(f"{letter} {symbols.lookup(letter).meaning}" for letter in inputs)
    return Report(
        (
            Table(f"{model.name} ({record['family']})", (Column("symbol"), Column("dimension"), counted), sizes, notes),
            Table("parameters", (Column("part"), Column("number", numeric=True), Column("share", numeric=True)), parameters),
            Table("memory", (Column("what"), Column("bytes", "byte", numeric=True), Column("formula", "byte")), memory),
            Source(f"The layer in LaTeX, needs amsmath ({phase}, F in FLOP, B in byte; {legend}; the rest above):", block_latex(model)),
        ),
        record=lambda: record,
    )


def block_latex(model: Model) -> str:
    r"""FLOPs and traffic of every operator of one layer of each kind, as a LaTeX align environment.

    >>> print(block_latex(load_model("opt-125m")).splitlines()[2])
    \text{q\_proj}: && F &= 2 b d e h & B &= \frac{a b d + a b e h + d e h w + e h w}{8} \\
    """
    graph = model.step(Options("decode" if model.architecture.generative else "prefill"), symbolic=True).symbolic
    operators = [op for block in graph.blocks if block.name not in ("embedding", "head") for op in block.operators]
    costs = [(latex(compact(op.flop_count)), latex(compact(op.byte_count()))) for op in operators]
    room = LINE - max(len(op.name) for op in operators) / 2
    side_by_side = max(em(flops) for flops, _ in costs) + max(em(traffic) for _, traffic in costs) < room - 6
    gap = "&" if side_by_side else r"\\ &&"
    return aligned_lines(
        rf"\text{{{latex_text(op.name)}}}: && F &= {flops} {gap} B &= {traffic}"
        for op, (flops, traffic) in zip(operators, costs, strict=True)
    )


def symbol_table(part: str = "") -> Table:
    """Every symbol whose letter is *part*, or whose name or meaning contains it.

    Raises
    ------
    InputError
        There is none.

    >>> print(symbol_table("memory bandwidth").csv().splitlines()[1])
    BW,bandwidth,memory bandwidth,byte/second,real
    """
    known = symbols.VOCABULARY.values()
    shown = [one for one in known if part == str(one.symbol) or part.lower() in f"{one.name}\n{one.meaning}".lower()]
    if not shown:
        raise InputError(f"no symbol {quote(part)}; {nearest(part, [name for one in known for name in (str(one.symbol), one.name)])}")
    columns = (
        Column("symbol", fixed=True),
        Column("name", fixed=True),
        Column("meaning"),
        Column("unit", rank=1),
        Column("domain", rank=2),
    )
    return Table("symbols", columns, tuple((Formula(one.symbol), one.name, one.meaning, one.unit, one.domain) for one in shown))
