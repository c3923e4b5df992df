"""The token budget: from how many tokens on a step's linear operators are compute-bound, whoever the tokens belong to."""

from __future__ import annotations

from pathlib import Path

from sympy import Add, Expr, Integer

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.operators import Kind, Storage
from symroof.questions.crossover import Crossover, of_expressions
from symroof.roof.costs import costs, known_values
from symroof.roof.ledger import Cost, device_of, machine_of, roof_of
from symroof.roof.stretches import bound_operator
from symroof.symbols import substitute


def token_budget(step: Step, part: str = "total", *, hardware: Device | str | Path | None = None) -> Crossover:
    """The tokens b* at which a linear operator, or all of a decode step together, turn compute-bound.

    A decode step of b sequences has b tokens, a mixed one ``b + b_p s_k``: linear operators do not see the difference, so
    that a chunk of ``(b* - b) / b_p`` tokens makes a step of b sequences compute-bound.

    Parameters
    ----------
    step : a decode step; its batch is left aside.
    part : a linear operator; "total" takes the contractions with weights together, in the numbers of the model.

    Raises
    ------
    InputError
        The step is no decode step, or the part reads no weights.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> token_budget(step, "up_proj", hardware="a100-sxm-80gb").first_integer
    162
    >>> token_budget(step, hardware="a100-sxm-80gb").first_integer
    163
    """
    if not step.options.decode:
        raise InputError("token budget: ask for a decode step, whose tokens are its batch")
    linear = [one for one in costs(step, "total") if _linear(one) and part in ("total", one.operator.name)]
    if not linear:
        raise InputError(f"token budget: {part} is no contraction with a weight")
    device = device_of(hardware)
    values = known_values(step, device, symbols.b)
    sizes = {symbol: value for symbol, value in values.items() if symbol not in (symbols.BW, symbols.w, symbols.a, symbols.c)}
    if part == "total":
        linear = [one.changed(lambda formula: substitute(formula, sizes)) for one in linear]
    flops, traffic = Add(*(one.flops for one in linear)), Add(*(one.traffic for one in linear))
    peak: Expr = symbols.P
    if device:
        graph = step.symbolic.bind(values)
        machine = machine_of(step.symbolic, device)
        peaks = {roof_of(graph, bound_operator(graph, one.operator.name), machine)[1] for one in linear}
        if len(peaks) > 1:
            raise InputError("token budget: linear operators run under several peaks; ask for one of them")
        values[symbols.P] = peaks.pop()
    return of_expressions(part, symbols.b, (flops, traffic, peak, symbols.BW), values, low=Integer(1))


def _linear(one: Cost) -> bool:
    reads = one.operator.reads
    return one.operator.kind is Kind.MATMUL and any(access.tensor.storage is Storage.WEIGHT for access in reads)
