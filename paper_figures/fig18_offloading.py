"""Figure 18 of arXiv 2402.16363: offloading on the roofline.

Three roofs: A6000 compute with data in its own memory (turning at 201.6 FLOP/byte), the same with data in DDR
at 89.6 GB/s (1728), and the 13900K's compute with data in DDR (15.4). The survey lets the GPU read DDR at
DDR's bandwidth; "exact" adds the roof under the slower link in between, and the intensity from which it is
worth sending data over it.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from sympy import Expr, Integer

import symroof
from symroof import attainable, figures, survey

TITLE = "Figure 18: offloading on the roofline"
CPU = "survey/intel_13900k"
LINKED = "a40"
"""Whose host link stands for the A6000's, whose device file states none: the same chip, PCIe 4.0 x16."""
LEFT, RIGHT = Integer(1), Integer(20_000)
"""Intensities the axis spans, in FLOP/byte."""
LINKED_ROOF = "DDR over PCIe, GPU compute"


def one_way(device: str) -> Expr:
    """Bandwidth of the device's PCIe link in one direction, byte/s."""
    link = next(link for link in symroof.load_hardware(device).links if link.name.startswith("PCIe"))
    return link.bandwidth.value / 2 if link.direction == "total" else link.bandwidth.value


def roofs(accounting: str) -> dict[str, tuple[Expr, Expr]]:
    """Peak in FLOP/s and bandwidth in byte/s of each roof."""
    gpu, cpu = symroof.load_hardware(survey.A6000), symroof.load_hardware(CPU)
    fast, slow = (device.machine.fastest(("fp16",))[1] for device in (gpu, cpu))
    ddr = cpu.bandwidth_figure.value
    found: dict[str, tuple[Expr, Expr]] = {
        "HBM access, GPU compute": (fast, gpu.bandwidth_figure.value),
        "DDR access, GPU compute": (fast, ddr),
        "DDR access, CPU compute": (slow, ddr),
    }
    return found if accounting == "survey" else {**found, LINKED_ROOF: (fast, min(ddr, one_way(LINKED)))}


def worth_sending() -> Expr:
    """The intensity at which the GPU behind the link is as fast as the CPU on DDR: the CPU's peak over the link's bandwidth."""
    found = roofs("exact")
    return found["DDR access, CPU compute"][0] / found[LINKED_ROOF][1]


def data(accounting: str = "survey") -> tuple[figures.Series, ...]:
    """The corners of every roof, and the ridge points."""
    found = roofs(accounting)
    lines = tuple(
        figures.Series(
            "roofline", name, "intensity", "FLOP/byte", "performance", "FLOP/s", corners, tuple(attainable(x, *roof) for x in corners)
        )
        for name, roof in found.items()
        for corners in [(LEFT, roof[0] / roof[1], RIGHT)]
    )
    ridges = tuple(peak / bandwidth for peak, bandwidth in found.values())
    return (*lines, figures.Series("roofline", "ridge points", "roof", "", "intensity", "FLOP/byte", tuple(found), ridges))


def draw(accounting: str = "survey") -> Figure:
    """The roofs, log-log, with the ridge points as vertical lines."""
    found = data(accounting)
    figure, (axes,) = figures.new_figure(height=4.0)
    bottom = 2e-2
    for (name, ridge), color, line in zip(
        figures.named(found, "roofline", "ridge points").points, figures.COLORS, figures.LINES, strict=False
    ):
        roof = figures.named(found, "roofline", str(name))
        teras = [value / 1e12 for value in roof.values]
        words = f"{name}: ridge {float(ridge):.1f}"
        axes.plot([float(x) for x, _ in roof.points], teras, color=color, linestyle=line, label=words, gid=str(name))
        axes.plot([float(ridge)] * 2, [bottom, teras[1]], color=color, linestyle=":", linewidth=0.9, gid=f"ridge-{name}")
        figures.mark(axes, float(ridge), teras[1], color, f"{float(ridge):.1f}", gid=f"knee-{name}", offset=(-24, 7))
    if accounting == "exact":
        at, top = float(worth_sending()), figures.named(found, "roofline", "DDR access, CPU compute").values[-1] / 1e12
        figures.mark(axes, at, top, "0.2", f"GPU over PCIe\nfaster from {at:.1f}", gid="crossover-cpu-gpu", offset=(3, -24))
    figures.label(axes, "arithmetic intensity [FLOP/byte]", "attainable performance [TFLOP/s]", f"A6000 and 13900K, FP16 ({accounting})")
    axes.set(xscale="log", yscale="log", xlim=(float(LEFT), float(RIGHT)), ylim=(bottom, 6e3))
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def formula() -> tuple[str, ...]:
    """The closed form, a line each."""
    return (
        "attainable performance = min(P, I BW), with P of what computes and BW of the slowest memory or link that the data pass",
        "ridge point P / BW: from HBM to DDR it rises by the ratio of the bandwidths, from GPU to CPU it falls by that of the peaks",
        "beside a link slower than DDR, the CPU is the faster up to I = P_cpu / BW_link, the GPU beyond it",
    )
