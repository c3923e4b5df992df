"""A device: peaks per data type, memory, on-chip levels, links, power, each with its source."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sympy import Expr, Rational

from symroof.errors import DeviceError, quote
from symroof.hardware.machine import Calibration, Machine
from symroof.operators.facts import Resource
from symroof.units import BANDWIDTH, BYTE, INTENSITY, RATE, WATT, in_unit, quantity

HOST_LINKS = ("pcie", "nvlink-c2c")
"""How the names of links to the host begin."""


@dataclass(frozen=True)
class Source:
    """A document a figure comes from."""

    title: str
    publisher: str
    url: str
    date: str


@dataclass(frozen=True)
class Figure:
    """One figure: its exact value in canonical units, as printed, and where it stands."""

    value: Rational
    printed: str
    source: Source | None
    note: str = ""


@dataclass(frozen=True)
class Peak:
    """Peak performance in one data type: the dense figure, and the structured-sparse one apart."""

    dense: Figure
    sparse: Figure | None = None


@dataclass(frozen=True)
class OnChip:
    """On-chip memory: the capacity of one instance, and how many the chip has."""

    name: str
    capacity: Figure
    instances: int = 1
    role: str = ""


@dataclass(frozen=True)
class Link:
    """A link to other devices; the direction says whether both ways are counted together ("total")."""

    name: str
    bandwidth: Figure
    direction: str


@dataclass(frozen=True)
class Device:
    """A device by its vendor's figures, or by the survey's.

    Attributes
    ----------
    name : as in `load_hardware`.
    title : the vendor's name.
    peaks : per data type, FLOP/s; integer operations count as FLOP.
    bandwidth_figure, capacity_figure : of the main memory.
    on_chip : innermost level first; the one whose role is "buffer" holds a kernel's tiles.
    vector : FLOP/s of the vector units, on which all runs that is no contraction; on the matrix units where none is stated.
    exponential : exponentials per second.
    cache : byte/s of the last-level cache.
    calibration : what kernels were measured to reach.

    >>> from symroof.hardware.loader import load_hardware
    >>> device = load_hardware("a100-sxm-80gb")
    >>> print(device.bandwidth.to("GB/s"), device.ridge("fp16"))
    2039 gigabyte / second 312000/2039 flop / byte
    """

    name: str
    title: str
    vendor: str
    kind: str
    peaks: Mapping[str, Peak]
    bandwidth_figure: Figure
    capacity_figure: Figure | None
    on_chip: tuple[OnChip, ...] = ()
    links: tuple[Link, ...] = ()
    tdp: Figure | None = None
    note: str = ""
    sparse_is_twice_dense: bool = False
    vector: Figure | None = None
    exponential: Figure | None = None
    cache: Figure | None = None
    calibration: Calibration | None = None

    bandwidth = in_unit(lambda device: device.memory_bandwidth, BANDWIDTH, "Memory bandwidth, as a Quantity in byte/s.")

    @property
    def capacity(self):
        """Memory capacity, as a Quantity in bytes.

        Raises
        ------
        DeviceError
            The device's file states none.
        """
        if self.capacity_figure is None:
            raise DeviceError(f"{self.name}: no memory capacity is stated")
        return quantity(self.capacity_figure.value, BYTE)

    @property
    def power(self):
        """Thermal design power, as a Quantity in watts."""
        if self.tdp is None:
            raise DeviceError(f"{self.name}: no power is stated")
        return quantity(self.tdp.value, WATT)

    @property
    def buffer(self) -> Expr | None:
        """Bytes of on-chip memory that hold one kernel's tiles, if the file states them."""
        return next((level.capacity.value for level in self.on_chip if level.role == "buffer"), None)

    def peak(self, data_type: str):
        """Dense peak performance in one data type, as a Quantity in FLOP/s.

        Raises
        ------
        DeviceError
            The file states no peak for it.
        """
        return quantity(self.fastest((data_type,))[1], RATE)

    @property
    def memory_bandwidth(self) -> Expr:
        """Memory bandwidth in byte/s, bare."""
        return self.bandwidth_figure.value

    @functools.cached_property
    def machine(self) -> Machine:
        """Every rate that is stated, for rooflines."""
        stated = {Resource.VECTOR: self.vector, Resource.EXPONENTIAL: self.exponential, Resource.CACHE: self.cache}
        rates = {Resource.MEMORY: self.memory_bandwidth} | {resource: figure.value for resource, figure in stated.items() if figure}
        if any(link.name.lower().startswith(HOST_LINKS) for link in self.links):
            rates[Resource.HOST] = self.link_bandwidth(*HOST_LINKS)
        if self.links:
            names = (link.name.lower() for link in self.links)
            rates[Resource.LINK] = self.link_bandwidth(*(name for name in names if not name.startswith(HOST_LINKS)))
        return Machine(
            self.title,
            {name: peak.dense.value for name, peak in self.peaks.items()},
            rates,
            {name: peak.sparse.value for name, peak in self.peaks.items() if peak.sparse is not None},
            self.name,
            self.calibration,
        )

    def link_bandwidth(self, *names: str) -> Expr:
        """Bandwidth one way in byte/s, bare, of the first link whose name begins with one of these; of any if none is given.

        Raises
        ------
        DeviceError
            The file states no such link.
        """
        wanted = [link for link in self.links if not names or link.name.lower().startswith(names)]
        if not wanted:
            what = " or ".join(names) or "other devices"
            raise DeviceError(f"device {quote(self.name)} states no link to {what}; give its bandwidth")
        return wanted[0].bandwidth.value / (2 if wanted[0].direction == "total" else 1)

    def fastest(self, data_types: Iterable[str], *, sparse: bool = False) -> tuple[str, Expr]:
        """The fastest of these data types that the device has (of equals the first), and its dense peak, or the sparse one.

        Raises
        ------
        DeviceError
            It has none of them.
        """
        return self.machine.fastest(data_types, sparse=sparse)

    def ridge(self, data_type: str):
        """Ridge point, peak / bandwidth, as a Quantity in FLOP/byte."""
        return quantity(self.fastest((data_type,))[1] / self.bandwidth_figure.value, INTENSITY)
