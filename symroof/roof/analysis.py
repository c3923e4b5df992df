"""A step on a device: every operator under its roof, totals, and memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from sympy import Add, Expr, Rational, S, Symbol

from symroof import symbols
from symroof.answers import Answer, view
from symroof.architectures.step import Step
from symroof.errors import DeviceError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED, SYMBOLIC, Machine
from symroof.operators import Direction, Graph, Level, Resource, Storage, of_name
from symroof.roof.costs import capacity_values, check_tiles, rate_values
from symroof.roof.ledger import device_of, machine_of, roof_of
from symroof.roof.roofline import RooflinePoint, total_time
from symroof.symbols import Values, substitute
from symroof.units import BYTE, FLOP, SECOND, TOKEN_RATE, Quantity, in_unit, quantity


@dataclass(frozen=True)
class Total(Answer):
    """Totals of the step: the sum of count x value over its operators."""

    analysis: Analysis = field(repr=False)

    @functools.cached_property
    def flop_count(self) -> Expr:
        """FLOPs, bare."""
        return self.analysis.graph.flop_count

    @functools.cached_property
    def contraction_flop_count(self) -> Expr:
        """FLOPs of contractions only, bare, as the counters of frameworks report them."""
        return self.analysis.graph.contraction_flop_count

    @functools.cached_property
    def _ledger(self) -> dict[tuple[Storage, Direction], Expr]:
        booked: dict[tuple[Storage, Direction], list[Expr]] = {}
        for placed in self.analysis:
            for (storage, direction, level), amount in placed.operator.ledger.items():
                if level is Level.MEMORY:
                    booked.setdefault((storage, direction), []).append(placed.count_expr * amount)
        return {kind: Add(*amounts) for kind, amounts in booked.items()}

    def byte_count(self, storage: Storage | None = None, direction: Direction | None = None) -> Expr:
        """Bytes, bare; of one kind or of all."""
        return Add(*[amount for (place, way), amount in self._ledger.items() if storage in (None, place) and direction in (None, way)])

    @functools.cached_property
    def time_expr(self) -> Expr:
        """Seconds, bare: operators run one after another; prefetched transfers overlap with other operators."""
        return total_time(self.analysis)

    @property
    def overhead_limit_expr(self) -> Expr:
        """The overhead per operator in seconds above which launches take longer than all else together, bare."""
        work = Add(*(placed.count_expr * placed.overhead_limit_expr for placed in self.analysis))
        return work / Add(*(placed.count_expr for placed in self.analysis))

    @functools.cached_property
    def seconds_by_bound_exprs(self) -> dict[str, Expr] | None:
        """Seconds by what binds the operators that take them, most first, bare; None while a bound or a time depends on a symbol.

        Prefetched transfers bind only the whole step ("host"), if they take longer than all work.
        """
        points, ceilings = self.analysis.operators, self.analysis.graph.ceilings
        bounds = [point.work_bound for point in points]
        if not self.time_expr.is_number or None in bounds:
            return None
        booked: dict[str, Expr] = {}
        for bound, point in zip(bounds, points, strict=True):
            booked[str(bound)] = booked.get(str(bound), S.Zero) + point.count_expr * point.work_expr
        if ceilings.fetches_ahead and self.time_expr > Add(*booked.values()):
            return {str(Resource.HOST): self.time_expr}
        return dict(sorted(booked.items(), key=lambda entry: -entry[1]))

    @property
    def bound(self) -> str | None:
        """What binds the step: the resource that most of its time goes to; None while that depends on a symbol.

        >>> import symroof
        >>> step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
        >>> symroof.analyze(step, "a100-sxm-80gb").total.bound
        'memory'
        """
        return next(iter(self.seconds_by_bound_exprs), None) if self.seconds_by_bound_exprs else None

    @property
    def throughput_expr(self) -> Expr:
        """Tokens a second, of all sequences and on all devices, bare: generated ones, in prefill those of the prompts."""
        return substitute(self.analysis.graph.token_count, self.analysis.values) / self.time_expr

    @functools.cached_property
    def work_expr(self) -> Expr:
        """Seconds of all operators one after another, without what is prefetched under the work of others, bare."""
        return Add(*[point.count_expr * point.work_expr for point in self.analysis])

    def share(self, point: RooflinePoint) -> Expr:
        """The part of the time that an operator takes with all its occurrences; of several at once, of the sum of their times."""
        return point.count_expr * point.work_expr / self.work_expr

    seconds_by_bound = in_unit(lambda total: total.seconds_by_bound_exprs, SECOND, "`seconds_by_bound_exprs`, as Quantities in seconds.")
    throughput = in_unit(lambda total: total.throughput_expr, TOKEN_RATE, "`throughput_expr`, as a Quantity in token/second.")
    flops = in_unit(lambda total: total.flop_count, FLOP, "FLOPs, as a Quantity in FLOP.")
    traffic = in_unit(lambda total: total.byte_count(), BYTE, "Memory traffic, as a Quantity in bytes.")
    overhead_limit = in_unit(
        lambda total: total.overhead_limit_expr, SECOND, "The overhead per operator above which launches decide, as a Quantity in seconds."
    )
    time = in_unit(lambda total: total.time_expr, SECOND, "Time, as a Quantity in seconds.")


@dataclass(frozen=True)
class Analysis(Answer):
    """A step on a device, or under a symbolic roof.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(
    ...     batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> analysis = symroof.analyze(step, "a100-sxm-80gb")
    >>> analysis["gate_proj"].bound, analysis["gate_proj"].data_type
    ('memory', 'fp16')
    >>> print(analysis["gate_proj"].intensity)
    0.9997 FLOP/byte
    """

    step: Step
    device: Device | None
    graph: Graph = field(repr=False)
    operators: tuple[RooflinePoint, ...] = field(repr=False)
    values: Values = field(repr=False)
    machine: Machine = field(default=SYMBOLIC, repr=False)

    def __iter__(self) -> Iterator[RooflinePoint]:
        return iter(self.operators)

    def __getitem__(self, name: str) -> RooflinePoint:
        return of_name(self.operators, name)

    @functools.cached_property
    def total(self) -> Total:
        """Sums over the whole step."""
        return Total(self)

    @functools.cached_property
    def memory_exprs(self) -> dict[str, Expr]:
        """Bytes of weights, KV cache and activations, and their sum, bare."""
        parts = self.graph.memory_exprs()
        return parts | {"total": Add(*parts.values())}

    @property
    def memory(self) -> dict[str, Quantity]:
        """Memory of weights, KV cache and activations, and their sum, as Quantities in bytes."""
        return {name: quantity(value, BYTE) for name, value in self.memory_exprs.items()}

    @property
    def fits(self) -> bool | None:
        """Whether the memory fits the device; None if the capacity or the size is not known."""
        capacity = self.device.usable_figure if self.device else None
        needed = self.memory_exprs["total"]
        return bool(needed <= self.graph.room(capacity.value)) if capacity and needed.is_number else None

    @property
    def uncalibrated(self) -> tuple[str, ...]:
        """The operators without a measured kernel; all operators if the ceilings are not calibrated."""
        return tuple(placed.name for placed in self if placed.constants is None or not placed.constants.error)

    @functools.cached_property
    def band_exprs(self) -> tuple[Expr, Expr]:
        """Seconds of the step minus and plus the mean errors of its kernels, each weighted by its time, bare.

        Operators without a known error add none: the band covers only the others.
        """
        known = [(placed, placed.constants.error["all"]) for placed in self if placed.constants and "all" in placed.constants.error]
        spread = Add(*(placed.count_expr * placed.time_expr * Rational(str(error.mape)) / 100 for placed, error in known))
        return self.total.time_expr - spread, self.total.time_expr + spread

    @property
    def band(self) -> dict[str, Quantity]:
        """The least and the longest time within the mean errors of the kernels, "low" and "high", as Quantities in seconds.

        >>> import symroof
        >>> step = symroof.load_model("llama-2-7b").decode(
        ...     batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16, flash_attention=True)
        >>> band = symroof.analyze(step, "a100-sxm-80gb", ceilings="calibrated").band
        >>> [round(float(end.to("ms").magnitude), 1) for end in band.values()]
        [11.6, 13.3]
        """
        return {name: quantity(end, SECOND) for name, end in zip(("low", "high"), self.band_exprs, strict=True)}

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions of the numbers, one sentence each."""
        return view("analysis_statements")(self)

    @functools.cached_property
    def used_symbols(self) -> tuple[Symbol, ...]:
        """The symbols of the formulas, in alphabetical order."""
        graph = self.step.symbolic
        parts = [part for op, count in graph for part in (op.flop_count, *op.bytes_by_level.values(), count)]
        used = set().union(*[part.free_symbols for part in (*parts, *graph.definitions.values())])
        return tuple(sorted([symbol for symbol in used if isinstance(symbol, Symbol)], key=str))

    @property
    def symbol_values(self) -> dict[Symbol, Expr]:
        """The value of each symbol that has one."""
        return {symbol: value for symbol in self.used_symbols if (value := self.values.get(symbol)) is not None}

    @property
    def legend(self) -> tuple[str, ...]:
        """The meaning and the value of each symbol."""
        return view("legend")(self)


def analyze(step: Step, hardware: Device | str | Path | None = None, *, ceilings: str = STATED) -> Analysis:
    """The roofline of a step on a device.

    Parameters
    ----------
    step : from `Model.prefill` or `Model.decode`; on a device omitted widths have defaults (`Options.with_widths`).
    hardware : a `Device`, a name or a path; None keeps peak P and bandwidth BW as symbols.
    ceilings : "classic" (matrix peak and memory bandwidth), "stated" (every rate the device states) or "calibrated" (the share
        that measured kernels reach; see `Analysis.band` and `Analysis.uncalibrated`). The accountings of other tools are always
        classic.

    Raises
    ------
    DeviceError
        The device lacks a calibration, a peak, or the on-chip buffer that determines FlashAttention's blocks.
    EinsumError
        A technique leaves a width symbolic, and the peak depends on it.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(symroof.analyze(step)["v_proj"].time)
    Max((a*b*d/8 + b*c*e*k/8 + d*e*k*w/8)/BW, 2*b*d*e*k/P) s
    """
    device, accounting, symbolic = device_of(hardware), step.options.accounting, step.symbolic
    step = step.with_widths() if device else step
    machine = machine_of(symbolic, device, ceilings, accounting=accounting)
    values: dict[Symbol, Expr] = dict(step.values)
    if device:
        values |= rate_values(step, machine) | capacity_values(step, device)
    if device and device.buffer_expr is None and symbols.R in symbolic.definitions and symbolic.definitions[symbols.R].has(symbols.M):
        raise DeviceError(f"device {quote(device.name)} states no on-chip buffer, which determines FlashAttention's block rows")
    check_tiles(step, device, values)
    graph = symbolic.bind(values)
    values |= {symbol: value for symbol, value in graph.definitions.items() if value.is_number}
    bound = machine.bind(values) if any(map(attrgetter("free_symbols"), machine.rates.values())) else machine
    points = [
        RooflinePoint(operator, formulas, count, *roof_of(graph, operator, bound, accounting), graph.ceilings, bound)
        for (operator, count), (formulas, _) in zip(graph, symbolic, strict=True)
    ]
    return Analysis(step, device, graph, tuple(points), values, machine)
