"""The texts that run: README, derivations, figures of the paper; and the pages they point to."""

from __future__ import annotations

import doctest
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "paper_figures"))

import fig05_roofline  # noqa: E402
import table1  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_examples_in_pages_run(page: Path) -> None:
    failed, attempted = doctest.testfile(str(page), module_relative=False)
    assert (failed, attempted > 0) == (0, True)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def _statements() -> list[list[str]]:
    """The rows of docs/theorems.md: number, statement, source, published, here, derivation."""
    return [line.split(" | ") for line in (ROOT / "docs" / "theorems.md").read_text().splitlines() if line.startswith("| T")]


def _figures(text: str) -> list[str]:
    """Numbers with a decimal point or at least three digits, without commas between thousands."""
    return re.findall(r"(?<![\d.])(?:\d+\.\d+(?:e-?\d+)?|\d{3,})(?![\d]|\.\d)", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text))


def test_every_statement_has_its_derivation() -> None:
    """28 statements in order, each with a script of its own that names a source."""
    rows = _statements()
    assert [row[0] for row in rows] == [f"| T{number:02}" for number in range(1, 29)]
    linked = [re.findall(r"\.\./(derivations/[0-9a-z_]+\.py)", row[-1]) for row in rows]
    assert all(len(scripts) == 1 for scripts in linked)
    assert len({script for (script,) in linked}) == 28
    for (script,) in linked:
        text = (ROOT / script).read_text()
        assert re.search(r"^# Sources?: ", text, re.MULTILINE), script
        assert re.search(r"\*\*(Theorem|Proposition|Corollary|Law|Lemma)", text), script
        assert text.count("assert ") > 3, script


def test_the_readme_is_under_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 100


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted((ROOT / "derivations").rglob("*.py")), ids=lambda path: path.stem)
def test_derivations_run(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each prints something; the figures of its row in docs/theorems.md are in what it prints, or in its text."""
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed
    known = set(_figures(printed + script.read_text()))
    for row in _statements():
        if script.name in row[-1]:
            assert [figure for figure in _figures(row[4]) if figure not in known] == []


@pytest.mark.parametrize("accounting", ["survey", "exact"])
def test_figure_5_from_its_artists(accounting: str) -> None:
    roof, *operators = fig05_roofline.data(accounting)
    assert roof.values[1] == roof.values[2] == 154.8385e12
    axes = fig05_roofline.draw(accounting).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("arithmetic intensity [FLOP/byte]", "attainable performance [FLOP/s]")
    corners = axes.lines[0].get_xydata()
    knee, peak = corners[1]
    assert f"{knee:.1f}" == "201.6"
    assert corners[2][1] == peak == roof.values[1]
    assert corners[0][1] / corners[0][0] == pytest.approx(768e9, rel=1e-12)
    lines = {line.get_gid(): line for line in axes.lines}
    assert set(lines["ridge-fp16"].get_xdata()) == {knee}
    assert lines["knee-fp16"].get_xydata().tolist() == [[float(roof.x[1]), roof.values[1]]] == [[knee, peak]]
    drawn = {points.get_label(): {tuple(point) for point in points.get_offsets().tolist()} for points in axes.collections}
    assert drawn == {
        panel: {(float(one.x[0]), one.values[0]) for one in operators if one.panel == panel} for panel in ("memory-bound", "compute-bound")
    }
    styles = {str((points.get_facecolor().tolist(), points.get_paths()[0].vertices.shape)) for points in axes.collections}
    assert len(styles) == 2, "colour and marker both tell the bounds apart"
    assert {patch.get_gid() for patch in axes.patches} == {"region-memory", "region-compute"}


def test_a_picture_needs_numbers() -> None:
    import symroof
    from symroof.present.roofline_plot import roofline_figure

    with pytest.raises(symroof.SymroofError, match="a picture needs numbers"):
        roofline_figure(symroof.analyze(symroof.load_model("opt-125m").decode()))


@pytest.mark.parametrize(("model", "device"), [("mamba2-130m", "h100-sxm"), ("llama-3.2-1b", "a100-sxm-80gb")])
def test_a_roofline_shows_every_operator_with_flops_by_what_binds_it(model: str, device: str) -> None:
    import symroof
    from symroof.present.roofline_plot import roofline_figure

    inputs = {"batch": 1, "seq_len": 4096, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    analysis = symroof.analyze(symroof.load_model(model).prefill(flash_attention=True, **inputs), device)
    (axes,) = roofline_figure(analysis).axes
    drawn = {f"{point.bound}-bound": set() for point in analysis if point.operator.flop_count}
    for point in analysis:
        if point.operator.flop_count:
            drawn[f"{point.bound}-bound"].add((float(point.intensity_expr), float(point.performance_expr)))
    assert {one.get_label(): {tuple(point) for point in one.get_offsets().tolist()} for one in axes.collections} == drawn
    dashed = {line.get_gid(): [float(y) for y in line.get_ydata()] for line in axes.lines if str(line.get_gid()).startswith("roof-")}
    assert dashed["roof-vector"] == [float(symroof.load_hardware(device).vector.value)] * 2
    assert ("roof-cache" in dashed) == (device == "a100-sxm-80gb"), "the H100's data sheets state none"


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_table_1_shows_published_and_exact(phase: str) -> None:
    table = table1.tables(phase)
    rows = {record["operator"]: record for record in table.records()}
    assert len(rows) == 14
    assert rows["mlp_add"]["bytes"] * 3 == rows["mlp_add"]["exact_bytes"] * 2, "the published sum reads one operand of two"


def test_no_module_needs_scrolling() -> None:
    for path in (ROOT / "symroof").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 420, path


CONSOLES = re.findall(r"```console\n\$ symroof (.*)\n((?:.*\n)*?)```", (ROOT / "README.md").read_text())


@pytest.mark.parametrize(("command", "shown"), CONSOLES, ids=[command.split()[0] for command, _ in CONSOLES])
def test_the_readme_s_answers_are_the_command_s(command: str, shown: str, run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is between the dots stands in the output as it is printed, in this order."""
    monkeypatch.setenv("COLUMNS", "80")
    printed = run(*command.split()).out
    place = 0
    for part in (part.strip("\n") for part in shown.split("...\n")):
        place = printed.find(part, place)
        assert place >= 0, part
