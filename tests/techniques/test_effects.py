"""The table of docs/techniques.md, every figure of the gallery, and the effects they show: all follow from the rewrites."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sympy import Expr, Integer, Rational

import symroof
from symroof.present.technique_figures import AFTER, BEFORE, TechniquePlate
from symroof.present.techniques import effect_table, technique_report
from symroof.questions.payoff import LOSES, PAYS, SAME
from symroof.questions.technique_effect import _ratio, effect_of, fixed
from symroof.techniques.registry import family_of, names, technique, technique_class

ROOT = Path(__file__).parent.parent.parent
ATTENTION = {"qk_matmul", "softmax", "sv_matmul", "fused_attention"}
WITH_EDGES = {"quantize", "sparsify", "low-rank", "flash-decoding", "offload", "tensor-parallel", "scale-hardware", "pim", "memory-levels"}
"""Techniques that begin or end to pay within their picture."""
PAGE = (ROOT / "docs" / "techniques.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_technique_is_whole_and_does_what_is_said(name: str) -> None:
    """One test a technique: what is derived from its example is derived once."""
    the_files_are_there(name)
    the_docs_say_what_the_rewrite_does(name)
    where_it_pays_agrees_with_the_analysis(name)
    the_figure_shows_the_points_and_the_crossover(name)


def the_docs_say_what_the_rewrite_does(name: str) -> None:
    row = next(line for line in effect_table([name]).markdown().splitlines() if line.startswith(f"| {name} |"))
    assert row in PAGE, "run: symroof techniques --effects --format markdown, and put it into docs/techniques.md"
    words = re.sub(r"\$[^$]*\$", "", row)
    assert not re.search(r"\\\*|\w/\w|\b[a-zA-Z]+_[a-zA-Z]\b", words), "formulas are typeset, words are not"


def test_the_docs_table_has_every_technique_once() -> None:
    told = re.findall(r"^\| ([a-z0-9-]+) \|", PAGE.partition("<!-- effects -->")[2], re.MULTILINE)
    assert told[2:] == [*names()], "after the heading"


def the_files_are_there(name: str) -> None:
    kind = technique_class(name)
    assert kind.name == name
    assert kind.summary
    assert ">>>" in (kind.__doc__ or ""), "an example that runs"
    assert (ROOT / "derivations" / "techniques" / f"{name.replace('-', '_')}.py").exists()
    assert (ROOT / "symroof" / "techniques" / family_of(name) / f"{name.replace('-', '_')}.py").exists()
    assert technique_report(name)


def where_it_pays_agrees_with_the_analysis(name: str) -> None:
    """At points inside every stretch the exact analysis of both steps says the same."""
    effect = effect_of(technique_class(name))
    found, over = effect.payoff, effect.example.over
    before, after = effect.pair(over=True)
    for stretch in found.intervals:
        high = stretch.high_expr if stretch.high_expr.is_finite else stretch.low_expr + 100
        if found.over.domain == "integer" and high - stretch.low_expr < 2:
            continue
        middle = (stretch.low_expr + high) / 2
        at = Integer(int(middle)) if found.over.domain == "integer" else _rational(middle)
        seconds = []
        for step in (before, after):
            analysis = symroof.analyze(fixed(step, over, at), effect.example.hardware)
            time = sum(point.count_expr * point.time_expr for point in analysis if is_of(point.name, effect.example.part))
            assert time > 0
            seconds.append(time / analysis.graph.tokens)
        gain = seconds[0] - seconds[1]
        assert {PAYS: gain > 0, LOSES: gain < 0, SAME: gain == 0}[stretch.bound], (name, stretch, at, gain)


def is_of(name: str, part: str) -> bool:
    """Whether an operator is of the part, by what its name is made of: ``a+b`` fused, ``draft.up_proj``, ``up_proj.first``."""
    pieces = {piece for member in name.split("+") for piece in member.split(".")}
    return part == "total" or bool(pieces & (ATTENTION if part == "attention" else {*part.split("+")}))


def _rational(value: Expr) -> Expr:
    return value if value.is_Rational else Rational(str(value.evalf(12)))


def the_figure_shows_the_points_and_the_crossover(name: str) -> None:
    plate = TechniquePlate(name)
    figure = plate.draw()
    left, right = figure.axes[:2]
    assert {BEFORE, AFTER} <= {line.get_gid() for line in left.lines}
    drawn = {line.get_gid(): line for line in right.lines}
    if name == "energy":
        assert {"arch line", "ridge of time", "half of the best"} <= drawn.keys()
        return
    assert {f"time {BEFORE}", f"time {AFTER}"} <= drawn.keys()
    low, high = (end(drawn[f"time {BEFORE}"].get_xdata()) for end in (min, max))
    inside = sorted(float(edge) for edge in plate.effect.payoff.edges_expr if edge.is_finite and low < edge <= high)
    marked = sorted(float(line.get_xdata()[0]) for gid, line in drawn.items() if gid and gid.startswith("edge"))
    assert marked == pytest.approx(inside, rel=1e-12)
    assert name not in WITH_EDGES or inside
    assert plate.formula[-1] in figure._supxlabel.get_text().replace("\n", " ")


def test_techniques_compose() -> None:
    """A chain of rewrites gives a step every command can take; orders that should not matter do not."""
    step = symroof.load_model("llama-3-8b").decode(batch=8, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
    one = step.apply(technique("quantize:weights=4,group=128"), technique("quantize:kv=8"))
    other = step.apply(technique("quantize:kv=8"), technique("quantize:weights=4,group=128"))
    times = [symroof.analyze(each, "h100-sxm").total.time_expr for each in (one, other)]
    assert times[0] == times[1] < symroof.analyze(step, "h100-sxm").total.time_expr


def test_what_does_no_work_before_and_after_is_as_it_was() -> None:
    assert _ratio(Integer(0), Integer(0)) == 1
    assert _ratio(Integer(4), Integer(3)) == Rational(3, 4)
