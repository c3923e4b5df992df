"""The operators of a step measured at their real sizes on this machine, next to the predictions from its measured rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from symroof.architectures.step import Step
from symroof.errors import DeviceError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import CALIBRATED
from symroof.measure.backend import Backend
from symroof.measure.kernels import Heads
from symroof.measure.program import Program, compiled
from symroof.measure.system import load
from symroof.measure.timing import Spread
from symroof.operators import Graph, Resource, Storage
from symroof.operators.facts import ATTENTION_ROLES
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.roofline import RooflinePoint

FROM_CACHE, BEYOND = "from the cache", "beyond the measured rates"

SHARE_OF_MEMORY = 0.7
"""The share of free memory that the arrays of a step may take."""


@dataclass(frozen=True)
class Times:
    """The measured times of a step.

    Attributes
    ----------
    operators : seconds of one occurrence by name, over all occurrences of all passes.
    total : seconds of one pass: the sum of its operators.
    passes : seconds of one pass without marks between operators.
    reasons : why some operators were not run, by name.
    held : the number of layers with weights and caches of their own in memory; further layers reuse them in turn.
    loads : load averages over the last minute, before and after.
    """

    operators: dict[str, Spread]
    total: Spread
    passes: Spread
    reasons: dict[str, str] = field(default_factory=dict)
    held: int = 1
    loads: tuple[float | None, float | None] = (None, None)


Runner = Callable[[Graph], Times]


@dataclass(frozen=True)
class OperatorTime:
    """An operator, measured and predicted.

    Attributes
    ----------
    point : the roofline under the measured rates.
    calibrated : the prediction with the constants of its kernel class; None without constants.
    seconds : measured seconds of one occurrence; None if it was not run.
    reason : why it was not run.
    in_cache : whether its activations, or all its reads, may come from the last-level cache instead of memory.
    """

    point: RooflinePoint
    calibrated: RooflinePoint | None
    seconds: Spread | None
    reason: str
    in_cache: bool

    @property
    def roofline(self) -> float:
        """Predicted seconds of one occurrence."""
        return float(self.point.time_expr)

    @property
    def prediction(self) -> float | None:
        """Predicted seconds of one occurrence from the constants of its kernel class."""
        return None if self.calibrated is None else float(self.calibrated.time_expr)

    @property
    def excess(self) -> str:
        """Why it is faster than its roofline, if it is: reads from a cache, or a rate above the measured one."""
        if self.seconds is None or self.seconds.median >= self.roofline:
            return ""
        besides = [float(taken) for resource, taken in self.point.seconds_exprs.items() if resource is not Resource.MEMORY]
        return FROM_CACHE if self.in_cache and self.seconds.median >= max(besides, default=0.0) else BEYOND

    @property
    def ratio(self) -> float | None:
        """Measured median over the roofline."""
        return None if self.seconds is None else self.seconds.median / self.roofline


@dataclass(frozen=True)
class StepTime:
    """A step, measured and predicted."""

    analysis: Analysis
    calibrated: Analysis | None
    times: Times
    operators: tuple[OperatorTime, ...]
    data_type: str
    backend: str
    software: str
    threads: int
    timed_by: str

    @cached_property
    def ran(self) -> tuple[OperatorTime, ...]:
        """The operators that were run; sums are over these."""
        return tuple(one for one in self.operators if one.seconds is not None)

    @property
    def roofline(self) -> float:
        """Predicted seconds of all operators that were run."""
        return sum(float(one.point.count_expr) * one.roofline for one in self.ran)

    @property
    def prediction(self) -> float | None:
        """The same from the constants of measured kernels; by the roofline for operators without constants."""
        if self.calibrated is None:
            return None
        return sum(float(one.point.count_expr) * (one.roofline if one.prediction is None else one.prediction) for one in self.ran)

    @property
    def error(self) -> float | None:
        """``predicted / measured - 1`` of the whole step."""
        return None if self.prediction is None else self.prediction / self.times.total.median - 1


def heads_of(step: Step) -> tuple[Heads, ...]:
    """The distinct combinations of query heads, KV heads and head dimension of a step's attention.

    >>> import symroof
    >>> heads_of(symroof.load_model("qwen3-8b").decode(batch=1, seq_len=8))
    ((32, 8, 128),)
    """
    sizes = (operator.space.sizes for operator, _ in step.graph if operator.role in ATTENTION_ROLES)
    return tuple(dict.fromkeys((int(one["k"] * one["g"]), int(one["k"]), int(one["e"])) for one in sizes if {"k", "g", "e"} <= set(one)))


def measure_step(step: Step, device: Device, backend: Backend, data_type: str, repeat: int, runner: Runner | None = None) -> StepTime:
    """Run a step and compare it with the prediction for a device.

    Parameters
    ----------
    step : a numeric step, with all widths those of *data_type*.
    device : the measured machine; its peak for that type applies.
    repeat : the number of timed passes.
    runner : runs the graph instead of the backend.

    Raises
    ------
    DeviceError
        The device states no peak for the data type.
    InputError
        The step has symbols left, or does not fit the memory.
    """
    backend.require(data_type)
    if data_type not in device.peaks:
        raise DeviceError(f"device {quote(device.name)} states no peak for {data_type}; measure it with --type {data_type}")
    own = replace(device, peaks={data_type: device.peaks[data_type]})
    analysis = analyze(step, own)
    calibrated = analyze(step, own, ceilings=CALIBRATED) if device.calibration else None
    times = (runner or (lambda graph: run(graph, backend, data_type, repeat)))(step.graph)
    cache = device.cache_capacity_expr
    capacity = 0.0 if cache is None else float(cache) * next(level.instances for level in device.on_chip if level.capacity.value == cache)
    small = float(analysis.total.byte_count()) <= capacity
    found = []
    for point in analysis:
        better = None if calibrated is None or calibrated[point.name].constants is None else calibrated[point.name]
        activations = float(point.operator.byte_count(Storage.ACTIVATION))
        in_cache = small or 0 < activations <= capacity
        found.append(OperatorTime(point, better, times.operators.get(point.name), times.reasons.get(point.name, ""), in_cache))
    facts = (data_type, backend.name, backend.software, backend.threads, backend.timed_by)
    return StepTime(analysis, calibrated, times, tuple(found), *facts)


def run(graph: Graph, backend: Backend, data_type: str, repeat: int) -> Times:
    """Run a graph, alternating passes with a mark after every operator and passes without."""
    free = backend.system.available or backend.system.memory
    program = compiled(graph, backend, data_type, **({"most_bytes": SHARE_OF_MEMORY * free} if free else {}))
    before = load()
    program.run()
    laps: list[list[float]] = []
    passes: list[float] = []
    for _ in range(repeat):
        stopwatch = backend.stopwatch()
        program.run(stopwatch)
        laps.append(stopwatch.seconds())
        start = backend.clock()
        program.run()
        passes.append(backend.clock() - start)
    return replace(gathered(program, laps, passes), loads=(before, load()))


def gathered(program: Program, laps: list[list[float]], passes: list[float]) -> Times:
    """The times of a program's operators from the times between marks."""
    names = [one.operator.name for one in program if one.run is not None]
    order = [names[place] for place in program.order()]
    by_name: dict[str, list[float]] = {name: [] for name in names}
    for lap in laps:
        for name, taken in zip(order, lap, strict=True):
            by_name[name].append(taken)
    reasons = {one.operator.name: one.reason for one in program if one.run is None}
    operators = {name: Spread.of(taken) for name, taken in by_name.items()}
    return Times(operators, Spread.of([sum(lap) for lap in laps]), Spread.of(passes), reasons, program.held)
