"""Words that people read, in help, pages, conventions and errors, are those of the field: a list of words that are not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from symroof.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
STOP = {
    "told": "shown, given, printed",
    "tells": "shows, gives",
    "held": "kept, compared",
    "whoever": "whichever",
    "of another making": "not from symroof",
    "in the place of": "instead of",
    "stand for": "mean",
    "stands for": "means",
    "stood for": "meant",
    "letters": "symbols",
    "spelled": "written",
    "freed": "without values",
    "set apart": "separate",
    "and else": "otherwise",
    "will do": "suffices",
    "no such thing": "name it",
}
"""Words outside the field, and what an engineer writes."""

STOPPED = re.compile(rf"\b({'|'.join(map(re.escape, STOP))})\b", re.IGNORECASE)


def commands(group: click.Group = cli) -> Iterator[tuple[str, str]]:
    """Help of every command and option."""
    for name, command in group.commands.items():
        yield f"{name} --help", " ".join((command.help or "", command.short_help or ""))
        for option in command.params:
            yield f"{name} {option.name}", getattr(option, "help", None) or ""


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def sentences(module: Path) -> Iterator[tuple[str, str]]:
    """Texts of a module that a user may see: every string of words but docstrings, and docstrings of public things."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    documented = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            documented[id(node.body[0].value)] = getattr(node, "name", "")  # pyright: ignore[reportAttributeAccessIssue]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            if not documented.get(id(node), "").startswith("_"):
                yield f"{module.relative_to(ROOT)}:{node.lineno}", node.value


PAGES = [*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
MODULES = sorted((ROOT / "symroof").rglob("*.py"))


def stopped(texts: Iterator[tuple[str, str]]) -> list[str]:
    """Where a word of the list stands, and what to write instead."""
    return [
        f"{where}: {match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 30]!r}; write {STOP[match[0].lower()]}"
        for where, text in texts
        for match in STOPPED.finditer(text)
    ]


def test_help() -> None:
    assert not stopped(commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page: Path) -> None:
    assert not stopped(iter([(page.name, prose(page))]))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_texts_of_the_code(module: Path) -> None:
    assert not stopped(sentences(module))


def test_the_list_is_looked_for() -> None:
    """A sentence with such a word is found, with what to write instead."""
    assert stopped(iter([("here", "The time is told per token.")])) == [
        "here: 'told' in 'The time is told per token.'; write shown, given, printed"
    ]
