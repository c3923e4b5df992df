"""Scaling of parallelism: the degree with the shortest step, and the efficiency of more devices.

On an interval where no operator changes its bound, tensor parallelism over a ring takes

``T(n) = A / n + R + C (n - 1) / n + O + H (n - 1)`` for n > 1, and ``T(1) = A + R``

A: seconds of divided work, R: of replicated work, C: of all payloads crossing the link once around (``2 S / BW_l`` for
all-reduces of S bytes), O: overheads (``l_0`` per collective), H: latency of a round of steps (``2 t_l`` each). Beyond a node
of i devices a round takes ``(n / i - 1) t_n`` more, and the payload crosses the network ``2 (n - i) / (n i)`` times, in
addition to ``2 (i - 1) / i`` over the link: the same form in n, so every answer stays exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sympy import Expr, Integer, ceiling, floor, log, oo, sqrt

from symroof import symbols
from symroof.algebra.piecewise import Piecewise
from symroof.answers import Answer
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.notation import Brief
from symroof.operators.facts import COMMUNICATION
from symroof.questions.regimes import timeline
from symroof.questions.required import TRIED, refusal
from symroof.roof.ledger import require_device
from symroof.symbols import VOCABULARY, Variable
from symroof.units import COUNT, SECOND, Quantity, in_unit, number, number_of, quantity

n = symbols.n_p


def useful_degree(shared: Any, crossing: Any, latency: Any) -> Quantity:
    """The least n at which one more device no longer shortens a step: ``n (n + 1) >= (A - C) / H``.

    Without latency every further device helps if ``A > C``, otherwise none does.

    >>> print(useful_degree("100 ms", "4 ms", "1 ms"), useful_degree("100 ms", "4 ms", 0))
    10 inf
    """
    shared, crossing, latency = _seconds(shared, crossing, latency)
    if latency == 0:
        return quantity(oo if shared - crossing > 0 else 1, COUNT)
    whole = ceiling((sqrt(1 + 4 * (shared - crossing) / latency) - 1) / 2) if shared - crossing > 0 else Integer(1)
    return quantity(max(whole, Integer(1)), COUNT)


def _seconds(*times: Any) -> tuple[Expr, ...]:
    """Times as they are given, in seconds, bare."""
    return tuple(number(time, SECOND, "time", zero=True) for time in times)


def useful_doubling(shared: Any, crossing: Any, latency: Any) -> Quantity:
    """The least power of two at which twice the devices no longer shorten a step with trees: ``2 n >= (A - C) / H``.

    With trees T is ``A / n + R + C (n - 1) / n + O + H ceil(log2 n)``, which falls between two powers of two and rises by H at
    each. The degree is the best of all from 2.

    >>> print(useful_doubling(100, 4, 1), useful_doubling(100, 4, 0))
    64 inf
    """
    shared, crossing, latency = _seconds(shared, crossing, latency)
    if latency == 0:
        return quantity(oo if shared - crossing > 0 else 1, COUNT)
    half = (shared - crossing) / (2 * latency)
    return quantity(Integer(2) ** ceiling(log(half, 2)) if half > 1 else 1, COUNT)


def paying_degrees(shared: Any, crossing: Any, latency: Any, overhead: Any) -> tuple[Quantity, Quantity] | None:
    """The range of degrees at which n devices are faster than one: ``(A - C) (n - 1) / n > O + H (n - 1)``; None if there is none.

    The ends are the roots of ``H n^2 + (O - H - D) n + D`` with ``D = A - C``; without overhead 1 and ``D / H``.

    >>> paying_degrees(100, 4, 1, 0), paying_degrees(90, 0, 0, 30)
    ((<Quantity 1>, <Quantity 96>), (<Quantity 1.5>, <Quantity inf>))
    """
    shared, crossing, latency, overhead = _seconds(shared, crossing, latency, overhead)
    gain = shared - crossing
    if latency == 0:
        return (quantity(gain / (gain - overhead), COUNT), quantity(oo, COUNT)) if gain > overhead else None
    middle, apart = gain + latency - overhead, (gain + latency - overhead) ** 2 - 4 * latency * gain
    if gain <= 0 or middle <= 0 or apart <= 0:
        return None
    low, high = ((middle + sign * sqrt(apart)) / (2 * latency) for sign in (-1, 1))
    return (quantity(max(low, Integer(1)), COUNT), quantity(high, COUNT)) if high > 1 else None


def balanced_degree(shared: Any, crossing: Any, latency: Any) -> Quantity:
    """The degree at which communication takes as long as the divided work: ``A = (n - 1) (C + H n)``.

    >>> from sympy import symbols
    >>> A, C = symbols("A C", positive=True)
    >>> print(balanced_degree(A, C, 0), "|", balanced_degree("90 us", 0, "1 us"))
    A/C + 1 | 10
    """
    shared, crossing, latency = _seconds(shared, crossing, latency)
    if latency == 0:
        return quantity(1 + shared / crossing, COUNT)
    root = sqrt((crossing - latency) ** 2 + 4 * latency * (crossing + shared))
    return quantity((latency - crossing + root) / (2 * latency), COUNT)


@dataclass(frozen=True)
class Curve(Answer):
    """A function of one variable, exact, a formula on each of its pieces: called with a value it is a Quantity.

    Attributes
    ----------
    over : the variable.
    unit : that of the function.
    pieces_expr : the bare function of the bare variable, which does arithmetic.

    >>> import symroof
    >>> on = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048).on("a100-sxm-80gb").apply("tensor-parallel:latency=5us")
    >>> times = on.over_degree()
    >>> print(times(1), times(4), times("4"), sep=", ")
    15.13 ms, 5.819 ms, 5.819 ms
    """

    over: Variable
    unit: Any
    pieces_expr: Piecewise

    def __call__(self, value: Any) -> Quantity:
        """The function at a value of the variable: a number, a Quantity, or text with a unit."""
        return quantity(self.pieces_expr(number_of(value, self.over)), self.unit)


@dataclass(frozen=True)
class BestDegree(Brief):
    """The degree with the shortest step.

    Attributes
    ----------
    value_expr : the best real degree, exact and bare; oo if every further device helps.
    integer : the best whole number that the techniques take, or the best of the given degrees; None if every further device helps.
    time_expr : seconds of the step at the integer, bare; the limit if there is none.
    """

    value_expr: Expr
    integer: int | None
    time_expr: Expr

    value = in_unit(lambda best: best.value_expr, COUNT, "Among the real numbers, as a Quantity without a unit.")
    time = in_unit(lambda best: best.time_expr, SECOND, "Time of the step at the integer, as a Quantity in seconds.")


def best_degree(step: Step, *, hardware: Device | str | Path, among: Iterable[int] = (), ceilings: str = STATED) -> BestDegree:
    """The degree of parallelism with the shortest step.

    Parameters
    ----------
    step : a step after a technique with a symbolic degree, and with numbers for all other inputs.
    among : the degrees to choose from, such as divisors of the heads or multiples of a node.

    Raises
    ------
    InputError
        The step's degree has a number, another input is a symbol, or one of the degrees is more than the device's link joins.

    >>> import symroof
    >>> from symroof.techniques.registry import technique
    >>> widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    >>> step = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048, **widths)
    >>> parallel = step.apply(technique("tensor-parallel:latency=5us"))
    >>> best_degree(parallel, hardware="a100-sxm-80gb").integer, best_degree(parallel, hardware="a100-sxm-80gb", among=(1, 2, 4, 8)).integer
    (4, 4)
    >>> nodes = step.apply(technique("tensor-parallel:node=8"))
    >>> best_degree(nodes, hardware="a100-sxm-80gb", among=(1, 2, 4, 8, 16, 32)).integer
    16
    """
    among, times = [*among], over_degree(step, hardware, ceilings=ceilings).pieces_expr
    for degree in among:
        if degree > times.high:
            raise InputError(f"degree {degree}: the device's link joins {times.high}; for more, give the devices per node, as node=8")
    _, value = times.minimum()
    least, integer = min(((times(degree), Integer(degree)) for degree in among), default=None) or times.minimum(whole=True)
    if integer == oo:
        return BestDegree(value, None, least)
    return BestDegree(value, *((int(integer), least) if among else _taken(step, times, int(integer))))


def _taken(step: Step, times: Piecewise, best: int) -> tuple[int, Expr]:
    """The fastest degree that the techniques take, and its time: all that are as fast as the next one below *best* are tried, in order."""
    degree = VOCABULARY[n]
    if step.unchanged is None or not refusal(step, degree, Integer(best)):
        return best, times(best)
    below = next((number for number in range(best, 0, -1) if not refusal(step, degree, Integer(number))), 1)
    spans = [(int(ceiling(span.low)), int(floor(min(span.high, below + TRIED)))) for span in times.within(times(below))]
    faster = sorted((times(number), number) for low, high in spans for number in range(low, high + 1))
    return next(((number, time) for time, number in faster if not refusal(step, degree, Integer(number))), (below, times(below)))


def over_degree(step: Step, hardware: Device | str | Path, *, ceilings: str = STATED) -> Curve:
    """The time of a step over the degree, exactly: ``over_degree(...)(8)`` is the time on 8 devices.

    Raises
    ------
    InputError
        The step's degree has a number, or another input is a symbol.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048).apply("tensor-parallel")
    >>> times = over_degree(step, "a100-sxm-80gb")
    >>> times(8) < times(1)
    True
    """
    device = require_device(hardware, "times are numeric")
    if n in step.symbolic.definitions:
        raise InputError(f"the degree is {step.symbolic.definitions[n]}; omit it to make it the variable")
    return Curve(VOCABULARY[n], SECOND, timeline(step, VOCABULARY[n], device, ceilings=ceilings))


def strong_scaling(before: Step, after: Step, *, hardware: Device | str | Path, ceilings: str = STATED) -> Curve:
    """Strong-scaling efficiency ``T(1) / (n T(n))`` of n devices on the same step; 1 if they take an n-th of the time.

    On an interval without changes of bounds it is ``(A + R) / (A + n R + C (n - 1) + O n + H n (n - 1))``.

    Raises
    ------
    InputError
        As for `best_degree`.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048)
    >>> strong_scaling(step, step.apply("data-parallel"), hardware="a100-sxm-80gb")(16) < 1
    True
    """
    alone, spread = (over_degree(step, hardware, ceilings=ceilings).pieces_expr for step in (before, after))
    return Curve(VOCABULARY[n], COUNT, spread.map(lambda time: alone(1) / (n * time)))


def weak_scaling(before: Step, after: Step, *, hardware: Device | str | Path, ceilings: str = STATED) -> Curve:
    """Weak-scaling efficiency ``T(1, b) / T(n, n b)`` of n devices on n times the batch; 1 if they take equal time.

    Raises
    ------
    InputError
        As for `best_degree`.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048)
    >>> print(weak_scaling(step, step.apply("data-parallel"), hardware="a100-sxm-80gb")(16))
    1
    """
    batch = before.values.get(symbols.b)
    if batch is None:
        raise InputError("batch must be given as a number: it is the batch per device")
    values = {symbol: value for symbol, value in after.values.items() if symbol != symbols.b}
    grown = replace(after, symbolic=after.symbolic.bind({symbols.b: batch * n}), values=values)
    alone, spread = (over_degree(step, hardware, ceilings=ceilings).pieces_expr for step in (before, grown))
    return Curve(VOCABULARY[n], COUNT, spread.map(lambda time: alone(1) / time))


def communication_degree(step: Step, *, hardware: Device | str | Path, ceilings: str = STATED) -> Quantity:
    """The degree from which communication takes as long as everything else in a step, as a Quantity without a unit.

    inf if it never does, up to the number of devices that the link joins. `balanced_degree` is the formula for one ring.

    Raises
    ------
    InputError
        As for `best_degree`.

    >>> import symroof
    >>> step = symroof.load_model("llama-3-70b").decode(batch=8, seq_len=2048).apply("tensor-parallel:latency=5us")
    >>> print(communication_degree(step, hardware="a100-sxm-80gb"))
    7.15
    """
    communication, work = (over_degree(_part(step, sends), hardware, ceilings=ceilings).pieces_expr for sends in (True, False))
    pieces = (communication - work).signs(below="work", above="communication", zero="communication").pieces
    return quantity(next((piece.low for piece in pieces if piece.label == "communication"), oo), COUNT)


def _part(step: Step, sends: bool) -> Step:
    """The step with its communication alone, or without."""
    blocks = (
        replace(block, operators=tuple(operator for operator in block.operators if (operator.kind in COMMUNICATION) is sends))
        for block in step.symbolic.blocks
    )
    return replace(step, symbolic=replace(step.symbolic, blocks=tuple(block for block in blocks if block.operators)))
