"""The context limit of decode: with weights and KV cache summed, the context up to which some batch is compute-bound.

A growing batch amortizes the weights over more sequences, but every sequence adds its own cache. A sequence takes
``F_0 + F_1 t`` FLOPs and ``K t`` bytes of cache per step, so a large enough batch is compute-bound only if
``(F_0 + F_1 t) BW > K t P``: below ``S_max = F_0 / (K P / BW - F_1)``. Experts are amortized too once all are touched.
With a sliding window there is a formula on each side of W.

And of sparse attention: the context from which it is faster than attention to all keys, and from which its indexer, which
still scores all keys, takes longer than attention does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from sympy import Add, And, Expr, Ge, Integer, Symbol, ceiling, true
from sympy.logic.boolalg import Boolean

from symroof import symbols
from symroof.algebra.piecewise import MEMORY, Piece, Piecewise
from symroof.algebra.polynomial import polynomial, sign
from symroof.algebra.saturation import Branch, spans
from symroof.algebra.signs import greater, less, solve_symbolic
from symroof.algebra.univariate import limit
from symroof.answers import Answer, Intervals, intervals
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED, Machine
from symroof.notation import Sentence
from symroof.proof.bounds import in_lowest_terms
from symroof.proof.claims import Case, Certificate, merge_cases
from symroof.questions.payoff import PAYS, SAME, Payoff, payoff
from symroof.questions.regimes import timeline
from symroof.roof.costs import (
    TOTAL,
    WEIGHTS_AND_KV,
    WIDTHS,
    branches_of,
    costs,
    costs_of,
    on_branch,
    require_two_ceilings,
    variable_of,
)
from symroof.roof.intervals import numeric_slack
from symroof.roof.ledger import Cost, device_of, machine_of, require_device
from symroof.symbols import Variable, substitute
from symroof.units import COUNT, in_unit


@dataclass(frozen=True)
class ContextLimit(Answer):
    """The context length beyond which no batch makes decode compute-bound.

    Attributes
    ----------
    formula : symbolic S_max; with a sliding window on the side of W of the value, otherwise beyond W if the cache still
        grows there.
    condition : when this is the limit; without windows, if it fails, a large enough batch is always compute-bound.
    value_expr : S_max in tokens, exact and bare; None without a device, or if there is no limit.
    step, device : what was asked about.
    """

    formula: Expr
    condition: Boolean | None
    value_expr: Expr | None
    step: Step = field(repr=False, compare=False)
    device: Device | None = field(default=None, repr=False, compare=False)

    value = in_unit(lambda answer: answer.value_expr, COUNT, "S_max in tokens, as a Quantity without a unit, or None.")


def context_limit(step: Step, hardware: Device | str | Path | None = None, *, ceilings: str = STATED) -> ContextLimit:
    """S_max of a decode step, without the embedding table.

    It does not depend on the weight width unless the width changes the peak, because at large batch the weights are
    fully amortized.

    Raises
    ------
    InputError
        The step is not a decode step.

    >>> import symroof
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> limit = symroof.context_limit(symroof.load_model("llama-2-7b").decode(**widths), "a100-sxm-80gb")
    >>> print(limit.value)
    165.8
    """
    if not step.options.decode:
        raise InputError("phase 'prefill': the context limit applies to decode, where every sequence has its own KV cache")
    require_two_ceilings(step, "the context limit")
    device = device_of(hardware)
    step = step.with_widths() if device else step
    cost = costs(step, WEIGHTS_AND_KV)
    known = {symbol: value for symbol, value in step.symbolic.definitions.items() if value.is_number} | {**step.values}
    found = spans(branches_of(step, cost, [symbols.t]), symbols.t, Integer(0), known)
    letters = [(span, answer) for span in found if (answer := _symbolic(step, on_branch(cost, span), span)) is not None]
    if not letters:
        raise InputError(f"{step.model} has no context limit: its KV cache does not grow with the context")
    value = None if device is None else _value(step, cost, found, known, machine_of(step.symbolic, device, ceilings))
    on_it = [answer for span, answer in letters if value is not None and span.low <= value <= span.high]
    return replace((on_it or [answer for _, answer in letters])[-1], value_expr=value, device=device)


def _symbolic(step: Step, cost: Sequence[Cost], branch: Branch) -> ContextLimit | None:
    """The limit on a branch, if the cache grows on it: the slack per sequence changes from positive to negative."""
    flops, traffic = (Add(*parts) for parts in zip(*((one.flops, one.traffic) for one in cost), strict=True))
    per_sequence = [limit(part / symbols.b, symbols.b) for part in (flops, traffic)]
    slack = polynomial(per_sequence[0] * symbols.BW - per_sequence[1] * symbols.P, symbols.t)
    formula = solve_symbolic(slack).formula
    if formula is None:
        return None
    constant, slope = slack.coefficients
    open_signs = [how(part) for how, part in ((greater, constant), (less, slope)) if sign(part) is None]
    condition = And(*open_signs, cast(Boolean, branch.where.xreplace({symbols.t: formula})))
    return ContextLimit(formula, None if condition == true else condition, None, step)


def _value(step: Step, cost: Sequence[Cost], found: Sequence[Branch], known: dict[Symbol, Expr], machine: Machine) -> Expr | None:
    """Numeric S_max with every contraction under its own peak: the start of the last interval, if that is memory-bound."""
    known = {symbol: value for symbol, value in known.items() if symbol not in (symbols.b, symbols.t)}
    used = {tensor.bits for block in step.symbolic.blocks for tensor in block.tensors()} | {symbols.w, symbols.a, symbols.c}
    open_widths = [symbols.VOCABULARY[width].name for width in WIDTHS if width in used and width not in known]
    if open_widths:
        raise InputError(f"{', '.join(open_widths)} must be numbers for the context limit on a device")
    slacks = ((span, numeric_slack(step.graph, on_branch(cost, span), known, machine)) for span in found)
    pieces = [Piece(span.low, span.high, limit(slack / symbols.b, symbols.b), None) for span, slack in slacks]
    if any((piece.value + piece.low + piece.high).free_symbols - {symbols.t} for piece in pieces):
        return None
    last = Piecewise(symbols.t, tuple(pieces)).signs().pieces[-1]
    return last.low if last.bound == MEMORY else None


INDEXER, ATTENTION = "indexer", "attention"


@dataclass(frozen=True)
class SparseContexts(Answer):
    """The contexts from which sparse attention is worth its indexer, and from which the indexer takes longer than attention.

    Attributes
    ----------
    pays : where the step is faster than the same step with attention to all keys.
    larger : the times of attention less those of the indexer, labelled by the one that takes longer.
    proofs : that the step is faster from the first whole context on, and that the indexer takes longer from its first one on.
    flops_expr : the context of equal FLOPs with all keys and with selected ones; None if FLOPs are not linear in it.
    indexer_flops_expr : the context at which the indexer has the FLOPs of attention; None likewise.
    """

    pays: Payoff
    larger: Piecewise
    proofs: tuple[Certificate, ...]
    flops_expr: Expr | None
    indexer_flops_expr: Expr | None

    first_faster = in_unit(
        lambda found: whole_above(found.pays.sides, PAYS), COUNT, "The whole context from which on it is faster, or None."
    )
    first_indexer = in_unit(
        lambda found: whole_above(found.larger, INDEXER), COUNT, "The one from which the indexer takes longer, or None."
    )
    flops = in_unit(lambda found: found.flops_expr, COUNT, "Where FLOPs with and without selection are equal, or None.")
    indexer_flops = in_unit(lambda found: found.indexer_flops_expr, COUNT, "Where the indexer has the FLOPs of attention, or None.")

    @property
    def intervals(self) -> Intervals:
        """The intervals of the context on which the indexer, or attention, takes longer."""
        return intervals(self.pays.over, self.larger.pieces)


def whole_above(sides: Piecewise, label: str) -> Expr | None:
    """The whole number from which on the label holds; None if it does not hold in the end."""
    last = sides.pieces[-1]
    if last.label != label:
        return None
    first = cast(Expr, ceiling(last.low))
    return first if first > last.low or first == sides.low else first + 1  # at an end between two pieces both are equal


def sparse_contexts(step: Step, hardware: Device | str | Path, *, ceilings: str = STATED) -> SparseContexts:
    """From which context on sparse attention is faster than attention to all keys, and from which on its indexer takes longer.

    With FLOPs per layer and query of the absorbed form, and without projections, whose cost does not grow with the context t:

    ============ =================================================================================
    all keys     ``(4 r_kv + 2 r + 5) h t``
    selected     ``(4 r_kv + 2 r + 5) h k_i + ((2 e_i + 3) h_i + 1) t``
    ============ =================================================================================

    Parameters
    ----------
    step : a step of a model with sparse attention, with a number for the batch; its own context is not used.
    hardware : the device.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    InputError
        The model has no sparse attention, or another input is a symbol.

    >>> import symroof
    >>> step = symroof.load_model("deepseek-v3.2").decode(batch=128)
    >>> found = symroof.sparse_contexts(step, "h200-sxm")
    >>> print(found.first_faster, found.first_indexer, [proof.verdict for proof in found.proofs])
    2310 25493 ['proved', 'proved']
    """
    step = step.without("seq_len")
    if step.source is None or not step.source.architecture.selects or step.options.accounting != "exact":
        raise InputError(f"{step.model} has no sparse attention with an indexer: there is nothing to compare")
    variable, device = variable_of(step, "seq_len"), require_device(hardware, "times are compared in numbers")
    every = replace(step.source, architecture=step.source.architecture.attending_to_all)
    dense = every.step(step.options, symbolic=not step.source.dimensions.keys() <= step.values.keys()).apply(*step.symbolic.applied)
    pays = payoff(dense, step, over=variable.symbol, hardware=device, ceilings=ceilings)
    selected, scoring = (timeline(step, variable, device, part, ceilings) for part in (ATTENTION, INDEXER))
    larger = selected.compare(scoring, (ATTENTION, INDEXER, SAME))
    of_model = f"of {step.model} in decode on {device.title}" if step.options.decode else f"of {step.model} in prefill on {device.title}"
    claims = (
        (f"sparse attention {of_model} is faster than attention to all keys", pays.before - pays.after, whole_above(pays.sides, PAYS)),
        (f"the indexer {of_model} takes longer than attention", scoring - selected, whole_above(larger, INDEXER)),
    )
    proofs = tuple(positive_from(first, more, words) for words, more, first in claims if first is not None)
    kept = {symbols.t_i: symbols.k_i, symbols.t_j: symbols.k_i * symbols.m_c, symbols.t_w: symbols.W}
    formulas = [_equal_flops(left, right, variable, part) for (left, right, part) in ((dense, step, TOTAL), (step, step, ATTENTION))]
    return SparseContexts(pays, larger, proofs, *(one and substitute(substitute(one, kept), step.values) for one in formulas))


def _equal_flops(before: Step, after: Step, variable: Variable, part: str) -> Expr | None:
    """The context of equal FLOPs; of one step, of a part and its indexer."""
    other = part if part == TOTAL else INDEXER
    first, second = (Add(*(one.flops for one in costs_of(step, of))) for step, of in ((before, part), (after, other)))
    gain = polynomial(first - second, variable.symbol)
    if gain.degree != 1:
        return None
    rest, slope = gain.coefficients
    return cast(Expr, -rest / slope)


def positive_from(first: Expr, function: Piecewise, words: str) -> Certificate:
    """Decide whether a function is above zero for all values from *first* on, piece by piece; *words* say what that means.

    >>> from symroof.algebra.piecewise import piecewise
    >>> from symroof.symbols import t
    >>> falling = piecewise(t, [(1, 4, 9 - 2 * t, None), (4, 9, 5 - t, None)])
    >>> [positive_from(Integer(1), falling, "it is worth it").verdict, positive_from(Integer(1), falling + 5, "it is worth it").verdict]
    ['refuted', 'proved']
    """
    x = function.x
    cases = [
        Case(None, in_lowest_terms(-piece.value), tuple(end for end in (x - piece.low, piece.high - x) if end.is_finite is not False))
        for piece in function.pieces
        if piece.high > first
    ]
    claim = Sentence(words, " for all ", Ge(x, first, evaluate=False))
    return replace(merge_cases(claim, MEMORY, cases, {x: first}), cases=())
