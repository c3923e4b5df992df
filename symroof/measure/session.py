"""A measurement of a machine: benchmarks, kernels of every class, and the resulting device and constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from symroof.errors import InputError
from symroof.hardware.calibration import Calibration, Kernel
from symroof.hardware.device import Device
from symroof.hardware.loader import read_device
from symroof.measure.backend import Backend
from symroof.measure.constants import calibrate
from symroof.measure.device_file import device_text, name_of
from symroof.measure.kernels import HEADS, Heads, Timer, measure_kernels
from symroof.measure.machine import Effort, Measured, measure, with_kernels

BRIEFLY = (Kernel.GEMM, Kernel.VECTOR)
"""The kernel classes of a quick measurement."""


@dataclass(frozen=True)
class Session:
    """A measured machine, as a device, with constants.

    Attributes
    ----------
    text : the text of the device file.
    device : the device of this file, with its constants.
    reasons : why some kernel classes have no constants.
    """

    measured: Measured
    text: str
    device: Device
    calibration: Calibration | None
    reasons: tuple[str, ...]


def measure_machine(
    backend: Backend,
    effort: Effort,
    types: Sequence[str],
    data_type: str,
    *,
    classes: Sequence[Kernel] = tuple(Kernel),
    command: str = "",
    timer: Timer | None = None,
    heads: Sequence[Heads] = HEADS,
) -> Session:
    """Measure the machine that a backend runs on.

    Parameters
    ----------
    types : the data types of peaks.
    data_type : the type of the kernels to which constants are fitted.
    classes : the kernel classes to measure; without any there are no constants.
    command : the command line, for the record.
    timer : times operators instead of the backend.
    heads : the heads of the measured attention.

    Raises
    ------
    InputError
        There is too little memory, or the backend does not support a data type.
    """
    if data_type not in types:
        raise InputError(f"type {data_type}: expected one of the measured types, {', '.join(types)}")
    alone = measure(backend, effort, types)
    kernels = measure_kernels(backend, alone, effort, data_type, classes, timer, heads)
    measured = with_kernels(alone, (rate for one in kernels for rate in one.rates))
    text = device_text(measured, command)
    device = read_device(name_of(measured), text)
    own = replace(device, peaks={data_type: device.peaks[data_type]})
    calibration, reasons = calibrate(measured, own, kernels, command or "symroof measure")
    return Session(measured, text, replace(device, calibration=calibration), calibration, reasons)
