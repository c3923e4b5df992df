"""Helpers every test may use."""

from __future__ import annotations

import csv
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from symroof.cli.main import main

DATA = Path(__file__).parent / "data"
collect_ignore = ["data", "notebooks", "typing"]

settings.register_profile("unhurried", deadline=None)  # speed is measured in benchmarks/
settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first case of every test is quick, unless the test is marked slow: together they touch every room."""
    met: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test not in met and item.get_closest_marker("slow") is None:
            item.add_marker("quick")
        met.add(test)


def rows(name: str) -> list[dict[str, str]]:
    """A reference table."""
    with (DATA / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


@dataclass
class Run:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Call the command in this process; as in a pipe, where lines are not folded."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: object) -> Run:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Run(stop.value.code, captured.out, captured.err)

    yield call
    gc.enable()
