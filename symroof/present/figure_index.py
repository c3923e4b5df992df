"""The figures of `paper_figures/`: found, drawn, and laid out side by side on a page.

A figure is a module with ``TITLE``, ``data(accounting)`` that returns labelled series, ``draw(accounting)``
that returns a matplotlib figure, and ``formula()``, the closed form in LaTeX and in words.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from symroof.errors import InputError, quote
from symroof.files import writing
from symroof.present.series import Series, as_csv
from symroof.present.technique_figures import TechniquePlate
from symroof.techniques.registry import names as techniques

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCOUNTINGS = ("survey", "exact")
SAID = {"survey": "as published", "exact": "exact"}


def figures_folder() -> Path:
    """The folder of figure modules: in the wheel, or beside the package in a checkout."""
    installed = Path(str(files("symroof"))) / "paper_figures"
    return installed if installed.is_dir() else installed.parent.parent / "paper_figures"


@functools.cache
def names() -> dict[str, Path]:
    """Every figure and table by its short name: fig08, table1."""
    return {path.stem.partition("_")[0]: path for path in sorted(figures_folder().glob("[a-z]*.py"))}


@dataclass(frozen=True)
class Plate:
    """One figure of the survey: the closed form behind it, a line each, its numbers and its picture in an accounting; and in which
    accountings it can be drawn, of which a diagram of device data has one.
    """

    name: str
    title: str
    formula: tuple[str, ...]
    data: Callable[[str], Sequence[Series]]
    draw: Callable[[str], Figure]
    accountings: tuple[str, ...]


def everything() -> tuple[str, ...]:
    """The survey's figures, and those it did not draw: one for every technique."""
    return (*names(), *techniques())


def load(name: str) -> Plate | TechniquePlate:
    """The figure of that name, or that of a technique.

    Raises
    ------
    InputError
        There is none; the message lists the known ones.

    >>> load("fig05").name
    'fig05'
    >>> load("fig99")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: figure 'fig99' is not among the survey's figures redrawn here; known: ...
    """
    if name in techniques():
        return TechniquePlate(name)
    if name not in names():
        known = f"known: {', '.join(names())}, and the techniques of `symroof techniques`"
        raise InputError(f"figure {quote(name)} is not among the survey's figures redrawn here; {known}")
    path = names()[name]
    spec = importlib.util.spec_from_file_location(f"symroof_figure_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    formula, accountings = tuple(module.formula()), getattr(module, "ACCOUNTINGS", ACCOUNTINGS)
    return Plate(name, module.TITLE, formula, module.data, module.draw, accountings)


def save(plates: Sequence[Plate | TechniquePlate], folder: Path, form: str, accountings: Sequence[str]) -> Iterator[str]:
    """Write every figure and its data, then the page; yields a line about each file.

    Raises
    ------
    InputError
        The folder cannot be made or written; nothing is drawn before that is known.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"folder {quote(str(folder))} cannot be written: {error.strerror or error}") from None
    for plate in plates:
        for accounting in (one for one in plate.accountings if one in accountings):
            stem = f"{plate.name}_{accounting}"
            with writing(folder / f"{stem}.{form}", "figure") as path:
                plate.draw(accounting).savefig(path, format=form, dpi=160)
            with writing(folder / f"{stem}.csv", "figure") as path:
                path.write_text(as_csv(plate.data(accounting), accounting) + "\n")
            yield f"{stem}.{form}"
    with writing(folder / "index.html", "page") as path:
        path.write_text(page(plates, form, accountings), encoding="utf-8")
    yield "index.html"


def page(plates: Sequence[Plate | TechniquePlate], form: str, accountings: Sequence[str]) -> str:
    """The index: published and exact side by side, with the formula under each."""
    frame = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    return frame.substitute(plates="\n".join(_plate(plate, form, accountings) for plate in plates)).rstrip()


def _plate(plate: Plate | TechniquePlate, form: str, accountings: Sequence[str]) -> str:
    pictures = ""
    for accounting in (one for one in plate.accountings if one in accountings):
        stem, said = f"{plate.name}_{accounting}", SAID[accounting]
        source, alt = f"{stem}.{form}", escape(f"{plate.title}, {said}")
        image = f'<a href="{source}">{alt}</a>' if form == "pdf" else f'<img src="{source}" alt="{alt}"/>'
        pictures += f'<figure>{image}<figcaption>{said} · <a href="{stem}.csv">data</a></figcaption></figure>'
    lines = "".join(f"<li>{escape(line)}</li>" for line in plate.formula)
    return f'<h2 id="{plate.name}">{escape(plate.title)}</h2>\n<div class="pair">{pictures}</div>\n<ul>{lines}</ul>'
