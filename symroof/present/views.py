"""One function per way to look at an answer, and what each class of answers shows there.

The classes inherit these views from `symroof.answers.Answer`, which finds them here by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from functools import partial, singledispatch
from typing import Any, cast

from sympy import Expr

from symroof.answers import Interval, Intervals
from symroof.architectures.model import Model
from symroof.architectures.step import Step
from symroof.deployment.exported import Exported
from symroof.hardware.device import Device, Figure
from symroof.hardware.machine import Machine
from symroof.notation import FIELD, Brief, prefixed, shortened
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.present import answers, comparison, crossover_views, records, step_views
from symroof.present.crossover_views import plain, reasoning
from symroof.present.formats.sections import Lines
from symroof.present.points import progress_bar
from symroof.present.report import Report
from symroof.present.serving import ablations, experts, full_memory, lines, load, money, promises, regime_maps, splits
from symroof.present.serving import plan as plans
from symroof.present.step_views import analysis_statements, calibrated_statements, legend, provenance
from symroof.present.tabular import Formula, Table, number
from symroof.proof.claims import Certificate
from symroof.questions.capacity import Largest
from symroof.questions.comparison import Comparison, Variant
from symroof.questions.context_limit import ContextLimit, SparseContexts
from symroof.questions.crossover import Crossover, Crossovers
from symroof.questions.generation import Generation
from symroof.questions.payoff import BreakEven, Payoff
from symroof.questions.placement import Split
from symroof.questions.regimes import Regimes
from symroof.questions.required import Requirement
from symroof.questions.scaling import Curve
from symroof.questions.sensitivity import Sensitivity
from symroof.roof.analysis import Analysis, Total
from symroof.roof.energy import OperatorEnergy, StepEnergy
from symroof.roof.roofline import RooflinePoint
from symroof.serving.plan import Plan
from symroof.serving.planned import Planned
from symroof.symbols import Variable
from symroof.techniques.technique import Technique

__all__ = ["analysis_statements", "calibrated_statements", "legend", "progress_bar", "provenance", "reasoning"]


def has(view: Any, answer: object) -> bool:
    """Whether a view is registered for the class of an answer."""
    return view.dispatch(type(answer)) is not view.dispatch(object)


@singledispatch
def report(answer: object) -> Report:
    """The answer in full: what the command prints, and every format of it; the other views are parts of it where it is registered."""
    if has(table, answer):
        return Report((table(answer),))
    return Report((Lines((sentence(answer),)),), record=lambda: _plain(answer))


@singledispatch
def table(answer: object, **layout: bool) -> Table:
    """The answer as a table."""
    return report(answer).table


@singledispatch
def sentence(answer: object) -> str:
    """The answer in words."""
    return "; ".join(map(str, report(answer).words)) if has(report, answer) else ", ".join(filter(None, brief(cast(Any, answer))))


@singledispatch
def latex(answer: object) -> str:
    """The answer as LaTeX."""
    return report(answer).render("latex")


@singledispatch
def notebook_html(answer: object) -> str | None:
    """HTML for a notebook."""
    return table(answer).html() if has(table, answer) else report(answer)._repr_html_()


@singledispatch
def notebook_latex(answer: object) -> str | None:
    """LaTeX for a notebook."""
    return latex(answer)


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers bare, an answer by its fields."""
    if isinstance(value, Mapping):
        return {_key(name): _plain(part) for name, part in value.items()}
    if isinstance(value, Expr):
        return number(value) if value.is_number and value.is_finite else str(value)
    if isinstance(value, tuple | frozenset):
        return [_plain(part) for part in value]
    if isinstance(value, Brief) and not isinstance(value, Variable | Step | Device):
        return {_key(field.name): _plain(getattr(value, field.name)) for field in fields(cast(Any, value)) if field.repr}
    return value if value is None or isinstance(value, bool | int | float) else getattr(value, "name", str(value))


def _key(name: object) -> str:
    return re.sub("_exprs?$", "", str(name))


@singledispatch
def brief(answer: Brief) -> tuple[str, ...]:
    """What a repr says: what it is about, or "", and the parts; by default the fields that are not at their defaults, in their units."""
    own = [field for field in fields(cast(Any, answer)) if field.repr and field.name != "name"]
    given = [field.name for field in own if field.default is MISSING or getattr(answer, field.name) != field.default]
    bare = {_key(name): getattr(answer, name) for name in given}
    shown = ((name, getattr(answer, name, value)) for name, value in bare.items())
    said = (f"{name} {shortened(_in_brief(value), FIELD)}" for name, value in shown if value not in (None, (), {}))
    return str(getattr(answer, "name", "")), *said


def _in_brief(value: object) -> str:
    if isinstance(value, tuple | frozenset | Mapping):
        return f"({', '.join(map(_in_brief, value))})"
    if isinstance(value, Brief):
        return brief(value)[0] or ", ".join(brief(value)[1:])
    return value.name if isinstance(value, Variable) else plain(value) if isinstance(value, Expr) else str(value)


def _gain(base: Variant, one: Variant) -> str:
    """A variant's name, and how much faster it is than the unchanged step, where both have a time."""
    before, after = base.time_per_token, one.time_per_token
    return one.name if before is None or after is None else f"{one.name} {before / after:.3g}x"


def _figures(device: Device) -> list[str]:
    """Peak in fp16, or in the first type it has, bandwidth, and the capacity that a step has to fit."""
    kind = "fp16" if "fp16" in device.peaks else next(iter(device.peaks))
    return [f"{device.peak(kind)} {kind}", str(device.bandwidth), *([str(device.usable)] if device.usable_figure else [])]


def terminal(answer: object) -> object:
    """What rich prints."""
    return table(answer) if has(table, answer) else report(answer)


report.register(Analysis, records.analysis_report)
report.register(BreakEven, answers.break_even_report)
report.register(Certificate, answers.certificate_report)
report.register(Comparison, comparison.comparison_report)
report.register(ContextLimit, answers.context_limit_report)
report.register(Crossover, lambda one: replace(report(Crossovers((one,))), record=lambda: records.crossover_record(one)))
report.register(Crossovers, comparison.crossover_report)
report.register(Generation, answers.generation_report)
report.register(Largest, answers.largest_report)
report.register(Plan, plans.plan_report)
report.register(Requirement, answers.requirement_report)
table.register(Planned, plans.planned_table)
table.register(Step, step_views.step_table)
table.register(Analysis, step_views.analysis_table)
table.register(RooflinePoint, comparison.point_table)
table.register(Total, comparison.point_table)
table.register(StepEnergy, step_views.energy_table)
table.register(Crossover, crossover_views.derivation)
table.register(Payoff, crossover_views.payoff_table)
table.register(Regimes, comparison.regimes_table)
table.register(Curve, comparison.curve_table)
table.register(Intervals, comparison.intervals_table)
table.register(Sensitivity, answers.sensitivity_table)
notebook_html.register(Analysis, lambda analysis: table(analysis, formulas=True).html())
notebook_html.register(Certificate, crossover_views.certificate_html)
notebook_html.register(Crossover, lambda _: None)  # its LaTeX has every line typeset, the table some as text
notebook_html.register(Operator, lambda _: None)
notebook_html.register(Sensitivity, lambda answer: table(answer, formulas=False).html())
notebook_latex.register(ContextLimit, lambda answer: rf"$\displaystyle S_{{\max}} = {Formula(answer.formula).latex()}$")
notebook_latex.register(Analysis, lambda analysis: table(analysis, formulas=True).latex())
notebook_latex.register(Operator, step_views.operator_latex)

sentence.register(Analysis, lambda analysis: "; ".join(map(str, step_views.headline(analysis))))
sentence.register(Crossover, crossover_views.crossover_sentence)
sentence.register(Crossovers, comparison.crossovers_sentence)
sentence.register(Interval, comparison.interval_sentence)
sentence.register(Intervals, lambda made: "; ".join(map(comparison.interval_sentence, made)))
sentence.register(Certificate, crossover_views.certificate_sentence)
sentence.register(Payoff, crossover_views.payoff_sentence)
sentence.register(SparseContexts, crossover_views.sparse_contexts_sentence)
sentence.register(Sensitivity, answers.purchase_advice)
latex.register(Crossover, crossover_views.align)
latex.register(Operator, step_views.operator_latex)
latex.register(Certificate, crossover_views.certificate_latex)
notebook_latex.register(Crossover, crossover_views.aligned)

brief.register(Analysis, lambda answer: (f"of {answer.step.model}", *answer.step.given[1:], *brief(answer.total)[1:]))
brief.register(Certificate, lambda answer: ("", f"{answer.claim}: {answer.verdict}", *([f"by {answer.by}"] if answer.by else [])))
brief.register(Comparison, lambda made: (f"of {len(made)} variants over {made.over.name}", *map(partial(_gain, made[0]), made[1:])))
brief.register(Crossover, crossover_views.crossover_brief)
brief.register(Crossovers, comparison.crossovers_brief)
brief.register(Curve, lambda made: (f"over {made.over.name}", f"{len(made.pieces_expr.pieces)} pieces", str(made.unit)))
brief.register(Device, lambda device: (device.name, *_figures(device)))
brief.register(
    Exported, lambda made: (f"of {made.step.model}", *made.step.given[1:], f"on {made.device.name}", *(one.name for one in made.inputs))
)
brief.register(Figure, lambda figure: (figure.printed,))
brief.register(Generation, lambda made: ("", f"prompt {made.prompt} in {made.prefill_time}", f"{made.time} with {made.tokens} tokens"))
brief.register(Graph, lambda graph: ("decode" if graph.decode else "prefill", *(f"{block.name} x {block.count}" for block in graph.blocks)))
brief.register(Interval, lambda interval: (f"of {interval.over.name}", f"{interval.low} to {interval.high}", _in_brief(interval.label)))
brief.register(Intervals, lambda made: (f"{len(made)}", *map(comparison.interval_sentence, made)))
brief.register(Machine, lambda machine: (machine.title, ", ".join(machine.peaks), ", ".join(machine.rates)))
brief.register(Model, lambda model: (model.name, f"{' '.join(prefixed(model.parameters))} parameters", f"{model.layers} layers"))
brief.register(Operator, lambda operator: (operator.name, str(operator.kind), str(operator.flops), str(operator.traffic)))
brief.register(OperatorEnergy, lambda spent: (spent.name, str(spent.joules), str(spent.power)))
brief.register(Payoff, lambda answer: (f"of {answer.part} over {answer.over.name}", sentence(answer)))
brief.register(
    Regimes, lambda answer: (f"over {answer.over.name}", f"knees at {', '.join(map(str, answer.knees))}" if answer.knees else "no knees")
)
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
experts.register(report, brief)
full_memory.register(report, brief)
lines.register(report, brief)
promises.register(report, brief)
load.register(report, brief)
money.register(report, brief)
splits.register(report, brief)
regime_maps.register(report, sentence, brief)
ablations.register(report, sentence, brief)
