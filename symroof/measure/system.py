"""The machine as the operating system reports it: name, cores, caches, memory, clock. Needs no privileges."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

CPU = Path("/sys/devices/system/cpu")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Two parameters of malloc.h: the free space kept at the top of the heap, and the number of separately mapped blocks."""

PREFIXES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class CacheLevel:
    """A data cache: the capacity of one instance in bytes, and how many of them the cores have."""

    name: str
    capacity: int
    instances: int = 1


@dataclass(frozen=True)
class System:
    """A processor and its memory, as its operating system or its driver describes it.

    Attributes
    ----------
    title : its name.
    kind : "cpu" or "gpu".
    processors : the number of cores that this process may use, or of multiprocessors.
    processor : the name of one of them.
    caches : innermost first.
    memory : bytes, if known.
    available : free bytes.
    clock : Hz, if known.
    load : load average over the last minute, this process included, if known.
    platform : operating system and release.
    """

    title: str
    kind: str
    processors: int
    processor: str = "core"
    caches: tuple[CacheLevel, ...] = ()
    memory: int | None = None
    available: int | None = None
    clock: float | None = None
    load: float | None = None
    platform: str = ""

    @property
    def last_cache(self) -> int:
        """Bytes of the last level, all instances; 32 MiB if no cache is known, so that working sets in memory exceed it."""
        return self.caches[-1].capacity * self.caches[-1].instances if self.caches else 32 * 2**20


def this_cpu() -> System:
    """The CPU that this process runs on."""
    cores = usable_cores()
    memory, available = _memory()
    return System(
        _title() or platform.processor() or platform.machine() or "CPU",
        "cpu",
        len(cores),
        caches=_linux_caches(cores) or _mac_caches(len(cores)),
        memory=memory,
        available=available,
        clock=_clock(),
        load=load(),
        platform=f"{platform.system()} {platform.release()}",
    )


def keep_freed_memory() -> None:
    """Let malloc keep released memory, like the allocators used for inference on CPUs; otherwise every result causes page faults."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt  # glibc
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**30)


def load() -> float | None:
    """The load average over the last minute."""
    with contextlib.suppress(OSError, AttributeError):
        return os.getloadavg()[0]
    return None


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read(path: str | Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return Path(path).read_text(encoding="utf-8")
    return ""


def _sysctl(name: str) -> str:
    """The value of a macOS sysctl."""
    if platform.system() != "Darwin":
        return ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=True, timeout=5).stdout.strip()  # noqa: S603
    return ""


def _title() -> str:
    named = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return named[1].strip() if named else _sysctl("machdep.cpu.brand_string")


def _clock() -> float | None:
    """The maximum clock that the system states, otherwise the current one."""
    fastest = _read(CPU / "cpu0/cpufreq/cpuinfo_max_freq").strip()
    if fastest.isdigit():
        return 1e3 * int(fastest)
    now = [float(one) for one in re.findall(r"^cpu MHz\s*:\s*([0-9.]+)$", _read("/proc/cpuinfo"), re.MULTILINE)]
    return 1e6 * max(now) if now else None


def _memory() -> tuple[int | None, int | None]:
    """Bytes of memory, and of free or reclaimable memory."""
    sizes = dict(re.findall(r"^(MemTotal|MemAvailable):\s*([0-9]+) kB$", _read("/proc/meminfo"), re.MULTILINE))
    if sizes:
        total = 1024 * int(sizes["MemTotal"])
        return total, 1024 * int(sizes["MemAvailable"]) if "MemAvailable" in sizes else None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    return None, None


def _linux_caches(cores: list[int]) -> tuple[CacheLevel, ...]:
    """The data caches of the cores; each cache lists the cores that share it."""
    found: dict[int, tuple[int, set[str]]] = {}
    for core in cores:
        for index in sorted((CPU / f"cpu{core}/cache").glob("index*")):
            level, kind, size, shared = (_read(index / name).strip() for name in ("level", "type", "size", "shared_cpu_list"))
            match = re.fullmatch(r"([0-9]+)([KMG]?)", size)
            if match and level.isdigit() and kind != "Instruction":
                capacity = int(match[1]) * PREFIXES[match[2]]
                found.setdefault(int(level), (capacity, set()))[1].add(shared)
    return tuple(_cache(level, *found[level]) for level in sorted(found))


def _cache(level: int, capacity: int, shared: set[str]) -> CacheLevel:
    return CacheLevel(f"L{level} data cache" if level == 1 else f"L{level} cache", capacity, len(shared))


def _mac_caches(cores: int) -> tuple[CacheLevel, ...]:
    named = (("L1 data cache", "hw.l1dcachesize", cores), ("L2 cache", "hw.l2cachesize", 1), ("L3 cache", "hw.l3cachesize", 1))
    sizes = [(name, _sysctl(key), instances) for name, key, instances in named]
    return tuple(CacheLevel(name, int(size), instances) for name, size, instances in sizes if size.isdigit() and int(size) > 0)
