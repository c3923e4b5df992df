"""Measurement of kernels of every class, over a range of sizes and with operands that exceed every cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sympy import Integer

from symroof.calibration.prediction import dimensions, operator_of
from symroof.calibration.rows import DIMENSIONS, Rows
from symroof.hardware.calibration import Kernel
from symroof.measure.backend import Array, Backend
from symroof.measure.compiler import NotRun
from symroof.measure.device_file import device_of
from symroof.measure.machine import COLD, EXCEEDS, Effort, Measured, Rate
from symroof.measure.program import alone
from symroof.measure.streams import working_set
from symroof.measure.timing import Spread, timed
from symroof.operators import Direction, Operator, Storage
from symroof.operators.attention import softmax
from symroof.operators.elementwise import Norm, activation, add, norm
from symroof.operators.facts import BITS
from symroof.operators.tensor import Space, Tensor, axes_of

MOST_COPIES = 1024
"""The most copies of operands used in turn. Small operands may stay in a cache, but their bytes take little time compared with a call."""

SIDES = {
    "cpu": ((256, 256), (640, 640), (1024, 1024), (640, 2560), (2560, 640), (1536, 1536), (1024, 4096), (4096, 1024), (2560, 2560)),
    "gpu": ((1024, 1024), (2048, 2048), (4096, 4096), (2048, 8192), (8192, 2048), (8192, 8192), (4096, 14336), (14336, 4096)),
}
ROWS = {"cpu": (1, 2, 4, 8, 16, 64, 128, 256, 512), "gpu": (1, 4, 16, 32, 64, 128, 256, 512, 1024, 4096)}
HEADS = ((4, 4, 64), (12, 12, 64), (16, 4, 64), (12, 12, 128), (32, 8, 128))
BATCHES = {"cpu": (1, 2, 3, 4, 6, 8), "gpu": (1, 2, 4, 8, 16, 64)}
CONTEXTS = {
    "cpu": (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096),
    "gpu": (128, 256, 384, 512, 768, 1024, 2048, 3072, 4096, 6144, 8192, 16384),
}
PROMPTS = {
    "cpu": (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024),
    "gpu": (64, 128, 192, 256, 384, 512, 768, 1024, 2048, 3072, 4096, 8192),
}
WIDTHS = (256, 1024, 4096)
ELEMENTS = {"cpu": 2**23, "gpu": 2**28}
"""Sizes of the kernels: both sides of a matrix and rows of activations; heads, KV heads and head dimension; elements of a result."""

MOST_SIZES = 80
"""The most sizes of attention; of more, intermediate ones are left out."""

Heads = tuple[int, int, int]
"""Query heads, KV heads and head dimension."""


@dataclass(frozen=True)
class Kernels:
    """Measured kernels of one class.

    Attributes
    ----------
    rows : the medians as rows of measurements; None for kernels without contraction, whose operators differ.
    rates : the rate of each kernel.
    reason : why there are none.
    """

    kernel: Kernel
    rates: tuple[Rate, ...]
    rows: Rows | None = None
    reason: str = ""


Timer = Callable[[Operator, int], Spread]
"""Times an operator with a number of copies of its operands in turn."""


def measure_kernels(
    backend: Backend,
    measured: Measured,
    effort: Effort,
    data_type: str,
    classes: Sequence[Kernel] = tuple(Kernel),
    timer: Timer | None = None,
    heads: Sequence[Heads] = HEADS,
) -> list[Kernels]:
    """Time kernels of these classes.

    Parameters
    ----------
    measured : the machine; kernels that would take longer than the longest product are left out.
    heads : the heads of attention; libraries have different kernels for different head dimensions and groups.
    timer : times the kernels instead of the backend.
    """
    timer = timer or Stand(backend, measured, effort, data_type)
    peak = measured.peaks[data_type].performance.best
    most = effort.longest * peak
    return [_of_class(measured, timer, data_type, most, kernel, *_operators(kernel, measured, data_type, heads)) for kernel in classes]


class Stand:
    """Times operators in succession; their operands are parts of one array that exceeds the last-level cache."""

    def __init__(self, backend: Backend, measured: Measured, effort: Effort, data_type: str) -> None:
        self.backend, self.effort, self.data_type = backend, effort, data_type
        self.pool = backend.filled((8 * pool_bytes(measured) // BITS[data_type],), data_type)
        self.at = 0

    def take(self, shape: Sequence[int]) -> Array:
        """The next part of the array."""
        size = math.prod(shape)
        if self.at + size > len(self.pool):
            self.at = 0
        self.at += size
        return self.pool[self.at - size : self.at].reshape(tuple(shape))

    def __call__(self, operator: Operator, copies: int) -> Spread:
        """Seconds of one call."""
        call = alone(operator, self.backend, self.data_type, copies, self.take)
        return timed({"": call}, self.backend.clock, self.effort.repeat, self.effort.least)[""]


def pool_bytes(measured: Measured) -> int:
    """Bytes of all operands together."""
    return max(EXCEEDS * measured.system.last_cache, 2**27)


def _of_class(
    measured: Measured,
    timer: Timer,
    data_type: str,
    most_flops: float,
    kernel: Kernel,
    operators: Sequence[Operator],
    columns: Mapping[str, np.ndarray] | None,
) -> Kernels:
    """Time the operators of a class, except those that take too long or leave no room for copies."""
    most_bytes = pool_bytes(measured) // 2
    kept = [place for place, one in enumerate(operators) if int(one.flop_count) <= most_flops and working_set(one) <= most_bytes]
    rates, copies = [], []
    try:
        for place in kept:
            operator = operators[place]
            copies.append(min(MOST_COPIES, -(-pool_bytes(measured) // working_set(operator))))
            rates.append(_rate(operator, str(kernel), data_type, measured, timer(operator, copies[-1]), copies[-1]))
    except NotRun as reason:
        return Kernels(kernel, (), reason=str(reason))
    if columns is None:
        return Kernels(kernel, tuple(rates))
    medians = np.array([one.seconds.median for one in rates])
    chosen = {name: column[kept] for name, column in columns.items()}
    held = {"copies": np.array(copies, float)} if kernel is Kernel.GEMM else {}
    rows = Rows(kernel, frozenset({BITS[data_type]}), _name(measured, chosen), chosen | held, medians, len(kept))
    return Kernels(kernel, tuple(rates), rows)


def _name(measured: Measured, columns: Mapping[str, np.ndarray]) -> str:
    """The name of the measured kernels: the library, the machine, and the heads of attention if they are all equal."""
    shapes = [columns[name].tolist() for name in ("heads", "kv_heads", "head_dim") if name in columns]
    found = {tuple(map(int, one)) for one in zip(*shapes, strict=True)}
    alike = ", {} heads on {} of {}".format(*next(iter(found))) if len(found) == 1 else ""
    return f"{measured.backend} on {measured.system.title}{alike}"


def _rate(operator: Operator, name: str, data_type: str, measured: Measured, seconds: Spread, copies: int) -> Rate:
    """The rate of a kernel; of a contraction with operands beyond every cache, their bytes per second without those of the result."""
    read = int(operator.byte_count(direction=Direction.READ))
    contracts = operator.contraction_flop_count != 0
    cold = contracts and copies * read >= COLD * measured.system.last_cache
    traffic, flops = read if cold else int(operator.byte_count()), int(operator.flop_count)
    return Rate(name, data_type, measured.threads, working_set(operator), traffic, flops, seconds, cold, contracts)


def _operators(
    kernel: Kernel, measured: Measured, data_type: str, heads: Sequence[Heads]
) -> tuple[list[Operator], Mapping[str, np.ndarray] | None]:
    """The operators of a class at all sizes, and the columns of their rows."""
    kind, bits = measured.system.kind, BITS[data_type]
    if kernel is Kernel.VECTOR:
        return _vector_operators(kind, bits), None
    if kernel is Kernel.GEMM:
        sizes = [(rows, outputs, inner) for inner, outputs in SIDES[kind] for rows in ROWS[kind]]
    else:
        lengths = CONTEXTS if kernel is Kernel.DECODE else PROMPTS
        every = [(batch, length, *one) for batch in BATCHES[kind] for length in lengths[kind] for one in heads]
        sizes = every[:: max(1, len(every) // MOST_SIZES)]
    columns = dict(zip(DIMENSIONS[kernel], np.array(sizes, float).T, strict=True))
    blank = Rows(kernel, frozenset({bits}), "", columns, np.ones(len(sizes)), len(sizes))
    letters = operator_of(kernel, frozenset({bits}), device_of(measured), cache_write=kernel is Kernel.PREFILL)
    values = dimensions(blank)
    numbers = [{symbol: Integer(int(column[place])) for symbol, column in values.items()} for place in range(len(sizes))]
    return [letters.bind(one) for one in numbers], columns


def _vector_operators(kind: str, bits: int) -> list[Operator]:
    """Additions, norms, activation functions and softmaxes."""
    found = []
    for width in WIDTHS:
        rows = 1
        while rows * width <= ELEMENTS[kind]:
            sizes = {"b": 1, "s": rows, "d": width, "t": width, "k": 1, "g": 1}
            space = Space({axis: Integer(size) for axis, size in sizes.items()})
            x, y = (Tensor(name, axes_of("b s d"), Storage.ACTIVATION, space, Integer(bits)) for name in "xy")
            scores = Tensor("scores", axes_of("b k g s t"), Storage.ACTIVATION, space, Integer(bits))
            made = (add("add", x, y), norm("norm", x, Norm.LAYER), activation("act", "gelu_tanh", x), softmax("softmax", scores))
            found += [_at(one, bits) for one in made]
            rows *= 4
    return found


def _at(operator: Operator, bits: int) -> Operator:
    """The operator with all its tensors at one width."""

    def wide(access):
        return replace(access, tensor=access.tensor.at(Integer(bits)))

    return replace(operator, reads=tuple(map(wide, operator.reads)), writes=tuple(map(wide, operator.writes)))
