"""Write docs/validation.md: tables from the constants that ship and from published steps, and the figures.

    python docs/make_validation.py [--measured FOLDER]

The figures of kernels are drawn where their rows are at hand: FOLDER has gemm.csv, attention_decode.csv and
attention_prefill.csv. All else follows from what is in the repository.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from symroof.calibration.fit import errors
from symroof.calibration.rows import read_rows
from symroof.calibration.steps import StepValidation, validate_steps
from symroof.calibration.validate import validate
from symroof.hardware.calibration import CONSTANTS, Kernel, shipped, with_constants
from symroof.hardware.loader import load_hardware
from symroof.present.measured.figures import save
from symroof.present.measured.tables import class_table, error_table, step_error_table
from symroof.present.tabular import Column, Table

DOCS = Path(__file__).parent
STEPS = DOCS.parent / "tests" / "data" / "end_to_end.csv"
FILES = ("gemm.csv", "attention_decode.csv", "attention_prefill.csv")


def main() -> None:
    """Write the page, and the figures whose data are at hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measured", type=Path, help="folder with the rows of measured kernels")
    measured = parser.parse_args().measured
    steps, _ = validate_steps(STEPS)
    kernels = []
    for name in with_constants() if measured else ():
        device = load_hardware(name)
        rows = [one for file in FILES for one in read_rows(measured / file, name) if one.widths == {16}]
        kernels += validate(rows, device, unseen=0)
    for path in save(kernels, steps, DOCS / "images" / "validation"):
        print(path)
    (DOCS / "validation.md").write_text(page(steps), encoding="utf-8")


def page(steps: list[StepValidation]) -> str:
    """The whole page."""
    known = [calibration for name in with_constants() if (calibration := shipped(name))]
    tables = {
        "errors": "\n\n".join(f"**{one.device}**\n\n{_untitled(error_table(one.kernels))}" for one in known),
        "constants": _untitled(_constants(known)),
        "summary": _untitled(_summary(steps)),
        "classes": _untitled(class_table(steps)),
        "steps": _untitled(step_error_table(steps)),
        "beyond": ", ".join(_beyond(steps)),
        "points": str(len(steps)),
        "rows": f"{sum(kernel.rows for one in known for kernel in one.kernels):,}",
        "source": known[0].kernels[0].source,
        "date": known[0].date,
    }
    text = (DOCS / "validation.in.md").read_text(encoding="utf-8")
    for key, table in tables.items():
        text = text.replace("{{" + key + "}}", table)
    return text


def _untitled(table: Table) -> str:
    """A table as Markdown without its title, which the page says itself."""
    return replace(table, title="").markdown().strip()


def _constants(known: list) -> Table:
    """The constants of all kernels at 16 bits, and what is known of each."""
    rows = []
    for calibration in known:
        for one in calibration.kernels:
            if one.kernel is Kernel.VECTOR or one.widths != {16}:
                continue
            for constant in CONSTANTS[one.kernel]:
                value = float(one[constant.symbol])
                shown = f"{value * 1e6:.3g} us" if constant.is_time else f"{value:.3g}"
                note = next((note for note in one.notes if note.startswith(constant.name)), "")
                rows.append(
                    (
                        calibration.device,
                        str(one.kernel),
                        constant.name,
                        str(constant.symbol),
                        shown,
                        note.removeprefix(constant.name).strip(),
                    )
                )
    columns = tuple(Column(name) for name in ("device", "kernel", "constant", "symbol", "value", "note"))
    return Table("", columns, tuple(rows))


KINDS = {
    "decode and generate, 16 bit, one A100": lambda one: (
        one.point.sixteen and one.point.phase != "prefill" and one.point.engine != "llama.cpp"
    ),
    "the same with llama.cpp": lambda one: one.point.sixteen and one.point.phase != "prefill",
    "decode, 16 bit, one A100, llama.cpp": lambda one: one.point.sixteen and one.point.engine == "llama.cpp",
    "one prompt, 16 bit, one A100": lambda one: one.point.sixteen and one.point.phase == "prefill",
    "decode, 8 bit weights, one A100": lambda one: one.point.bits == ("8", "16", "16"),
    "generate, fp8, one H100": lambda one: one.point.bits == ("8", "8", "8") and one.point.phase == "generate",
    "one prompt, fp8, one H100": lambda one: one.point.bits == ("8", "8", "8") and one.point.phase == "prefill",
}
MISSING = {
    "the same with llama.cpp": "",
    "decode and generate, 16 bit, one A100": "attention kernels of their own, faster than the measured one at 60 and more sequences",
    "decode, 16 bit, one A100, llama.cpp": "kernels of its own, launched one by one",
    "one prompt, 16 bit, one A100": "not known: 1 to 2 ms at 128 tokens, 4 to 27 ms at 2,048, so not the host's time alone",
    "decode, 8 bit weights, one A100": "",
    "generate, fp8, one H100": "TensorRT-LLM's multi-head attention at 8 bits, 768 and more short sequences most of all",
    "one prompt, fp8, one H100": "not known: 1 to 2 ms at 128 tokens, 4 to 27 ms at 2,048, so not the host's time alone",
}


def _summary(steps: list[StepValidation]) -> Table:
    """The errors of sums of calibrated kernels by kind."""
    rows = []
    for kind, chosen in KINDS.items():
        members = [one for one in steps if one.predicted is not None and chosen(one)]
        error = errors(np.array([one.predicted for one in members]), np.array([one.point.seconds for one in members]))
        engines = ", ".join(sorted({one.point.engine for one in members}))
        rows.append((kind, str(error.rows), f"{error.mape:.1f} %", f"{error.bias:+.1f} %", engines, MISSING[kind]))
    return Table("", tuple(Column(name) for name in ("steps", "points", "mean error", "bias", "engines", "what is missing")), tuple(rows))


def _beyond(steps: list[StepValidation]) -> list[str]:
    """The steps that are faster than their bound."""
    return [f"{one.point.model} on {one.point.device} ({one.point.engine}, {one.reached:.2f})" for one in steps if one.reached > 1] or [
        "none"
    ]


if __name__ == "__main__":
    main()
