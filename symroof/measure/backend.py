"""What runs micro-benchmarks and operators: arrays, the functions that operators compute of them, and a clock."""

from __future__ import annotations

import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from symroof.errors import InputError, member, quote
from symroof.measure.system import System
from symroof.measure.timing import Call, Clock

Array = Any
BACKENDS = ("numpy", "torch")
PROCESSORS = ("cpu", "gpu")
WALL, PROCESSOR = "wall clock", "processor time"


class Stopwatch:
    """Times between marks."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self.marks: list[float] = []

    def mark(self) -> None:
        """Now."""
        self.marks.append(self.clock())

    def seconds(self) -> list[float]:
        """Between each mark and the next."""
        return [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]


class Backend(ABC):
    """A library of arrays on one processor.

    Attributes
    ----------
    name : of the library.
    system : the processor.
    software : releases of all that takes part.
    clock : the time, once all that was asked for is done.
    timed_by : what it is a clock of.
    types : the data types it multiplies.
    threads : that a stream over memory may use; 1 where the processor shares work out by itself.
    streams : the passes over memory that it knows (`symroof.measure.streams`).
    elementwise : functions of one array by name (`Operator.function`).
    """

    name: str
    system: System
    software: str
    types: tuple[str, ...]
    threads: int
    streams: tuple[str, ...]
    elementwise: Mapping[str, Callable[[Array], Array]]

    def __init__(self) -> None:
        self.clock: Clock = time.perf_counter
        self.timed_by = WALL

    def stopwatch(self) -> Stopwatch:
        """A stopwatch that does not make the processor wait."""
        return Stopwatch(self.clock)

    def limited(self, threads: int | None, cpu_time: bool) -> None:
        """Use so many threads of a CPU, and its own time in the place of the clock on the wall.

        Raises
        ------
        InputError
            There are not so many cores, it is a GPU, or several threads would share one time.
        """
        system = self.system
        if (threads or cpu_time) and system.kind != "cpu":
            raise InputError("threads and processor time are of a CPU; take --on cpu")
        if threads is not None:
            if not 1 <= threads <= system.processors:
                raise InputError(f"threads {quote(threads)}: expected 1 to {system.processors}, the cores that this process may use")
            self.threads = threads
        if cpu_time:
            if self.threads != 1:
                raise InputError(f"processor time is that of one thread, not of {self.threads}; take --threads 1")
            self.clock, self.timed_by = time.process_time, PROCESSOR

    def require(self, data_type: str) -> None:
        """Raise unless it multiplies this data type.

        Raises
        ------
        InputError
            It does not.
        """
        if data_type not in self.types:
            raise InputError(f"type {quote(data_type)}: {self.name} on this {self.system.kind} measures {', '.join(self.types)}")

    @abstractmethod
    def stream(self, function: str, data_type: str, elements: int, passes: int, threads: int) -> Call:
        """A call that passes so often over arrays of so many elements each."""

    @abstractmethod
    def product(self, data_type: str, size: int) -> Call:
        """A call that multiplies two square matrices of that size."""

    @abstractmethod
    def launch(self) -> Call:
        """A call of the least work: the sum of two numbers."""

    @abstractmethod
    def filled(self, shape: Sequence[int], data_type: str) -> Array:
        """An array of small numbers, each page of it written."""

    @abstractmethod
    def indices(self, shape: Sequence[int], highest: int) -> Array:
        """Whole numbers from 0 up to *highest*, exclusive."""

    @abstractmethod
    def mask(self, queries: int, context: int, band: int, data_type: str) -> Array:
        """0 where the last *queries* of *context* positions see another, at most *band* back, else minus infinity."""

    @abstractmethod
    def permuted(self, x: Array, order: Sequence[int]) -> Array:
        """The same array with its axes in another order."""

    @abstractmethod
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """``x W (+ bias)`` of matrices."""

    @abstractmethod
    def matmul(self, x: Array, y: Array) -> Array:
        """Products of the last two axes, for every index of those before."""

    @abstractmethod
    def softmax(self, x: Array) -> Array:
        """Over the last axis."""

    @abstractmethod
    def norm(self, function: str, x: Array, over: int, weight: Array | None, bias: Array | None) -> Array:
        """LayerNorm ("layer") or RMSNorm ("rms") over the last axes, so many."""

    @abstractmethod
    def joined(self, parts: Sequence[Array]) -> Array:
        """Arrays one behind the other along the last axis."""

    @abstractmethod
    def attention(self, queries: Array, keys: Array, values: Array, causal: bool) -> Array:
        """Fused attention of ``batch heads rows components``; keys and values may have fewer heads.

        Raises
        ------
        NotImplementedError
            The library has none.
        """


def open_backend(name: str, on: str = "", *, threads: int | None = None, cpu_time: bool = False) -> Backend:
    """A backend by name.

    Parameters
    ----------
    on : "cpu" or "gpu"; without it the GPU where torch sees one.
    threads : of a CPU; without it, all cores that this process may use.
    cpu_time : whether to time by what the processor spends on this process, which other processes do not lengthen.

    Raises
    ------
    InputError
        There is none of that name, it is not installed, there is no GPU, or it has not so many threads.
    """
    member("backend", name, BACKENDS)
    if on:
        member("processor", on, PROCESSORS)
    backend: Backend
    if name == "numpy":
        if on == "gpu":
            raise InputError("on 'gpu': numpy runs on the CPU; take --backend torch")
        from symroof.measure.numpy_backend import NumpyBackend

        backend = NumpyBackend()
    else:
        from symroof.measure.torch_backend import TorchBackend

        backend = TorchBackend(on)
    backend.limited(threads, cpu_time)
    return backend


def software(**releases: str) -> str:
    """Releases of libraries, Python's behind them."""
    named = (f"{name} {release}" for name, release in releases.items())
    return ", ".join((*named, f"{platform.python_implementation()} {platform.python_version()}"))
