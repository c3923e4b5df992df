"""Work against launches: where the operators of a step take longer to run than to be launched."""

from __future__ import annotations

from pathlib import Path

from sympy import Add

from symroof.algebra.piecewise import Piece
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.questions.regimes import timeline
from symroof.roof.costs import TOTAL, costs_of, known_values, variable_of
from symroof.roof.ledger import overhead, require_device
from symroof.symbols import substitute

WORK, LAUNCHES = "work", "launches"


def work_exceeds(step: Step, *, over: str, hardware: Device | str | Path, part: str = TOTAL) -> tuple[Piece, ...]:
    """The stretches of a variable on which work takes longer ("work") or launches do ("launches"), exactly.

    Latencies of collectives count as launches. Where both take equally long belongs to neither side.

    Raises
    ------
    InputError
        No launch overhead was asked for, or another input is a symbol.

    >>> import symroof
    >>> from symroof.techniques.registry import technique
    >>> step = symroof.load_model("opt-125m").decode(seq_len=128, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> found = work_exceeds(step.apply(technique("launch-overhead:launch=5us")), over="batch", hardware="a100-sxm-80gb")
    >>> [one.bound for one in found], round(float(found[0].high), 1)
    (['launches', 'work'], 257.0)
    """
    variable, device = variable_of(step, over), require_device(hardware, "whether work takes longer than launches is told in numbers")
    cost = costs_of(step, part)
    values = known_values(step, device, variable.symbol)
    ceilings, tokens = step.symbolic.ceilings, substitute(step.symbolic.tokens, values)
    launches = substitute(Add(*(one.count * overhead(one.operator, ceilings) for one in cost)), values) / tokens
    if launches == 0:
        raise InputError("no operator has a launch overhead; apply the technique launch-overhead, as launch-overhead:launch=5us")
    beyond = timeline(step, variable, device, part) - 2 * launches  # the time is work and launches
    return beyond.signs(below=LAUNCHES, above=WORK, zero=LAUNCHES).pieces
