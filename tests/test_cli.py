"""The command as a user meets it: output, files, formats, and one-line errors."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from symroof.architectures.config import catalogue
from symroof.cli.main import cli
from symroof.hardware.loader import catalogue as device_names
from symroof.present.report import FORMATS

DECODE = ("analyze", "llama-2-7b", "--hardware", "a100-sxm-80gb", "--phase", "decode", "--seq-len", "2048")

OPERATOR_KEYS = {
    *("name", "kind", "count", "flops", "bytes", "weight_read", "activation_read", "activation_write", "kv_read", "kv_write"),
    *("intensity", "performance", "bound", "time", "formulas"),
}
TOP_KEYS = {"model", "hardware", "phase", "accounting", "conventions", "inputs", "units", "operators", "total", "memory"}


def test_json_has_the_promised_fields(run) -> None:
    record = json.loads(run(*DECODE, "--format", "json").out)
    assert record.keys() >= TOP_KEYS
    assert record["inputs"] == {"batch": 1, "seq_len": 2048, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    assert (record["model"], record["hardware"], record["phase"], record["accounting"]) == (
        "llama-2-7b",
        "a100-sxm-80gb",
        "decode",
        "exact",
    )
    for operator in record["operators"]:
        assert operator.keys() >= OPERATOR_KEYS
        assert operator["formulas"].keys() == {"flops", "bytes"}
        assert operator["bound"] in ("memory", "compute")
        kinds = ("weight_read", "activation_read", "activation_write", "kv_read", "kv_write")
        assert operator["bytes"] == sum(operator[kind] for kind in kinds)
        assert operator["performance"] == pytest.approx(operator["flops"] / operator["time"], rel=1e-12)
    for key in ("flops", "bytes", "time", "weight_read", "activation_read", "activation_write", "kv_read", "kv_write"):
        assert record["total"][key] == pytest.approx(sum(op["count"] * op[key] for op in record["operators"]), rel=1e-12)
    assert record["memory"]["total"] == sum(record["memory"][key] for key in ("weight", "kv_cache", "activation"))
    matmuls = {operator["name"] for operator in record["operators"] if operator["kind"] == "matmul"}
    assert matmuls == {
        *("q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj", "down_proj", "qk_matmul", "sv_matmul", "lm_head"),
    }
    assert [operator["count"] for operator in record["operators"] if operator["name"] == "lm_head"] == [1]


def test_formulas_in_json_give_the_numbers_beside_them(run) -> None:
    """Every letter is explained with its value; the formula at those values is the number."""
    from sympy import Rational, parse_expr

    record = json.loads(run(*DECODE, "--format", "json", "--flash-attention", "--weight-bits", 4).out)
    names = {letter: Rational(str(entry["value"])) for letter, entry in record["symbols"].items()}
    for operator in record["operators"]:
        for key, formula in operator["formulas"].items():
            assert parse_expr(formula, names) == operator[key]


def test_csv_is_one_table_with_its_conventions(run) -> None:
    table = list(csv.DictReader(io.StringIO(run(*DECODE, "--format", "csv", "--formulas").out)))
    assert table[-1]["name"] == "total"
    assert {row["accounting"] for row in table} == {"exact"}
    assert {row["causal"] for row in table} == {"True"}
    q_proj = next(row for row in table if row["name"] == "q_proj")
    assert (q_proj["flops"], q_proj["formula_flops"]) == ("33554432", "2*b*d*e*h")


@pytest.mark.parametrize("form", ["table", "json", "csv", "latex", "markdown", "html"])
def test_conventions_are_in_every_output(run, form: str) -> None:
    out = run(*DECODE, "--format", form).out
    assert "exact" in out
    assert "last" in out


def test_formulas_and_legend_in_the_terminal(run) -> None:
    out = run(*DECODE, "--formulas").out
    assert "2*b*d*e*h" in out
    assert "d: hidden size = 4096" in out
    assert "fits the 85.9 GB that the driver reports of NVIDIA A100 SXM4 80 GB" in out


def test_conventions_change_the_counts(run) -> None:
    def flops(*options: str) -> int:
        prefill = ("analyze", "llama-2-7b", "--hardware", "h100", "--phase", "prefill", "--seq-len", "512")
        return json.loads(run(*prefill, "--format", "json", *options).out)["total"]["flops"]

    assert flops() < flops("--no-causal") < flops("--no-causal", "--lm-head", "all")


def test_a_file_by_path_and_its_format_by_its_ending(run, tmp_path: Path) -> None:
    config, target = tmp_path / "config.json", tmp_path / "out.json"
    config.write_text(catalogue()["opt-125m"].read_text())
    result = run("analyze", config, "--hardware", "t4", "--phase", "prefill", "--seq-len", 7, "-o", target)
    assert (result.status, result.out, result.err) == (0, "", "")
    assert json.loads(target.read_text())["model"] == tmp_path.name
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_models_devices_describe(run) -> None:
    models = json.loads(run("models", "--format", "json").out)
    assert {row["name"] for row in models} == set(catalogue())
    devices = json.loads(run("devices", "--format", "json").out)
    assert len(devices) >= 42
    assert "survey/nvidia_A6000" in {row["name"] for row in devices}
    record = json.loads(run("describe", "meta-llama/Llama-2-7b-hf", "--format", "json").out)
    assert record["parameters"]["total"] == 6738415616
    assert record["kv_bytes_per_token"] == 524288
    assert record["weight_bytes"] == 2 * 6738415616
    page = run("describe", "llama-2-7b").out
    assert "6,738,415,616" in page
    assert r"\text{q\_proj}: && F &= 2 b d e h" in page


UNPLACED = ("analyze", "llama-2-7b", "--seq-len", "2048")
NEAR = {
    ("analyse",): "there is no command 'analyse': did you mean analyze?",
    (*DECODE, "--batch", "0"): "--batch '0': expected a whole number from 1 to 1e12",
    (*DECODE, "--batch", "-1"): "--batch '-1': expected a whole number from 1 to 1e12",
    (*DECODE, "--batch", "1.5"): "--batch '1.5': expected a whole number from 1 to 1e12",
    (*DECODE, "--batch", "9" * 40): f"--batch {'9' * 40!r}: expected a whole number from 1 to 1e12",
    (*DECODE, "--weight-bits", "0"): "--weight-bits '0': expected a whole number from 1 to 64",
    (*DECODE, "--kv-bits", "200"): "--kv-bits '200': expected a whole number from 1 to 64",
    (*DECODE, "--activation-bits", "x"): "--activation-bits 'x': expected a whole number from 1 to 64",
    (*UNPLACED, "--hardware", "t4", "--phase", "prefil"): "--phase 'prefil': did you mean prefill?",
    (*DECODE, "--accounting", "exakt"): "--accounting 'exakt': did you mean exact?",
    (*DECODE, "--format", "jsn"): "--format 'jsn': did you mean json?",
    (*DECODE, "--lm-head", "none"): "--lm-head 'none': known: last, all",
    (*DECODE, "--batchh", "1"): "No such option '--batchh'. Did you mean '--batch'?",
    (
        *UNPLACED,
        "--phase",
        "decode",
        "--hardware",
        "a100-sxm-80",
    ): "device 'a100-sxm-80' is neither a name of the catalogue nor a file: did you mean a100-sxm-80gb",
    (*UNPLACED, "--phase", "decode", "--hardware", "none.toml"): "device 'none.toml': there is no such file",
    (*DECODE, "-o", "/nowhere/x.json"): "output '/nowhere/x.json': there is no folder '/nowhere'",
    ("describe", "lama-2-7b"): "model 'lama-2-7b' is neither a name in models/ nor a file: did you mean llama-2-7b",
    ("describe", "none.json"): "model 'none.json': there is no such file",
    ("describe", "x" * 5000): "is neither a name in models/ nor a file",
    ("describe", ""): "model '' is neither a name in models/ nor a file",
}


@pytest.mark.parametrize("arguments", NEAR)
def test_bad_input_is_one_line_and_status_2(run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith("symroof: ")
    assert NEAR[arguments] in result.err
    assert result.err.count("\n") == 1
    assert len(result.err) < 400


def test_nothing_is_written_when_the_input_is_bad(run, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("before")
    assert run(*DECODE, "--hardware", "h1000", "-o", target).status == 2
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_failed_write_leaves_what_was_there(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.json"
    target.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run(*DECODE, "-o", target)
    assert result.status == 2
    assert result.err.endswith("could not be written: No space left on device\n")
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.slow
def test_a_reader_that_stops_early_is_no_error() -> None:
    command = [sys.executable, "-m", "symroof", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        error = process.stderr.read()
    assert b"Traceback" not in error


def test_help_does_not_load_sympy() -> None:
    program = "import sys; from symroof.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: print('sympy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.endswith("False\n")


WATCH = """
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise AssertionError(f"{name} is looked for")
sys.meta_path.insert(0, Watch())
from symroof.cli.main import main
for arguments in (["--help"], ["analyze", "--help"], ["describe", "own.py:build"], "analyze opt-125m --phase decode --hardware l4".split()):
    try:
        main(arguments)
    except SystemExit:
        pass
import symroof
symroof.trace, symroof.operator, symroof.sweep
assert symroof.load_model("opt-125m").decode(batch=1, seq_len=8).on("l4").crossover("up_proj", over="batch").first_integer > 1
"""


def test_torch_is_not_even_looked_for_unless_asked_for() -> None:
    """Installed or not: to import it takes seconds."""
    done = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_text_is_never_evaluated(run, tmp_path: Path) -> None:
    """Code in the place of a name, a number or a figure stays text."""
    mark = tmp_path / "mark"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    device = tmp_path / "d.toml"
    device.write_text(f'[peak.fp16]\ndense = """{code}"""\n[memory]\nbandwidth = "1 TB/s"\n')
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"model_type": "llama", "hidden_size": code}))
    for arguments in [("describe", code), ("describe", config), (*DECODE, "--batch", code), (*DECODE, "--hardware", device)]:
        assert run(*arguments).status == 2
    assert not mark.exists()


# --- crossover, prove, solve, generate

CROSSOVER = ("crossover", "llama-2-7b", "--phase", "decode", "--operator", "up_proj", "--over", "batch")
RECORD = {"operator", "over", "verdict", "below", "above", "formula", "condition", "latex", "value", "exact", "first_integer", "intervals"}


def test_crossover_record(run) -> None:
    (record,) = json.loads(run(*CROSSOVER, "--hardware", "a100-sxm-80gb", "--format", "json").out)
    assert record.keys() >= RECORD
    assert (record["verdict"], record["below"], record["above"]) == ("crosses", "memory", "compute")
    assert record["exact"] == "858624000/5323703"
    assert record["value"] == pytest.approx(858624000 / 5323703, rel=1e-15)
    assert record["first_integer"] == 162
    assert record["formula"] == "P*d*f*w/(16*BW*d*f - P*a*d - P*a*f)"
    assert record["condition"] == "16*BW*d*f > P*a*d + P*a*f"
    assert [one["bound"] for one in record["intervals"]] == ["memory", "compute"]


def test_crossover_in_letters_leaves_numbers_null(run) -> None:
    (record,) = json.loads(run(*CROSSOVER, "--format", "json").out)
    assert record.keys() >= RECORD
    assert all(record[key] is None for key in ("value", "exact", "first_integer", "intervals"))
    assert record["verdict"] == "crosses"


@pytest.mark.slow
def test_crossovers_of_all_operators(run) -> None:
    prompt = ("crossover", "llama-2-7b", "--phase", "prefill", "--operator", "all", "--over", "seq_len", "--batch", 1, "--hardware", "h100")
    records = json.loads(run(*prompt, "--format", "json").out)
    verdicts = {record["operator"]: record["verdict"] for record in records}
    assert len(verdicts) == 20
    assert verdicts["up_proj"] == "crosses"
    assert verdicts["softmax"] == "always-memory"
    assert {record["over"] for record in records} == {"seq_len"}


@pytest.mark.parametrize("form", ["table", "latex", "markdown"])
def test_crossover_for_people(run, form: str) -> None:
    out = run(*CROSSOVER, "--hardware", "a100-sxm-80gb", "--format", form).out
    assert "up_proj" in out.replace("\\_", "_")
    assert "162" in out or "161.28" in out
    assert "memory-bound" in out


def test_context_limit_is_told_with_the_aggregate_condition(run) -> None:
    out = run(*CROSSOVER[:4], "--operator", "weights-and-kv", "--over", "batch", "--hardware", "a100-sxm-80gb", "--seq-len", 100).out
    assert "= 165.8 tokens" in out


PROVE = ("prove", "memory-bound", "llama-2-7b", "--phase", "decode", "--operator")


def test_prove_takes_several_variables_in_a_row(run) -> None:
    result = run(
        *PROVE,
        "qk_matmul",
        "--for-all",
        "batch",
        "seq_len",
        "--at-least",
        "batch=2",
        "seq_len=16",
        "--hardware",
        "a100",
        "--format",
        "json",
    )
    record = json.loads(result.out)
    assert record.keys() >= {"claim", "verdict", "by", "certificate", "counterexample"}
    assert (result.status, record["verdict"], record["by"], record["counterexample"]) == (0, "proved", "shift", None)
    assert "b >= 2, t >= 16" in record["claim"]


def test_a_refuted_claim_exits_with_1(run) -> None:
    result = run(*PROVE, "up_proj", "--for-all", "batch", "--hardware", "a100", "--format", "json")
    record = json.loads(result.out)
    assert (result.status, record["verdict"], record["counterexample"]) == (1, "refuted", {"batch": 162})
    assert "; not at batch = 162" in run(*PROVE, "up_proj", "--for-all", "batch", "--hardware", "a100").out


def test_solve(run) -> None:
    command = ("solve", "llama-2-7b", "--phase", "decode", "--hardware", "a100-sxm-80gb", "--seq-len", 2048, "--batch", 1)
    record = json.loads(run(*command, "--for", "bandwidth", "--target-time", "5ms", "--format", "json").out)
    assert (record["relation"], record["exact"], record["unit"]) == (">=", "2863326515200", "byte/second")
    assert record["time"] == pytest.approx(0.005, rel=1e-12)
    same = json.loads(run(*command, "--for", "bandwidth", "--target-rate", "200", "--format", "json").out)
    assert same["exact"] == record["exact"]
    needed = json.loads(run(*command, "--for", "capacity", "--format", "json").out)
    assert needed["value"] == json.loads(run(*DECODE, "--format", "json").out)["memory"]["total"]
    assert needed["fits"] is True


@pytest.mark.slow
def test_generate(run) -> None:
    command = ("generate", "opt-125m", "--prompt", 10, "--tokens", 3, "--hardware", "t4", "--format", "json")
    record = json.loads(run(*command).out)

    def step(phase: str, length: int) -> dict[str, float]:
        return json.loads(run("analyze", "opt-125m", "--hardware", "t4", "--phase", phase, "--seq-len", length, "--format", "json").out)[
            "total"
        ]

    steps = [step("decode", 10 + number) for number in (1, 2)]  # the prompt gives the first of three tokens
    assert record["decode"]["bytes"] == sum(one["bytes"] for one in steps)
    assert record["decode"]["time"] == pytest.approx(sum(one["time"] for one in steps), rel=1e-12)
    assert record["total"]["bytes"] == record["decode"]["bytes"] + step("prefill", 10)["bytes"]
    assert "decode traffic" in run(*command[:-2]).out


UNANSWERABLE = {
    (*CROSSOVER, "--batch", "4"): "--batch is given as a number, but --over batch asks over it: leave one of the two out",
    (*PROVE, "up_proj", "--for-all", "batch", "--batch", "4"): "--batch is given as a number, but --for-all batch asks over it",
    (*CROSSOVER[:6], "--over", "bacth"): "'bacth' is not a symbol of the library: did you mean batch?",
    (*CROSSOVER[:6], "--over", "seq_len"): "'seq_len' (t) does not occur in up_proj",
    (*CROSSOVER[:4], "--operator", "up_prj", "--over", "batch"): "'up_prj' is not an operator of this step: did you mean up_proj",
    (*PROVE, "up_proj", "--for-all"): "requires an argument",
    (
        *PROVE,
        "up_proj",
        "--for-all",
        "batch",
        "--at-least",
        "batch",
    ): "--at-least 'batch': expected a variable and a number such as batch=1",
    (*PROVE, "up_proj", "--for-all", "batch", "--at-least", "batch=0", "--hardware", "a100"): "at least batch=0: expected 1 or more",
    ("solve", "opt-125m", "--phase", "decode", "--hardware", "t4", "--for", "bandwidth"): "give one target: a time or a rate",
    (
        *("solve", "opt-125m", "--phase", "decode", "--hardware", "t4", "--for", "peak", "--batch", "1", "--seq-len", "9"),
        *("--target-time", "1us"),
    ): "impossible: memory traffic alone takes",
    (
        "solve",
        "opt-125m",
        "--phase",
        "decode",
        "--hardware",
        "t4",
        "--for",
        "peak",
        "--target-time",
        "-1",
    ): "--target-time '-1': expected a time",
    ("generate", "opt-125m", "--prompt", "0", "--tokens", "1", "--hardware", "t4"): "--prompt '0': expected a whole number from 1 to 1e12",
    (*DECODE, "--context", "4096"): "No such option '--context': the option is --seq-len, of the context in decode",
    ("devices", "t44"): "device 't44' is neither a name of the catalogue nor a file: did you mean t4",
    ("models", "-o", "x.pdf"): "the ending '.pdf' names no format here; known: .txt, .json, .csv, .tex, .md, .html; or give --format",
    (*DECODE, "-o", ""): "--output '': expected the name of a file, or - for standard output",
}


@pytest.mark.parametrize("arguments", UNANSWERABLE)
def test_unanswerable_questions_are_one_line_and_status_2(run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("symroof: ")
    assert UNANSWERABLE[arguments] in result.err
    assert result.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "-o /dev/full"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_that_cannot_be_written(redirection: str) -> None:
    command = f"'{sys.executable}' -m symroof {' '.join(DECODE)} {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    if redirection != ">&-":
        assert done.returncode == 2
        assert "No space left on device" in done.stderr


def test_html_is_a_page_of_its_own(run) -> None:
    from xml.etree import ElementTree as ET

    page = run(*DECODE, "--format", "html", "--formulas").out
    assert page.startswith("<!DOCTYPE html>")
    assert "http" not in page.replace("http://www.w3.org/1998/Math/MathML", "").replace("https://", "", 9)
    root = ET.fromstring(page.split("\n", 1)[1])  # well-formed
    assert len(list(root.iter("{http://www.w3.org/1998/Math/MathML}math"))) > 30


def test_a_device_s_figures_with_their_sources(run) -> None:
    named = {row["name"] for row in json.loads(run("devices", "h100", "--format", "json").out)}
    assert named == {name for name in device_names() if "h100" in name.lower()}, "not one of them alone"
    out = run("devices", "h100-sxm").out
    assert "989.4 TFLOP/s" in out
    assert "NVIDIA H100 Tensor Core GPU Architecture" in out


def test_csv_has_the_record_s_values(run) -> None:
    table = list(csv.DictReader(io.StringIO(run(*DECODE, "--format", "csv").out)))
    record = json.loads(run(*DECODE, "--format", "json").out)
    for row, operator in zip(table, record["operators"], strict=False):
        assert {key: row[key] for key in ("name", "kind", "bound", "data_type")} == {
            key: operator[key] for key in ("name", "kind", "bound", "data_type")
        }
        for key in ("flops", "bytes", "weight_read", "activation_read", "activation_write", "kv_read", "kv_write", "time", "peak"):
            assert float(row[key]) == operator[key]


def test_records_call_the_context_what_the_option_calls_it(run) -> None:
    context = ("crossover", "llama-2-7b", "--phase", "decode", "--operator", "qk_matmul", "--over", "seq_len", "--format", "json")
    assert json.loads(run(*context).out)[0]["over"] == "seq_len"
    claim = (*PROVE, "weights-and-kv", "--for-all", "batch", "seq_len", "--hardware", "a100", "--format", "json")
    assert set(json.loads(run(*claim).out)["counterexample"]) == {"batch", "seq_len"}
    together = run(*PROVE, "up_proj", "--for-all", "num_heads", "group_size", "--hardware", "a100")
    assert (together.status, "cannot range together" in together.err) == (2, True)


DECODED = ("opt-125m", "--hardware", "t4", "--phase", "decode")
EVERY_COMMAND = {
    "analyze": (*DECODED, "--seq-len", "64", "--formulas"),
    "crossover": (*DECODED, "--operator", "q_proj", "--over", "batch"),
    "prove": ("memory-bound", *DECODED, "--operator", "qk_matmul", "--for-all", "batch", "--seq-len", "64"),
    "solve": (*DECODED, "--for", "bandwidth", "--target-time", "5ms", "--batch", "1", "--seq-len", "64"),
    "generate": ("opt-125m", "--hardware", "t4", "--prompt", "8", "--tokens", "4"),
    "largest": ("opt-125m", "--hardware", "t4", "--seq-len", "64"),
    "compare": (*DECODED, "--seq-len", "64", "--with", "quantize:weights=4"),
    "sweep": ("opt-125m", "--hardware", "t4", "--seq-len", "8", "--over", "batch=1:3"),
    "provision": ("opt-125m", "--hardware", "t4", "--prompt", "64", "--output", "16", "--batch", "4", "--link", "1GB/s"),
    "load": ("opt-125m", "--hardware", "t4", "--prompt", "64", "--output", "16", "--rate", "4", "--prefill", "here"),
    "promises": ("opt-125m", "--hardware", "t4", "--prompt", "64", "--output", "16", "--tpot", "20ms", "--degrees", "1,2"),
    "cost": ("opt-125m", "--hardware", "t4", "--seq-len", "64", "--price", "0.5"),
    "regimes": ("opt-125m", "--hardware", "t4", "--over", "batch", "--over", "seq_len"),
    "ablate": ("opt-125m", "--hardware", "t4", "--seq-len", "64", "--with", "quantize:weights=4", "--with", "quantize:kv=8"),
    "models": ("opt-125m",),
    "devices": ("t4",),
    "describe": ("opt-125m",),
    "techniques": (),
}


def test_every_command_that_answers_has_the_same_options_of_output() -> None:
    """Figures are pictures, and a script for a shell is text: these two are no reports."""
    from symroof.cli.main import cli

    shared = {"--format", "-o", "--wide", "--conventions", "--quiet"}
    for name, command in cli.commands.items():
        options = {text for param in command.params for text in param.opts}
        assert shared <= options or name in ("figures", "completion", "export"), name


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_every_command_writes_every_format(run, command: str) -> None:
    """One table of formats for all commands: none leaves one out, none writes something malformed."""
    for form in FORMATS:
        result = run(command, *EVERY_COMMAND[command], "--format", form)
        assert (result.status, result.err) == (0, ""), (form, result.err)
        assert result.out.strip(), form
        if form == "json":
            json.loads(result.out)
        elif form == "csv":
            assert len({len(row) for row in csv.reader(io.StringIO(result.out))}) == 1
        elif form == "html":
            assert result.out.startswith("<!DOCTYPE html>")
            assert result.out.rstrip().endswith("</html>")
        elif form == "latex":
            assert result.out.count("{") == result.out.count("}")


# --- options that take one value


SINGLE = [
    (name, param)
    for name, command in cli.commands.items()
    for param in command.params
    if isinstance(param, click.Option) and not param.multiple and param.expose_value
]


@pytest.mark.parametrize(("name", "param"), SINGLE, ids=lambda value: value if isinstance(value, str) else value.name)
def test_an_option_that_takes_one_value_is_given_once(run, name: str, param: click.Option) -> None:
    given = (param.opts[-1], *["8"] * (0 if param.is_flag else param.nargs))
    refused = run(name, *given, *given)
    words = "/".join((param.opts[-1], *param.secondary_opts))
    assert (refused.status, refused.err) == (2, f"symroof: {words} is given twice; leave one of the two out\n")


def test_options_that_repeat_do(run) -> None:
    asked = ("sweep", "opt-125m", "--hardware", "t4", "--hardware", "a100-sxm-80gb", "--over", "batch=1", "--over", "seq_len=8")
    assert run(*asked).status == 0


def test_memory_is_given_with_its_unit(run) -> None:
    asked = ("largest", "opt-125m", "--seq-len", "64", "--capacity")
    for bare in ("0.9", "48"):
        assert run(*asked, bare).err == f"symroof: --capacity '{bare}': expected an amount of memory with its unit, such as 48GB\n"
    assert run(*asked, "48 GB").status == 0


def test_help_shows_no_escape(run) -> None:
    for name in cli.commands:
        assert "\\b" not in run(name, "--help").out
