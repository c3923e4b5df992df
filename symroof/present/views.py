"""One function per way to look at an answer, and what each class of answers shows there.

The classes inherit these views from `symroof.answers.Answer`, which finds them here by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import singledispatch
from typing import Any, cast

from sympy import Expr

from symroof.answers import Interval
from symroof.architectures.model import Model
from symroof.architectures.step import Step
from symroof.hardware.device import Device, Figure
from symroof.hardware.machine import Machine
from symroof.notation import FIELD, Brief, prefixed, shortened
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.present import crossover_views, step_views
from symroof.present.crossover_views import plain, reasoning
from symroof.present.points import progress_bar
from symroof.present.step_views import analysis_statements, calibrated_statements, legend, provenance
from symroof.present.tabular import Column, Formula, Table
from symroof.proof.claims import Certificate
from symroof.questions.comparison import Variant
from symroof.questions.context_limit import ContextLimit, SparseContexts
from symroof.questions.crossover import Crossover
from symroof.questions.generation import Generation
from symroof.questions.payoff import Payoff
from symroof.questions.placement import Split
from symroof.questions.regimes import Regimes
from symroof.questions.required import Requirement
from symroof.questions.sensitivity import Sensitivity
from symroof.roof.analysis import Analysis, Total
from symroof.roof.energy import OperatorEnergy, StepEnergy
from symroof.roof.roofline import RooflinePoint
from symroof.symbols import Variable
from symroof.techniques.technique import Technique

__all__ = ["analysis_statements", "calibrated_statements", "legend", "progress_bar", "provenance", "reasoning"]


@singledispatch
def table(answer: object, **layout: bool) -> Table:
    """The answer as a table."""
    return Table("", (Column("answer"),), ((sentence(answer),),))


@singledispatch
def sentence(answer: object) -> str:
    """The answer in words."""
    return ", ".join(filter(None, brief(cast(Any, answer))))


@singledispatch
def latex(answer: object) -> str:
    """The answer as LaTeX."""
    return table(answer).latex()


@singledispatch
def notebook_html(answer: object) -> str | None:
    """HTML for a notebook; None where the answer has no table."""
    return table(answer).html() if table.dispatch(type(answer)) is not table.dispatch(object) else None


@singledispatch
def notebook_latex(answer: object) -> str | None:
    """LaTeX for a notebook; None where the answer has none."""
    return table(answer).latex() if table.dispatch(type(answer)) is not table.dispatch(object) else None


@singledispatch
def brief(answer: Brief) -> tuple[str, ...]:
    """What a repr says: what it is about, or "", and the parts; by default the fields that are not at their defaults, in their units."""
    own = [field for field in fields(cast(Any, answer)) if field.repr and field.name != "name"]
    given = [field.name for field in own if field.default is MISSING or getattr(answer, field.name) != field.default]
    bare = {re.sub("_exprs?$", "", name): getattr(answer, name) for name in given}
    shown = ((name, getattr(answer, name, value)) for name, value in bare.items())
    said = (f"{name} {shortened(_in_brief(value), FIELD)}" for name, value in shown if value not in (None, (), {}))
    return str(getattr(answer, "name", "")), *said


def _in_brief(value: object) -> str:
    if isinstance(value, tuple | frozenset | Mapping):
        return f"({', '.join(map(_in_brief, value))})"
    if isinstance(value, Brief):
        return brief(value)[0] or ", ".join(brief(value)[1:])
    return value.name if isinstance(value, Variable) else plain(value) if isinstance(value, Expr) else str(value)


def _figures(device: Device) -> list[str]:
    """Peak in fp16, or in the first type it has, bandwidth, and the capacity that a step has to fit."""
    kind = "fp16" if "fp16" in device.peaks else next(iter(device.peaks))
    return [f"{device.peak(kind)} {kind}", str(device.bandwidth), *([str(device.usable)] if device.usable_figure else [])]


def terminal(answer: object) -> object:
    """What rich prints: the table where there is one, else the sentence."""
    return next((view(answer) for view in (table, sentence) if view.dispatch(type(answer)) is not view.dispatch(object)), repr(answer))


table.register(Step, step_views.step_table)
table.register(Analysis, step_views.analysis_table)
table.register(StepEnergy, step_views.energy_table)
table.register(Crossover, crossover_views.derivation)
table.register(Payoff, crossover_views.payoff_table)
table.register(Regimes, crossover_views.regimes_table)
table.register(Sensitivity, crossover_views.sensitivity_table)
notebook_html.register(Analysis, lambda analysis: table(analysis, formulas=True).html())
notebook_html.register(Certificate, crossover_views.certificate_html)
notebook_html.register(Crossover, lambda _: None)  # its LaTeX has every line typeset, the table some as text
notebook_html.register(Sensitivity, lambda answer: table(answer, formulas=False).html())
notebook_latex.register(ContextLimit, lambda answer: rf"$\displaystyle S_{{\max}} = {Formula(answer.formula).latex()}$")
notebook_latex.register(Analysis, lambda analysis: table(analysis, formulas=True).latex())
notebook_latex.register(Operator, step_views.operator_latex)

sentence.register(Crossover, crossover_views.crossover_sentence)
sentence.register(Certificate, crossover_views.certificate_sentence)
sentence.register(Payoff, crossover_views.payoff_sentence)
sentence.register(SparseContexts, crossover_views.sparse_contexts_sentence)
sentence.register(Sensitivity, crossover_views.purchase_advice)
latex.register(Crossover, crossover_views.align)
latex.register(Operator, step_views.operator_latex)
latex.register(Certificate, crossover_views.certificate_latex)
notebook_latex.register(Crossover, crossover_views.aligned)

brief.register(Analysis, lambda answer: (f"of {answer.step.model}", *answer.step.given[1:], *brief(answer.total)[1:]))
brief.register(Certificate, lambda answer: ("", f"{answer.claim}: {answer.verdict}", *([f"by {answer.by}"] if answer.by else [])))
brief.register(Crossover, crossover_views.crossover_brief)
brief.register(Device, lambda device: (device.name, *_figures(device)))
brief.register(Figure, lambda figure: (figure.printed,))
brief.register(Generation, lambda made: ("", f"prompt {made.prompt} in {made.prefill_time}", f"{made.tokens} tokens in {made.time}"))
brief.register(Graph, lambda graph: ("decode" if graph.decode else "prefill", *(f"{block.name} x {block.count}" for block in graph.blocks)))
brief.register(Interval, lambda interval: (f"of {interval.over.name}", f"{interval.low} to {interval.high}", _in_brief(interval.label)))
brief.register(Machine, lambda machine: (machine.title, ", ".join(machine.peaks), ", ".join(machine.rates)))
brief.register(Model, lambda model: (model.name, f"{' '.join(prefixed(model.parameters))} parameters", f"{model.layers} layers"))
brief.register(Operator, lambda operator: (operator.name, str(operator.kind), str(operator.flops), str(operator.traffic)))
brief.register(OperatorEnergy, lambda spent: (spent.name, str(spent.joules), str(spent.power)))
brief.register(Payoff, lambda answer: (f"of {answer.part} over {answer.over.name}", sentence(answer)))
brief.register(Regimes, lambda answer: (f"over {answer.over.name}", f"knees at {', '.join(map(str, answer.knees)) or 'none'}"))
brief.register(Requirement, crossover_views.requirement_brief)
brief.register(RooflinePoint, lambda point: (point.name, *crossover_views.bounded(point), str(point.intensity)))
brief.register(Sensitivity, lambda answer: (f"of {answer.analysis.step.title}", sentence(answer)))
brief.register(SparseContexts, lambda answer: (f"over {answer.pays.over.name}", sentence(answer)))
brief.register(Split, lambda at: (f"of {len(at.places)} operators", f"{len(at.operators)} on the unit", str(at.time), str(at.speedup)))
brief.register(Step, lambda step: ("", *step.given))
brief.register(StepEnergy, lambda spent: (f"of {spent.analysis.step.title}", *brief(spent.total)[1:]))
brief.register(Table, lambda shown: (shown.title, f"{len(shown.rows)} rows", ", ".join(column.key for column in shown.columns)))
brief.register(Technique, lambda technique: (technique.text,))
brief.register(Total, lambda total: ("", *crossover_views.bounded(total), str(total.flops), str(total.traffic)))
brief.register(Variant, lambda variant: (variant.name, *brief(variant.analysis.total)[1:]))
