"""Least and calibrated times of measured kernels, from the operator of each row and the ledger."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sympy import Expr, Integer, Symbol, lambdify, oo

from symroof import symbols
from symroof.calibration.rows import Rows
from symroof.errors import InputError
from symroof.hardware.calibration import CONSTANTS, SYMBOLIC_CONSTANTS, Calibration, Kernel, KernelConstants, Trait
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED, Machine
from symroof.operators import Operator, Resource, Storage
from symroof.operators.attention import CACHE, QUERY, attention
from symroof.operators.facts import wide_enough
from symroof.operators.linear import linear
from symroof.operators.query_blocks import QueryBlocks, with_blocks
from symroof.operators.tensor import Access, Space, Tensor, axes_of
from symroof.roof.kernel_forms import SHARES
from symroof.roof.ledger import WORK, combined, seconds_of, time_of
from symroof.symbols import substitute

LAUNCH, MEMORY, COMPUTE = "launch", "memory", "compute"
REGIMES = (LAUNCH, MEMORY, COMPUTE)
SHORT = 3e-6
"""The least time in seconds below which a launch dominates."""

RESIDENT = 2
"""The largest working set of a loop, in units of the last-level cache, that the cache still serves in part."""


def operator_of(kernel: Kernel, widths: frozenset[int], device: Device | None = None, *, cache_write: bool = False) -> Operator:
    """The operator of a row of measurements, with symbolic dimensions.

    Parameters
    ----------
    widths : bits of both operands; results of GEMMs and attention have at least 16.
    device : its last-level cache and processors determine how often attention reads keys and values of a prompt from memory;
        without a device these are symbols.
    cache_write : whether the kernel also writes keys and values of a prompt to the cache.

    >>> operator_of(Kernel.GEMM, frozenset({16})).flop_count, operator_of(Kernel.DECODE, frozenset({16})).byte_count()
    (2*d*f*s, 4*b*e*g*k + 4*b*e*k*t)
    """
    narrow, wide = (Integer(pick(widths)) for pick in (min, max))
    one, whole = Integer(1), Integer(max(16, *widths))
    if kernel is Kernel.GEMM:
        space = Space({"s": symbols.s, "d": symbols.d, "f": symbols.f})
        x = Tensor("x", axes_of("s d"), Storage.ACTIVATION, space, wide)
        into = Tensor("y", axes_of("s f"), Storage.ACTIVATION, space, whole)
        product = linear("gemm", "s d, d f -> s f", x, into=into)
        return product.bind({symbols.w: narrow})
    queries, context = (one, symbols.t) if kernel is Kernel.DECODE else (symbols.s, symbols.s)
    sizes = {"b": symbols.b, "s": queries, "t": context, "k": symbols.k, "g": symbols.g, "e": symbols.e}
    space = Space(sizes, causal=True)
    q = Tensor("q", QUERY, Storage.ACTIVATION, space, wide)
    cached = [Tensor(name, CACHE, Storage.KV_CACHE, space, narrow) for name in ("k", "v")]
    (fused,) = attention(q, *cached, fused=True)
    fused = _passing(fused.bind({symbols.a: whole}), device) if kernel is Kernel.PREFILL else fused.bind({symbols.a: whole})
    if cache_write:
        made = [Access(Tensor(f"new_{one.name}", axes_of("b s k e"), Storage.ACTIVATION, space, whole)) for one in cached]
        fused = replace(fused, reads=(*fused.reads, *made), writes=(*fused.writes, *map(Access, cached)))
    return fused


def _passing(fused: Operator, device: Device | None) -> Operator:
    """Attention with the reads of its query blocks, as in a step on the device."""
    blocks = QueryBlocks()
    held = blocks.positions_of([fused])
    if device is not None:
        cache, processors = device.cache_capacity_expr, device.processors
        known = (
            {symbols.M_L: oo, symbols.n_c: Integer(1)}
            if cache is None or processors is None
            else {symbols.M_L: cache, symbols.n_c: Integer(processors)}
        )
        held = substitute(held, known)
    return with_blocks(fused, blocks).bind({symbols.R: held})


def dimensions(rows: Rows) -> dict[Symbol, np.ndarray]:
    """The values of the operator's symbols, one entry per row.

    Raises
    ------
    InputError
        Query heads are not a multiple of KV heads.
    """
    column = rows.columns
    if rows.kernel is Kernel.GEMM:
        return {symbols.s: column["m"], symbols.d: column["k"], symbols.f: column["n"]}
    if np.any(column["heads"] % column["kv_heads"]):
        raise InputError(f"{rows.name or rows.kernel}: heads are not a multiple of kv_heads in some row")
    length = symbols.t if rows.kernel is Kernel.DECODE else symbols.s
    name = "kv_len" if rows.kernel is Kernel.DECODE else "seq"
    grouped = column["heads"] / column["kv_heads"]
    return {
        symbols.b: column["batch"],
        length: column[name],
        symbols.k: column["kv_heads"],
        symbols.g: grouped,
        symbols.e: column["head_dim"],
    }


@dataclass(frozen=True)
class Least:
    """The least times of rows, with their regimes.

    Attributes
    ----------
    seconds : least times by the roofline, with each operand moved once.
    regime : "launch", "memory" or "compute" for each row.
    flops, traffic : FLOPs and bytes of memory traffic.
    resident : whether a loop over the row's operands stays in the last-level cache, wholly or in part.
    """

    seconds: np.ndarray
    regime: np.ndarray
    flops: np.ndarray
    traffic: np.ndarray
    resident: np.ndarray


def least(rows: Rows, device: Device) -> Least:
    """The least times of rows on a device, under every stated ceiling."""
    operator, values = operator_of(rows.kernel, rows.widths, device), dimensions(rows)
    machine, peak = device.machine.with_ceilings(STATED), device.machine.fastest(wide_enough(max(rows.widths)))[1]
    seconds = seconds_of(operator, machine, peak)
    total = combined(seconds.values())
    work = combined([taken for resource, taken in seconds.items() if resource in WORK])
    bytes_ = combined([taken for resource, taken in seconds.items() if resource not in WORK])
    whole, working, moving, flops, traffic = (
        evaluated(one, values, len(rows)) for one in (total, work, bytes_, operator.flop_count, operator.byte_count())
    )
    regime = np.where(whole < SHORT, LAUNCH, np.where(working >= moving, COMPUTE, MEMORY))
    capacity = float(device.cache_capacity_expr or 0)
    return Least(whole, regime, flops, traffic, working_set(rows, device) < RESIDENT * capacity)


def evaluated(expression: Expr, values: Mapping[Symbol, np.ndarray], count: int) -> np.ndarray:
    """The value of a formula for every row."""
    used: list[Any] = sorted(expression.free_symbols, key=str)
    return np.broadcast_to(lambdify(used, expression, "numpy")(*(values[symbol] for symbol in used)), (count,)).astype(float)


def working_set(rows: Rows, device: Device) -> np.ndarray:
    """Bytes that the loop which times a row goes through: the copies of a matrix, or all that attention reads and writes.

    Where no column says how many copies, as many as the collector of the published rows takes: enough to exceed the cache,
    five at most (github.com/ai-dynamo/aiconfigurator, collector/trtllm/collect_gemm.py).
    """
    operator, values = operator_of(rows.kernel, rows.widths, device), dimensions(rows)
    if rows.kernel is not Kernel.GEMM:
        return evaluated(operator.byte_count(), values, len(rows))
    matrix = evaluated(operator.byte_count(Storage.WEIGHT), values, len(rows))
    copies = rows.columns.get("copies")
    if copies is None:
        copies = np.clip(np.ceil(float(device.cache_capacity_expr or 0) / matrix), 1, 5)
    return matrix * copies


def surviving(working: np.ndarray, capacity: float) -> np.ndarray:
    """The share of a loop's working set that is still in a cache at its next use, under random replacement.

    ``h = exp(-(1 - h) r)`` with ``r = working set / capacity``: 1 for r <= 1, else ``-LambertW(-r exp(-r)) / r``.

    >>> surviving(np.array([0.5, 1.5, 2.0, 3.0]), 1.0).round(2).tolist()
    [1.0, 0.42, 0.2, 0.06]
    """
    ratio = np.maximum(working / capacity, 1.0)
    share = np.exp(-ratio)
    for _ in range(30):  # Newton's steps, from below
        met = np.exp(-(1 - share) * ratio)
        share = share - (share - met) / np.maximum(1 - ratio * met, 1e-12)
    return np.where(working <= capacity, 1.0, np.clip(share, 0.0, 1.0))


def symbolic_constants(machine: Machine, traits: frozenset[Trait]) -> Machine:
    """A machine with symbols for the constants of its kernels."""
    kernels = tuple(replace(kernel, traits=traits) for kernel in SYMBOLIC_CONSTANTS.kernels)
    return replace(machine, calibration=Calibration(kernels, any_width=True))


_KNOWN: dict[tuple[Machine, Kernel, frozenset[int], frozenset[Trait]], tuple[list[Any], Callable[..., Any]]] = {}
"""Compiled forms by kernel, widths, device and traits."""


def _compiled(kernel: Kernel, widths: frozenset[int], device: Device, traits: frozenset[Trait]) -> tuple[list[Any], Callable[..., Any]]:
    key = (device.machine, kernel, widths, traits)
    if key not in _KNOWN:
        if len(_KNOWN) == MOST_FORMS:
            _KNOWN.pop(next(iter(_KNOWN)))
        _KNOWN[key] = _compile(kernel, widths, device, traits)
    return _KNOWN[key]


MOST_FORMS = 64


def _compile(kernel: Kernel, widths: frozenset[int], device: Device, traits: frozenset[Trait]) -> tuple[list[Any], Callable[..., Any]]:
    operator = operator_of(kernel, widths, device, cache_write=kernel is Kernel.PREFILL)
    machine = symbolic_constants(device.machine, traits)
    peak = device.machine.fastest(wide_enough(max(widths)))[1]
    time = time_of(operator, seconds_of(operator, machine, peak), machine=machine)
    constants = [constant.symbol for constant in CONSTANTS[kernel]]
    used = sorted(time.free_symbols - set(constants), key=str)
    return used, lambdify([*used, *constants], time, "numpy", cse=True)


@dataclass(frozen=True)
class Prediction:
    """The times of rows as a function of a kernel's constants, in the order of `CONSTANTS`, by the ledger."""

    rows: Rows
    device: Device
    traits: frozenset[Trait] = frozenset()

    @functools.cached_property
    def _given(self) -> tuple[Callable[..., Any], list[np.ndarray]]:
        """The form as a function, and the values of its symbols for every row."""
        values = dimensions(self.rows)
        used, function = _compiled(self.rows.kernel, self.rows.widths, self.device, self.traits)
        return function, [values[symbol] for symbol in used]

    @functools.cached_property
    def _working(self) -> np.ndarray:
        return working_set(self.rows, self.device)

    def __call__(self, constants: Sequence[float] | np.ndarray, loop: Sequence[float] | None = None) -> np.ndarray:
        """Seconds of every row.

        Parameters
        ----------
        loop : share of the cache that a loop fills, and bytes per clock and processor read from it; by default nothing is
            read from the cache, as in a step that streams a whole model.
        """
        kernel, device = self.rows.kernel, self.device
        function, values = self._given
        given: list[Any] = list(constants)
        if loop is not None:
            at = [constant.symbol for constant in CONSTANTS[kernel]].index(SHARES[kernel][Resource.MEMORY])
            held = surviving(self._working, loop[0] * float(device.cache_capacity_expr or 0))
            rate = loop[1] * float(device.machine.clock or 0) * float(device.machine.processors or 0) / float(device.bandwidth_expr)
            given[at] = 1 / ((1 - held) / given[at] + held / rate)
        with np.errstate(over="ignore"):
            return function(*values, *given)

    def of(self, constants: KernelConstants) -> np.ndarray:
        """Seconds of every row with fitted constants, including the effect of the timing loop."""
        return self([float(constants[constant.symbol]) for constant in CONSTANTS[constants.kernel]], constants.loop)
