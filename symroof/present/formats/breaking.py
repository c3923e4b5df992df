r"""Long formulas of LaTeX over several lines, for documents without breqn.

A line ends before a plus, a minus or a relation, preferably outside of parentheses; a fraction that is wider than the line is written with
a slash. Widths are estimated in em of Computer Modern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LINE = 31.0
"""Em of a line of a derivation in an article."""

_TOKEN = re.compile(r"\\begin\{(\w+)\}.*?\\end\{\1\}|\\(?:left|right|bigl|bigr)(?:\\?.)|\\[a-zA-Z]+|\\.|[^\s]|\s+", re.DOTALL)
_BINARY, _RELATIONS = ("+", "-"), ("=", "<", ">", r"\leq", r"\geq", r"\le", r"\ge", r"\neq", r"\iff", r"\wedge", r"\vee", r"\lt", r"\gt")
_SPACES = {r"\,": 0.17, r"\ ": 0.33, r"\quad": 1.0, r"\qquad": 2.0, r"\:": 0.22, r"\;": 0.28, r"\displaystyle": 0, r"\big": 0}


@dataclass(frozen=True)
class _Atom:
    """A piece that is never broken, its width, and what it is: "" for a factor."""

    text: str
    width: float
    kind: str = ""
    parts: tuple[str, ...] = ()


def _group(source: str, start: int) -> tuple[str, int]:
    """What is between the braces that open at *start*, or the one piece there; and where it ends."""
    if source[start] != "{":
        piece = _TOKEN.match(source, start)
        assert piece is not None
        return piece[0], piece.end()
    depth, place = 0, start
    while True:
        depth += {"{": 1, "}": -1}.get(source[place], 0) if source[place - 1 : place] != "\\" else 0
        place += 1
        if depth == 0:
            return source[start + 1 : place - 1], place


def _atoms(source: str) -> list[_Atom]:
    found: list[_Atom] = []
    place = 0
    while place < len(source):
        match = _TOKEN.match(source, place)
        assert match is not None
        piece, place = match[0], match.end()
        if piece in "^_":
            body, place = _group(source, place)
            last = found.pop() if found else _Atom("", 0)
            found.append(_Atom(f"{last.text}{piece}{{{body}}}", last.width + 0.7 * em(body), last.kind, ()))
        elif piece == r"\frac":
            above, place = _group(source, place)
            below, place = _group(source, place)
            found.append(_Atom(rf"\frac{{{above}}}{{{below}}}", max(em(above), em(below)) + 0.24, "fraction", (above, below)))
        elif piece == "{" or (re.fullmatch(r"\\[a-zA-Z]+", piece) and source[place : place + 1] == "{"):
            body, place = _group(source, place - (piece == "{"))
            name = "" if piece == "{" else piece
            if name == r"\text":
                found += [_Atom(rf"\text{{{word}}}", 0.48 * len(word), "word") for word in re.findall(r"\S+\s*|\s+", body)]
            else:
                found.append(_Atom(f"{name}{{{body}}}", em(body)))
        elif piece.isspace():
            found.append(_Atom(" ", 0, "space"))
        else:
            found.append(_Atom(piece, *_symbol(piece)))
    return found


def _symbol(piece: str) -> tuple[float, str]:
    """Width and kind of one sign, letter or command."""
    if piece.startswith(r"\begin"):
        return max(map(em, re.sub(r"\\(begin|end)\{\w+\}", "", piece).split(r"\\"))) + 1, "block"
    cases = (
        (piece in _BINARY, 1.22, "sign"),
        (piece in _RELATIONS, 1.33, "relation"),
        (piece == "/", 0.5, "slash"),
        (piece in _SPACES, _SPACES.get(piece, 0), "space"),
        (piece in "([" or piece.startswith((r"\left", r"\bigl")), 0.46, "open"),
        (piece in ")]" or piece.startswith((r"\right", r"\bigr")), 0.46, "close"),
        (piece.isupper(), 0.75, ""),
        (piece.startswith("\\"), 0.62, ""),
    )
    return next(((width, kind) for applies, width, kind in cases if applies), (0.5, ""))


def em(source: str) -> float:
    r"""About how wide a formula is.

    >>> em("a b"), em(r"\frac{a b}{c}"), em("a + b")
    (1.0, 1.24, 2.2199999999999998)
    """
    return sum(atom.width for atom in _atoms(source))


def loosened(source: str, width: float) -> str:
    r"""A formula that a paragraph or a cell of a *width* in em can break.

    >>> loosened(r"\frac{a + b}{c + d}", 10), loosened(r"\frac{a + b}{c + d}", 2)
    ('\\frac{a + b}{c + d}', '\\bigl(a + b\\bigr) / \\bigl(c + d\\bigr)')
    """
    if em(source) <= width:
        return source
    atoms = _flat(source, width)
    pairs = zip(atoms, [*atoms[1:], _Atom("", 0, "end")], strict=True)
    between = {("", ""), ("", "open"), ("close", "open"), ("close", "")}
    visible = [atom.kind for atom in atoms if atom.kind != "space"]
    kinds = iter(zip(visible, [*visible[1:], "end"], strict=True))
    pieces = []
    for atom, following in pairs:
        pieces.append(atom.text)
        if atom.kind != "space" and next(kinds) in between and following.kind == "space":
            pieces.append(r"\penalty900")  # between two factors, where no sign is near
    return "".join(pieces)


def _flat(source: str, width: float) -> list[_Atom]:
    """The atoms, fractions that are too wide with a slash, and parentheses that may be on different lines."""
    flat: list[_Atom] = []
    for atom in _atoms(source):
        if atom.kind == "fraction" and atom.width > width:
            above, below = (rf"\bigl({part}\bigr)" if _is_sum(part) else part for part in atom.parts)
            flat += _flat(f"{above} / {below}", width)
        elif atom.kind in ("open", "close") and atom.text.startswith((r"\left", r"\right")) and not atom.text.endswith("."):
            flat.append(_Atom(atom.text.replace(r"\left", r"\bigl").replace(r"\right", r"\bigr"), atom.width, atom.kind))
        else:
            flat.append(atom)
    return flat


def _is_sum(source: str) -> bool:
    kinds = [atom.kind for atom in _atoms(source) if atom.kind != "space"]
    return "sign" in kinds[1:] or len(kinds) > 1


def broken(source: str, width: float = LINE) -> list[str]:
    r"""A formula in lines of about a *width* in em.

    >>> broken("a + b = c + d", 5)
    ['a + b', '= c + d']
    """
    if em(source) <= width:
        return [source]
    lines: list[list[_Atom]] = [[]]
    for atom in _flat(source, width):
        lines[-1].append(atom)
        if sum(one.width for one in lines[-1]) > width - (len(lines) > 1) and (place := _best_end(lines[-1], width)):
            lines[-1:] = [lines[-1][:place], lines[-1][place:]]
    return ["".join(atom.text for atom in line).strip().replace(" }\\text{", " ") for line in lines]


def _best_end(line: list[_Atom], width: float) -> int:
    """Where a line of which a third is used ends best: outside of parentheses, at a relation, late; otherwise late; 0 if nowhere."""
    ends: list[tuple[int, float, int]] = []
    depth, used, before = 0, 0.0, "open"
    for place, atom in enumerate(line):
        depth += {"open": 1, "close": -1}.get(atom.kind, 0)
        if atom.kind in ("sign", "relation", "word") and before not in ("open", "sign", "relation") and place:
            ends.append((2 * -depth + (atom.kind == "relation") if used > width / 3 else -99, used, place))
        used += atom.width
        before = before if atom.kind == "space" else atom.kind
    return max(ends)[2] if ends else 0
