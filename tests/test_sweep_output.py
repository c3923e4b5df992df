"""`symroof sweep` on standard output and in files of text: the same points as in memory, streamed; how long it takes, and who is asked."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import symroof
from symroof.sweeps import stream
from symroof.sweeps.plan import Plan

ASKED = ("sweep", "llama-2-7b", "opt-125m", "--hardware", "a100-sxm-80gb", "t4", "--over", "batch=1:16*4", "seq_len=512,2048")
GRID = (["llama-2-7b", "opt-125m"], ["a100-sxm-80gb", "t4"], {"batch": [1, 4, 16], "seq_len": [512, 2048]})


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of five rows, so that every stream has several."""
    monkeypatch.setattr(stream.blocks, "__kwdefaults__", {**stream.blocks.__kwdefaults__, "rows": 5})


def in_memory() -> list[dict]:
    """The same points from Python, in the order of the grid."""
    frame = symroof.sweep(*GRID).to_dataframe().reset_index()
    return frame.to_dict("records")


def test_csv_and_json_are_streamed_with_the_points_of_the_grid_in_order(run) -> None:
    expected = in_memory()
    table = list(csv.DictReader(io.StringIO(run(*ASKED, "--format", "csv").out)))
    record = json.loads(run(*ASKED, "--format", "json").out)
    assert len(table) == len(record["points"]) == record["size"] == len(expected) == 24
    words = ("memory", "compute")
    for row, point, there in zip(table, record["points"], expected, strict=True):
        assert point["bound"] == row["bound"] == words[int(there["bound"])]
        assert point["fits"] is (row["fits"] == "true") is bool(there["fits"])
        for name in ("model", "hardware", "phase"):
            assert row[name] == point[name] == there[name]
        for name in ("batch", "seq_len", "time", "intensity", "throughput", "memory"):
            assert float(row[name]) == point[name] == there[name]
    assert record["units"]["time"] == "s"
    assert record["conventions"][0] == "accounting exact"


def test_what_an_operator_lacks_is_empty_in_csv_and_null_in_json(run) -> None:
    each = (*ASKED[:3], "--hardware", "t4", "--over", "batch=1,2", "--seq-len", "8", "--per", "operator")
    record = json.loads(run(*each, "--format", "json").out)
    missing = [point["operator"] for point in record["points"] if point["time"] is None]
    rows = list(csv.DictReader(io.StringIO(run(*each, "--format", "csv").out)))
    assert [row["operator"] for row in rows if row["time"] == ""] == missing != []


@pytest.mark.parametrize("name", ["out.csv", "out.json", "out.md", "out.html", "out.tex", "out.txt"])
def test_a_file_by_its_ending_is_what_standard_output_says(run, tmp_path: Path, name: str) -> None:
    written = run(*ASKED, "-o", tmp_path / name)
    assert (written.status, written.out) == (0, "")
    form = {".md": "markdown", ".tex": "latex", ".txt": "table"}.get(Path(name).suffix, Path(name).suffix[1:])
    text, shown = (tmp_path / name).read_text(), run(*ASKED, "--format", form).out
    if form == "csv":  # that of Arrow, which quotes texts
        read = [list(csv.DictReader(io.StringIO(one))) for one in (text, shown)]
        times = [[(float(row["time"]), row["bound"]) for row in rows] for rows in read]
        assert times[0] == times[1]
    else:
        assert text.rstrip() == shown.rstrip()
    assert len(list(tmp_path.iterdir())) == 1


def test_reductions_have_the_same_formats(run) -> None:
    front = json.loads(run(*ASKED, "--pareto", "time", "throughput", "--format", "json").out)
    there = symroof.pareto(*GRID, ("time", "throughput"))
    assert [point["time"] for point in front["points"]] == there.time.values.tolist()
    rows = list(csv.DictReader(io.StringIO(run(*ASKED, "--minimize", "time", "--format", "csv").out)))
    assert [(float(row["time"]), row["bound"]) for row in rows] == [(float(there.time.min()), "memory")]


@pytest.mark.parametrize("metric", ["throughput_per_device", "memory"])
def test_the_metric_that_is_asked_for_is_on_a_narrow_screen(run, monkeypatch: pytest.MonkeyPatch, metric: str) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    several = (*ASKED[:-1], "--seq-len", "2048", "--with", "tensor-parallel:degree=4")
    for asked in (("--maximize", metric), ("--pareto", "time", metric)):
        words = " ".join(run(*several, *asked).out.split())
        left_out = words.partition("not shown: ")[2].partition(";")[0].split(", ")
        assert left_out[0], "the screen is too wide for this test"
        assert not {*asked} & {*left_out}


def test_a_grid_that_a_technique_refuses_says_which_one_it_takes(run) -> None:
    refused = run(
        "sweep", "olmoe-1b-7b-0924", "--hardware", "t4", "--seq-len", "64", "--with", "expert-parallel:degree=8", "--over", "batch=8:1024"
    )
    assert refused.status == 2
    assert refused.err.endswith("; multiples of 8 do, as batch=8:1024:8\n")
    taken = run(
        "sweep", "olmoe-1b-7b-0924", "--hardware", "t4", "--seq-len", "64", "--with", "expert-parallel:degree=8", "--over", "batch=8:1024:8"
    )
    assert taken.status == 0


def test_a_table_computes_the_points_that_it_shows(run, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = []
    from symroof.sweeps.grid import Chunk

    evaluate = Chunk.evaluate
    monkeypatch.setattr(Chunk, "evaluate", lambda chunk: (evaluated.append(math.prod(chunk.shape)), evaluate(chunk))[1])
    shown = run("sweep", "llama-2-7b", "--hardware", "t4", "--over", "batch=1:65536", "seq_len=1:131072")
    assert shown.status == 0
    assert "the first 20 of 8589934592 points" in shown.out
    assert sum(evaluated) == 20


def test_a_page_takes_so_many_points_and_no_more(run) -> None:
    refused = run("sweep", "llama-2-7b", "--hardware", "t4", "--over", "seq_len=1:10001", "--format", "markdown")
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == "symroof: --format markdown: 10001 points are more than 10000 for a page; csv and json take any number\n"


@pytest.mark.parametrize("ending", ["csv", "nc", ""])
def test_a_long_sweep_says_how_long_and_asks(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str) -> None:
    monkeypatch.setattr("symroof.cli.sweep.LONG", 24)
    monkeypatch.setattr("symroof.cli.sweep.ASKED", 25)
    where = ("-o", tmp_path / f"out.{ending}") if ending else ("--maximize", "throughput")
    short = run(*ASKED, *where)
    assert (short.status, short.err) == (0, "24 points, about 1 s\n")
    more = (*ASKED[:-2], "batch=1:16*2", "seq_len=512,2048")
    there = ("-o", tmp_path / f"more.{ending}") if ending else where
    refused = run(*more, *there)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == "symroof: 40 points, about 1 s: add --yes to start, or take fewer values\n"
    assert not (tmp_path / f"more.{ending}").exists()
    assert run(*more, *there, "--yes").status == 0


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 130)])
def test_on_a_terminal_there_is_a_question(run, monkeypatch: pytest.MonkeyPatch, typed: str, status: int) -> None:
    monkeypatch.setattr("symroof.cli.sweep.LONG", 2)
    monkeypatch.setattr("symroof.cli.sweep.ASKED", 2)
    answers = io.StringIO(typed)
    answers.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", answers)
    monkeypatch.setattr("symroof.cli.sweep.sys", SimpleNamespace(stdin=answers, stderr=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr("symroof.sweeps.run.view", lambda name: contextlib.nullcontext)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt="": answers.readline().strip())
    monkeypatch.setattr("symroof.cli.sweep._written", lambda *given: None)
    assert run(*ASKED, "--format", "csv").status == status


def test_the_time_is_that_of_a_block_times_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Plan("llama-2-7b", "t4", {"batch": range(1, 101), "seq_len": range(1, 101)}).sweep(["time"])
    clock = iter(range(100))
    monkeypatch.setattr(stream, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    from dataclasses import replace

    assert stream.seconds(planned) == 1.0
    assert stream.seconds(replace(planned, chunk_points=1000)) == 10.0
    assert stream.seconds(replace(planned, chunk_points=1000), "threads") == 10.0 / stream.cores()


WRONG = {
    ("-o", "x.nc", "--format", "json"): "x.nc is written as its ending says",
    ("-o", "x.foo"): "the ending '.foo' names no format; known: .nc, .zarr, .parquet, .csv, .txt, .json",
    ("-o", "x.json", "--resume"): "only files that are written chunk by chunk are taken up again",
    ("--conventions", "--quiet"): "give one of them",
    ("--metric", "largest_bach"): "did you mean largest_batch",
}


@pytest.mark.parametrize("more", WRONG, ids=" ".join)
def test_bad_input_is_one_line(run, more: tuple[str, ...]) -> None:
    refused = run(*ASKED, *more)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert WRONG[more] in refused.err


# --- capacity and devices in sweeps


@pytest.mark.parametrize(
    ("model", "hardware", "phase", "over", "fixed"),
    [
        ("qwen3-32b", "h100-sxm", "decode", {"seq_len": [512, 4096], "weight_bits": [4, 8, 16]}, {}),
        ("llama-3-8b", "l40s", "prefill", {"seq_len": [64, 512, 4096]}, {}),
        ("gemma-2-27b", "h200", "decode", {"seq_len": [1000, 8000]}, {}),
        ("llama-3-70b", "h100-sxm", "decode", {"degree": [1, 2, 4, 8]}, {"seq_len": 4096, "techniques": "tensor-parallel"}),
        ("llama-3-8b", "h100-sxm", "decode", {"batch": [1, 7]}, {"seq_len": 4096, "techniques": "paged-cache:page=16"}),
    ],
)
def test_the_largest_batch_is_the_one_that_fits_and_one_more_does_not(model, hardware, phase, over, fixed) -> None:
    """Every point against `memory` at that batch and at the next one, each evaluated on a step of its own."""
    texts = fixed.pop("techniques", "")
    chain = [symroof.technique(texts)] if texts else []
    found = symroof.sweep(model, hardware, over, phase=phase, metrics=["largest_batch"], techniques=chain, **fixed)
    usable, loaded = symroof.load_hardware(hardware).usable_figure.value, symroof.load_model(model)
    for row in found.to_dataframe().reset_index().to_dict("records"):
        options = {name: int(row[name]) for name in ("seq_len", "weight_bits") if name in row} | fixed

        def needed(batch: int, row=row, options=options):
            step = getattr(loaded, phase)(**options, batch=batch).with_widths()
            degree = f":degree={int(row['degree'])}" if "degree" in row else ""
            changed = step.apply(*([symroof.technique(texts + degree)] if texts else []))
            return symroof.memory_of(changed)

        most = int(row["largest_batch"])
        assert most == 0 or needed(most) <= usable
        assert needed(most + 1) > usable


def test_on_several_devices_throughput_is_told_per_device_too(run) -> None:
    asked = ("sweep", "llama-3-70b", "--hardware", "h100-sxm", "--over", "degree=1,2,4,8", "batch=8", "--seq-len", "4096")
    record = json.loads(run(*asked, "--with", "tensor-parallel", "--format", "json").out)
    for point in record["points"]:
        assert point["throughput_per_device"] == pytest.approx(point["throughput"] / point["degree"], rel=1e-12)
    together, each = (
        json.loads(run(*asked, "--with", "tensor-parallel", "--maximize", metric, "--format", "json").out)["points"][0]["degree"]
        for metric in ("throughput", "throughput_per_device")
    )
    assert (together, each) == (8, 1)
    assert "throughput_per_device" not in json.loads(run(*ASKED, "--format", "json").out)["points"][0]


def test_an_extra_is_installed_from_the_checkout_or_beside_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from symroof import files

    assert files.installation("sweep") == f"pip install -e '{Path(files.__file__).parents[1]}[sweep]'"
    monkeypatch.setattr(files, "__file__", str(tmp_path / "site-packages" / "symroof" / "files.py"))
    assert files.installation("sweep") == "pip install 'symroof[sweep]'"


def test_points_that_are_blocks_of_a_grid_are_all_of_it_once() -> None:
    planned = Plan(*GRID).sweep(["time"])
    for rows in (1, 4, 7, 100):
        blocks = list(stream.blocks(planned, rows=rows))
        assert max(len(block["time"]) for block in blocks) <= rows
        every = {name: np.concatenate([block[name] for block in blocks]).tolist() for name in blocks[0]}
        assert [*zip(every["model"], every["hardware"], every["batch"], every["seq_len"], strict=True)] == [
            (model, hardware, batch, length) for model in GRID[0] for hardware in GRID[1] for batch in (1, 4, 16) for length in (512, 2048)
        ]


@pytest.mark.parametrize("count", [1, 5, 13, 24, 100])
def test_the_first_points_are_the_first_of_all(count: int) -> None:
    planned = Plan(*GRID).sweep(["time"])
    first, (every,) = stream.first(planned, count), (symroof.sweep(*GRID, metrics=["time"]).time.values.reshape(-1),)
    assert first["time"].tolist() == every[:count].tolist()
    assert len(first["model"]) == min(count, 24)


def test_what_all_points_share_is_in_the_title_and_what_fits_stays_on_a_narrow_screen(run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("sweep", "llama-3-70b", "--hardware", "h100-sxm", "--with", "tensor-parallel", "--over", "degree=1,2,4,8", "--seq-len", "4096")
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(*asked).out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "llama-3-70b + tensor-parallel:degree on h100-sxm, decode"
    assert "  no" in next(line for line in lines if line.lstrip().startswith("1 ")), "142 GB on one device"
    assert "llama-3-70b" not in "\n".join(lines[1:])
