"""Measured kernels from CSV files: columns by name, times by the unit in the column's name.

The columns determine the kind of file. One row is one kernel, timed in its own loop:

=================== =======================================================================
GEMM                ``m, n, k``: ``[m, k] x [k, n]``; ``dtype``; ``copies`` of the matrix in turn
attention, decode   ``batch, kv_len, heads, kv_heads, head_dim, kv_dtype``
attention, prefill  ``batch, seq, heads, kv_heads, head_dim, kv_dtype``
time                ``latency_us``, or ``_ns``, ``_ms``, ``_s``
what was measured   ``gpu`` or ``device``; ``framework``, ``version``, ``kernel``
=================== =======================================================================
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from symroof.errors import InputError, nearest, quote
from symroof.files import reading
from symroof.hardware.calibration import Kernel

DIMENSIONS = {
    Kernel.GEMM: ("m", "n", "k"),
    Kernel.DECODE: ("batch", "kv_len", "heads", "kv_heads", "head_dim"),
    Kernel.PREFILL: ("batch", "seq", "heads", "kv_heads", "head_dim"),
}
"""The columns that give the dimensions of a kernel."""

UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
TIME = "latency"

WIDTHS = {
    "bfloat16": (16,), "bf16": (16,), "float16": (16,), "fp16": (16,), "half": (16,),
    "fp8": (8,), "fp8_block": (8,), "int8": (8,), "sq": (8,), "int8_wo": (8, 16),
    "fp4": (4,), "nvfp4": (4,), "mxfp4": (4,), "int4_wo": (4, 16),
}  # fmt: skip
"""Bits of both operands by data type; wo is weight-only, sq SmoothQuant, block and the last FP4 have shared scales."""

NAMED = ("framework", "version", "kernel")
DEVICE = ("gpu", "device")

MOST_ROWS = 20_000
"""The most rows kept per kernel; of more, a uniform sample."""

LARGEST = 10**9
LONGEST = 3600.0
"""Upper bound in seconds: no kernel takes an hour."""


@dataclass(frozen=True)
class Rows:
    """The measurements of one kernel on one device.

    Attributes
    ----------
    kernel : the kernel class.
    widths : the operands' widths in bits.
    name : framework, version and kernel, as in the file.
    columns : dimensions by column, one entry per row; "copies" if the file has it.
    seconds : measured times.
    total : the number of rows before sampling.
    """

    kernel: Kernel
    widths: frozenset[int]
    name: str
    columns: Mapping[str, np.ndarray] = field(repr=False)
    seconds: np.ndarray = field(repr=False)
    total: int

    def __len__(self) -> int:
        return len(self.seconds)

    def only(self, chosen: np.ndarray) -> Rows:
        """Some of the rows."""
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return replace(self, columns=columns, seconds=self.seconds[chosen])


def read_rows(path: str | Path, device: str = "", where: Mapping[str, str] | None = None) -> tuple[Rows, ...]:
    """The measurements in a file, one entry per kernel and width; the file is streamed.

    Parameters
    ----------
    device : selects rows whose device is a prefix of this name, with ``-`` for ``_``, or the other way round.
    where : selects rows with these texts in these columns.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, has an invalid number or a time outside 0 to one hour, or has no such rows.
    """
    place, origin = Path(path), quote(str(path))
    where = dict(where or {})
    try:
        with reading(place) as stream:
            table = csv.reader(stream)
            header = [name.strip() for name in next(table, [])]
            kernel, unit = _kind(origin, header), _unit(origin, header)
            groups = _grouped(origin, header, table, kernel, device, where)
    except csv.Error as fault:
        raise InputError(f"{origin} is not CSV: {fault}") from None
    return tuple(
        Rows(
            kernel,
            frozenset(WIDTHS[data_type]),
            name,
            {column: np.array([row[at] for row in kept]) for at, column in enumerate((*DIMENSIONS[kernel], "copies"), 1) if kept[0][at]},
            np.array([row[0] * UNITS[unit] for row in kept]),
            total,
        )
        for (name, data_type), (kept, total) in groups.items()
    )


def _kind(origin: str, header: Sequence[str]) -> Kernel:
    lacking = {kernel: [name for name in needed if name not in header] for kernel, needed in DIMENSIONS.items()}
    kernel = min(lacking, key=lambda kind: len(lacking[kind]) / len(DIMENSIONS[kind]))
    if lacking[kernel]:
        missing = ", ".join(lacking[kernel])
        raise InputError(f"{origin}: no column {missing}; a file of {kernel} has {', '.join(DIMENSIONS[kernel])}, dtype, latency_us")
    return kernel


def _unit(origin: str, header: Sequence[str]) -> str:
    times = [name for name in header if name == TIME or name.startswith(f"{TIME}_")]
    if len(times) != 1:
        raise InputError(
            f"{origin}: expected one column of times, latency_us, latency_ms, latency_s or latency_ns; found {times or 'none'}"
        )
    unit = times[0].removeprefix(TIME).removeprefix("_")
    if unit not in UNITS:
        raise InputError(
            f"{origin}: column {quote(times[0])} states no unit known here; name it latency_us, latency_ms, latency_s or latency_ns"
        )
    return unit


Row = tuple[float, ...]


def _grouped(
    origin: str, header: list[str], table: Iterator[list[str]], kernel: Kernel, device: str, where: Mapping[str, str]
) -> dict[tuple[str, str], tuple[list[Row], int]]:
    """The selected rows by name and data type: time, dimensions, copies; and their number before sampling."""
    at = {name: place for place, name in enumerate(header)}
    for name in where:
        if name not in at:
            raise InputError(f"{origin}: there is no column {quote(name)}; {nearest(name, header)}")
    of_device = next((name for name in DEVICE if name in at and name not in where), "")
    of_type = next((name for name in ("dtype", "kv_dtype") if name in at), "")
    time = next(name for name in header if name.startswith(TIME))
    numbers = [at[name] for name in (time, *DIMENSIONS[kernel])] + ([at["copies"]] if "copies" in at else [])
    factor = UNITS[_unit(origin, header)]
    groups: dict[tuple[str, str], tuple[list[Row], int]] = {}
    seen: set[str] = set()
    chance = random.Random(0)  # noqa: S311 - a reproducible sample
    for line, row in enumerate(table, 2):
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(f"{origin} line {line}: {len(row)} fields, where the header names {len(header)}")
        if of_device:
            seen.add(row[at[of_device]])
            if device and not _names(row[at[of_device]], device):
                continue
        if any(row[at[name]] != text for name, text in where.items()):
            continue
        data_type = row[at[of_type]].lower() if of_type else "bfloat16"
        if data_type not in WIDTHS:
            raise InputError(f"{origin} line {line}: {of_type} {quote(data_type)} is not known here; {nearest(data_type, WIDTHS)}")
        key = (" ".join(row[at[name]] for name in NAMED if name in at), data_type)
        kept, total = groups.get(key, ([], 0))
        if len(kept) < MOST_ROWS:
            kept.append(_numbers(origin, line, header, row, numbers, factor))
        elif (place := chance.randrange(total + 1)) < MOST_ROWS:
            kept[place] = _numbers(origin, line, header, row, numbers, factor)
        groups[key] = (kept, total + 1)
    if not groups:
        others = f"; its {of_device} is {', '.join(sorted(seen)[:6])}" if seen else ""
        asked = " ".join(
            [*([f"of device {device}"] if device and of_device else []), *(f"with {name}={text}" for name, text in where.items())]
        )
        choose = f": choose with --where {of_device}=..." if seen and device else ""
        raise InputError(f"{origin} has no rows {asked}".rstrip() + others + choose)
    return groups


def _names(text: str, device: str) -> bool:
    """Whether a device's name begins with its name in a file, or the other way round: a100_sxm, b200_sxm.

    >>> _names("a100_sxm", "a100-sxm-80gb"), _names("b200_sxm", "b200"), _names("l40s", "l40")
    (True, True, False)
    """
    called, named = text.lower().replace("_", "-").replace(" ", "-") + "-", f"{device}-"
    return named.startswith(called) or called.startswith(named)


def _numbers(origin: str, line: int, header: Sequence[str], row: Sequence[str], places: Sequence[int], factor: float) -> Row:
    """The time and the whole numbers of a row; the number of copies is 0 if not given."""
    numbers = []
    for place in places:
        try:
            numbers.append(float(row[place]))
        except ValueError:
            raise InputError(f"{origin} line {line}: {header[place]} {quote(row[place])} is not a number") from None
    time, sizes = numbers[0], numbers[1:]
    if not 0 < time * factor < LONGEST:
        why = "a time above 0" if not time * factor >= LONGEST else "a time below an hour"
        raise InputError(f"{origin} line {line}: {header[places[0]]} {quote(row[places[0]])}: expected {why}")
    for place, size in zip(places[1:], sizes, strict=True):
        if not (1 <= size <= LARGEST and size == int(size)):
            raise InputError(f"{origin} line {line}: {header[place]} {quote(row[place])}: expected a whole number from 1 to 1e9")
    return (time, *sizes, *(() if "copies" in header else (0.0,)))
