"""numpy: ufuncs over memory, distributed over threads; BLAS for products."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from symroof.errors import InputError
from symroof.measure.backend import Array, Backend, software
from symroof.measure.system import keep_freed_memory, this_cpu
from symroof.measure.timing import Call

TYPES = {"fp32": np.float32, "fp64": np.float64}
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables that limit the threads of BLAS libraries."""

BLOCK = 2**20
"""The number of random numbers that fill arrays repeatedly."""


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * _sigmoid(x),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "relu2": lambda x: np.square(np.maximum(x, 0)),
    "sigmoid": _sigmoid,
}
"""0.797... is sqrt(2 / pi). numpy has no erf, and so no exact GELU."""


class NumpyBackend(Backend):
    """numpy on the CPU."""

    name = "numpy"
    types = tuple(TYPES)
    elementwise = FUNCTIONS
    streams = ("copy", "scale", "add", "read")

    def __init__(self) -> None:
        super().__init__()
        self.system = this_cpu()
        self.threads = self.system.processors
        blas = np.__config__.CONFIG["Build Dependencies"]["blas"]  # pyright: ignore[reportAttributeAccessIssue]
        self.software = software(numpy=np.__version__, **{str(blas["name"]): str(blas["version"])})
        self._pool = ThreadPoolExecutor(self.threads)
        keep_freed_memory()
        self._random = np.random.default_rng(0)
        self._block = self._random.standard_normal(BLOCK, dtype=np.float32) * np.float32(0.02)

    def limited(self, threads: int | None, cpu_time: bool) -> None:
        super().limited(threads, cpu_time)
        if threads is not None and not limit_blas(threads):
            raise InputError(f"threads {threads}: this numpy's BLAS takes no limit from here; set one of {', '.join(BLAS_THREADS)}")

    def stream(self, function: str, data_type: str, elements: int, passes: int, threads: int) -> Call:
        arrays = [self._part(place, data_type, elements) for place in ("x", "y", "into")]
        edges = [elements * part // threads for part in range(threads + 1)]
        calls = [_pass(function, [one[low:high] for one in arrays], passes) for low, high in itertools.pairwise(edges)]
        return calls[0] if threads == 1 else lambda: list(self._pool.map(_called, calls))

    def product(self, data_type: str, size: int) -> Call:
        x, y, into = (self.filled((size, size), data_type) for _ in range(3))
        return lambda: np.matmul(x, y, out=into)

    def launch(self) -> Call:
        x, into = self.filled((1,), "fp32"), self.filled((1,), "fp32")
        return lambda: np.add(x, x, out=into)

    def filled(self, shape: Sequence[int], data_type: str) -> Array:
        return np.resize(self._block, tuple(shape)).astype(TYPES[data_type])

    def indices(self, shape: Sequence[int], highest: int) -> Array:
        return self._random.integers(0, highest, tuple(shape))

    def mask(self, queries: int, context: int, band: int, data_type: str) -> Array:
        back = np.arange(context - queries, context)[:, None] - np.arange(context)
        return np.where((back >= 0) & (back < band), 0, -np.inf).astype(TYPES[data_type])

    def permuted(self, x: Array, order: Sequence[int]) -> Array:
        return x.transpose(order)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = x @ weight
        return y if bias is None else np.add(y, bias, out=y)

    def matmul(self, x: Array, y: Array) -> Array:
        return x @ y

    def softmax(self, x: Array) -> Array:
        y = x - x.max(axis=-1, keepdims=True)
        np.exp(y, out=y)
        return np.divide(y, y.sum(axis=-1, keepdims=True), out=y)

    def norm(self, function: str, x: Array, over: int, weight: Array | None, bias: Array | None) -> Array:
        axes = tuple(range(-over, 0))
        y = x - x.mean(axis=axes, keepdims=True) if function == "layer" else x
        y = y / np.sqrt(np.mean(np.square(y), axis=axes, keepdims=True) + x.dtype.type(1e-5))
        y = y if weight is None else np.multiply(y, weight, out=y)
        return y if bias is None else np.add(y, bias, out=y)

    def joined(self, parts: Sequence[Array]) -> Array:
        return np.concatenate(parts, axis=-1)

    def attention(self, queries: Array, keys: Array, values: Array, causal: bool) -> Array:
        raise NotImplementedError("numpy has no fused attention: omit --flash-attention, or use --backend torch")


def _called(call: Call) -> object:
    return call()


def _pass(function: str, arrays: Sequence[Array], passes: int) -> Call:
    """A call of several passes over arrays: a ufunc over views that repeat the same memory; copies in succession."""
    source, _, target = arrays
    x, y, into = [as_strided(one, (passes, len(one)), (0, one.itemsize)) for one in arrays]
    factor, largest = x.dtype.type(1), np.empty(passes, x.dtype)

    def copy() -> None:
        for _ in range(passes):
            np.copyto(target, source)

    calls: dict[str, Call] = {
        "copy": copy,
        "scale": lambda: np.multiply(x, factor, out=into),
        "add": lambda: np.add(x, y, out=into),
        "read": lambda: np.max(x, axis=-1, out=largest),
    }
    return calls[function]


def limit_blas(threads: int) -> bool:
    """Limit numpy's BLAS to this many threads; returns whether the limit took effect."""
    package = Path(np.__file__).parent
    for path in (*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")):
        library = ctypes.CDLL(str(path))  # already loaded: this is a handle
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads"):
            if hasattr(library, name):
                getattr(library, name)(threads)
                return True
    return any(os.environ.get(name) == str(threads) for name in BLAS_THREADS)  # read when the library was loaded
