"""A whole step on a device: every operator under its roof, their sums, memory, and the tables that show them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sympy import Add, Expr, Symbol

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import DeviceError, EinsumError, nearest, quote
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.operators.facts import COMMUNICATION
from symroof.operators.graph import Graph
from symroof.operators.operator import Direction, Operator
from symroof.operators.tensor import Storage
from symroof.roof.ceilings import BANDWIDTH, bandwidths, shown_bandwidth
from symroof.roof.roofline import RooflinePoint
from symroof.roof.rows import COLUMNS, formulas_of, levels_beside, provenance, row_of, shown
from symroof.roof.tiles import check_tiles
from symroof.symbols import Values, substitute
from symroof.tabular import Column, Formula, Table
from symroof.units import BYTE, FLOP, SECOND, quantity


@dataclass(frozen=True)
class Total:
    """The whole step: the sum of count x value over its operators."""

    analysis: Analysis = field(repr=False)

    def _sum(self, value: Callable[[RooflinePoint], Expr]) -> Expr:
        return Add(*(placed.count * value(placed) for placed in self.analysis))

    @property
    def flop_count(self) -> Expr:
        """FLOPs, bare."""
        return self._sum(lambda placed: placed.operator.flop_count)

    @property
    def contraction_flop_count(self) -> Expr:
        """FLOPs of the contractions alone, bare: what the counters of frameworks count."""
        return self._sum(lambda placed: placed.operator.contraction_flop_count)

    def byte_count(self, storage: Storage | None = None, direction: Direction | None = None) -> Expr:
        """Bytes, bare; of one kind or of all."""
        return self._sum(lambda placed: placed.operator.byte_count(storage, direction))

    @property
    def time_expr(self) -> Expr:
        """Seconds, bare: operators run one after the other."""
        return self._sum(lambda placed: placed.time_expr)

    @property
    def flops(self):
        """FLOPs, as a Quantity."""
        return quantity(self.flop_count, FLOP)

    @property
    def traffic(self):
        """Memory traffic, as a Quantity in bytes."""
        return quantity(self.byte_count(), BYTE)

    @property
    def time(self):
        """Time, as a Quantity in seconds."""
        return quantity(self.time_expr, SECOND)


@dataclass(frozen=True)
class Analysis:
    """A step on a device, or under a symbolic roof.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(
    ...     batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> analysis = symroof.analyze(step, "a100-sxm-80gb")
    >>> analysis["gate_proj"].bound, analysis["gate_proj"].data_type
    ('memory', 'fp16')
    >>> print(analysis["gate_proj"].intensity)
    176128/176187 flop / byte
    """

    step: Step
    device: Device | None
    graph: Graph = field(repr=False)
    operators: tuple[RooflinePoint, ...] = field(repr=False)
    values: Values = field(repr=False)

    def __iter__(self) -> Iterator[RooflinePoint]:
        return iter(self.operators)

    def __getitem__(self, name: str) -> RooflinePoint:
        named = {placed.name: placed for placed in self.operators}
        if name not in named:
            raise EinsumError(f"{quote(name)} is not an operator of this step: {nearest(name, named)}")
        return named[name]

    @property
    def total(self) -> Total:
        """Sums over the whole step."""
        return Total(self)

    @functools.cached_property
    def memory_exprs(self) -> dict[str, Expr]:
        """Bytes of weights, KV cache and activations, and their sum, bare."""
        graph = self.graph
        parts = {"weight": graph.weight_memory(), "kv_cache": graph.kv_memory(), "activation": graph.activation_memory()}
        return parts | {"total": Add(*parts.values())}

    @property
    def memory(self) -> dict[str, object]:
        """Memory taken by weights, KV cache and activations, and their sum, as Quantities in bytes."""
        return {name: quantity(value, BYTE) for name, value in self.memory_exprs.items()}

    @property
    def fits(self) -> bool | None:
        """Whether the memory fits the device; None where the capacity or the size is not known."""
        capacity = self.device.capacity_figure if self.device else None
        needed = self.memory_exprs["total"]
        return bool(needed <= capacity.value) if capacity and needed.is_number else None

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions the numbers follow, one sentence each."""
        lines = list(self.step.statements)
        if self.device:
            roofs = dict.fromkeys(
                (placed.data_type, placed.peak) for placed in self.operators if placed.data_type and placed.operator.unit is None
            )
            peaks = ", ".join(f"{name} {float(peak) / 1e12:g} TFLOP/s" for name, peak in roofs)
            bandwidth = float(self.device.bandwidth_figure.value) / 1e9
            lines.append(f"roof: {peaks} (dense), {bandwidth:g} GB/s; operators run one after the other{self._ideal}")
            lines += provenance(self.device, [name for name, _ in roofs])
        lines += self._overheads()
        lines += [f"{symbol} = {definition}" for symbol, definition in self.step.symbolic.definitions.items()]
        return tuple(lines)

    @property
    def _ideal(self) -> str:
        return ", no launch overhead" if self.graph.ceilings.launch == 0 else ""

    def _overheads(self) -> Iterator[str]:
        """What the time has that a plain roofline has not, and tokens per step where it is not one."""
        letters, ceilings = self.step.symbolic, self.graph.ceilings
        for level in levels_beside(self):
            bandwidth = substitute(BANDWIDTH[level], self.values)
            yield f"bytes over the {level} at {shown_bandwidth(bandwidth)}, overlapping with the operator's own work"
        if ceilings.compute != 1 or ceilings.levels:
            factors = {"peak": ceilings.compute, **{str(level): factor for level, factor in ceilings.levels.items()}}
            yield "factors on the ceilings: " + ", ".join(f"{name} {factor}" for name, factor in factors.items())
        if letters.tokens != 1:
            tokens = self.graph.tokens
            seconds = self.total.time_expr / tokens
            told = f" = {float(tokens):.5g}; time per token {float(seconds) * 1e3:.5g} ms" if seconds.is_number else ""
            yield f"tokens of each sequence that a step completes: {letters.tokens}{told}"

    def table(self, *, formulas: bool = False) -> Table:
        """Every operator of the step and the total, in numbers, or with the formulas too."""
        extra = (Column("formula_flops", "FLOP", "FLOPs"), Column("formula_bytes", "byte", "traffic")) if formulas else ()
        levels = levels_beside(self)
        beside = tuple(Column(f"{level}_bytes", "byte", f"over the {level}", numeric=True) for level in levels)
        rows = tuple(
            row_of(placed)
            + tuple(shown(placed.operator.byte_count(level=level)) for level in levels)
            + (formulas_of(placed) if formulas else ())
            for placed in self
        )
        flops, traffic, seconds = self.total.flop_count, self.total.byte_count(), self.total.time_expr
        values = (flops, traffic, flops / traffic, flops / seconds)
        moved = (shown(Add(*(one.count * one.operator.byte_count(level=level) for one in self))) for level in levels)
        total = ("total", None, *map(shown, values), None, shown(seconds), *moved, *(None,) * len(extra))
        title = f"{self.step.title} on {self.device.title if self.device else 'any device'}, {self.step.options.phase}"
        return Table(title, COLUMNS + beside + extra, rows, self.statements, (total,))

    def formula_table(self) -> Table:
        """Every operator's formulas, with the letters they use."""
        columns = (Column("operator"), Column("count"), Column("FLOPs", "FLOP"), Column("traffic", "byte"))
        rows = tuple((placed.name, Formula(letters_count), *formulas_of(placed)) for placed, letters_count in self._with_letters())
        return Table("formulas of one occurrence", columns, rows, self.legend)

    def memory_table(self) -> Table:
        """Weights, KV cache, activations, their sum, and whether that fits the device."""
        columns = (Column("memory"), Column("bytes", "byte", "size", numeric=True))
        rows = tuple((name.replace("_", " "), shown(value)) for name, value in self.memory_exprs.items())
        verdict = {True: "fits the {} of {}", False: "does not fit the {} of {}"}.get(self.fits) if self.fits is not None else None
        if verdict is None or self.device is None or self.device.capacity_figure is None:
            return Table("memory", columns, rows, ("the device's capacity is not stated",) if self.device else ())
        return Table("memory", columns, rows, (verdict.format(self.device.capacity_figure.printed, self.device.title),))

    def _with_letters(self) -> Iterator[tuple[RooflinePoint, Expr]]:
        return zip(self.operators, (count for _, count in self.step.symbolic), strict=True)

    @property
    def used_symbols(self) -> tuple[Symbol, ...]:
        """The letters the formulas use, in alphabetical order."""
        letters = self.step.symbolic
        parts = (part for op, count in letters for part in (op.flop_count, *(op.byte_count(level=level) for level in op.levels), count))
        used = set().union(*(part.free_symbols for part in (*parts, *letters.definitions.values())))
        return tuple(sorted((symbol for symbol in used if isinstance(symbol, Symbol)), key=str))

    @property
    def symbol_values(self) -> dict[Symbol, Expr]:
        """The number each letter stands for here, as far as it has one."""
        return {symbol: value for symbol in self.used_symbols if (value := self.values.get(symbol)) is not None}

    @property
    def legend(self) -> tuple[str, ...]:
        """What each letter means, and its number here."""
        values = self.symbol_values
        return tuple(
            f"{symbol}: {symbols.VOCABULARY[symbol].meaning}" + (f" = {values[symbol]}" if symbol in values else "")
            for symbol in self.used_symbols
        )

    def _repr_html_(self) -> str:
        return self.table(formulas=True).html()

    def _repr_latex_(self) -> str:
        return self.table(formulas=True).latex()

    def __rich__(self) -> Table:
        return self.table()


def analyze(step: Step, hardware: Device | str | Path | None = None) -> Analysis:
    """The roofline of a step on a device.

    Parameters
    ----------
    step : from `Model.prefill` or `Model.decode`.
    hardware : a `Device`, a name or a path; None keeps peak P and bandwidth BW as symbols.

    Raises
    ------
    DeviceError
        The device lacks a peak that is needed, or the buffer FlashAttention's blocks follow from.
    EinsumError
        A width is left a symbol: which peak applies depends on it.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(symroof.analyze(step)["v_proj"].time)
    Max((a*b*d/8 + b*c*e*k/8 + d*e*k*w/8)/BW, 2*b*d*e*k/P) second
    """
    device = hardware if isinstance(hardware, Device) or hardware is None else load_hardware(hardware)
    values: Values = (
        dict(step.values) | ({symbols.M: device.buffer} if device and device.buffer else {}) | bandwidths(step.symbolic, device)
    )
    if device and device.buffer is None and symbols.R in step.symbolic.definitions:
        raise DeviceError(f"device {quote(device.name)} states no on-chip buffer; FlashAttention's block rows follow from it")
    check_tiles(step, device, values)
    graph = step.symbolic.bind(values)
    placed = tuple(
        _place(graph, operator, letters, count, device, step.options.accounting, values)
        for (operator, count), (letters, _) in zip(graph, step.symbolic, strict=True)
    )
    return Analysis(step, device, graph, placed, {**values, **{key: value for key, value in graph.definitions.items() if value.is_number}})


def _place(
    graph: Graph, operator: Operator, symbolic: Operator, count: Expr, device: Device | None, accounting: str, values: Values
) -> RooflinePoint:
    known = {**values, **{symbol: value for symbol, value in graph.definitions.items() if value.is_number}}
    unit = operator.unit or device
    if unit is None:
        return RooflinePoint(operator, symbolic, count, "", symbols.P, symbols.BW, graph.ceilings, known)
    if operator.kind in COMMUNICATION:
        return RooflinePoint(operator, symbolic, count, "", symbols.P, unit.memory_bandwidth, graph.ceilings, known)
    try:
        data_type, peak = unit.fastest(graph.data_types(operator), sparse=operator.sparse)
    except DeviceError as error:
        if accounting == "exact":
            raise
        raise DeviceError(f"{error}; accounting {accounting!r} asks for it, 'exact' takes the fastest type that is wide enough") from None
    return RooflinePoint(operator, symbolic, count, data_type, peak, unit.memory_bandwidth, graph.ceilings, known)
