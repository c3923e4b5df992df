"""Several ways to run one step, side by side: times, bytes, memory, and where each turns compute-bound or stops paying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sympy import Expr

from symroof.architectures.step import Step
from symroof.errors import InputError, SymroofError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.crossover import Crossover
from symroof.questions.crossovers import crossovers
from symroof.questions.payoff import Payoff, counted, payoff
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import variable_of
from symroof.roof.ledger import device_of
from symroof.techniques.technique import Technique

UNCHANGED = "unchanged"
WHOLE = 64
"""Whole numbers that are gone through where the formulas count blocks of the variable."""


@dataclass(frozen=True)
class Variant:
    """One way to run the step.

    Attributes
    ----------
    name : the techniques as typed, or "unchanged".
    analysis : at the numbers given.
    payoff : where it takes less time per token than the unchanged step; None for that one, or where it cannot be told.
    crossovers : of its operators over the variable; none where they cannot be told.
    reasons : why something cannot be told.
    """

    name: str
    analysis: Analysis
    payoff: Payoff | None
    crossovers: tuple[Crossover, ...]
    reasons: tuple[str, ...] = ()

    @property
    def time_per_token(self) -> Expr:
        """Seconds for every token of a sequence that a step completes."""
        return self.analysis.total.time_expr / self.analysis.graph.tokens


def compare(
    step: Step, free: Step, techniques: Sequence[Sequence[Technique]], *, over: str, hardware: Device | str | Path, ceilings: str = STATED
) -> tuple[Variant, ...]:
    """The step unchanged, and after each of several chains of techniques.

    Parameters
    ----------
    step : every input a number.
    free : the same step with the variable left out.
    techniques : a chain for every variant.
    ceilings : the ceiling set, as in `symroof.analyze`.
    over : the variable whose range is asked for where each pays and where operators turn compute-bound.

    Raises
    ------
    SymroofError
        A technique does not fit the step.

    >>> import symroof
    >>> from symroof.techniques.registry import chain
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> model = symroof.load_model("llama-2-7b")
    >>> found = compare(model.decode(batch=1, seq_len=2048, **widths), model.decode(seq_len=2048, **widths),
    ...     [chain(["quantize:weights=4"])], over="batch", hardware="a100-sxm-80gb")
    >>> [(one.name, one.payoff and one.payoff.sentence) for one in found]
    [('unchanged', None), ('quantize:weights=4', 'pays for batch from 1 to 165.372; the same for batch from 165.372 on')]
    """
    device = device_of(hardware)
    found = []
    for chain in ((), *techniques):
        changed, open_ = step.apply(*chain), free.apply(*chain)
        reasons: list[str] = []
        gain = _told(reasons, lambda after=open_: _payoff(free, after, over, hardware, ceilings)) if chain else None
        bends = _told(reasons if chain else [], lambda after=open_: crossovers(after, over=over, hardware=device, ceilings=ceilings)) or ()
        name = " ".join(one.text for one in chain) or UNCHANGED
        found.append(Variant(name, analyze(changed, device, ceilings=ceilings), gain, bends, tuple(reasons)))
    return tuple(found)


def _payoff(before: Step, after: Step, over: str, hardware: Device | str | Path, ceilings: str) -> Payoff:
    """Where it pays: in closed form, or where there is none, by going through whole numbers."""
    try:
        return payoff(before, after, over=over, hardware=hardware, ceilings=ceilings)
    except InputError:
        if variable_of(before, over).domain != "integer":
            raise
        return counted(before, after, over=over, hardware=hardware, last=WHOLE, ceilings=ceilings)


def _told(reasons: list[str], how):
    try:
        return how()
    except SymroofError as error:
        reasons.append(str(error))
        return None
