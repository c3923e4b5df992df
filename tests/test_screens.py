"""Every screen fits a terminal: no line is longer than it, no letter is cut, what is left out is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import symroof
from symroof.calibration.fit import calibrate
from symroof.calibration.rows import read_rows
from symroof.calibration.validate import validate
from symroof.cli.main import cli
from symroof.hardware.loader import load_hardware
from symroof.measure.machine import Effort
from symroof.measure.session import Session, measure_machine
from symroof.measure.step import StepTime, Times, measure_step
from symroof.measure.timing import Spread
from symroof.present.formats.terminal import fit, folded, hanging, longest
from symroof.present.measured.machine import machine_report, step_report
from symroof.present.measured.tables import calibration_report, validation_report
from symroof.present.report import TEXT, Layout, Report
from symroof.present.tabular import Column, Table
from tests import calibration_forms
from tests.planted import Planted

H100 = ("--hardware", "h100-sxm")
CHAIN = ("--with", "quantize:weights=4,group=128", "--with", "tensor-parallel:degree=8", "--with", "flash-attention")
OPEN = ("--with", "quantize:weights=4,group", "--with", "flash-attention", "--with", "tensor-parallel")
SIZED = ("--seq-len", "4096", "--batch", "32")
PROMISED = ("--tpot", "40ms", "--ttft", "1s", "--price", "mi300x=3", "--rate", "3")
DECODE, PREFILL = ("--phase", "decode"), ("--phase", "prefill")

SCREENS = [
    *(("analyze", "deepseek-v3", *H100, *phase, *SIZED, *CHAIN) for phase in (DECODE, PREFILL)),
    ("analyze", "llama-3-8b", *H100, *DECODE, *SIZED, "--with", "quantize:weights=4", "--with", "tensor-parallel", "--with", "speculative"),
    ("analyze", "deepseek-v3", *H100, *DECODE, *SIZED, *OPEN),
    ("analyze", "mixtral-8x7b-v0.1", *H100, *PREFILL, *SIZED, "--formulas", "--conventions"),
    ("plan", "qwen3-32b", "--prompt", "2048", "--output", "512", *PROMISED, "--hardware", "h100-sxm", "mi300x", "--devices", "1,2"),
    ("provision", "llama-3-8b", *H100, "--prompt", "2048", "--output", "256", "--batch", "32", "--link", "50GB/s", "--tpot", "10ms"),
    ("load", "mixtral-8x7b-v0.1", "--hardware", "h200-sxm", "--prompt", "2048", "--output", "257", "--rate", "2", "--prefill", "here"),
    ("promises", "llama-3-8b", *H100, "--prompt", "2048", "--output", "257", "--ttft", "10ms", "--tpot", "30ms", "--degrees", "1,2,4"),
    ("cost", "llama-3-8b", *H100, *SIZED, "--price", "2", "--power", "700W", "--carbon", "400"),
    ("cost", "llama-3-8b", *H100, "--seq-len", "4096", "--price", "2", "--degrees", "1,2,4,8"),
    ("regimes", "llama-3-8b", *H100, "--over", "batch", "--over", "seq_len"),
    ("regimes", "llama-3-8b", *H100, "--over", "batch", "--over", "seq_len", "--tpot", "20ms"),
    ("regimes", "mixtral-8x7b-v0.1", *H100, "--over", "batch", "--seq-len", "4096"),
    ("ablate", "llama-3-8b", *H100, "--seq-len", "4096", *CHAIN[:2], *CHAIN[4:], "--with", "quantize:kv=8", "--at", "1", "--at", "64"),
    ("crossover", "deepseek-v3", *H100, *DECODE, "--operator", "all", "--over", "batch"),
    ("crossover", "deepseek-v3", *DECODE, "--operator", "all", "--over", "batch", *OPEN),
    ("crossover", "mixtral-8x7b-v0.1", *DECODE, "--operator", "weights-and-kv", "--over", "seq_len"),
    ("crossover", "mixtral-8x7b-v0.1", *PREFILL, "--operator", "router+expert_up_proj", "--over", "seq_len"),
    ("prove", "memory-bound", "deepseek-v3", *H100, *DECODE, "--operator", "lm_head", "--for-all", "batch"),
    ("prove", "memory-bound", "mixtral-8x7b-v0.1", *DECODE, "--operator", "weights-and-kv", "--for-all", "batch", "seq_len", "bandwidth"),
    ("solve", "qwen3-32b", *H100, *DECODE, "--seq-len", "4096", "--for", "batch", "--target-time", "50ms", *CHAIN),
    ("solve", "qwen3-32b", *H100, *DECODE, *SIZED, "--for", "capacity"),
    ("largest", "deepseek-v3", *H100, *DECODE, "--seq-len", "4096", *CHAIN),
    ("generate", "gemma-2-9b", *H100, "--prompt", "4000", "--tokens", "1000", "--batch", "8", *CHAIN),
    ("compare", "deepseek-v3", *H100, *DECODE, *SIZED, "--with", " ".join(CHAIN[1::2]), "--with", CHAIN[3], "--with", CHAIN[5]),
    ("compare", "qwen3-32b", *H100, *DECODE, *SIZED, *OPEN),
    ("compare", "llama-3-8b", *H100, *PREFILL, *SIZED, "--with", "prune-channels:share=0.5", "--with", "quantize:weights=8,activations=8"),
    ("sweep", "deepseek-v3", "llama-3-8b", *H100, "a100-sxm-80gb", "--over", "batch=1:64*2", "seq_len=1024,4096"),
    ("sweep", "deepseek-v3", *H100, "--over", "batch=1:4", "seq_len=1024,4096", *CHAIN, "--per", "operator"),
    ("sweep", "deepseek-v3", *H100, "--over", "batch=1:64*2", "seq_len=1024,4096", *CHAIN, "--pareto", "latency", "throughput_per_device"),
    ("sweep", "llama-3-8b", *H100, "--over", "degree=1,2,8", "--seq-len", "1024", "--with", "tensor-parallel", "--maximize", "throughput"),
    ("models",),
    ("devices",),
    ("devices", "h100-sxm"),
    ("techniques",),
    ("techniques", "speculative"),
    ("techniques", "tensor-parallel"),
    ("describe", "deepseek-v3"),
    ("validate",),
]


@pytest.fixture
def report(run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """The report of a command."""

    def call(*arguments: str) -> Report:
        caught: list[Report] = []
        monkeypatch.setattr("symroof.cli.output.deliver", lambda made, *_, **__: caught.append(made) or made.status)
        result = run(*arguments)
        assert result.err == "", result.err
        return caught[0]

    return call


def letters(text: str) -> Counter[str]:
    return Counter("".join(text.split()).replace("─", ""))


@pytest.mark.slow
@pytest.mark.parametrize("command", SCREENS, ids=lambda command: " ".join(command)[:60])
def test_no_line_is_longer_than_the_terminal_and_no_letter_is_cut(report, command: tuple[str, ...]) -> None:
    assert_fits(report(*command))


def assert_fits(made: Report) -> None:
    """At 80, 100 and 120 characters."""
    whole = made.render(TEXT, Layout(wide=True))
    for width in (80, 100, 120):
        lines = made.render(TEXT, Layout(width)).splitlines()
        assert max(map(len, lines)) <= width, (width, max(lines, key=len))
        assert not any("…" in line or "..." in line for line in lines if line not in whole and "=..." not in line), width
    for table in made.tables:
        for width in (80, 100, 120, None):
            assert_whole(table, width)


def assert_whole(table: Table, width: int | None) -> None:
    """The screen has the letters of the columns it shows, neither more nor fewer; what it does not show is named."""
    text = Report((table,)).render(TEXT, Layout(width, quiet=True))
    cells = table.cells(table.rows + table.totals, str, str, fold=True)
    fitted = fit(table, cells, width)
    if fitted is None:  # blocks have no headings of their own, and everything
        assert not letters("".join(cell for row in cells for cell in row)) - letters(text)
        return
    kept, widths = fitted
    for row in cells:
        for place, wide in zip(kept, widths, strict=True):
            assert all(len(line) <= wide for line in folded(row[place], wide)), (row[place], wide)
    shown = table.title + "".join(table.columns[place].heading + "".join(row[place] for row in cells) for place in kept)
    hidden = [column.title or column.key for place, column in enumerate(table.columns) if place not in kept]
    extra = letters(text) - letters(shown)
    assert not letters(shown) - letters(text), (letters(shown) - letters(text), width)
    said = " ".join(text.split()).partition("not shown: ")[2].partition("; --wide")[0]
    assert letters(said) == letters(", ".join(hidden))
    assert (len(hidden) > 0) == ("not shown: " in text)
    assert bool(extra) == (bool(hidden) or table.folds)


def session() -> Session:
    """A machine of known rates, whose kernels fit no constants."""
    return measure_machine(Planted(), Effort(5, 1e-3, 0.5), ("fp32",), "fp32", timer=lambda *_: Spread.of([1e-6]))


def measured_step(device: symroof.Device) -> StepTime:
    """A step of deepseek-v3, its latent attention not run, the rest as fast as predicted."""
    widths = {"weight_bits": 32, "activation_bits": 32, "kv_bits": 32}
    step = symroof.load_model("deepseek-v3").decode(batch=32, seq_len=4096, **widths)
    reason = "the scores of latent attention are contracted over two axes at once, which the backend has no kernel for"
    points = {point.name: point for point in symroof.analyze(step, device)}
    unrun = {name: reason for name in points if name.endswith("_matmul")}
    taken = {name: Spread.of([float(point.time_expr)]) for name, point in points.items() if name not in unrun}
    whole = Spread.of([sum(float(points[name].count_expr) * one.median for name, one in taken.items())])
    return measure_step(step, device, Planted(), "fp32", 1, lambda _: Times(taken, whole, whole, unrun))


def test_a_measured_machine_and_a_step_on_it_fit_the_terminal() -> None:
    machine = session()
    steps = step_report([measured_step(machine.device)], machine)
    assert_fits(machine_report(machine))
    assert_fits(steps)
    narrow = steps.render(TEXT, Layout(80))
    assert "moe.expert_gate_proj" in narrow
    assert "measured/" in narrow, "the ratio is what the step is run for: it stays"


def test_constants_and_their_validation_fit_the_terminal(tmp_path: Path) -> None:
    path, device = tmp_path / "rows.csv", load_hardware("a100")
    path.write_text(calibration_forms.csv_of("gemm"))
    rows = read_rows(path, device.name, {})
    found = calibrate(rows, device, seed=0, held={}, floors={"gemm:16": 5.4}, source="planted", date="2026-01-01")
    assert_fits(calibration_report(found))
    assert_fits(validation_report(validate(rows, device, found, None), [], []))


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_fits_the_terminal(run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(*filter(None, [command]), "--help").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.partition("Commands:")[2], "a summary is cut"


@pytest.mark.slow
def test_effects_of_a_technique_fit_the_terminal() -> None:
    from symroof.present.techniques import effect_table

    assert_fits(Report((effect_table(["quantize", "tensor-parallel", "speculative"]),)))


@pytest.mark.slow
@pytest.mark.parametrize("command", SCREENS[:2], ids=("decode", "prefill"))
def test_the_total_is_the_sum_of_what_is_shown(report, command: tuple[str, ...]) -> None:
    (table,) = report(*command).tables
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in table.rows]
    (total,) = (dict(zip(keys, row, strict=True)) for row in table.totals)
    for key in ("flops", "bytes", "time", "link_bytes"):
        assert sum(row["count"] * row[key] for row in rows) == total[key], key
    assert sum(row["share"] for row in rows) == total["share"] == 100
    spent = Counter[str]()
    for row in rows:
        spent[row["bound"]] += row["count"] * row["time"]
    assert total["bound"] == spent.most_common(1)[0][0]


def test_columns_go_in_the_order_of_their_ranks() -> None:
    columns = (Column("name"), *(Column(f"column_{rank}", rank=rank, fixed=True) for rank in (3, 1, 2)))
    table = Table("", columns, (("x", "a" * 10, "b" * 10, "c" * 10),))
    cells = table.cells(table.rows, str, str)
    kept = {width: fit(table, cells, width)[0] for width in (50, 30, 20, 12)}
    assert kept == {50: [0, 1, 2, 3], 30: [0, 2, 3], 20: [0, 2], 12: [0]}


def test_words_are_broken_between_words_and_at_marks_alone() -> None:
    text = "deepseek-v3 + speculative:acceptance=0.8,length=4,draft_cost=0.05 on NVIDIA H100 SXM5 80 GB"
    for width in range(longest(text), 100):
        lines = folded(text, width)
        assert all(len(line) <= width for line in lines)
        assert letters("".join(lines)) == letters(text)
        assert "".join("".join(lines).split()) == "".join(text.split())
    assert folded("a" * 30, 10) == ["a" * 30], "a word without marks is whole, however long"


def test_no_line_ends_within_an_address_and_a_chain_is_one_row(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = load_hardware("h100-sxm").name
    addresses = {word.strip(",;()") for word in run("devices", name, "--wide").out.split() if "://" in word}
    folded = run("devices", name).out
    short = {address for address in addresses if len(address) <= 70}
    assert short
    assert {address for address in short if address not in folded} == set()
    assert {address for address in addresses if address not in "".join(folded.split())} == set(), "longer ones go on in the next line"
    text = "quantize:weights=4,group=128 quantize:kv=8 flash-attention"
    for width in range(longest(text), 60):
        first, *further = hanging(text, width)
        assert max(map(len, (first, *further))) <= width
        assert letters("".join((first, *further))) == letters(text)
        assert all(line.startswith("  ") for line in further) or width < longest(text) + 2


@pytest.mark.parametrize("columns", ["80", "100"])
def test_a_pipe_is_folded_where_columns_are_given_and_not_elsewhere(run, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    asked = ("models", "llama")
    unfolded = run(*asked).out
    assert max(map(len, unfolded.splitlines())) > 120
    monkeypatch.setenv("COLUMNS", columns)
    out = run(*asked).out
    assert 60 < max(map(len, out.splitlines())) <= int(columns)
    assert "columns not shown: " in out
    assert run(*asked, "--wide").out == unfolded
    quiet = run(*asked, "--quiet").out
    assert "KV per token: growth" in out
    assert "KV per token: growth" not in quiet


def test_conventions_are_a_line_or_a_list_or_nothing(run) -> None:
    asked = ("analyze", "llama-2-7b", "--hardware", "a100", *DECODE, "--seq-len", "2048")
    line, listed, quiet = (run(*asked, *option).out for option in ((), ("--conventions",), ("--quiet",)))
    widths = "16-bit weights, activations and KV cache"
    assert f"exact accounting, {widths}, logits of the last token, attention scores through memory; --conventions lists all " in line
    count = int(line.partition("lists all ")[2].split()[0])
    assert listed.count("\n· ") == count
    assert "conventions" not in quiet
    assert quiet.splitlines() == line.splitlines()[: len(quiet.splitlines())]
    assert run(*asked, "--quiet", "--conventions").status == 2


EIGHT = ("deepseek-v3", "--hardware", "h200-sxm", "--batch", "64", "--flash-attention", "--with", "expert-parallel:degree=8")
SILENT = "h200-sxm states no latency of its links"


def test_long_formulas_of_a_generation_are_folded_and_wide_shows_them(run) -> None:
    asked = ("generate", *EIGHT, "--prompt", "512", "--tokens", "64")
    folded, whole = run(*asked).out, run(*asked, "--wide").out
    assert max(map(len, folded.splitlines())) < 200
    assert "sum of 5 terms" in folded
    assert max(map(len, whole.splitlines())) > 200


def test_collectives_without_latency_are_said_where_there_are_some(run) -> None:
    for asked in (("analyze", *EIGHT, "--phase", "decode", "--seq-len", "64"), ("generate", *EIGHT, "--prompt", "512", "--tokens", "64")):
        assert SILENT in run(*asked).out
        assert SILENT not in run(*[word.replace("degree=8", "degree=8,latency=5us") for word in asked]).out
        assert "states no latency" not in run(*[word.replace("h200-sxm", "h100-sxm") for word in asked]).out
        alone = [word for word in asked if word not in ("--with", "expert-parallel:degree=8")]
        assert "states no latency" not in run(*alone).out


@pytest.mark.parametrize(("length", "beyond"), [(4096, False), (4097, True)])
def test_lengths_beyond_the_published_positions_are_said_at_the_top(run, length: int, beyond: bool) -> None:
    words = "tokens are more than the 4096 positions the model was published for"
    single = ("llama-2-7b", "--hardware", "h100-sxm")
    assert (f"{length} {words}" in run("analyze", *single, "--phase", "decode", "--seq-len", length).out) is beyond
    assert (f"{length} {words}" in run("generate", *single, "--prompt", length - 7, "--tokens", 8).out) is beyond
