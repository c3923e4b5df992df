"""Calibration: the share of a device's rates that measured kernels reach, as constants per kernel class with range, error and source."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from sympy import Expr, Float, Rational, Symbol

from symroof import symbols
from symroof.errors import Checker, DeviceError, InputError, nearest, quote
from symroof.files import read_text
from symroof.notation import Brief
from symroof.symbols import VOCABULARY, lookup
from symroof.units import SECOND, figure

FOLDER = Path(__file__).parent / "constants"
MOST_SECONDS = 1e-3
"""Upper bound on fitted times: no overhead and no work item takes as long."""


class Kernel(StrEnum):
    """A class of kernels whose times follow one form."""

    GEMM = "gemm"
    DECODE = "attention-decode"
    PREFILL = "attention-prefill"
    VECTOR = "vector"


class Trait(StrEnum):
    """Implementation choices in which kernels of a class differ.

    PACKED : in prefill, query heads that share keys share tiles of queries (FlashAttention 3).
    GROUPED : splits the context only if query heads share keys, and copies Q and O then; in prefill, packs only single queries
        (FlashAttention 2).
    OVERLAPPED : exponentials overlap with matrix products.
    """

    PACKED = "packed"
    GROUPED = "grouped"
    OVERLAPPED = "overlapped"


@dataclass(frozen=True)
class Constant:
    """A fitted constant: its symbol, range, starting value, and the fixed value used if the rows do not determine it."""

    symbol: Symbol
    low: float
    high: float
    start: float
    held: float | None = None

    @property
    def name(self) -> str:
        """The constant's name."""
        return VOCABULARY[self.symbol].name

    @property
    def is_time(self) -> bool:
        """Whether the constant is in seconds."""
        return VOCABULARY[self.symbol].unit == "second"


def _time(symbol: Symbol, start: float, held: float | None = None) -> Constant:
    return Constant(symbol, 0.0, MOST_SECONDS, start, held)


def _share(symbol: Symbol, start: float) -> Constant:
    return Constant(symbol, 0.05, 1.0, start)


CONSTANTS: Mapping[Kernel, tuple[Constant, ...]] = {
    Kernel.GEMM: (
        _time(symbols.t_0g, 5e-6),
        _share(symbols.e_1g, 0.8),
        _share(symbols.e_2g, 0.8),
        Constant(symbols.tau_g, 0.0, 8.0, 1.0, 0.985),
        Constant(symbols.p_g, 1.0, 6.0, 2.0, 2.06),
    ),
    Kernel.DECODE: (
        _time(symbols.t_0d, 8e-6),
        _share(symbols.e_2d, 0.8),
        _time(symbols.t_1d, 3e-6),
        _time(symbols.t_cd, 2e-6, 0.0),
        Constant(symbols.p_d, 1.0, 6.0, 2.0, 2.0),
    ),
    Kernel.PREFILL: (
        _time(symbols.t_0p, 8e-6),
        _share(symbols.e_1p, 0.8),
        _share(symbols.e_2p, 0.9),
        Constant(symbols.x_e, 0.0, 2.0, 0.8, 0.75),
        _time(symbols.t_1p, 3e-6),
        _time(symbols.t_cp, 2e-6, 0.0),
    ),
    Kernel.VECTOR: (_time(symbols.t_0v, 3e-6), _share(symbols.e_2v, 0.8)),
}
"""The constants of every class. A share is at most 1, or a calibrated time could be less than the least time.

The fixed values of tau_g and p_g fit A100 and H100 together; x_e lies between the values that rows of head dimensions 64 to
256 give for FlashAttention 3 on Hopper (0.72) and FlashAttention 2 on Ampere (1.0): rows of a single head dimension do not
separate it from e_1p.
"""


@dataclass(frozen=True)
class Errors:
    """Relative errors of predictions, ``T / t - 1``, in percent: mean, median and 90th percentile of their magnitude, and bias."""

    rows: int
    mape: float
    median: float
    p90: float
    bias: float


@dataclass(frozen=True, eq=False)
class KernelConstants(Brief):
    """The fitted constants of one kernel of a class.

    Attributes
    ----------
    kernel : the class.
    widths : the operands' widths in bits.
    values : shares, seconds and factors, by symbol.
    traits : implementation choices.
    name : the kernel's name and release.
    source : the source of the rows it was fitted to.
    rows : the number of these rows.
    error : errors on the half that was not fitted, by regime; "all" covers the whole half.
    floor : MAPE in percent of one collection of rows as a prediction of another, if known.
    notes : constants that are at a bound of their range, or fixed.
    loop : for benchmark loops that stay in the last-level cache: share of its capacity, and bytes per clock and processor.
    """

    kernel: Kernel
    widths: frozenset[int]
    values: Mapping[Symbol, Expr]
    traits: frozenset[Trait] = frozenset()
    name: str = ""
    source: str = ""
    rows: int = 0
    error: Mapping[str, Errors] = field(default_factory=dict)
    floor: float | None = None
    notes: tuple[str, ...] = ()
    loop: tuple[float, float] | None = None

    def __getitem__(self, symbol: Symbol) -> Expr:
        """The value of a constant."""
        return self.values[symbol]

    @property
    def key(self) -> str:
        """Class and widths, such as ``gemm:16`` or ``gemm:4/16``."""
        return f"{self.kernel}:{'/'.join(map(str, sorted(self.widths)))}"


@dataclass(frozen=True)
class Calibration(Brief):
    """The kernels measured on a device.

    Attributes
    ----------
    kernels : the fitted kernels; of several with the same class and widths the first applies.
    any_width : whether constants apply to every width, because they are symbols.
    """

    kernels: tuple[KernelConstants, ...]
    device: str = ""
    date: str = ""
    any_width: bool = False

    def of(self, kernel: Kernel, widths: frozenset[Expr]) -> KernelConstants | None:
        """The constants of a kernel class for these widths; those of vector operators apply to all widths."""
        free = self.any_width or kernel is Kernel.VECTOR
        return next((known for known in self.kernels if known.kernel is kernel and (free or known.widths == widths)), None)


SYMBOLIC_CONSTANTS = Calibration(
    tuple(KernelConstants(kernel, frozenset(), {one.symbol: one.symbol for one in known}) for kernel, known in CONSTANTS.items()),
    any_width=True,
)
"""Every constant as its own symbol, for formulas that are solved for launch overheads or shares."""


@functools.cache
def shipped(device: str) -> Calibration | None:
    """The shipped calibration of a catalogue device, if there is one."""
    path = FOLDER / f"{device}.toml"
    return load_calibration(path) if path.is_file() else None


def with_constants() -> tuple[str, ...]:
    """The devices with a shipped calibration."""
    return tuple(path.stem for path in sorted(FOLDER.glob("*.toml")))


def load_calibration(path: str | Path) -> Calibration:
    """The calibration in a file that `symroof calibrate` wrote.

    Raises
    ------
    DeviceError
        The file cannot be read or is malformed, or a constant is outside its range.

    >>> load_calibration("none.toml")
    Traceback (most recent call last):
        ...
    symroof.errors.DeviceError: 'none.toml' is not a regular file
    """
    place = Path(path)
    text = read_text(place, "a file of constants", DeviceError)
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise DeviceError(f"{quote(str(path))} is not TOML: {' '.join(str(error).split())}") from None
    return _Reader(str(path)).calibration(content)


TOP = {"device", "date", "software", "kernel"}
OF_KERNEL = {"class", "widths", "traits", "name", "source", "rows", "floor", "notes", "constants", "error", "loop"}
OF_ERROR = {"rows", "mape", "median", "p90", "bias"}


class _Reader(Checker):
    """Reads one file of constants; every error names the file and the key."""

    def __init__(self, path: str) -> None:
        super().__init__(f"constants {quote(path)}", DeviceError)

    def known(self, where: str, table: Mapping[str, Any], keys: set[str]) -> None:
        self.require(isinstance(table, dict), where, table, "a table")
        for key in table:
            if key not in keys:
                raise self.error(f"{where} has the unknown key {quote(key)}; {nearest(key, sorted(keys))}")

    def calibration(self, content: Mapping[str, Any]) -> Calibration:
        self.known("top level", content, TOP)
        tables = content.get("kernel")
        self.require(isinstance(tables, list) and bool(tables), "kernel", tables, "tables [[kernel]]")
        texts = {key: content.get(key, "") for key in ("device", "date")}
        for key, text in texts.items():
            self.require(isinstance(text, str), key, text, "text")
        return Calibration(tuple(self.kernel(table) for table in content["kernel"]), **texts)

    def kernel(self, table: Any) -> KernelConstants:
        self.known("kernel", table, OF_KERNEL)
        try:
            kernel = Kernel(table.get("class", ""))
        except ValueError:
            raise self.error(f"kernel.class is {quote(table.get('class', ''))}; {nearest(str(table.get('class', '')), Kernel)}") from None
        traits, widths, notes = table.get("traits", []), table.get("widths", []), table.get("notes", [])
        self.require(isinstance(traits, list) and set(traits) <= set(Trait), "kernel.traits", traits, f"a list of {', '.join(Trait)}")
        whole = isinstance(widths, list) and all(type(one) is int and 1 <= one <= 64 for one in widths)
        self.require(whole and (bool(widths) or kernel is Kernel.VECTOR), "kernel.widths", widths, "a list of bits")
        self.require(isinstance(notes, list) and all(isinstance(one, str) for one in notes), "kernel.notes", notes, "a list of texts")
        rows, floor, loop = table.get("rows", 0), table.get("floor"), table.get("loop")
        self.require(type(rows) is int and rows >= 0, "kernel.rows", rows, "a whole number from 0")
        self.require(floor is None or self.is_number(floor), "kernel.floor", floor, "a number of percent")
        if loop is not None:
            self.known("kernel.loop", loop, {"share", "bytes_per_clock"})
            loop = (self.number("kernel.loop", loop, "share"), self.number("kernel.loop", loop, "bytes_per_clock"))
        return KernelConstants(
            kernel,
            frozenset(widths),
            self.values(kernel, table.get("constants", {})),
            frozenset(map(Trait, traits)),
            str(table.get("name", "")),
            str(table.get("source", "")),
            rows,
            self.errors(table.get("error", {})),
            floor,
            tuple(notes),
            loop,
        )

    @staticmethod
    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")

    def number(self, where: str, table: Mapping[str, Any], key: str) -> float:
        value = table.get(key)
        self.require(self.is_number(value), f"{where}.{key}", value, "a number")
        return float(value)  # pyright: ignore[reportArgumentType]

    def errors(self, table: Any) -> dict[str, Errors]:
        self.require(isinstance(table, dict), "kernel.error", table, "one table per regime")
        by_regime = {}
        for regime, figures in table.items():
            where = f"kernel.error.{regime}"
            self.known(where, figures, OF_ERROR)
            rows, *rest = (self.number(where, figures, key) for key in ("rows", "mape", "median", "p90", "bias"))
            by_regime[regime] = Errors(int(rows), *rest)
        return by_regime

    def values(self, kernel: Kernel, table: Any) -> dict[Symbol, Expr]:
        wanted = {one.name: one for one in CONSTANTS[kernel]}
        self.known("kernel.constants", table, set(wanted))
        for name in wanted:
            if name not in table:
                raise self.error(f"kernel.constants.{name} is missing; a {kernel} has {', '.join(wanted)}")
        return {lookup(name).symbol: self.constant(one, table[name]) for name, one in wanted.items()}

    def constant(self, constant: Constant, given: Any) -> Expr:
        """An exact number within the constant's range; a time is text with its unit."""
        where = f"kernel.constants.{constant.name}"
        if constant.is_time and given != 0:
            try:
                value: Expr = figure(given, SECOND)
            except InputError as error:
                raise self.error(f"{where}: {error}") from None
        else:
            self.require(self.is_number(given), where, given, "a number")
            value = Rational(str(given))
        if not constant.low <= value <= constant.high:
            unit = " s" if constant.is_time else ""
            raise self.error(f"{where} is {quote(str(given))}: expected {constant.low:g} to {constant.high:g}{unit}")
        return value


def written(calibration: Calibration, software: str) -> str:
    """The calibration as the text of a file that `load_calibration` reads."""
    lines = [f"device = {_text(calibration.device)}", f"date = {_text(calibration.date)}", f"software = {_text(software)}"]
    for one in calibration.kernels:
        lines += ["", "[[kernel]]", f"class = {_text(one.kernel)}", f"widths = {sorted(one.widths)}"]
        lines += [f"traits = [{', '.join(map(_text, sorted(one.traits)))}]", f"name = {_text(one.name)}", f"source = {_text(one.source)}"]
        lines += [f"rows = {one.rows}", *([f"floor = {one.floor:g}"] if one.floor is not None else [])]
        lines.append(f"notes = [{', '.join(map(_text, one.notes))}]")
        if one.loop:
            lines.append(f"loop = {{ share = {one.loop[0]:.4g}, bytes_per_clock = {one.loop[1]:.4g} }}")
        lines.append("\n[kernel.constants]")
        for constant in CONSTANTS[one.kernel]:
            value = float(Float(one[constant.symbol]))
            lines.append(f"{constant.name} = " + (f'"{value * 1e6:.4f} us"' if constant.is_time else f"{value:.4f}"))
        lines += ["", "[kernel.error]"] if one.error else []
        for regime, error in one.error.items():
            figures = ", ".join(f"{key} = {getattr(error, key):.2f}" for key in ("mape", "median", "p90", "bias"))
            lines.append(f"{regime} = {{ rows = {error.rows}, {figures} }}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A TOML string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
