"""Read a device from TOML: a name of the catalogue, an alias, or the path of a user's own file."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from symroof.errors import Checker, DeviceError, InputError, nearest, quote
from symroof.files import is_readable, read_text
from symroof.hardware.device import Device, Figure, Link, OnChip, Peak, Source
from symroof.operators.facts import BITS
from symroof.units import BANDWIDTH, BYTE, RATE, WATT, figure

KINDS = ("gpu", "cpu", "tpu", "accelerator", "soc", "pim")
BUFFER = "buffer"
LONGEST = 600
FOLDER = Path(__file__).parent / "data"

RATES = {"vector": ("peak", RATE), "exponential": ("rate", RATE), "cache": ("bandwidth", BANDWIDTH)}
"""Tables of one figure each that few devices state: its key and its unit."""

KEYS = {
    "source": {"title", "publisher", "url", "date"},
    "peak": {"dense", "sparse", "source", "note"},
    "memory": {"kind", "capacity", "bandwidth", "source", "note"},
    "on_chip": {"name", "capacity", "instances", "role", "source", "note"},
    "link": {"name", "bandwidth", "direction", "source", "note"},
    "power": {"tdp", "source", "note"},
    **{table: {key, "source", "note"} for table, (key, _) in RATES.items()},
}
KEYS[""] = {*KEYS, "name", "vendor", "kind", "aliases", "note", "sparse_is_twice_dense"}

TABLES_OF_TABLES = ("source", "peak")


@functools.cache
def catalogue() -> dict[str, Path]:
    """Every device of the library, and its file."""
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.rglob("*.toml"))}


def load_hardware(name_or_path: str | Path) -> Device:
    """The device of that name, of that alias, or described by the TOML file at that path.

    Raises
    ------
    DeviceError
        There is no such device or file, or the file is malformed; one line says what is wrong.

    >>> load_hardware("h100").name
    'h100-sxm'
    >>> load_hardware("none.toml")
    Traceback (most recent call last):
        ...
    symroof.errors.DeviceError: device 'none.toml': there is no such file
    """
    text = str(name_or_path)
    names = {name.lower(): name for name in catalogue()}
    if text.lower() in names:
        return _named(names[text.lower()])
    path = Path(text)
    if (path.suffix == ".toml" or "/" in text) and is_readable(path):
        return _device(text, _parse(path))
    if path.suffix == ".toml":
        raise DeviceError(f"device {quote(text)}: there is no such file")
    if text.lower() in _aliases():
        return _named(_aliases()[text.lower()])
    if is_readable(path):
        return _device(text, _parse(path))
    hint = nearest(text, [*catalogue(), *_aliases()], shown=tuple(catalogue()))
    raise DeviceError(f"device {quote(text)} is neither a name of the catalogue nor a file: {hint}")


@functools.cache
def _named(name: str) -> Device:
    return _device(name, _parse(catalogue()[name]))


@functools.cache
def _aliases() -> dict[str, str]:
    """Aliases and the vendors' own names, lower case, with the name each stands for."""
    contents = {name: _parse(path) for name, path in catalogue().items()}
    titles = {content["name"].lower(): name for name, content in contents.items() if "name" in content}
    return titles | {alias: name for name, content in contents.items() for alias in content.get("aliases", [])}


def _parse(path: Path) -> dict[str, Any]:
    text = read_text(path, "a device's file", DeviceError)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeviceError(f"{quote(str(path))} is not TOML: {error}") from None
    except RecursionError:
        raise DeviceError(f"{quote(str(path))} is nested too deeply to be a device's file") from None
    except ValueError:
        raise DeviceError(f"{quote(str(path))} holds a number with too many digits") from None
    same_as = content.get("same_as")
    if path.is_relative_to(FOLDER) and isinstance(same_as, str):
        return _parse(catalogue()[same_as])
    return content


class _Reader(Checker):
    """Reads one device's tables; every message names the device and the key."""

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
        source = table.get("source")
        if source is not None and source not in self.sources:
            raise self.error(f"{where}.source is {quote(source)}; no [source.{source}] says what that is")
        return Figure(value, printed, self.sources[source] if source else None, self.text(where, table, "note", ""))


def _device(name: str, content: Mapping[str, Any]) -> Device:
    read = _Reader(name, content)
    read.known("", content)
    memory, power = read.table("memory", content), read.table("power", content, {})
    kind, aliases = read.text("top level", content, "kind", ""), content.get("aliases", [])
    if kind and kind not in KINDS:
        raise read.error(f"kind is {quote(kind)}; {nearest(kind, KINDS)}")
    named = isinstance(aliases, list) and all(isinstance(alias, str) for alias in aliases)
    read.require(named, "aliases", aliases, "a list of names")
    levels = tuple(_on_chip(read, table) for table in read.tables("on_chip", content))
    if sum(level.role == BUFFER for level in levels) > 1:
        raise read.error(f"on_chip has the role {BUFFER!r} more than once; expected at most one")
    stated = {table: read.table(table, content) for table in RATES if table in content}
    rates: dict[str, Any] = {table: read.figure(table, figures, *RATES[table]) for table, figures in stated.items()}
    return Device(
        name=name,
        title=read.text("top level", content, "name", name) or name,
        vendor=read.text("top level", content, "vendor", ""),
        kind=kind,
        peaks=_peaks(read, read.table("peak", content)),
        bandwidth_figure=read.figure("memory", memory, "bandwidth", BANDWIDTH),
        capacity_figure=read.figure("memory", memory, "capacity", BYTE) if "capacity" in memory else None,
        on_chip=levels,
        links=tuple(_link(read, table) for table in read.tables("link", content)),
        tdp=read.figure("power", power, "tdp", WATT) if power else None,
        note=read.text("top level", content, "note", ""),
        sparse_is_twice_dense=content.get("sparse_is_twice_dense") is True,
        **rates,
    )


def _peaks(read: _Reader, tables: Mapping[str, Any]) -> dict[str, Peak]:
    peaks: dict[str, Peak] = {}
    for data_type, table in tables.items():
        if data_type not in BITS:
            raise read.error(f"peak.{data_type}: {quote(data_type)} is not a data type known here; {nearest(data_type, BITS)}")
        where = f"peak.{data_type}"
        read.require(isinstance(table, dict), where, table, "a table with 'dense'")
        read.known("peak", table, where)
        sparse = read.figure(where, table, "sparse", RATE) if "sparse" in table else None
        dense = read.figure(where, table, "dense", RATE)
        if sparse and sparse.value < dense.value:
            raise read.error(f"{where}: sparse {quote(sparse.printed)} is less than dense {quote(dense.printed)}; are they swapped?")
        peaks[data_type] = Peak(dense, sparse)
    if not peaks:
        raise read.error("table [peak] is empty; state at least one data type")
    return peaks


def _on_chip(read: _Reader, table: Mapping[str, Any]) -> OnChip:
    instances = table.get("instances", 1)
    read.require(type(instances) is int and instances >= 1, "on_chip.instances", instances, "a whole number from 1")
    role = read.text("on_chip", table, "role", "")
    if role not in ("", BUFFER):
        raise read.error(f"on_chip.role is {quote(role)}; the one role known is {BUFFER!r}, and it may be left out")
    capacity = read.figure("on_chip", table, "capacity", BYTE)
    return OnChip(read.text("on_chip", table, "name"), capacity, instances, role)


def _link(read: _Reader, table: Mapping[str, Any]) -> Link:
    direction = read.text("link", table, "direction")
    if direction not in ("each", "total"):
        raise read.error(f"link.direction is {quote(direction)}; known: each, total")
    return Link(read.text("link", table, "name"), read.figure("link", table, "bandwidth", BANDWIDTH), direction)
