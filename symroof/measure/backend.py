"""Backends that run micro-benchmarks and operators: arrays, functions on them, and a clock."""

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
        """The seconds between consecutive marks."""
        return [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]


class Backend(ABC):
    """An array library on one processor.

    Attributes
    ----------
    name : the name of the library.
    system : the processor.
    software : releases of the software involved.
    clock : the time after all submitted work is done.
    timed_by : the kind of clock.
    types : the data types it multiplies.
    threads : the number of threads for streams over memory; 1 if the processor distributes work itself.
    streams : the supported passes over memory (`symroof.measure.streams`).
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
        self._memory: dict[tuple[str, str], Array] = {}

    def stopwatch(self) -> Stopwatch:
        """A stopwatch whose marks do not block the processor."""
        return Stopwatch(self.clock)

    def limited(self, threads: int | None, cpu_time: bool) -> None:
        """Use this many threads of a CPU, and optionally processor time instead of wall-clock time.

        Raises
        ------
        InputError
            There are fewer cores, the processor is a GPU, or processor time is requested for several threads.
        """
        system = self.system
        if (threads or cpu_time) and system.kind != "cpu":
            raise InputError("threads and processor time apply to a CPU; use --on cpu")
        if threads is not None:
            if not 1 <= threads <= system.processors:
                raise InputError(f"threads {quote(threads)}: expected 1 to {system.processors}, the cores that this process may use")
            self.threads = threads
        if cpu_time:
            if self.threads != 1:
                raise InputError(f"processor time covers one thread, not {self.threads}; use --threads 1")
            self.clock, self.timed_by = time.process_time, PROCESSOR

    def require(self, data_type: str) -> None:
        """Raise an InputError unless the backend multiplies this data type."""
        if data_type not in self.types:
            raise InputError(f"type {quote(data_type)}: {self.name} on this {self.system.kind} measures {', '.join(self.types)}")

    def _part(self, place: str, data_type: str, elements: int) -> Array:
        """The first elements of an array that streams share; no stream reads what another one writes."""
        if (place, data_type) not in self._memory or len(self._memory[place, data_type]) < elements:
            self._memory[place, data_type] = self.filled((elements,), data_type)
        return self._memory[place, data_type][:elements]

    @abstractmethod
    def stream(self, function: str, data_type: str, elements: int, passes: int, threads: int) -> Call:
        """A call of *passes* passes over arrays of *elements* elements each."""

    @abstractmethod
    def product(self, data_type: str, size: int) -> Call:
        """A call that multiplies two square matrices of this size."""

    @abstractmethod
    def launch(self) -> Call:
        """A call with minimal work: the sum of two numbers."""

    @abstractmethod
    def filled(self, shape: Sequence[int], data_type: str) -> Array:
        """An array of small numbers with every page written."""

    @abstractmethod
    def indices(self, shape: Sequence[int], highest: int) -> Array:
        """Whole numbers from 0 up to *highest*, exclusive."""

    @abstractmethod
    def mask(self, queries: int, context: int, band: int, data_type: str) -> Array:
        """0 where the last *queries* of *context* positions attend to a position, at most *band* back; elsewhere minus infinity."""

    @abstractmethod
    def permuted(self, x: Array, order: Sequence[int]) -> Array:
        """The same array with its axes in another order."""

    @abstractmethod
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """``x W (+ bias)`` of matrices."""

    @abstractmethod
    def matmul(self, x: Array, y: Array) -> Array:
        """Matrix products over the last two axes, for every index of the others."""

    @abstractmethod
    def softmax(self, x: Array) -> Array:
        """Softmax over the last axis."""

    @abstractmethod
    def norm(self, function: str, x: Array, over: int, weight: Array | None, bias: Array | None) -> Array:
        """LayerNorm ("layer") or RMSNorm ("rms") over the last *over* axes."""

    @abstractmethod
    def joined(self, parts: Sequence[Array]) -> Array:
        """Arrays concatenated along the last axis."""

    @abstractmethod
    def attention(self, queries: Array, keys: Array, values: Array, causal: bool) -> Array:
        """Fused attention of ``batch heads rows components``; keys and values may have fewer heads.

        Raises
        ------
        NotImplementedError
            The library has no fused attention.
        """


def open_backend(name: str, on: str = "", *, threads: int | None = None, cpu_time: bool = False) -> Backend:
    """A backend by name.

    Parameters
    ----------
    on : "cpu" or "gpu"; default the GPU if torch finds one.
    threads : threads of a CPU; default all cores that this process may use.
    cpu_time : whether to measure processor time of this process, which other processes do not affect.

    Raises
    ------
    InputError
        The backend is unknown or not installed, there is no GPU, or there are fewer cores than threads.
    """
    member("backend", name, BACKENDS)
    if on:
        member("processor", on, PROCESSORS)
    backend: Backend
    if name == "numpy":
        if on == "gpu":
            raise InputError("on 'gpu': numpy runs on the CPU; use --backend torch")
        from symroof.measure.numpy_backend import NumpyBackend

        backend = NumpyBackend()
    else:
        from symroof.measure.torch_backend import TorchBackend

        backend = TorchBackend(on)
    backend.limited(threads, cpu_time)
    return backend


def software(**releases: str) -> str:
    """Releases of libraries and of Python."""
    named = (f"{name} {release}" for name, release in releases.items())
    return ", ".join((*named, f"{platform.python_implementation()} {platform.python_version()}"))
