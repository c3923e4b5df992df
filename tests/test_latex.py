"""LaTeX of answers compiles in a fresh article: sixty of them, in letters and in numbers, of several models."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symroof
from symroof import symbols
from symroof.operators import Resource
from symroof.present.formats.breaking import broken, em
from symroof.roof.energy import energy_of
from symroof.symbols import substitute

PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath,array,booktabs,graphicx,longtable}
\begin{document}
"""
BEYOND = 5
"""Points of a line that the margin may lose: no letter."""

H100 = ("--hardware", "h100-sxm")
DECODE, PREFILL = ("--phase", "decode"), ("--phase", "prefill")
CHAIN = ("--with", "quantize:weights=4,group=128", "--with", "tensor-parallel:degree=8", "--with", "flash-attention")
SPECULATIVE = "speculative:acceptance=0.8,length=4,draft_cost=0.05"
SIZED = ("--seq-len", "4096")

COMMANDS = [
    *(("analyze", model, *H100, *phase, *SIZED) for model in ("llama-3-8b", "gemma-2-9b", "mamba2-130m") for phase in (DECODE, PREFILL)),
    ("analyze", "deepseek-v3", *H100, *DECODE, *SIZED, "--batch", "32", *CHAIN),
    ("analyze", "opt-125m", *H100, *DECODE, *SIZED, "--formulas"),
    ("analyze", "mixtral-8x7b-v0.1", *H100, *PREFILL, *SIZED, "--formulas", "--quiet"),
    ("analyze", "opt-125m", *H100, *DECODE, *SIZED, "--with", "speculative"),
    ("analyze", "opt-125m", *H100, *DECODE, *SIZED, "--with", "tensor-parallel", "--wide"),
    ("analyze", "opt-125m", *H100, *DECODE, *SIZED, "--with", "energy", "--conventions"),
    *(("crossover", "llama-3-8b", *phase, "--operator", "up_proj", "--over", "batch") for phase in (DECODE, PREFILL)),
    *(("crossover", "llama-3-8b", *DECODE, "--operator", name, "--over", "batch", *H100) for name in ("up_proj", "qk_matmul", "all")),
    *(("crossover", "mixtral-8x7b-v0.1", *DECODE, "--operator", "weights-and-kv", "--over", over) for over in ("seq_len", "batch")),
    ("crossover", "mixtral-8x7b-v0.1", *DECODE, "--operator", "router+expert_up_proj", "--over", "batch", *H100),
    ("crossover", "mistral-7b-v0.1", *DECODE, "--operator", "qk_matmul", "--over", "seq_len"),
    ("crossover", "llama-3-8b", *DECODE, "--operator", "up_proj", "--over", "group", "--with", "quantize:weights=4,group,scale"),
    ("prove", "memory-bound", "llama-3-8b", *DECODE, "--operator", "qk_matmul", "--for-all", "batch", "seq_len", *H100),
    ("prove", "memory-bound", "llama-3-8b", *DECODE, "--operator", "up_proj", "--for-all", "batch", *H100),
    ("prove", "compute-bound", "mistral-7b-v0.1", *DECODE, "--operator", "qk_matmul", "--for-all", "batch", "seq_len", *H100),
    ("prove", "memory-bound", "mixtral-8x7b-v0.1", *DECODE, "--operator", "q_proj", "--for-all", "batch", "bandwidth", "peak"),
    *(
        ("solve", "qwen3-32b", *DECODE, *SIZED, *H100, "--for", over, "--target-time", "50ms", *given)
        for over, given in (("batch", ()), ("bandwidth", ("--batch", "8")), ("peak", ("--batch", "8")), ("weight_bits", ("--batch", "1")))
    ),
    ("solve", "qwen3-32b", *DECODE, *SIZED, *H100, "--for", "capacity", "--batch", "8"),
    *(("generate", model, "--prompt", "512", "--tokens", "128", *H100) for model in ("llama-3-8b", "gemma-2-9b")),
    ("generate", "llama-3-8b", "--prompt", "512", "--tokens", "16", *H100, "--with", SPECULATIVE),
    ("compare", "llama-3-8b", *H100, *DECODE, *SIZED, "--with", CHAIN[1], "--with", SPECULATIVE),
    ("compare", "llama-3-8b", *H100, *DECODE, *SIZED, "--with", CHAIN[1], "--with", "tensor-parallel:degree=4", "--conventions"),
    ("techniques",),
    *(("techniques", name) for name in ("quantize", "speculative", "tensor-parallel", "flash-attention", "offload")),
    *(("devices", *name) for name in ((), ("h100-sxm",), ("survey",))),
    *(("models", name) for name in ("llama", "qwen3")),
    *(("describe", name) for name in ("deepseek-v3", "opt-125m")),
    ("validate",),
]


def _answers() -> list[str]:
    """Answers of Python alone."""
    step = symroof.load_model("llama-2-7b").decode(seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    speculative = step.apply(symroof.technique(SPECULATIVE))
    spent = step.apply(symroof.technique("energy"))
    asked = {"over": "batch", "hardware": "a100-sxm-80gb"}
    full = symroof.load_model("llama-2-7b").decode(batch=4, seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    return [
        symroof.regimes(step, **asked).latex(),
        symroof.payoff(step, speculative, **asked).latex(),
        symroof.crossover(step, "up_proj", **asked).latex(),
        symroof.crossover(step, "qk_matmul", over="batch").latex(),
        symroof.prove(step, "memory-bound", "qk_matmul", for_all="batch", hardware="a100-sxm-80gb").latex(),
        symroof.prove(step, "memory-bound", "up_proj", for_all="batch", hardware="a100-sxm-80gb").latex(),
        symroof.sensitivity(full, "a100-sxm-80gb").latex(),
        energy_of(symroof.analyze(full.apply(symroof.technique("energy")), "a100-sxm-80gb")).latex(),
        symroof.analyze(full, "a100-sxm-80gb").latex(),
        spent.latex(),
    ]


def document(run: Callable) -> str:
    """All answers one after the other, each on a page of its own."""
    parts = []
    for command in COMMANDS:
        result = run(*command, "--format", "latex")
        assert result.err == "", (command, result.err)
        parts.append(f"% {' '.join(command)}\n{result.out}")
    return PREAMBLE + "\n\\clearpage\n".join([*parts, *_answers()]) + "\n\\end{document}\n"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_sixty_answers_compile(run, tmp_path: Path) -> None:
    assert len(COMMANDS) + len(_answers()) >= 60
    (tmp_path / "answers.tex").write_text(document(run), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "answers.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "LaTeX Warning: Float too large" not in done.stdout
    log = (tmp_path / "answers.log").read_text(errors="replace")
    assert not re.findall(r"Missing character.*", log)
    beyond = re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)(.*)", log)
    assert not [(points, where) for points, where in beyond if float(points) > BEYOND]
    assert "Overfull \\vbox" not in log, "a formula or a table is longer than a page"


def test_words_are_words_and_formulas_are_formulas(run) -> None:
    """No operator of Python's in a formula, no sign of a comparison in words."""
    for command in (c for c in COMMANDS if c[0] in ("prove", "crossover") and "--hardware" not in c):
        out = run(*command, "--format", "latex").out
        assert "letters" not in out or r"\mathrm{BW}" in out, command
        words = re.sub(r"\\begin\{align\*\}.*?\\end\{align\*\}|\$[^$]*\$|\\\[.*?\\\]", "", out, flags=re.DOTALL)
        assert not re.search(r"\w\*\w|>=|<=", words), (command, re.search(r".{30}(\w\*\w|>=|<=).{30}", words))


def test_the_derivation_of_a_crossover_reads_as_it_should() -> None:
    """Its operator is named, BW is one upright name apart from its factors, and headings are words."""
    source = symroof.load_model("llama-2-7b").decode().on("h100-sxm").crossover("up_proj", over="batch").latex()
    assert r"\frac{F}{P} < \frac{B}{\mathrm{BW}} \iff F\,\mathrm{BW} - B\,P < 0" in source
    assert r"\frac{P\, d" not in source
    assert r"16\, \mathrm{BW}\, d f" in source
    assert r"FLOPs of up\_proj:" in source
    assert "otherwise always memory-bound" in source
    assert "always-memory" not in source


FORMULA = ("crossover", "llama-2-7b", "--phase", "decode", "--operator", "up_proj", "--over", "batch", "--hardware", "h100-sxm")


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "html"])
def test_the_legend_gives_the_peak_that_applies(run, form: str) -> None:
    """The reader checks b* = P d f w / (16 BW d f - P a (d + f)) with the legend's numbers."""
    shown = run(*FORMULA, "--format", form).out.replace(r"\allowbreak{}", "")
    assert "peak performance that applies = 989.4 TFLOP/s" in shown
    on = symroof.load_model("llama-2-7b").decode().on("h100-sxm")
    answer = on.crossover("up_proj", over="batch")
    assert substitute(answer.formula, answer.values) == answer.value_expr
    softmax = on.crossover("softmax", over="batch")
    assert softmax.values[symbols.P] == on.device.machine.rates[Resource.VECTOR]


@pytest.mark.parametrize("command", ["analyze", "compare"])
def test_no_title_is_empty(run, command: str) -> None:
    given = ("llama-2-7b", "--phase", "decode", "--batch", 1, "--seq-len", 64, "--hardware", "h100-sxm")
    asked = (command, *given, *(("--with", "quantize:weights=4") if command == "compare" else ()))
    assert "****" not in run(*asked, "--format", "markdown").out
    assert "<caption></caption>" not in run(*asked, "--format", "html").out


def test_every_view_that_an_answer_offers_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof's sentence, a crossover's table, an operator's LaTeX; where no other view is made, what the repr says."""
    on = symroof.load_model("llama-2-7b").decode(batch=8, seq_len=64).on("h100-sxm")
    answers = (
        on.prove("memory-bound", "qk_matmul", for_all="seq_len"),
        on.crossover("up_proj", over="batch"),
        on["up_proj"].operator,
        on.required("batch", target_time="50 ms"),
        on.largest("batch"),
        on.generation(prompt=16, tokens=4),
        on.payoff("quantize:weights=4", over="batch"),
    )
    for answer in answers:
        assert answer.sentence
        assert answer.latex()
        assert str(answer.table()).count("\n") >= 2
    assert "sign of the slack" in str(answers[1].table())
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, str(on.table()).splitlines())) <= 80
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, str(on.table()).splitlines())) > 80
    assert "Column(" not in str(on.table())


def test_a_deployment_is_drawn_and_says_its_tokens_per_second() -> None:
    on = symroof.load_model("llama-2-7b").decode(batch=8, seq_len=64).on("h100-sxm")
    title = symroof.roofline_figure(on).axes[0].get_title()
    assert ("batch 8" in title, "context 64" in title) == (True, True)
    assert on.throughput == on.total.throughput == on.compare("flash-attention")[0].throughput
    assert str(on.throughput).endswith(" token/s")
    assert on.throughput.exact == 8 / on.time.exact
    rate = on.regimes("batch").asymptote / 2
    assert on.required("batch", target_rate=rate).value == on.required("batch", target_rate=rate.exact).value


CHAIN = "quantize:weights=4,group=128 flash-attention tensor-parallel:degree=8,link=450GB/s"


def test_names_of_techniques_fold_in_headings_and_lines(run) -> None:
    """No piece that LaTeX cannot break is longer than a setting."""
    given = ("deepseek-v3", "--phase", "decode", "--batch", 8, "--seq-len", 4096, "--hardware", "h100-sxm")
    source = run(
        "compare", *given, "--with", CHAIN, "--with", "speculative:acceptance=0.7,length=4,draft_cost=0.1", "--format", "latex"
    ).out
    heads = re.findall(r"\\shortstack\[.\]\{((?:[^{}]|\{[^{}]*\})*)\}\}", source)
    assert any("quantize:" in head for head in heads)
    assert max(len(line) for head in heads for line in head.split(r"\\")) <= 24
    said = next(line for line in source.splitlines() if line.startswith(r"\noindent quantize:"))
    assert max(map(len, re.split(r" |\\allowbreak\{\}", said))) <= 24


@pytest.mark.parametrize(
    ("source", "width", "lines"),
    [
        ("a + b", 20, ["a + b"]),
        (r"x^* = \frac{a + b + c}{d}", 4, [r"x^{*} = \bigl(a", "+ b", r"+ c\bigr) / d"]),
        (r"A \left(b + c\right) + d e f", 5, [r"A \bigl(b + c\bigr)", "+ d e f"]),
        (r"- a b c - d e f", 3, ["- a b c", "- d e f"]),
        (r"\frac{a}{b + c} < d", 3, [r"\frac{a}{b + c}", "< d"]),
        (r"\text{always memory-bound if } x < 1", 10, [r"\text{always memory-bound }", r"\text{if } x < 1"]),
    ],
)
def test_formulas_are_broken_at_signs_and_relations(source: str, width: float, lines: list[str]) -> None:
    assert broken(source, width) == lines


@given(st.lists(st.sampled_from(["a b", r"\frac{a + b}{c d}", r"\left(a - b\right) c", "16", r"x^{2}"]), min_size=2, max_size=30))
@settings(max_examples=40)
def test_a_broken_formula_has_every_letter_of_the_whole(terms: list[str]) -> None:
    source = " + ".join(terms)
    lines = broken(source, 12)
    letters = re.compile(r"[a-z0-9]+|[+-]")
    plain = re.sub(r"\\(left|right|bigl|bigr|frac|quad|penalty900)", "", " ".join(lines))
    assert letters.findall(plain) == letters.findall(re.sub(r"\\(left|right|frac)", "", source))
    assert all(em(line) <= 12 for line in lines)
    assert all(line.count("{") == line.count("}") for line in lines)
    assert all(line.count(r"\left") == line.count(r"\right") for line in lines), "a pair that grows stays on its line"
    assert "".join(lines).count(r"\bigl") == "".join(lines).count(r"\bigr")
