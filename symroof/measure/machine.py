"""A machine's own rates by micro-benchmarks: bandwidth by level, peaks by data type, the least time of a call."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from symroof.errors import InputError
from symroof.measure.backend import WALL, Backend
from symroof.measure.streams import elements_for, square_product, stream, working_set
from symroof.measure.system import CacheLevel, System, load
from symroof.measure.timing import NOISY, Call, Spread, elapsed, timed
from symroof.operators.facts import BITS

STREAMED = "fp32"
"""The data type of streams over memory; bandwidth does not depend on it."""

SMALLEST = 16 * 2**10
"""Bytes of the smallest working set."""

EXCEEDS, COLD = 4, 3
"""Working sets in memory in units of the last-level cache, usual and smallest; under random replacement it still serves 6 percent."""

ABOVE = 2
"""The working set in a cache level, in units of the preceding level, and the share of the level that it leaves free."""

FIRST_PRODUCT = 128
TRIES = 4
"""The number of calls of a product, after its first, that predict the time of a larger one."""

ROUND = 512
"""The size of a product beyond which doubling it takes eight times as long."""

LARGEST_PRODUCT = {"cpu": 4096, "gpu": 16384}


@dataclass(frozen=True)
class Effort:
    """The extent of the measurement: repeats, least seconds per timing, and most seconds per product."""

    repeat: int
    least: float
    longest: float


QUICK, FULL = Effort(3, 1e-3, 0.05), Effort(10, 5e-3, 0.5)


@dataclass(frozen=True)
class Rate:
    """The rate of one benchmark.

    Attributes
    ----------
    name : the benchmark's name.
    working_set : bytes that it touches.
    traffic, flops : bytes and FLOPs per call.
    seconds : seconds per call.
    cold : whether its operands exceed the last-level cache.
    contracts : whether its FLOPs are those of a contraction.

    >>> Rate("copy", "fp32", 1, 2048, 8192, 0, Spread.of([1e-6, 2e-6])).bandwidth.best
    8192000000.0
    """

    name: str
    data_type: str
    threads: int
    working_set: int
    traffic: int
    flops: int
    seconds: Spread
    cold: bool = False
    contracts: bool = False

    @property
    def bandwidth(self) -> Spread:
        """Byte per second."""
        return self.seconds.rate(self.traffic)

    @property
    def performance(self) -> Spread:
        """FLOP per second."""
        return self.seconds.rate(self.flops)


@dataclass(frozen=True)
class Measured:
    """A machine and the rates measured on it.

    Attributes
    ----------
    streams : passes over memory, by function, working set and threads.
    products : products of square matrices.
    launch : seconds of a call with minimal work.
    kernels : measured operators to which constants are fitted.
    repeat : the number of timings of each benchmark.
    busy : the number of cores that the largest product kept busy; None on a GPU.
    loads : load averages over the last minute, before and after.
    timed_by : wall clock, or processor time of this process.
    date : the date of the measurement.
    """

    system: System
    software: str
    backend: str
    threads: int
    streams: tuple[Rate, ...]
    products: tuple[Rate, ...]
    launch: Spread
    repeat: int
    kernels: tuple[Rate, ...] = field(default=(), repr=False)
    busy: float | None = None
    loads: tuple[float | None, float | None] = (None, None)
    timed_by: str = WALL
    date: str = ""

    @property
    def memory(self) -> Rate:
        """The benchmark with the highest memory bandwidth."""
        return most_bandwidth(one for one in (*self.streams, *self.kernels) if one.cold)

    @property
    def peaks(self) -> dict[str, Rate]:
        """The benchmark with the most FLOP/s per data type: products, and measured contractions."""
        return most_performance(one for one in (*self.products, *self.kernels) if one.contracts)

    @property
    def vectors(self) -> dict[str, Rate]:
        """The benchmark with the most FLOP/s per data type without contraction: streams, norms, activation functions."""
        return most_performance(one for one in (*self.streams, *self.kernels) if not one.contracts)

    def cache(self, place: int) -> Rate | None:
        """The benchmark with the highest bandwidth of a cache level; None if no working set falls into it."""
        threads, low, high = window(self.system, place, self.threads)
        inside = [one for one in self.streams if one.threads == threads and low <= one.working_set <= high]
        return most_bandwidth(inside) if inside else None

    @property
    def noisy(self) -> tuple[Rate, ...]:
        """The benchmarks of stated rates with a wide spread between quartiles."""
        behind = [self.memory, *self.peaks.values(), *filter(None, map(self.cache, range(len(self.system.caches))))]
        return tuple(dict.fromkeys(one for one in behind if one.seconds.noise > NOISY))


def most_bandwidth(rates: Iterable[Rate]) -> Rate:
    """The rate with the most byte/s in its best run."""
    return max(rates, key=lambda one: one.bandwidth.best)


def most_performance(rates: Iterable[Rate]) -> dict[str, Rate]:
    """The rate with the most FLOP/s per data type in its best run."""
    found: dict[str, Rate] = {}
    for one in rates:
        best = found.get(one.data_type)
        if one.flops and (best is None or one.performance.best > best.performance.best):
            found[one.data_type] = one
    return found


def is_private(level: CacheLevel, system: System) -> bool:
    """Whether each core has its own cache of this level."""
    return level.instances == system.processors


def window(system: System, place: int, threads: int) -> tuple[int, float, float]:
    """The number of threads and the range of working sets that measure a cache level: beyond the preceding levels, with room left.

    >>> caches = (CacheLevel("L1", 2**15, 2), CacheLevel("L2", 2**20, 2), CacheLevel("L3", 2**25))
    >>> system = System("", "cpu", 2, caches=caches)
    >>> [window(system, place, 2) for place in range(3)]
    [(1, 0, 16384.0), (1, 65536, 524288.0), (2, 4194304, 16777216.0)]
    """
    level = system.caches[place]
    alone = is_private(level, system)
    before = system.caches[place - 1] if place else None
    low = 0 if before is None else ABOVE * before.capacity * (1 if alone else before.instances)
    return 1 if alone else threads, low, level.capacity * (1 if alone else level.instances) / ABOVE


def working_sets(system: System, largest: int) -> list[int]:
    """Working sets in bytes up to *largest*: powers of two, and the middle of every level."""
    powers = [SMALLEST << place for place in range((largest // SMALLEST).bit_length())]
    middles = [level.capacity * count // ABOVE for level in system.caches for count in (1, level.instances)]
    return sorted({size for size in (*powers, *middles, largest) if SMALLEST <= size <= largest})


def measure(backend: Backend, effort: Effort, types: Sequence[str]) -> Measured:
    """Measure the machine that a backend runs on.

    Parameters
    ----------
    types : the data types of products and of streams in the cache.

    Raises
    ------
    InputError
        There is too little memory, or the backend does not support a data type.
    """
    for data_type in types:
        backend.require(data_type)
    before, system = load(), backend.system
    streams = {_Stream(*one): None for one in _streams(backend, largest_set(system), types)}
    products = {(data_type, size): call for data_type in types for size, call in _products(backend, data_type, effort.longest)}
    calls: dict[Hashable, Call] = {one: one.call(backend) for one in streams}
    seconds = timed({**calls, **products, "launch": backend.launch()}, backend.clock, effort.repeat, effort.least)
    return Measured(
        system,
        backend.software,
        backend.name,
        backend.threads,
        tuple(one.rate(seconds[one], system) for one in streams),
        tuple(_product_rate(*key, backend.threads, seconds[key]) for key in products),
        seconds["launch"],
        effort.repeat,
        busy=_busy(next(reversed(products.values()))) if system.kind == "cpu" else None,
        loads=(before, load()),
        timed_by=backend.timed_by,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


@dataclass(frozen=True)
class _Stream:
    """Passes over memory: function, data type, bytes of the working set, threads, passes of one call."""

    function: str
    data_type: str
    size: int
    threads: int
    passes: int

    @property
    def elements(self) -> int:
        return elements_for(self.function, self.size, BITS[self.data_type])

    def call(self, backend: Backend) -> Call:
        return backend.stream(self.function, self.data_type, self.elements, self.passes, self.threads)

    def rate(self, seconds: Spread, system: System) -> Rate:
        operator = stream(self.function, self.elements, BITS[self.data_type], self.passes)
        cold = self.size >= COLD * system.last_cache
        traffic, flops = int(operator.byte_count()), int(operator.flop_count)
        return Rate(self.function, self.data_type, self.threads, self.size, traffic, flops, seconds, cold)


def largest_set(system: System) -> int:
    """Bytes of the largest working set, a multiple of the last-level cache.

    Raises
    ------
    InputError
        There is too little memory.
    """
    wanted = max(EXCEEDS * system.last_cache, 2**26)
    if system.available is not None and 4 * wanted > system.available:
        needed, free = (f"{one / 1e6:.0f} MB" for one in (4 * wanted, system.available))
        raise InputError(
            f"too little memory: arrays of {EXCEEDS} times the last-level cache ({system.last_cache / 1e6:.0f} MB) take {needed}, "
            f"and {free} are free"
        )
    return wanted


def _streams(backend: Backend, largest: int, types: Sequence[str]) -> Iterable[tuple[str, str, int, int, int]]:
    """Function, data type, working set, threads and passes of every stream."""
    system = backend.system
    once = max(system.last_cache, 2**25)
    for size in working_sets(system, largest):
        for threads in sorted({1, backend.threads}):
            yield from ((function, STREAMED, size, threads, math.ceil(once / size)) for function in backend.streams)
    private = [level for level in system.caches if is_private(level, system)]
    near = private[-1].capacity * backend.threads // ABOVE if private else system.last_cache // ABOVE
    for data_type in types:  # vector units, near their caches
        if data_type != STREAMED:
            yield from ((function, data_type, near, backend.threads, math.ceil(once / near)) for function in backend.streams)


def _products(backend: Backend, data_type: str, longest: float) -> list[tuple[int, Call]]:
    """Products of growing size, until the next one would take too long or too much memory."""
    found: list[tuple[int, Call]] = []
    size, free = FIRST_PRODUCT, backend.system.available
    while size <= LARGEST_PRODUCT[backend.system.kind]:
        call = backend.product(data_type, size)
        found.append((size, call))
        taken = elapsed(call, backend.clock, 1)
        for _ in range(TRIES if taken < longest else 0):
            taken = min(taken, elapsed(call, backend.clock, 1))
        grows = 8 if size >= ROUND else 1
        size *= 2
        if grows * taken > longest or (free is not None and size * size * BITS[data_type] > free):
            break
    return found


def _product_rate(data_type: str, size: int, threads: int, seconds: Spread) -> Rate:
    operator = square_product(size, BITS[data_type])
    traffic, flops = int(operator.byte_count()), int(operator.flop_count)
    return Rate("product", data_type, threads, working_set(operator), traffic, flops, seconds, contracts=True)


def _busy(call: Call) -> float:
    """The number of cores that a call keeps busy: processor time over wall-clock time."""
    start, used = time.perf_counter(), time.process_time()
    call()
    return (time.process_time() - used) / (time.perf_counter() - start)


def with_kernels(measured: Measured, kernels: Iterable[Rate]) -> Measured:
    """The machine with measured operators in addition to its benchmarks; their rates count as rates of the machine."""
    return replace(measured, kernels=tuple(kernels))
