"""Where more FFN devices bring nothing: their utilization while a fixed number of attention devices feed them over links."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, S, oo

from symroof import symbols
from symroof.algebra.piecewise import Piece, Piecewise
from symroof.answers import Answer
from symroof.architectures.options import whole
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.roof.ledger import machine_of, require_device, roof_of
from symroof.serving.feed_forward import crossing, decoding, feed_forward, link_of
from symroof.units import BYTE, COUNT, FLOP, SECOND, Quantity, in_unit, number, quantity


@dataclass(frozen=True)
class DeadZone(Answer):
    """The utilization of FFN devices over their number, while a fixed number of attention devices feed them.

    Attributes
    ----------
    attention_devices : how many there are.
    intensity_expr : FLOPs of feed-forward layers per byte that crosses the link, bare.
    balance_expr : FLOP per byte of an FFN device's peak and its link, bare.
    usable_expr : share of the latency budget that is left for bytes, bare.
    """

    attention_devices: int
    intensity_expr: Expr
    balance_expr: Expr
    usable_expr: Expr = S.One

    intensity = in_unit(lambda zone: zone.intensity_expr, FLOP / BYTE, "FLOPs per byte that crosses the link, as a Quantity.")
    balance = in_unit(lambda zone: zone.balance_expr, FLOP / BYTE, "FLOPs per byte of the link that the device can do, as a Quantity.")
    threshold = in_unit(lambda zone: zone.threshold_expr, COUNT, "`threshold_expr`, as a Quantity without a unit.")
    plateau = in_unit(lambda zone: zone.plateau_expr, COUNT, "The utilization up to the threshold, as a Quantity without a unit.")

    @property
    def _reached(self) -> Expr:
        return self.usable_expr * self.intensity_expr / self.balance_expr

    @property
    def plateau_expr(self) -> Expr:
        """The utilization up to the threshold, bare: 1, or what the FFN devices' own links let through."""
        return cast(Expr, min(S.One, self._reached))

    @property
    def threshold_expr(self) -> Expr:
        """The number of FFN devices from which the utilization falls as 1 / devices, bare: ``n_a max(1, intensity / balance)``."""
        return self.attention_devices * cast(Expr, max(S.One, self._reached))

    @property
    def bound(self) -> str:
        """What limits FFN devices below the threshold: "compute", or "link"."""
        return "compute" if self._reached >= 1 else "link"

    @property
    def pieces_expr(self) -> Piecewise:
        """The utilization over the FFN devices: constant up to the threshold, then ``n_a intensity / (balance n_f)``."""
        x = symbols.n_f
        falling = self.attention_devices * self._reached / x
        edge = self.threshold_expr
        return Piecewise(x, (Piece(S.Zero, edge, self.plateau_expr, self.bound), Piece(edge, oo, falling, "attention links")))

    def utilization(self, devices: Any) -> Quantity:
        """The utilization with that many FFN devices, as a Quantity without a unit."""
        return quantity(self.pieces_expr(number(devices, COUNT, "devices")), COUNT)


def dead_zone(
    step: Step,
    hardware: Device | str | Path,
    *,
    attention_devices: int,
    copies: Any = 1,
    link: Any = None,
    budget: Any = None,
    latency: Any = 0,
    ceilings: str = STATED,
) -> DeadZone:
    """Where more FFN devices bring nothing: their utilization, capped by the links that feed them, over their number.

    In a budget of tau seconds a step, A attention devices send ``A W tau`` bytes at most, and N FFN devices receive ``N W tau``: tokens
    of ``min(A, N) W tau / beta``, with beta bytes each way per token, all its copies together. With phi FLOPs per token the utilization is

    ``min(1, (W / beta) (phi / P) min(1, A / N))``

    in which tau cancels. It falls as 1 / N from ``N = A max(1, W phi / (beta P))`` on: the dead zone. A link with
    ``W >= beta P / phi`` (a superpod, or coarse experts with more FLOPs per byte) moves that end, by the same factor. Weights are
    taken to be read in time, and batches to be as large as the links allow.

    Parameters
    ----------
    step : a decode step; its batch and context do not matter.
    attention_devices : A.
    copies : the FFN devices that a token is sent to: up to the experts it goes to, where these are on devices of their own.
    link : W of every device, one way; the device's own link if omitted.
    budget, latency : tau, and the time of exchanges in addition to their bytes, which shortens it; needed together.

    Raises
    ------
    InputError
        There is no link, a count is not a whole number, or the latency takes all of the budget.

    >>> import symroof
    >>> step = symroof.load_model("deepseek-v3").decode(batch=128, seq_len=4096)
    >>> for link in ("50 GB/s", "900 GB/s"):
    ...     zone = symroof.dead_zone(step, "h800-sxm", attention_devices=8, copies=8, link=link)
    ...     print(zone.bound, zone.threshold, f"{zone.plateau:.3g}", f"{zone.utilization(64):.3g}")
    link 8 0.351 0.0439
    compute 50.53 1 0.79

    Source: Liu et al. (2026), arXiv:2602.09721.
    """
    device, step = require_device(hardware, "a utilization is numeric"), decoding(step)
    many = whole("attention_devices", attention_devices, "")
    waiting, usable = number(latency, SECOND, "latency", zero=True), S.One
    if waiting != 0:
        if budget is None:
            raise InputError("a latency shortens a budget: give the budget too, as budget='50 ms'")
        promised = number(budget, SECOND, "budget")
        usable = cast(Expr, 1 - waiting / promised)
        if usable <= 0:
            raise InputError(f"latency {quote(str(latency))}: expected less than the budget of {quantity(promised, SECOND)}")
    sent, returned = crossing(step)
    machine = machine_of(step.symbolic, device, ceilings, accounting=step.options.accounting)
    work = [(step.graph[operator.name], count) for operator, count in feed_forward(step.symbolic)]
    counts = [count.xreplace(dict(step.values)) for _, count in work]
    flops = Add(*(count * operator.flop_count for (operator, _), count in zip(work, counts, strict=True)))
    peak_time = Add(
        *(
            count * operator.flop_count / roof_of(step.graph, operator, machine, step.options.accounting)[1]
            for (operator, _), count in zip(work, counts, strict=True)
            if operator.flop_count != 0
        )
    )
    widest = number(copies, COUNT, "copies") * cast(Expr, max(sent, returned))
    return DeadZone(many, flops / widest, (flops / peak_time) / link_of(device, link), usable)
