"""Words that people read, in help, pages, conventions, errors and docstrings, are those of the field: a list of words that are not."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from symroof.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "symroof"
STOP = {
    "and else": "otherwise",
    "besides": "also, in addition to, except",
    "freed": "without a value, released",
    "held": "kept, fixed, compared",
    "in the place of": "instead of",
    "letters": "symbols; characters of a name",
    "no such thing": "the name of the thing",
    "of another making": "not from symroof",
    "set apart": "separate",
    "spelled": "written",
    "spelling": "name",
    "stand for": "mean",
    "stands for": "means",
    "stood for": "meant",
    "stretch": "interval",
    "stretches": "intervals",
    "tell": "show, distinguish, determine",
    "tells": "shows, gives",
    "told": "shown, given, printed",
    "whoever": "whichever",
    "will do": "suffices",
}
"""Words outside the field, and what an engineer writes."""

STOPPED = re.compile(rf"\b({'|'.join(map(re.escape, sorted(STOP, key=len, reverse=True)))})\b", re.IGNORECASE)

CODE = re.compile(r"```.*?```|``[^`]*``|`[^`\n]*`|^ *>>> .*?$|^ *[\w, ]+ : |\*\w+\*|letters, digits", re.DOTALL | re.MULTILINE)
"""Code within prose, names of parameters, and what the syntax of a symbol is said to be."""


def commands(group: click.Group = cli) -> Iterator[tuple[str, str]]:
    """Help of every command and option."""
    for name, command in group.commands.items():
        yield f"{name} --help", " ".join((command.help or "", command.short_help or ""))
        for option in command.params:
            yield f"{name} {option.name}", getattr(option, "help", None) or ""


def sentences(module: Path) -> Iterator[tuple[str, str]]:
    """Texts of a module that a user may see: every string of words, except docstrings of private functions."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    documented = {
        id(node.body[0].value): node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not documented.get(id(node), "").startswith("_"):
            yield f"{module.relative_to(ROOT)}:{node.lineno}", node.value if " " in node.value.strip() else ""


def notes(file: Path) -> Iterator[tuple[str, str]]:
    """Notes on the fitted constants of a device."""
    for kernel in tomllib.loads(file.read_text(encoding="utf-8"))["kernel"]:
        yield from ((file.name, note) for note in kernel.get("notes", []))


def stopped(texts: Iterator[tuple[str, str]]) -> list[str]:
    """Where a word of the list stands, and what to write instead."""
    return [
        f"{where}: {match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 30]!r}; write {STOP[match[0].lower()]}"
        for where, whole in texts
        for text in [CODE.sub("", whole)]
        for match in STOPPED.finditer(text)
    ]


def test_help() -> None:
    assert stopped(commands()) == []


PAGES = [*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]


def test_pages() -> None:
    assert len(PAGES) > 10
    assert stopped((page.name, page.read_text(encoding="utf-8")) for page in PAGES) == []


def test_notes_of_constants() -> None:
    files = sorted((PACKAGE / "hardware" / "constants").glob("*.toml"))
    assert files
    assert stopped(note for file in files for note in notes(file)) == []


@pytest.mark.parametrize("room", [".", *sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))])
def test_texts_of_the_code(room: str) -> None:
    modules = sorted(PACKAGE.glob("*.py") if room == "." else (PACKAGE / room).rglob("*.py"))
    assert modules
    assert stopped(text for module in modules for text in sentences(module)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The time is told per token.", ["told"]),
        ("`told` and\n    held : fixed values, in letters", ["letters"]),
        ("Set apart.", ["Set apart"]),
    ],
)
def test_the_list_is_looked_for(text: str, words: list[str]) -> None:
    """A sentence with such a word is found, code and names of parameters are not."""
    assert [re.findall("'(.*?)'", line)[0] for line in stopped(iter([("here", text)]))] == words
