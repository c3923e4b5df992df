"""The best points of a chunk in one pass: formulas, condition and comparison in one loop of machine code (extra ``fast``).

Condition and metrics are functions of arrays; called with `Code`, they say what they do, and that becomes the loop.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symroof.sweeps.compile import Program
from symroof.sweeps.engines import ON_FLOATS, engine_for, select
from symroof.sweeps.filter import Condition
from symroof.sweeps.grid import UNDECIDED, Chunk, Scenario
from symroof.sweeps.metrics import METRICS, TOTAL, needed
from symroof.sweeps.optimum.front import THINNED, front

ROW = 1024
"""Points whose scores are compared together: they stay in the nearest cache."""


SAMPLED = 1 << 12
"""About how many points of a chunk are compared first: most of the others are worse than one of these."""

MOST = 1 << 16
"""Points of a chunk that may be left before they are compared with one another."""

LEAST = """
row = least(_s0, size)
if row < _k1[0]:
    _j, count = 0, 1
    while _s0[_j] != row:
        _j += 1
    _k0[0], _k1[0] = first + _j, row
""".strip().splitlines()
"""After a row of scores: the first place of the least."""

AHEAD = """
x, y = least(_s0, size), least(_s1, size)
if x < inf and not (_b0[at] <= x and _b1[at] < y):
    at = before(_b0, x)
    if not (_b0[at] <= x and _b1[at] < y):
        for _j in range(size):
            x, y = _s0[_j], _s1[_j]
            if x < inf and not (_b0[at] <= x and _b1[at] < y):
                at = before(_b0, x)
                if not (_b0[at] <= x and _b1[at] < y):
                    if count < _k0.shape[0]:
                        _k0[count], _k1[count], _k2[count] = first + _j, x, y
                    count += 1
""".strip().splitlines()
"""After a row of two scores: those that no known point beats. One that beats both of the row's least scores beats all of the row, and what
beat the last often beats the next."""


@dataclass(frozen=True, eq=False)
class Code:
    """What is done to numbers, as Python.

    >>> print((Code("a") / 2 < Code("b")) & ~(Code("c") >= 0.5))
    (((a / 2.0) < b) and (not (c >= 0.5)))
    """

    text: str

    __array_ufunc__ = None
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __str__(self) -> str:
        return self.text

    def _joined(self, sign: str, other: Any) -> Code:
        return Code(f"({self} {sign} {other if isinstance(other, Code) else repr(float(other))})")

    def __truediv__(self, other: Any) -> Code:
        """A quotient."""
        return self._joined("/", other)

    def __mul__(self, other: Any) -> Code:
        """A product."""
        return self._joined("*", other)

    def __lt__(self, other: Any) -> Code:
        """Less."""
        return self._joined("<", other)

    def __le__(self, other: Any) -> Code:
        """Less or equal."""
        return self._joined("<=", other)

    def __gt__(self, other: Any) -> Code:
        """Greater."""
        return self._joined(">", other)

    def __ge__(self, other: Any) -> Code:
        """Greater or equal."""
        return self._joined(">=", other)

    def __eq__(self, other: Any) -> Any:
        """Equal."""
        return self._joined("==", other)

    def __ne__(self, other: Any) -> Any:
        """Different."""
        return self._joined("!=", other)

    def __and__(self, other: Code) -> Code:
        """Both."""
        return self._joined("and", other)

    def __or__(self, other: Code) -> Code:
        """At least one."""
        return self._joined("or", other)

    def __invert__(self) -> Code:
        """Not."""
        return Code(f"(not {self})")


@dataclass(frozen=True)
class Loop:
    """What the loop over a scenario is made of; the same for all its chunks.

    Attributes
    ----------
    axes : the letter of each variable, in the order of the grid.
    numbers : symbols with one value.
    tables : symbols that are looked up by the places of some axes.
    scores, holds, open : what is least, whether the condition holds, and whether rounding leaves that open, as Python.
    """

    program: Program
    axes: tuple[str, ...]
    numbers: tuple[str, ...]
    tables: tuple[tuple[str, tuple[int, ...]], ...]
    scores: tuple[str, ...]
    holds: str
    open: str


def loop_of(scenario: Scenario, names: Sequence[str], signs: Mapping[str, int], condition: Condition | None) -> Loop | None:
    """The loop of a scenario over these variables; None where a metric is more than arithmetic."""
    program, formulas = scenario.programs[TOTAL], needed(scenario.metrics)
    values: dict[str, Any] = {name: Code(scenario.letters[name]) for name in names}
    close: list[str] = []
    for name in scenario.metrics:
        metric = METRICS[name]
        operands = [Code(f"_r{formulas.index(formula)}") for formula in metric.formulas]
        if metric.words and len(operands) > 2:
            return None
        values[name] = metric.value(*operands)
        if metric.words:
            first, second = operands
            close.append(f"(abs({first} - {second}) <= {UNDECIDED!r} * max({first}, {second}))")
    axes = tuple(scenario.letters[name] for name in names)
    by_width = tuple(axes.index(letter) for letter in scenario.widths)
    tables = tuple((letter, by_width) for letter in scenario.peaks if letter in program.inputs and by_width)
    given = (*axes, *(letter for letter, _ in tables))
    numbers = tuple(letter for letter in program.inputs if letter not in given)
    scores = tuple(f"{sign} * {values[name]}" for name, sign in signs.items())
    holds = str(condition(values)) if condition else "True"
    return Loop(program, axes, numbers, tables, scores, holds, " or ".join(close) or "False")


def best_of(chunk: Chunk, loop: Loop) -> list[np.ndarray] | None:
    """Places in a chunk, and scores: of one, the best point; of two, the points that none of a first sample beats.

    None where rounding leaves the condition open, or too many points are left.

    Raises
    ------
    OverflowError
        A result is larger than a float64.
    """
    if len(loop.scores) == 1:
        return _points(chunk, loop)
    beats_none = [np.full(1, np.inf)] * 2
    sample = _points(chunk.thinned(max(THINNED, math.prod(chunk.shape) // SAMPLED)), loop, beats_none)
    if sample is None:
        return None
    _, *scores = sample
    ahead = front(scores)
    return _points(chunk, loop, [score[ahead] for score in scores] if ahead.size else beats_none)


def _points(chunk: Chunk, loop: Loop, known: Sequence[np.ndarray] = ()) -> list[np.ndarray] | None:
    """The best point, or the points that none of the *known* ones beats."""
    scenario = chunk.scenario
    values = [np.ascontiguousarray(np.ravel(array), dtype=np.float64) for array in chunk.values.values()]
    places = [
        np.searchsorted(scenario.widths[letter], np.ravel(array)) if letter in scenario.widths else np.zeros(1, dtype=np.intp)
        for letter, array in zip(loop.axes, chunk.values.values(), strict=True)
    ]
    given = {**scenario.constants, **scenario.peaks}
    numbers = [float(np.asarray(given[letter]).item()) for letter in loop.numbers]
    tables = [np.ascontiguousarray(scenario.peaks[letter], dtype=np.float64) for letter, _ in loop.tables]
    rows = [np.empty(ROW) for _ in loop.scores]
    kept = [np.empty(MOST if known else 1, dtype=kind) for kind in (np.int64, *(np.float64 for _ in loop.scores))]
    count, bad, undecided = compiled(loop)(*numbers, *values, *places, *tables, *rows, *known, *kept)
    if bad:
        raise OverflowError(f"{scenario.model} on {scenario.hardware}: a result is larger than a float64 can be")
    return None if undecided or count > len(kept[0]) else [one[:count] for one in kept]


@functools.lru_cache(maxsize=256)
def compiled(loop: Loop) -> Callable[..., tuple[int, int, int]]:
    """Machine code for it."""
    engine_for("numba", 0)
    import numba

    least, before = numba.njit(fastmath={"nnan", "nsz"}, nogil=True)(_least), numba.njit(nogil=True)(_before)
    scope: dict[str, Any] = loop.program.scope(float) | ON_FLOATS
    scope |= {"inf": math.inf, "range": range, "abs": abs, "select": numba.njit(select), "least": least, "before": before}
    exec(source(loop), scope)  # noqa: S102 -- printed by `program`, `Code` and `source`
    return numba.njit(nogil=True, error_model="numpy")(scope["best"])


def _least(scores: np.ndarray, count: int) -> float:
    """The least of the first scores: of every fourth by itself, so that no comparison waits for the one before."""
    least, second, third, fourth = math.inf, math.inf, math.inf, math.inf
    whole = count - count % 4
    for place in range(0, whole, 4):
        least = min(least, scores[place])
        second = min(second, scores[place + 1])
        third = min(third, scores[place + 2])
        fourth = min(fourth, scores[place + 3])
    for place in range(whole, count):
        least = min(least, scores[place])
    return min(least, second, third, fourth)


def _before(rising: np.ndarray, value: float) -> int:
    """The place of the last that is not larger than a value, or the first place."""
    low, high = 0, rising.shape[0]
    while low < high:
        middle = (low + high) // 2
        if rising[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, 0)


def source(loop: Loop) -> str:
    """The loop as Python: all axes but the last outside, rows of the last one inside."""
    *outer, last = range(len(loop.axes))
    given = [f"_x{at}" for at in range(len(loop.axes))] + [f"_p{at}" for at in range(len(loop.axes))]
    lines = ["bad, undecided, first, count = 0, 0, 0, 0", *(["_k1[0] = inf"] if len(loop.scores) == 1 else ["at = 0"])]
    indent = ""
    looked_up = {letter: f"_t{place}[{', '.join(f'_p{at}[_i{at}]' for at in along)}]" for place, (letter, along) in enumerate(loop.tables)}
    depth = {letter: max(along) for letter, along in loop.tables}
    for at in outer:
        lines += [f"{indent}for _i{at} in range(_x{at}.shape[0]):", f"{indent}    {loop.axes[at]} = _x{at}[_i{at}]"]
        indent += "    "
        lines += [f"{indent}{letter} = {table}" for letter, table in looked_up.items() if depth[letter] == at]
    lines += [f"{indent}for _start in range(0, _x{last}.shape[0], {ROW}):", f"{indent}    size = min({ROW}, _x{last}.shape[0] - _start)"]
    inner = indent + "        "
    lines += [f"{indent}    _row = _x{last}[_start : _start + size]"]  # its places need no look at their sign, so that it is read in order
    lines += [f"{indent}    for _j in range(size):", f"{inner}{loop.axes[last]} = _row[_j]"]
    at_last = [f"{letter} = {table}" for letter, table in looked_up.items() if depth[letter] == last]
    lines += [f"{inner}{line}" for line in ([f"_i{last} = _start + _j", *at_last] if at_last else [])]
    lines += [f"{inner}{line}" for line in loop.program.lines]
    lines += [f"{inner}_r{place} = {result}" for place, result in enumerate(loop.program.outputs)]
    finite = " & ".join(f"(_r{place} < inf)" for place in range(len(loop.program.outputs)))
    lines += [f"{inner}bad += 0 if {finite} else 1", f"{inner}undecided += 1 if {loop.open} else 0"]
    lines += [f"{inner}_s{place}[_j] = {score} if {loop.holds} else inf" for place, score in enumerate(loop.scores)]
    lines += [f"{indent}    {line}" for line in (LEAST if len(loop.scores) == 1 else AHEAD)]
    lines += [f"{indent}    first += size"]
    body = "\n".join(f"    {line}" for line in [*lines, "return count, bad, undecided"])
    given += [f"_t{place}" for place in range(len(loop.tables))]
    count = len(loop.scores)
    for letter, several in (("s", count), ("b", count if count > 1 else 0), ("k", count + 1)):
        given += [f"_{letter}{place}" for place in range(several)]
    return f"def best({', '.join([*loop.numbers, *given])}):\n{body}"
