"""One function per way to look at an answer, and what each class of answers shows there.

The classes inherit these views from `symroof.answers.Answer`, which finds them here by name.
"""

from __future__ import annotations

from functools import singledispatch

from symroof.architectures.step import Step
from symroof.operators.operator import Operator
from symroof.present import crossover_views, step_views
from symroof.present.crossover_views import reasoning
from symroof.present.points import progress_bar
from symroof.present.step_views import analysis_statements, calibrated_statements, legend, provenance
from symroof.present.tabular import Table
from symroof.proof.claims import Certificate
from symroof.questions.crossover import Crossover
from symroof.questions.payoff import Payoff
from symroof.questions.regimes import Regimes
from symroof.questions.sensitivity import Sensitivity
from symroof.roof.analysis import Analysis
from symroof.roof.energy import StepEnergy

__all__ = ["analysis_statements", "calibrated_statements", "legend", "progress_bar", "provenance", "reasoning"]


@singledispatch
def table(answer: object, **layout: bool) -> Table:
    """The answer as a table."""
    raise TypeError(f"{type(answer).__name__} has no table")


@singledispatch
def sentence(answer: object) -> str:
    """The answer in words."""
    raise TypeError(f"{type(answer).__name__} has no sentence")


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


def terminal(answer: object) -> object:
    """What rich prints: the table where there is one, else the sentence."""
    return next((view(answer) for view in (table, sentence) if view.dispatch(type(answer)) is not view.dispatch(object)), repr(answer))


table.register(Step, step_views.step_table)
table.register(Analysis, step_views.analysis_table)
table.register(StepEnergy, step_views.energy_table)
table.register(Payoff, crossover_views.payoff_table)
table.register(Regimes, crossover_views.regimes_table)
table.register(Sensitivity, crossover_views.sensitivity_table)
notebook_html.register(Analysis, lambda analysis: table(analysis, formulas=True).html())
notebook_latex.register(Analysis, lambda analysis: table(analysis, formulas=True).latex())
notebook_latex.register(Operator, step_views.operator_latex)

sentence.register(Crossover, crossover_views.crossover_sentence)
sentence.register(Payoff, crossover_views.payoff_sentence)
sentence.register(Sensitivity, crossover_views.purchase_advice)
latex.register(Crossover, crossover_views.align)
latex.register(Certificate, crossover_views.certificate_latex)
notebook_latex.register(Crossover, crossover_views.aligned)
