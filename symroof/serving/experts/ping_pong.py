"""Micro-batches that go to and fro between attention and experts: how many hide the links."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, S, ceiling

from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.operators.select import exchanges
from symroof.roof.analysis import analyze
from symroof.roof.ledger import require_device
from symroof.units import SECOND, in_unit

ATTENTION, DISPATCH, EXPERTS, COMBINE = "attention", "dispatch", "experts", "combine"


@dataclass(frozen=True)
class PingPong(Answer):
    """The stages of a layer for one micro-batch, and the fewest micro-batches with which the longest stage never waits.

    Attributes
    ----------
    stages_exprs : seconds of attention, dispatch, experts and combine in a layer of experts, on average, bare.
    apart : whether attention and experts run on devices of their own.
    """

    stages_exprs: dict[str, Expr]
    apart: bool
    step: Step = field(repr=False, compare=False)
    device: Device = field(repr=False, compare=False)

    stages = in_unit(lambda answer: answer.stages_exprs, SECOND, "Seconds of every stage of a layer, as Quantities.")
    period = in_unit(lambda answer: answer.period_expr, SECOND, "`period_expr`, as a Quantity in seconds.")

    @property
    def resources_exprs(self) -> dict[str, Expr]:
        """Seconds that a micro-batch takes each resource: two sets of devices and two directions of a link, or one set, bare."""
        times = self.stages_exprs
        if self.apart:
            return dict(times)
        return {"attention and experts": times[ATTENTION] + times[EXPERTS], DISPATCH: times[DISPATCH], COMBINE: times[COMBINE]}

    @property
    def period_expr(self) -> Expr:
        """Seconds between micro-batches of a layer where enough of them run: those of the longest stage, bare."""
        return max(self.resources_exprs.values())

    @property
    def binding(self) -> str:
        """The longest stage, the first of equals."""
        return max(self.resources_exprs, key=lambda name: self.resources_exprs[name])

    @property
    def hidden(self) -> bool:
        """Whether enough micro-batches hide the links: no link is the longest stage."""
        return self.binding not in (DISPATCH, COMBINE)

    @property
    def micro_batches(self) -> int:
        """The fewest micro-batches with which the longest stage never waits: the round trip over the period, rounded up."""
        return int(cast(Any, ceiling(Add(*self.stages_exprs.values()) / self.period_expr)))


def ping_pong(step: Step, hardware: Device | str | Path, *, apart: bool = True, ceilings: str = STATED) -> PingPong:
    """How many micro-batches hide the links between attention and experts.

    A micro-batch takes its layer's stages one after the other, and a stage works on one micro-batch at a time. With m of them the
    period per micro-batch and layer is ``max(T_a, T_d, T_e, T_c, (T_a + T_d + T_e + T_c) / m)``, so that
    ``m >= (T_a + T_d + T_e + T_c) / max(T_a, T_d, T_e, T_c)`` suffice and fewer do not; for ``T_a = T_e = T_f`` and equal links
    ``m >= 2 (1 + T_c / T_f)``, and at least 3.

    Parameters
    ----------
    step : a numeric decode step of a micro-batch after the technique expert-parallel.
    hardware : the devices, with a link.
    apart : attention on other devices than the experts, as in MegaScale-Infer; otherwise on the same, as in two-batch overlap.

    Raises
    ------
    InputError
        The step has no exchange between attention and experts, or an input is a symbol.

    >>> import symroof
    >>> step = symroof.load_model("mixtral-8x22b-v0.1").decode(batch=1024, seq_len=730).apply("expert-parallel:degree=8")
    >>> found = ping_pong(step, "a100-sxm-80gb")
    >>> found.micro_batches, found.binding, found.hidden
    (2, 'experts', True)

    Source: Zhu et al. (2025), MegaScale-Infer, arXiv:2504.02263, section 4.1.
    """
    device = require_device(hardware, "the stages of a layer are compared in seconds")
    analysis = analyze(step, device, ceilings=ceilings)
    points = iter(analysis)
    totals: dict[str, Expr] = dict.fromkeys((ATTENTION, DISPATCH, EXPERTS, COMBINE), S.Zero)
    layers: Expr = S.Zero
    for block in (block for block in analysis.graph.blocks if block.count != 0):  # those that the step runs
        times = [next(points).time_expr for _ in block.operators]
        between = exchanges(block)
        if between is None:
            continue
        first, last = (block.operators.index(operator) for operator in between)
        parts = (times[:first] + times[last + 1 :], [times[first]], times[first + 1 : last], [times[last]])
        for name, part in zip(totals, parts, strict=True):
            totals[name] += block.count * Add(*part)
        layers += block.count
    if layers == 0:
        raise InputError(f"{step.title} has no exchange between attention and experts; apply the technique expert-parallel")
    stages = {name: cast(Expr, total / layers) for name, total in totals.items()}
    if any(not seconds.is_number for seconds in stages.values()):
        raise InputError(f"{step.model}: give batch and seq_len as numbers to compare the stages of a layer")
    return PingPong(stages, apart, step, device)
