"""The survey's figures: every point of every series, the closed forms on top, and the pictures as pictures."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from symroof.present import figure_index as gallery
from symroof.present.series import Series, as_csv
from tests.conftest import rows

FIGURES = ("fig07", "fig08", "fig09", "fig11", "fig16", "fig19", "fig20")
ALL = tuple(gallery.names())
PLATES = [(name, accounting) for name in ALL for accounting in gallery.load(name).accountings]


@cache
def data(name: str, accounting: str) -> tuple[Series, ...]:
    return gallery.load(name).data(accounting)


@cache
def drawn(name: str, accounting: str):
    figure = gallery.load(name).draw(accounting)
    FigureCanvasAgg(figure).draw()
    return figure


def all_axes(figure) -> list:
    """Axes of a figure, insets included."""
    return [one for axes in figure.axes for one in (axes, *axes.child_axes)]


def key(x: object) -> object:
    """Numbers as numbers, names as names."""
    try:
        return float(str(x))
    except ValueError:
        return str(x)


@pytest.mark.parametrize("name", FIGURES)
def test_every_point_of_every_series_as_published(name: str) -> None:
    reference = [row for row in rows("survey_figures.csv") if int(row["figure"]) == int(name[3:])]
    assert reference
    found = {(one.panel, one.name, key(x), one.quantity, one.unit): float(y) for one in data(name, "survey") for x, y in one.points}
    for row in reference:
        value = found[row["panel"], row["series"], key(row["x"]), row["quantity"], row["unit"]]
        assert value == pytest.approx(float(row["value"]), rel=1e-9, abs=0), row


@pytest.mark.slow
def test_the_reference_has_a_point_for_every_point_drawn() -> None:
    """Nothing is drawn as published that the published figure does not have."""
    reference = {(row["figure"], row["panel"], row["series"], key(row["x"]), row["quantity"]) for row in rows("survey_figures.csv")}
    for name in FIGURES:
        for one in data(name, "survey"):
            known = {entry for entry in reference if entry[0] == str(int(name[3:])) and entry[1] == one.panel}
            if known:
                assert all((str(int(name[3:])), one.panel, one.name, key(x), one.quantity) in known for x in one.x), (
                    name,
                    one.panel,
                    one.name,
                )


def test_all_of_the_survey_s_quantitative_figures_are_there() -> None:
    assert set(ALL) == {
        "table1",
        "fig04",
        "fig05",
        "fig06",
        "fig07",
        "fig08",
        "fig09",
        "fig11",
        "fig15",
        "fig16",
        "fig18",
        "fig19",
        "fig20",
    }


@pytest.mark.parametrize(("name", "accounting"), PLATES)
def test_plates_are_labelled_and_explained(name: str, accounting: str) -> None:
    plate = gallery.load(name)
    assert plate.title
    assert plate.formula
    assert all(line.strip() and "\n" not in line for line in plate.formula)
    for one in data(name, accounting):
        assert len(one.x) == len(one.y) > 0
        assert one.quantity
    assert as_csv(data(name, accounting), accounting).count("\n") == sum(len(one.x) for one in data(name, accounting))


@pytest.mark.parametrize(("name", "accounting"), PLATES)
def test_pictures_as_pictures(name: str, accounting: str) -> None:
    """Axes with numbers have labels, text is legible, nothing leaves the page, no two labels of one axes overlap."""
    figure = drawn(name, accounting)
    page = figure.bbox
    renderer = figure.canvas.get_renderer()
    for axes in all_axes(figure):
        if axes.axison and axes.lines + axes.patches:
            assert axes.get_xlabel() or axes.get_xticklabels()
            assert any(shared.get_ylabel() or shared.get_yticklabels() for shared in axes.get_shared_y_axes().get_siblings(axes))
        boxes = []
        for text in axes.texts:
            if not text.get_text().strip() or not text.get_visible():
                continue
            assert text.get_fontsize() >= 6.5, text.get_text()
            box = text.get_window_extent(renderer)
            assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, text.get_text()
            assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, text.get_text()
            boxes.append((text.get_text(), box))
        for (one, first), (other, second) in itertools.combinations(boxes, 2):
            overlap = min(first.x1, second.x1) - max(first.x0, second.x0), min(first.y1, second.y1) - max(first.y0, second.y0)
            assert min(overlap) < 2, (one, other)


@pytest.mark.slow
@pytest.mark.parametrize("accounting", ["survey", "exact"])
@pytest.mark.parametrize("name", ["fig08", "fig09"])
def test_knees_lie_where_the_curve_bends(name: str, accounting: str) -> None:
    """From the artists: second differences are one constant along a curve, but for the samples around a ring."""
    figure = drawn(name, accounting)
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.lines if line.get_gid()}
    rings: dict[str, list[float]] = {}
    for axes in figure.axes:
        for line in axes.lines:
            gid = line.get_gid() or ""
            if gid.startswith("knee-"):
                rings.setdefault(gid.removeprefix("knee-"), []).extend(map(float, line.get_xdata()))
    assert {"W4", "W2"} <= set(rings)
    for series, knees in rings.items():
        x, y = (list(map(float, values)) for values in lines[series].get_data())
        bends = {x[place]: y[place + 1] - 2 * y[place] + y[place - 1] for place in range(1, len(x) - 1)}
        usual = sorted(bends.values())[len(bends) // 2]
        noise = 1e-12 * max(y)
        bent = {place for place, bend in bends.items() if abs(bend - usual) > noise}
        assert bent, series
        assert all(any(abs(place - knee) < 1 for knee in knees) for place in bent), (series, bent, knees)
        assert all(any(abs(place - knee) < 1 for place in bent) for knee in knees), (series, bent, knees)


@pytest.mark.slow
def test_two_channels_tell_series_apart() -> None:
    """Colour and line style differ together."""
    for name in ("fig08", "fig09"):
        axes = drawn(name, "survey").axes[0]
        styles = {
            line.get_gid(): (line.get_color(), str(line.get_linestyle()))
            for line in axes.lines
            if line.get_gid() in {"W16", "W8", "W4", "W2", "W1"}
        }
        assert len(styles) == 5
        assert len({color for color, _ in styles.values()}) == 5
        assert len({style for _, style in styles.values()}) >= 4


@pytest.mark.slow
def test_the_command_writes_figures_data_and_a_page(run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    result = run("figures", "fig08", "fig06", "-o", folder, "--format", "svg")
    assert (result.status, result.out) == (0, f"5 files in {folder}: open {folder / 'index.html'}\n")
    expected = {f"{name}_{how}.{end}" for name in ("fig06", "fig08") for how in ("survey", "exact") for end in ("svg", "csv")}
    assert {path.name for path in folder.iterdir()} == expected | {"index.html"}
    page = (folder / "index.html").read_text()
    assert page.count("<img") == 4
    assert "piecewise linear in the batch b" in page
    published, exact = ((folder / f"fig08_{how}.csv").read_text() for how in ("survey", "exact"))
    assert published.splitlines()[0] == exact.splitlines()[0]
    assert published != exact


@pytest.mark.slow
def test_one_accounting_alone(run, tmp_path: Path) -> None:
    assert run("figures", "fig08", "-o", tmp_path, "--accounting", "exact").status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"fig08_exact.png", "fig08_exact.csv", "index.html"}


def test_unknown_figures_are_refused_with_the_known_ones(run, tmp_path: Path) -> None:
    result = run("figures", "fig99", "-o", tmp_path / "out")
    assert (result.status, result.out) == (2, "")
    assert "figure 'fig99' is not among the survey's figures redrawn here; known: fig04, fig05" in result.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_fails_before_drawing(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("figures", "fig08", "-o", tmp_path / "file" / "out")
    assert result.status == 2
    assert "cannot be written" in result.err
    assert result.err.count("\n") == 1


def curves(name: str, accounting: str):
    """Lines by gid, with the axes they stand on."""
    return [(axes, line) for axes in all_axes(drawn(name, accounting)) for line in axes.lines if line.get_gid()]


@pytest.mark.parametrize("accounting", ["survey", "exact"])
@pytest.mark.parametrize("name", ["fig06", "fig18", "fig20"])
def test_ridges_are_the_vertices_of_their_rooflines(name: str, accounting: str) -> None:
    """Left of the ring performance is proportional to intensity, right of it constant."""
    checked = 0
    for axes, ring in curves(name, accounting):
        series = (ring.get_gid() or "").removeprefix("knee-")
        roofs = [line for other, line in curves(name, accounting) if other is axes and line.get_gid() == series]
        if ring.get_gid() == series or not roofs or len(roofs[0].get_xdata()) > 4:
            continue
        (x,), (y,) = ring.get_data()
        points = sorted(zip(map(float, roofs[0].get_xdata()), map(float, roofs[0].get_ydata()), strict=True))
        assert (float(x), float(y)) in points
        for left, height in points:
            assert height == pytest.approx(y * min(1, left / x), rel=1e-12)
        checked += 1
    assert checked >= 2


@pytest.mark.slow
@pytest.mark.parametrize("accounting", ["survey", "exact"])
def test_time_over_bandwidth_bends_at_its_ring_and_tends_to_its_asymptote(accounting: str) -> None:
    lines = {
        line.get_gid(): line for axes, line in curves("fig20", accounting) if "batch=1" in line.get_gid() or line.get_gid() == "beyond"
    }
    x, y = (list(map(float, values)) for values in lines["beyond"].get_data())
    (knee,), (height,) = lines["knee-batch=1 seqlen=1024"].get_data()
    floor = float(lines["asymptote-batch=1 seqlen=1024"].get_ydata()[0])
    assert min(y) >= floor * (1 - 1e-12)
    assert height == pytest.approx(floor, rel=0.02)
    fast = [(b0, t0) for b0, t0 in zip(x, y, strict=True) if b0 < float(knee) / 4]
    assert all(b0 * t0 == pytest.approx(fast[0][0] * fast[0][1], rel=1e-6) for b0, t0 in fast), "time is B / BW left of the knee"


@pytest.mark.slow
@pytest.mark.parametrize("accounting", ["survey", "exact"])
def test_serving_s_marks(accounting: str) -> None:
    """Throughput stays below its asymptote; memory reaches the 48 GB line between the ring and the batch after it."""
    lines = {(axes.get_title(), line.get_gid()): line for axes, line in curves("fig19", accounting)}
    for series in ("seqlen=256", "seqlen=512", "seqlen=1024", "seqlen=2048"):
        values = [float(value) for value in lines["throughput", series].get_ydata()]
        roof = float(lines["throughput", f"asymptote-{series}"].get_ydata()[0])
        assert values == sorted(values)
        assert values[-1] < roof
        ring = lines.get(("memory", f"knee-{series}"))
        if ring is not None:
            batch = int(ring.get_xdata()[0])
            memory = [float(value) for value in lines["memory", series].get_ydata()]
            assert memory[batch - 1] <= 48 < memory[batch]
