"""A user's script under a strict type checker: types are known, so that editors complete; slips are caught before anything runs."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import symroof

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "tests" / "typing"


def checker() -> str | None:
    beside = Path(sys.executable).with_name("basedpyright")
    return str(beside) if beside.exists() else shutil.which("basedpyright")


needs_checker = pytest.mark.skipif(checker() is None, reason="basedpyright is not installed")


def faults(script: Path, folder: Path) -> list[tuple[int, str]]:
    """The lines that the checker refuses in strict mode, each with its rule."""
    settings = {"include": [str(script)], "typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [str(checker()), "--pythonpath", sys.executable, "--outputjson", "-p", str(folder / "pyrightconfig.json")]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert said["summary"]["filesAnalyzed"] == 1
    return [(fault["range"]["start"]["line"] + 1, fault.get("rule", fault["message"])) for fault in said["generalDiagnostics"]]


@pytest.mark.slow
@needs_checker
def test_the_types_of_a_users_script_are_known(tmp_path: Path) -> None:
    assert faults(SCRIPTS / "user_script.py", tmp_path) == []


@pytest.mark.slow
@needs_checker
def test_slips_are_caught_before_anything_runs(tmp_path: Path) -> None:
    script = SCRIPTS / "user_script_with_slips.py"
    marked = {
        (number, found[1])
        for number, line in enumerate(script.read_text().splitlines(), 1)
        if (found := re.search(r"# (report\w+):", line))
    }
    caught = set(faults(script, tmp_path))
    assert len(marked) == 5
    assert marked <= caught
    assert {line for line, _ in caught} == {line for line, _ in marked}


@pytest.mark.slow
def test_a_users_script_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("xarray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    runpy.run_path(str(SCRIPTS / "user_script.py"))
    assert "device 'no such device' is neither a name of the catalogue nor a file" in capsys.readouterr().out


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_a_misspelt_keyword_names_the_nearest(phase: str) -> None:
    step = getattr(symroof.load_model("opt-125m"), phase)
    with pytest.raises(symroof.SymroofError, match=r"^'bacth' is not an input of a step: did you mean batch\?$"):
        step(bacth=8)
    with pytest.raises(symroof.SymroofError, match=r"^'weight_bit' is not an input of a step: did you mean weight_bits\?$"):
        symroof.generation(symroof.load_model("opt-125m"), prompt=8, tokens=8, hardware="t4", batch=1, weight_bit=8)  # type: ignore[call-arg]


def test_sizes_are_whole_numbers_of_any_making() -> None:
    import numpy as np
    from sympy import Integer, Rational

    model, quantity = symroof.load_model("opt-125m"), symroof.Quantity
    sizes = [np.int32(8), np.uint8(8), Integer(8), quantity(8, "sequence"), quantity(8), quantity(Rational(16, 2), "request")]
    for size in sizes:
        assert model.decode(batch=size).options.batch == 8
    assert model.decode(seq_len=quantity(4, "kilotoken")).options.seq_len == 4000
    assert model.decode(kv_bits=quantity(1, "byte")).options.kv_bits == 8
    wrong = (
        quantity(8, "token"),
        quantity(Rational(1, 2)),
        np.float64(8),
        8.0,
        "8",
        True,
        np.bool_(1),
        quantity(8, "second"),
        0,
        np.int8(-1),
    )
    for size in wrong:
        with pytest.raises(symroof.SymroofError, match=r"^batch .*: expected a whole number from 1 to 1e12$"):
            model.decode(batch=size)
