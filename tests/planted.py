"""A machine whose rates are known: its calls move a clock of their own, so that what is measured of it can be told in advance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from types import MappingProxyType

from symroof.measure.backend import Array, Backend
from symroof.measure.system import CacheLevel, System

SIZE = {"fp32": 4, "fp64": 8, "bf16": 2}
MOVED = {"copy": 2, "scale": 2, "add": 3, "triad": 3, "read": 1}
ADDED = {"copy": 0, "scale": 1, "add": 1, "triad": 2, "read": 1}

CACHES = (CacheLevel("L1 data cache", 2**15, 2), CacheLevel("L2 cache", 2**20, 2), CacheLevel("L3 cache", 2**25))
SYSTEM = System("Planted", "cpu", 2, caches=CACHES, memory=2**36, available=2**35, clock=3e9, load=1.0, platform="Nowhere 1")


class Planted(Backend):
    """Two cores with private L1 and L2; one core reaches half of what both do of L3 and memory.

    Parameters
    ----------
    core : byte/s of one core in its L1 and L2.
    shared : byte/s of both cores in L3 and memory.
    peaks : FLOP/s of products.
    overhead, least : seconds of every call besides, and of one that does nothing else.
    slower : factors that calls take in turn; at least 1.
    """

    name, software, types, threads = "planted", "planted 1.0", tuple(SIZE), 2
    streams = ("copy", "add", "triad", "read")
    elementwise = MappingProxyType({})

    def __init__(
        self,
        core: Sequence[float] = (200e9, 100e9),
        shared: Sequence[float] = (80e9, 40e9),
        peaks: Sequence[float] = (150e9, 75e9, 300e9),
        overhead: float = 0.0,
        least: float = 1e-6,
        slower: Sequence[float] = (1.0,),
        system: System = SYSTEM,
    ) -> None:
        super().__init__()
        self.core, self.shared, self.peaks = core, shared, dict(zip(SIZE, peaks, strict=True))
        self.overhead, self.least, self.system, self.now = overhead, least, system, 0.0
        self._slower: Iterator[float] = cycle(slower)
        self.clock = lambda: self.now

    def spend(self, seconds: float) -> None:
        """A call takes so long."""
        self.now += next(self._slower) * (self.overhead + seconds)

    def rate(self, size: int, threads: int) -> float:
        """Byte/s of a working set."""
        l1, l2, l3 = CACHES
        if size / threads <= l2.capacity:
            return threads * self.core[size / threads > l1.capacity]
        return self.shared[size > l3.capacity] * threads / 2

    def stream(self, function: str, data_type: str, elements: int, passes: int, threads: int) -> Callable[[], None]:
        arrays, width = MOVED[function], SIZE[data_type]
        results = width if function == "read" else 0
        seconds = (arrays * width * elements * passes + results) / self.rate(arrays * width * elements, threads)
        return lambda: self.spend(seconds)

    def product(self, data_type: str, size: int) -> Callable[[], None]:
        return lambda: self.spend(2 * size**3 / self.peaks[data_type])

    def launch(self) -> Callable[[], None]:
        return lambda: self.spend(self.least)

    def _none(self, *_: object, **__: object) -> Array:
        raise AssertionError("a planted machine has no arrays")

    filled = indices = mask = permuted = linear = matmul = softmax = norm = joined = attention = _none
