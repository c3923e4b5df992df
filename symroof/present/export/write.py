"""Writing a step's formulas: by language, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from symroof.deployment.exported import Exported
from symroof.errors import InputError, member, quote
from symroof.files import check_writable, writing
from symroof.present.export.languages import c, javascript, python
from symroof.present.export.spreadsheet import spreadsheet
from symroof.present.records import analysis_report
from symroof.present.report import Layout
from symroof.roof.analysis import analyze


def latex(exported: Exported) -> str:
    """A document with the roofline of the step, every operator's formulas in symbols, what they mean, and the conventions."""
    analysis = analyze(exported.step, exported.device, ceilings=exported.ceilings)
    body = analysis_report(analysis, formulas=True).render("latex", Layout(conventions=True))
    packages = r"\usepackage{amsmath,array,booktabs,graphicx,longtable}"
    return "\n".join((r"\documentclass{article}", packages, r"\begin{document}", body, r"\end{document}", ""))


TEXTS: dict[str, Callable[[Exported], str]] = {"js": javascript, "c": c, "python": python, "latex": latex}
XLSX = "xlsx"
LANGUAGES = (*TEXTS, XLSX)
ENDINGS = {".js": "js", ".mjs": "js", ".c": "c", ".h": "c", ".py": "python", ".tex": "latex", ".xlsx": XLSX}


def language_of(to: str | None, path: Path | None) -> str:
    """The language asked for, or that of the file's ending.

    Raises
    ------
    InputError
        There is no such language, the ending names none, or a spreadsheet has no file to go to.
    """
    if to is None:
        if path is None:
            raise InputError(f"to: expected one of {', '.join(LANGUAGES)}, or a file with one of their endings")
        if path.suffix.lower() not in ENDINGS:
            raise InputError(f"output {quote(str(path))}: the ending names no language; known: {', '.join(ENDINGS)}; or give one")
        return ENDINGS[path.suffix.lower()]
    member("to", to, LANGUAGES)
    if to == XLSX and path is None:
        raise InputError("to 'xlsx': a spreadsheet goes to a file; give one")
    return to


def export(exported: Exported, to: str | None = None, path: str | Path | None = None) -> str | None:
    """The formulas as text in a language, or written to a file.

    Parameters
    ----------
    exported : what `symroof.exported` gives.
    to : "js", "c", "python", "latex" or "xlsx"; left out, what the file's ending says.
    path : the file; left out, the text is returned.

    Raises
    ------
    InputError
        As for `language_of`; or the file cannot be written, or openpyxl is missing.

    >>> import symroof
    >>> found = symroof.exported(symroof.load_model("opt-125m").decode(batch=1, seq_len=64), "t4")
    >>> text = symroof.export(found, "python")
    >>> "def formulas(bandwidth=" in text, "import symroof" in text
    (True, False)
    """
    path = None if path is None else Path(path)
    language = language_of(to, path)
    if path is None:
        return TEXTS[language](exported)
    check_writable(path)
    with writing(path) as place:
        if language == XLSX:
            spreadsheet(exported, place)
        else:
            place.write_text(TEXTS[language](exported), encoding="utf-8")
    return None
