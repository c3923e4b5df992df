"""A mixture of experts against a dense model of the same quality under one memory: the qs inequality, and what is exact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, Integer, numer, together

from symroof import symbols
from symroof.algebra.piecewise import MEMORY
from symroof.algebra.reals import order
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.operators.select import routed
from symroof.operators.tensor import Storage
from symroof.proof.claims import Certificate, decide
from symroof.questions.capacity import largest, usable_capacity
from symroof.questions.regimes import timeline
from symroof.roof.ledger import require_device
from symroof.symbols import VOCABULARY, substitute
from symroof.units import BYTE, COUNT, TOKEN_RATE, in_unit, number

SPARSE, DENSE, EQUAL = "sparse", "dense", "equal"


@dataclass(frozen=True)
class FullMemory(Answer):
    """A model at the largest batch that fits.

    Attributes
    ----------
    step : at that batch, or at one sequence if none fits.
    batch : the largest whole batch.
    weights_expr : bytes of all weights, bare.
    rate_expr : tokens per second of all sequences, bare; 0 if no sequence fits.
    """

    step: Step
    batch: int
    weights_expr: Expr
    rate_expr: Expr

    weights = in_unit(lambda one: one.weights_expr, BYTE, "All weights, as a Quantity in bytes.")
    rate = in_unit(lambda one: one.rate_expr, TOKEN_RATE, "Tokens per second of all sequences, as a Quantity.")


@dataclass(frozen=True)
class SparseAgainstDense(Answer):
    """Throughput of a mixture of experts and of a dense model, each at the largest batch that one memory has room for.

    Attributes
    ----------
    sparse, dense : both at full memory.
    quality_expr : q, parameters of the dense model over the active ones of the sparse model, bare.
    share_expr : s, the share of the sparse model's parameters that a token uses, bare.
    capacity_expr : bytes of memory, bare.
    idle_expr : the share of the sparse model's weights that a step at its batch does not touch, bare.
    """

    sparse: FullMemory
    dense: FullMemory
    quality_expr: Expr
    share_expr: Expr
    capacity_expr: Expr
    idle_expr: Expr
    device: Device = field(repr=False, compare=False)

    capacity = in_unit(lambda answer: answer.capacity_expr, BYTE, "Memory, as a Quantity in bytes.")
    quality = in_unit(lambda answer: answer.quality_expr, COUNT, "q, as a Quantity without a unit.")
    share = in_unit(lambda answer: answer.share_expr, COUNT, "s, as a Quantity without a unit.")
    qs = in_unit(lambda answer: answer.qs_expr, COUNT, "q s, as a Quantity without a unit.")
    threshold = in_unit(lambda answer: answer.threshold_expr, COUNT, "`threshold_expr`, as a Quantity without a unit.")
    gain = in_unit(
        lambda answer: answer.gain_expr, COUNT, "`gain_expr`, as a Quantity without a unit; None if the sparse model does not fit."
    )

    @property
    def qs_expr(self) -> Expr:
        """``q s``, exact and bare."""
        return self.quality_expr * self.share_expr

    @property
    def threshold_expr(self) -> Expr:
        """Below which q s the dense model is faster if memory binds both: ``(1 - i) / (1 - i M / C)``, bare; 1 with no idle weights."""
        return (1 - self.idle_expr) / (1 - self.idle_expr * self.sparse.weights_expr / self.capacity_expr)

    @property
    def gain_expr(self) -> Expr | None:
        """Throughput of the dense model over that of the sparse one, exact and bare; None if no sequence of the sparse model fits."""
        return None if self.sparse.rate_expr == 0 else self.dense.rate_expr / self.sparse.rate_expr

    @property
    def rule(self) -> str:
        """Which model is faster by the inequality as published: "dense" if q s < 1."""
        return _faster(Integer(1), self.qs_expr)

    @property
    def faster(self) -> str:
        """Which model has more throughput: "sparse", "dense" or "equal"."""
        return _faster(self.dense.rate_expr, self.sparse.rate_expr)


def _faster(dense: Expr, sparse: Expr) -> str:
    return {-1: SPARSE, 0: EQUAL, 1: DENSE}[order(dense, sparse)]


def active_twin(step: Step, size: Any = 1) -> Step:
    """The same step of a dense model: K experts, which every token uses, so wide that it has *size* times the active parameters.

    Attention, and with it the cache, are those of the sparse model. The router has only rows for K experts.

    Parameters
    ----------
    step : a step of a mixture of experts with numbers for the model's dimensions.
    size : q, parameters of the dense model over the active ones of the sparse model, a number.

    Raises
    ------
    InputError
        The model has no routed experts, dimensions are symbols, or the size leaves nothing for the experts.

    >>> import symroof
    >>> step = symroof.load_model("qwen3-235b-a22b").decode(seq_len=4096)
    >>> print(active_twin(step).graph.parameter_count(), active_twin(step, 2).graph.parameter_count())
    22144560640 44289121280
    """
    if symbols.E_z in step.values:
        raise InputError(f"{step.model}: tokens also choose experts without weights, of which a dense model has none")
    if not {symbols.E, symbols.K, symbols.f_e} <= step.values.keys():
        raise InputError(f"{step.model} has no routed experts with numbers for their sizes: there is no dense model of its active size")
    wide, wanted = symbols.f_e, number(size, COUNT, "size")
    if not wanted.is_number:
        raise InputError(f"size {quote(str(size))}: expected a number")
    dense = replace(step, values={**step.values, symbols.E: step.values[symbols.K]})
    count = cast(Expr, dense.symbolic.bind({symbol: value for symbol, value in dense.values.items() if symbol != wide}).parameter_count())
    slope, own = count.diff(wide), substitute(count, {wide: step.values[wide]})
    width = (wanted * own - substitute(count, {wide: Integer(0)})) / slope
    if not width.is_positive:
        least = 1 - step.values[wide] * slope / own
        raise InputError(f"size {quote(str(size))}: what all tokens share takes more: expected more than {float(least):.3g}")
    return replace(dense, values={**dense.values, wide: width})


def sparse_against_dense(
    step: Step, hardware: Device | str | Path, *, quality: Any = None, dense: Step | None = None, devices: int = 1, ceilings: str = STATED
) -> SparseAgainstDense:
    """Throughput of a mixture of experts against a dense model's, each at the largest batch that fits the same memory.

    With C bytes of memory, M of weights and a cache of equal size per sequence, a step at full memory that touches all experts
    takes ``C / BW`` whatever the model. So throughput is in proportion to the batch, ``C - M`` against ``C - q s M``, and the dense model
    is faster if ``q s < 1``. With a share i of the weights untouched the sparse step reads less, and the condition is
    ``q s < (1 - i) / (1 - i M / C)`` (`prove_qs`). The numbers here are those of whole steps on the device, compute included.

    Parameters
    ----------
    step : a decode step of a mixture of experts with a number for the context; its batch is not used.
    quality : q, for a dense model with the same attention (`active_twin`); or
    dense : a step of another model.
    devices : how many devices share the memory, ideally: so many times capacity, bandwidth and peak.

    Raises
    ------
    InputError
        Neither or both of quality and dense are given, the model has no experts, or the devices are not a whole number above 0.
    DeviceError
        The device states no capacity.

    >>> import symroof
    >>> step = symroof.load_model("deepseek-v3").decode(seq_len=131072)
    >>> found = sparse_against_dense(step, "h200-sxm", quality=5, devices=6)
    >>> found.sparse.batch, found.dense.batch, f"{found.qs:.3g}", f"{found.gain:.3g}", found.faster
    (24, 77, '0.279', '1.45', 'dense')

    Source: Adhinarayanan and Jayasena (2026), The qs inequality, arXiv:2603.08960.
    """
    if (quality is None) == (dense is None):
        raise InputError("give quality, for a dense model with the same attention, or dense, a step of another model")
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise InputError(f"devices {quote(str(devices))}: expected a whole number above 0")
    device = require_device(hardware, "throughput at full memory is numeric")
    step = step.without("batch").with_widths()
    active = active_twin(step)
    other = (active_twin(step, quality) if dense is None else dense).without("batch").with_widths()
    capacity = devices * usable_capacity(device, step)
    sparse_side, dense_side = (_full(one, device, devices, ceilings) for one in (step, other))
    counts = [one.graph.parameter_count() for one in (step, active, other)]
    return SparseAgainstDense(sparse_side, dense_side, counts[2] / counts[1], counts[1] / counts[0], capacity, _idle(sparse_side), device)


def _full(step: Step, device: Device, devices: int, ceilings: str) -> FullMemory:
    """A model at its largest batch."""
    found = largest(step, capacity=devices * cast(Any, device.usable_figure).value)
    batch, over = found.integer, VOCABULARY[symbols.b]
    at = replace(step, values={**step.values, symbols.b: Integer(max(batch, 1))})
    rate = batch * devices / timeline(step, over, device, ceilings=ceilings)(Integer(batch)) if batch else Integer(0)
    return FullMemory(at, batch, at.graph.weight_memory(), rate)


def _idle(one: FullMemory) -> Expr:
    """The share of the weights that belongs to experts which no token of the step goes to, in expectation."""
    graph = one.step.graph
    experts = {access.tensor for operator, _ in graph for access in operator.reads if routed(access)}
    resident = graph.resident(Storage.WEIGHT).items()
    size = Add(*(count * tensor.byte_count for tensor, count in resident if tensor in experts))
    touched = substitute(graph.definitions[symbols.X], graph.definitions) / one.step.values[symbols.E]
    return cast(Expr, (1 - touched) * size / one.weights_expr)


def prove_qs() -> tuple[Certificate, Certificate, Certificate]:
    """The qs inequality for all sizes: proved where every weight is used, refuted where some are idle, and what holds there, proved.

    Memory ``C = W_u + W_i + M_f`` holds the sparse model's weights M, used and idle, or ``q s M`` of the dense one; the rest is caches
    of equal size per sequence. A step reads all of it but W_i. So the dense model has more throughput if and only if
    ``M_f C - (C - q s M)(C - W_i) < 0``.

    >>> [proof.verdict for proof in prove_qs()]
    ['proved', 'refuted', 'proved']
    """
    used, idle, room, near = symbols.W_u, symbols.W_i, symbols.M_f, symbols.y_q

    def claim(words: str, limit: Expr, weights: Expr) -> Certificate:
        memory, qs = weights + room, limit * near / (1 + near)  # any q s below the limit
        slack = numer(together(room * memory - (memory - qs * weights) * (room + used)))  # denominators are positive
        lows = {symbol: Integer(0) for symbol in (used, idle, room, near) if symbol in slack.free_symbols}
        return decide(f"the dense model is faster if q s < {words}", MEMORY, slack.expand(), lows)

    every = used + idle
    return (
        claim("1, with no idle weights", Integer(1), used),
        claim("1, with idle weights", Integer(1), every),
        claim("(1 - i) / (1 - i M / C), with a share i of idle weights", used * (every + room) / (every * (used + room)), every),
    )
