"""How many functions of symroof a question calls, generators and comprehensions included: work that no other process disturbs.

Run: ``python benchmarks/calls.py``. `tests/test_calls.py` bounds the same counts.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import symroof

LIBRARY = str(Path(symroof.__file__).parent) + os.sep
MODEL, DEVICE = "llama-2-7b", "a100-sxm-80gb"
INPUTS: dict[str, Any] = {"batch": 1, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}

Run = Callable[[], object]
Question = Callable[[int], Run]
"""What is asked, of a context of so many tokens; what is made before does not count."""


def calls(run: Callable[[], object]) -> int:
    """Calls of functions of the library while it runs."""
    made = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal made
        del argument
        made += event == "call" and frame.f_code.co_filename.startswith(LIBRARY)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(before)
    return made


def analyze_command(length: int) -> Run:
    """The whole command, from its options to the text of JSON."""
    from symroof.cli.main import main

    asked = f"analyze {MODEL} --hardware {DEVICE} --phase decode --seq-len {length} --format json"

    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main(asked.split())

    return run


def analyze_loaded(length: int) -> Run:
    """A step, its analysis and its record, of a model of which nothing is known but what was loaded."""
    model, device = replace(symroof.load_model(MODEL)), symroof.load_hardware(DEVICE)
    return lambda: symroof.analyze(model.decode(seq_len=length, **INPUTS), device).report().plain()


def analyze(length: int) -> Run:
    """A step and its time on a device."""
    model, device = symroof.load_model(MODEL), symroof.load_hardware(DEVICE)
    return lambda: symroof.analyze(model.decode(seq_len=length, **INPUTS), device).total.time_expr


def crossover(length: int) -> Run:
    """The crossover of a linear operator over the batch."""
    step, device = symroof.load_model(MODEL).decode(seq_len=length, **INPUTS), symroof.load_hardware(DEVICE)
    return lambda: symroof.crossover(step, "up_proj", over="batch", hardware=device)


def crossovers(length: int) -> Run:
    """The crossovers of all operators over the batch."""
    step, device = symroof.load_model(MODEL).decode(seq_len=length, **INPUTS), symroof.load_hardware(DEVICE)
    return lambda: symroof.crossovers(step, over="batch", hardware=device)


QUESTIONS: tuple[Question, ...] = (analyze_command, analyze_loaded, analyze, crossover, crossovers)


def warm(question: Question, *, again: bool = False) -> int:
    """Calls of a question after the same one of another context; with *again* after the same one of the same context."""
    question(2048 if again else 1024)()
    return calls(question(2048))


def main() -> None:
    """Print the table."""
    print(f"{'':18}{'another context':>16}{'the same again':>16}")
    for question in QUESTIONS:
        print(f"{question.__name__:18}{warm(question):>16,}{warm(question, again=True):>16,}")


if __name__ == "__main__":
    main()
