"""The aggregate condition of decode: with weights and KV cache summed, when can any batch be compute-bound?

As the batch grows the weights are shared by ever more sequences, but each sequence brings its own cache.
Per sequence and step there are ``F_0 + F_1 t`` FLOPs and ``K t`` bytes of cache, so a large enough batch is
compute-bound only where ``(F_0 + F_1 t) BW > K t P``: below ``S_max = F_0 / (K P / BW - F_1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sympy import Add, Expr
from sympy.logic.boolalg import Boolean

from symroof import symbols
from symroof.analysis.costs import WEIGHTS_AND_KV, WIDTHS, bound_operator, costs, device_of, peak_of
from symroof.analysis.letters import Solution, solve_letters
from symroof.analysis.limits import rational_limit
from symroof.analysis.polynomial import polynomial
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.symbols import substitute


@dataclass(frozen=True)
class ContextLimit:
    """The context length beyond which no batch makes decode compute-bound.

    Attributes
    ----------
    formula : S_max in letters.
    condition : when there is such a limit; where it fails, a large enough batch always does it.
    value : S_max in tokens, exactly; None without a device, or where there is no limit.
    """

    formula: Expr
    condition: Boolean | None
    value: Expr | None


def context_limit(step: Step, hardware: Device | str | Path | None = None) -> ContextLimit:
    """S_max of a decode step, the embedding table not counted.

    It does not move with the weight width, as long as the width does not change the peak: at a large batch
    the weights no longer count.

    Raises
    ------
    InputError
        The step is not a decode step.

    >>> import symroof
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> limit = symroof.context_limit(symroof.load_model("llama-2-7b").decode(**widths), "a100-sxm-80gb")
    >>> round(float(limit.value), 1)
    165.8
    """
    if not step.options.decode:
        raise InputError("phase 'prefill': the context limit is one of decode, where every sequence brings its own KV cache")
    device = device_of(hardware)
    cost = costs(step, WEIGHTS_AND_KV)
    flops, traffic = (Add(*parts) for parts in zip(*((one.flops, one.traffic) for one in cost), strict=True))
    per_sequence = [rational_limit(part / symbols.b, symbols.b) for part in (flops, traffic)]
    slack = polynomial(per_sequence[0] * symbols.BW - per_sequence[1] * symbols.P, symbols.t)
    answer: Solution = solve_letters(slack)
    if answer.formula is None:
        raise InputError(f"{step.model} has no context limit: its KV cache does not grow with the context")
    value = None if device is None else _value(step, device)
    return ContextLimit(answer.formula, answer.condition, value)


def _value(step: Step, device: Device) -> Expr | None:
    """S_max in numbers, every contraction under its own peak."""
    cost = costs(step, WEIGHTS_AND_KV)
    known = {symbol: value for symbol, value in step.values.items() if symbol not in (symbols.b, symbols.t)}
    open_widths = [symbols.VOCABULARY[width].name for width in WIDTHS if width not in known]
    if open_widths:
        raise InputError(f"{', '.join(open_widths)} must be numbers to tell the context limit on a device")
    times: list[Expr] = []
    for one in cost:
        flops, traffic = (substitute(part, known) for part in (one.flops, one.traffic))
        peak = peak_of(step.graph, bound_operator(step.graph, one.operator.name), device)
        times.append(
            rational_limit(flops / peak / symbols.b, symbols.b)
            - rational_limit(traffic / symbols.b, symbols.b) / device.bandwidth_figure.value
        )
    found = solve_letters(polynomial(Add(*times), symbols.t)).formula
    return found if found is not None and found.is_Rational and found > 0 else None
