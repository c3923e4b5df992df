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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_pages_run(page: Path) -> None:
    assert doctest.testfile(str(page), module_relative=False).failed == 0


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readme_is_under_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 100


@pytest.mark.parametrize("script", sorted((ROOT / "derivations").glob("*.py")), ids=lambda path: path.stem)
def test_derivations_run(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


def test_figure_5_from_its_artists() -> None:
    analysis = fig05_roofline.data()
    axes = fig05_roofline.draw().axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("arithmetic intensity [FLOP/byte]", "attainable performance [FLOP/s]")
    roof = axes.lines[0].get_xydata()
    knee, peak = roof[1]
    assert f"{knee:.1f}" == "201.6"
    assert roof[2][1] == peak == float(analysis.device.peak("fp16").magnitude)
    assert roof[0][1] / roof[0][0] == pytest.approx(768e9, rel=1e-12)
    ridge = next(line for line in axes.lines if line.get_gid() == "ridge-fp16")
    assert set(ridge.get_xdata()) == {knee}
    drawn = {tuple(point) for points in axes.collections for point in points.get_offsets().tolist()}
    assert drawn == {(float(one.intensity_expr), float(one.performance_expr)) for one in analysis}
    styles = {points.get_label(): (points.get_facecolor().tolist(), points.get_paths()[0].vertices.shape) for points in axes.collections}
    assert set(styles) == {"memory-bound", "compute-bound"}
    assert len({str(style) for style in styles.values()}) == 2


def test_a_picture_needs_numbers() -> None:
    import symroof
    from symroof.present.pictures import roofline_figure

    with pytest.raises(symroof.SymroofError, match="a picture needs numbers"):
        roofline_figure(symroof.analyze(symroof.load_model("opt-125m").decode()))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_table_1_shows_published_and_exact(phase: str) -> None:
    table = table1.draw(phase)
    rows = {record["operator"]: record for record in table.records()}
    assert len(rows) == 14
    assert rows["mlp_add"]["bytes"] * 3 == rows["mlp_add"]["exact_bytes"] * 2, "the published sum reads one operand of two"


def test_no_module_needs_scrolling() -> None:
    for path in (ROOT / "symroof").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 420, path
