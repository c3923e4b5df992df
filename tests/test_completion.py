"""Completion of commands, models, devices, variables, metrics, techniques and their parameters, as bash, zsh and fish ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from symroof.architectures.config import catalogue as models
from symroof.cli.completion import SHELLS, VARIABLE
from symroof.cli.main import cli
from symroof.hardware.loader import catalogue as devices
from symroof.sweeps.metrics import METRICS
from symroof.techniques.registry import names, technique_class

BREAKS = ":="


def values(shell: str, *words: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The values that a shell is offered for the last word, in the words that it would pass on."""
    if shell == "bash":  # which takes each of : and = for a word of its own
        for end in BREAKS:
            words = tuple(piece for word in words for piece in _split(word, end))
    monkeypatch.setenv("COMP_WORDS", " ".join(["symroof", *words]))
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
    kind = get_completion_class(shell)
    assert kind is SHELLS[shell]
    answered = kind(cli, {}, "symroof", VARIABLE).complete().splitlines()
    if shell == "zsh":
        return answered[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in answered]


def _split(word: str, end: str) -> list[str]:
    pieces = [piece for part in word.split(end) for piece in (part, end)][:-1]
    return [piece for piece in pieces if piece] or [word]


def whole(shell: str, *words: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The whole last words that they make; bash replaces only what follows the last : or =."""
    typed = words[-1]
    kept = typed[: max(typed.rfind(end) for end in BREAKS) + 1] if shell == "bash" else ""
    return {kept + value for value in values(shell, *words, monkeypatch=monkeypatch)}


CASES = {
    "commands": (("so",), {"solve"}),
    "models": (("analyze", "llama-2"), {name for name in models() if name.startswith("llama-2")}),
    "models of a sweep": (("sweep", "llama-2-7b", "opt-1"), {name for name in models() if name.startswith("opt-1")}),
    "devices": (("analyze", "llama-2-7b", "--hardware", "h100"), {name for name in devices() if name.startswith("h100")}),
    "the survey's devices": (("devices", "survey/"), {name for name in devices() if name.startswith("survey/")}),
    "words": (("analyze", "--phase", "pre"), {"prefill"}),
    "options": (("analyze", "--seq"), {"--seq-len"}),
    "variables": (("crossover", "llama-2-7b", "--over", "quantized_w"), {"quantized_weight_bits"}),
    "variables to be given values": (("sweep", "llama-2-7b", "--over", "weight_b"), {"weight_bits="}),
    "metrics": (("sweep", "llama-2-7b", "--metric", "t"), {name for name in METRICS if name.startswith("t")}),
    "metrics to optimize": (("sweep", "llama-2-7b", "--maximize", "through"), {name for name in METRICS if name.startswith("through")}),
    "techniques": (("analyze", "llama-2-7b", "--with", "quant"), {"quantize"}),
    "techniques to be described": (("techniques", ""), {*names()}),
    "parameters": (("analyze", "llama-2-7b", "--with", "quantize:wei"), {"quantize:weights="}),
    "parameters after others": (("compare", "llama-2-7b", "--with", "quantize:weights=4,gr"), {"quantize:weights=4,group="}),
    "parameters not given yet": (
        ("analyze", "x", "--with", "tensor-parallel:node=8,n"),
        {"tensor-parallel:node=8,network=", "tensor-parallel:node=8,network_latency="},
    ),
    "words of parameters": (("analyze", "x", "--with", "flash-attention:reread=m"), {"flash-attention:reread=memory"}),
    "words of all parameters": (
        ("analyze", "x", "--with", "tensor-parallel:collective="),
        {"tensor-parallel:collective=ring", "tensor-parallel:collective=tree"},
    ),
    "a further value": (
        ("sweep", "llama-2-7b", "--hardware", "a100-sxm-80gb", "h100-s"),
        {name for name in devices() if name.startswith("h100-s")},
    ),
    "a further variable": (("prove", "memory-bound", "llama-2-7b", "--for-all", "batch", "seq_"), {"seq_len"}),
    "an option after values": (("sweep", "llama-2-7b", "--hardware", "t4", "--pare"), {"--pareto"}),
    "nothing": (("analyze", "llama-2-7b", "--with", "quantize:weights=4,x"), set()),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("case", CASES)
def test_what_completes(shell: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words, expected = CASES[case]
    assert whole(shell, *words, monkeypatch=monkeypatch) == expected


@pytest.mark.parametrize("name", names())
def test_every_technique_completes_to_parameters_that_it_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import fields

    offered = whole("zsh", "analyze", "x", "--with", f"{name}:", monkeypatch=monkeypatch)
    assert offered == {f"{name}:{parameter.name}=" for parameter in fields(technique_class(name))}


def test_a_path_may_stand_where_a_name_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", "symroof analyze ./con")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert get_completion_class("bash")(cli, {}, "symroof", VARIABLE).complete() == "file,./con"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_what_sets_a_shell_up(shell: str, run) -> None:
    script = run("completion", shell).out
    assert f"{shell}_complete" in script
    assert VARIABLE in script
    refused = run("completion", "tcsh")
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)


def test_the_scripts_are_clicks_own_but_for_what_was_changed_in_them(run) -> None:
    """A later click with other scripts would leave the changes out without a word."""
    assert "compopt -o nospace" in run("completion", "bash").out
    assert '-S "$' in run("completion", "zsh").out
    assert "string split --max 1" in run("completion", "fish").out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_itself_completes_through_the_script(run, tmp_path: Path) -> None:
    """The function that the script defines, on the words that bash makes of `symroof analyze x --with quantize:weights=4,gr`."""
    program = tmp_path / "symroof"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m symroof "$@"\n')
    program.chmod(0o755)
    (tmp_path / "setup").write_text(run("completion", "bash").out)
    words = "COMP_WORDS=(symroof analyze x --with quantize : weights = 4,gr); COMP_CWORD=8"
    asked = f'. {tmp_path}/setup; {words}; _symroof_completion symroof; echo "${{COMPREPLY[@]}}"'
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    there = subprocess.run(["bash", "--norc", "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.split() == ["4,group="]
