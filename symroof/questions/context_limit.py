"""The context limit of decode: with weights and KV cache summed, the context up to which some batch is compute-bound.

A growing batch amortizes the weights over more sequences, but every sequence adds its own cache. A sequence takes
``F_0 + F_1 t`` FLOPs and ``K t`` bytes of cache per step, so a large enough batch is compute-bound only if
``(F_0 + F_1 t) BW > K t P``: below ``S_max = F_0 / (K P / BW - F_1)``. Experts are amortized too once all are touched.
With a sliding window there is a formula on each side of W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from sympy import Add, And, Expr, Integer, true
from sympy.logic.boolalg import Boolean

from symroof import symbols
from symroof.algebra.piecewise import MEMORY, Piece, Piecewise
from symroof.algebra.polynomial import polynomial, sign
from symroof.algebra.saturation import Branch, spans
from symroof.algebra.signs import greater, less, solve_symbolic
from symroof.algebra.univariate import limit
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.roof.costs import WEIGHTS_AND_KV, WIDTHS, branches_of, costs, on_branch, require_two_ceilings
from symroof.roof.intervals import numeric_slack
from symroof.roof.ledger import Cost, device_of, machine_of
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
    """

    formula: Expr
    condition: Boolean | None
    value_expr: Expr | None

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
    found = spans(branches_of(step, cost, [symbols.t]), symbols.t, Integer(0), step.values)
    letters = [(span, answer) for span in found if (answer := _symbolic(on_branch(cost, span), span)) is not None]
    if not letters:
        raise InputError(f"{step.model} has no context limit: its KV cache does not grow with the context")
    value = None if device is None else _value(step, cost, found, device, ceilings)
    on_it = [answer for span, answer in letters if value is not None and span.low <= value <= span.high]
    return replace((on_it or [answer for _, answer in letters])[-1], value_expr=value)


def _symbolic(cost: Sequence[Cost], branch: Branch) -> ContextLimit | None:
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
    return ContextLimit(formula, None if condition == true else condition, None)


def _value(step: Step, cost: Sequence[Cost], found: Sequence[Branch], device: Device, ceilings: str) -> Expr | None:
    """Numeric S_max with every contraction under its own peak: the start of the last interval, if that is memory-bound."""
    defined = {symbol: value for symbol, value in step.symbolic.definitions.items() if value.is_number}
    known = {symbol: value for symbol, value in {**defined, **step.values}.items() if symbol not in (symbols.b, symbols.t)}
    used = {tensor.bits for block in step.symbolic.blocks for tensor in block.tensors()} | {symbols.w, symbols.a, symbols.c}
    open_widths = [symbols.VOCABULARY[width].name for width in WIDTHS if width in used and width not in known]
    if open_widths:
        raise InputError(f"{', '.join(open_widths)} must be numbers for the context limit on a device")
    machine = machine_of(step.symbolic, device, ceilings)
    slacks = ((span, numeric_slack(step.graph, on_branch(cost, span), known, machine)) for span in found)
    pieces = [Piece(span.low, span.high, limit(slack / symbols.b, symbols.b), None) for span, slack in slacks]
    if any(piece.value.free_symbols - {symbols.t} for piece in pieces):
        return None
    last = Piecewise(symbols.t, tuple(pieces)).signs().pieces[-1]
    return last.low if last.bound == MEMORY else None
