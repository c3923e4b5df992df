"""The roofline of one step on one device: ``time = max(FLOPs / peak, bytes / bandwidth)``."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sympy import Add, Expr, Max, Min, S, nan, oo

from symroof.answers import Answer
from symroof.hardware.calibration import KernelConstants
from symroof.hardware.machine import SYMBOLIC, Machine
from symroof.operators import IDEAL, Ceilings, Direction, Operator, Resource, Storage
from symroof.roof.kernel_forms import constants_of
from symroof.roof.ledger import binding, combined, overhead, own, runs_on, seconds_of, step_time, time_of
from symroof.units import BANDWIDTH, BYTE, FLOP, INTENSITY, RATE, SECOND, counted, in_unit

MEMORY, COMPUTE = "memory", "compute"

TRAFFIC = {
    "weight_read": (Storage.WEIGHT, Direction.READ),
    "activation_read": (Storage.ACTIVATION, Direction.READ),
    "activation_write": (Storage.ACTIVATION, Direction.WRITE),
    "kv_read": (Storage.KV_CACHE, Direction.READ),
    "kv_write": (Storage.KV_CACHE, Direction.WRITE),
}
"""The kinds of traffic by their names in outputs; they add up to the total."""


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
    """Return "memory" if FLOPs / peak < bytes / bandwidth, otherwise "compute"; None if that depends on a symbol."""
    slack = flops * bandwidth - traffic * peak
    if not slack.is_number:
        return None
    return MEMORY if slack < 0 else COMPUTE


@dataclass(frozen=True)
class RooflinePoint(Answer):
    """One operator under the roof that applies to it.

    Attributes
    ----------
    operator : the operator with the step's numbers.
    symbolic : the same operator with symbolic dimensions.
    count_expr : the number of its occurrences in the step.
    data_type : the type it runs in, which decides the peak; empty if the peak is a symbol.
    peak_expr : the stated peak in FLOP/s, bare.
    ceilings : factors on the rates, launch overhead, overlap.
    machine : the step's machine; the operator may have its own unit.
    """

    operator: Operator
    symbolic: Operator = field(repr=False)
    count_expr: Expr
    data_type: str
    peak_expr: Expr
    ceilings: Ceilings = field(default=IDEAL, repr=False)
    machine: Machine = field(default=SYMBOLIC, repr=False)

    @property
    def name(self) -> str:
        """The operator's name."""
        return self.operator.name

    @functools.cached_property
    def bandwidth_expr(self) -> Expr:
        """The stated memory bandwidth in byte/s, bare."""
        return runs_on(self.operator, self.machine).memory_bandwidth

    @functools.cached_property
    def seconds_exprs(self) -> Mapping[Resource, Expr]:
        """Seconds of one occurrence per resource, by the resource or its name, bare."""
        return seconds_of(self.operator, self.machine, self.peak_expr, self.ceilings)

    @functools.cached_property
    def constants(self) -> KernelConstants | None:
        """The constants fitted to kernels of its class; None if there are none, or the ceilings are not calibrated."""
        return constants_of(self.operator, self.machine)

    @functools.cached_property
    def overhead_expr(self) -> Expr:
        """Overhead of one occurrence in seconds, bare: its launch, the steps of a collective."""
        return overhead(self.operator, self.ceilings, self.machine)

    @property
    def overhead_limit_expr(self) -> Expr:
        """The overhead in seconds above which the overhead binds, bare: the largest of the seconds per resource."""
        return combined(self.seconds_exprs.values())

    @functools.cached_property
    def time_expr(self) -> Expr:
        """Time of one occurrence by itself in seconds, bare."""
        return time_of(self.operator, self.seconds_exprs, self.ceilings, self.machine)

    @functools.cached_property
    def work_expr(self) -> Expr:
        """Time of one occurrence in seconds without prefetched transfers, bare."""
        if not self.ceilings.fetches_ahead:
            return self.time_expr
        return time_of(self.operator, own(self.operator, self.seconds_exprs, self.ceilings), self.ceilings, self.machine)

    @functools.cached_property
    def work_bound(self) -> str | None:
        """What binds it without what is fetched ahead; as `bound`."""
        if not self.ceilings.fetches_ahead:
            return self.bound
        return binding(own(self.operator, self.seconds_exprs, self.ceilings), self.overhead_expr)

    @functools.cached_property
    def intensity_expr(self) -> Expr:
        """FLOP per byte of memory traffic, bare; infinite without memory traffic, not a number without FLOPs either."""
        flops, traffic = self.operator.flop_count, self.operator.byte_count()
        if traffic == 0:
            return nan if flops == 0 else oo
        return flops / traffic

    @property
    def performance_expr(self) -> Expr:
        """Attainable FLOP/s, bare: FLOPs over time."""
        return self.operator.flop_count / self.time_expr

    @functools.cached_property
    def bound(self) -> str | None:
        """The resource that binds: "memory", "compute", "link", "host", ..., or "overhead"; None if it depends on a symbol."""
        return binding(self.seconds_exprs, self.overhead_expr)

    count = counted(lambda point: point.count_expr, "How often the model repeats it.")
    peak = in_unit(lambda point: point.peak_expr, RATE, "Peak performance that applies, as stated, as a Quantity in FLOP/second.")
    bandwidth = in_unit(lambda point: point.bandwidth_expr, BANDWIDTH, "Memory bandwidth, as stated, as a Quantity in byte/second.")
    seconds = in_unit(lambda point: dict(point.seconds_exprs), SECOND, "`seconds_exprs`, as Quantities in seconds.")
    overhead = in_unit(lambda point: point.overhead_expr, SECOND, "`overhead_expr`, as a Quantity in seconds.")
    flops = in_unit(lambda point: point.operator.flop_count, FLOP, "FLOPs of one occurrence, as a Quantity in FLOP.")
    traffic = in_unit(lambda point: point.operator.byte_count(), BYTE, "Bytes moved by one occurrence, as a Quantity in bytes.")
    intensity = in_unit(lambda point: point.intensity_expr, INTENSITY, "Arithmetic intensity, as a Quantity in FLOP/byte.")
    overhead_limit = in_unit(
        lambda point: point.overhead_limit_expr, SECOND, "The overhead above which a launch decides, as a Quantity in seconds."
    )
    performance = in_unit(lambda point: point.performance_expr, RATE, "Attainable performance, as a Quantity in FLOP/s.")
    time = in_unit(lambda point: point.time_expr, SECOND, "Time of one occurrence, as a Quantity in seconds.")


def total_time(points: Iterable[RooflinePoint]) -> Expr:
    """Total time in seconds of several operators of a step with all their occurrences, bare.

    If weights and cache are prefetched, the longer of all work and all transfers from and to the host.
    """
    every = [*points]
    work = Add(*[point.count_expr * point.work_expr for point in every])
    transfers = Add(*[point.count_expr * point.seconds_exprs.get(Resource.HOST, S.Zero) for point in every])
    return step_time(work, transfers, every[0].ceilings) if every else work
