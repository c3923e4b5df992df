"""What fits: the largest batch, the context at which the KV cache passes the weights, and all pairs of the two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sympy import Add, Expr, Integer, Max, Symbol, factor, floor

from symroof import symbols
from symroof.analysis.costs import device_of, needed, variable_of
from symroof.analysis.polynomial import polynomial
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError, quote
from symroof.hardware.device import Device
from symroof.operators.graph import Graph
from symroof.symbols import VOCABULARY, substitute


@dataclass(frozen=True)
class Largest:
    """The most of a variable that fits.

    Attributes
    ----------
    value : the largest real value, exactly.
    integer : the largest whole number; 0 where not even one fits.
    candidates : the limit that each state of the activations sets; the least of them is the value.
    """

    value: Expr
    integer: Expr
    candidates: tuple[Expr, ...]


def memory_parts(graph: Graph) -> tuple[Expr, Expr, Expr]:
    """Bytes of weights, KV cache and activations of a graph."""
    return graph.weight_memory(), graph.kv_memory(), graph.activation_memory()


def memory_of(step: Step) -> Expr:
    """Bytes the step needs: weights, KV cache and activations."""
    return Add(*memory_parts(step.graph))


def largest(step: Step, *, over: str = "batch", hardware: Device | str | Path | None = None, capacity: Expr | None = None) -> Largest:
    """The largest batch (or context) that fits a device's memory or a number of bytes.

    Parameters
    ----------
    step : with every other input given as a number.
    over : "batch" or "seq_len".

    Raises
    ------
    InputError
        Other letters are left, or memory does not grow with the variable.
    DeviceError
        The device states no capacity.

    >>> import symroof
    >>> widths = {"weight_bits": 8, "activation_bits": 8, "kv_bits": 8}
    >>> step = symroof.load_model("llama-2-13b").decode(seq_len=2048, accounting="survey", **widths)
    >>> largest(step, capacity=Integer(48 * 10**9)).integer
    42
    """
    variable = variable_of(step, over)
    room = _room(hardware, capacity)
    values = {symbol: value for symbol, value in step.values.items() if symbol != variable.symbol}
    weights, cache, activations = memory_parts(step.letters.bind(values))
    states = activations.args if isinstance(activations, Max) else (activations,)
    limits = tuple(_limit(weights + cache + state - room, variable.symbol) for state in states)
    value = min(limits)
    return Largest(value, max(floor(value), Integer(0)), limits)


def _room(hardware: Device | str | Path | None, capacity: Expr | None) -> Expr:
    if capacity is not None:
        return capacity
    device = device_of(hardware)
    if device is None:
        raise InputError("give a device or a capacity in bytes")
    if device.capacity_figure is None:
        raise DeviceError(f"device {quote(device.name)} states no memory capacity")
    return device.capacity_figure.value


def _limit(excess: Expr, x: Symbol) -> Expr:
    line = polynomial(excess, x)
    if line.degree == 0:
        raise InputError(f"memory does not depend on {VOCABULARY[x].name}")
    if not line.is_bound:
        raise InputError(f"{needed(excess.free_symbols - {x})} to tell what fits")
    if line.degree != 1:
        raise InputError(f"memory does not grow in proportion with {x}: no limit in closed form")
    return -line.coefficients[0] / line.coefficients[1]


def cache_passes_weights(step: Step) -> Expr:
    """The context length from which the KV cache takes more memory than the weights, with the letters that are left.

    >>> import symroof
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> print(cache_passes_weights(symroof.load_model("llama-2-7b").decode(**widths)))
    1645121/(64*b)

    Raises
    ------
    InputError
        The step is not a decode step, or nothing is cached.
    """
    length = variable_of(step, "seq_len").symbol
    values = {symbol: value for symbol, value in step.values.items() if symbol != length}
    weights, cache, _ = memory_parts(step.letters.bind(values))
    per_token = (cache / length).expand()
    if cache == 0 or length in per_token.free_symbols:
        raise InputError(f"{step.model} keeps no KV cache that grows with the context")
    return cast(Expr, factor(weights / per_token))


def hyperbola(step: Step, *, hardware: Device | str | Path | None = None, capacity: Expr | None = None) -> Expr:
    """The largest batch x context that fits beside the weights, activations left out: ``(C - W) / cache per token``, or 0.

    >>> import symroof
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> step = symroof.load_model("llama-2-7b").decode(**widths)
    >>> round(float(hyperbola(step, hardware="a100-sxm-80gb")))
    126883

    Raises
    ------
    InputError
        Widths are left as letters, or nothing is cached.
    """
    length = variable_of(step, "seq_len").symbol
    values = {symbol: value for symbol, value in step.values.items() if symbol not in (length, symbols.b)}
    weights, cache, _ = memory_parts(step.letters.bind(values))
    if cache == 0:
        raise InputError(f"{step.model} keeps no KV cache")
    pairs = (_room(hardware, capacity) - weights) / substitute(cache, {length: Integer(1), symbols.b: Integer(1)})
    if not pairs.is_number:
        raise InputError(f"{needed(pairs.free_symbols)} to tell what fits")
    return max(pairs, Integer(0))
