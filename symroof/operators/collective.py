"""Collectives: what devices that share a step send one another, per device and one way.

Only the link counts: a collective's own reads and writes of memory are hidden behind it, and the additions of a
reduction are no FLOPs of the step. What a device sends it receives as much of at the same time.
"""

from __future__ import annotations

from dataclasses import replace

from sympy import Expr, Integer, S, ceiling, log

from symroof.operators.facts import Kind, Role
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Level, Storage, Tensor

RING, TREE = "ring", "tree"
ALGORITHMS = (RING, TREE)


def steps(devices: Expr, algorithm: str = RING) -> Expr:
    """Steps in which data of every device gets to all: ``n - 1`` around a ring, ``ceil(log2 n)`` down a tree.

    >>> steps(Integer(8)), steps(Integer(8), TREE)
    (7, 3)
    """
    return devices - 1 if algorithm == RING else ceiling(log(devices, 2))


def all_reduce(name: str, part: Access, into: Tensor, devices: Expr, latency: Expr = S.Zero, algorithm: str = RING) -> Operator:
    """The sum of what n devices have, on all of them.

    ============ ==================================================================
    link         ``2 (n - 1) / n`` of the payload, one way
    latency      ``2 (n - 1) t_l`` around a ring, ``2 ceil(log2 n) t_l`` with trees
    ============ ==================================================================

    Two trees that each carry half of the payload move as much on average as a ring. The payload is a tensor, as often as
    the access says.

    >>> from symroof.operators.tensor import Space, axes_of
    >>> from symroof.symbols import a, b, d, n_p
    >>> x, y = (Tensor(name, axes_of("b d"), Storage.ACTIVATION, Space({"b": b, "d": d})) for name in "xy")
    >>> print(all_reduce("x.all_reduce", Access(x), y, n_p).byte_count(level=Level.LINK))
    a*b*d*(2*n_p - 2)/(8*n_p)

    Sources: Patarasuk and Yuan (2009), doi:10.1016/j.jpdc.2008.09.002 (ring); Sanders, Speck and Träff (2009),
    doi:10.1016/j.parco.2009.09.001 (two trees).
    """
    times = part.repeats * (2 * devices - 2) / devices
    return _moved(name, part, into, over_link(part.tensor, times), 2 * steps(devices, algorithm) * latency)


def all_gather(name: str, part: Access, into: Tensor, devices: Expr, latency: Expr = S.Zero, algorithm: str = RING) -> Operator:
    """The parts of n devices, put together on all of them: ``(n - 1) / n`` of the whole, one way."""
    return _moved(name, part, into, over_link(into, part.repeats * (devices - 1) / devices), steps(devices, algorithm) * latency)


def reduce_scatter(name: str, part: Access, into: Tensor, devices: Expr, latency: Expr = S.Zero, algorithm: str = RING) -> Operator:
    """The sum of what n devices have, a part of it on each: ``(n - 1) / n`` of the whole, one way."""
    return _moved(name, part, into, over_link(part.tensor, part.repeats * (devices - 1) / devices), steps(devices, algorithm) * latency)


def all_to_all(name: str, rows: Access, into: Tensor, devices: Expr, latency: Expr = S.Zero) -> Operator:
    """Every device keeps its own part of its rows and sends the others theirs: ``(n - 1) / n`` of them, in n - 1 steps."""
    return _moved(name, rows, into, over_link(into, rows.repeats * (devices - 1) / devices), (devices - 1) * latency)


def send(name: str, x: Tensor, times: Expr = S.One, latency: Expr = S.Zero) -> Operator:
    """A tensor sent to the next device, and as much received from the one before."""
    wire = over_link(x, times)
    return Operator(name, Kind.COLLECTIVE, x.space, (), (Access(x, repeats=Integer(0)),), (wire,), latency=latency, role=Role.COMMUNICATION)


def over_link(x: Tensor, times: Expr) -> Access:
    """A tensor on its way over the link: its bytes count there and take no memory."""
    return Access(replace(x, name=f"{x.name} over the link", storage=Storage.ACTIVATION, level=Level.LINK), repeats=times)


def _moved(name: str, x: Access, into: Tensor, wire: Access, latency: Expr) -> Operator:
    reads, writes = (Access(tensor, repeats=Integer(0)) for tensor in (x.tensor, into))
    return Operator(
        name, Kind.COLLECTIVE, x.tensor.space, (), (reads,), (writes, wire), latency=latency, role=Role.COMMUNICATION, linear_in=1
    )
