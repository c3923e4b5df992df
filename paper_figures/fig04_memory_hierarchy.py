"""Figures 4 and 17 of arXiv 2402.16363: the memory hierarchy that weights and KV cache pass through.

Boxes are memories with their capacity, arrows are paths with their bandwidth, from the device files of an H100 and
a Xeon as its host; the ranges that the survey's Figure 17 prints stand beside them. Beside each path, the
intensity P / BW that an operator needs if its data come that way and it is to run at the processor's peak.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sympy import Expr

import symroof
from symroof import figures

TITLE = "Figures 4 and 17: the memory hierarchy"
ACCOUNTINGS = ("exact",)
"""A diagram of device data: no operator is counted in it."""
GPU, HOST = "h100-sxm", "xeon-platinum-8480plus"
DATA_TYPE = "bf16"
CAPACITIES = {"on-chip buffer": (5e6, 30e6), "GPU memory": (10e9, 100e9), "CPU memory": (20e9, 200e9)}
"""Bytes, from and to, as the survey's Figure 17 prints them; it gives none for the disk."""
BANDWIDTHS = {"GPU memory": (400e9, 2000e9), "host link": (10e9, 30e9), "CPU memory": (50e9, 200e9), "disk": (2e9, 2e9)}
"""Byte/s, likewise."""
MIDDLE, EDGES = 33, (64, 84, 100)
"""Where the boxes stand and the columns end, in hundredths of the picture."""
BOXES = {
    "on-chip buffer": (91, 20, "on-chip buffer\n(shared memory)"),
    "GPU memory": (64, 24, "GPU memory\n(HBM)"),
    "CPU memory": (37, 28, "CPU memory\n(DDR)"),
    "disk": (5, 32, "disk"),
}
"""Height, width, name."""
PATHS = {
    "GPU memory": (77.5, (MIDDLE, 85), (MIDDLE, 70), "memory bus"),
    "host link": (50.5, (MIDDLE, 58), (MIDDLE, 43), "host link, one way"),
    "CPU memory": (30, (8, 30), (19, 30), "CPU to DDR"),
    "disk": (19, (MIDDLE, 27), (MIDDLE, 11), "disk link"),
}
"""Height, both ends of the arrow, name."""
ARROW = {"arrowstyle": "<->", "color": figures.COLORS[0], "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}


def catalogue() -> tuple[dict[str, Expr], dict[str, Expr], dict[str, Expr]]:
    """Bytes per memory, byte/s per path (a link in one direction), and FLOP/byte per path."""
    gpu, host = symroof.load_hardware(GPU), symroof.load_hardware(HOST)
    buffer = next(level for level in gpu.on_chip if level.role == "buffer")
    link = next(link for link in gpu.links if link.name.startswith("PCIe"))
    capacities = {"on-chip buffer": buffer.capacity.value * buffer.instances}
    capacities |= {name: device.capacity.magnitude for name, device in (("GPU memory", gpu), ("CPU memory", host))}
    bandwidths = {"GPU memory": gpu.bandwidth_figure.value, "host link": link.bandwidth.value / (2 if link.direction == "total" else 1)}
    bandwidths["CPU memory"] = host.bandwidth_figure.value
    fast, slow = (device.machine.fastest((DATA_TYPE,))[1] for device in (gpu, host))
    needed = {name: (slow if name == "CPU memory" else fast) / bandwidth for name, bandwidth in bandwidths.items()}
    return capacities, bandwidths, needed


def data(accounting: str = "exact") -> tuple[figures.Series, ...]:
    """Capacities and bandwidths of the catalogue, with the survey's ranges."""
    capacities, bandwidths, needed = catalogue()
    found = []
    for quantity, unit, own, printed in (("capacity", "byte", capacities, CAPACITIES), ("bandwidth", "byte/s", bandwidths, BANDWIDTHS)):
        columns = {
            "device files": own,
            "Figure 17, from": {k: v[0] for k, v in printed.items()},
            "Figure 17, to": {k: v[1] for k, v in printed.items()},
        }
        for name, column in columns.items():
            found.append(figures.Series("hierarchy", name, "part", "", quantity, unit, tuple(column), tuple(column.values())))
    return (
        *found,
        figures.Series("hierarchy", "device files", "part", "", "intensity needed", "FLOP/byte", tuple(needed), tuple(needed.values())),
    )


def draw(accounting: str = "exact") -> Figure:
    """Memories as boxes that widen downwards, paths as arrows, and the figures of both in columns beside them."""
    figure, (axes,) = figures.new_figure(height=4.6)
    axes.axis("off")
    axes.set(xlim=(0, 100), ylim=(-4, 104))
    for (name, (y, width, words)), color in zip(BOXES.items(), figures.COLORS, strict=False):
        low = y - (10 if name == "CPU memory" else 6)
        box = Rectangle((MIDDLE - width / 2, low), width, y + 6 - low, facecolor=color, alpha=0.25, edgecolor="0.2", gid=f"box-{name}")
        axes.add_patch(box)
        axes.text(MIDDLE, y, words, fontsize=8, ha="center", va="center")
    for y, start, end, words in PATHS.values():
        axes.annotate("", end, start, arrowprops=ARROW)
        place = (MIDDLE + 1, y) if start[0] == MIDDLE else (start[0], y + 3)
        axes.text(place[0], place[1], words, fontsize=7.5, color=figures.COLORS[0], va="center")
    axes.annotate("", (23, 91), (8, 91), arrowprops=ARROW)
    for y, words in ((91, "GPU\ncores"), (30, "CPU\ncores")):
        axes.text(4, y, words, fontsize=8, ha="center", va="center")
    for x, heading in zip(EDGES, ("device files", "survey, Figure 17", f"P / BW, {DATA_TYPE.upper()}\n[FLOP/byte]"), strict=True):
        axes.text(x, 101, heading, fontsize=8, ha="right", va="center", weight="bold")
    for quantity, rows in (("capacity", BOXES), ("bandwidth", PATHS)):
        for name, (y, *_) in rows.items():
            for x, words in zip(EDGES, _cells(quantity, name), strict=True):
                axes.text(x, y, words, fontsize=8, ha="right", va="center", color="0.15" if quantity == "capacity" else figures.COLORS[0])
    devices = " and ".join(symroof.load_hardware(name).title for name in (GPU, HOST))
    axes.set_title(f"Memory hierarchy: {devices}", fontsize=9.5)
    return figure


def _cells(quantity: str, part: str) -> tuple[str, str, str]:
    """One row beside the diagram: ours, the survey's range, and the intensity needed."""
    columns = {(one.name, one.quantity): dict(one.points) for one in data()}
    own, low, high = (columns[name, quantity].get(part) for name in ("device files", "Figure 17, from", "Figure 17, to"))
    needed = columns["device files", "intensity needed"].get(part) if quantity == "bandwidth" else None
    words = "not stated" if low is None else f"about {_shown(quantity, low)}"
    if low != high:
        words = f"{_shown(quantity, low).split()[0]} to {_shown(quantity, high)}"
    return _shown(quantity, own), words, "" if needed is None else f"{float(needed):,.0f}"


def _shown(quantity: str, value: figures.Number | None) -> str:
    if value is None:
        return "not stated"
    return f"{figures.si(value, 3)}B" if quantity == "capacity" else f"{float(value) / 1e9:.4g} GB/s"


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "moving n bytes over a path takes n / BW; the slowest path on the way decides",
        "an operator whose data come over a path runs at the peak P only if its intensity is at least P / BW",
        "device files: the vendors' figures; CPU memory is the most a socket takes; a link stated for both ways together counts half",
    )
