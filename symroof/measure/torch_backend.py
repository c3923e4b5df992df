"""torch, on a CPU or a GPU; the extra `measure`."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Sequence
from typing import Any

from symroof.errors import InputError
from symroof.files import installation
from symroof.measure.backend import Array, Backend, Stopwatch, software
from symroof.measure.system import CacheLevel, System, keep_freed_memory, load, this_cpu
from symroof.measure.timing import Call

TYPES = {"fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "fp16": "float16"}
INSTALL = f"torch is not installed; {installation('measure')}"


def library() -> Any:
    """The module.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise InputError(f"backend 'torch': {INSTALL}") from None


class TorchBackend(Backend):
    """torch on the requested processor, by default on a GPU if torch finds one."""

    name = "torch"
    types = tuple(TYPES)
    streams = ("copy", "triad", "read")

    def __init__(self, on: str = "", module: Any = None) -> None:
        super().__init__()
        self._torch = torch = module or library()
        self._gpu = on == "gpu" or (not on and torch.cuda.is_available())
        if self._gpu and not torch.cuda.is_available():
            raise InputError("on 'gpu': torch finds no GPU; use --on cpu")
        self._device = "cuda" if self._gpu else "cpu"
        self.system = _gpu(torch) if self._gpu else this_cpu()
        self.threads = 1 if self._gpu else torch.get_num_threads()
        self.software = software(torch=torch.__version__)
        keep_freed_memory()
        functional = torch.nn.functional
        self.elementwise = {
            "relu": functional.relu,
            "silu": functional.silu,
            "gelu": functional.gelu,
            "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
            "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
            "relu2": lambda x: torch.square(torch.relu(x)),
            "sigmoid": torch.sigmoid,
        }

        if self._gpu:
            self.clock = self._finished

    def _finished(self) -> float:
        """The time after the GPU has finished all submitted work."""
        self._torch.cuda.synchronize()
        return time.perf_counter()

    def limited(self, threads: int | None, cpu_time: bool) -> None:
        super().limited(threads, cpu_time)
        if threads is not None:
            self._torch.set_num_threads(threads)

    def stopwatch(self) -> Stopwatch:
        return Events(self._torch) if self._gpu else super().stopwatch()

    def _type(self, data_type: str) -> Any:
        return getattr(self._torch, TYPES[data_type])

    def stream(self, function: str, data_type: str, elements: int, passes: int, threads: int) -> Call:
        torch = self._torch
        x, y, into = (self._part(place, data_type, elements) for place in ("x", "y", "into"))
        rows = x.expand(passes, elements)
        calls: dict[str, tuple[Call, int]] = {
            "copy": (lambda: into.copy_(x), passes),
            "triad": (lambda: torch.add(x, y, alpha=1.5, out=into), passes),
            "read": (lambda: torch.amax(rows, 1), 1),  # over views that repeat the same memory
        }
        call, often = calls[function]

        def streamed() -> None:
            if threads != self.threads:
                torch.set_num_threads(threads)
            for _ in range(often):
                call()
            if threads != self.threads:
                torch.set_num_threads(self.threads)

        return streamed

    def product(self, data_type: str, size: int) -> Call:
        torch = self._torch
        x, y, into = (self.filled((size, size), data_type) for _ in range(3))
        return lambda: torch.mm(x, y, out=into)

    def launch(self) -> Call:
        torch, x, into = self._torch, self.filled((1,), "fp32"), self.filled((1,), "fp32")
        return lambda: torch.add(x, x, out=into)

    def filled(self, shape: Sequence[int], data_type: str) -> Array:
        made = self._torch.empty(tuple(shape), dtype=self._torch.float32, device=self._device)
        return made.normal_(0, 0.02).to(self._type(data_type))

    def indices(self, shape: Sequence[int], highest: int) -> Array:
        return self._torch.randint(0, highest, tuple(shape), device=self._device)

    def mask(self, queries: int, context: int, band: int, data_type: str) -> Array:
        torch = self._torch
        back = torch.arange(context - queries, context, device=self._device)[:, None] - torch.arange(context, device=self._device)
        masked = torch.zeros(queries, context, dtype=self._type(data_type), device=self._device)
        return masked.masked_fill((back < 0) | (back >= band), float("-inf"))

    def permuted(self, x: Array, order: Sequence[int]) -> Array:
        return x.permute(*order)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        return self._torch.mm(x, weight) if bias is None else self._torch.addmm(bias, x, weight)

    def matmul(self, x: Array, y: Array) -> Array:
        return self._torch.matmul(x, y)

    def softmax(self, x: Array) -> Array:
        return self._torch.softmax(x, -1)

    def norm(self, function: str, x: Array, over: int, weight: Array | None, bias: Array | None) -> Array:
        functional, shape = self._torch.nn.functional, tuple(x.shape[-over:])
        if function == "layer":
            return functional.layer_norm(x, shape, weight, bias, 1e-5)
        y = functional.rms_norm(x, shape, weight, 1e-5)
        return y if bias is None else y + bias

    def joined(self, parts: Sequence[Array]) -> Array:
        return self._torch.cat(tuple(parts), -1)

    def attention(self, queries: Array, keys: Array, values: Array, causal: bool) -> Array:
        grouped = queries.shape[1] != keys.shape[1]
        fused = self._torch.nn.functional.scaled_dot_product_attention
        return fused(queries, keys, values, is_causal=causal, enable_gqa=grouped)


class Events(Stopwatch):
    """Marks in the stream of a GPU, which do not block the processor."""

    def __init__(self, torch: Any) -> None:
        super().__init__()
        self._torch = torch
        self._events: list[Any] = []

    def mark(self) -> None:
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def seconds(self) -> list[float]:
        self._torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1e3 for before, after in zip(self._events, self._events[1:], strict=False)]


def _gpu(torch: Any) -> System:
    """The first GPU as its driver reports it."""
    facts = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    cache = getattr(facts, "L2_cache_size", 0)
    clock = getattr(facts, "clock_rate", 0)  # kHz, in the releases that have it
    return System(
        facts.name,
        "gpu",
        facts.multi_processor_count,
        "multiprocessor",
        (CacheLevel("L2 cache", cache),) if cache else (),
        total,
        free,
        1e3 * clock if clock else None,
        load(),
        f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}",
    )
