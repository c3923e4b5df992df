"""Distillation: a smaller model, the student, replaces the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symroof.architectures.model import load_model
from symroof.architectures.step import Step
from symroof.conventions import Convention
from symroof.errors import InputError
from symroof.operators import Graph, Role, Structure
from symroof.techniques.technique import Example, Given, Technique, refuse_graph, word


@dataclass(frozen=True)
class Distill(Technique):
    """The step of the student, with the inputs and conventions of the teacher's step.

    If both steps are memory-bound, the speedup is the ratio of their bytes, about ``N_teacher / N_student`` at small batch
    and context; if both are compute-bound, the ratio of their FLOPs. In a numeric step the student's dimensions are
    numbers, and the symbols d, f, L remain the teacher's.

    Parameters
    ----------
    model : the student, by catalogue name or path to a config.

    Raises
    ------
    InputError
        The student is not smaller, is another kind of model, or another technique precedes distillation.

    >>> import symroof
    >>> step = symroof.load_model("llama-3.1-8b").decode(weight_bits=16)
    >>> print(step["up_proj"].flops, step.apply(Distill(model="llama-3.2-1b"))["up_proj"].flops)
    117440512*b FLOP 33554432*b FLOP
    >>> step.apply(Distill(model="llama-3.1-70b"))
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: distill: the student llama-3.1-70b has 70553706496 parameters, llama-3.1-8b 8030261248: expected fewer

    Source: Hinton et al. (2015), arXiv:1503.02531.
    """

    name = "distill"
    summary = "a smaller model replaces the model"
    survey = "3.3"
    source = "arXiv:1503.02531"
    structure = frozenset({Structure.PARTS})
    example = Example(model="llama-3.1-8b", part="total", settings={"model": "llama-3.2-1b"})

    model: str = word("", meaning="the student, by name or path")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise self.refused("name the student, as model=llama-3.2-1b")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        raise refuse_graph(self)

    def check(self, step: Step) -> None:
        if step.techniques:
            raise InputError(f"{self.name} replaces the model: put it before {step.symbolic.applied[0].name}")
        student = load_model(self.model)
        teaches = any(operator.role is Role.HEAD for operator, _ in step.symbolic)
        if student.architecture.generative != teaches:
            kinds = ("predicts no tokens", "predicts tokens")
            raise self.refused(f"{student.name} {kinds[not teaches]}, {step.model} {kinds[teaches]}: expected a student that does too")
        count = step.symbolic.bind(step.values).parameter_count()
        if count.is_number and student.parameters >= count:
            raise self.refused(f"the student {student.name} has {student.parameters} parameters, {step.model} {count}: expected fewer")

    def on_step(self, step: Step) -> Step:
        self.check(step)
        student = load_model(self.model)
        symbolic = not step.values.keys() - step.options.inputs().keys()
        made = student.step(step.options, symbolic=symbolic)
        graph = made.symbolic if symbolic else made.symbolic.bind(student.dimensions)
        text = f"distill: {student.name} ({student.parameters} parameters) replaces {step.model}; accuracy is not modelled"
        return replace(made, symbolic=replace(graph, conventions=(*graph.conventions, Convention(self.name, text, self.source))))
