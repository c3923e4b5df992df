"""Capacity: the largest batch that fits, the context at which the KV cache exceeds the weights, and their trade-off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, Integer, Max, Symbol, factor, oo
from sympy import Piecewise as Cases

from symroof import symbols
from symroof.algebra.envelope import envelope
from symroof.algebra.piecewise import Piecewise
from symroof.algebra.saturation import Branch, branches, saturating, spans
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError, quote
from symroof.hardware.device import Device
from symroof.operators.graph import Graph
from symroof.roof.costs import needed, variable_of
from symroof.roof.ledger import device_of
from symroof.symbols import VOCABULARY, Variable, option_name, substitute
from symroof.techniques.registry import multiple_of, rounded, whole_multiple
from symroof.units import BYTE, COUNT, Quantity, in_unit, number, quantity, unit_of


@dataclass(frozen=True)
class Largest(Answer):
    """The largest value of a variable that fits.

    Attributes
    ----------
    value_expr : the largest real value, exact and bare; 0 if nothing fits.
    integer : the largest whole number that the techniques accept; 0 if none fits.
    capacity_expr : memory of one device in bytes, bare.
    memory_exprs : bytes of weights, KV cache and activations on one device at the whole number, or at the least one if none fits.
    devices : the number of devices that share the step; batch and context are totals over them.
    step, device : what was asked about; no device where a capacity was given.
    multiple : what the whole number must be a multiple of, because techniques split the variable evenly.
    """

    variable: Variable
    value_expr: Expr
    integer: int
    capacity_expr: Expr
    memory_exprs: Mapping[str, Expr]
    devices: int
    step: Step = field(repr=False, compare=False)
    device: Device | None = field(repr=False, compare=False)
    multiple: int = 1

    value = in_unit(lambda answer: answer.value_expr, lambda answer: unit_of(answer.variable), "The largest real value, as a Quantity.")
    capacity = in_unit(lambda answer: answer.capacity_expr, BYTE, "Memory of one device, as a Quantity in bytes.")
    memory = in_unit(lambda answer: answer.memory_exprs, BYTE, "Weights, KV cache, activations at the whole number, Quantities.")


@dataclass(frozen=True)
class Room(Answer):
    """The values of a variable at which a step fits the memory of a device.

    Attributes
    ----------
    capacity_expr : memory of one device in bytes, bare.
    least_expr, most_expr : the limits set by memory, bare; None without a limit on that side.
    fits : whether any value fits.
    """

    over: Variable
    capacity_expr: Expr
    least_expr: Expr | None = None
    most_expr: Expr | None = None
    fits: bool = True

    capacity = in_unit(lambda room: room.capacity_expr, BYTE, "Memory of one device, as a Quantity in bytes.")
    least = in_unit(lambda room: room.least_expr, lambda room: unit_of(room.over), "The least that fits, as a Quantity, or None.")
    most = in_unit(lambda room: room.most_expr, lambda room: unit_of(room.over), "The most that fits, as a Quantity, or None.")


def memory_parts(graph: Graph) -> tuple[Expr, Expr, Expr]:
    """Bytes of weights, KV cache and activations of a graph.

    >>> import symroof
    >>> memory_parts(symroof.load_model("llama-2-7b").decode().graph)[1]
    32768*b*c*t
    """
    return graph.weight_memory(), graph.kv_memory(), graph.activation_memory()


def memory_of(step: Step) -> Expr:
    """Bytes that the step needs for weights, KV cache and activations.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048)
    >>> memory_of(step) == sum(memory_parts(step.graph))
    True
    """
    return Add(*memory_parts(step.graph))


def memory_over(step: Step, variable: Variable) -> Piecewise:
    """Bytes of one device's memory that a step needs, as a function of batch, context, a width or the number of devices.

    Parameters
    ----------
    step : a step with numbers for all other inputs; omitted widths have defaults (`Options.with_widths`).

    Raises
    ------
    InputError
        Other symbols are left, or memory counts blocks of the variable.
    """
    graph = _bound(step, x := variable.symbol)
    weights, cache, activations = memory_parts(graph)
    needs = [cast(Expr, weights + cache + state) for state in (activations.args if isinstance(activations, Max) else (activations,))]
    if letters := Add(*needs).free_symbols - {x, *graph.definitions}:
        raise InputError(f"{needed(letters)} to compute what fits")
    pieces = [
        piece
        for span in _spans(graph, Add(*needs), x)
        for piece in envelope(
            x, span.low, min(span.high, variable.highest), {place: substitute(part, span.active) for place, part in enumerate(needs)}
        ).pieces
    ]
    return Piecewise(x, tuple(pieces)).merged(value=True)


def room_over(step: Step, variable: Variable, capacity: Expr) -> Room:
    """The values of a variable at which a step fits *capacity* bytes of each device's memory.

    Raises
    ------
    InputError
        As for `memory_over`.

    >>> import symroof
    >>> from symroof.symbols import lookup
    >>> step = symroof.load_model("llama-3-70b").decode(batch=8, seq_len=4096).apply(symroof.technique("tensor-parallel"))
    >>> room = room_over(step, lookup("degree"), Integer(80 * 10**9))
    >>> print(room.least, room.most)
    1.898 None
    """
    return room_within(variable, memory_over(step, variable), capacity)


def room_within(variable: Variable, memory: Piecewise, capacity: Expr) -> Room:
    """The same for bytes over a variable; if several intervals fit, the last one."""
    within = memory.within(capacity)
    if not within:
        return Room(variable, capacity, fits=False)
    last = within[-1]
    return Room(variable, capacity, last.low if last.low > memory.low else None, last.high if last.high < memory.high else None)


@dataclass(frozen=True)
class Fit(Answer):
    """Whether a step fits the memory of each device, and the largest batch that does.

    Attributes
    ----------
    needed_expr : bytes of one device's memory at the step's batch, bare.
    capacity_expr : memory of one device in bytes, bare; None if the device states none.
    largest_batch : the largest total batch over all devices that share the step; None without a capacity, or if every batch fits.
    """

    needed_expr: Expr
    capacity_expr: Expr | None = None
    largest_batch: int | None = None

    needed = in_unit(lambda fit: fit.needed_expr, BYTE, "Memory of one device that the step needs, as a Quantity in bytes.")
    capacity = in_unit(lambda fit: fit.capacity_expr, BYTE, "Memory of one device, as a Quantity in bytes, or None.")

    @property
    def fits(self) -> bool | None:
        """Whether the step fits; None without a capacity."""
        return None if self.capacity_expr is None else bool(self.needed_expr <= self.capacity_expr)


def fit_of(step: Step, device: Device, beside: Iterable[Step] = ()) -> Fit:
    """Whether a step fits a device, and the largest batch that does.

    Parameters
    ----------
    step : a step with numbers for all inputs, including the batch.
    beside : steps whose weights and KV cache share the memory, such as those of a draft model.

    Raises
    ------
    InputError
        As for `memory_over`, or the batch is not given.

    >>> import symroof
    >>> fit = fit_of(symroof.load_model("llama-3-8b").decode(batch=65, seq_len=8192), symroof.load_hardware("h100-sxm"))
    >>> fit.fits, fit.largest_batch
    (False, 64)
    """
    batch = VOCABULARY[symbols.b]
    if batch.symbol not in step.values:
        raise InputError("batch must be given as a number to compute what fits")
    shared = Add(*(part for one in beside for part in memory_parts(_bound(one, batch.symbol))[:2]))
    needed = (memory := memory_over(step, batch) + shared)(step.values[batch.symbol])
    if device.usable_figure is None:
        return Fit(needed)
    room = room_within(batch, memory, usable_capacity(device, step))
    most = rounded(room.most_expr or Integer(0), "<=", multiple_of(step.symbolic.applied, batch.symbol))
    return Fit(needed, room.capacity_expr, None if room.fits and room.most_expr is None else most)


def largest(step: Step, *, over: str | Symbol = "batch", hardware: Device | str | Path | None = None, capacity: Any = None) -> Largest:
    """The largest batch (or context) that fits a device's memory or a number of bytes.

    Parameters
    ----------
    step : a step with numbers for all other inputs; omitted widths have defaults (`Options.with_widths`).
    over : "batch", "seq_len", or another variable that memory grows with.

    Raises
    ------
    InputError
        Other symbols are left, or memory does not grow with the variable.
    DeviceError
        The device states no capacity.

    >>> import symroof
    >>> widths = {"weight_bits": 8, "activation_bits": 8, "kv_bits": 8}
    >>> step = symroof.load_model("llama-2-13b").decode(seq_len=2048, accounting="survey", **widths)
    >>> largest(step, capacity=Integer(48 * 10**9)).integer
    42
    """
    variable = variable_of(step, over)
    available = _room(hardware, capacity, step)
    x, name = variable.symbol, option_name(variable.symbol)
    if not _depends(graph := _bound(step, x), Add(*memory_parts(graph)), x):
        raise InputError(f"memory does not depend on {name}")
    room = room_over(step, variable, available)
    if room.least_expr is not None:
        raise InputError(f"memory falls as {name} grows: every {name} from {float(room.least_expr):.6g} on fits")
    if room.fits and room.most_expr is None:
        raise InputError(f"any {name} fits: from {memory_over(step, variable).pieces[-1].low} on memory does not grow with it")
    value = room.most_expr if room.most_expr is not None else Integer(0)
    whole = rounded(value, "<=", multiple := whole_multiple(step.symbolic.applied, x))
    parts, devices = graph.bind({x: Integer(max(whole, multiple))}).memory_exprs(), int(substitute(graph.devices, graph.definitions))
    asked = (step.without(x), None if capacity is not None else device_of(hardware))
    return Largest(variable, value, whole, available, parts, devices, *asked, multiple)


def _bound(step: Step, x: Symbol) -> Graph:
    """The graph of a step with numbers for all symbols except one, which is free even if a technique set it."""
    step = step.with_widths(x)
    return step.symbolic.without_values(x).bind({symbol: value for symbol, value in step.values.items() if symbol != x})


def usable_capacity(device: Device, step: Step) -> Expr:
    """Bytes of a device's memory available to a step: all of it, or the share that an engine uses.

    Raises
    ------
    DeviceError
        The device states no capacity.
    """
    if device.usable_figure is None:
        raise DeviceError(f"device {quote(device.name)} states no memory capacity")
    return step.symbolic.room(device.usable_figure.value)


def _room(hardware: Device | str | Path | None, capacity: Any, step: Step) -> Expr:
    if capacity is not None:
        return step.symbolic.room(number(capacity, BYTE, "capacity"))
    device = device_of(hardware)
    if device is None:
        raise InputError("give a device or a capacity in bytes")
    return usable_capacity(device, step)


def _spans(graph: Graph, expression: Expr, x: Symbol) -> tuple[Branch, ...]:
    """The branches of an expression of a numeric graph over an integer variable; two for a cache with windows."""
    return spans(branches(saturating(graph.definitions, expression.free_symbols), [x]), x, Integer(0), {})


def cache_passes_weights(step: Step) -> Quantity:
    """The context length beyond which the KV cache takes more memory than the weights, possibly with symbols.

    >>> import symroof
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> print(cache_passes_weights(symroof.load_model("llama-2-7b").decode(**widths)))
    1645121/(64*b)

    With a sliding window and a symbolic batch there is one case on each side of W. Zero or less: a state that does not
    grow with the context exceeds the weights at any context.

    Raises
    ------
    InputError
        No cache grows with the context, or it stops growing before it exceeds the weights.
    """
    length = variable_of(step, "seq_len").symbol
    graph = step.symbolic.bind({symbol: value for symbol, value in step.values.items() if symbol != length})
    weights, cache, _ = memory_parts(graph)
    if not _depends(graph, cache, length):
        raise InputError(f"{step.model} keeps no KV cache that grows with the context")
    found = _spans(graph, cache, length)
    passes = [_passes(weights, substitute(cache, span.active), length) for span in found]
    answer = Cases(*((value, span is found[-1] or value <= span.high) for value, span in zip(passes, found, strict=True)))
    if answer == oo:
        raise InputError(f"the KV cache of {step.model} stops growing at a context of {found[-1].low}, before it passes the weights")
    return quantity(answer, COUNT)


def _passes(weights: Expr, cache: Expr, length: Symbol) -> Expr:
    """The length at which a cache, linear in the length plus a state, equals the weights."""
    per_token, kept = cache.diff(length), substitute(cache, {length: Integer(0)})
    return cast(Expr, oo if per_token == 0 else factor((weights - kept) / per_token))


def _depends(graph: Graph, expression: Expr, x: Symbol) -> bool:
    """Whether an expression of a numeric graph depends on a variable, directly or through a saturating symbol."""
    return any(x in substitute(expression, span.active).free_symbols for span in _spans(graph, expression, x))


def hyperbola(step: Step, *, hardware: Device | str | Path | None = None, capacity: Any = None) -> Quantity:
    """The largest batch x context that fits in addition to the weights, without activations: ``(C - W) / cache per token``, or 0.

    >>> import symroof
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> step = symroof.load_model("llama-2-7b").decode(**widths)
    >>> round(float(hyperbola(step, hardware="a100-sxm-80gb")))
    138135

    Raises
    ------
    InputError
        A technique leaves widths symbolic, nothing is cached, or the cache is not proportional to batch x context because of
        sliding windows or recurrent states.
    """
    length, step = variable_of(step, "seq_len").symbol, step.with_widths()
    graph = step.symbolic.bind({symbol: value for symbol, value in step.values.items() if symbol not in (length, symbols.b)})
    weights, cache, _ = memory_parts(graph)
    if cache == 0:
        raise InputError(f"{step.model} keeps no KV cache")
    per_pair = (cache / length / symbols.b).expand()
    if per_pair.free_symbols & {length, symbols.b, symbols.t_w}:
        raise InputError(
            f"the KV cache of {step.model} is not proportional to batch x context, it has windows or states: "
            "ask for the largest batch at a context, or the largest context at a batch"
        )
    pairs = (_room(hardware, capacity, step) - weights) / per_pair
    if not pairs.is_number:
        raise InputError(f"{needed(pairs.free_symbols)} to compute what fits")
    return quantity(max(pairs, Integer(0)), COUNT)
