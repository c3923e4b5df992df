"""A machine: the rates at which a device, or a unit attached to one, provides resources; symbols where they are not known."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from sympy import Expr, S, Symbol

from symroof import symbols
from symroof.errors import DeviceError, member, quote
from symroof.hardware.calibration import SYMBOLIC_CONSTANTS, Calibration
from symroof.operators.facts import Resource
from symroof.symbolic import Symbolic

EVERY = ""
"""The key of a peak that applies to every data type."""

CLASSIC, STATED, CALIBRATED = "classic", "stated", "calibrated"
CEILINGS = (CLASSIC, STATED, CALIBRATED)
"""The ceiling sets: matrix peak and memory bandwidth; every stated rate; or every stated rate with fitted shares."""

RATE_SYMBOLS = {
    Resource.MEMORY: symbols.BW,
    Resource.HOST: symbols.BW_h,
    Resource.LINK: symbols.BW_l,
    Resource.NETWORK: symbols.BW_n,
    Resource.CHIP: symbols.BW_c,
}
"""The symbol of every resource's rate; the matrix peak is P."""

UNITS = {Resource.VECTOR: symbols.P_v, Resource.EXPONENTIAL: symbols.P_x, Resource.CACHE: symbols.BW_L, Resource.PEER: symbols.BW_p}
"""The symbols of further rates, for formulas of devices that state them; the symbolic roofline has none of these."""

LATENCIES = (symbols.l_0, symbols.t_l, symbols.l_x, symbols.t_x, symbols.t_n)
"""The symbols of the latencies of collectives; a latency that a machine does not state is zero."""

ON_DEVICE = frozenset(UNITS)
"""The resources that a classic roofline leaves out."""

ON_UNIT = (ON_DEVICE | {Resource.MEMORY}) - {Resource.PEER}
"""The resources that an attached unit has of its own."""


@dataclass(frozen=True, eq=False)
class Machine(Symbolic):
    """Peaks by data type, and the rates of all other resources.

    Attributes
    ----------
    title : the display name.
    peaks : dense FLOP/s of the matrix units by data type, or a single one under `EVERY`.
    rates : byte/s of memory, links and caches, FLOP/s of the vector units, exponentials per second.
    sparse_peaks : FLOP/s with structured sparsity.
    name : the device's name, for errors; empty for an attached unit.
    calibration : the constants of measured kernels, if fitted.
    processors : the number of parallel multiprocessors, compute units or cores.
    clock : the clock of the peaks, in Hz.
    latencies : latencies of collectives in seconds, by symbol.
    joined : the number of devices that its link connects, itself included; None if not stated.

    >>> from symroof.hardware.loader import load_hardware
    >>> cube = load_hardware("hbm-pim").machine
    >>> cube.fastest(("fp16",)), cube.memory_bandwidth
    (('fp16', 1200000000000), 2000000000000)
    """

    title: str
    peaks: Mapping[str, Expr]
    rates: Mapping[Resource, Expr]
    sparse_peaks: Mapping[str, Expr] = field(default_factory=dict)
    name: str = ""
    calibration: Calibration | None = None
    processors: Expr | None = None
    clock: Expr | None = None
    latencies: Mapping[Symbol, Expr] = field(default_factory=dict)
    joined: Expr | None = None

    @property
    def described(self) -> str:
        """The machine's name in errors."""
        return f"device {quote(self.name)}" if self.name else f"unit {quote(self.title)}"

    @property
    def memory_bandwidth(self) -> Expr:
        """Memory bandwidth in byte/s, bare."""
        return self.rates[Resource.MEMORY]

    def fastest(self, data_types: Iterable[str], *, sparse: bool = False) -> tuple[str, Expr]:
        """The fastest of these data types (the first of equals), and its dense or sparse peak in FLOP/s.

        Raises
        ------
        DeviceError
            The machine has none of them.
        """
        return self._choose(tuple(data_types), sparse)

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - a machine is equal to itself alone, and light
    def _choose(self, wanted: tuple[str, ...], sparse: bool) -> tuple[str, Expr]:
        peaks = self.sparse_peaks if sparse else self.peaks
        if EVERY in peaks:
            return wanted[0], peaks[EVERY]
        known = [name for name in wanted if name in peaks]
        if known:
            name = max(known, key=peaks.__getitem__) if all(peaks[name].is_number for name in known) else known[0]
            return name, peaks[name]
        if sparse:
            asked = f" in {wanted[0]}, nor for a wider type" if self.peaks.keys() != {EVERY} and self.name and wanted else ""
            raise DeviceError(f"{self.described} states no peak for structured sparsity{asked}")
        asked = quote(wanted[0]) if len(wanted) == 1 else f"any of {', '.join(wanted)}"
        raise DeviceError(f"{self.described} states no peak for {asked}; it has {', '.join(self.peaks)}")

    def rate(self, resource: Resource) -> Expr:
        """The rate of a resource other than the matrix units.

        Raises
        ------
        DeviceError
            The rate is not stated.
        """
        if resource in self.rates:
            return self.rates[resource]
        raise DeviceError(f"{self.described} {MISSING[resource]}")

    def with_ceilings(self, ceilings: str) -> Machine:
        """The same machine with one of the ceiling sets.

        Raises
        ------
        DeviceError
            The ceilings are calibrated, but the machine has no calibration.
        InputError
            There is no such set.
        """
        member("ceilings", ceilings, CEILINGS)
        if ceilings == CLASSIC:
            if self.calibration is None and ON_DEVICE.isdisjoint(self.rates) and not self.latencies:
                return self
            kept = {resource: rate for resource, rate in self.rates.items() if resource not in ON_DEVICE}
            return replace(self, rates=kept, calibration=None, latencies={})
        if ceilings == CALIBRATED and self.calibration is None:
            raise DeviceError(
                f"{self.described} has no calibration; use ceilings stated or classic, or fit your own constants with symroof calibrate"
            )
        return self if ceilings == CALIBRATED or self.calibration is None else replace(self, calibration=None)

    def without_values(self, *free: Symbol) -> Machine:
        """The same machine with these rates as symbols: the peak P, bandwidths."""
        symbolic = {resource: symbol for resource, symbol in RATE_SYMBOLS.items() if symbol in free}
        peaks, sparse = ({EVERY: symbols.P}, {EVERY: symbols.P}) if symbols.P in free else (self.peaks, self.sparse_peaks)
        return replace(self, peaks=peaks, sparse_peaks=sparse, rates={**self.rates, **symbolic}) if free else self

    def beside(self, unit: Machine) -> Machine:
        """The unit with the links of this machine instead of its own."""
        links = {resource: rate for resource, rate in self.rates.items() if resource not in ON_UNIT}
        return replace(unit, rates={**links, **{resource: rate for resource, rate in unit.rates.items() if resource in ON_UNIT}})

    def scaled(self, count: Expr = S.One, peak: Expr | None = None, bandwidth: Expr | None = None) -> Machine:
        """*count* units as one machine attached to a device, optionally with another peak (for every data type) or bandwidth."""
        peaks, sparse = ({name: count * figure for name, figure in some.items()} for some in (self.peaks, self.sparse_peaks))
        if peak is not None:
            peaks, sparse = {EVERY: count * peak}, {}
        rates = {resource: count * rate for resource, rate in self.rates.items() if resource in ON_UNIT}
        if bandwidth is not None:
            rates[Resource.MEMORY] = count * bandwidth
        return replace(self, peaks=peaks, sparse_peaks=sparse, rates=rates, name="")


def in_symbols(stated: Iterable[Resource]) -> Machine:
    """A symbolic machine: one peak, one bandwidth per level, and the rates of these further resources.

    >>> in_symbols([Resource.VECTOR]).rate(Resource.VECTOR)
    P_v
    """
    further = {resource: letter for resource, letter in UNITS.items() if resource in {*stated}}
    return replace(SYMBOLIC, rates={**SYMBOLIC.rates, **further}) if further else SYMBOLIC


MISSING = {
    Resource.HOST: "states no link to the host; give its bandwidth",
    Resource.LINK: "states no link to other devices; give its bandwidth",
    Resource.NETWORK: "states no network to other nodes; give its bandwidth, as network=50GB/s",
    Resource.CHIP: "states no bandwidth of its on-chip memory; give chip_bandwidth",
    Resource.MEMORY: "states no memory bandwidth",
}

SYMBOLIC = Machine("any machine", {EVERY: symbols.P}, RATE_SYMBOLS, {EVERY: symbols.P})
"""One peak P for all operators and one bandwidth per level."""

SYMBOLIC_CALIBRATED = replace(
    SYMBOLIC,
    rates={**RATE_SYMBOLS, Resource.EXPONENTIAL: symbols.P_x},
    calibration=SYMBOLIC_CONSTANTS,
    processors=symbols.n_c,
    clock=symbols.f_c,
)
"""The same with symbols for the constants of calibrated kernels and for the device figures that their forms need."""
