"""The device file of a measured machine: the best rates, with their spread in notes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from symroof.hardware.device import BUFFER, CACHE, Device
from symroof.hardware.loader import read_device
from symroof.measure.machine import Measured, Rate, is_private
from symroof.measure.timing import NOISY, Spread

MEASURED, SYSTEM = "measured", "system"
"""Keys of the two sources: benchmarks, and the operating system or driver."""


def name_of(measured: Measured) -> str:
    """The name of a measured machine."""
    system, used = measured.system, processors_of(measured)
    of = "" if used == system.processors else f" of {system.processors}"
    return f"{system.title}, {used}{of} {system.processor}{'s' if system.processors > 1 else ''}, measured with {measured.backend}"


def processors_of(measured: Measured) -> int:
    """The processors of the device: cores that the benchmarks ran on, or all multiprocessors."""
    return measured.threads if measured.system.kind == "cpu" else measured.system.processors


def device_text(measured: Measured, command: str) -> str:
    """The TOML text of the device.

    Parameters
    ----------
    command : the command that measured it.
    """
    return "\n".join(_lines(measured, command)) + "\n"


def device_of(measured: Measured, command: str = "") -> Device:
    """The measured machine as a device."""
    return read_device(name_of(measured), device_text(measured, command))


def _lines(measured: Measured, command: str) -> Iterator[str]:
    system = measured.system
    yield from _keys(name=name_of(measured), kind=system.kind, note=_conditions(measured))
    ran = f"{command}; {measured.software}; {system.platform}" if command else f"{measured.software}; {system.platform}"
    yield from _source(MEASURED, f"Micro-benchmarks: {ran}", "this machine", measured.date)
    yield from _source(SYSTEM, "What the operating system or the driver says of the machine", system.platform, measured.date)
    yield from ("", "[processors]", f"count = {processors_of(measured)}", f"name = {json.dumps(system.processor)}")
    if system.clock:
        yield f'clock = "{system.clock / 1e6:.6g} MHz"'
    yield f'source = "{SYSTEM}"'
    for data_type, rate in measured.peaks.items():
        yield f"\n[peak.{data_type}]"
        yield from _rate("dense", rate, rate.performance, "FLOP/s")
    yield from _vector(measured)
    yield "\n[memory]"
    if system.memory:
        yield f'capacity = "{system.memory / 1e9:.6g} GB"'
        yield f'capacity_source = "{SYSTEM}"'
    yield from _rate("bandwidth", measured.memory, measured.memory.bandwidth, "B/s")
    for place, level in enumerate(system.caches):
        last = place == len(system.caches) - 1
        yield from ("", "[[on_chip]]", f"name = {json.dumps(level.name)}", f'capacity = "{level.capacity // 1024} KiB"')
        instances = processors_of(measured) if is_private(level, system) else level.instances
        yield from (f"instances = {instances}", f'capacity_source = "{SYSTEM}"')
        if last or is_private(level, system):
            yield f'role = "{CACHE if last else BUFFER}"' if last or place == len(_private(measured)) - 1 else ""
        if rate := measured.cache(place):
            one = rate.bandwidth if rate.threads == 1 else _shared(rate.bandwidth, level.instances)
            yield from _rate("bandwidth", rate, one, "B/s")


def _private(measured: Measured) -> list[object]:
    return [level for level in measured.system.caches if is_private(level, measured.system)]


def _shared(rate: Spread, instances: int) -> Spread:
    """The rate of one of *instances* instances."""
    return Spread(rate.best / instances, rate.lower / instances, rate.median / instances, rate.upper / instances, rate.runs)


def _vector(measured: Measured) -> Iterator[str]:
    """The rate of the vector units in the type of norms and activation functions."""
    rates = measured.vectors
    if rates:
        yield "\n[vector]"
        best = rates.get("fp32") or max(rates.values(), key=lambda one: one.performance.best)
        yield from _rate("peak", best, best.performance, "FLOP/s")


def _rate(key: str, rate: Rate, reached: Spread, unit: str) -> Iterator[str]:
    yield f'{key} = "{reached.best / 1e9:.6g} G{unit}"'
    yield f'{key}_source = "{MEASURED}"'
    quartiles = f"median {reached.median / 1e9:.4g}, quartiles {reached.lower / 1e9:.4g} to {reached.upper / 1e9:.4g} G{unit}"
    noisy = "; noisy" if rate.seconds.noise > NOISY else ""
    where = f"{rate.name}, {rate.working_set / 1e6:.4g} MB, {rate.threads} thread{'s' if rate.threads > 1 else ''}"
    yield f'{key}_note = "best of {reached.runs}: {where}; {quartiles}{noisy}"'


def _conditions(measured: Measured) -> str:
    """Conditions of the measurement: repeats, load, and the least time of a call."""
    notes = [
        f"Each rate is the best of {measured.repeat} timings by {measured.timed_by}",
        f"a call takes at least {measured.launch.median * 1e6:.3g} us",
    ]
    if measured.busy is not None:
        notes.append(f"products kept {measured.busy:.2f} of {measured.system.processors} cores busy")
    loads = [f"{one:.1f}" for one in measured.loads if one is not None]
    if loads:
        notes.append(f"load average {' before, '.join(loads)}{' after' if len(loads) == 2 else ''}")
    return "; ".join(notes) + "."


def _source(key: str, title: str, publisher: str, date: str) -> Iterator[str]:
    yield f"\n[source.{key}]"
    yield from _keys(title=title[:600], publisher=publisher or "unknown", url="", date=date)


def _keys(**texts: str) -> Iterator[str]:
    return (f"{key} = {json.dumps(text, ensure_ascii=False)}" for key, text in texts.items())
