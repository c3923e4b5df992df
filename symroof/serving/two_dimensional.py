"""Weights split along both dimensions: feed-forward layers whose traffic between devices falls with the number of devices.

Over N devices a matrix is cut into X parts along its input dimension and Y along its output dimension, N = X Y. An MLP gathers its
input over the Y devices of a row, adds the partial sums of its inner activations up over the X devices of a column, and scatters its
output. With I, J and O bytes of input, inner activations and output, a device moves about

``(I + O) / X + 2 J / Y``, least at ``X = sqrt(N (I + O) / (2 J))``: ``2 sqrt(2 (I + O) J / N)``

while splits along one dimension alone move I + O however many devices there are (Pope et al., 2022, arXiv:2211.05102).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sympy import Add, Expr, Integer, Rational, S, divisors, sqrt

from symroof import symbols
from symroof.answers import Answer
from symroof.architectures.options import whole
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators import Kind, Storage
from symroof.operators.select import routed
from symroof.serving.feed_forward import crossing, feed_forward
from symroof.units import BANDWIDTH, BYTE, COUNT, SECOND, counted, in_unit, number

TRIED = 65536
"""The most devices up to which the first number that pays is looked for."""


@dataclass(frozen=True)
class TwoDimensional(Answer):
    """The traffic of feed-forward layers over N devices, split along both dimensions and along one.

    Attributes
    ----------
    step : the step of all devices together.
    devices : N.
    axes : rings of the network that a device is on, each with the link's bandwidth: one for X, the others for Y; 1 for one link that
        all transfers share.
    link_expr : byte/s of a ring, bare.
    input_expr, inner_expr, output_expr : I, J and O, bytes of all layers, bare.
    """

    step: Step = field(repr=False, compare=False)
    devices: int
    axes: int
    link_expr: Expr
    input_expr: Expr
    inner_expr: Expr
    output_expr: Expr

    input = in_unit(lambda split: split.input_expr, BYTE, "Input of the feed-forward layers, as a Quantity in bytes.")
    inner = in_unit(lambda split: split.inner_expr, BYTE, "Inner activations of the feed-forward layers, as a Quantity in bytes.")
    output = in_unit(lambda split: split.output_expr, BYTE, "Output of the feed-forward layers, as a Quantity in bytes.")
    link = in_unit(lambda split: split.link_expr, BANDWIDTH, "Bandwidth of a ring, as a Quantity in byte/second.")
    time = in_unit(lambda split: split.time_expr(*split.parts), SECOND, "Time on the links with the best parts, as a Quantity in seconds.")
    one_dimensional_time = in_unit(
        lambda split: split.one_dimensional_time_expr(),
        SECOND,
        "Time on the links of splits along one dimension, as a Quantity in seconds.",
    )
    traffic = in_unit(
        lambda split: split.traffic_expr(*split.parts), BYTE, "What a device sends with the best parts, as a Quantity in bytes."
    )
    input_parts = in_unit(lambda split: split.input_parts_expr, COUNT, "`input_parts_expr`, as a Quantity without a unit.")
    limit_time = in_unit(lambda split: split.limit_time_expr, SECOND, "`limit_time_expr`, as a Quantity in seconds.")
    threshold = counted(lambda split: split.threshold_expr, "`threshold_expr`: an int, or a Quantity without a unit.")

    @property
    def rings(self) -> tuple[int, int]:
        """The rings of X and of Y."""
        return 1, max(self.axes - 1, 1)

    def traffic_expr(self, x: int, y: int) -> Expr:
        """Bytes that a device sends with X x Y parts, bare."""
        inner, outer = self._moved(x, y)
        return inner + outer

    def _moved(self, x: int, y: int) -> tuple[Expr, Expr]:
        inner = 2 * Rational(x - 1, x) * self.inner_expr / y
        return inner, Rational(y - 1, y) * (self.input_expr + self.output_expr) / x

    def time_expr(self, x: int, y: int) -> Expr:
        """Seconds on the links with X x Y parts, bare: an all-reduce over X, an all-gather and a reduce-scatter over Y."""
        (inner, outer), (of_x, of_y) = self._moved(x, y), self.rings
        return (inner / of_x + outer / of_y) / self.link_expr

    def one_dimensional_time_expr(self, devices: int | None = None) -> Expr:
        """Seconds on the links of splits along one dimension over all rings, bare."""
        many = self.devices if devices is None else devices
        return Rational(many - 1, many) * (self.input_expr + self.output_expr) / (self.axes * self.link_expr)

    @property
    def parts(self) -> tuple[int, int]:
        """The best X and Y among the divisors of N."""
        return self._parts(self.devices)

    def _parts(self, devices: int) -> tuple[int, int]:
        return min(((x, devices // x) for x in divisors(devices)), key=lambda parts: (self.time_expr(*parts), parts))

    @property
    def input_parts_expr(self) -> Expr:
        """The best X among the real numbers for many devices, bare: ``sqrt(N (I + O) / (2 J))`` times the root of the rings' ratio."""
        of_x, of_y = self.rings
        return sqrt(self.devices * (self.input_expr + self.output_expr) * of_x / (2 * self.inner_expr * of_y))

    @property
    def limit_time_expr(self) -> Expr:
        """Seconds on the links at that X for many devices, bare: ``2 sqrt(2 (I + O) J / (N rings))`` over the bandwidth."""
        of_x, of_y = self.rings
        square = 2 * (self.input_expr + self.output_expr) * self.inner_expr / (self.devices * of_x * of_y)
        return 2 * sqrt(square) / self.link_expr

    @property
    def formula(self) -> Expr:
        """`limit_time_expr` over the number of devices, n_g."""
        return self.limit_time_expr * sqrt(self.devices) / sqrt(symbols.n_g)

    @property
    def threshold_expr(self) -> Expr:
        """The devices above which it takes less time than splits along one dimension, for many devices, bare.

        ``8 J axes^2 / ((I + O) rings)``; of an MLP of two matrices over three axes ``32 (F / D) (3 / 4)^2``, 18 F / D.
        """
        of_x, of_y = self.rings
        return 8 * self.inner_expr * Integer(self.axes) ** 2 / ((self.input_expr + self.output_expr) * of_x * of_y)

    @property
    def first_power(self) -> int | None:
        """The least power of two of devices that takes less time than splits along one dimension, with its best whole parts."""
        many = 2
        while many <= TRIED:
            if self.time_expr(*self._parts(many)) < self.one_dimensional_time_expr(many):
                return many
            many *= 2
        return None


def two_dimensional(step: Step, *, devices: int, link: Any, axes: int = 3) -> TwoDimensional:
    """The traffic of feed-forward layers split along both dimensions over N devices, with the best parts, and from which N it pays.

    Work and weights are divided by N either way. Without routed experts, whose rows are not those of the step.

    Parameters
    ----------
    step : a step of all devices together, without tensor parallelism.
    devices : N.
    link : bandwidth of a ring of the network as a collective uses it, in both directions together; with axes=1, of a device's link.
    axes : rings that a device is on: 3 of a TPU v4 or v5p, 2 of a v5e; 1 for a switch.

    Raises
    ------
    InputError
        A count is not a whole number, an input is missing, or feed-forward layers have routed experts.

    >>> import symroof
    >>> step = symroof.load_model("opt-66b").decode(batch=64, seq_len=2048, activation_bits=16)
    >>> split = symroof.two_dimensional(step, devices=64, link="90 GB/s")
    >>> split.threshold, split.parts, split.first_power
    (72, (2, 32), 64)

    Source: Pope et al. (2022), arXiv:2211.05102, section 3.2; Austin et al. (2025), How to scale your model, inference, question 7.
    """
    devices, axes = whole("devices", devices, ""), whole("axes", axes, "")
    layers = feed_forward(step.symbolic)
    if not layers:
        raise InputError(f"{step.title} has no feed-forward layers to split")
    if any(routed(access) for operator, _ in layers for access in operator.reads):
        raise InputError(f"{step.title} has routed experts: expected feed-forward layers that all tokens go through")
    if technique := next((each for each in step.symbolic.applied if hasattr(each, "degree")), None):
        raise InputError(f"{technique.name} spreads the step over devices already: give the step of all devices together")
    sent, returned = crossing(step)
    names = {operator.name for operator, _ in layers}
    inner = S.Zero
    for block in step.graph.blocks:
        inside = [operator for operator in block.operators if operator.name in names]
        made = {access.tensor for operator in inside for access in operator.writes}
        first = [one for one in inside if one.kind is Kind.MATMUL and not made & _activations(one)]
        inner += block.count * Add(*(operator.result.byte_count for operator in first))
    if missing := (sent + returned + inner).free_symbols:
        raise InputError(f"give {', '.join(sorted(map(str, missing)))}: traffic is numeric")
    return TwoDimensional(step, devices, axes, number(link, BANDWIDTH, "link"), sent, inner, returned)


def _activations(operator: Any) -> set[Any]:
    return {access.tensor for access in operator.reads if access.tensor.storage is Storage.ACTIVATION}
