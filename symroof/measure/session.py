"""One measurement of a machine: benchmarks, kernels of every class, the device and the constants that follow."""

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
"""The classes of kernels that are measured in a hurry."""


@dataclass(frozen=True)
class Session:
    """A measured machine, as a device, with constants.

    Attributes
    ----------
    text : of the device's file.
    device : the same read back, with its constants.
    reasons : why some classes of kernels have no constants.
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
    data_type : the one of the kernels that constants are fitted to.
    classes : of kernels that are measured; without any there are no constants.
    command : that was given, for the record.
    timer : what times an operator, where the backend does not.
    heads : of the attention that is measured.

    Raises
    ------
    InputError
        There is too little memory, or the backend does not know a data type.
    """
    if data_type not in types:
        raise InputError(f"type {data_type}: expected one of those that are measured, {', '.join(types)}")
    alone = measure(backend, effort, types)
    kernels = measure_kernels(backend, alone, effort, data_type, classes, timer, heads)
    measured = with_kernels(alone, (rate for one in kernels for rate in one.rates))
    text = device_text(measured, command)
    device = read_device(name_of(measured), text)
    own = replace(device, peaks={data_type: device.peaks[data_type]})
    calibration, reasons = calibrate(measured, own, kernels, command or "symroof measure")
    return Session(measured, text, replace(device, calibration=calibration), calibration, reasons)
