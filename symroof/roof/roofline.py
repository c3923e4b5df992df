"""The roofline of one step on one device: ``time = max(FLOPs / peak, bytes / bandwidth)``."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sympy import Add, Expr, Max, Min, S, nan, oo

from symroof.hardware.calibration import KernelConstants
from symroof.hardware.machine import SYMBOLIC, Machine
from symroof.operators import IDEAL, Ceilings, Direction, Operator, Resource, Storage
from symroof.roof.kernel_forms import constants_of
from symroof.roof.ledger import binding, combined, overhead, own, runs_on, seconds_of, step_time, time_of
from symroof.units import BYTE, FLOP, INTENSITY, RATE, SECOND, in_unit

MEMORY, COMPUTE = "memory", "compute"

TRAFFIC = {
    "weight_read": (Storage.WEIGHT, Direction.READ),
    "activation_read": (Storage.ACTIVATION, Direction.READ),
    "activation_write": (Storage.ACTIVATION, Direction.WRITE),
    "kv_read": (Storage.KV_CACHE, Direction.READ),
    "kv_write": (Storage.KV_CACHE, Direction.WRITE),
}
"""The kinds of traffic as outputs name them; together they are all of it."""


def attainable(intensity: Expr, peak: Expr, bandwidth: Expr) -> Expr:
    """Attainable performance, ``min(peak, intensity x bandwidth)``, in FLOP/s.

    >>> from symroof.symbols import P, BW
    >>> from sympy import Integer
    >>> attainable(Integer(1), P, BW)
    Min(BW, P)
    """
    return Min(peak, intensity * bandwidth)


def time(flops: Expr, traffic: Expr, peak: Expr, bandwidth: Expr) -> Expr:
    """``max(FLOPs / peak, bytes / bandwidth)``, in seconds; a number if all four are.

    >>> from symroof.symbols import P, BW
    >>> from sympy import Integer
    >>> time(Integer(2), Integer(8), P, BW)
    Max(8/BW, 2/P)
    """
    return Max(flops / peak, traffic / bandwidth)


def bound(flops: Expr, traffic: Expr, peak: Expr, bandwidth: Expr) -> str | None:
    """Return "memory" where FLOPs / peak < bytes / bandwidth, else "compute"; None while that depends on a symbol."""
    slack = flops * bandwidth - traffic * peak
    if not slack.is_number:
        return None
    return MEMORY if slack < 0 else COMPUTE


@dataclass(frozen=True)
class RooflinePoint:
    """One operator under the roof that applies to it.

    Attributes
    ----------
    operator : bound to the step's numbers.
    symbolic : the same operator with every dimension a symbol.
    count : how often the model repeats it.
    data_type : what it runs in, which decides the peak; empty while the peak is a symbol.
    peak : FLOP/s, bare; as stated.
    ceilings : factors on the rates, launch overhead, overlap.
    machine : the step's; the operator may have a unit of its own.
    """

    operator: Operator
    symbolic: Operator = field(repr=False)
    count: Expr
    data_type: str
    peak: Expr
    ceilings: Ceilings = field(default=IDEAL, repr=False)
    machine: Machine = field(default=SYMBOLIC, repr=False)

    @property
    def name(self) -> str:
        """The operator's name."""
        return self.operator.name

    @functools.cached_property
    def bandwidth(self) -> Expr:
        """Memory bandwidth in byte/s, bare; as stated."""
        return runs_on(self.operator, self.machine).memory_bandwidth

    @functools.cached_property
    def seconds(self) -> Mapping[Resource, Expr]:
        """Seconds of one occurrence for every resource it demands, by the resource or its name, bare."""
        return seconds_of(self.operator, self.machine, self.peak, self.ceilings)

    @functools.cached_property
    def constants(self) -> KernelConstants | None:
        """What was fitted to kernels of its class; None where none was, or the ceilings are not calibrated."""
        return constants_of(self.operator, self.machine)

    @functools.cached_property
    def overhead_expr(self) -> Expr:
        """Seconds of one occurrence besides, bare: its launch, the steps of a collective."""
        return overhead(self.operator, self.ceilings, self.machine)

    @property
    def overhead_limit_expr(self) -> Expr:
        """Seconds of overhead above which it, and no resource, binds, bare: the most that any resource takes."""
        return combined(self.seconds.values())

    @functools.cached_property
    def time_expr(self) -> Expr:
        """Seconds of one occurrence by itself, bare."""
        return time_of(self.operator, self.seconds, self.ceilings, self.machine)

    @functools.cached_property
    def work_expr(self) -> Expr:
        """Seconds of one occurrence without what is fetched ahead of it under the work of others, bare."""
        if not self.ceilings.fetches_ahead:
            return self.time_expr
        return time_of(self.operator, own(self.operator, self.seconds, self.ceilings), self.ceilings, self.machine)

    @functools.cached_property
    def intensity_expr(self) -> Expr:
        """FLOP/byte of memory traffic, bare; infinite, or not a number without FLOPs, where no byte crosses the memory interface."""
        flops, traffic = self.operator.flop_count, self.operator.byte_count()
        if traffic == 0:
            return nan if flops == 0 else oo
        return flops / traffic

    @property
    def performance_expr(self) -> Expr:
        """Attainable FLOP/s, bare: FLOPs over the time."""
        return self.operator.flop_count / self.time_expr

    @functools.cached_property
    def bound(self) -> str | None:
        """The resource that binds: "memory", "compute", "link", "host", ..., or "overhead"; None while it depends on a symbol."""
        return binding(self.seconds, self.overhead_expr)

    flops = in_unit(lambda point: point.operator.flop_count, FLOP, "FLOPs of one occurrence, as a Quantity in FLOP.")
    traffic = in_unit(lambda point: point.operator.byte_count(), BYTE, "Bytes moved by one occurrence, as a Quantity in bytes.")
    intensity = in_unit(lambda point: point.intensity_expr, INTENSITY, "Arithmetic intensity, as a Quantity in FLOP/byte.")
    overhead_limit = in_unit(
        lambda point: point.overhead_limit_expr, SECOND, "The overhead above which a launch decides, as a Quantity in seconds."
    )
    performance = in_unit(lambda point: point.performance_expr, RATE, "Attainable performance, as a Quantity in FLOP/s.")
    time = in_unit(lambda point: point.time_expr, SECOND, "Time of one occurrence, as a Quantity in seconds.")


def total_time(points: Iterable[RooflinePoint]) -> Expr:
    """Seconds of several operators of a step with all their occurrences, one after the other, bare.

    Where weights and cache are fetched ahead, the longer of all work and all transfers from and to the host.
    """
    every = [*points]
    work = Add(*(one.count * one.work_expr for one in every))
    transfers = Add(*(one.count * one.seconds.get(Resource.HOST, S.Zero) for one in every))
    return step_time(work, transfers, every[0].ceilings) if every else work
