"""The arguments of sweeps, typed: editors complete it, and a misspelt keyword is caught before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from sympy import Symbol

from symroof.architectures.model import Model
from symroof.architectures.options import StepInputs
from symroof.hardware.device import Device
from symroof.techniques.technique import Technique

Models = str | Path | Model | Sequence[str | Path | Model]
Devices = str | Path | Device | Sequence[str | Path | Device] | None
Over = Mapping[str, ArrayLike | Sequence[Any] | range] | Mapping[Symbol, ArrayLike | Sequence[Any] | range]
"""Values by the name or the symbol of what varies."""


class Fixed(StepInputs, total=False):
    """What stays in a sweep: inputs and conventions of its steps, techniques, ceilings, and rates that replace a device's."""

    techniques: Sequence[str | Technique]
    ceilings: str
    peak: float
    bandwidth: float


class Reducing(Fixed, total=False):
    """The options of a sweep that is reduced to its best points."""

    phase: str | Sequence[str]
    metrics: Sequence[str] | None
    per: str
    points: bool
    engine: str
    scheduler: Any
    progress: bool
    search: str
    before: Callable[..., Any]
