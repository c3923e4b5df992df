"""The batch from which a mixture's experts are compute-bound, and how many attention replicas supply it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sympy import Expr, ceiling, factor

from symroof import symbols
from symroof.algebra.polynomial import polynomial
from symroof.algebra.reals import order
from symroof.algebra.signs import solve_symbolic
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.operators.facts import Kind
from symroof.operators.operator import Operator
from symroof.operators.select import by_kind, reads, routed, select
from symroof.operators.tensor import Storage
from symroof.questions.crossover import Crossover
from symroof.questions.crossovers import crossover
from symroof.symbols import substitute
from symroof.units import COUNT, in_unit, number


@dataclass(frozen=True)
class ExpertBatch(Answer):
    """The batch of all replicas together from which all products of the routed experts are compute-bound.

    Attributes
    ----------
    crossover : that of the experts' product that turns compute-bound last, over the pooled batch.
    formula : the batch in symbols if all experts are touched, from which the exact one differs by the share ``(1 - K/E)^b`` of it.
    rule_formula : the same without activations: ridge x bits of a weight / 16 x E / K.
    per_replica_expr : sequences of one attention replica, bare; the symbol b if the step has no batch.
    """

    crossover: Crossover = field(repr=False)
    formula: Expr
    rule_formula: Expr
    per_replica_expr: Expr

    value = in_unit(lambda answer: answer.value_expr, COUNT, "The pooled batch, as a Quantity without a unit; None if it is never reached.")
    rule = in_unit(lambda answer: answer.rule_expr, COUNT, "The rule's batch, as a Quantity without a unit.")
    error = in_unit(
        lambda answer: answer.error_expr, COUNT, "By what share the exact batch exceeds the rule's; None if it is never reached."
    )

    @property
    def value_expr(self) -> Expr | None:
        """The pooled batch, exact and bare."""
        return self.crossover.value_expr

    @property
    def first_integer(self) -> int | None:
        """The first whole pooled batch."""
        return self.crossover.first_integer

    @property
    def rule_expr(self) -> Expr:
        """The rule in numbers where there are some, bare."""
        return substitute(substitute(self.rule_formula, {symbols.P: self.crossover.peak_expr}), self.crossover.values)

    @property
    def error_expr(self) -> Expr | None:
        """``exact / rule - 1``, bare."""
        return None if self.value_expr is None else self.value_expr / self.rule_expr - 1

    @property
    def error_formula(self) -> Expr:
        """The same in symbols, all experts touched: ``x / (1 - x)``, ``x = (P / BW) a (d + f_e) / (16 d f_e)`` for a linear layer."""
        return factor(self.formula / self.rule_formula - 1)

    @property
    def replicas_formula(self) -> Expr:
        """Replicas of b sequences each, with all experts touched, in symbols."""
        return self.formula / symbols.b

    @property
    def replicas_expr(self) -> Expr | None:
        """Attention replicas that supply the batch, not rounded: ``b* / b``, bare."""
        return None if self.value_expr is None else self.value_expr / self.per_replica_expr

    @property
    def replicas(self) -> int | None:
        """The first whole number of replicas that supplies the batch; None without sequences per replica, or if no batch does."""
        wanted = self.replicas_expr
        return None if wanted is None or not wanted.is_number else int(cast(Any, ceiling(wanted)))

    def replicas_of(self, batch: Any) -> int | None:
        """The same for replicas with so many sequences each."""
        value = self.value_expr
        return None if value is None else int(cast(Any, ceiling(value / number(batch, COUNT, "batch"))))


def expert_batch(step: Step, hardware: Device | str | Path | None = None, *, ceilings: str = STATED) -> ExpertBatch:
    """The pooled batch from which the routed experts are compute-bound.

    An expert gets ``b K / E`` of b tokens, so its layers need E / K times the batch of a dense layer. The rule counts
    only the weights, ``b = (P / BW) (w / 16) (E / K)``; the exact batch counts activations, which raise it by ``1 / (1 - x)``,
    ``x = (P / BW) a (d + f_e) / (16 d f_e)``, and expected experts, which lower it by the share ``(1 - K/E)^b``.
    Replicas of attention that share the experts, with b sequences each, supply it from ``b* / b`` replicas on.

    Parameters
    ----------
    step : a decode step of a mixture of experts; its batch, if it has one, is that of one replica.
    hardware : the device of the experts; None keeps P and BW as symbols.

    Raises
    ------
    InputError
        The model has no routed experts.

    >>> import symroof
    >>> found = expert_batch(symroof.load_model("deepseek-v3").decode(batch=64, seq_len=4096, weight_bits=16), "h800-sxm")
    >>> found.first_integer, f"{found.rule:.5g}", f"{found.error:.3g}", found.replicas
    (11604, '9451.9', '0.228', 182)

    Source: Zhu et al. (2025), MegaScale-Infer, arXiv:2504.02263, section 3.
    """
    if not step.options.decode:
        raise InputError("phase 'prefill': the batch of experts is asked of a decode step, with one token per sequence")
    runs = {operator.name for operator, _ in step.symbolic}
    of_experts = [operator for operator in select(step.symbolic, by_kind(Kind.MATMUL) & reads(routed)) if operator.name in runs]
    if not of_experts:
        raise InputError(f"{step.model} has no routed experts")
    own = step.values.get(symbols.b, symbols.b)
    found = [crossover(step, operator.name, over="batch", hardware=hardware, ceilings=ceilings) for operator in of_experts]
    last = found[0]
    for one in found[1:]:
        if one.value_expr is None or (
            last.value_expr is not None and one.value_expr.is_number and order(one.value_expr, last.value_expr) > 0
        ):
            last = one
    product = next(operator for operator in of_experts if operator.name == last.operator)
    touched, rule = (_first(product, moved) for moved in (product.byte_count(), product.byte_count(Storage.WEIGHT)))
    return ExpertBatch(last, touched, rule, own)


def _first(product: Operator, moved: Expr) -> Expr:
    """The batch at which a product with all experts touched takes as long as these bytes, in symbols."""
    slack = substitute(product.flop_count * symbols.BW - moved * symbols.P, {symbols.X: symbols.E})
    return cast(Expr, solve_symbolic(polynomial(slack, symbols.b)).formula)
