"""What fits: the largest batch, the context at which the KV cache passes the weights, and all pairs of the two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, Integer, Max, Piecewise, Symbol, factor, floor, oo

from symroof import symbols
from symroof.algebra.polynomial import polynomial
from symroof.algebra.saturation import Branch, branches, saturating, spans
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError, quote
from symroof.hardware.device import Device
from symroof.operators.graph import Graph
from symroof.roof.costs import needed, variable_of
from symroof.roof.ledger import device_of
from symroof.symbols import option_name, substitute
from symroof.units import BYTE, number


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


def largest(step: Step, *, over: str = "batch", hardware: Device | str | Path | None = None, capacity: Any = None) -> Largest:
    """The largest batch (or context) that fits a device's memory or a number of bytes.

    Parameters
    ----------
    step : with every other input given as a number; a width left out is one (`Options.with_widths`).
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
    x = variable.symbol
    step = step.with_widths()
    graph = step.symbolic.without_values(x).bind({symbol: value for symbol, value in step.values.items() if symbol != x})
    weights, cache, activations = memory_parts(graph)
    states = activations.args if isinstance(activations, Max) else (activations,)
    held = [weights + cache + state for state in states]
    if not _depends(graph, Add(*held), x):
        raise InputError(f"memory does not depend on {option_name(x)}")
    found = ((span, tuple(_limit(substitute(part, span.active) - room, x) for part in held)) for span in _spans(graph, Add(*held), x))
    span, limits = next((span, limits) for span, limits in found if min(limits) <= span.high)
    value = min(limits)
    if value == oo:
        raise InputError(f"any {option_name(x)} fits: from {span.low} on memory does not grow with it")
    return Largest(value, max(floor(value), Integer(0)), limits)


def _room(hardware: Device | str | Path | None, capacity: Any) -> Expr:
    if capacity is not None:
        return number(capacity, BYTE, "capacity")
    device = device_of(hardware)
    if device is None:
        raise InputError("give a device or a capacity in bytes")
    if device.usable_figure is None:
        raise DeviceError(f"device {quote(device.name)} states no memory capacity")
    return device.usable_figure.value


def _spans(graph: Graph, expression: Expr, x: Symbol) -> tuple[Branch, ...]:
    """The branches of an expression of a bound graph (of a cache with windows, two) over a variable that counts."""
    return spans(branches(saturating(graph.definitions, expression.free_symbols), [x]), x, Integer(1), {})


def _limit(excess: Expr, x: Symbol) -> Expr:
    """The most of x without excess, which grows with it or stays: all there is, or nothing, where it stays."""
    line = polynomial(excess, x)
    if not line.is_bound:
        raise InputError(f"{needed(excess.free_symbols - {x})} to tell what fits")
    if line.degree > 2:
        raise InputError(f"memory grows with a power of {x} above the square: no limit in closed form")
    if line.degree == 0:
        return cast(Expr, oo) if line.coefficients[0] <= 0 else Integer(0)
    return max(line.roots(), default=Integer(0))


def cache_passes_weights(step: Step) -> Expr:
    """The context length from which the KV cache takes more memory than the weights, with the letters that are left.

    >>> import symroof
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> print(cache_passes_weights(symroof.load_model("llama-2-7b").decode(**widths)))
    1645121/(64*b)

    With a sliding window and the batch a letter there are cases, one on each side of W. Zero or below: a state that
    does not grow with the context takes more than the weights from the start.

    Raises
    ------
    InputError
        No cache grows with the context, or not so far.
    """
    length = variable_of(step, "seq_len").symbol
    graph = step.symbolic.bind({symbol: value for symbol, value in step.values.items() if symbol != length})
    weights, cache, _ = memory_parts(graph)
    if not _depends(graph, cache, length):
        raise InputError(f"{step.model} keeps no KV cache that grows with the context")
    found = _spans(graph, cache, length)
    passes = [_passes(weights, substitute(cache, span.active), length) for span in found]
    last = len(found) - 1
    answer = Piecewise(
        *((value, place == last or value <= span.high) for place, (value, span) in enumerate(zip(passes, found, strict=True)))
    )
    if answer == oo:
        raise InputError(f"the KV cache of {step.model} stops growing at a context of {found[-1].low}, before it passes the weights")
    return cast(Expr, answer)


def _passes(weights: Expr, cache: Expr, length: Symbol) -> Expr:
    """Where a cache that is a line in the length, from a state on, takes what the weights do."""
    per_token = cache.diff(length)
    kept = substitute(cache, {length: Integer(0)})
    return cast(Expr, oo if per_token == 0 else factor((weights - kept) / per_token))


def _depends(graph: Graph, expression: Expr, x: Symbol) -> bool:
    """Whether an expression of a bound graph depends on a variable, itself or through a symbol that saturates."""
    return any(x in substitute(expression, span.active).free_symbols for span in _spans(graph, expression, x))


def hyperbola(step: Step, *, hardware: Device | str | Path | None = None, capacity: Any = None) -> Expr:
    """The largest batch x context that fits beside the weights, activations left out: ``(C - W) / cache per token``, or 0.

    >>> import symroof
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> step = symroof.load_model("llama-2-7b").decode(**widths)
    >>> round(float(hyperbola(step, hardware="a100-sxm-80gb")))
    138135

    Raises
    ------
    InputError
        Widths of a technique are left as letters, nothing is cached, or the cache is not so many bytes for each pair: with a sliding
        window it stops growing, and a recurrent layer keeps a state of its own.
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
    pairs = (_room(hardware, capacity) - weights) / per_pair
    if not pairs.is_number:
        raise InputError(f"{needed(pairs.free_symbols)} to tell what fits")
    return max(pairs, Integer(0))
