"""Attention on some devices, feed-forward layers on others: how many of each, and when more of the latter bring nothing.

rho attention devices with b sequences each share one FFN device. A step is a pipeline of stages that take turns on micro-batches, so
it takes as long as its longest stage, and a device completes

``rho b / ((rho + 1) max(T_A, T_C, T_F(rho b)))`` tokens a second on average over all devices.

``1 + 1 / rho`` times a stage that is linear in rho is convex, so the least time of a device a token is found exactly. While T_A and
T_C belong to one attention device and ``T_F = f_0 + f_1 rho b``, it is at ``rho = max(r_A, r_C, r_peak)``: the ratios at which the
FFN takes as long as attention, as long as the link, and ``r_peak = sqrt(f_0 / (f_1 b))``, where its fixed cost is spread enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, Integer, Poly, S, ceiling, oo, sqrt

from symroof import symbols
from symroof.algebra.envelope import counted as counted_pieces
from symroof.algebra.envelope import envelope
from symroof.algebra.piecewise import Piece, Piecewise
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.regimes import timeline
from symroof.roof.analysis import analyze
from symroof.roof.ledger import require_device
from symroof.serving.feed_forward import crossing, decoding, feed_forward, link_of, weights_apart
from symroof.symbols import VOCABULARY, substitute
from symroof.units import BYTE, COUNT, SECOND, TOKEN_RATE, in_unit

ATTENTION, LINK, FFN = "attention", "link", "ffn"


@dataclass(frozen=True)
class AttentionSplit(Answer):
    """How many attention devices an FFN device serves.

    Attributes
    ----------
    step : a step of one attention device: its batch b, and as context the mean tokens of its sequences.
    device, ffn_device : what attention runs on, and what feed-forward layers run on.
    attention_time_expr : T_A, seconds of everything but feed-forward layers, for b sequences, bare.
    link_times_expr : seconds to the FFN device and back for b sequences, over the link of an attention device, bare.
    ffn_expr : T_F over the attention devices, exact, on pieces.
    cost_expr : device-seconds of a token over the attention devices, labelled by the longest stage.
    plain_time_expr : seconds of the step where every device does both, at the same batch, bare.
    """

    step: Step = field(repr=False, compare=False)
    device: Device = field(repr=False, compare=False)
    ffn_device: Device = field(repr=False, compare=False)
    attention_time_expr: Expr
    link_times_expr: tuple[Expr, Expr]
    ffn_expr: Piecewise = field(repr=False)
    cost_expr: Piecewise = field(repr=False)
    plain_time_expr: Expr

    attention_time = in_unit(lambda split: split.attention_time_expr, SECOND, "Time of attention for its batch, as a Quantity in seconds.")
    link_times = in_unit(lambda split: split.link_times_expr, SECOND, "Times to the FFN device and back, as Quantities in seconds.")
    ratio = in_unit(lambda split: split.ratio_expr, COUNT, "`ratio_expr`, as a Quantity without a unit.")
    candidates = in_unit(lambda split: split.candidates_exprs, COUNT, "`candidates_exprs`, as Quantities without a unit.")
    ffn_time = in_unit(
        lambda split: split.ffn_time_expr, SECOND, "Time of the FFN device at the best whole ratio, as a Quantity in seconds."
    )
    stage_time = in_unit(
        lambda split: split.stage_time_expr, SECOND, "The longest stage at the best whole ratio, as a Quantity in seconds."
    )
    tpot = in_unit(lambda split: split.tpot_expr, SECOND, "Time per token there, with micro-batches in flight, as a Quantity in seconds.")
    throughput = in_unit(lambda split: split.throughput_expr, TOKEN_RATE, "Tokens a second and device there, as a Quantity.")
    memory = in_unit(lambda split: split.memory_exprs, BYTE, "`memory_exprs`, as Quantities in bytes.")
    gain = in_unit(lambda split: split.gain_expr, COUNT, "Throughput per device over that without a split, at batch b, as a Quantity.")

    @property
    def ratio_expr(self) -> Expr:
        """The best ratio among the real numbers, exact and bare."""
        return self.cost_expr.minimum()[1]

    @property
    def devices(self) -> int:
        """The best whole number of attention devices for one FFN device."""
        return int(self.cost_expr.minimum(whole=True)[1])

    @property
    def bound(self) -> str:
        """The longest stage at the best whole ratio: "attention", "link" or "ffn"."""
        return str(self.cost_expr.at(self.devices).label)

    @property
    def ffn_time_expr(self) -> Expr:
        """Seconds of the FFN device at the best whole ratio, bare."""
        return self.ffn_expr(self.devices)

    @property
    def stage_time_expr(self) -> Expr:
        """Seconds of the longest stage at the best whole ratio, bare."""
        return cast(Expr, max(self.attention_time_expr, *self.link_times_expr, self.ffn_time_expr))

    @property
    def memory_exprs(self) -> dict[str, Expr]:
        """Bytes on an attention device, with the cache of all micro-batches in flight, and of weights on the FFN device, bare."""
        inside, outside = weights_apart(self.step)
        return {ATTENTION: outside + self.micro_batches * self.step.graph.kv_memory(), FFN: inside}

    @property
    def fits(self) -> bool | None:
        """Whether both fit the memory of their devices; None where a capacity is not known."""
        rooms = (self.device.usable_figure, self.ffn_device.usable_figure)
        pairs = [(room, need) for room, need in zip(rooms, self.memory_exprs.values(), strict=True) if room is not None]
        return all(bool(need <= room.value) for room, need in pairs) if len(pairs) == len(rooms) else None

    @property
    def micro_batches(self) -> int:
        """The least number of micro-batches in flight with which the longest stage never waits: ``ceil(all stages / the longest)``.

        A micro-batch is b sequences on every attention device; its next step begins when its last one ends.
        """
        chain = self.attention_time_expr + Add(*self.link_times_expr) + self.ffn_time_expr
        return int(ceiling(chain / self.stage_time_expr))

    @property
    def tpot_expr(self) -> Expr:
        """Seconds per token of a sequence with that many micro-batches in flight, bare."""
        return self.micro_batches * self.stage_time_expr

    @property
    def throughput_expr(self) -> Expr:
        """Tokens a second and device at the best whole ratio, bare; of each where techniques spread a step over several."""
        return 1 / (self.cost_expr(self.devices) * self.step.graph.devices)

    @property
    def gain_expr(self) -> Expr:
        """Throughput per device over that of devices that do both with batch b each, bare."""
        return self.plain_time_expr / (self.cost_expr(self.devices) * self.step.values[symbols.b])

    @property
    def candidates_exprs(self) -> dict[str, Expr]:
        """r_A, r_C and r_peak, bare: where the FFN takes as long as attention, as long as the link, and where its fixed cost is spread.

        Of the FFN's time on the piece that contains the best ratio. The largest of the three is the best ratio if it lies on that piece.
        Empty where the expected number of experts makes that time an exponential.
        """
        x = symbols.rho_a
        if not all(piece.value.is_polynomial(x) for piece in self.ffn_expr.pieces):
            return {}
        line = Poly(self.ffn_expr.at(self.ratio_expr).value, x)
        slope, fixed = line.coeff_monomial(x), line.coeff_monomial(1)
        times = {ATTENTION: self.attention_time_expr, LINK: cast(Expr, max(self.link_times_expr))}
        found = {name: cast(Expr, max((time - fixed) / slope, S.Zero)) for name, time in times.items()}
        return {**found, "peak": sqrt(fixed / slope)}


def attention_split(
    step: Step,
    hardware: Device | str | Path,
    *,
    ffn_hardware: Device | str | Path | None = None,
    link: Any = None,
    ceilings: str = STATED,
) -> AttentionSplit:
    """The ratio of attention to FFN devices with the most tokens a second and device, exactly, with the stage that decides it.

    FFN devices run the feed-forward layers, of all sequences that attention devices send; attention devices everything else, with the
    cache, embedding and LM head. What a layer sends and gets back crosses the link of the attention device; an FFN device is taken
    to have a link for each (`dead_zone` has the other case). The workload enters T_A alone, and only by the mean tokens in the cache:
    the context of the step. Where techniques spread a step over several devices, a device here is that many. Valid while layers are alike,
    so that stages of a layer are in the ratio of their sums.

    Parameters
    ----------
    step : a numeric decode step of one attention device: batch b, and as context the mean tokens of a sequence (``theta``).
    hardware : the attention device, and the FFN device unless *ffn_hardware* names another.
    link : bandwidth of an attention device's link, one way; the device's own link if omitted.
    ceilings : the ceiling set; calibrated ones have no closed form.

    Raises
    ------
    InputError
        The step is not numeric or not a decode step, has no feed-forward layers, or no link is known.

    >>> import symroof
    >>> step = symroof.load_model("llama-3.1-8b").decode(batch=64, seq_len=4096)
    >>> split = symroof.attention_split(step, "h200-sxm")
    >>> split.devices, split.bound, split.micro_batches, split.fits
    (11, 'attention', 3, True)

    Source: Song et al. (2026), arXiv:2601.21351; micro-batches: Zhu et al. (2025), MegaScale-Infer, arXiv:2504.02263.
    """
    device = require_device(hardware, "stages are compared in numbers")
    other = device if ffn_hardware is None else require_device(ffn_hardware, "feed-forward layers run on it")
    step = decoding(step)
    of_ffn = {operator.name for operator, _ in feed_forward(step.symbolic)}
    if not of_ffn:
        raise InputError(f"{step.title} has no feed-forward layers to run elsewhere")
    batch, x = step.values[symbols.b], symbols.rho_a
    analysis = analyze(step, device, ceilings=ceilings)
    attention = Add(*(point.count_expr * point.work_expr for point in analysis if point.name not in of_ffn))
    bandwidth = link_of(device, link)
    times = cast(tuple[Expr, Expr], tuple(moved / bandwidth for moved in crossing(step)))
    over_batch = timeline(step.without("batch"), VOCABULARY[symbols.b], other, "+".join(sorted(of_ffn)), ceilings)
    ffn = Piecewise(x, tuple(_scaled(piece, batch) for piece in over_batch.pieces))
    cost = _cost(ffn, attention, times, batch)
    return AttentionSplit(step, device, other, attention, times, ffn, cost, analysis.total.time_expr)


def _scaled(piece: Piece, batch: Expr) -> Piece:
    """A piece over the batch of an FFN device, over its attention devices."""
    x = symbols.rho_a
    high = oo if piece.high == oo else piece.high / batch
    return Piece(piece.low / batch, high, substitute(piece.value, {symbols.b: batch * x}).expand(), piece.label)


def _cost(ffn: Piecewise, attention: Expr, link: tuple[Expr, Expr], batch: Expr) -> Piecewise:
    """Device-seconds of a token: ``(1 + 1 / rho) / b`` times the longest stage.

    Where the expected number of experts makes the FFN's time an exponential, over whole ratios alone, up to the one from which none can
    be better: its time never falls, so a ratio of r or more costs at least ``T_F(r) / b``.
    """
    x = symbols.rho_a
    if not all(piece.value.is_polynomial(x) for piece in ffn.pieces):
        return _counted(ffn, attention, link, batch)
    pieces: list[Piece] = []
    for piece in ffn.pieces:
        stages = {ATTENTION: attention, LINK: cast(Expr, max(link)), FFN: piece.value}
        pieces += envelope(x, piece.low, piece.high, stages).pieces
    return Piecewise(x, tuple(pieces)).merged(value=True).map(lambda stage: ((1 + 1 / x) * stage / batch).expand())


def _counted(ffn: Piecewise, attention: Expr, link: tuple[Expr, Expr], batch: Expr) -> Piecewise:
    """The same over whole ratios."""
    points: list[tuple[Expr, str]] = []
    best: Expr | None = None
    while best is None or ffn(len(points) + 1) < best * batch:
        ratio = Integer(len(points) + 1)
        stages = {ATTENTION: attention, LINK: cast(Expr, max(link)), FFN: ffn(ratio)}
        longest = max(stages, key=lambda name: stages[name])
        cost = (1 + 1 / ratio) * stages[longest] / batch
        best = cost if best is None else cast(Expr, min(best, cost))
        points.append((cost, longest))
    return counted_pieces(symbols.rho_a, range(1, len(points) + 1), lambda number: points[number - 1])
