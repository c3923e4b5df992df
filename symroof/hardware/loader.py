"""Read a device from TOML, by catalogue name, alias, or the path of a user's own file."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sympy import Integer

from symroof.errors import Checker, DeviceError, InputError, nearest, quote
from symroof.files import is_readable, read_text
from symroof.hardware.calibration import load_calibration, shipped
from symroof.hardware.device import ACCUMULATIONS, BUFFER, CACHE, Device, Figure, Link, OnChip, Peak, Source, Target
from symroof.operators.facts import BITS
from symroof.units import BANDWIDTH, BYTE, HERTZ, RATE, SECOND, WATT, figure

KINDS = ("gpu", "cpu", "tpu", "accelerator", "soc", "pim")
LONGEST = 600
FOLDER = Path(__file__).parent / "data"

FIGURES = {
    "peak": {"dense", "sparse", "half_accumulation", "half_accumulation_sparse", "clock"},
    "memory": {"capacity", "reported", "bandwidth"},
    "processors": {"count", "clock"},
    "vector": {"peak"},
    "exponential": {"rate", "per_clock"},
    "cache": {"bandwidth"},
    "on_chip": {"capacity", "bandwidth", "per_clock"},
    "link": {"bandwidth", "per_peer", "overhead", "latency", "exchange_overhead", "exchange_latency"},
    "power": {"tdp"},
}
"""The keys of figures in every table; each may have its own source and note, such as `capacity_source`."""

FACTS = {
    "memory": {"kind"},
    "processors": {"name"},
    "vector": {"type"},
    "on_chip": {"name", "instances", "role"},
    "link": {"name", "direction", "to", "peers", "topology"},
}
"""The keys that are not figures."""

KEYS = {
    table: {*keys, *(f"{key}_{what}" for key in keys for what in ("source", "note")), *FACTS.get(table, ()), "source", "note"}
    for table, keys in FIGURES.items()
}
KEYS["source"] = {"title", "publisher", "url", "date"}
KEYS[""] = {*KEYS, "name", "vendor", "kind", "aliases", "note", "sparse_is_twice_dense"}

DIRECT, TORUS = "direct", "torus"
"""Whether a link reaches devices beyond its peers through them."""

TABLES_OF_TABLES = ("source", "peak")


@functools.cache
def catalogue() -> dict[str, Path]:
    """The devices of the catalogue and their files."""
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.rglob("*.toml"))}


def load_hardware(name_or_path: str | Path) -> Device:
    """The device with this name or alias, or described by the TOML file at this path; NAME@fp16 for FP16 accumulation.

    Raises
    ------
    DeviceError
        There is no such device or file, or the file is malformed.

    >>> load_hardware("h100").name
    'h100-sxm'
    >>> load_hardware("none.toml")
    Traceback (most recent call last):
        ...
    symroof.errors.DeviceError: device 'none.toml': there is no such file
    """
    text = str(name_or_path)
    device, _, accumulation = text.rpartition("@")
    if device and accumulation in ACCUMULATIONS:
        return load_hardware(device).accumulating(accumulation)
    names = {name.lower(): name for name in catalogue()}
    if text.lower() in names:
        return _named(names[text.lower()])
    path = Path(text)
    if (path.suffix == ".toml" or "/" in text) and is_readable(path):
        return _own(text, path)
    if path.suffix == ".toml":
        raise DeviceError(f"device {quote(text)}: there is no such file")
    if text.lower() in _aliases():
        return _named(_aliases()[text.lower()])
    if is_readable(path):
        return _own(text, path)
    hint = nearest(text, [*catalogue(), *_aliases()], shown=tuple(catalogue()))
    raise DeviceError(f"device {quote(text)} is neither a name of the catalogue nor a file: {hint}")


def constants_beside(path: Path) -> Path:
    """The file of constants of a user's own device: ``mine.constants.toml`` next to ``mine.toml``."""
    return path.with_suffix(".constants.toml")


def _own(name: str, path: Path) -> Device:
    constants = constants_beside(path)
    return replace(_device(name, _parse(path)), calibration=load_calibration(constants) if is_readable(constants) else None)


@functools.cache
def _named(name: str) -> Device:
    return replace(_device(name, _parse(catalogue()[name])), calibration=shipped(name))


@functools.cache
def _aliases() -> dict[str, str]:
    """Aliases and the vendors' names in lower case, with the catalogue name of each."""
    contents = {name: _parse(path) for name, path in catalogue().items()}
    titles = {content["name"].lower(): name for name, content in contents.items() if "name" in content}
    return titles | {alias: name for name, content in contents.items() for alias in content.get("aliases", [])}


def read_device(name: str, text: str) -> Device:
    """The device that a file's text describes, under this name.

    Raises
    ------
    DeviceError
        The text is malformed.
    """
    return _device(name, _toml(name, text))


def _parse(path: Path) -> dict[str, Any]:
    content = _toml(str(path), read_text(path, "a device's file", DeviceError))
    same_as = content.get("same_as")
    if path.is_relative_to(FOLDER) and isinstance(same_as, str):
        return _parse(catalogue()[same_as])
    return content


def _toml(origin: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeviceError(f"{quote(origin)} is not TOML: {error}") from None
    except RecursionError:
        raise DeviceError(f"{quote(origin)} is nested too deeply to be a device's file") from None
    except ValueError:
        raise DeviceError(f"{quote(origin)} contains a number with too many digits") from None


class _Reader(Checker):
    """Reads one device's tables; every error names the device and the key."""

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        super().__init__(f"device {quote(name)}", DeviceError)
        self.sources = {key: self._source(key, table) for key, table in self.table("source", content, {}).items()}

    def table(self, key: str, content: Mapping[str, Any], default: dict[str, Any] | None = None) -> dict[str, Any]:
        if key not in content and default is None:
            raise self.error(f"table [{key}] is missing")
        value = content.get(key, default)
        self.require(isinstance(value, dict), key, value, "a table")
        if key not in TABLES_OF_TABLES:
            self.known(key, value)
        return value

    def tables(self, key: str, content: Mapping[str, Any]) -> list[dict[str, Any]]:
        value = content.get(key, [])
        self.require(isinstance(value, list) and all(isinstance(entry, dict) for entry in value), key, value, f"tables [[{key}]]")
        for entry in value:
            self.known(key, entry)
        return value

    def known(self, where: str, table: Mapping[str, Any], label: str | None = None) -> None:
        for key in table:
            if key not in KEYS[where]:
                raise self.error(f"{label or where or 'top level'} has the unknown key {quote(key)}; {nearest(key, sorted(KEYS[where]))}")

    def text(self, where: str, table: Mapping[str, Any], key: str, default: str | None = None) -> str:
        if key not in table and default is None:
            raise self.error(f"{where}.{key} is missing")
        value = table.get(key, default)
        self.require(isinstance(value, str), f"{where}.{key}", value, "text")
        short = len(value) <= LONGEST and value.isprintable()
        self.require(short, f"{where}.{key}", value, f"one line of at most {LONGEST} characters")
        return value

    def _source(self, key: str, table: Any) -> Source:
        self.require(isinstance(table, dict), f"source.{key}", table, "a table")
        self.known("source", table, f"source.{key}")
        return Source(*(self.text(f"source.{key}", table, part) for part in ("title", "publisher", "url", "date")))

    def figure(self, where: str, table: Mapping[str, Any], key: str, unit: Any) -> Figure:
        printed = self.text(where, table, key)
        try:
            value = figure(printed, unit)
        except InputError as error:
            raise self.error(f"{where}.{key}: {error}") from None
        self.require(value > 0, f"{where}.{key}", printed, "more than 0")
        return self.cited(where, table, key, value, printed)

    def optional(self, where: str, table: Mapping[str, Any], key: str, unit: Any) -> Figure | None:
        """The figure, if the table states it."""
        return self.figure(where, table, key, unit) if key in table else None

    def cited(self, where: str, table: Mapping[str, Any], key: str, value: Any, printed: str) -> Figure:
        """The figure with its source and note: its own, or those of the table."""
        named, noted = (f"{key}_{what}" if f"{key}_{what}" in table else what for what in ("source", "note"))
        source = table.get(named)
        if source is not None and source not in self.sources:
            raise self.error(f"{where}.{named} is {quote(source)}; there is no [source.{source}]")
        return Figure(value, printed, self.sources[source] if source else None, self.text(where, table, noted, ""))

    def count(self, where: str, table: Mapping[str, Any], key: str, default: int | None = None) -> int:
        value = table.get(key, default)
        self.require(type(value) is int and value >= 1, f"{where}.{key}", value, "a whole number from 1")
        return value

    def one_of(self, where: str, table: Mapping[str, Any], key: str, known: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(where, table, key, default)
        if value not in known:
            raise self.error(f"{where}.{key} is {quote(value)}; known: {', '.join(known)}")
        return value


def _device(name: str, content: Mapping[str, Any]) -> Device:
    read = _Reader(name, content)
    read.known("", content)
    memory, power = read.table("memory", content), read.table("power", content, {})
    kind, aliases = read.text("top level", content, "kind", ""), content.get("aliases", [])
    if kind and kind not in KINDS:
        raise read.error(f"kind is {quote(kind)}; {nearest(kind, KINDS)}")
    named = isinstance(aliases, list) and all(isinstance(alias, str) for alias in aliases)
    read.require(named, "aliases", aliases, "a list of names")
    peaks, processors = _peaks(read, read.table("peak", content)), read.table("processors", content, {})
    count = _processors(read, processors) if processors else None
    clock = read.optional("processors", processors, "clock", HERTZ)
    levels = tuple(_on_chip(read, table, clock) for table in read.tables("on_chip", content))
    for role in (BUFFER, CACHE):
        if sum(level.role == role for level in levels) > 1:
            raise read.error(f"on_chip has the role {role!r} more than once; expected at most one")
    return Device(
        name=name,
        title=read.text("top level", content, "name", name),
        vendor=read.text("top level", content, "vendor", ""),
        kind=kind,
        peaks=peaks,
        bandwidth_figure=read.figure("memory", memory, "bandwidth", BANDWIDTH),
        capacity_figure=read.optional("memory", memory, "capacity", BYTE),
        reported_figure=read.optional("memory", memory, "reported", BYTE),
        on_chip=levels,
        links=tuple(_link(read, table) for table in read.tables("link", content)),
        tdp=read.figure("power", power, "tdp", WATT) if power else None,
        note=read.text("top level", content, "note", ""),
        sparse_is_twice_dense=content.get("sparse_is_twice_dense") is True,
        processors_figure=count,
        clock=clock,
        vector=_vector(read, read.table("vector", content), peaks) if "vector" in content else None,
        exponential=_exponential(read, read.table("exponential", content), count, clock) if "exponential" in content else None,
        cache=_cache(read, content, levels),
    )


def _peaks(read: _Reader, tables: Mapping[str, Any]) -> dict[str, Peak]:
    peaks: dict[str, Peak] = {}
    for data_type, table in tables.items():
        if data_type not in BITS:
            raise read.error(f"peak.{data_type}: {quote(data_type)} is not a data type known here; {nearest(data_type, BITS)}")
        where = f"peak.{data_type}"
        read.require(isinstance(table, dict), where, table, "a table with 'dense'")
        read.known("peak", table, where)
        dense = read.figure(where, table, "dense", RATE)
        more = {key: read.optional(where, table, key, RATE) for key in ("sparse", "half_accumulation", "half_accumulation_sparse")}
        for key, other in more.items():
            if other and other.value < dense.value:
                label = key.replace("_", " ")
                raise read.error(f"{where}: {label} {quote(other.printed)} is less than dense {quote(dense.printed)}; are they swapped?")
        peaks[data_type] = Peak(dense, **more, clock=read.optional(where, table, "clock", HERTZ))
    if not peaks:
        raise read.error("table [peak] is empty; state at least one data type")
    return peaks


def _processors(read: _Reader, table: Mapping[str, Any]) -> Figure:
    count = read.count("processors", table, "count")
    name = read.text("processors", table, "name", "processor")
    return read.cited("processors", table, "count", Integer(count), f"{count} {name}{'s' if count > 1 else ''}")


def _vector(read: _Reader, table: Mapping[str, Any], peaks: Mapping[str, Peak]) -> Figure:
    """The peak of the vector units: a figure of its own, or the dense peak of the data type that runs on them."""
    data_type = read.one_of("vector", table, "type", tuple(BITS), "fp32")
    if "peak" in table:
        return read.figure("vector", table, "peak", RATE)
    if data_type not in peaks:
        raise read.error(f"vector states no peak, and there is no [peak.{data_type}] to take it from")
    dense = peaks[data_type].dense
    return replace(dense, note=read.text("vector", table, "note", dense.note))


def _exponential(read: _Reader, table: Mapping[str, Any], count: Figure | None, clock: Figure | None) -> Figure:
    if ("rate" in table) == ("per_clock" in table):
        raise read.error("exponential: expected one of rate and per_clock (per processor)")
    if "rate" in table:
        return read.figure("exponential", table, "rate", RATE)
    if count is None or clock is None:
        raise read.error("exponential.per_clock is per processor: processors.count and processors.clock are needed")
    each = read.count("exponential", table, "per_clock")
    printed = f"{each} per clock x {count.printed} x {clock.printed}"
    return read.cited("exponential", table, "per_clock", each * count.value * clock.value, printed)


def _on_chip(read: _Reader, table: Mapping[str, Any], clock: Figure | None) -> OnChip:
    capacity, bandwidth = read.figure("on_chip", table, "capacity", BYTE), read.optional("on_chip", table, "bandwidth", BANDWIDTH)
    if each := read.optional("on_chip", table, "per_clock", BYTE):
        if bandwidth or clock is None:
            raise read.error(f"on_chip.per_clock: {'bandwidth is stated too' if bandwidth else 'processors.clock is needed'}")
        bandwidth = replace(each, value=each.value * clock.value, printed=f"{each.printed} per clock x {clock.printed}")
    role = read.one_of("on_chip", table, "role", (BUFFER, CACHE, ""), "")
    return OnChip(read.text("on_chip", table, "name"), capacity, read.count("on_chip", table, "instances", 1), role, bandwidth)


def _cache(read: _Reader, content: Mapping[str, Any], levels: tuple[OnChip, ...]) -> Figure | None:
    """The bandwidth of the last-level cache, all instances together; from [cache] if no level has that role."""
    level = next((level for level in levels if level.role == CACHE), None)
    if "cache" in content:
        if level:
            raise read.error(f"[cache] and the on_chip level {quote(level.name)} are both the cache; state its bandwidth in the level")
        return read.figure("cache", read.table("cache", content), "bandwidth", BANDWIDTH)
    if level is None or level.bandwidth is None:
        return None
    times = f" x {level.instances}" if level.instances > 1 else ""
    return replace(level.bandwidth, value=level.bandwidth.value * level.instances, printed=f"{level.bandwidth.printed}{times}")


def _link(read: _Reader, table: Mapping[str, Any]) -> Link:
    bandwidth, per_peer = read.figure("link", table, "bandwidth", BANDWIDTH), read.optional("link", table, "per_peer", BANDWIDTH)
    if per_peer and per_peer.value > bandwidth.value:
        raise read.error(f"link: per_peer {quote(per_peer.printed)} is more than the total, {quote(bandwidth.printed)}")
    direction = read.one_of("link", table, "direction", ("each", "total"))
    to = Target(read.one_of("link", table, "to", tuple(Target), Target.DEVICE))
    peers = read.count("link", table, "peers") if "peers" in table else None
    passes_on = read.one_of("link", table, "topology", (DIRECT, TORUS), DIRECT) == TORUS
    late = {key: read.optional("link", table, key, SECOND) for key in ("overhead", "latency", "exchange_overhead", "exchange_latency")}
    return Link(read.text("link", table, "name"), bandwidth, direction, to, peers, per_peer, passes_on, **late)
