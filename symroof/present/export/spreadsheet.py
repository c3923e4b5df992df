"""A step's formulas as a spreadsheet whose cells are alive: change an input and every operator follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from symroof import __version__
from symroof.deployment.exported import Exported
from symroof.errors import InputError
from symroof.present.export.expressions import Call, translated
from symroof.sweeps.metrics import BINDING, TOTAL


def _power(arguments: Sequence[str]) -> str:
    """A power that is zero where a spreadsheet would find it too small for a number."""
    base, exponent = arguments
    return f"IF(({exponent})*LN({base})<-700,0,POWER({base},{exponent}))"


CALLS: Mapping[str, Call] = {
    "maximum": lambda arguments: f"MAX({','.join(arguments)})",
    "minimum": lambda arguments: f"MIN({','.join(arguments)})",
    "power": _power,
    "ceil": lambda arguments: f"ROUNDUP({arguments[0]},0)",
    "floor": lambda arguments: f"INT({arguments[0]})",
    "select": lambda arguments: "IF({}<={},{},{})".format(*arguments),
}
"""What a spreadsheet calls what a line of the program calls."""


def spreadsheet(exported: Exported, path: Path) -> None:
    """Write the workbook: inputs, the step by operator, and the shared parts of the formulas.

    Raises
    ------
    InputError
        openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
        from openpyxl.styles import Font
        from openpyxl.utils import get_column_letter
    except ImportError:
        raise InputError("a spreadsheet needs openpyxl: pip install 'symroof[export]'") from None
    book: Any = Workbook()
    step, inputs, parts = book.active, book.create_sheet("inputs"), book.create_sheet("shared")
    step.title = "step"
    bold = Font(bold=True)
    cells = {known.symbol: f"inputs!$B${row}" for row, known in enumerate(exported.inputs, 2)}
    cells |= {f"_c{place}": repr(float(value)) for place, value in enumerate(exported.program.constants)}
    inputs.append(["input", "value", "unit", "symbol", "meaning"])
    for known in exported.inputs:
        inputs.append([known.name, known.value_expr, known.unit, known.symbol, known.meaning])
    parts.append(["part", "value"])
    for row, line in enumerate(exported.program.lines, 2):
        name, _, value = line.partition(" = ")
        parts.append([name, f"={translated(value, cells, CALLS)}"])
        cells[name] = f"shared!$B${row}"
    resources = [str(resource) for resource in (*BINDING[1:], BINDING[0]) if any(one.resource == resource for one in exported.outputs)]
    metrics = list(dict.fromkeys(f"{one.metric} [{one.unit}]" for one in exported.outputs if not one.resource))
    columns = ["operator", *metrics, *(f"{resource} time [s]" for resource in resources), "bound"]
    described = f"{exported.step.title} in {exported.step.options.phase} on {exported.device.title}, ceilings {exported.ceilings}"
    step.append([f"{described}; by symroof {__version__}"])
    step.append(columns)
    rows = {name: row for row, name in enumerate((*exported.operators, TOTAL), 3)}
    for name, row in rows.items():
        step.cell(row, 1, name)
    for output, result in zip(exported.outputs, exported.program.outputs, strict=True):
        heading = f"{output.resource} time [s]" if output.resource else f"{output.metric} [{output.unit}]"
        step.cell(rows[output.operator], columns.index(heading) + 1, f"={translated(result, cells, CALLS)}")
    first, last = (get_column_letter(columns.index(f"{resource} time [s]") + 1) for resource in (resources[0], resources[-1]))
    for name, row in rows.items():
        if name != TOTAL:
            seconds = f"{first}{row}:{last}{row}"
            bound = f"INDEX({first}$2:{last}$2,MATCH(MAX({seconds}),{seconds},0))"
            step.cell(row, len(columns), f'=SUBSTITUTE({bound}," time [s]","")')
    notes = book.create_sheet("conventions")
    for statement in exported.statements:
        notes.append([statement])
    for sheet in book.worksheets:
        for cell in (*sheet[1], *(sheet[2] if sheet is step else ())):
            cell.font = bold
        sheet.column_dimensions["A"].width = 26
    step.freeze_panes = "B3"
    for place in range(2, len(columns) + 1):
        step.column_dimensions[get_column_letter(place)].width = 14
        for row in rows.values():
            step.cell(row, place).number_format = "0.0000E+00"
    inputs.column_dimensions["B"].width = 16
    inputs.column_dimensions["E"].width = 60
    book.save(path)
