"""Formulas in other languages say what the library says: Python, JavaScript under node, C under a compiler, spreadsheets cell by cell."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import openpyxl
import pytest

import symroof
from symroof.cli.main import main
from symroof.present.export.languages import RESERVED
from tests.steps import EVERYTHING, sampled

WIDTHS = ({}, {"weight_bits": 8}, {"weight_bits": 4, "kv_bits": 8}, {"weight_bits": 8, "activation_bits": 8, "kv_bits": 8})
CHAINS = (
    *((), ("flash-attention",), ("quantize:weights=4,group=128",), ("tensor-parallel:degree=4",), ("offload:share=0.3",)),
    *(("speculative:acceptance=0.8,length=4,draft_cost=0.05",), ("prefix-cache:share=0.5",), ("paged-cache:page=16",)),
)
MODELS = ("llama-2-7b", "llama-3.1-8b", "mixtral-8x7b-v0.1", "deepseek-v3", "gpt-oss-20b", "gemma-3-27b-pt", "mamba-2.8b", "qwen3-32b")
DEVICES = ("a100-sxm-80gb", "h100-sxm", "mi300x", "b200")
STATES = 200 if EVERYTHING else 25
"""Of each export, at other inputs: of all exports more than 10,000."""


Drawn = tuple[str, str, tuple[str, ...], dict[str, int], str, str]


def drawn() -> Iterator[Drawn]:
    """Random steps on random devices: a model, a phase, techniques, widths, a device and its ceilings."""
    chosen = random.Random(2026)
    for _ in range(80):
        step = chosen.choice(MODELS), chosen.choice(("decode", "prefill")), chosen.choice(CHAINS), chosen.choice(WIDTHS)
        yield *step, chosen.choice(DEVICES), chosen.choice(("stated", "classic"))


def made(model: str, phase: str, chain: tuple[str, ...], widths: dict[str, Any], device: str, ceilings: str) -> symroof.Exported | None:
    """The export of a step; None where a technique refuses the model or the phase."""
    loaded = symroof.load_model(model)
    make = loaded.decode if phase == "decode" else loaded.prefill
    try:
        step = make(batch=4, seq_len=2048, **widths).with_widths().apply(*chain)
        return symroof.exported(step, device, ceilings=ceilings)
    except symroof.SymroofError:
        return None


EXPORTS = [exported for one in sampled(drawn(), 8) if (exported := made(*one)) is not None]


def states(exported: symroof.Exported, count: int) -> list[dict[str, float]]:
    """Random inputs: batch and length, and the device's rates around their figures."""
    chosen = random.Random(len(exported.inputs))
    lengths = {"batch": 512, "context_len": 100_000, "seq_len": 100_000}
    return [
        {
            known.name: chosen.randint(1, lengths[known.name]) if known.name in lengths else known.value_expr * chosen.uniform(0.5, 2)
            for known in exported.inputs
        }
        for _ in range(count)
    ]


def differs(mine: dict[str, dict[str, float]], others: Any) -> float:
    """The largest relative difference of a nested result; a missing one is an error."""
    worst = 0.0
    for operator, metrics in mine.items():
        for key, value in metrics.items():
            resource = key.removeprefix("seconds_")
            other = others[operator]["seconds"][resource] if resource != key else others[operator][key]
            worst = max(worst, abs(other - value) / abs(value) if value else abs(other))
    return worst


def module(path: Path) -> ModuleType:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def bound_of(seconds: dict[str, float]) -> str:
    """What takes longest; of equals memory is last."""
    return max(sorted(seconds, key="memory".__eq__), key=lambda resource: seconds[resource])


@pytest.mark.parametrize("exported", EXPORTS, ids=lambda one: f"{one.step.title} {one.step.options.phase}"[:50])
def test_the_program_is_the_analysis(exported: symroof.Exported) -> None:
    analysis = symroof.analyze(exported.step, exported.device, ceilings=exported.ceilings)
    found = exported()
    assert found["total"]["time"] == pytest.approx(float(analysis.total.time_expr), rel=1e-12)
    assert found["total"]["flops"] == pytest.approx(float(analysis.total.flop_count), rel=1e-12)
    assert found["total"]["bytes"] == pytest.approx(float(analysis.total.byte_count()), rel=1e-12)
    assert found["total"]["memory"] == pytest.approx(float(sum(analysis.graph.memory_exprs().values())), rel=1e-12)
    assert exported.operators == tuple(dict.fromkeys(point.name for point in analysis))
    for point in analysis:
        flops = float(point.count_expr * point.operator.flop_count)
        assert found[point.name]["flops"] == pytest.approx(flops, rel=1e-12)


@pytest.mark.parametrize("exported", EXPORTS, ids=lambda one: f"{one.step.title} {one.step.options.phase}"[:50])
def test_python(exported: symroof.Exported, tmp_path: Path) -> None:
    symroof.export(exported, path=tmp_path / "step.py")
    formulas = module(tmp_path / "step.py").formulas
    for state in states(exported, STATES):
        mine, theirs = exported(**state), formulas(**state)
        assert differs(mine, theirs) < 1e-12
        for operator in exported.operators:
            if theirs[operator]["seconds"]:
                assert theirs[operator]["bound"] == bound_of(theirs[operator]["seconds"])


NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_javascript(tmp_path: Path) -> None:
    asked = []
    for place, exported in enumerate(EXPORTS):
        symroof.export(exported, "js", tmp_path / f"step{place}.mjs")
        asked.append(states(exported, STATES))
    (tmp_path / "states.json").write_text(json.dumps(asked))
    (tmp_path / "run.mjs").write_text(
        "import { readFileSync, writeFileSync } from 'node:fs';\n"
        "const asked = JSON.parse(readFileSync('states.json'));\n"
        "const all = await Promise.all(asked.map(async (states, place) => {\n"
        "  const { formulas } = await import(`./step${place}.mjs`);\n"
        "  return states.map((state) => formulas(state));\n"
        "}));\n"
        "writeFileSync('results.json', JSON.stringify(all));\n"
    )
    subprocess.run([str(NODE), "run.mjs"], cwd=tmp_path, check=True)
    for exported, several, results in zip(EXPORTS, asked, json.loads((tmp_path / "results.json").read_text()), strict=True):
        for state, result in zip(several, results, strict=True):
            assert differs(exported(**state), result) < 1e-12
            for operator in exported.operators:
                if result[operator]["seconds"]:
                    assert result[operator]["bound"] == bound_of(result[operator]["seconds"])


CC = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_c(tmp_path: Path) -> None:
    for exported in EXPORTS[:5]:
        symroof.export(exported, path=tmp_path / "step.c")
        warned = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2"]
        subprocess.run([str(CC), *warned, "step.c", "-lm", "-o", "step"], cwd=tmp_path, check=True)
        for state in states(exported, 100 if EVERYTHING else 5):
            given = [f"{name}={value!r}" for name, value in state.items()]
            lines = subprocess.run([tmp_path / "step", *given], check=True, capture_output=True, text=True).stdout.splitlines()
            found: dict[str, Any] = {}
            for operator, metric, _, value in (line.rsplit(",", 3) for line in lines):
                here = found.setdefault(operator, {"seconds": {}})
                resource = metric.removeprefix("seconds_")
                (here["seconds"] if resource != metric else here)[resource] = float(value)
            assert differs(exported(**state), found) < 1e-12
        assert subprocess.run([tmp_path / "step", "btach=3"], capture_output=True, check=False).returncode == 2


def evaluated(book: Any) -> dict[str, dict[str, Any]]:
    """The values of the sheet of the step: every formula read back as Python, cell by cell."""
    known: dict[str, float] = {f"inputs!$B${row}": book["inputs"].cell(row, 2).value for row in range(2, book["inputs"].max_row + 1)}
    calls = {
        "MAX": max,
        "MIN": min,
        "POWER": pow,
        "INT": math.floor,
        "LN": math.log,
        "IF": lambda condition, yes, no: yes if condition else no,
    }
    calls["ROUNDUP"] = lambda value, digits: math.ceil(value)

    def value(formula: str) -> float:
        text = re.sub(r"(?:inputs|shared)!\$B\$\d+", lambda cell: f"known[{cell[0]!r}]", formula.removeprefix("="))
        return eval(text, {"__builtins__": {}, "known": known, **calls})

    for row in range(2, book["shared"].max_row + 1):
        known[f"shared!$B${row}"] = value(book["shared"].cell(row, 2).value)
    sheet = book["step"]
    headings = [cell.value for cell in sheet[2]]
    return {
        row[0].value: {heading: value(cell.value) for heading, cell in zip(headings[1:-1], row[1:-1], strict=True) if cell.value}
        for row in sheet.iter_rows(min_row=3)
    }


def column(key: str) -> str:
    """The heading of a metric, without its unit."""
    resource = key.removeprefix("seconds_")
    return f"{resource} time" if resource != key else key


@pytest.mark.parametrize("exported", EXPORTS[:6], ids=lambda one: f"{one.step.title} {one.step.options.phase}"[:50])
def test_every_cell_of_a_spreadsheet(exported: symroof.Exported, tmp_path: Path) -> None:
    symroof.export(exported, path=tmp_path / "step.xlsx")
    book = openpyxl.load_workbook(tmp_path / "step.xlsx")
    for state in states(exported, 5):
        for row, known in enumerate(exported.inputs, 2):
            book["inputs"].cell(row, 2, state[known.name])
        found = evaluated(book)
        for operator, metrics in exported(**state).items():
            for key, value in metrics.items():
                heading = next(name for name in found[operator] if name.split(" [")[0] == column(key))
                assert found[operator][heading] == pytest.approx(value, rel=1e-12, abs=0)


OFFICE = shutil.which("soffice")


@pytest.mark.skipif(OFFICE is None, reason="LibreOffice is not installed")
def test_libreoffice_recalculates_a_spreadsheet(tmp_path: Path) -> None:
    asked: dict[str, tuple[symroof.Exported, dict[str, float]]] = {}
    for place, exported in enumerate(EXPORTS[:5]):
        symroof.export(exported, path=tmp_path / "step.xlsx")
        for number, state in enumerate(states(exported, 100 if EVERYTHING else 2)):
            book = openpyxl.load_workbook(tmp_path / "step.xlsx")
            for row, known in enumerate(exported.inputs, 2):
                book["inputs"].cell(row, 2, state[known.name])
            book.save(tmp_path / f"asked{place}x{number}.xlsx")
            asked[f"asked{place}x{number}.xlsx"] = exported, state
    names = list(asked)
    for first in range(0, len(names), 100):
        convert = [str(OFFICE), f"-env:UserInstallation=file://{tmp_path}/profile", "--headless", "--convert-to", "xlsx", "--outdir", "out"]
        subprocess.run([*convert, *names[first : first + 100]], cwd=tmp_path, check=True, capture_output=True)
    for name, (exported, state) in asked.items():
        sheet = openpyxl.load_workbook(tmp_path / "out" / name, data_only=True)["step"]
        headings = [cell.value for cell in sheet[2]]
        rows = {row[0].value: dict(zip(headings, (cell.value for cell in row), strict=True)) for row in sheet.iter_rows(min_row=3)}
        for operator, metrics in exported(**state).items():
            seconds = {key.removeprefix("seconds_"): value for key, value in metrics.items() if key.startswith("seconds_")}
            if seconds:
                assert seconds[rows[operator]["bound"]] == pytest.approx(max(seconds.values()), rel=1e-12)
            for key, value in metrics.items():
                heading = next(name for name in headings if str(name).split(" [")[0] == column(key))
                assert rows[operator][heading] == pytest.approx(value, rel=1e-12, abs=0)


def test_a_planted_error_is_found() -> None:
    exported = EXPORTS[0]
    text = symroof.export(exported, "python")
    place = text.index("    _c0 = ") + len("    _c0 = ")
    assert differs(exported(), run_text(text)) == 0
    assert differs(exported(), run_text(f"{text[:place]}1.000001 * {text[place:]}")) > 1e-12


def run_text(text: str) -> Any:
    """The results of a Python text."""
    scope: dict[str, Any] = {"__name__": "exported"}
    exec(text, scope)
    return scope["formulas"]()


def test_a_parameter_of_a_technique_is_an_input() -> None:
    step = symroof.load_model("llama-3-8b").decode(batch=8, seq_len=2048).apply("tensor-parallel")
    exported = symroof.exported(step, "h100-sxm", free={"degree": 4})
    for degree in (2, 4, 8):
        fixed = symroof.load_model("llama-3-8b").decode(batch=8, seq_len=2048).apply(f"tensor-parallel:degree={degree}")
        assert exported(degree=degree)["total"]["time"] == pytest.approx(float(fixed.on("h100-sxm").total.time_expr), rel=1e-12)


def test_names_are_names_in_every_language() -> None:
    names = {known.name for known in symroof.symbols.VOCABULARY.values()}
    assert all(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) for name in names)
    for exported in EXPORTS:
        text = symroof.export(exported, "python")
        assert not RESERVED & set(re.findall(r"(?<=[(, ])([a-z_0-9]+)=", text[text.index("def formulas(") :]))


def test_what_a_file_says_cannot_leave_its_comment() -> None:
    exported = symroof.exported(symroof.load_model("opt-125m").decode(batch=1, seq_len=8), "t4")
    hostile = type(exported)(
        exported.step, exported.device, exported.ceilings, exported.inputs, exported.outputs, exported.program, ("*/ evil(); /*\nevil();",)
    )
    for language in ("js", "c", "python"):
        lines = symroof.export(hostile, language).splitlines()
        assert all(re.match(r"(//| \*|#)", line) for line in lines if "evil" in line)
        assert "*/ evil" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "rust"], "--to 'rust'"),
        (["-o", "step.txt"], "the ending names no language"),
        (["--to", "xlsx"], "a spreadsheet goes to a file"),
        ([], "expected one of js, c, python, latex, xlsx"),
        (["--to", "js", "--free", "degree=2"], "degree"),
        (["--to", "js", "--free", "weight_bits=8"], "'weight_bits'"),
        (["-o", "missing/step.js"], "missing"),
    ],
)
def test_bad_input(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["export", "opt-125m", "--phase", "decode", "--seq-len", "64", "--batch", "1", "--hardware", "h100-sxm", *arguments])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_latex_is_a_document() -> None:
    text = symroof.export(EXPORTS[0], "latex")
    assert text.startswith("\\documentclass{article}")
    assert text.count("\\begin{document}") == text.count("\\end{document}") == 1
