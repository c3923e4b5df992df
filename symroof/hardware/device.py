"""A device: peaks per data type, memory, on-chip levels, links and power, each with its source."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from sympy import Expr, Integer, Rational

from symroof import symbols
from symroof.errors import DeviceError, member
from symroof.hardware.calibration import Calibration, load_calibration
from symroof.hardware.machine import Machine
from symroof.notation import Brief
from symroof.operators.facts import Resource
from symroof.units import BANDWIDTH, BYTE, INTENSITY, RATE, WATT, Quantity, in_unit, quantity


class Target(StrEnum):
    """The other end of a link."""

    HOST = "host"
    DEVICE = "device"
    NETWORK = "network"


ACCUMULATIONS = ("fp32", "fp16")
"""The types in which products of narrow types may be accumulated."""

BUFFER, CACHE = "buffer", "cache"
"""Roles of on-chip memory: the buffer of a kernel's tiles; the last cache before memory."""


@dataclass(frozen=True)
class Source(Brief):
    """A document that states a figure."""

    title: str
    publisher: str
    url: str
    date: str


@dataclass(frozen=True)
class Figure(Brief):
    """One figure: its exact value in canonical units, its printed form, and its source."""

    value: Rational
    printed: str
    source: Source | None
    note: str = ""


@dataclass(frozen=True)
class Peak(Brief):
    """Peak performance in one data type, FLOP/s: the dense figure and, separately, the one for structured sparsity.

    Attributes
    ----------
    dense, sparse : for accumulation in FP32, or in INT32.
    half_accumulation, half_accumulation_sparse : for accumulation in FP16, if the rate differs.
    clock : the clock of these figures, if not the device's.
    """

    dense: Figure
    sparse: Figure | None = None
    half_accumulation: Figure | None = None
    half_accumulation_sparse: Figure | None = None
    clock: Figure | None = None


@dataclass(frozen=True)
class OnChip(Brief):
    """On-chip memory: capacity and bandwidth of one instance, and the number of instances.

    As many instances as processors are private, one per processor; a single instance is shared by all.
    """

    name: str
    capacity: Figure
    instances: int = 1
    role: str = ""
    bandwidth: Figure | None = None


@dataclass(frozen=True)
class Link(Brief):
    """A link to the host, other devices or the network.

    Attributes
    ----------
    bandwidth : total bandwidth to all peers, byte/s.
    direction : whether bandwidths are per direction ("each") or for both directions ("total").
    to : the other end.
    peers : the number of devices that it reaches directly.
    per_peer : bandwidth to a single peer, if less than the total.
    passes_on : whether peers forward traffic to further devices, as in a torus.
    overhead, latency : seconds per collective, and per step of it.
    exchange_overhead, exchange_latency : seconds per send or all-to-all, and per peer.
    """

    name: str
    bandwidth: Figure
    direction: str
    to: Target = Target.DEVICE
    peers: int | None = None
    per_peer: Figure | None = None
    passes_on: bool = False
    overhead: Figure | None = None
    latency: Figure | None = None
    exchange_overhead: Figure | None = None
    exchange_latency: Figure | None = None

    one_way = in_unit(lambda link: link.one_way_expr, BANDWIDTH, "Total bandwidth one way to all peers, as a Quantity in byte/s.")
    one_way_per_peer = in_unit(lambda link: link.one_way_per_peer_expr, BANDWIDTH, "Bandwidth one way to a single peer, the same.")

    @property
    def one_way_expr(self) -> Expr:
        """Total bandwidth one way to all peers, in byte/s, bare."""
        return self.bandwidth.value / self._ways

    @property
    def one_way_per_peer_expr(self) -> Expr:
        """Bandwidth one way to a single peer, in byte/s, bare."""
        return (self.per_peer or self.bandwidth).value / self._ways

    @property
    def _ways(self) -> int:
        return 2 if self.direction == "total" else 1


@dataclass(frozen=True)
class Device(Brief):
    """A device by its vendor's figures, or by the survey's.

    Attributes
    ----------
    name : the name for `load_hardware`.
    title : the vendor's name.
    peaks : FLOP/s per data type; integer operations count as FLOP.
    bandwidth_figure, capacity_figure : of the main memory; the capacity as the vendor states it.
    reported_figure : the capacity as the driver reports it.
    on_chip : on-chip levels, innermost first; role "buffer" stores a kernel's tiles, "cache" is the last level before memory.
    processors_figure : number of multiprocessors, compute units or cores, and their name.
    clock : the clock of the peaks and of all rates per clock, in Hz.
    vector : FLOP/s of the vector units, which run all operators but contractions; without it the matrix units run them.
    exponential : exponentials per second.
    cache : byte/s of the last-level cache.
    calibration : the constants of measured kernels.

    >>> from symroof.hardware.loader import load_hardware
    >>> device = load_hardware("a100-sxm-80gb")
    >>> print(device.bandwidth.to("GB/s"), device.ridge("fp16"))
    2039 GB/s 153 FLOP/byte
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
    reported_figure: Figure | None = None
    processors_figure: Figure | None = None
    clock: Figure | None = None

    bandwidth = in_unit(lambda device: device.bandwidth_expr, BANDWIDTH, "Memory bandwidth, as a Quantity in byte/s.")
    buffer = in_unit(lambda device: device.buffer_expr, BYTE, "On-chip memory for one kernel's tiles, as a Quantity, or None.")
    cache_capacity = in_unit(lambda device: device.cache_capacity_expr, BYTE, "Last-level cache that one processor reads, or None.")

    @property
    def usable_figure(self) -> Figure | None:
        """The capacity available to a step: as the driver reports it, otherwise as the vendor states it."""
        return self.reported_figure or self.capacity_figure

    @property
    def capacity(self) -> Quantity:
        """Memory capacity as the vendor states it, as a Quantity in bytes.

        Raises
        ------
        DeviceError
            The device's file states none.
        """
        if self.capacity_figure is None:
            raise DeviceError(f"{self.name}: no memory capacity is stated")
        return quantity(self.capacity_figure.value, BYTE)

    @property
    def usable(self) -> Quantity:
        """Memory capacity available to a step, as a Quantity in bytes.

        Raises
        ------
        DeviceError
            The device's file states none.
        """
        if self.usable_figure is None:
            raise DeviceError(f"{self.name}: no memory capacity is stated")
        return quantity(self.usable_figure.value, BYTE)

    @property
    def processors(self) -> int | None:
        """Number of multiprocessors, compute units or cores, if the file states it."""
        return int(self.processors_figure.value) if self.processors_figure else None

    @property
    def power(self) -> Quantity:
        """Thermal design power, as a Quantity in watts."""
        if self.tdp is None:
            raise DeviceError(f"{self.name}: no power is stated")
        return quantity(self.tdp.value, WATT)

    @functools.cached_property
    def buffer_expr(self) -> Expr | None:
        """Bytes of on-chip memory for one kernel's tiles, if the file states them, bare."""
        return self._capacity_of(BUFFER)

    @functools.cached_property
    def cache_capacity_expr(self) -> Expr | None:
        """Bytes of the last-level cache, bare; of one instance if it is split, because each instance caches what all processors read."""
        return self._capacity_of(CACHE)

    def _capacity_of(self, role: str) -> Expr | None:
        return next((level.capacity.value for level in self.on_chip if level.role == role), None)

    def peak(self, data_type: str) -> Quantity:
        """Dense peak performance in one data type, as a Quantity in FLOP/s.

        Raises
        ------
        DeviceError
            The file states no peak for this type.
        """
        return quantity(self.machine.fastest((data_type,))[1], RATE)

    @property
    def bandwidth_expr(self) -> Expr:
        """Memory bandwidth in byte/s, bare."""
        return self.bandwidth_figure.value

    def calibrated(self, constants: Calibration | str | Path) -> Device:
        """The device with these constants of measured kernels, or with those of a file written by `symroof calibrate`."""
        return replace(self, calibration=constants if isinstance(constants, Calibration) else load_calibration(constants))

    @functools.cached_property
    def machine(self) -> Machine:
        """The machine with every stated rate."""
        stated = {Resource.VECTOR: self.vector, Resource.EXPONENTIAL: self.exponential, Resource.CACHE: self.cache}
        rates = {Resource.MEMORY: self.bandwidth_expr} | {resource: figure.value for resource, figure in stated.items() if figure}
        links = {
            Resource.HOST: self.link(Target.HOST),
            Resource.LINK: self.link(Target.DEVICE),
            Resource.NETWORK: self.link(Target.NETWORK),
        }
        rates |= {resource: link.one_way_expr for resource, link in links.items() if link}
        link, network = links[Resource.LINK], links[Resource.NETWORK]
        if link and link.per_peer:
            rates[Resource.PEER] = link.one_way_per_peer_expr
        late = {symbols.l_0: link.overhead, symbols.t_l: link.latency} if link else {}
        late |= {symbols.l_x: link.exchange_overhead, symbols.t_x: link.exchange_latency} if link else {}
        late |= {symbols.t_n: (network and network.latency) or (link and link.latency)}  # a step between nodes takes no less
        return Machine(
            self.title,
            {name: peak.dense.value for name, peak in self.peaks.items()},
            rates,
            {name: peak.sparse.value for name, peak in self.peaks.items() if peak.sparse is not None},
            self.name,
            self.calibration,
            Integer(self.processors) if self.processors else None,
            self.clock.value if self.clock else None,
            {letter: figure.value for letter, figure in late.items() if figure},
            Integer(link.peers + 1) if link and link.peers and not link.passes_on else None,
        )

    def link(self, to: Target) -> Link | None:
        """The first link to this target; devices without a link to each other communicate through the host."""
        bridged = any(link.to is Target.DEVICE for link in self.links)
        by_way = (to, Target.HOST) if to is Target.DEVICE or (to is Target.NETWORK and bridged) else (to,)
        return next((link for target in by_way for link in self.links if link.to is target), None)

    def accumulating(self, data_type: str) -> Device:
        """The same device with its peaks for accumulation in "fp32", the default, or in "fp16".

        The peaks differ only on some devices (GeForce). Frameworks accumulate in FP32. `load_hardware("rtx-3090@fp16")` and
        ``--hardware rtx-3090@fp16`` give the same device.

        Raises
        ------
        InputError
            The type is neither.

        >>> from symroof.hardware.loader import load_hardware
        >>> device = load_hardware("rtx-3090")
        >>> [round(float(variant.peak("fp16").to("TFLOP/s").magnitude)) for variant in (device, device.accumulating("fp16"))]
        [71, 142]
        """
        member("accumulate", data_type, ACCUMULATIONS)
        if data_type == "fp32" or not any(peak.half_accumulation for peak in self.peaks.values()):
            return self
        half = {
            name: Peak(peak.half_accumulation, peak.half_accumulation_sparse, clock=peak.clock) if peak.half_accumulation else peak
            for name, peak in self.peaks.items()
        }
        return replace(self, name=f"{self.name}@fp16", title=f"{self.title}, FP16 accumulation", peaks=half)

    def fastest(self, data_types: Iterable[str], *, sparse: bool = False) -> tuple[str, Quantity]:
        """The fastest of these data types (the first of equals), and its dense or sparse peak, as a Quantity in FLOP/s.

        Raises
        ------
        DeviceError
            The device has none of them.
        """
        data_type, peak = self.machine.fastest(data_types, sparse=sparse)
        return data_type, quantity(peak, RATE)

    def ridge(self, data_type: str) -> Quantity:
        """Ridge point, peak / bandwidth, as a Quantity in FLOP/byte."""
        return quantity(self.machine.fastest((data_type,))[1] / self.bandwidth_figure.value, INTENSITY)
