"""Write docs/lab.md from docs/lab.in.md and what was measured; with --measure, measure this machine and run GPT-2 on it first.

    python docs/make_lab.py [--measure [OPTIONS OF `symroof measure`, such as --backend torch --threads 1 --cpu-time]]

docs/data/lab/ has the data: the device, its constants, and GPT-2's steps with every benchmark; docs/images/lab/ the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import symroof
from symroof.operators.facts import BITS
from symroof.present.measured.machine import BUSY, in_units
from symroof.present.tabular import Column, Table, si

DOCS = Path(__file__).parent
DATA, IMAGES = Path("docs/data/lab"), Path("docs/images/lab")
DEVICE = DATA / "machine.toml"
BATCHES = (1, 4, 16, 64)
CONTEXT = 512


def main() -> None:
    """Measure where that is asked for, and write the page."""
    asked = sys.argv[1:]
    if asked[:1] == ["--measure"]:
        measure(asked[1:] or ["--backend", "torch"])
    elif asked:
        sys.exit(__doc__)
    (DOCS / "lab.md").write_text(page(), encoding="utf-8")


def measure(options: list[str]) -> None:
    """The machine; GPT-2's decode and prefill; its decode over batches."""
    for folder in (DATA, IMAGES):
        (DOCS.parent / folder).mkdir(parents=True, exist_ok=True)
    step = ("measure", "gpt2", *options, "--seq-len", CONTEXT, "--flash-attention")
    _run(*step, "-o", DEVICE, "--format", "json", "--figures", IMAGES, into="gpt2.json")
    for batch in BATCHES[1:]:
        _run(*step, "--device-file", DEVICE, "--phase", "decode", "--batch", batch, "-o", DATA / f"gpt2_batch_{batch}.json")


def _run(*arguments: object, into: str = "") -> None:
    """A command of symroof's, from the root of the repository; what it prints goes into a file."""
    command = [sys.executable, "-m", "symroof", *map(str, arguments)]
    print("symroof", *command[3:], flush=True)
    printed = subprocess.run(command, cwd=DOCS.parent, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
    if into:
        (DOCS.parent / DATA / into).write_text(printed, encoding="utf-8")


def page() -> str:
    """The whole page."""
    steps = _read("gpt2.json")
    machine = steps["machine"]
    decode, prefill = (next(one for one in steps["steps"] if one["phase"] == phase) for phase in ("decode", "prefill"))
    batches = {1: decode} | {batch: _read(f"gpt2_batch_{batch}.json")["steps"][0] for batch in BATCHES[1:]}
    bandwidth, peak = machine["memory"]["best"], machine["peaks"][decode["data_type"]]["best"]
    figures: dict[str, str] = {
        "title": machine["system"]["title"],
        "threads": f"{machine['threads']} of {machine['system']['processors']} cores",
        "software": machine["software"],
        "platform": machine["system"]["platform"],
        "date": machine["date"],
        "timed_by": machine["timed_by"],
        "repeat": str(machine["repeat"]),
        "noise": _noise(machine, decode, prefill),
        "machine": _markdown(_machine(machine)),
        "launch": f"{machine['launch']['median'] * 1e6:.2g} us",
        "bandwidth": f"{bandwidth / 1e9:.3g} GB/s",
        "peak": f"{peak / 1e9:.3g} GFLOP/s",
        "ridge": f"{peak / bandwidth:.2g} FLOP/byte",
        "constants": _markdown(_constants(machine)),
        "reasons": "".join(f"Without constants: {one}. " for one in machine["not_calibrated"]),
        "decode": _markdown(_step(decode)),
        "prefill": _markdown(_step(prefill)),
        "batches": _markdown(_batches(batches)),
        "crossover": _crossover(decode["data_type"]),
        "decode_bytes": f"{sum(one['count'] * one['bytes'] for one in decode['operators']) / 1e6:.0f} MB",
        "products": f"{100 * _share(decode, lambda one: one['name'].endswith(('_proj', 'lm_head'))):.0f} %",
        "small": f"{100 * _share(decode, lambda one: one['bytes'] < 1e5):.0f} %",
        "small_times": _range(one["measured"]["median"] for one in decode["operators"] if one["bytes"] < 1e5),
        "product_ratios": _ratios(decode, lambda one: one["name"].endswith(("_proj", "lm_head"))),
        "prefill_ratios": _ratios(prefill, lambda one: one["name"].endswith("_proj")),
        "activation_ratio": f"{next(one['ratio'] for one in prefill['operators'] if one['name'] == 'mlp_act'):.1f}",
    }
    for name, seconds in (("roofline", _roofline), ("calibrated", _calibrated), ("measured", _median)):
        figures[f"{name}_growth"] = f"{seconds(batches[4]) / seconds(batches[1]):.1f}"
    for phase, one in (("decode", decode), ("prefill", prefill)):
        total = one["total"]
        figures[f"{phase}_roofline"] = f"{in_units(total['roofline'], 's')}"
        figures[f"{phase}_calibrated"] = f"{in_units(total['calibrated'], 's')}"
        figures[f"{phase}_measured"] = f"{in_units(total['measured']['median'], 's')}"
        figures[f"{phase}_spread"] = f"{in_units(total['measured']['lower'], 's')} to {in_units(total['measured']['upper'], 's')}"
        figures[f"{phase}_ratio"] = f"{total['measured']['median'] / total['roofline']:.2f}"
        figures[f"{phase}_error"] = f"{100 * total['error']:+.0f} %"
        figures[f"{phase}_above"] = ", ".join(other["name"] for other in one["operators"] if other["note"]) or "none"
    figures["commandline"] = steps["command"]
    text = (DOCS / "lab.in.md").read_text(encoding="utf-8")
    for key, words in figures.items():
        text = text.replace("{{" + key + "}}", words)
    return text


def _roofline(step: dict[str, Any]) -> float:
    return step["total"]["roofline"]


def _calibrated(step: dict[str, Any]) -> float:
    return step["total"]["calibrated"]


def _median(step: dict[str, Any]) -> float:
    return step["total"]["measured"]["median"]


def _read(name: str) -> dict[str, Any]:
    return json.loads((DOCS.parent / DATA / name).read_text(encoding="utf-8"))


def _crossover(data_type: str) -> str:
    """The batch at which up_proj stops being memory-bound on the measured device."""
    bits = BITS[data_type]
    step = symroof.load_model("gpt2").decode(seq_len=CONTEXT, weight_bits=bits, activation_bits=bits, kv_bits=bits)
    return f"{symroof.crossover(step, 'up_proj', over='batch', hardware=DOCS.parent / DEVICE).value:.1f}"


def _markdown(table: Table) -> str:
    """A table without its title, which the page says itself."""
    return replace(table, title="").markdown().strip()


def _plain(name: str, unit: str = "", title: str = "", *, prefixed: bool = True) -> Column:
    return Column(name, unit, title, numeric=True, prefixed=prefixed)


def _noise(machine: dict[str, Any], *steps: dict[str, Any]) -> str:
    """What else ran, and the spread of repeats."""
    loads = [one["load_average"][when] for one in (machine, *steps) for when in ("before", "after")]
    known = [one for one in loads if one is not None]
    spread = max(
        (one["total"]["measured"]["upper"] - one["total"]["measured"]["lower"]) / one["total"]["measured"]["median"] for one in steps
    )
    beside = f"load average {min(known):.1f} to {max(known):.1f} on {machine['system']['processors']} cores" if known else "load unknown"
    busy = "; other work was running" if known and max(known) > machine["threads"] + BUSY else ""
    return f"{beside}{busy}; the quartiles of a step's passes lie within {100 * spread:.1f} % of their median of each other"


def _machine(machine: dict[str, Any]) -> Table:
    """Every stated rate, with its spread and what reached it."""
    rows = [("memory", "B/s", machine["memory"])]
    for cache in machine["caches"]:
        each = " (each)" if cache["instances"] > 1 else ""
        rows += [(f"{cache['name']}, {cache['capacity'] // 1024} KiB{each}", "B/s", cache["bandwidth"])] if cache["bandwidth"] else []
    rows += [(f"products, {name}", "FLOP/s", one) for name, one in machine["peaks"].items()]
    rows += [(f"without contraction, {name}", "FLOP/s", one) for name, one in machine["vectors"].items() if name == "fp32"]
    columns = (Column("what"), Column("best"), Column("median"), Column("quartiles"), Column("reached by"))
    return Table("", columns, tuple(_rate(*row) for row in rows))


def _rate(what: str, unit: str, one: dict[str, Any]) -> tuple[str, ...]:
    by = f"{one['benchmark']}, {in_units(one['working_set'], 'B')}"
    quartiles = f"{si(one['lower'], 3)} to {in_units(one['upper'], unit)}"
    return (what, in_units(one["best"], unit), in_units(one["median"], unit), quartiles, by)


def _constants(machine: dict[str, Any]) -> Table:
    """What was fitted, and how far it is off on the half that was not."""
    rows = []
    for one in (machine["calibration"] or {"kernels": []})["kernels"]:
        values = ", ".join(
            f"{name} {value * 1e6:.3g} us" if "overhead" in name or "time" in name or "second" in name else f"{name} {value:.3g}"
            for name, value in one["constants"].items()
        )
        error = one["errors"]["all"]
        rows.append((one["kernel"], values, f"{error['mape']:.0f} %", f"{error['median']:.0f} %", one["rows"]))
    columns = (Column("kernel"), Column("constants"), Column("mean error"), Column("median"), _plain("rows", prefixed=False))
    return Table("", columns, tuple(rows))


def _step(step: dict[str, Any]) -> Table:
    """The operators of a step, predicted and measured."""
    rows = []
    for one in step["operators"]:
        measured, predicted = one["measured"], one["calibrated"]
        error = None if predicted is None else f"{100 * (predicted / measured['median'] - 1):+.0f} %"
        spread = f"{in_units(measured['lower'], 's')} to {in_units(measured['upper'], 's')}"
        rows.append(
            (
                one["name"],
                one["count"],
                one["bound"],
                one["roofline"],
                predicted,
                measured["median"],
                spread,
                one["ratio"],
                error,
                one["note"],
            )
        )
    total = step["total"]
    median, spread = (
        total["measured"]["median"],
        f"{in_units(total['measured']['lower'], 's')} to {in_units(total['measured']['upper'], 's')}",
    )
    sums = (
        "total",
        None,
        None,
        total["roofline"],
        total["calibrated"],
        median,
        spread,
        median / total["roofline"],
        f"{100 * total['error']:+.0f} %",
        "",
    )
    columns = (
        Column("operator"),
        _plain("count", prefixed=False),
        Column("bound"),
        _plain("roofline", "s"),
        _plain("calibrated", "s"),
        _plain("measured", "s"),
        Column("quartiles"),
        _plain("ratio", "", "measured / roofline", prefixed=False),
        Column("calibrated / measured - 1"),
        Column("note"),
    )
    return Table("", columns, tuple(rows), totals=(sums,))


def _batches(steps: dict[int, dict[str, Any]]) -> Table:
    """Decode over the batch."""
    rows = []
    for batch, step in steps.items():
        total = step["total"]
        median = total["measured"]["median"]
        rows.append(
            (
                batch,
                total["roofline"],
                total["calibrated"],
                median,
                median / total["roofline"],
                f"{100 * total['error']:+.0f} %",
                batch / median,
            )
        )
    columns = (
        _plain("batch", prefixed=False),
        _plain("roofline", "s"),
        _plain("calibrated", "s"),
        _plain("measured", "s"),
        _plain("ratio", "", "measured / roofline", prefixed=False),
        Column("calibrated / measured - 1"),
        _plain("tokens", "token/s"),
    )
    return Table("", columns, tuple(rows))


def _share(step: dict[str, Any], chosen: Any) -> float:
    """The share of a step's measured time that some operators take."""
    return sum(one["count"] * one["measured"]["median"] for one in step["operators"] if chosen(one)) / step["total"]["measured"]["median"]


def _ratios(step: dict[str, Any], chosen: Any) -> str:
    some = [one["ratio"] for one in step["operators"] if chosen(one)]
    return f"{min(some):.1f} to {max(some):.1f}"


def _range(times: Any) -> str:
    some = [*times]
    return f"{min(some) * 1e6:.0f} to {max(some) * 1e6:.0f} us"


if __name__ == "__main__":
    main()
