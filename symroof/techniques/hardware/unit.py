"""A unit that runs operators in the place of the step's device: with figures of its own, in letters if asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sympy import Expr, S

from symroof.errors import DeviceError, quote
from symroof.hardware.device import Device
from symroof.symbols import Values, substitute

EVERY = ""
"""The key of a peak that holds for every data type."""


@dataclass(frozen=True, eq=False)
class AddedUnit:
    """Peaks by data type and a memory bandwidth.

    >>> from symroof.hardware.loader import load_hardware
    >>> cube = added(load_hardware("hbm-pim"))
    >>> cube.fastest(("fp16",)), cube.memory_bandwidth
    (('fp16', 1200000000000), 2000000000000)
    """

    title: str
    memory_bandwidth: Expr
    peaks: Mapping[str, Expr]

    def fastest(self, data_types: Iterable[str], *, sparse: bool = False) -> tuple[str, Expr]:
        """The first of these data types that it has, narrowest first, and its peak.

        Raises
        ------
        DeviceError
            It has none of them, or is asked for structured sparsity.
        """
        wanted = tuple(data_types)
        if sparse:
            raise DeviceError(f"unit {quote(self.title)} states no peak for structured sparsity")
        if EVERY in self.peaks:
            return wanted[0], self.peaks[EVERY]
        known = [name for name in wanted if name in self.peaks]
        if not known:
            raise DeviceError(f"unit {quote(self.title)} states no peak for any of {', '.join(wanted)}; it has {', '.join(self.peaks)}")
        return known[0], self.peaks[known[0]]

    def bind(self, values: Values) -> AddedUnit:
        """The same with numbers for the letters of its figures."""
        peaks = {name: substitute(peak, values) for name, peak in self.peaks.items()}
        return replace(self, memory_bandwidth=substitute(self.memory_bandwidth, values), peaks=peaks)


def added(device: Device, peak: Expr | None = None, bandwidth: Expr | None = None, count: Expr = S.One) -> AddedUnit:
    """So many of a device taken as one, with another peak (for every data type) or bandwidth where they are given."""
    peaks = {name: count * one.dense.value for name, one in device.peaks.items()} if peak is None else {EVERY: count * peak}
    return AddedUnit(device.title, count * (device.memory_bandwidth if bandwidth is None else bandwidth), peaks)
