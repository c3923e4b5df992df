"""What a sweep tells of every point: names, units, and how each follows from the formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from symroof.errors import InputError
from symroof.sweeps.inputs import member


@dataclass(frozen=True)
class Metric:
    """One variable of the result.

    Attributes
    ----------
    needs : the outputs of the formulas that it follows from.
    better : "min" or "max", the direction that is wanted; empty where neither is.
    """

    name: str
    unit: str
    meaning: str
    needs: tuple[str, ...]
    flag: bool = False
    whole_step_only: bool = False
    better: str = ""

    @property
    def bytes(self) -> int:
        """Bytes of one value."""
        return 1 if self.flag else 8


METRICS = {
    metric.name: metric
    for metric in (
        Metric("time", "s", "time of one step, operators one after the other", ("time",), better="min"),
        Metric(
            "bound", "1", "which takes longer: bytes at the bandwidth (memory) or FLOPs at the peak", ("compute_time", "memory_time"), True
        ),
        Metric("intensity", "FLOP/byte", "arithmetic intensity", ("flops", "traffic"), better="max"),
        Metric(
            "throughput",
            "token/s",
            "tokens per second: generated in decode, of the prompt read in prefill",
            ("time", "tokens"),
            False,
            True,
            better="max",
        ),
        Metric("memory", "byte", "weights, KV cache and live activations", ("memory",), False, True, better="min"),
        Metric("fits", "1", "whether the memory is within the device's capacity", ("memory",), True, True),
        Metric("flops", "FLOP", "floating-point operations of one step", ("flops",), better="min"),
        Metric("traffic", "byte", "memory traffic of one step", ("traffic",), better="min"),
        Metric("performance", "FLOP/s", "FLOPs per second", ("flops", "time"), better="max"),
    )
}
"""Flags are 0 or 1: `bound` 1 is compute, `fits` 1 is yes."""

ALIASES = {"latency": "time"}
DEFAULT = ("time", "bound", "intensity", "throughput", "memory", "fits")


def chosen(names: Sequence[str] | None, per: str, capacities: bool) -> tuple[str, ...]:
    """The metrics asked for, or all usual ones that can be told.

    Raises
    ------
    InputError
        There is no such metric, or it is not one of an operator, or a device states no capacity.

    >>> chosen(None, "operator", True)
    ('time', 'bound', 'intensity')
    """
    if names is None:
        names = [name for name in DEFAULT if capacities or name != "fits"]
        return tuple(name for name in names if per == "total" or not METRICS[name].whole_step_only)
    names = [ALIASES.get(name, name) for name in ([names] if isinstance(names, str) else names)]
    if not names:
        raise InputError("metrics []: name at least one")
    for name in names:
        member("metric", name, tuple(METRICS))
        if per == "operator" and METRICS[name].whole_step_only:
            raise InputError(f"metric {name!r} is one of the whole step, not of an operator")
    if "fits" in names and not capacities:
        raise InputError("metric 'fits': a device here states no memory capacity; leave it out, or compare 'memory' yourself")
    return tuple(dict.fromkeys(names))


def needed(metrics: Sequence[str]) -> tuple[str, ...]:
    """The outputs that the formulas have to give."""
    return tuple(dict.fromkeys(output for name in metrics for output in METRICS[name].needs))


def derived(name: str, raw: Mapping[str, np.ndarray], tokens: np.ndarray | float, capacity: float | None) -> np.ndarray:
    """A metric from the outputs of the formulas."""
    if name in ("time", "flops", "traffic", "memory"):
        return raw[name]
    if name == "throughput":
        return tokens * raw["tokens"] / raw["time"]
    if name == "performance":
        return raw["flops"] / raw["time"]
    if name == "intensity":  # what only crosses a link has none
        with np.errstate(invalid="ignore", divide="ignore"):
            return raw["flops"] / raw["traffic"]
    if name == "fits":
        return raw["memory"] <= capacity
    return raw["compute_time"] >= raw["memory_time"]
